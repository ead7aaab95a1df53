"""Reading `.mlmodel` files and `.mlpackage` folders; neither is ever written to."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_quantguard.errors import ModelFileError
from pytest_quantguard.models.describe import describe
from pytest_quantguard.models.functions import select_function
from pytest_quantguard.quiet import import_coremltools

WEIGHTS_FOLDER = "weights"


@dataclass(frozen=True)
class ModelFile:
    """A Core ML model as read from disk.

    Args:
        path: the `.mlmodel` file or the `.mlpackage` folder.
        spec: the parsed `Model` message (coremltools.proto.Model_pb2).
        weights_dir: folder of the weight files of an ML program; None where there is none.
        size_bytes: bytes of the file, or of the specification and the weights in a package. The package's
            manifest is not counted: it holds random identifiers and differs between equal models.
        digest: SHA-256 (hexadecimal) over the same bytes.
    """

    path: Path
    spec: Any
    weights_dir: Path | None
    size_bytes: int
    digest: str


class SpecSource:
    """The parsed `Model` message of a file, for someone who lets go of it as soon as possible.

    It may be as large as the file, so whoever takes it first is the only one to hold it; for the next one it is
    read again.

    Args:
        file: the file that was read.
        function_name: which function of a package with several; None for the default one.

    Raises:
        ModelFileError: there is no such function.
    """

    def __init__(self, file: ModelFile, function_name: str | None) -> None:
        # Absolute, because the working directory may change before the file is read again.
        self._path, self._digest, self._function = file.path.absolute(), file.digest, function_name
        self._spec: Any = self._select(file)
        self.description = describe(self._spec, name=file.path.name)

    def take(self) -> Any:
        """The message.

        Raises:
            ModelFileError: it has to be read again, and the file is gone or has changed.
        """
        spec, self._spec = self._spec, None
        return self._select(read_again(self._path, self._digest)) if spec is None else spec

    def _select(self, file: ModelFile) -> Any:
        return select_function(file.spec, self._function, name=self._path.name)


def read_again(path: Path, digest: str) -> ModelFile:
    """Read a file that was read before.

    Raises:
        ModelFileError: it is gone, or is not what it was.
    """
    file = read_model_file(path)
    if file.digest != digest:
        raise ModelFileError(f"{path} has changed since it was loaded; load it again.")
    return file


def read_model_file(path: str | Path) -> ModelFile:
    """Read a `.mlmodel` file or a `.mlpackage` folder.

    Raises:
        ModelFileError: there is no such path, it cannot be read, it holds no Core ML model, or a package's parts
            lie outside of it.
    """
    path = Path(path)
    try:
        if not path.exists():
            raise ModelFileError(
                f"There is no model at {path}; give the path of a .mlmodel file or a .mlpackage folder."
            )
        spec_path, weights_dir = (path, None) if path.is_file() else package_parts(path)
        data = spec_path.read_bytes()
        size_bytes, digest = measure(data, weights_dir)
    except OSError as error:
        raise ModelFileError(
            f"{path} cannot be read ({error.strerror or error}); give a model that you may read."
        ) from error
    return ModelFile(path, _parse(data, path), weights_dir, size_bytes, digest)


def measure(spec: bytes, weights_dir: Path | None) -> tuple[int, str]:
    """Bytes and SHA-256 (hexadecimal) of a model: of its serialized specification, then of each weight file.

    Raises:
        ModelFileError: a weight file is a link that leads out of the folder.
    """
    digest = hashlib.sha256(f"model\0{len(spec)}\0".encode() + spec)
    size_bytes = len(spec)
    for name, part in _weight_files(weights_dir) if weights_dir else []:
        size = part.stat().st_size
        digest.update(f"{name}\0{size}\0".encode())
        with part.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        size_bytes += size
    return size_bytes, digest.hexdigest()


def _weight_files(weights_dir: Path) -> list[tuple[str, Path]]:
    """Name and path of each weight file, in the order of the names."""
    files = sorted(part for part in weights_dir.rglob("*") if part.is_file())
    for part in files:
        if part.is_symlink() and not part.resolve().is_relative_to(weights_dir.resolve()):
            raise ModelFileError(f"The weight file {part} is a link out of its package; do not use this package.")
    return [(part.relative_to(weights_dir).as_posix(), part) for part in files]


def _parse(data: bytes, path: Path) -> Any:
    import_coremltools()
    from coremltools.proto import Model_pb2
    from google.protobuf.message import DecodeError

    spec = Model_pb2.Model()
    try:
        spec.ParseFromString(data)
    except DecodeError as error:
        raise ModelFileError(
            f"{path} is no complete Core ML model (it is truncated or of another format); export it again."
        ) from error
    if spec.WhichOneof("Type") is None or not spec.specificationVersion:
        raise ModelFileError(f"{path} is no Core ML model: it names no model type; export it again.")
    return spec


def package_parts(path: Path) -> tuple[Path, Path | None]:
    """The specification and the weights folder of a package, as its `Manifest.json` says.

    Raises:
        ModelFileError: the folder is no package, or names parts that are missing or outside itself.
    """
    manifest_path = path / "Manifest.json"
    for part in (manifest_path, path / "Data"):
        if not part.resolve().is_relative_to(path.resolve()):
            raise ModelFileError(f"{part} is a link out of its package; do not use this package.")
    try:
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
        entries = manifest["itemInfoEntries"]
        root = entries[manifest["rootModelIdentifier"]]["path"]
        names = [str(entry["path"]) for entry in entries.values()]
    except FileNotFoundError as error:
        raise ModelFileError(
            f"{path} is a folder without a Manifest.json, so no .mlpackage; give a model."
        ) from error
    # Of lists in lists in lists Python's parser gives up with a RecursionError.
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelFileError(
            f"{manifest_path} is no readable package manifest; export the model again."
        ) from error
    spec_path = _inside(path, str(root))
    if not spec_path.is_file():
        raise ModelFileError(f"{path} misses its specification {root}; export the model again.")
    weights = [_inside(path, name) for name in names if name.rsplit("/", 1)[-1] == WEIGHTS_FOLDER]
    return spec_path, weights[0] if weights and weights[0].is_dir() else None


def _inside(package: Path, name: str) -> Path:
    data = (package / "Data").resolve()
    try:
        part = (data / name).resolve()
        part.exists()
    except (OSError, ValueError) as error:  # too long a name, or one with a zero byte
        raise ModelFileError(
            f"{package} names a part that no file can be named ({name}); export it again."
        ) from error
    if not part.is_relative_to(data):
        raise ModelFileError(f"{package} names a part outside itself ({name}); do not use this package.")
    return part
