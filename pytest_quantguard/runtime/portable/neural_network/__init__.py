"""NeuralNetwork specification to ONNX: one short function per layer type."""
