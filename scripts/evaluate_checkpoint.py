"""`rnn-hf evaluate` for a checkout."""

from rnn_hf.commands.evaluate import main

if __name__ == "__main__":
    main()
