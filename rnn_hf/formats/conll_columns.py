"""Find out which columns of a file with a line a word hold words and tags."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..utils.messages import listed, shown
from .conll_layout import Layout, LayoutError, iterate_rows
from .tag_schemes import types_of

WORD_NAMES = ("tokens", "token", "words", "word", "form", "text", "term")
TAG_NAMES = (
    *(
        "tags",
        "tag",
        "labels",
        "label",
        "ner_tags",
        "ner_tag",
        "ner",
        "named_entity",
        "entity",
        "entities",
        "iob2",
        "iob",
    ),
    *("bio", "chunk_tags", "chunks", "chunk", "pos_tags", "pos", "upos", "xpos"),
)
SENTENCE_NAMES = frozenset(
    {"sentence_id", "sentence #", "sentence", "sentence_idx", "sentence id", "sentence_number"}
    | {"sent_idx", "sent_id", "sent"}
)
DOCUMENT_NAMES = frozenset(
    {"doc_id", "doc_idx", "doc id", "doc", "document_id", "document #", "document id", "document"}
)
_MOST_VALUES = 5000
# Enough to tell columns apart.
_MOST_ROWS = 100_000


def sentence_columns(names: Sequence[str]) -> tuple[int, ...]:
    """Find the columns that name sentences, and documents where sentences have names.

    Args:
        names (`list[str]`): Names of the columns, in lower case.

    Returns:
        `tuple[int]`: none where no column names sentences.
    """
    if not any(name in SENTENCE_NAMES for name in names):
        return ()
    return tuple(
        next(index for index, name in enumerate(names) if name in known)
        for known in (DOCUMENT_NAMES, SENTENCE_NAMES)
        if any(name in known for name in names)
    )


def find_header(cells: Sequence[str], tokens_column: str | None, tags_column: str | None) -> tuple[int, int] | None:
    """Find the columns of words and tags in cells that may name columns, rather than hold a word and its tag.

    Args:
        cells (`list[str]`): The first line of a file.
        tokens_column (`str`, *optional*): Name of the words' column, if it is said.
        tags_column (`str`, *optional*): Name of the tags' column, if it is said.

    Returns:
        Index of the words' column and of the tags'; `None` where the cells do not name them.
    """
    names = [cell.lower() for cell in cells]
    found = []
    for said, known in ((tokens_column, WORD_NAMES), (tags_column, TAG_NAMES)):
        if said is not None:
            found.append(list(cells).index(said) if said in cells else -1)
        else:
            found.append(next((names.index(name) for name in known if name in names), -1))
    return None if -1 in found or found[0] == found[1] else (found[0], found[1])


@dataclass
class ColumnSurvey:
    """What the columns hold.

    Args:
        values (`list[Counter]`): Values of each column, of at most 5,000 kinds.
        is_index (`bool`): Whether the first column counts the words of each sentence, from 0 or 1.
        num_rows (`int`): Number of words.
    """

    values: list[Counter[str]]
    is_index: bool = True
    num_rows: int = 0


def survey_columns(
    files: Iterable[tuple[str, Iterable[str]]], layout: Layout, most_rows: int = _MOST_ROWS
) -> ColumnSurvey:
    """Collect what the columns of some files hold, in so many rows at most unless comments have to be found."""
    survey = ColumnSurvey([Counter() for _ in layout.column_names])
    for name, lines in files:
        expected: int | None = None
        for row in iterate_rows(lines, layout, name):
            if row is None:
                expected = None
                continue
            cells = row[1]
            if survey.num_rows >= most_rows and not (layout.finds_comments and most_rows == _MOST_ROWS):
                return survey
            survey.num_rows += 1
            for values, cell in zip(survey.values, cells, strict=True):
                if len(values) < _MOST_VALUES or cell in values:
                    values[cell] += 1
            if survey.is_index and not re.fullmatch(r"\d+[-.]\d+", cells[0]):
                index = int(cells[0]) if cells[0].isascii() and cells[0].isdigit() else -1
                survey.is_index = index in (0, 1) if expected is None else index == expected
                expected = index + 1
    return survey


def choose_columns(survey: ColumnSurvey, name: str) -> tuple[int, int, str]:
    """Choose the columns of words and tags: the first and the last, where nothing speaks against it.

    Args:
        survey ([`ColumnSurvey`]): What the columns hold.
        name (`str`): Name of the file, for messages.

    Returns:
        Index of the words' column and of the tags', and what to say about it.

    Raises:
        LayoutError: It cannot be told.
    """
    width = len(survey.values)
    word = 1 if survey.is_index else 0
    if survey.is_index and width >= 8:
        raise LayoutError(
            f"{name} has {width} columns, of which the first counts words: say --dataset_format conllu if it is "
            f"CoNLL-U, or {_cure(width, word)}."
        )
    tag = width - 1
    if tag <= word:
        raise LayoutError(f"{name} has no column of tags: the words are in its last column. {_Cure(width, word)}.")
    words = survey.values[word]
    if survey.num_rows > 1 and (len(words) == 1 or all(one.isdigit() for one in words)):
        raise LayoutError(
            f"{name} has {width} columns, and the first holds no words but {listed(list(words), most=3)}. "
            f"{_Cure(width, word)}."
        )
    spans = {index: types_of(survey.values[index]) for index in range(word + 1, width)}
    reason = "the last"
    outer = tag
    last = spans[tag] or (frozenset() if list(survey.values[tag]) == ["O"] and survey.is_index else None)
    while outer - 1 > word and last is not None and (before := spans[outer - 1]) and last <= before:
        outer, reason = outer - 1, "the outer of nested spans"
    tag = outer
    others = [index for index in range(word + 1, width) if index != tag]
    is_constant = len(survey.values[tag]) == 1 and survey.num_rows > 1
    if others and (is_constant or (spans[tag] is None and any(spans[index] for index in others))):
        what = (
            f"holds {shown(next(iter(survey.values[tag])))} alone"
            if is_constant
            else "marks no spans, but another does"
        )
        raise LayoutError(f"{name} has {width} columns; the last {what}. {_Cure(width, word)}.")
    said = ""
    if width > 2:
        said = (
            f"{name} has {width} columns. Column {word + 1} is taken for the words, such as "
            f"{shown(next(iter(words)), 40)}, and column {tag + 1}, {reason}, for the tags, such as "
            f"{shown(_example(survey.values[tag]), 40)}. For others, {_cure(width, word)}."
        )
    return word, tag, said


def _example(values: Counter[str]) -> str:
    return next((value for value in values if value not in ("O", "_", "-")), next(iter(values)))


def _cure(width: int, word: int) -> str:
    plain = [
        *("index" for _ in range(word)),
        "tokens",
        *(f"column_{index}" for index in range(word + 2, width)),
        "tags",
    ]
    names = ", ".join(f'"{one}"' for one in plain)
    return f"name all columns with --dataset_kwargs '{{\"column_names\": [{names}]}}'"


def _Cure(width: int, word: int) -> str:  # noqa: N802
    return _cure(width, word).replace("name", "Name", 1)


__all__ = [
    "DOCUMENT_NAMES",
    "SENTENCE_NAMES",
    "TAG_NAMES",
    "WORD_NAMES",
    "ColumnSurvey",
    "choose_columns",
    "find_header",
    "sentence_columns",
    "survey_columns",
]
