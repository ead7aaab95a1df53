"""Errors of pytest-quantguard.

Every message is one sentence that names the file or option at fault and says what to do.
"""


class QuantguardError(Exception):
    """Base of every error that pytest-quantguard raises on purpose."""


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
