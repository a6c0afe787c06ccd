"""Lines of fastText: `__label__sports __label__long The text`."""

import re
from typing import Any

import datasets

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
    >>> from rnn_hf.formats.fasttext import split_line
    >>> split_line("__label__sports __label__long What a game !")
    ('What a game !', 'sports long')

    ```
    """
    return _LABEL.sub("", line).strip(), " ".join(_LABEL.findall(line))


def is_fasttext(line: str) -> bool:
    """Tell whether a line begins as those of fastText do."""
    return re.match(rf"\s*{PREFIX}\S", line) is not None


def part_rows(split: Any) -> Any:
    """Part the column `text` of a split, a line in each row, into `text` and `label`; blank lines are left out."""
    features = datasets.Features({name: datasets.Value("string") for name in ("text", "label")})
    return split.filter(_is_no_blank_line).map(_part, features=features)


def _is_no_blank_line(row: dict[str, str]) -> bool:
    return bool(row["text"].strip())


def _part(row: dict[str, str]) -> dict[str, str]:
    return dict(zip(("text", "label"), split_line(row["text"]), strict=True))


__all__ = ["PREFIX", "is_fasttext", "part_rows", "split_line"]
