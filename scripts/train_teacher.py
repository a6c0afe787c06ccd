"""`rnn-hf train-teacher` for a checkout."""

from rnn_hf.commands.train_teacher import main

if __name__ == "__main__":
    main()
