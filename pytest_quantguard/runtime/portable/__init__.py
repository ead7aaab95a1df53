"""The portable engine: Core ML files translated to ONNX graphs and run by onnxruntime."""
