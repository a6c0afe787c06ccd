"""`rnn-hf push` for a checkout."""

from rnn_hf.commands.push import main

if __name__ == "__main__":
    main()
