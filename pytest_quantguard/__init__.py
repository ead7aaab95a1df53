"""Accuracy-regression tests for quantized Core ML models.

The names below are imported when first used, so that `import pytest_quantguard` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_quantguard.api import Model, compare, load_model, quantize
    from pytest_quantguard.comparison import Comparison
    from pytest_quantguard.errors import (
        BaselineError,
        ModelFileError,
        PredictionError,
        QuantguardError,
        SampleError,
        SchemeError,
        UnsupportedModelError,
    )
    from pytest_quantguard.schemes.scheme import Scheme

__version__ = "0.1.0"

__all__ = [
    "BaselineError",
    "Comparison",
    "Model",
    "ModelFileError",
    "PredictionError",
    "QuantguardError",
    "SampleError",
    "Scheme",
    "SchemeError",
    "UnsupportedModelError",
    "compare",
    "load_model",
    "quantize",
]

_MODULES = {
    "compare": "api",
    "quantize": "api",
    "Comparison": "comparison",
    "Model": "api",
    "load_model": "api",
    "Scheme": "schemes.scheme",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
