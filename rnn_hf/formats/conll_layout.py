"""Find out how a file with a line a word is laid out, and read its lines: separators, comments, headers, sentences."""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from ..utils.messages import listed, shown

# Ways to split a line, in the order of preference; never at a no-break space. "tabs": at each tab, and where there is
# none, at spaces; "tab runs": at each run of tabs; "blanks": at each run of both.
_SPLITTERS = ("tabs", "tab runs", "blanks")
# So many lines with a tab for each without: the one is wrong.
_MOSTLY = 9
# What stands behind the mark of a comment that has as many columns as a word may have.
_COMMENT_WORDS = frozenset({"newdoc", "newpar", "sent_id", "id", "text", "source", "doc", "document"})


class LayoutError(ValueError):
    """A file that is not laid out as one can tell, or not as it says."""


@dataclass(frozen=True)
class Layout:
    r"""How the lines of a file are read.

    Args:
        splitter (`str`): `"tabs"`, `"tab runs"`, `"blanks"`; what stands between columns, after a colon; or `csv` with
            the separator, the quotation mark and the use of quotes as JSON.
        column_names (`tuple[str]`): Names of all columns.
        comment_prefix (`str`, *optional*): What begins a comment anywhere; none where there are none.
        finds_comments (`bool`): Whether lines with `#` at the beginning of a sentence may be comments.
        word_tags (`tuple[str]`, *optional*): Tags that such a line has if it is a word; without them it is none.
        tag_index (`int`): The column of those.
        skip_docstart (`bool`): Whether lines with `-DOCSTART-` are skipped.
        header (`tuple[str]`, *optional*): What names the columns in the first line of a file, in lower case.
        is_index_first (`bool`): Whether the first column counts the words of a sentence.
        sentence_columns (`tuple[int]`): Columns with a number or name of the document and of the sentence, in its first
            row at least.
        word_index (`int`, *optional*): The column of the words; by default that named `tokens`, or else the first.
        drops_ranges (`bool`): Whether words with an index such as `1-2` or `2.1` are left out.
        may_lack_columns (`bool`): Whether the last columns may be missing.

    Example:
    ```python
    >>> from rnn_hf.formats.conll_layout import Layout
    >>> Layout("tabs", ("tokens", "tags")).split("New York\tB-LOC"), Layout("blanks", ("tokens", "tags")).split("a  O")
    (['New York', 'B-LOC'], ['a', 'O'])

    ```
    """

    splitter: str
    column_names: tuple[str, ...]
    comment_prefix: str | None = None
    finds_comments: bool = False
    word_tags: tuple[str, ...] | None = None
    tag_index: int = -1
    skip_docstart: bool = True
    header: tuple[str, ...] | None = None
    is_index_first: bool = False
    sentence_columns: tuple[int, ...] = ()
    word_index: int | None = None
    drops_ranges: bool = False
    may_lack_columns: bool = False

    def split(self, line: str) -> list[str]:
        """Split a line into its columns."""
        return split_line(line, self.splitter)


def split_line(line: str, splitter: str) -> list[str]:
    """Split a line into its columns, without the spaces around them."""
    if splitter in _SPLITTERS:
        if splitter == "blanks" or "\t" not in line:
            return [part for part in line.replace("\t", " ").split(" ") if part]
        line = line.rstrip(" \t")
        # A word may be a space, where each character is one.
        parts = line.split("\t") if splitter == "tabs" else re.split("\t+", line)
        return [part.strip(" ") or part[:1] for part in parts]
    if splitter.startswith("csv"):
        return [cell.strip(" ") for cell in next(csv.reader([line], **_csv_options(splitter)), [])]
    return [part.strip(" ") for part in line.split(splitter[1:])]


def csv_splitter(separator: str, quotechar: str = '"', quoting: int = csv.QUOTE_MINIMAL) -> str:
    """Describe the columns of a CSV file as a [`Layout`] does."""
    return f"csv{json.dumps([separator, quotechar, quoting])}"


@lru_cache
def _csv_options(splitter: str) -> dict[str, Any]:
    return {**dict(zip(("delimiter", "quotechar", "quoting"), json.loads(splitter[3:]), strict=True)), "strict": True}


def _cells(line: str, splitter: str, name: str, number: int) -> list[str]:
    try:
        return split_line(line, splitter)
    except csv.Error as error:
        raise LayoutError(
            f"{name}, line {number}: {error}: {shown(line, 60)}. How quotes are used can be said with --dataset_kwargs "
            "'{\"quoting\": 3}'."
        ) from error


def is_blank(line: str) -> bool:
    """Tell whether a line ends a sentence. One that holds a tab and a no-break space is a word without a tag."""
    if "!" <= line[:1] <= "~":
        return False
    return not line.strip(" \t\r\n\v\f") or (not line.strip() and "\t" not in line)


