"""Model types that cannot run without Apple's framework, or without your app, and why."""

from typing import Any

from pytest_quantguard.errors import UnsupportedModelError

_APPLE = "its network is part of Apple's operating systems and not in the file"
_LANGUAGE = "it holds data for Apple's Natural Language framework, whose format is not public"

REASONS = {
    "visionFeaturePrint": _APPLE,
    "audioFeaturePrint": _APPLE,
    "soundAnalysisPreprocessing": "its sound features are computed by Apple's operating systems, not by the file",
    "textClassifier": _LANGUAGE,
    "wordTagger": _LANGUAGE,
    "gazetteer": _LANGUAGE,
    "wordEmbedding": _LANGUAGE,
    "linkedModel": "it refers to another compiled model on the device, which is not in the file",
    "customModel": "its code is a class of your app",
    "serializedModel": "its content is private to Apple's framework",
}
"""By model type, why it is refused."""


def unsupported_type(spec: Any, *, name: str) -> UnsupportedModelError:
    """The error for a model type that does not run."""
    kind = spec.WhichOneof("Type")
    title = f"{kind!r} ({spec.customModel.className})" if kind == "customModel" else repr(kind)
    reason = f": {REASONS[kind]}" if kind in REASONS else ""
    return UnsupportedModelError(
        f"{name}: a model of type {title} is not supported by the portable engine{reason}."
    )
