"""Reading a sample folder: which files, in which order, with which labels.

- Each sub-folder of the sample folder stands for a label; deeper sub-folders belong to the label folder that
  holds them. A folder without sub-folders holds samples without labels.
- Hidden files and folders and what file managers leave behind are ignored. Every other file is a sample; whether
  it is an image is decided by its content (see `decode`), never by its suffix.
- A link to a file is read like a file. A link to a folder is refused by name: it may lead out of the folder or
  around in circles, and leaving its samples out without a word would be worse.
"""

import hashlib
import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pytest_quantguard.cores import available_cores
from pytest_quantguard.errors import SampleError
from pytest_quantguard.samples.labels import match_folders
from pytest_quantguard.samples.naming import first_ten
from pytest_quantguard.samples.sample import Sample, SampleFolder

LEFT_BY_FILE_MANAGERS = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx"})
"""Written unasked by Windows, macOS and its archiver, in lower case; AppleDouble's `._name` is hidden anyway."""


def read_sample_folder(
    path: Path | str, labels: Sequence[str | int] | None, *, allow_unknown_labels: bool = False
) -> SampleFolder:
    """Read the names, labels and digests of all samples of a folder.

    Args:
        path: a folder with one sub-folder per label, or with images only.
        labels: the model's labels; None for a model without labels, whose samples have none either, however
            its sub-folders are called.
        allow_unknown_labels: give samples without a label folder the label None instead of failing.

    Returns:
        The samples, sorted by name (by code points, so that neither platform nor locale matters).

    Raises:
        SampleError: there is no such folder, it is empty, a sub-folder matches no label or several, files lie
            beside label folders, or a file cannot be read.
    """
    path = Path(path)
    if not path.is_dir():
        problem = "is a file, not a folder" if path.exists() else "does not exist"
        raise SampleError(
            f"The sample folder '{path}' {problem}; name a folder of images: with --quantguard-samples, or "
            "with samples= or calibration= of the mark."
        )
    files = sorted((_name(path, file), str(file), file) for file in _files(path))
    if not files:
        raise SampleError(f"The sample folder '{path}' holds no images; put sample images into it.")
    folders = {name.split("/")[0] for name, _, _ in files if "/" in name}
    beside = [name for name, _, _ in files if "/" not in name]
    if labels is not None and folders and beside and not allow_unknown_labels:
        raise SampleError(
            f"The sample folder '{path}' holds files beside its label folders: {first_ten(beside)}; move each "
            "into the folder of its label, or out."
        )
    label_of = match_folders(path, folders, labels or (), allow_unknown=allow_unknown_labels or labels is None)
    digests = _digests([file for _, _, file in files])
    return SampleFolder(
        path,
        tuple(
            Sample(name, file, label_of.get(name.split("/")[0]) if "/" in name else None, digest)
            for (name, _, file), digest in zip(files, digests, strict=True)
        ),
    )


def folder_digest(samples: Iterable[Sample]) -> str:
    """SHA-256 (hexadecimal) over the names and digests of samples, in the order of their names."""
    digest = hashlib.sha256()
    for name, content in sorted((sample.name, sample.digest) for sample in samples):
        # No file name holds a NUL, so two different sets never give the same bytes.
        digest.update(f"{name}\0{content}\0".encode())
    return digest.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    """Every sample file in a folder and its sub-folders, in no particular order."""
    folders = [path]
    while folders:
        for entry in _entries(folders.pop()):
            if entry.name.startswith(".") or entry.name.lower() in LEFT_BY_FILE_MANAGERS:
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))
            elif entry.is_dir():
                raise SampleError(
                    f"'{entry.path}' is a link to a folder, and samples are not read through those; put the "
                    "folder itself there, or links to its files."
                )
            elif entry.is_file():
                yield Path(entry.path)
            else:
                # Reading a pipe or a device would never end.
                raise SampleError(
                    f"'{entry.path}' is a broken link or no ordinary file; remove it from the samples."
                )


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as scan:
            return list(scan)
    except OSError as error:
        raise SampleError(f"The sample folder '{folder}' cannot be read: {error.strerror}.") from error


def _name(folder: Path, file: Path) -> str:
    """A sample's name: its path inside the folder, with `/` and in Unicode NFC (macOS may hand out NFD)."""
    name = unicodedata.normalize("NFC", file.relative_to(folder).as_posix())
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise SampleError(f"The file name {str(file)!a} is no valid Unicode; rename the file.") from error
    return name


def _digests(files: Sequence[Path]) -> list[str]:
    # hashlib lets other threads run while it hashes.
    with ThreadPoolExecutor(min(8, available_cores())) as pool:
        return list(pool.map(_digest, files))


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise SampleError(f"The sample '{file}' cannot be read: {error.strerror}.") from error
