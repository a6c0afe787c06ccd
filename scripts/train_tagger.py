"""`rnn-hf train-tagger` for a checkout."""

from rnn_hf.commands.train_tagger import main

if __name__ == "__main__":
    main()
