"""The commands of `rnn-hf`, a module each; `rnn_hf_cli` calls their `main`."""
