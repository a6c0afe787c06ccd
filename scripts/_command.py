"""What the training scripts share."""

from collections.abc import Callable

from rnn_hf.data.corpus import Task
from rnn_hf.training.arguments import parse_arguments
from rnn_hf.training.train import train
from rnn_hf.utils.command_line import command


def training_command(task: Task, description: str | None) -> Callable[..., None]:
    """Make the `main` of a training script: parse the command line and train."""

    @command
    def main(argv: list[str] | None = None) -> None:
        train(task, *parse_arguments(task, description or "", argv))

    return main
