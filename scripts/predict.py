"""`rnn-hf predict` for a checkout."""

from rnn_hf.commands.predict import main

if __name__ == "__main__":
    main()
