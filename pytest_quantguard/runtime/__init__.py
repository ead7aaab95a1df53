"""Executing Core ML models: with Apple's framework, or anywhere with the portable engine."""

ENGINES = ("auto", "coreml", "portable")
"""What a user may ask for: Apple's framework, onnxruntime, or the first on macOS and the second elsewhere."""

PRECISIONS = ("float32", "float16")
"""How the portable engine computes an ML program: all in float32, or as typed, with each float16 tensor rounded to
float16, so that values beyond 65,504 overflow as on the Neural Engine."""
