"""ML programs (MIL) to ONNX: one short function per operation."""
