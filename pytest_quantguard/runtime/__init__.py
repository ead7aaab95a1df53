"""Executing Core ML models: with Apple's framework, or anywhere with the portable engine."""
