"""Say in one line what the datasets library could not read, and where."""

import contextlib
import gzip
import json
from typing import IO, Any

import datasets

from ..utils.display import one_line, shorten
from ..utils.messages import shown
from ..utils.secrets import find_secrets, mask
from .arguments import source_name


def json_fault(paths: list[str]) -> str | None:
    """Find the first line that is no row, of which the library names no line or a wrong one.

    Args:
        paths (`list[str]`): Local files of JSON lines.

    Returns:
        `str`, *optional*: what is wrong, with the line.
    """
    for path in paths:
        with contextlib.suppress(OSError, EOFError), _opened(path) as lines:
            for number, line in enumerate(lines, start=1):
                line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if not line.strip():
                    continue
                if number == 1 and line.lstrip().startswith(b"["):
                    break  # a single list of rows
                where = f"line {number}" if len(paths) == 1 else f"{source_name(path)}, line {number}"
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    if number == 1 and line.strip() == b"{":
                        break  # a single object on several lines
                    column = f", column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
                    reason = getattr(error, "msg", str(error))
                    return f"{where}{column}: {reason}: {shown(line.decode(errors='replace').strip(), 60)}."
                if not isinstance(row, dict):
                    return f"{where}: a row must be an object with the columns as its keys, got {shown(row, 60)}."
    return None


def _opened(path: str) -> IO[bytes]:
    return gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb")  # type: ignore[return-value]


def first_line(error: BaseException, options: dict[str, Any] | None = None) -> str:
    r"""Return what an error says in its first line, as a sentence.

    Args:
        error (`BaseException`): Any error.
        options (`dict`, *optional*): Options whose secrets are masked.

    Example:
    ```python
    >>> from rnn_hf.formats.faults import first_line
    >>> first_line(ValueError("token=1234 is wrong\nin many ways"))
    'token=… is wrong.'

    ```
    """
    if isinstance(error, datasets.exceptions.DatasetGenerationError):
        # Its own message says only that there was an error.
        error = error.__cause__ or error.__context__ or error
    if isinstance(error, datasets.table.CastError):
        line = f"its rows differ in their columns; at some point {error.details()}"
    elif isinstance(error, OverflowError):
        line = "a whole number in it has more than 64 bits; write such numbers in quotes, or with a decimal point"
    elif isinstance(error, OSError) and error.strerror:
        line = f"{error.strerror}{'' if error.filename is None else f': {error.filename}'}"
    else:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    line = shorten(one_line(mask(line, find_secrets((), options or {}))), 500)
    return line if line.endswith(".") else line + "."


__all__ = ["first_line", "json_fault"]
