"""`rnn-hf inspect` for a checkout."""

from rnn_hf.commands.inspect import main

if __name__ == "__main__":
    main()
