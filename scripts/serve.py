"""`rnn-hf serve` for a checkout."""

from rnn_hf.commands.serve import main

if __name__ == "__main__":
    main()
