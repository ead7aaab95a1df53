"""Core ML models that are no networks: pipelines, feature engineering, and classical machine learning."""
