"""`rnn-hf space` for a checkout."""

from rnn_hf.commands.space import main

if __name__ == "__main__":
    main()
