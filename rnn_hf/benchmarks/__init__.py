"""Measurements of `rnn-hf benchmark`: the package beside its alternatives."""
