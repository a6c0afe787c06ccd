"""`rnn-hf benchmark` for a checkout."""

from rnn_hf.commands.benchmark import main

if __name__ == "__main__":
    main()
