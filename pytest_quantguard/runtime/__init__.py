"""Executing Core ML models: with Apple's framework, or anywhere with the portable engine.

`load_model`, `enable_predict` and `register_custom_layer` are imported when first used, so that importing this
package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_quantguard.runtime.coremltools_predict import enable_predict
    from pytest_quantguard.runtime.custom_layers import register_custom_layer
    from pytest_quantguard.runtime.model import load_model

__all__ = ["ENGINES", "PRECISIONS", "enable_predict", "load_model", "register_custom_layer"]

ENGINES = ("auto", "coreml", "portable")
"""What a user may ask for: Apple's framework, onnxruntime, or the first on macOS and the second elsewhere."""

PRECISIONS = ("float32", "float16")
"""How the portable engine computes an ML program: all in float32, or as typed, with each float16 tensor rounded to
float16, so that values beyond 65,504 overflow as on the Neural Engine."""

_MODULES = {
    "enable_predict": "coremltools_predict",
    "load_model": "model",
    "register_custom_layer": "custom_layers",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
