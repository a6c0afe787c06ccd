"""`python -m rnn_hf` does what `rnn-hf` does."""

from .cli import main

if __name__ == "__main__":
    main()
