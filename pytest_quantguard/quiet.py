"""Importing and calling coremltools without its notices and prints."""

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Hold back what coremltools prints, logs below ERROR and warns; yields the held-back text.

    coremltools logs through `logging.getLogger("coremltools")`, prints progress to standard output and draws
    progress bars on standard error.
    """
    logger = logging.getLogger("coremltools")
    level = logger.level
    held = io.StringIO()
    logger.setLevel(logging.ERROR)
    try:
        with (
            contextlib.redirect_stdout(held),
            contextlib.redirect_stderr(held),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield held
    finally:
        logger.setLevel(level)


def import_coremltools() -> Any:
    """Import coremltools (about two seconds, once) without its notices; returns the module."""
    if "coremltools" in sys.modules:
        return sys.modules["coremltools"]
    with quiet():
        import coremltools
    return coremltools
