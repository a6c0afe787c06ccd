"""What every command shares: one line for each mistake, exit codes, and tracebacks on demand."""

import contextlib
import functools
import os
import sys
import traceback
from argparse import (
    SUPPRESS,
    Action,
    ArgumentParser,
    ArgumentTypeError,
    RawDescriptionHelpFormatter,
)
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from enum import Enum
from typing import Any, NoReturn

from huggingface_hub.errors import StrictDataclassError

from .display import one_line
from .files import disk_is_full
from .secrets import find_secrets, mask, name_unknown

# The environment variable that stands for `--debug`.
DEBUG_VARIABLE = "RNN_HF_DEBUG"

_MOST_CHARACTERS = 2000
_EXIT_INTERRUPTED = 130  # as shells call the end by Ctrl-C
_EXIT_CLOSED_PIPE = 141  # and by a closed pipe
# The modules that each extra of the package brings.
EXTRAS = {
    "train": (
        *("accelerate", "datasets", "evaluate", "filelock", "jinja2", "matplotlib", "yaml", "rich", "sklearn"),
        "scipy",
        "seqeval",
    ),
    "onnx": ("onnx", "onnxruntime"),
    "serve": ("httptools", "uvicorn", "uvloop"),
    "ray": ("ray",),
}
# What Python and torch say when there is no memory left.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "Unable to allocate")


class HelpFormatter(RawDescriptionHelpFormatter):
    """Keep the lines of a description, name each option once, and show defaults other than `None`."""

    def _format_action_invocation(self, action: Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        names = [one for one in action.option_strings if "-" not in one.removeprefix("--")[1:]]
        values = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(names)} {values}".rstrip()

    def _get_default_metavar_for_optional(self, action: Action) -> str:
        return {int: "N", positive_int: "N", float: "X"}.get(action.type) or action.dest.upper()

    def _get_help_string(self, action: Action) -> str:
        text = action.help or ""
        if "(default: " in text or action.nargs == 0 or action.default in (None, SUPPRESS, ""):
            return text
        if not action.option_strings and action.nargs is None:  # required
            return text
        return f"{text} (default: {shown_default(action.default).replace('%', '%%')})".lstrip()


def shown_default(value: Any) -> str:
    """Write a default as it would be given on the command line.

    Example:
    ```python
    >>> from rnn_hf.utils.command_line import shown_default
    >>> shown_default(True), shown_default((2, 3)), shown_default(0.5)
    ('true', '2 3', '0.5')

    ```
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return " ".join(map(shown_default, value))
    return str(value.value if isinstance(value, Enum) else value)


class CommandParser(ArgumentParser):
    """An argument parser whose options are never abbreviated, and whose complaints take one line.

    Args:
        args, kwargs: See `argparse.ArgumentParser`.

    Example:
    ```python
    >>> from rnn_hf.utils.command_line import CommandParser
    >>> parser = CommandParser()
    >>> _ = parser.add_argument("--batch_size", type=int)
    >>> parser.parse_args(["--batch_size", "8"]).batch_size
    8

    ```
    """

    def __init__(self, *args: Any, **kwargs: Any):
        kwargs.setdefault("formatter_class", HelpFormatter)
        kwargs["allow_abbrev"] = False
        super().__init__(*args, **kwargs)
        self.add_argument(
            "--debug",
            action="store_true",
            dest="show_traceback",
            help=f"show where errors arise; {DEBUG_VARIABLE}=1 in the environment does so too",
        )

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Read a command line; see `argparse.ArgumentParser`. Of unknown options the values are not shown."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.refuse_unknown(unknown)
        return parsed

    def refuse_unknown(self, words: Sequence[str]) -> None:
        """Name what no option takes, and exit."""
        named = name_unknown(words)
        known = [one for one in self._option_string_actions if "-" not in one.removeprefix("--")]
        first = next((one.replace("-", "_") for one in named.split() if one.startswith("--")), "--")
        closest = get_close_matches(f"--{first[2:]}", known, n=1, cutoff=0.7)
        hint = f"; did you mean {closest[0]}?" if closest else ""
        self.error(f"unknown options or values: {named}{hint}")

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the arguments in one line, and exit."""
        fail(f"{message.rstrip('.')}{'' if message.endswith('?') else '.'} See {self.prog} --help.", code=2)


