"""Importing and calling coremltools without its notices and prints."""

import contextlib
import io
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

_LOGGER = "coremltools"


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Hold back what coremltools prints, logs below ERROR and warns; yields the held-back text.

    coremltools logs through `logging.getLogger("coremltools")`, prints progress to standard output and draws
    progress bars on standard error. Records of level ERROR still pass. May be nested and used from several
    threads at once: the first to enter holds back, the last to leave restores. Meanwhile Python code of other
    threads is quiet too, because `sys.stdout`, `sys.stderr` and the warning filters belong to the process.
    """
    held = _SILENCE.enter()
    try:
        yield held
    finally:
        _SILENCE.leave()


class _Silence:
    """Counts who wants silence, so that overlapping threads do not restore each other's streams."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._held = io.StringIO()
        self._undo = contextlib.ExitStack()

    def enter(self) -> io.StringIO:
        with self._lock:
            if self._users == 0:
                self._held = io.StringIO()
                self._undo = self._begin(self._held)
            self._users += 1
            return self._held

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._undo.close()

    @staticmethod
    def _begin(held: io.StringIO) -> contextlib.ExitStack:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_errors_only(logging.getLogger(_LOGGER)))
            stack.enter_context(contextlib.redirect_stdout(held))
            stack.enter_context(contextlib.redirect_stderr(held))
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            return stack.pop_all()


_SILENCE = _Silence()


@contextlib.contextmanager
def _errors_only(logger: logging.Logger) -> Iterator[None]:
    """Let only records of level ERROR pass, to where they would have gone before standard error was redirected."""
    level = logger.level
    # Without any handler, Python's last resort would write to the redirected standard error.
    handler = None if logger.hasHandlers() or sys.stderr is None else logging.StreamHandler(sys.stderr)
    logger.setLevel(max(level, logging.ERROR))
    if handler:
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(level)
        if handler:
            logger.removeHandler(handler)


def import_coremltools() -> Any:
    """Import coremltools (about two seconds, once) without its notices; returns the module."""
    if "coremltools" not in sys.modules:
        with quiet():
            import coremltools
    # Not from sys.modules: another thread may still be importing it, and an import statement waits for that.
    import coremltools

    return coremltools
