"""`rnn-hf train-classifier` for a checkout."""

from rnn_hf.commands.train_classifier import main

if __name__ == "__main__":
    main()
