"""Corpora: options, files, checks, encoding, packed batches."""
