"""Corpora: checks, labels, splits, encoding, packed batches."""
