"""What the names of labels say."""

import re
from collections.abc import Sequence
from typing import Literal


def tagging_scheme(label_names: Sequence[str]) -> Literal["iob2", "iobes"] | None:
    """Tell how labels mark spans.

    Args:
        label_names (`Sequence[str]`): Labels in the order of their ids.

    Returns:
        `"iob2"` where labels are `O`, `B-…` and `I-…`; `"iobes"` where there are `S-…` or `E-…` too; `None` where
        labels stand for themselves.

    Example:
    ```python
    >>> from rnn_hf.models.labels import tagging_scheme
    >>> tagging_scheme(["B-PER", "I-PER", "O"]), tagging_scheme(["B-PER", "S-PER", "O"]), tagging_scheme(["NOUN"])
    ('iob2', 'iobes', None)

    ```
    """
    if not all(name == "O" or re.match(r"[BIES]-.", name) for name in label_names):
        return None
    marks = {name[0] for name in label_names if name != "O"}
    if marks & {"S", "E"}:
        return "iobes"
    return "iob2" if "B" in marks else None


__all__ = ["tagging_scheme"]
