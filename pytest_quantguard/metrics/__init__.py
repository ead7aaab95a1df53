"""Agreement, accuracy, divergence, distortion, statistics: pure functions on arrays."""
