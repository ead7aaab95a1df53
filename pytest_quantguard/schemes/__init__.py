"""What a quantization scheme is, and how each kind of model is quantized with it."""
