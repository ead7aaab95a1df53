"""Reading Core ML files: description, inputs, labels, weights, digest."""
