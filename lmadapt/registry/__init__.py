"""Versions in MLflow: exported, verified, promoted, restored and served."""
