"""`python -m rnn_hf` does what `rnn-hf` does."""

from rnn_hf_cli import main

if __name__ == "__main__":
    main()
