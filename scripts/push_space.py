"""`rnn-hf push-space` for a checkout."""

from rnn_hf.commands.push_space import main

if __name__ == "__main__":
    main()
