"""A model that is read and can be executed."""

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_quantguard.errors import ModelFileError, UnsupportedModelError
from pytest_quantguard.models.artifact import save_model, serialize
from pytest_quantguard.models.describe import describe
from pytest_quantguard.models.description import Label, ModelDescription
from pytest_quantguard.models.files import ModelFile, read_model_file
from pytest_quantguard.quiet import import_coremltools, quiet
from pytest_quantguard.runtime import ENGINES
from pytest_quantguard.runtime.engine import Engine, Outputs


@dataclass(frozen=True, eq=False)
class Model:
    """A Core ML model that is read and can be executed.

    Args:
        name: the file's name, without folders; a quantized model keeps the name of its float model.
        mlmodel: the coremltools `MLModel` behind it.
        description: inputs, outputs and labels.
        engine: what executes it.
        size_bytes: bytes of the `.mlmodel` file, or of the specification and weights in a `.mlpackage`.
        digest: SHA-256 (hexadecimal) over the same bytes.
    """

    name: str
    mlmodel: Any
    description: ModelDescription
    engine: Engine
    size_bytes: int
    digest: str

    @property
    def labels(self) -> tuple[Label, ...] | None:
        """The class labels in the order of the probabilities; None for a model that is no classifier."""
        return self.description.labels

    def predict(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Answer as coremltools' `MLModel.predict` does.

        Args:
            inputs: by input name: PIL images for image inputs, numpy arrays or numbers for the others.

        Returns:
            By output name: the label, a dictionary of probabilities by label, arrays, PIL images.

        Raises:
            PredictionError: an input is missing, unknown, or of the wrong shape or type.
        """
        return self.engine.predict(inputs)

    def outputs(self, inputs: Mapping[str, Any]) -> Outputs:
        """Answer with arrays only, for measuring; takes the same inputs as `predict`."""
        return self.engine.outputs(inputs)

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the model to a `.mlmodel` file or a `.mlpackage` folder and return its path.

        Raises:
            ModelFileError: the path exists and `overwrite` is false, or cannot be written.
        """
        return save_model(self.mlmodel, path, overwrite=overwrite)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}, {self.size_bytes} bytes, engine {self.engine.name}>"


def load_model(model: str | Path | Any, *, engine: str = "auto") -> Model:
    """Read a Core ML model and make it executable.

    Args:
        model: path of a `.mlmodel` file or a `.mlpackage` folder, a coremltools `MLModel`, or a `Model`, which
            is returned as it is.
        engine: `coreml` (Apple's framework, macOS only), `portable` (onnxruntime, anywhere), or `auto`: coreml
            on macOS and portable elsewhere.

    Raises:
        ModelFileError: there is no such file, or it is no Core ML model.
        UnsupportedModelError: the engine cannot run it; the message names the layer or operation.
    """
    if isinstance(model, Model):
        return model
    if not isinstance(model, str | Path):
        return from_mlmodel(model, name="model", engine=engine)
    file = read_model_file(model)
    mlmodel = _open(file, choose_engine(engine))
    return Model(
        name=file.path.name,
        mlmodel=mlmodel,
        description=describe(file.spec),
        engine=make_engine(mlmodel, file.spec, file.weights_dir, name=file.path.name, engine=engine),
        size_bytes=file.size_bytes,
        digest=file.digest,
    )


def from_mlmodel(mlmodel: Any, *, name: str, engine: str = "auto") -> Model:
    """Make a coremltools `MLModel` executable; raises what `load_model` raises."""
    if not hasattr(mlmodel, "get_spec"):
        raise ModelFileError(f"{mlmodel!r} is no model; give a path, a coremltools MLModel or a Model.")
    spec = mlmodel.get_spec()
    weights_dir = Path(mlmodel.weights_dir) if mlmodel.weights_dir else None
    size_bytes, digest = serialize(mlmodel)
    return Model(
        name=name,
        mlmodel=mlmodel,
        description=describe(spec),
        engine=make_engine(mlmodel, spec, weights_dir, name=name, engine=engine),
        size_bytes=size_bytes,
        digest=digest,
    )


def choose_engine(engine: str) -> str:
    """`coreml` or `portable` for one of `ENGINES`.

    Raises:
        UnsupportedModelError: there is no such engine.
    """
    if engine not in ENGINES:
        raise UnsupportedModelError(f"engine={engine!r} does not exist; use one of {', '.join(ENGINES)}.")
    if engine == "auto":
        return "coreml" if sys.platform == "darwin" else "portable"
    return engine


def make_engine(mlmodel: Any, spec: Any, weights_dir: Path | None, *, name: str, engine: str) -> Engine:
    """The engine that runs a model.

    Raises:
        UnsupportedModelError: the engine cannot run the model on this machine.
    """
    if choose_engine(engine) == "coreml":
        from pytest_quantguard.runtime.coreml import CoreMLEngine

        return CoreMLEngine(mlmodel, name=name)
    from pytest_quantguard.runtime.portable.engine import PortableEngine

    functions = [function.name for function in spec.description.functions]
    if functions:
        raise UnsupportedModelError(
            f"{name} holds several functions ({', '.join(functions)}), which the portable engine does not run; "
            "save the one you ship as a model of its own."
        )
    return PortableEngine(spec, weights_dir, name=name)


def _open(file: ModelFile, engine: str) -> Any:
    """The coremltools model of a file, made from its parts.

    Given a package's path, coremltools would write the package's `Manifest.json` anew.
    """
    coremltools = import_coremltools()
    weights_dir = str(file.weights_dir) if file.weights_dir else None
    with quiet(), tempfile.TemporaryDirectory() as empty:
        if weights_dir is None and file.spec.WhichOneof("Type") == "mlProgram":
            weights_dir = empty  # coremltools wants a folder, even for a program without weights
        return coremltools.models.MLModel(file.spec, weights_dir=weights_dir, skip_model_load=engine != "coreml")
