"""Find out how tags mark spans (IOB1, BILOU, `PER-B`, …), and bring them to IOB2.

One rule reads all schemes: a span begins at a mark that begins one (`B`, `S`, `U`, `W`), at another type, and after `O`
or a mark that ends one (`E`, `L`, `S`, `U`, `W`). It is that of `conlleval` and of seqeval's default mode.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..models.labels import tagging_scheme
from ..utils.messages import listed, shown

SchemeName = Literal["io", "iob1", "iob2", "ioe1", "ioe2", "iobes", "bilou", "bmes"]
TagSchemeOption = Literal["auto", "none", "io", "iob1", "iob2", "ioe1", "ioe2", "iobes", "bilou", "bmes"]

# The type of spans whose marks stand alone: B, I, O.
SPAN_TYPE = "SPAN"

# The marks that occur together, and what they mean: begin, inside, end, single.
_FAMILIES: dict[str, dict[str, str]] = {
    "iobes": {"B": "B", "I": "I", "E": "E", "S": "S"},
    "bilou": {"B": "B", "I": "I", "L": "E", "U": "S"},
    "bmes": {"B": "B", "M": "I", "E": "E", "S": "S"},
    "bmewo": {"B": "B", "M": "I", "E": "E", "W": "S"},
}
_FAMILIES_OF: dict[str, list[str]] = {name: ["iobes"] for name in get_args(SchemeName)}
_FAMILIES_OF |= {"bilou": ["bilou"], "bmes": ["bmes", "bmewo"]}
_MARKS_OF = {"iob1": "BI", "iob2": "BI", "ioe1": "IE", "ioe2": "IE"}
_SEPARATORS = "-_:./|"
# Tags of more kinds than this mark no spans.
MOST_TAGS = 5000
# What share of the marks may contradict the scheme that they are taken for, where little else speaks for it.
_MOST_FAULTS = 0.1
# What share of the tags may fit no scheme, so that these and not the scheme are wrong.
_MOST_STRAYS = 0.2
# How many spans must be right where no word is outside of one.
_LEAST_SPANS = 5

# Bigrams of tags; `None` stands before and after each sentence.
Bigrams = Counter[tuple[str | None, str | None]]


@dataclass(frozen=True)
class TagScheme:
    r"""How tags mark spans, and how they are written.

    Args:
        name (`str`): `"iob1"`, `"iob2"`, `"ioe1"`, `"ioe2"`, `"iobes"`, `"bilou"` or `"bmes"`; `"io"` where tags
            are types without marks, and equal ones in a row are a span.
        separator (`str`): Between mark and type; empty where tags have no type.
        is_suffix (`bool`): Whether the mark stands behind the type.
        is_lower (`bool`): Whether marks are lower case.
        family (`str`): Which letters are marks.

    Example:
    ```python
    >>> from rnn_hf.formats.tag_schemes import TagScheme
    >>> TagScheme("bilou", "_").to_iob2(["U_LOC", "O", "B_PER", "I_PER", "L_PER"])
    ['B-LOC', 'O', 'B-PER', 'I-PER', 'I-PER']

    ```
    """

    name: str
    separator: str = "-"
    is_suffix: bool = False
    is_lower: bool = False
    family: str = ""

    def split(self, tag: str | None) -> tuple[str, str] | None:
        """Split a tag into what its mark means, and its type.

        Args:
            tag (`str`, *optional*): A tag; none stands for the end of a sentence.

        Returns:
            `B`, `I`, `E` or `S` with the type; `("O", "")` outside of spans; `None` where the tag does not fit.
        """
        if tag is None or tag == "O" or (self.is_lower and tag == "o"):
            return "O", ""
        if self.name == "io":
            return "I", tag
        if not self.separator:
            mark, kind = tag, SPAN_TYPE
        elif self.is_suffix:
            kind, _, mark = tag.rpartition(self.separator)
        else:
            mark, _, kind = tag.partition(self.separator)
        meaning = self._marks.get(mark, "")
        return (meaning, kind) if kind and meaning and meaning in self._allowed else None

    @property
    def _marks(self) -> dict[str, str]:
        marks = _FAMILIES[self.family or _FAMILIES_OF[self.name][0]]
        return {mark.lower(): meaning for mark, meaning in marks.items()} if self.is_lower else marks

    def to_iob2(self, tags: Sequence[Any]) -> list[Any]:
        """Bring the tags of a sentence to IOB2.

        Args:
            tags (`list[str]`): Tags of the scheme; others stay as they are.

        Returns:
            `list[str]`: as many tags: `O`, `B-…` and `I-…`.
        """
        converted = []
        before: tuple[str, str] | None = ("O", "")
        for tag in tags:
            here = self.split(tag) if isinstance(tag, str) else None
            if here is None:
                converted.append(tag)
            else:
                converted.append(here[0] if here[0] == "O" else f"{'B' if _begins(before, here) else 'I'}-{here[1]}")
            before = here
        return converted

    def label_to_iob2(self, label: str) -> str:
        """Bring a label to IOB2 that stands in no sentence: what ends a span goes on with it."""
        mark, kind = self.split(label) or ("", "")
        return f"{'B' if mark in 'BS' else 'I'}-{kind}" if kind else label

    @property
    def is_plain(self) -> bool:
        """Whether tags are written as those of IOB2 are."""
        return self.name == "iob2" and self.separator == "-" and not self.is_suffix and not self.is_lower

    def __str__(self) -> str:
        if self.name == "io":
            return "IO, written as TYPE"
        name = "BMEWO" if self.family == "bmewo" else self.name.upper()
        marks = [mark for mark, meaning in self._marks.items() if meaning in ("B" if "B" in self._allowed else "I")]
        kind = "TYPE" if self.separator else ""
        parts = [kind, self.separator, marks[0]] if self.is_suffix else [marks[0], self.separator, kind]
        is_usual = self.separator == "-" and not self.is_suffix and not self.is_lower
        return name if is_usual else f"{name}, written as {''.join(parts)}"

    @property
    def _allowed(self) -> str:
        return _MARKS_OF.get(self.name, "BIES")


def _begins(before: tuple[str, str] | None, here: tuple[str, str]) -> bool:
    return before is None or here[0] in "BS" or before[0] in "OES" or before[1] != here[1]


@dataclass(frozen=True)
class TagCounts:
    """What the tags of a corpus are, read by a scheme.

    Args:
        spans (`int`): Number of spans.
        types (`int`): Number of their types.
        faults (`int`): Tags that the scheme does not allow where they stand.
        fault (`str`): One of them, with the tag before it.
    """

    spans: int
    types: int
    faults: int
    fault: str = ""


def find_scheme(bigrams: Bigrams, names: Sequence[str], wanted: str = "auto") -> TagScheme | None:
    """Find the scheme that tags are in, if they mark spans at all.

    Parts of speech are not to be taken for marks. Therefore all tags must fit the scheme, and `O` must be among them,
    or `B-` and its like; and for other marks and separators than the usual ones there must be spans of several words.

    Args:
        bigrams (`Counter`): How often one tag follows another; `None` stands before and after a sentence.
        names (`Sequence[str]`): All tags.
        wanted (`str`): The scheme where it is known, else `"auto"`.

    Returns:
        [`TagScheme`], or `None` where the tags stand for themselves.

    Raises:
        ValueError: The tags do not fit the scheme that is wanted; or most fit one, and some do not.

    Example:
    ```python
    >>> from collections import Counter
    >>> from rnn_hf.formats.tag_schemes import count_bigrams, find_scheme
    >>> find_scheme(count_bigrams([["I-PER", "I-PER", "O", "I-LOC", "B-LOC"]]), ["B-LOC", "I-LOC", "I-PER", "O"])
    TagScheme(name='iob1', separator='-', is_suffix=False, is_lower=False, family='iobes')

    ```
    """
    inside = [name for name in names if name not in ("O", "o")]
    if not inside or len(inside) > MOST_TAGS:
        return None
    candidates = list(_candidates(wanted))
    for candidate in candidates:
        if all(map(candidate.split, names)) and (wanted != "auto" or _is_evident(candidate, bigrams, names)):
            return _named(candidate, bigrams, inside, wanted)
    counts = Counter(dict.fromkeys(names, 0))
    for (_, tag), count in bigrams.items():
        if tag is not None:
            counts[tag] += count
    # Where few tags alone make it another scheme than IOB2, they are strays.
    plainer = [_renamed(one, "iob2") for one in candidates if one.family == "iobes" and wanted == "auto"]
    for candidate in [*plainer, *candidates]:
        strays = [name for name in names if candidate.split(name) is None]
        fitting = [name for name in inside if name not in strays]
        few = sum(counts[name] for name in strays) <= _MOST_STRAYS * sum(counts[name] for name in (*inside, *strays))
        if strays and fitting and (wanted != "auto" or (few and "O" in names and _has_long_spans(candidate, bigrams))):
            name = _named(candidate, bigrams, fitting, wanted).name
            cure = "Correct it, or leave all tags as they are with --tag_scheme none"
            raise StrayTagError(
                strays[0],
                _named(candidate, bigrams, fitting, wanted),
                f"the tag {shown(strays[0])} does not fit the others, which are in {name.upper()} as "
                f"{listed(fitting, most=3)}. {cure}.",
            )
    if wanted == "auto" and tagging_scheme(names) is not None:
        return _named(candidates[0], bigrams, inside, wanted)
    if wanted != "auto":
        raise StrayTagError(
            inside[0],
            None,
            f"the tag {shown(inside[0])} is none of {wanted.upper()}: name another --tag_scheme, or leave it out.",
        )
    return None


def types_of(names: Iterable[str]) -> frozenset[str] | None:
    """Return the types of spans that tags may mark, if `O` is among them and all could be marks.

    Args:
        names (`Iterable[str]`): All tags of a column.

    Example:
    ```python
    >>> from rnn_hf.formats.tag_schemes import types_of
    >>> types_of(["O", "PER-B", "PER-I"]), types_of(["O", "NN"])
    (frozenset({'PER'}), None)

    ```
    """
    names = set(names)
    if "O" in names and len(names) > 1:
        for candidate in _candidates("auto"):
            if all(parts := [candidate.split(name) for name in names]):
                return frozenset(part[1] for part in parts if part is not None and part[1])
    return None


class StrayTagError(ValueError):
    """A tag that does not fit the scheme of the others."""

    def __init__(self, tag: str, scheme: TagScheme | None, message: str):
        super().__init__(message)
        self.tag, self.scheme = tag, scheme


def _candidates(wanted: str) -> Iterator[TagScheme]:
    families = list(_FAMILIES) if wanted == "auto" else _FAMILIES_OF[wanted]
    for is_suffix in (False, True):
        for separator in _SEPARATORS:
            for is_lower in (False, True):
                for family in families:
                    name = wanted if wanted != "auto" else "bmes" if family == "bmewo" else family
                    yield TagScheme(name, separator, is_suffix, is_lower, family)
    for is_lower in (False, True):
        for family in families:
            name = wanted if wanted != "auto" else "bmes" if family == "bmewo" else family
            yield TagScheme(name, "", False, is_lower, family)


def _is_evident(scheme: TagScheme, bigrams: Bigrams, names: Sequence[str]) -> bool:
    marks = {part[0] for part in map(scheme.split, names) if part is not None} - {"O"}
    has_outside = "O" in names or (scheme.is_lower and "o" in names)
    is_usual = scheme.separator == "-" and not scheme.is_suffix and not scheme.is_lower
    is_iob = marks <= {"B", "I"} or marks <= {"I", "E"}
    if is_usual and scheme.family == "iobes" and is_iob:
        return has_outside or tagging_scheme(names) is not None
    is_long = _has_long_spans(scheme, bigrams)
    if scheme.separator and has_outside and marks == {"B"} and not scheme.is_suffix and not scheme.is_lower:
        return True
    total = sum(count for (_, tag), count in bigrams.items() if (scheme.split(tag) or "O")[0] != "O")
    faults = count_spans(_named(scheme, bigrams, names, "auto"), bigrams).faults
    if has_outside or (is_usual and "B" in marks):
        return (is_long or (is_usual and scheme.family == "iobes")) and faults <= _MOST_FAULTS * total
    # Words are cut out of text so, where each character is part of one.
    is_cut = not scheme.separator and is_long and "B" in marks and faults == 0
    return is_cut and count_spans(scheme, bigrams).spans >= _LEAST_SPANS


def _has_long_spans(scheme: TagScheme, bigrams: Bigrams) -> bool:
    for before, tag in bigrams:
        here, previous = scheme.split(tag), scheme.split(before)
        if here is not None and here[0] != "O" and previous is not None and not _begins(previous, here):
            return True
    return False


def _named(scheme: TagScheme, bigrams: Bigrams, inside: Sequence[str], wanted: str) -> TagScheme:
    """Tell schemes apart that use the same marks."""
    name = scheme.name
    marks = {part[0] for part in map(scheme.split, inside) if part is not None} - {"O"}
    if wanted == "auto" and scheme.family == "iobes":
        if marks <= {"B", "I"}:
            iob1, iob2 = (count_spans(_renamed(scheme, one), bigrams).faults for one in ("iob1", "iob2"))
            name = "iob2" if iob2 < iob1 or iob2 == 0 else "iob1"
        elif marks <= {"I", "E"}:
            ioe1, ioe2 = (count_spans(_renamed(scheme, one), bigrams).faults for one in ("ioe1", "ioe2"))
            name = "ioe2" if ioe2 < ioe1 or ioe2 == 0 else "ioe1"
    return _renamed(scheme, name)


def _renamed(scheme: TagScheme, name: str) -> TagScheme:
    return TagScheme(name, scheme.separator, scheme.is_suffix, scheme.is_lower, scheme.family)


def count_spans(scheme: TagScheme, bigrams: Bigrams) -> TagCounts:
    """Count spans, and tags that the scheme does not allow where they stand.

    Args:
        scheme ([`TagScheme`]): How the tags are read.
        bigrams (`Counter`): How often one tag follows another.

    Returns:
        [`TagCounts`]

    Example:
    ```python
    >>> from rnn_hf.formats.tag_schemes import TagScheme, count_bigrams, count_spans
    >>> count_spans(TagScheme("iob2"), count_bigrams([["O", "I-PER", "O", "B-PER", "I-PER"]]))
    TagCounts(spans=2, types=1, faults=1, fault="'I-PER' after 'O'")

    ```
    """
    spans, faults, fault = 0, 0, ""
    types: set[str] = set()
    for (before, tag), count in bigrams.items():
        previous, here = scheme.split(before), scheme.split(tag)
        if here is None:
            continue
        if here[0] != "O":
            types.add(here[1])
            spans += count if _begins(previous, here) else 0
        if _is_fault(scheme.name, previous or ("O", ""), here):
            faults += count
            what = "the end of a sentence" if tag is None else shown(tag)
            fault = fault or f"{what} after {'the beginning of a sentence' if before is None else shown(before)}"
    return TagCounts(spans, len(types), faults, fault)


def _is_fault(name: str, before: tuple[str, str], here: tuple[str, str]) -> bool:
    if name == "io":
        return False
    is_same = before[0] != "O" and before[1] == here[1]
    if name == "iob1":
        return here[0] == "B" and not is_same
    if name == "iob2":
        return here[0] == "I" and not is_same
    if name == "ioe1":
        return before[0] == "E" and not is_same
    if name == "ioe2":
        return before[0] == "I" and not is_same
    is_open = before[0] in "BI"
    return (here[0] in "IE") != is_open or (is_open and not is_same)


def count_bigrams(sentences: Iterable[Sequence[Any]]) -> Bigrams:
    """Count which tag follows which; `None` stands before and after each sentence.

    Args:
        sentences (`Iterable[list[str]]`): Tags of each sentence.

    Example:
    ```python
    >>> from rnn_hf.formats.tag_schemes import count_bigrams
    >>> count_bigrams([["O", "O"]])
    Counter({(None, 'O'): 1, ('O', 'O'): 1, ('O', None): 1})

    ```
    """
    bigrams: Bigrams = Counter()
    for tags in sentences:
        if tags and all(isinstance(tag, str) for tag in tags):
            bigrams.update(zip([None, *tags], [*tags, None], strict=True))
    return bigrams


__all__ = [
    "MOST_TAGS",
    "SPAN_TYPE",
    "Bigrams",
    "SchemeName",
    "StrayTagError",
    "TagCounts",
    "TagScheme",
    "TagSchemeOption",
    "count_bigrams",
    "count_spans",
    "find_scheme",
    "types_of",
]
