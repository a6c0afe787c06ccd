"""The command `rnn-hf`: it imports a command's modules when the command is called."""

import difflib
import sys
from importlib import import_module

from . import __version__
from .utils.command_line import command, fail

COMMANDS = {
    "train-classifier": "train a text classifier",
    "train-tagger": "train a tagger of words",
    "train-teacher": "fine-tune a transformer, for a classifier or tagger to learn from",
    "pretrain": "pretrain an encoder on texts without labels",
    "inspect": "show what a corpus holds, before training",
    "predict": "classify or tag the lines of a file",
    "evaluate": "score a saved model on a corpus",
    "export": "export a saved model to ONNX",
    "push": "upload a saved model to the Hugging Face hub",
    "space": "make a demo page, as a static Space",
    "push-space": "upload a Space to the Hugging Face hub",
    "serve": "serve an exported model over HTTP",
    "card": "write the model card of a saved model anew",
    "benchmark": "measure speed and memory beside alternatives",
}


def main(argv: list[str] | None = None) -> None:
    """Run the command that the first word names.

    Args:
        argv (`list[str]`, *optional*): The command and its options; those of the process without it.

    Raises:
        SystemExit: Something went wrong, and is said in one line on standard error; or after `--help`.

    Example:
    ```python
    >>> from rnn_hf.cli import main
    >>> main(["--help"])  # doctest: +ELLIPSIS
    usage: rnn-hf COMMAND ...
    ...

    ```
    """
    name, *words = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print(_help())
        return
    if name not in COMMANDS and name != "--version":
        closest = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.4)
        hint = f"did you mean {closest[0]}?" if closest else f"there are {', '.join(COMMANDS)}."
        fail(f"{name[:80]!r} is no command: {hint} See rnn-hf --help.", code=2)
    if name == "--version":
        print(f"rnn-hf {__version__}")
        return

    @command
    def run(argv: list[str] | None = None) -> None:
        import_module(f"rnn_hf.commands.{name.replace('-', '_')}").main(argv)

    run(words)


def _help() -> str:
    """List the commands."""
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            "usage: rnn-hf COMMAND ...",
            "",
            "Recurrent text classifiers and taggers for the Hugging Face ecosystem.",
            "",
            *(f"  {name:{width}}  {about}" for name, about in COMMANDS.items()),
            "",
            "rnn-hf COMMAND --help shows the options of a command, rnn-hf --version the version.",
        ]
    )


__all__ = ["COMMANDS", "main"]
