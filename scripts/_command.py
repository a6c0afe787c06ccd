"""What the training scripts share."""

import sys

from rnn_hf.data import Task
from rnn_hf.training import train
from rnn_hf.training_args import parse_arguments


def main(task: Task, description: str | None) -> None:
    """Parse the command line and train; mistakes in the input end with their message alone."""
    try:
        train(task, *parse_arguments(task, description or ""))
    except ValueError as error:
        sys.exit(f"error: {error}")
