"""Annotated spans of a text, and the tags of its words."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple

from ..text.words import split_words


class Span(NamedTuple):
    """A labelled part of a text.

    Args:
        start (`int`): Its first character.
        end (`int`): The character behind its last one.
        label (`str`): The label.
        is_whole (`bool`): Whether all in between belongs to it.
    """

    start: int
    end: int
    label: str
    is_whole: bool = True


class Units(NamedTuple):
    """What a file counts in its offsets: characters, or something else.

    Args:
        utf16 (`bool`): Whether a character beyond U+FFFF counts as two, as in JavaScript.
        joins_line_ends (`bool`): Whether a carriage return before a line feed does not count.
    """

    utf16: bool = False
    joins_line_ends: bool = False

    def positions(self, text: str) -> Sequence[int]:
        r"""Return the offset of each character of a text, and of its end.

        Example:
        ```python
        >>> from rnn_hf.formats.spans import Units
        >>> list(Units(utf16=True).positions("a😀b")), list(Units(joins_line_ends=True).positions("a\r\nb"))
        ([0, 1, 3, 4], [0, 1, 1, 2, 3])

        ```
        """
        if text.isascii() and "\r" not in text:
            return range(len(text) + 1)
        after = [*text[1:], ""]
        steps = (
            0 if self.joins_line_ends and one + next_one == "\r\n" else 2 if self.utf16 and one > "\uffff" else 1
            for one, next_one in zip(text, after, strict=True)
        )
        return list(accumulate(steps, initial=0)) if text else range(1)


@dataclass
class Document:
    """A text with spans, or a list of words with spans of words.

    Args:
        text (`str`): The text; empty where words are given.
        spans (`list[Span]`): Its spans, in characters; where words are given, in words.
        source (`Any`): What the file holds of it: a row, a task, …
        tokens (`list[str]`, *optional*): The words, where the file gives them.
        units ([`Units`]): What offsets count in the file.
        left_out (`str`, *optional*): Why there are no annotations to learn from.
        notes (`list[str]`): What is worth counting about it.

    Attributes:
        offsets (`list[tuple[int, int]]`): Where its words begin and end.
    """

    text: str
    spans: list[Span]
    source: Any = None
    tokens: list[str] | None = None
    units: Units = field(default_factory=Units)
    left_out: str | None = None
    notes: list[str] = field(default_factory=list)
    offsets: list[tuple[int, int]] = field(init=False)

    def __post_init__(self) -> None:
        self.offsets = split_words(self.text) if self.tokens is None else [(n, n + 1) for n in range(len(self.tokens))]

    @property
    def words(self) -> list[str]:
        """The words."""
        return [self.text[start:end] for start, end in self.offsets] if self.tokens is None else self.tokens

    def tags(self) -> list[str]:
        """Return the tags of the words, in IOB2; what spans they cannot show is counted in `notes`."""
        length = len(self.text) if self.tokens is None else len(self.tokens)
        return span_tags(self.offsets, self.spans, length, self.notes)


# What happens to spans, in the words of a message, by what is noted of them.
_NOTES = {
    "partial": "end inside a word, which is taken whole",
    "overlapping": "overlap another one or are nested in it, and are left out: the longest are kept",
    "gaps": "are in several parts, and are taken from beginning to end",
    "empty": "are empty, and are left out",
    "outside": "lie outside the text, and are left out",
    "different": "hold another text than there is at that place",
}


def span_tags(
    words: Sequence[tuple[int, int]], spans: Iterable[Span], length: int, notes: list[str] | None = None
) -> list[str]:
    """Make the IOB2 tags of words from spans.

    A word that is partly in a span is taken whole. Of spans that overlap, the longest ones are kept.

    Args:
        words (`Sequence[tuple[int, int]]`): Where each word begins and ends.
        spans (`Iterable[Span]`): The spans.
        length (`int`): Where the text ends.
        notes (`list[str]`, *optional*): Is given a word for each span that does not fit.

    Returns:
        `list[str]`: a tag for each word.

    Example:
    ```python
    >>> from rnn_hf.formats.spans import Span, span_tags
    >>> span_tags([(0, 3), (4, 8), (8, 9)], [Span(4, 8, "LOC")], 9)
    ['O', 'B-LOC', 'O']

    ```
    """
    notes = [] if notes is None else notes
    tags = ["O"] * len(words)
    begins, ends = [begin for begin, _ in words], [end for _, end in words]
    for span in sorted(spans, key=lambda one: (not one.is_whole, one.start - one.end, one.start)):
        if not 0 <= span.start <= span.end <= length:
            notes.append("outside")
            continue
        first, last = bisect_right(ends, span.start), bisect_left(begins, span.end)
        if first >= last or span.start == span.end:
            notes.append("empty")
        elif any(tag != "O" for tag in tags[first:last]):
            notes.append("overlapping")
        else:
            if begins[first] < span.start or ends[last - 1] > span.end:
                notes.append("partial")
            if not span.is_whole:
                notes.append("gaps")
            tags[first:last] = [f"B-{span.label}"] + [f"I-{span.label}"] * (last - first - 1)
    return tags


def tag_spans(words: Sequence[tuple[int, int]], tags: Sequence[str]) -> list[Span]:
    """Find the spans that tags mark.

    Tags may be IOB2 or IOBES, also where they are no valid sequence. A tag without a mark is a span of its word.

    Args:
        words (`Sequence[tuple[int, int]]`): Where each word begins and ends.
        tags (`Sequence[str]`): A tag for each word.

    Returns:
        `list[Span]`: the spans in their order.

    Example:
    ```python
    >>> from rnn_hf.formats.spans import tag_spans
    >>> [tuple(span)[:3] for span in tag_spans([(0, 3), (4, 8), (8, 9)], ["B-LOC", "I-LOC", "O"])]
    [(0, 8, 'LOC')]

    ```
    """
    spans: list[Span] = []
    inside = None  # the label of a span that goes on
    for (start, end), tag in zip(words, tags, strict=True):
        mark, label = (tag[0], tag[2:]) if re.match(r"[BIES]-.", tag) else ("S", tag)
        if tag == "O":
            inside = None
            continue
        if mark in "IE" and inside == label:
            spans[-1] = spans[-1]._replace(end=end)
        else:
            spans.append(Span(start, end, label))
        inside = label if mark in "BI" else None
    return spans


def mark_ends(tags: Sequence[str]) -> list[str]:
    """Mark where spans end too: IOB2 as IOBES.

    Args:
        tags (`Sequence[str]`): IOB2 tags of a sentence.

    Returns:
        `list[str]`: the tags of the same spans, of which the last word has `E-`, an only one `S-`.

    Example:
    ```python
    >>> from rnn_hf.formats.spans import mark_ends
    >>> mark_ends(["B-LOC", "O", "B-PER", "I-PER", "B-PER"])
    ['S-LOC', 'O', 'B-PER', 'E-PER', 'S-PER']

    ```
    """
    last = {"B": "S", "I": "E"}
    followed = zip(tags, [*tags, "O"][1:], strict=True)
    return [tag if tag == "O" or after == f"I{tag[1:]}" else f"{last[tag[0]]}{tag[1:]}" for tag, after in followed]


def find_units(text: str, located: Iterable[tuple[int, int, str | None]], default: Units) -> Units:
    r"""Find out what offsets count, by the texts that spans carry.

    Args:
        text (`str`): The text.
        located (`Iterable[tuple[int, int, str]]`): The offsets and the text of each span; `None` where it has no text.
        default ([`Units`]): What is taken where the texts do not tell.

    Returns:
        [`Units`]: those in which most spans have their text.

    Example:
    ```python
    >>> from rnn_hf.formats.spans import Units, find_units
    >>> find_units("😀 Anna", [(3, 7, "Anna")], Units())
    Units(utf16=True, joins_line_ends=False)

    ```
    """
    known = [(start, end, held) for start, end, held in located if held is not None]
    if not known or (text.isascii() and "\r" not in text):
        return default
    tried = dict.fromkeys([default, *(Units(utf16, joins) for joins in (False, True) for utf16 in (False, True))])
    return max(tried, key=lambda units: sum(holds(text, units.positions(text), *one) for one in known))


def holds(text: str, positions: Sequence[int], start: int, end: int, held: str) -> bool:
    """Tell whether a part of a text is what a span holds, but for white space.

    Args:
        text (`str`): The text.
        positions (`Sequence[int]`): The offset of each character, and of the end: see [`Units.positions`].
        start (`int`): Where the span begins, as an offset.
        end (`int`): Where it ends.
        held (`str`): What it holds.

    Example:
    ```python
    >>> from rnn_hf.formats.spans import holds
    >>> holds("Anna lives.", range(12), 0, 4, "Anna"), holds("Anna lives.", range(12), 1, 5, "Anna")
    (True, False)

    ```
    """
    return text[bisect_left(positions, start) : bisect_left(positions, end)].split() == held.split()


def to_characters(positions: Sequence[int], start: int, end: int) -> tuple[int, int]:
    """Turn offsets into indices of characters; those behind the end, or within a character, into ones behind the end.

    Args:
        positions (`Sequence[int]`): The offset of each character, and of the end: see [`Units.positions`].
        start (`int`): Where a span begins.
        end (`int`): Where it ends.

    Example:
    ```python
    >>> from rnn_hf.formats.spans import Units, to_characters
    >>> to_characters(Units(utf16=True).positions("a😀b"), 1, 3)
    (1, 2)

    ```
    """

    def index(offset: int) -> int:
        found = bisect_left(positions, offset)
        exists = 0 <= offset <= positions[-1] and positions[found] == offset
        return found if exists else len(positions) if offset > 0 else -1

    return index(start), index(end)


def describe_notes(num_spans: int, counts: dict[str, int]) -> str:
    """Say what happened to spans, in one sentence.

    Args:
        num_spans (`int`): How many there are.
        counts (`dict[str, int]`): How often each note was made.

    Example:
    ```python
    >>> from rnn_hf.formats.spans import describe_notes
    >>> describe_notes(1200, {"partial": 3, "empty": 1})
    'Of 1,200 spans, 3 end inside a word, which is taken whole; 1 are empty, and are left out.'

    ```
    """
    parts = [f"{counts[note]:,} {said}" for note, said in _NOTES.items() if counts.get(note)]
    return f"Of {num_spans:,} spans, {'; '.join(parts)}." if parts else ""


def tag_names(labels: Iterable[str]) -> list[str]:
    """Return the tags of spans with these labels: outside of all, and at the beginning and inside of each.

    Example:
    ```python
    >>> from rnn_hf.formats.spans import tag_names
    >>> tag_names({"PER", "LOC"})
    ['O', 'B-LOC', 'I-LOC', 'B-PER', 'I-PER']

    ```
    """
    return ["O", *(f"{mark}-{label}" for label in sorted(labels) for mark in "BI")]


__all__ = [
    "Document",
    "Span",
    "Units",
    "describe_notes",
    "find_units",
    "holds",
    "span_tags",
    "tag_names",
    "tag_spans",
    "to_characters",
]
