"""Scores of predictions, calibrated probabilities, rejected texts."""
