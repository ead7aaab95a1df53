"""Errors of pytest-quantguard.

Every message is one sentence that names the file or option at fault and says what to do.
"""

import re

LONGEST_NAME = 200


class QuantguardError(Exception):
    """Base of every error that pytest-quantguard raises on purpose.

    Names in a message come from models, which are untrusted: control characters are shown as escapes, so that they
    do nothing to a terminal, and very long names are shortened.
    """

    def __init__(self, message: str) -> None:
        shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in message)
        super().__init__(re.sub(rf"\S{{{LONGEST_NAME},}}", _shortened, shown))


def _shortened(name: re.Match[str]) -> str:
    return f"{name[0][:80]}…{name[0][-20:]}"


class ModelFileError(QuantguardError):
    """A model file is missing, unreadable or no Core ML model."""


class UnsupportedModelError(QuantguardError):
    """An engine cannot run a model; the message names the layer or operation."""


class PredictionError(QuantguardError):
    """A model refused its inputs or answered with values that are no answer (NaN, infinite)."""


class SchemeError(QuantguardError):
    """A quantization scheme does not exist, or a model cannot be quantized with it."""


class SampleError(QuantguardError):
    """A sample folder is missing, empty, wrongly labelled, or holds unreadable images."""


class BaselineError(QuantguardError):
    """A stored baseline is corrupt, of a newer version, or cannot be written."""
