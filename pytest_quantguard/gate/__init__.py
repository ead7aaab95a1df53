"""The gate: baselines, thresholds, verdicts, and the syrupy extension that stores them."""
