"""Load a labelled corpus, check it, and encode it for a classifier or a tagger."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ..formats.arguments import DataArguments, Task, check_data_arguments, columns
from ..formats.columns import choose_column
from ..formats.hints import column_hint
from ..formats.loading import CONLLU_COLUMNS, SPLIT_NAMES, Split, column_names, format_of, load_splits
from ..formats.spans import mark_ends
from ..text.encoding import encode_texts, encode_words, max_length_of
from ..utils.messages import listed, shown
from .auxiliary import auxiliary_labels, ends_of_spans
from .hold_out import hold_out
from .label_columns import accepted_rows
from .labels import LabelReader
from .tag_conversion import to_iob2
from .tag_names import name_tags, usual_columns
from .unlabelled import Unlabelled, load_unlabelled
from .validation import SplitCheck, class_label, label_name

logger = logging.get_logger(__name__)

_BATCH_SIZE = 1000


@dataclass
class Corpus:
    """A checked corpus: its splits, and what its labels are.

    Args:
        task (`str`): `"text-classification"` or `"token-classification"`.
        splits (`dict[str, Split]`): Among `train`, `validation`, `test`.
        input_column (`str`): Column of the texts or the words.
        label_column (`str`): Column of the labels or the tags.
        problem_type (`str`): As in the configuration.
        label_names (`list[str]`): Names in the order of their ids; one placeholder for a regression.
        num_rows (`dict[str, int]`): Examples of each split.
        auxiliary_column (`str`, *optional*): Column of auxiliary labels in the training data.
        auxiliary_names (`list[str]`): Their names in the order of their ids; without a column, those of the labels with
            the ends of spans.
        unseen_names (`list[str]`):
            Labels of validation and test that training lacks, in order; their ids follow on those of `label_names`.
        fingerprints (`dict[str, str]`): Of each split that was read, the number of rows and a digest of their content.
        for_training (`bool`): Whether a model is trained on it, rather than a trained one evaluated.
        label_counts (`dict[str, int]`):
            Texts of each label in the training data, where each has one, before any were held out.
        tag_scheme (`str`, *optional*): How the tags marked spans that are in IOB2 now, such as `"iob1"`.
        origins (`dict[str, str]`): Where each split that was read comes from, for messages.
        unlabelled ([`Unlabelled`], *optional*): Texts or sentences without labels to learn from, too.
    """

    task: Task
    splits: dict[str, Split]
    input_column: str
    label_column: str
    problem_type: Any
    label_names: list[str]
    num_rows: dict[str, int]
    auxiliary_column: str | None = None
    auxiliary_names: list[str] = field(default_factory=list)
    unseen_names: list[str] = field(default_factory=list)
    fingerprints: dict[str, str] = field(default_factory=dict)
    for_training: bool = True
    label_counts: dict[str, int] = field(default_factory=dict)
    tag_scheme: str | None = None
    origins: dict[str, str] = field(default_factory=dict)
    unlabelled: Unlabelled | None = None

    @property
    def has_words(self) -> bool:
        """`bool`: whether inputs are lists of words, rather than texts."""
        reads_either = self.task == "language-modeling"
        return self.input_column == "tokens" if reads_either else self.task == "token-classification"

    def inputs(self, split: str) -> Iterator[Any]:
        """Yield the texts, or the lists of words, of a split."""
        for batch in self.splits[split].select_columns([self.input_column]).iter(batch_size=_BATCH_SIZE):
            yield from batch[self.input_column]

    @property
    def num_training_rows(self) -> int:
        """`int`: number of texts or sentences to learn from, with and without labels."""
        return self.num_rows["train"] + (0 if self.unlabelled is None else self.unlabelled.num_rows)

    def training_inputs(self) -> Iterator[Any]:
        """Yield the texts, or the lists of words, of the training data, and then those without labels."""
        yield from self.inputs("train")
        if self.unlabelled is not None:
            for batch in self.unlabelled.split.iter(batch_size=_BATCH_SIZE):
                yield from batch[self.unlabelled.column]

    def encode(self, tokenizer: PreTrainedTokenizerBase, max_length: int | None = None) -> dict[str, Split]:
        """Turn texts into `input_ids` and labels into `labels`, auxiliary labels into `auxiliary_tags`.

        A tagger's word has its label at its first token; its other tokens and special tokens have -100. Of a
        stream, what is not trained on is read into memory, so that several processes can share it out exactly.

        Args:
            tokenizer (`PreTrainedTokenizerBase`): The tokenizer.
            max_length (`int`, *optional*):
                Where to cut texts; where the tokenizer says, without it. A tagger reads all words.

        Returns:
            `dict[str, Split]`: splits with the columns `input_ids` and `labels`.
        """
        label_ids = {name: index for index, name in enumerate(self.label_names + self.unseen_names)}
        max_length = max_length_of(tokenizer) if max_length is None else max_length
        encoded = {}
        for name, split in self.splits.items():
            feature = (split.features or {}).get(self.label_column)
            encode: Callable[..., dict[str, list]]
            if self.task == "text-classification":
                encode = partial(_encode_text_batch, max_length=max_length, problem_type=self.problem_type)
            else:
                encode = _encode_word_batch
            options: dict[str, Any] = {"desc": f"Encoding {name}"} if isinstance(split, Dataset) else {}
            columns = [self.input_column, self.label_column]
            if name == "train" and self.auxiliary_names:
                if self.auxiliary_column is not None:
                    columns.append(self.auxiliary_column)
                encode = partial(
                    encode,
                    auxiliary_feature=(split.features or {}).get(self.auxiliary_column or ""),
                    auxiliary_ids={name: index for index, name in enumerate(self.auxiliary_names)},
                )
            # A column of the corpus that has the name of one of the batch must not be taken for it.
            renamed = {one: f"corpus_{one}" for one in columns}
            split = split.select_columns(list(renamed)).rename_columns(renamed)
            encoded[name] = split.map(
                encode,
                batched=True,
                input_columns=[renamed[one] for one in columns],
                remove_columns=list(renamed.values()),
                fn_kwargs={"tokenizer": tokenizer, "feature": feature, "label_ids": label_ids},
                **options,
            )
            if not (name == "train" and self.for_training) and not isinstance(split, Dataset):
                encoded[name] = Dataset.from_list(list(encoded[name]))
        return encoded


def load_corpus(
    arguments: DataArguments,
    task: Task,
    problem_type: str | None = None,
    label_names: list[str] | None = None,
    needed: tuple[str, ...] = ("train", "validation"),
) -> Corpus:
    r"""Load the splits of a corpus, make those that are missing, and check every row.

    Args:
        arguments ([`DataArguments`]): What to load.
        task (`str`): `"text-classification"` or `"token-classification"`.
        problem_type (`str`, *optional*):
            As in the configuration. Without it: floats are a regression, lists several labels at once.
        label_names (`list[str]`, *optional*):
            The labels there may be, of a trained model. Without it they are read from `ClassLabel` columns, or
            collected from the training data and sorted.
        needed (`tuple[str]`): Splits without which there is nothing to do.

    Returns:
        [`Corpus`]

    Raises:
        ValueError: With the row and the value: a missing file, column, split or row; an empty or non-string
            text; tags and words of different number; a label that is missing, no label, or not in the training
            data; a file of another format than its name says; a hub dataset that cannot be reached; options that
            make no sense.

    Example:
    ```python
    >>> import json, tempfile
    >>> from rnn_hf.data.corpus import DataArguments, load_corpus
    >>> with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
    ...     for label in ["ham", "spam"] * 10:
    ...         _ = file.write(json.dumps({"text": f"this is {label}", "label": label}) + "\n")
    ...     file.flush()
    ...     corpus = load_corpus(DataArguments(train_file=file.name), "text-classification")
    >>> corpus.label_names, corpus.num_rows
    (['ham', 'spam'], {'train': 16, 'validation': 2, 'test': 2})

    ```
    """
    check_data_arguments(arguments, task)
    additional_labels = arguments.additional_labels or []
    _check_problem_type(arguments, problem_type)
    if additional_labels and label_names is not None:
        raise ValueError("--additional_labels is for training: a trained model knows its labels. Leave it out.")
    if arguments.unlabelled_file is not None and label_names is not None:
        raise ValueError("--unlabelled_file is for training. Leave it out.")
    splits, origins = load_splits(arguments, task)
    if task == "text-classification":
        splits = {name: accepted_rows(split, origins[name]) for name, split in splits.items()}
    input_column, label_column = _columns(arguments, task, splits, origins)
    splits = _without_unlabelled_test(splits, label_column, origins)
    for_training = label_names is None
    if not for_training and splits.keys() >= set(needed):
        splits = {name: splits[name] for name in needed}
    if arguments.max_train_samples is not None and "train" in splits:
        splits["train"] = splits["train"].take(arguments.max_train_samples)

    tag_scheme = None
    if task == "token-classification":
        splits = name_tags(splits, origins, label_column, arguments.label_names)
        splits, tag_scheme = to_iob2(splits, origins, label_column, arguments.tag_scheme, label_names)
        if tag_scheme is not None:
            additional_labels = list(dict.fromkeys(map(tag_scheme.label_to_iob2, additional_labels)))

    known = label_names
    reader = None
    if task == "text-classification":
        files = [arguments.train_file, arguments.validation_file, arguments.test_file]
        is_fasttext = "fasttext" in (arguments.dataset_format, *(format_of(file) for file in files if file))
        reader = LabelReader(arguments, label_column, problem_type, known, " " if is_fasttext else None)
    num_rows, fingerprints = {}, {}
    unseen_names: dict[str, None] = {}
    label_counts: dict[str, int] = {}
    for name in sorted(splits, key=list(SPLIT_NAMES).index):
        if reader is not None:
            splits[name] = reader.read(splits[name], origins[name])
        check = SplitCheck(
            task,
            origins[name],
            input_column,
            label_column,
            problem_type,
            known,
            additional_labels,
            arguments.allow_empty_text,
            arguments.unseen_labels,
            None if reader is None else reader.names,
        )
        num_rows[name] = check.read(splits[name])
        fingerprints[name] = f"{num_rows[name]:,} rows, {check.fingerprint}"
        problem_type = check.problem_type
        known = check.label_names()
        if reader is not None:
            reader.problem_type, reader.known = problem_type, known
        _check_problem_type(arguments, problem_type)
        unseen_names |= dict.fromkeys(check.unseen)
        label_counts = check.counts if name == "train" else label_counts
        _warn_of_unseen(check, num_rows[name])
    auxiliary_column: str | None = None
    auxiliary_names: list[str] = []
    if task == "token-classification" and for_training and "train" in splits:
        auxiliary_column, auxiliary_names = auxiliary_labels(
            splits["train"], origins["train"], input_column, label_column, arguments.auxiliary_tags_column
        )
        if auxiliary_column is None and arguments.auxiliary_tags_column == "auto":
            auxiliary_names = ends_of_spans(known or [])
    if "train" in splits and "validation" not in splits and "validation" in needed:
        counted = {} if problem_type == "regression" or task == "token-classification" else label_counts
        splits, num_rows = hold_out(splits, num_rows, origins["train"], label_column, counted)
    for name in needed:
        if name not in splits:
            raise ValueError(f"There is no {name} data: give --{name}_file, or a dataset with a {name!r} split.")
    if not for_training:
        splits = {name: splits[name] for name in needed}
    if problem_type == "single_label_classification" and task == "text-classification" and known and len(known) < 2:
        origin = next(iter(origins.values()))
        raise ValueError(f"{origin} knows one label only, {shown(known[0])}; a classifier needs at least two.")
    assert known is not None
    assert problem_type is not None
    return Corpus(
        task,
        splits,
        input_column,
        label_column,
        problem_type,
        known,
        num_rows,
        auxiliary_column,
        auxiliary_names,
        list(unseen_names),
        fingerprints,
        for_training,
        label_counts,
        None if tag_scheme is None else str(tag_scheme),
        origins,
        None if arguments.unlabelled_file is None else load_unlabelled(arguments, task),
    )


def _check_problem_type(arguments: DataArguments, problem_type: str | None) -> None:
    if problem_type == "regression" and arguments.additional_labels:
        raise ValueError("--additional_labels is for classes; a regression has none. Leave it out.")
    if arguments.unseen_labels == "count" and problem_type in ("regression", "multi_label_classification"):
        raise ValueError("--unseen_labels count is for one label a text or word. Leave it out.")


def _warn_of_unseen(check: SplitCheck, num_rows: int) -> None:
    if check.unseen:
        count = sum(check.unseen.values())
        counted = f"{count:,} of {num_rows:,} rows" if check.task == "text-classification" else f"{count:,} words"
        logger.warning(
            f"{check.origin}: {counted} have labels that the training data lacks ({listed(list(check.unseen))}); each "
            "counts as an error."
        )


def _encode_text_batch(
    texts: list[str],
    labels: list[Any],
    tokenizer: PreTrainedTokenizerBase,
    feature: Any,
    label_ids: dict[str, int],
    max_length: int | None,
    problem_type: str,
) -> dict[str, list]:
    return {
        "input_ids": encode_texts(tokenizer, texts, max_length),
        "labels": [_label_id(label, feature, problem_type, label_ids) for label in labels],
    }


def _encode_word_batch(
    sentences: list[list[str]],
    tags: list[list[Any]],
    auxiliary_tags: list[list[Any]] | None = None,
    *,
    tokenizer: PreTrainedTokenizerBase,
    feature: Any,
    label_ids: dict[str, int],
    auxiliary_feature: Any = None,
    auxiliary_ids: dict[str, int] | None = None,
) -> dict[str, list]:
    all_ids, all_firsts = encode_words(tokenizer, sentences)

    def aligned(tags: list[list[Any]], feature: Any, label_ids: dict[str, int]) -> list[list[int]]:
        rows = []
        for ids, firsts, sentence_tags in zip(all_ids, all_firsts, tags, strict=True):
            row = [-100] * len(ids)
            for position, tag in zip(firsts, sentence_tags, strict=True):
                row[position] = label_ids[label_name(tag, feature)]
            rows.append(row)
        return rows

    encoded = {"input_ids": all_ids, "labels": aligned(tags, feature, label_ids)}
    if auxiliary_ids is not None:
        if auxiliary_tags is None:
            auxiliary_tags = [mark_ends([label_name(tag, feature) for tag in one]) for one in tags]
        encoded["auxiliary_tags"] = aligned(auxiliary_tags, auxiliary_feature, auxiliary_ids)
    return encoded


def _label_id(label: Any, feature: Any, problem_type: str, label_ids: dict[str, int]) -> Any:
    if problem_type == "regression":
        return float(label)
    if problem_type == "multi_label_classification":
        present = {label_ids[label_name(one, feature)] for one in label}
        return [float(index in present) for index in range(len(label_ids))]
    return label_ids[label_name(label, feature)]


def _columns(
    arguments: DataArguments, task: Task, splits: dict[str, Split], origins: dict[str, str]
) -> tuple[str, str]:
    first = next(iter(splits))
    names = column_names(splits[first])
    wanted = columns(arguments, task, names == CONLLU_COLUMNS)
    if task == "token-classification":
        wanted = usual_columns(arguments, wanted, names, origins[first])
    if task == "text-classification":
        wanted = {
            option: given
            if option == "label_column" and arguments.label_columns
            else choose_column(option, given, names, origins[first])
            for option, given in wanted.items()
        }
    input_column, label_column = wanted.values()
    if arguments.label_columns:
        del wanted["label_column"]
    needed = [*wanted.items(), *(("label_columns", column) for column in arguments.label_columns or ())]
    for name, split in splits.items():
        for option, column in needed:
            if column not in column_names(split):
                raise ValueError(
                    f"The {name} data has no column {shown(column)}, only: {listed(column_names(split))}. "
                    f"Name the right one with --{option}.{column_hint(split, task, option)}"
                )
    if input_column == label_column:
        raise ValueError(f"{' and '.join(f'--{name}' for name in wanted)} both mean the column {shown(input_column)}.")
    return input_column, label_column


def _without_unlabelled_test(splits: dict[str, Split], label_column: str, origins: dict[str, str]) -> dict[str, Split]:
    """Leave out a test split whose labels were withheld, as shared tasks on the hub do (-1)."""
    if "test" in splits and "train" in splits:
        test = splits["test"]
        rows: Iterator[dict[str, Any]] = iter(test)
        first = next(rows, {}).get(label_column)
        if first == -1 and class_label((test.features or {}).get(label_column)) is not None:
            logger.warning(f"{origins['test']} has no labels; it is left out.")
            return {name: split for name, split in splits.items() if name != "test"}
    return splits


__all__ = ["Corpus", "DataArguments", "Task", "load_corpus"]
