"""Tables and JSON for taggers with a row a sentence, whose cells hold all words and all tags as texts."""

import csv
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import datasets
from datasets import Dataset, IterableDataset
from transformers.utils import logging

from ..utils.messages import shown
from .arguments import DataArguments
from .conll_columns import TAG_NAMES, WORD_NAMES
from .label_texts import parse_list
from .tables import csv_options, open_text

logger = logging.get_logger(__name__)

_NUM_LOOKED_AT = 100
_WORD_NAMES = (*WORD_NAMES, "sentence", "sentences", "utterance", "utt", "query", "input")
_TAG_NAMES = (*TAG_NAMES, "slots", "slot_labels", "output", "target")
# Words of a row on average, at least; where a row is a word, each cell has one.
_LEAST_WORDS = 1.5


def table_cells(path: str, options: dict[str, Any], arguments: DataArguments) -> tuple[str, str] | None:
    r"""Find the columns of a table that hold all words and all tags of a sentence in a cell each.

    Args:
        path (`str`): A local file.
        options (`dict[str, Any]`): Options of the datasets builder.
        arguments ([`DataArguments`]): `tokens_column` and `tags_column` are read.

    Returns:
        Names of both columns; `None` where there are none.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf.formats.arguments import DataArguments
    >>> from rnn_hf.formats.sentence_cells import table_cells
    >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
    ...     _ = file.write("id,sentence,tags\n1,Anna lives,B-PER O\n")
    ...     file.flush()
    ...     table_cells(file.name, {}, DataArguments())
    ('sentence', 'tags')

    ```
    """
    usual = csv_options(options)
    if usual is None:
        return None
    names = options.get("column_names") or options.get("names")
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with suppress(OSError, EOFError, LookupError, UnicodeDecodeError, csv.Error):
        with open_text(path, options.get("encoding")) as file:
            rows = list(islice(csv.DictReader(file, names, **usual), _NUM_LOOKED_AT))
        return find_cells(rows, arguments)
    return None


def find_cells(rows: Sequence[dict[Any, Any]], arguments: DataArguments) -> tuple[str, str] | None:
    """Find the columns of rows that hold all words and all tags of a sentence as texts: with as many parts each.

    Args:
        rows (`list[dict]`): The first rows.
        arguments ([`DataArguments`]): `tokens_column` and `tags_column` are read.

    Returns:
        Names of both columns; `None` where there are none.
    """
    if not rows:
        return None
    for words in _named(rows[0], arguments.tokens_column, _WORD_NAMES):
        for tags in _named(rows[0], arguments.tags_column, _TAG_NAMES):
            if words != tags and _fit([row.get(words) for row in rows], [row.get(tags) for row in rows]):
                return words, tags
    return None


def _named(row: dict[Any, Any], said: str | None, usual: Iterable[str]) -> list[str]:
    if said is not None:
        return [said] if said in row else []
    return [name for one in usual for name in row if isinstance(name, str) and name.strip().lower() == one]


def _fit(words: list[Any], tags: list[Any]) -> bool:
    if not all(isinstance(cell, str) for cell in (*words, *tags)):
        return False
    are_lists = _are_lists(tags)
    num_words = [len(_parts(cell, _are_lists(words))) for cell in words]
    num_tags = [len(_parts(cell, are_lists)) for cell in tags]
    return num_words == num_tags and sum(num_tags) >= _LEAST_WORDS * len(num_tags)


def _are_lists(cells: list[Any]) -> bool:
    return all(isinstance(cell, str) and parse_list(cell) is not None for cell in cells)


def _parts(cell: str, is_list: bool) -> Any:
    return [str(part) for part in parse_list(cell) or ()] if is_list else cell.split()


def split_cells(
    split: Dataset | IterableDataset, columns: tuple[str, str], arguments: DataArguments, shown_name: str
) -> Dataset | IterableDataset:
    """Turn the cells of both columns into lists of words and tags, and say so.

    Args:
        split (`Dataset`): With a text in each cell.
        columns (`tuple[str, str]`): Of the words and the tags.
        arguments ([`DataArguments`]): The columns that they name are read.
        shown_name (`str`): Where the split comes from, for messages.

    Returns:
        The split, with the columns `tokens` and `tags`, unless the options name others, and with those that may be of
        auxiliary labels.
    """
    words, tags = columns
    rows = list(split.take(_NUM_LOOKED_AT))
    are_lists = {column: _are_lists([row[column] for row in rows]) for column in columns}
    how = ["lists" if are_lists[column] else "texts with spaces between" for column in columns]
    logger.warning(
        f"{shown_name} has a row a sentence: words are read from column {shown(words)}, {how[0]}, and tags from column "
        f"{shown(tags)}, {how[1]}."
    )
    taken = {arguments.tokens_column or "tokens": words, arguments.tags_column or "tags": tags}
    for auxiliary in rows[0]:
        cells = [row[auxiliary] for row in rows]
        is_wanted = auxiliary == arguments.auxiliary_tags_column
        if arguments.auxiliary_tags_column == "auto":
            is_wanted = auxiliary not in columns and _fit([row[words] for row in rows], cells)
        if is_wanted and auxiliary not in taken:
            taken[auxiliary] = auxiliary
            are_lists[auxiliary] = _are_lists(cells)
    text = datasets.List(datasets.Value("string"))
    return split.map(
        _read_row,
        fn_kwargs={"taken": taken, "are_lists": are_lists},
        remove_columns=split.column_names,
        features=datasets.Features(dict.fromkeys(taken, text)),
    )


def _read_row(row: dict[str, Any], *, taken: dict[str, str], are_lists: dict[str, bool]) -> dict[str, Any]:
    return {name: _parts(row[column] or "", are_lists[column]) for name, column in taken.items()}


__all__ = ["find_cells", "split_cells", "table_cells"]
