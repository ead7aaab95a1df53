"""Accuracy-regression tests for quantized Core ML models."""
