"""Executing Core ML models: with Apple's framework, or anywhere with the portable engine."""

ENGINES = ("auto", "coreml", "portable")
"""What a user may ask for: Apple's framework, onnxruntime, or the first on macOS and the second elsewhere."""
