"""Report on a corpus before training: labels, lengths, unknown tokens, texts that are there twice, examples."""

import hashlib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from ..formats.loading import Split, column_names, format_of, quiet
from ..formats.span_splits import is_of_spans
from ..text.encoding import max_length_of
from .corpus import Corpus, DataArguments, Task
from .report_examples import examples_of
from .validation import label_name

_BATCH_SIZE = 1000
# So many rows of a split are read, and so many different words of training data are remembered.
MOST_ROWS = 1_000_000
_MOST_WORDS = 1_000_000
# Rows of a stream whose tokens are counted: they are encoded anew each time.
_NUM_STREAMED = 10_000
# Shorter texts are there twice by chance.
LEAST_CHARACTERS = 20
_NUMBER = re.compile(r"\s*[-+]?\d[\d.,]*\s*")


@dataclass(frozen=True)
class Lengths:
    """Lengths of texts.

    Args:
        median (`int`): Half of the texts are at most as long.
        most (`int`): 95 % of the texts are at most as long.
        longest (`int`): The length of the longest one.
    """

    median: int
    most: int
    longest: int

    @classmethod
    def of(cls, counts: Mapping[int, int]) -> "Lengths":
        """Make them of the number of texts of each length.

        Example:
        ```python
        >>> from rnn_hf.data.report import Lengths
        >>> Lengths.of({1: 50, 2: 46, 9: 4})
        Lengths(median=1, most=2, longest=9)

        ```
        """
        lengths = np.array(sorted(counts), dtype=np.int64)
        ends = np.cumsum([counts[int(length)] for length in lengths])
        median, most = (int(lengths[np.searchsorted(ends, share * ends[-1])]) for share in (0.5, 0.95))
        return cls(median, most, int(lengths[-1]))


@dataclass
class SplitReport:
    """What a split holds.

    Args:
        origin (`str`, *optional*): Where its rows come from; held out of the training data without it.
        num_rows (`int`): Rows of the split.
        num_read (`int`): Rows that were read for the report, the first ones.
        words (`Lengths`): In words, which of texts stand between white space.
        characters (`Lengths`): In characters.
        num_empty (`int`): Empty texts, or sentences without words.
        num_numbers (`int`): Texts that are numbers.
        num_repeated (`int`): Rows whose text is that of an earlier one.
        num_contradicting (`int`): Those of them whose text has different labels.
        num_in_training (`int`, *optional*): Rows whose text is one of the training data; of validation and test.
        num_long_in_training (`int`, *optional*): Those of them with 20 characters or more.
        num_long (`int`): Rows with 20 characters or more.
        unseen_words (`float`, *optional*): Share of words that the training data lacks; of a tagger's other splits.
        num_encoded (`int`): Rows whose tokens were counted, the first ones.
        tokens (`Lengths`, *optional*): In tokens.
        unknown_tokens (`float`, *optional*): Share of tokens that the tokenizer does not know.
        num_cut (`int`): Texts that reach the length where texts are cut.
        labels (`Counter[str]`): Rows or words of each label; of tags that mark spans, spans of each type.
        numbers (`tuple[float, float, float]`, *optional*): Of a regression, the least, the mean and the greatest.
    """

    origin: str | None
    num_rows: int
    num_read: int
    words: Lengths
    characters: Lengths
    num_empty: int = 0
    num_numbers: int = 0
    num_repeated: int = 0
    num_contradicting: int = 0
    num_in_training: int | None = None
    num_long_in_training: int | None = None
    num_long: int = 0
    unseen_words: float | None = None
    num_encoded: int = 0
    tokens: Lengths | None = None
    unknown_tokens: float | None = None
    num_cut: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    numbers: tuple[float, float, float] | None = None


