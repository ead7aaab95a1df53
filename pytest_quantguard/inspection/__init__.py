"""What a Core ML model consists of: inputs, layers, weights, and what the portable engine cannot run."""
