"""Reading and writing the JSON files of the gate."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from pytest_quantguard.errors import BaselineError


def write_text(path: Path, text: str) -> None:
    """Write a file at once: readers see the old or the new text, never half of it.

    Raises:
        BaselineError: the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(text, encoding="utf-8", newline="\n")
            temporary.replace(path)
        finally:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                temporary.unlink()
    except OSError as error:
        raise unwritable(path.parent, error) from error


def unwritable(folder: Path, error: OSError) -> BaselineError:
    """The error of a folder that baselines cannot be written to."""
    return BaselineError(
        f"The baseline folder {str(folder)!r} cannot be written ({error.strerror}); "
        "make it writable, or update the baselines where it is."
    )


def read_json(path: Path, max_bytes: int) -> Any:
    """The value in a JSON file.

    Raises:
        ValueError: the file is too large or holds no JSON, or repeats a key; the text says why.
        OSError: the file is missing or cannot be read.
    """
    with path.open("rb") as stream:
        data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError(f"it is larger than {max_bytes:,} bytes")
    return parse_json(data.decode("utf-8"))


def parse_json(text: str) -> Any:
    """The value of JSON text; raises ValueError for anything else and for repeated keys."""
    if any(line.startswith(("<<<<<<< ", ">>>>>>> ")) for line in text.splitlines()):
        raise ValueError("it holds an unresolved merge conflict")
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise ValueError(f"it repeats the key {name!r}")
        values[name] = value
    return values
