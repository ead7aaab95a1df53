"""A file for the large constants of a graph while it is loaded.

onnxruntime reads the weights of a graph one after the other from a file beside it. Inside the graph they would be
in memory several times: in the message, in its bytes, and as onnxruntime arranges them.
"""

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from pytest_quantguard.errors import ModelFileError

LARGE = 1 << 16
"""Bytes from which on a constant goes into the file."""

NAME = "constants"
# onnxruntime maps the file, which wants whole pages.
_PAGE = 4096


class ConstantsFile:
    """A temporary folder with a graph and its large constants; gone after `close`, or at the end of a `with`."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="quantguard-")
        self._path = Path(self._folder.name)
        self._stream = (self._path / NAME).open("wb")

    def add(self, array: NDArray[Any]) -> dict[str, str]:
        """Append a little-endian array; returns where it lies, as ONNX's `external_data` wants it.

        Raises:
            ModelFileError: the disk is full.
        """
        try:
            offset = self._stream.seek(-self._stream.tell() % _PAGE, 1)
            array.tofile(self._stream)
        except OSError as error:
            raise self._unwritable(error) from error
        return {"location": NAME, "offset": str(offset), "length": str(array.nbytes)}

    def save(self, onnx_model: bytes) -> Path:
        """Write the graph whose constants were added, and return its path.

        Raises:
            ModelFileError: the disk is full.
        """
        path = self._path / "graph.onnx"
        try:
            self._stream.flush()
            path.write_bytes(onnx_model)
        except OSError as error:
            raise self._unwritable(error) from error
        return path

    def close(self) -> None:
        """Remove the folder; sessions that were made of the graph go on."""
        self._stream.close()
        self._folder.cleanup()

    def __enter__(self) -> "ConstantsFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _unwritable(self, error: OSError) -> ModelFileError:
        return ModelFileError(
            f"The model's weights cannot be written to the temporary folder {self._path} "
            f"({error.strerror or error}); make room there, or set TMPDIR to another folder."
        )
