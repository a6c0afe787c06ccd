"""Lines of fastText: `__label__sports __label__long The text`."""

import re

PREFIX = "__label__"
_LABEL = re.compile(rf"(?<!\S){PREFIX}(\S+)\s*")


def split_line(line: str) -> tuple[str, str]:
    """Part a line into its text and its labels.

    Args:
        line (`str`): A line. What begins with `__label__` is a label, wherever it stands.

    Returns:
        `tuple[str, str]`: the text, and the labels with spaces between them.

    Example:
    ```python
    >>> from rnn_hf.data.fasttext import split_line
    >>> split_line("__label__sports __label__long What a game !")
    ('What a game !', 'sports long')

    ```
    """
    return _LABEL.sub("", line).strip(), " ".join(_LABEL.findall(line))


def is_fasttext(line: str) -> bool:
    """Tell whether a line begins as those of fastText do."""
    return re.match(rf"\s*{PREFIX}\S", line) is not None


__all__ = ["PREFIX", "is_fasttext", "split_line"]
