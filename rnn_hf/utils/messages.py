"""Show values and names in messages: on one line, harmless to a terminal, and never long."""

from collections.abc import Sequence
from typing import Any

from .display import printable, shorten

_MOST_CHARACTERS = 120


def shown(value: Any, width: int = _MOST_CHARACTERS) -> str:
    r"""Show a value as Python writes it, shortened.

    Args:
        value: Anything: a text, a number, a list.
        width (`int`): Most characters.

    Returns:
        `str`: one line of text; of a value that is longer, the beginning and how long it is.

    Example:
    ```python
    >>> from rnn_hf.utils.messages import shown
    >>> print(shown("a\x1b[2J"), shown(["a", None]), shown("a" * 1000, width=10))
    'a\x1b[2J' ['a', None] 'aaaaaaaa… (1,000 characters)

    ```
    """
    # Not all of a long text is escaped for its beginning.
    text = printable(repr(value[: 2 * width] if isinstance(value, str) else value))
    if len(text) <= width:
        return text
    elements = "characters" if isinstance(value, str | bytes) else "elements"
    size = f" ({len(value):,} {elements})" if isinstance(value, str | bytes | list | tuple | dict) else ""
    return shorten(text, width) + size


def listed(names: Sequence[str], most: int = 20) -> str:
    """List names, shortened.

    Args:
        names (`Sequence[str]`): Names of labels, columns or files.
        most (`int`): Most names to show.

    Returns:
        `str`: the names in quotes, and where there are more of them, their number.

    Example:
    ```python
    >>> from rnn_hf.utils.messages import listed
    >>> listed(["text", "label"]), listed(["a", "b", "c"], most=2)
    ("'text', 'label'", "'a', 'b', … (3 in all)")

    ```
    """
    text = ", ".join(shown(name, 60) for name in names[:most])
    return text + (f", … ({len(names)} in all)" if len(names) > most else "")


__all__ = ["listed", "shown"]
