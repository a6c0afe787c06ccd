"""Predict on data of any size, with all cores of a machine or with an engine."""
