"""ML programs (MIL, the `mlProgram` of the specification) translated to ONNX graphs."""
