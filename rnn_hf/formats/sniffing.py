"""Tell the format of a file by what stands in it, where its name does not."""

import json
import re
from collections import Counter
from contextlib import suppress
from itertools import islice

from .columns import USUAL_NAMES
from .conll_layout import is_blank
from .tables import SEPARATORS, find_separator, opener
from .tag_schemes import types_of

# What is looked at: the first lines, and of a file without line ends the first bytes.
_MOST_LINES = 1000
_MOST_BYTES = 2**20
# The share of lines that have as many columns as most, at least; the others are faults that reading them names.
_MOST_ALIKE = 0.9
_NUM_CONLLU = 10
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f]")


def content_format(path: str, task: str | None, needs_spans: bool = False) -> str | None:
    r"""Tell the format of a file by its first lines.

    Args:
        path (`str`): A local file.
        task (`str`, *optional*): Taggers read a word from each line, classifiers tables that have a header.
        needs_spans (`bool`): Whether lines with a word each count only if tags that mark spans stand in them.

    Returns:
        `str`, *optional*: one of the values of `--dataset_format`; `None` where it cannot be told.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf.formats.sniffing import content_format
    >>> with tempfile.NamedTemporaryFile("w", suffix=".train") as file:
    ...     _ = file.write("Anna NNP B-PER\nlives VBZ O\n\nBye UH O\n")
    ...     file.flush()
    ...     content_format(file.name, "token-classification"), content_format(file.name, "text-classification")
    ('conll', None)

    ```
    """
    lines = _first_lines(path)
    first = next((line for line in lines if line.strip()), "")
    with suppress(ValueError, RecursionError):
        if first.lstrip().startswith("{") and isinstance(json.loads(first), dict):
            return "json"
    if re.match(r"\s*\[\s*\{", "\n".join(lines[:3])):
        return "json"
    if task == "token-classification":
        return _word_format(lines, needs_spans)
    names = [*USUAL_NAMES["text_column"], *USUAL_NAMES["label_column"]]
    found = find_separator(path, {"sep": "\x01"}, names)
    return {None: None, "\t": "tsv"}.get(found, "csv")


def _first_lines(path: str) -> list[str]:
    taken, size = [], 0
    with suppress(OSError, EOFError), opener(path)(path, "rb") as file:
        for line in islice(file, _MOST_LINES):
            taken.append(line[:_MOST_BYTES])
            size += len(line)
            if size >= _MOST_BYTES:
                break
    # Bytes that are not UTF-8 are named when the file is read.
    lines = b"".join(taken).decode("utf-8-sig", errors="replace").split("\n")
    return [] if any(_CONTROLS.search(line) for line in lines[:10]) else [line.rstrip("\r") for line in lines]


def _word_format(lines: list[str], needs_spans: bool) -> str | None:
    """Recognise lines with a word each, between blank lines."""
    rows, num_sentences, at_start = [], 0, True
    for line in lines:
        if is_blank(line) or line.startswith("-DOCSTART-"):
            at_start = True
        elif not (at_start and line.startswith("#")):
            num_sentences += at_start
            at_start = False
            rows.append(line.split("\t") if "\t" in line else line.split())
    if not rows:
        return None
    (width, count), *_ = Counter(map(len, rows)).most_common(1)
    if width < 2 or count < _MOST_ALIKE * len(rows) or num_sentences < 2 or len(rows) == num_sentences:
        return None
    rows = [row for row in rows if len(row) == width]
    if width == _NUM_CONLLU and all(re.fullmatch(r"\d+([-.]\d+)?", row[0]) for row in rows):
        return "conllu"
    if needs_spans and not any(types_of(row[index] for row in rows) for index in range(width)):
        return None
    return "conll"


def first_line_hint(path: str) -> str:
    """Say what the first line of a file looks like, to choose a format by.

    Args:
        path (`str`): A local file.

    Returns:
        `str`: a sentence with a space before it; empty of what is no text.
    """
    line = next((line for line in _first_lines(path) if line.strip()), "")
    if not line:
        return ""
    found = next((one for one in SEPARATORS if one in line and one != ","), None)
    if found == "\t":
        return " Its first line has tabs: if they separate columns, it is tsv."
    if re.match(r'\s*(?:\{|\[\s*[\[{"])', line):
        return " Its first line looks like json."
    return ""


__all__ = ["content_format", "first_line_hint"]
