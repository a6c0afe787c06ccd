"""`rnn-hf export` for a checkout."""

from rnn_hf.commands.export import main

if __name__ == "__main__":
    main()
