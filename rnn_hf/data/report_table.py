"""Show a report on a corpus: a table, and what is suspicious in it."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text
from transformers.utils import logging

from ..utils.display import printable, shorten
from ..utils.messages import listed, shown
from .report import LEAST_CHARACTERS, DataReport, Lengths

logger = logging.get_logger(__name__)

_SPLITS = {"train": "training", "validation": "validation", "test": "test"}
_NUM_SHOWN = 3
_MOST_NAME_CHARACTERS = 40
_MOST_EXAMPLE_CHARACTERS = 240
# From these shares on, something is suspicious.
_MOST_IN_TRAINING = 0.01
_MOST_CONTRADICTING = 0.01
_MOST_CUT = 0.05
_MOST_UNKNOWN = 0.1
_MOST_ODD = 0.5


def print_report(report: DataReport) -> None:
    r"""Print a report as a table, and warn of what is suspicious.

    Args:
        report ([`DataReport`]): What [`~rnn_hf.data.report.report_on`] found.

    Example:
    ```python
    >>> import tempfile
    >>> from pathlib import Path
    >>> from rnn_hf.data.corpus import DataArguments, load_corpus
    >>> from rnn_hf.data.report import report_on
    >>> from rnn_hf.data.report_table import print_report
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "a.csv")
    ...     _ = file.write_text("text,label\ngood,yes\nbad,no\ngood,yes\n")
    ...     corpus = load_corpus(DataArguments(train_file=str(file)), "text-classification", needed=("train",))
    ...     print_report(report_on(corpus))
    ┏━━━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━┓
    ┃ lengths at 50, 95, 100 % ┃ training  ┃
    ┡━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━┩
    │ from                     │ a.csv     │
    │ texts                    │ 3         │
    │ length in words          │ 1, 1, 1   │
    │ length in characters     │ 4, 4, 4   │
    │ repeated                 │ 1 (33.3%) │
    └──────────────────────────┴───────────┘
    Columns: 'text', 'label'. Input: 'text', label: 'label'.
    Labels: 2; yes 2, no 1.
    Example: good → yes
    Example: bad → no

    ```
    """
    console = Console(soft_wrap=True)
    table = Table("lengths at 50, 95, 100 %", *(_SPLITS[name] for name in report.splits))
    for title, cells in _rows(report):
        table.add_row(Text(title), *(Text(printable(cell)) for cell in cells))
    console.print(table)
    for line in _lines(report):
        console.print(Text(printable(line)))
    for warning in warnings_of(report):
        logger.warning(warning)


def _rows(report: DataReport) -> Iterator[tuple[str, list[str]]]:
    splits = report.splits.values()
    rows = _rows_of(report)
    yield "from", [_file_name(split.origin) for split in splits]
    if report.formats:
        yield "format", [report.formats.get(name, "") for name in report.splits]
    yield rows, [f"{split.num_rows:,}" for split in splits]
    if report.is_partial:
        yield "looked at, the first", [f"{split.num_read:,}" for split in splits]
    yield "length in words", [_shown_lengths(split.words) for split in splits]
    yield "length in characters", [_shown_lengths(split.characters) for split in splits]
    if any(0 < split.num_encoded < split.num_read for split in splits):
        yield "tokens of the first", [f"{split.num_encoded:,}" for split in splits]
    if any(split.tokens is not None for split in splits):
        yield "length in tokens", [_shown_lengths(split.tokens) for split in splits]
    if any(split.unknown_tokens is not None for split in splits):
        yield "unknown tokens", [_shown_share(split.unknown_tokens) for split in splits]
    if any(split.unseen_words is not None for split in splits):
        yield "words not in training", [_shown_share(split.unseen_words) for split in splits]
    if any(split.num_cut for split in splits):
        yield "cut, --max_seq_length", [_counted(split.num_cut, split.num_encoded) for split in splits]
    if any(split.num_empty for split in splits):
        yield "empty", [_counted(split.num_empty, split.num_read) for split in splits]
    yield "repeated", [_counted(split.num_repeated, split.num_read) for split in splits]
    if any(split.num_contradicting for split in splits):
        yield "repeated, other label", [_counted(split.num_contradicting, split.num_read) for split in splits]
    if len(splits) > 1:
        yield "in training too", [_counted(split.num_in_training, split.num_read) for split in splits]


def _rows_of(report: DataReport) -> str:
    return "sentences" if report.task == "token-classification" else "texts"


def _file_name(origin: str | None) -> str:
    if origin is None:
        return "held out"
    return shorten(origin.replace("\\", "/").rstrip("/").rpartition("/")[2], _MOST_NAME_CHARACTERS)


def _shown_lengths(lengths: Lengths | None) -> str:
    return "" if lengths is None else f"{lengths.median:,}, {lengths.most:,}, {lengths.longest:,}"


def _shown_share(share: float | None) -> str:
    return "" if share is None else "under 0.1%" if 0 < share < 0.001 else f"{share:.1%}"


def _counted(count: int | None, of: int) -> str:
    return "" if count is None else f"{count:,} ({_shown_share(count / of)})" if count else "0"


def _lines(report: DataReport) -> Iterator[str]:
    columns = listed(report.columns, most=10)
    yield f"Columns: {columns}. Input: {shown(report.input_column)}, label: {listed(report.label_columns, most=10)}."
    train = report.splits["train"]
    if train.numbers is not None:
        least, mean, greatest = train.numbers
        yield f"Numbers in the training data: {least:g} to {greatest:g}, {mean:g} on average."
    elif report.label_names:
        yield _labels_line(report)
    if report.num_auxiliary_labels > 0:
        where = "with the ends of spans" if report.auxiliary_column is None else f"in {shown(report.auxiliary_column)}"
        what = f"{report.num_auxiliary_labels:,} {where}"
        yield f"Auxiliary labels, for training alone: {what} (--auxiliary_tags_column)."
    for text, label in report.examples:
        text = shorten(text, _MOST_EXAMPLE_CHARACTERS)
        yield f"Example: {text} → {shorten(label, _MOST_NAME_CHARACTERS)}" if label else f"Example: {text}"


def _labels_line(report: DataReport) -> str:
    """Say how many labels there are, and how often the most and the least frequent ones occur."""
    counts = report.splits["train"].labels
    names = sorted(report.label_names, key=lambda name: -counts[name])
    what, of = "Labels", ""
    if report.tag_scheme is not None:
        what, of = "Types of spans", f" in {report.tag_scheme}"
    elif report.task == "token-classification":
        what = "Tags"

    def counted(names: list[str]) -> str:
        return ", ".join(f"{shorten(name, _MOST_NAME_CHARACTERS)} {counts[name]:,}" for name in names)

    text = f"{what}{of}: {len(names):,}; "
    if len(names) <= 2 * _NUM_SHOWN:
        text += f"{counted(names)}."
    else:
        text += f"most often {counted(names[:_NUM_SHOWN])}; least often {counted(names[-_NUM_SHOWN:])}."
        if single := report.labels_with(1):
            text += f" Only once: {listed(single, most=_NUM_SHOWN)}."
    if missing := report.labels_with(0):
        text += f" Not in the training data: {listed(missing, most=_NUM_SHOWN)}."
    return text


def warnings_of(report: DataReport) -> list[str]:
    """Say what is suspicious in a report, and which option or change of the data cures it.

    Args:
        report ([`DataReport`]): A report.

    Returns:
        `list[str]`: a sentence or two for each finding.
    """
    return list(_warnings(report))


def _warnings(report: DataReport) -> Iterator[str]:
    train = report.splits["train"]
    rows = _rows_of(report)
    label_option = "--tags_column" if report.task == "token-classification" else "--label_column"
    for name, split in report.splits.items():
        if split.num_long_in_training is not None and split.num_long_in_training > _MOST_IN_TRAINING * split.num_long:
            share = split.num_long_in_training / split.num_long
            cure = (
                f"remove {rows} that are there twice from --train_file, or name other --{name}_file"
                if split.origin is None
                else f"remove them from one of the two, or name another --{name}_file"
            )
            yield (
                f"{split.num_long_in_training:,} {name} {rows} of {LEAST_CHARACTERS} characters or more ({share:.1%}) "
                f"are in the training data too, so that scores on them are too good: {cure}."
            )
    if train.num_contradicting > _MOST_CONTRADICTING * train.num_read and report.problem_type != "regression":
        several = ""
        if report.task == "text-classification" and report.problem_type == "single_label_classification":
            several = " If a text may have several labels, write them as a list, in one row."
        yield (
            f"{train.num_contradicting:,} training {rows} ({train.num_contradicting / train.num_read:.1%}) are there "
            f"before with other labels: correct them, or name the right column with {label_option}.{several}"
        )
    if train.num_numbers > _MOST_ODD * train.num_read:
        yield (
            f"Column {report.input_column!r} holds numbers in {train.num_numbers / train.num_read:.0%} of the rows. Is "
            "it the right one? Name another with --text_column."
        )
    if train.num_empty > _MOST_ODD * train.num_read:
        option = "--tokens_column" if report.task == "token-classification" else "--text_column"
        yield (
            f"Column {report.input_column!r} is empty in {train.num_empty / train.num_read:.0%} of the rows. Is it the "
            f"right one? Name another with {option}."
        )
    if train.num_cut > _MOST_CUT * train.num_encoded:
        share = train.num_cut / train.num_encoded
        yield f"{share:.0%} of the training texts are cut: a higher --max_seq_length reads more of them."
    unknown = report.splits["validation"].unknown_tokens if "validation" in report.splits else None
    if unknown is not None and unknown > max(_MOST_UNKNOWN, 2 * (train.unknown_tokens or 0.0)):
        yield (
            f"{unknown:.0%} of the validation tokens are unknown to the tokenizer, of the training tokens "
            f"{train.unknown_tokens or 0:.0%}: --tokenizer_kind bpe or unigram knows more."
        )
    if not report.is_partial and (names := report.held_out_only()):
        yield (
            f"The training data lacks labels that were held out of it: {listed(names)}. They cannot be learned: give "
            "more rows of them, or name --validation_file and --test_file."
        )


__all__ = ["print_report", "warnings_of"]
