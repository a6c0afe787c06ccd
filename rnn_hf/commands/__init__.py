"""The commands of `rnn-hf`, a module each; `rnn_hf.cli` calls their `main`."""
