"""Splits of a corpus from files of annotated texts."""

from collections.abc import Iterator
from typing import Any

from datasets import ClassLabel, Dataset, Features, IterableDataset, List, Value
from transformers.utils import logging

from .arguments import DataArguments, named_auxiliary, source_name
from .span_files import SpanFile, SpanSummary, find_span_file
from .spans import tag_names

logger = logging.get_logger(__name__)

_DESCRIPTION = "Words and tags of texts with annotated spans."


def load_span_split(file: str, arguments: DataArguments) -> Dataset | IterableDataset | None:
    """Load a file of annotated texts as words and tags, and say what it holds.

    Args:
        file (`str`): What `--train_file` or one of its companions names.
        arguments ([`DataArguments`]): `streaming` counts, and what says that the file is something else.

    Returns:
        A split with the columns `tokens` and `tags`; `None` where the file holds no annotated spans.

    Raises:
        ValueError: A row that is none of the format, or no annotated text at all.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf.formats.arguments import DataArguments
    >>> from rnn_hf.formats.span_splits import load_span_split
    >>> with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
    ...     _ = file.write('{"text": "Anna lives.", "label": [[0, 4, "PER"]]}')
    ...     file.flush()
    ...     split = load_span_split(file.name, DataArguments())
    >>> split["tokens"][0], split["tags"][0]
    (['Anna', 'lives', '.'], [1, 0, 0])

    ```
    """
    says_otherwise = arguments.dataset_format not in (None, "json") or arguments.dataset_kwargs not in ("{}", {})
    if says_otherwise or arguments.tokens_column or arguments.tags_column or named_auxiliary(arguments):
        return None
    found = find_span_file(file)
    if found is None:
        return None
    found.name = source_name(file)
    summary = SpanSummary()
    rows: dict[str, list] = {"tokens": [], "tags": []}
    for document in found.documents():
        tags = summary.add(document)
        if tags is not None and not arguments.streaming:
            rows["tokens"].append(document.words)
            rows["tags"].append(tags)
    logger.warning(summary.describe(found))
    if summary.num_documents == 0:
        raise ValueError(f"{found.name} holds no annotated text.")
    names = tag_names(summary.labels)
    features = Features({"tokens": List(Value("string")), "tags": List(ClassLabel(names=names))})
    split: Dataset | IterableDataset
    if arguments.streaming:
        split = IterableDataset.from_generator(_generate, features=features, gen_kwargs={"file": found})
    else:
        split = Dataset.from_dict(rows, features=features)
    split.info.description = _DESCRIPTION
    return split


def is_of_spans(split: Dataset | IterableDataset) -> bool:
    """Tell whether a split, or a part of it, was read from annotated texts."""
    return split.info.description == _DESCRIPTION


def _generate(file: SpanFile) -> Iterator[dict[str, Any]]:
    for document in file.documents():
        if document.left_out is None:
            yield {"tokens": document.words, "tags": document.tags()}


__all__ = ["is_of_spans", "load_span_split"]