def positive_int(text: str) -> int:
    """Read a number from 1 on, as the `type` of an option.

    Args:
        text (`str`): What the command line holds.

    Raises:
        ArgumentTypeError: It is something else.

    Example:
    ```python
    >>> from rnn_hf.utils.command_line import positive_int
    >>> positive_int("8")
    8

    ```
    """
    if not text.strip().isascii() or not text.strip().isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def command(main: Callable[..., None]) -> Callable[..., None]:
    """Let a command end with one line on standard error, and a nonzero exit code, whatever goes wrong.

    With `--debug`, or with the environment variable RNN_HF_DEBUG, the traceback stands before that line. Neither
    holds a secret.

    Args:
        main (`Callable`): Takes the command line, a list of words without the command's own name, or `None` for the
            process's.

    Returns:
        `Callable`: the command, which raises `SystemExit` where something goes wrong.

    Example:
    ```python
    >>> import sys
    >>> from rnn_hf.utils.command_line import command
    >>> @command
    ... def main(argv=None):
    ...     raise ValueError("reviews.csv, row 3: the text is empty.")
    >>> sys.stderr = sys.stdout
    >>> main([])
    Traceback (most recent call last):
    ...
    SystemExit: 1

    ```
    """

    @functools.wraps(main)
    def run(argv: list[str] | None = None) -> None:
        words = sys.argv[1:] if argv is None else argv
        if sys.stderr is None:
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        if sys.stdout is None:
            fail("standard output is closed: send it to a file, or to /dev/null.", words=words)
        try:
            main(argv)
            sys.stdout.flush()
        except KeyboardInterrupt as error:
            fail(*_interruption(error), words=words)
        except BrokenPipeError as error:
            _close_output()
            fail("the output was closed before everything was written.", error, _EXIT_CLOSED_PIPE, words)
        except Exception as error:
            fail(describe(error), error, words=words)

    return run


def describe(error: BaseException) -> str:
    """Say in words what an exception means.

    Args:
        error (`BaseException`): The exception.

    Returns:
        `str`: a message; of exceptions that no check of ours raised, with the kind.

    Example:
    ```python
    >>> from rnn_hf.utils.command_line import describe
    >>> describe(FileNotFoundError(2, "No such file or directory", "reviews.csv"))
    'reviews.csv: No such file or directory.'
    >>> describe(KeyError("tags"))
    "KeyError: 'tags'. This looks like a fault of rnn_hf: --debug shows where it arose."

    ```
    """
    text = str(error).strip()
    if isinstance(error, StrictDataclassError):
        cause = error.__cause__
        return describe(cause) if isinstance(cause, ValueError | TypeError) else text
    if isinstance(error, ModuleNotFoundError) and (extra := _extra_of(error.name or "")):
        return f'The package {error.name} is missing: pip install "rnn_hf[{extra}]"'
    if isinstance(error, MemoryError) or any(sign in text for sign in _NO_MEMORY):
        return f"There is not enough memory: {text or 'an allocation failed'}. Take smaller batches or a smaller model."
    if "Connection closed by peer" in text or "Connection reset by peer" in text:
        return "Another process of this run has ended: what it said stands above."
    if not isinstance(error, OSError) and disk_is_full(error):
        return f"A file could not be written to its end: is the disk full? {text}"
    if isinstance(error, OSError) and error.strerror:
        names = " → ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        return f"{names + ': ' if names else ''}{error.strerror}."
    if isinstance(error, ValueError | ImportError | OSError) and text:
        return text
    return (
        f"{type(error).__name__}: {text or 'without a message'}. This looks like a fault of rnn_hf: --debug shows "
        "where it arose."
    )


def fail(message: str, error: BaseException | None = None, code: int = 1, words: list[str] | None = None) -> NoReturn:
    """Print one line on standard error and exit.

    Args:
        message (`str`): What went wrong.
        error (`BaseException`, *optional*): Shown with its traceback where that is wanted.
        code (`int`): The exit code.
        words (`list[str]`, *optional*): The command line, whose secrets are masked; the process's without it.
    """
    words = sys.argv[1:] if words is None else words
    secrets = find_secrets(words)
    if error is not None and ("--debug" in words or os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0")):
        print(mask("".join(traceback.format_exception(error)), secrets), file=sys.stderr, end="")
    line = one_line(mask(message, secrets))
    if len(line) > _MOST_CHARACTERS:
        line = f"{line[: _MOST_CHARACTERS // 2]} … {line[-_MOST_CHARACTERS // 2 :]}"
    print(f"error: {line}", file=sys.stderr)
    raise SystemExit(code)


def _extra_of(module: str) -> str | None:
    """Tell which extra brings a module."""
    return next((extra for extra, modules in EXTRAS.items() if module.partition(".")[0] in modules), None)


def _interruption(error: KeyboardInterrupt) -> tuple[str, BaseException, int]:
    return f"interrupted. {error}".strip(), error, _EXIT_INTERRUPTED


def _close_output() -> None:
    """Let nothing be written to a closed pipe when Python exits."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


__all__ = ["CommandParser", "HelpFormatter", "command", "describe", "fail", "positive_int", "shown_default"]
