"""Trained models: their files, loading, prediction in bulk."""
