"""`rnn-hf pretrain` for a checkout."""

from rnn_hf.commands.pretrain import main

if __name__ == "__main__":
    main()
