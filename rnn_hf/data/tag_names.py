"""Name the tags of a tagger's corpus that are numbers."""

from collections.abc import Iterator, Sequence
from typing import Any

import datasets
from transformers.utils import logging

from ..formats.arguments import DataArguments
from ..formats.label_texts import read_label_names
from ..formats.loading import Split
from ..utils.messages import listed, shown
from .validation import class_label

logger = logging.get_logger(__name__)

_BATCH_SIZE = 1000
# What columns are called, beside `tokens` and `tags`.
_USUAL_NAMES = {
    "tokens_column": ("tokens", "words", "token", "word"),
    "tags_column": ("tags", "labels", "tag", "label", "ner_tags", "ner", "ner_labels", "ner_tag", "pos_tags", "pos"),
}


def usual_columns(
    arguments: DataArguments, wanted: dict[str, str], names: Sequence[str], origin: str
) -> dict[str, str]:
    """Find the columns of words and tags by the names that they usually have, where no option names them.

    Args:
        arguments ([`DataArguments`]): The options.
        wanted (`dict[str, str]`): For `tokens_column` and `tags_column`, the column by the options.
        names (`Sequence[str]`): The columns there are.
        origin (`str`): Where they are, for messages.

    Returns:
        `dict[str, str]`: for each option a column; that of `wanted` where none, or several, could be meant.

    Example:
    ```python
    >>> from rnn_hf.data.tag_names import DataArguments, usual_columns
    >>> wanted = {"tokens_column": "tokens", "tags_column": "tags"}
    >>> usual_columns(DataArguments(), wanted, ["id", "words", "ner"], "a.jsonl")
    {'tokens_column': 'words', 'tags_column': 'ner'}

    ```
    """
    chosen = dict(wanted)
    for option, usual in _USUAL_NAMES.items():
        found = [name for name in names if name.lower() in usual]
        if getattr(arguments, option) is None and wanted[option] not in names and len(found) == 1:
            chosen[option] = found[0]
            what = "words" if option == "tokens_column" else "tags"
            logger.warning(
                f"{origin}: column {found[0]!r} is taken for the {what}, as there is none named "
                f"{wanted[option]!r}; --{option} names another."
            )
    return chosen


def name_tags(
    splits: dict[str, Split], origins: dict[str, str], label_column: str, given: list[str] | None
) -> dict[str, Split]:
    r"""Name the tags that are whole numbers by `--label_names`; without them, say that they have no names.

    Args:
        splits (`dict[str, Split]`): The corpus.
        origins (`dict[str, str]`): Where each split comes from, for messages.
        label_column (`str`): Column of the tags.
        given (`list[str]`, *optional*): `--label_names`.

    Returns:
        The splits, their tags with names.

    Raises:
        ValueError: Tags that are no numbers, numbers without a name, or numbers that have names already.

    Example:
    ```python
    >>> from datasets import Dataset
    >>> from rnn_hf.data.tag_names import name_tags
    >>> splits = {"train": Dataset.from_dict({"tokens": [["Anna"]], "tags": [[1]]})}
    >>> name_tags(splits, {"train": "a.jsonl"}, "tags", ["O", "B-PER"])["train"].features["tags"].feature.names
    ['O', 'B-PER']

    ```
    """
    if given is None:
        name, split = next(iter(splits.items()))
        rows: Iterator[dict[str, Any]] = iter(split)
        first = next(rows, {}).get(label_column)
        if class_label((split.features or {}).get(label_column)) is None and _are_numbers(first):
            logger.warning(
                f"{origins[name]}: column {label_column!r} holds numbers without names, which are taken for tags that "
                "mark no spans. Name them in the order of the numbers with --label_names O B-PER I-PER, or name a "
                "file with one name a line."
            )
        return splits
    names = read_label_names(given) or []
    return {name: _named(split, origins[name], label_column, names) for name, split in splits.items()}


def _are_numbers(tags: Any) -> bool:
    is_number = isinstance(tags, list) and all(isinstance(tag, int) and not isinstance(tag, bool) for tag in tags)
    return bool(tags) and is_number


def _named(split: Split, origin: str, label_column: str, names: Sequence[str]) -> Split:
    if class_label((split.features or {}).get(label_column)) is not None:
        raise ValueError(f"{origin}: column {label_column!r} has names for its tags. Leave --label_names out.")
    row = 0
    for batch in split.select_columns([label_column]).iter(batch_size=_BATCH_SIZE):
        for tags in batch[label_column]:
            row += 1
            for tag in tags if isinstance(tags, list) else ():
                if tag is not None and not _are_numbers([tag]):
                    raise ValueError(
                        f"{origin}, row {row}: column {label_column!r} must hold whole numbers for --label_names to "
                        f"name, got {shown(tag)}. Leave the option out where the tags are names."
                    )
                if tag is not None and not 0 <= tag < len(names):
                    raise ValueError(
                        f"{origin}, row {row}: column {label_column!r} holds {tag}, but --label_names names 0 to "
                        f"{len(names) - 1}: {listed(names)}."
                    )
    return split.cast_column(label_column, datasets.List(datasets.ClassLabel(names=list(names))))


__all__ = ["DataArguments", "name_tags", "usual_columns"]