def iterate_rows(lines: Iterable[str], layout: Layout, name: str) -> Iterator[tuple[int, list[str]] | None]:
    """Yield the columns of each word with the number of its line, and `None` at the end of each sentence.

    Args:
        lines (`Iterable[str]`): Lines of a file.
        layout ([`Layout`]): How they are read.
        name (`str`): Name of the file, for messages.

    Raises:
        LayoutError: A line with more or fewer columns than the others, or without a word or a tag.
    """
    width = len(layout.column_names)
    word = layout.word_index
    if word is None:
        word = layout.column_names.index("tokens") if "tokens" in layout.column_names else 0
    at_start, is_first, sentence = True, layout.header is not None, [""] * len(layout.sentence_columns)
    for number, line in enumerate(lines, start=1):
        line = line.rstrip("\r\n")
        if is_blank(line) or (layout.skip_docstart and line.startswith("-DOCSTART-")):
            if not at_start:
                yield None
            at_start = True
            continue
        if layout.comment_prefix is not None and line.startswith(layout.comment_prefix):
            continue
        cells = _cells(line, layout.splitter, name, number)
        if not any(cells):
            if not at_start:
                yield None
            at_start = True
            continue
        may_be = layout.finds_comments and at_start and may_be_comment(line)
        if may_be and (len(cells) != width or _is_comment(cells, layout, f"{name}, line {number}")):
            continue
        if is_first:
            is_first = False
            if [cell.lower() for cell in cells] == list(layout.header or ()):
                continue
        if layout.may_lack_columns and 4 <= len(cells) < width:
            cells += ["_"] * (width - len(cells))
        if len(cells) != width:
            raise LayoutError(_ragged(name, number, cells, width))
        if layout.sentence_columns:
            here = [cells[one] or old for one, old in zip(layout.sentence_columns, sentence, strict=True)]
            if here != sentence and not at_start:
                yield None
            sentence = here
        if not cells[word]:
            raise LayoutError(f"{name}, line {number}: there is no word, but {listed(cells, most=6)}.")
        at_start = False
        yield number, cells
    if not at_start:
        yield None


def _is_comment(cells: list[str], layout: Layout, where: str) -> bool:
    """Tell a comment from a word `#` where both have the same number of columns."""
    tag = cells[layout.tag_index]
    if layout.word_tags is None:
        return True
    if tag in layout.word_tags:
        return False
    if re.match("#+ ", cells[0]) or tag in _COMMENT_WORDS or re.search(" |=|://", tag):
        return True
    raise LayoutError(
        f"{where} may be a comment, or a word with the tag {shown(tag, 60)}: say with --dataset_kwargs "
        '\'{"comment_prefix": "#"}\' that such lines are comments, or with null in place of "#" that none is.'
    )


def may_be_comment(line: str) -> bool:
    """Tell a comment from a word with `#`: `# text`, `#begin document`, `###MEDLINE:1`; not `#tag` nor `#` alone."""
    return re.match(r"#+[ \t]+[^ \t]|###[^# \t][^ \t]*$|#(begin|end) document", line) is not None


def _ragged(name: str, number: int, cells: Sequence[str], width: int) -> str:
    where = f"{name}, line {number}"
    joined = next((one for one in "/|_" if len(cells) > 1 and all(one in cell[1:] for cell in cells)), None)
    if joined is not None:
        return (
            f"{where}: {shown(joined)} joins each word to its tag, as in {shown(cells[0], 60)}, in lines of several "
            "words, which are not read. Write a word and its tag in each line, and an empty line after each sentence."
        )
    if cells and cells[0].startswith("#"):
        cure = 'If it is a comment, say so with --dataset_kwargs \'{"comment_prefix": "#"}\'.'
    else:
        cure = 'Correct it, or say what separates columns with --dataset_kwargs \'{"delimiter": "\\t"}\'.'
    if len(cells) == 1 and width == 2:
        cure = cure if cells[0].startswith("#") else "Give it one."
        return f"{where}: the word {shown(cells[0], 60)} has no tag. {cure}"
    columns = "1 column" if len(cells) == 1 else f"{len(cells)} columns"
    return f"{where}: {columns} in place of {width}: {listed(cells, most=6)}. {cure}"


@dataclass
class Survey:
    """What was seen of lines.

    Args:
        counts (`dict[str, dict[int, tuple]]`): For each way to split, how many lines have so many columns, with the
            file, the number and the columns of the first.
        first_rows (`list[list[str]]`): Of each file, the first line that is no comment.
        doubtful (`bool`): Whether a line with `#` at the beginning of a sentence was seen.
        gaps (`set[tuple[int]]`): Which columns are empty where each tab separates two.
        plain (`list`, *optional*): Of the first line without a tab its file, its number and its columns.
        num_plain (`int`): How many lines have no tab.
        num_tabs (`int`): How many have.
        has_spaces (`bool`): Whether there are spaces within what tabs separate.
        num_sentences (`int`): How often a blank line stands before a word, or the file begins.
    """

    counts: dict[str, dict[int, list[Any]]] = field(default_factory=dict)
    first_lines: list[str] = field(default_factory=list)
    doubtful: bool = False
    gaps: set[tuple[int, ...]] = field(default_factory=set)
    plain: tuple[str, int, list[str]] | None = None
    num_plain: int = 0
    num_tabs: int = 0
    has_spaces: bool = False
    num_sentences: int = 0


