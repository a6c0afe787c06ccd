"""`rnn-hf card` for a checkout."""

from rnn_hf.commands.card import main

if __name__ == "__main__":
    main()
