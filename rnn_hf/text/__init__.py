"""Tokenizers, the characters of a vocabulary, and word vectors."""