@dataclass
class DataReport:
    """What a corpus holds.

    Args:
        task (`str`): `"text-classification"` or `"token-classification"`.
        problem_type (`str`): As in the configuration.
        formats (`dict[str, str]`): How each split is written, as far as it is known.
        columns (`list[str]`): Columns of the training data.
        input_column (`str`): Column of the texts or the words.
        label_columns (`list[str]`): Column of the labels or the tags, or columns of 0 and 1.
        splits (`dict[str, SplitReport]`): Each split.
        label_names (`list[str]`): Labels, or types of spans, in the order of their ids.
        unseen_names (`list[str]`): Those of validation and test that the model does not know.
        tag_scheme (`str`, *optional*): How the tags mark spans in the files.
        auxiliary_column (`str`, *optional*): Column of auxiliary labels.
        num_auxiliary_labels (`int`): Number of auxiliary labels.
        examples (`list[tuple[str, str]]`): The first training texts as tokens, each with its label; of a tagger, each
            word with its tag, and an empty label.
    """

    task: Task
    problem_type: str
    formats: dict[str, str]
    columns: list[str]
    input_column: str
    label_columns: list[str]
    splits: dict[str, SplitReport]
    label_names: list[str]
    unseen_names: list[str] = field(default_factory=list)
    tag_scheme: str | None = None
    auxiliary_column: str | None = None
    num_auxiliary_labels: int = 0
    examples: list[tuple[str, str]] = field(default_factory=list)

    @property
    def is_partial(self) -> bool:
        """Whether some rows were not read."""
        return any(split.num_read < split.num_rows for split in self.splits.values())

    def labels_with(self, num_rows: int) -> list[str]:
        """Name the labels that so many rows, words or spans of the training data have."""
        counts = self.splits["train"].labels
        return [name for name in self.label_names if counts[name] == num_rows]

    def held_out_only(self) -> list[str]:
        """Name the labels that validation or test data have, and training data lacks."""
        others = [split.labels for name, split in self.splits.items() if name != "train"]
        return [name for name in self.labels_with(0) if any(counts[name] for counts in others)]

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers alone, as many for thousands of labels as for two.

        Returns:
            `dict`: `splits` holds for each the fields of [`SplitReport`] that are numbers; lengths are lists of median,
            95 % and longest. `labels` holds their number, how many rows the most and the least frequent have, and how
            many labels have one row, or none.
        """
        splits: dict[str, Any] = {}
        for name, split in self.splits.items():
            numbers: dict[str, Any] = {}
            for key, value in vars(split).items():
                if isinstance(value, Lengths):
                    numbers[key] = [value.median, value.most, value.longest]
                elif isinstance(value, tuple):
                    numbers[key] = list(value)
                elif isinstance(value, float):
                    numbers[key] = round(value, 6)
                elif isinstance(value, int):
                    numbers[key] = value
            splits[name] = numbers
        found: dict[str, Any] = {"splits": splits}
        if self.problem_type != "regression":
            counts = [self.splits["train"].labels[name] for name in self.label_names]
            found["labels"] = {
                "number": len(counts),
                "most_frequent": max(counts, default=0),
                "least_frequent": min(counts, default=0),
                "with_one_row": counts.count(1),
                "without_rows": counts.count(0),
            }
        return found


def report_on(
    corpus: Corpus,
    arguments: DataArguments | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    encoded: Mapping[str, Split] | None = None,
    has_examples: bool = True,
    secrets: Collection[str] = (),
) -> DataReport:
    r"""Read a corpus once, and count what is worth knowing before training.

    At most a million rows of a split are read, and 17 bytes are remembered of each.

    Args:
        corpus ([`Corpus`]): With training data.
        arguments ([`DataArguments`], *optional*): What it was loaded with.
        tokenizer (`PreTrainedTokenizerBase`, *optional*): Counts tokens, and cuts examples into tokens.
        encoded (`Mapping[str, Split]`, *optional*): What [`Corpus.encode`] gave with that tokenizer.
        has_examples (`bool`): Whether to show texts of the training data.
        secrets (`Collection[str]`): Values to mask in these, as [`~secrets.find_secrets`] gives them.

    Returns:
        [`DataReport`]

    Example:
    ```python
    >>> import json, tempfile
    >>> from rnn_hf.data.corpus import DataArguments, load_corpus
    >>> from rnn_hf.data.report import report_on
    >>> with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
    ...     for index in range(20):
    ...         _ = file.write(json.dumps({"text": f"this is {index}", "label": "ab"[index % 2]}) + "\n")
    ...     file.flush()
    ...     report = report_on(load_corpus(DataArguments(train_file=file.name), "text-classification"))
    >>> report.splits["train"].words, report.examples[0][0].startswith("this is")
    (Lengths(median=3, most=3, longest=3), True)

    ```
    """
    is_tagger = corpus.task == "token-classification"
    training: _Reader | None = None
    splits: dict[str, SplitReport] = {}
    for name, split in corpus.splits.items():
        reader = _Reader(corpus, split, None if training is None else training.vocabulary)
        splits[name] = reader.report(corpus.origins.get(name), corpus.num_rows[name])
        repeated, contradicting = _count_repeated(reader.texts, reader.label_digests)
        splits[name].num_repeated, splits[name].num_contradicting = repeated, contradicting
        if training is None:
            training = reader
        else:
            known = np.isin(reader.texts, training.texts)
            splits[name].num_in_training = int(known.sum())
            splits[name].num_long_in_training = int(known[reader.is_long].sum())
        if tokenizer is not None and encoded is not None:
            given = None if arguments is None else arguments.max_seq_length
            max_length = None if is_tagger else given or max_length_of(tokenizer)
            _count_tokens(splits[name], encoded[name], tokenizer, max_length)
    names = corpus.label_names
    if corpus.tag_scheme is not None:
        names = list(dict.fromkeys(label[2:] for label in names if label[:2] in ("B-", "I-")))
    return DataReport(
        corpus.task,
        str(corpus.problem_type),
        {name: found for name in splits if (found := _format(corpus, arguments, name)) is not None},
        column_names(corpus.splits["train"]),
        corpus.input_column,
        (arguments.label_columns if arguments is not None else None) or [corpus.label_column],
        splits,
        [] if corpus.problem_type == "regression" else names,
        corpus.unseen_names,
        corpus.tag_scheme,
        corpus.auxiliary_column,
        len(corpus.auxiliary_names),
        list(examples_of(corpus, tokenizer, secrets)) if has_examples else [],
    )


def _format(corpus: Corpus, arguments: DataArguments | None, name: str) -> str | None:
    """Say how a split is written; of a named dataset and of what is held out, nothing."""
    file = None if arguments is None else getattr(arguments, f"{name}_file")
    if file is None or arguments is None:
        return None
    if is_of_spans(corpus.splits[name]):
        return "annotated spans"
    return arguments.dataset_format or format_of(file)


class _Reader:
    """Read a split once."""

    def __init__(self, corpus: Corpus, split: Split, vocabulary: set[str] | None):
        self.is_tagger = corpus.task == "token-classification"
        self.is_regression = corpus.problem_type == "regression"
        self.marks_spans = corpus.tag_scheme is not None
        self.words: Counter[int] = Counter()
        self.characters: Counter[int] = Counter()
        self.labels: Counter[str] = Counter()
        self.num_read = self.num_empty = self.num_numbers = 0
        self.smallest, self.sum, self.largest = math.inf, 0.0, -math.inf
        self.vocabulary: set[str] = set()
        self.num_unseen, self.known = 0, vocabulary
        texts, labels = bytearray(), bytearray()
        is_long = bytearray()
        feature = (split.features or {}).get(corpus.label_column)
        for text, label in _rows(corpus, split):
            self.num_read += 1
            words = self._read_words(text) if self.is_tagger else self._read_text(text)
            self.num_empty += not words
            joined = " ".join(words)
            is_long.append(len(joined) >= LEAST_CHARACTERS)
            texts += _digest((joined if joined.isascii() else unicodedata.normalize("NFKC", joined)).casefold())
            labels += _digest(str(self._read_label(label, feature)))
        kept = np.frombuffer(texts, dtype=np.uint64) != np.frombuffer(_digest(""), dtype=np.uint64)
        # Of each row that is not empty, a number for its text and one for its label, and whether it is long.
        self.texts = np.frombuffer(texts, dtype=np.uint64)[kept]
        self.label_digests = np.frombuffer(labels, dtype=np.uint64)[kept]
        self.is_long = np.frombuffer(is_long, dtype=bool)[kept]

    def _read_text(self, text: str) -> list[str]:
        words = text.split()
        self.words[len(words)] += 1
        self.characters[len(text)] += 1
        self.num_numbers += len(words) == 1 and _NUMBER.fullmatch(text) is not None
        return words

    def _read_words(self, words: list[str]) -> list[str]:
        self.words[len(words)] += 1
        self.characters[sum(map(len, words))] += 1
        if self.known is not None:
            self.num_unseen += sum(word not in self.known for word in words)
        elif len(self.vocabulary) < _MOST_WORDS:
            self.vocabulary.update(words)
        return words

    def _read_label(self, label: Any, feature: Any) -> Any:
        """Count a label, and return what tells it from others."""
        if self.is_regression:
            self.smallest, self.largest = min(self.smallest, label), max(self.largest, label)
            self.sum += label
            return float(label)
        if isinstance(label, list):
            names = [label_name(one, feature) for one in label]
            self.labels.update(_begun(names) if self.marks_spans else names)
            return names if self.is_tagger else sorted(names)
        name = label_name(label, feature)
        self.labels[name] += 1
        return name

    def report(self, origin: str | None, num_rows: int) -> SplitReport:
        num_words = sum(length * count for length, count in self.words.items())
        is_known = self.known is not None and 0 < len(self.known) < _MOST_WORDS
        return SplitReport(
            origin,
            num_rows,
            self.num_read,
            Lengths.of(self.words),
            Lengths.of(self.characters),
            self.num_empty,
            self.num_numbers,
            num_long=int(self.is_long.sum()),
            unseen_words=self.num_unseen / max(num_words, 1) if self.is_tagger and is_known else None,
            labels=self.labels,
            numbers=(self.smallest, self.sum / self.num_read, self.largest) if self.is_regression else None,
        )


def _rows(corpus: Corpus, split: Split) -> Iterator[tuple[Any, Any]]:
    columns = [corpus.input_column, corpus.label_column]
    split = split.select_columns(columns)
    if not isinstance(split, Dataset) or len(split) > MOST_ROWS:
        split = split.take(MOST_ROWS)
    with quiet():
        for batch in split.iter(batch_size=_BATCH_SIZE):
            yield from zip(*(batch[column] for column in columns), strict=True)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _begun(tags: list[str]) -> Iterator[str]:
    """Yield the types of the spans that tags of IOB2 begin."""
    return (tag[2:] for tag in tags if tag.startswith("B-"))


def _count_repeated(texts: np.ndarray, labels: np.ndarray) -> tuple[int, int]:
    """Count rows whose text is that of an earlier one, and those of them whose text has different labels."""
    if not len(texts):
        return 0, 0
    order = np.lexsort((labels, texts))
    texts, labels = texts[order], labels[order]
    is_same = texts[1:] == texts[:-1]
    group = np.concatenate([[0], np.cumsum(~is_same)])
    is_mixed = np.zeros(group[-1] + 1, dtype=bool)
    is_mixed[group[1:][is_same & (labels[1:] != labels[:-1])]] = True
    return int(is_same.sum()), int((np.bincount(group) - 1)[is_mixed].sum())


def _count_tokens(
    report: SplitReport, split: Split, tokenizer: PreTrainedTokenizerBase, max_length: int | None
) -> None:
    unknown = tokenizer.unk_token_id
    counts: Counter[int] = Counter()
    num_unknown = 0
    if isinstance(split, Dataset):
        part = split.select_columns(["input_ids"]).take(min(len(split), MOST_ROWS)).with_format("arrow")
        for batch in part.iter(batch_size=10 * _BATCH_SIZE):
            for rows in batch["input_ids"].chunks:
                lengths, times = np.unique(rows.value_lengths().to_numpy(zero_copy_only=False), return_counts=True)
                counts.update(dict(zip(lengths.tolist(), times.tolist(), strict=True)))
                if unknown is not None:
                    num_unknown += int((rows.flatten().to_numpy(zero_copy_only=False) == unknown).sum())
    else:
        for row in islice(split, _NUM_STREAMED):
            counts[len(row["input_ids"])] += 1
            num_unknown += 0 if unknown is None else row["input_ids"].count(unknown)
    report.num_encoded = sum(counts.values())
    num_special = tokenizer.num_special_tokens_to_add() * report.num_encoded
    num_tokens = sum(length * count for length, count in counts.items()) - num_special
    report.tokens = Lengths.of(counts)
    report.unknown_tokens = None if unknown is None else num_unknown / max(num_tokens, 1)
    report.num_cut = counts[max_length] if max_length is not None else 0


__all__ = ["MOST_ROWS", "DataReport", "Lengths", "SplitReport", "report_on"]