def survey_lines(
    files: Iterable[tuple[str, Iterable[str]]], options: dict[str, Any], splitter: str | None = None
) -> Survey:
    """Count the columns of all lines of some files, split in each possible way.

    Args:
        files (`Iterable[tuple[str, Iterable[str]]]`): Names, and lines.
        options (`dict[str, Any]`): What the user says: `delimiter`, `comment_prefix`, `skip_docstart`.
        splitter (`str`, *optional*): How lines are split, where that is known.
    """
    delimiter = options.get("delimiter")
    splitters = [f":{delimiter}"] if delimiter is not None else [splitter] if splitter is not None else list(_SPLITTERS)
    survey = Survey({splitter: {} for splitter in splitters})
    simple: dict[int, list[Any]] = {}
    prefix, finds_comments = options.get("comment_prefix"), "comment_prefix" not in options
    for name, lines in files:
        at_start, is_first = True, True
        for number, line in enumerate(lines, start=1):
            line = line.rstrip("\r\n")
            if is_blank(line) or (options.get("skip_docstart", True) and line.startswith("-DOCSTART-")):
                at_start = True
                continue
            if prefix is not None and line.startswith(prefix):
                continue
            if finds_comments and at_start and line.startswith("#"):
                survey.doubtful = True
                if may_be_comment(line):
                    continue
            cells = _cells(line, splitters[0], name, number)
            if not any(cells):
                at_start = True
                continue
            if is_first:
                survey.first_lines.append(line)
                is_first = False
            survey.num_sentences += at_start
            at_start = False
            if "\t" not in line or len(splitters) == 1:
                survey.num_plain += 1
                if survey.plain is None:
                    survey.plain = name, number, cells
                seen = simple.setdefault(len(cells), [0, name, number, cells])
                seen[0] += 1
                continue
            survey.num_tabs += 1
            survey.has_spaces = survey.has_spaces or any(" " in cell for cell in cells)
            if len(survey.gaps) < 2:
                survey.gaps.add(tuple(index for index, cell in enumerate(cells) if not cell.strip(" ")))
            for splitter in splitters:
                cells = split_line(line, splitter)
                seen = survey.counts[splitter].setdefault(len(cells), [0, name, number, cells])
                seen[0] += 1
    if simple:
        survey.gaps.add(())
    for counts in survey.counts.values():
        for count, (times, *first) in simple.items():
            seen = counts.setdefault(count, [0, *first])
            seen[0] += times
    return survey


def choose_splitter(survey: Survey, width: int | None) -> tuple[str, int]:
    """Choose the way to split by which all lines have the same number of columns.

    Args:
        survey ([`Survey`]): What was seen.
        width (`int`, *optional*): How many columns there are, where that is known.

    Returns:
        The way, and the number of columns.

    Raises:
        LayoutError: There is none, or there are two.
    """
    even = {splitter: next(iter(counts)) for splitter, counts in survey.counts.items() if len(counts) == 1}
    if width is not None:
        even = {splitter: found for splitter, found in even.items() if found == width}
    # A line without a tab may be a word without a tag that holds spaces.
    is_tabbed = survey.num_tabs >= _MOSTLY * survey.num_plain
    if survey.plain is not None and survey.num_tabs and (is_tabbed or (survey.has_spaces and "tabs" in even)):
        name, number, cells = survey.plain
        raise LayoutError(
            f"{name}, line {number}: no tab, as in other lines, but {shown(' '.join(cells), 60)}. Give the word a tag, "
            "or write the file with tabs or spaces only."
        )
    if len(survey.gaps) == 1 and () not in survey.gaps and "tab runs" in even:
        even.pop("tabs", None)  # two tabs stand between columns, and no empty column
    if 1 in survey.counts.get("tabs", {}) and survey.num_tabs and len(survey.counts["tabs"]) > 1:
        even.pop("blanks", None)  # a word without a tag, which may hold spaces
    if even:
        splitter, found = next(iter(even.items()))
        other = even.get("blanks", found)
        if other != found:
            name = survey.counts[splitter][found][1]
            raise LayoutError(
                f"{name} has {found} columns if tabs alone separate them, but {other} if spaces do too. Say which with "
                '--dataset_kwargs \'{"delimiter": "\\t"}\', or write it with tabs or spaces only.'
            )
        return splitter, found
    if is_tabbed and width is None:
        survey.counts.pop("blanks", None)
    # By which way do most lines agree?
    splitter = max(survey.counts, key=lambda one: max(seen[0] for seen in survey.counts[one].values()))
    counts = survey.counts[splitter]
    usual = width if width is not None else max(counts, key=lambda count: counts[count][0])
    _, name, number, cells = min((seen for count, seen in counts.items() if count != usual), key=lambda seen: seen[2])
    raise LayoutError(_ragged(name, number, cells, usual))


__all__ = [
    "Layout",
    "LayoutError",
    "Survey",
    "choose_splitter",
    "csv_splitter",
    "is_blank",
    "iterate_rows",
    "split_line",
    "survey_lines",
]
