"""Texts with standoff annotations, as brat writes them: `a.txt` and `a.ann` beside it."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from ..utils.messages import shown
from .spans import Document, Span, Units, find_units, holds, to_characters

_TEXT_BOUND = re.compile(r"(T\d+)\t(\S+) (\d+ \d+(?:;\d+ \d+)*)(?:\t(.*))?")


class BratSource(NamedTuple):
    """What a pair of files holds beside text and spans.

    Args:
        name (`str`): The name of the text's file.
        ids (`dict[tuple, str]`): The id of each span, by its start, its end and its label, in characters.
        others (`list[str]`): The lines of relations, events, attributes and notes.
    """

    name: str
    ids: dict[tuple[int, int, str], str]
    others: list[str]


def brat_texts(paths: Sequence[str]) -> list[Path] | None:
    """Find the texts that names mean: of texts or annotations that stand beside each other, or of a folder of them.

    Args:
        paths (`Sequence[str]`): Files or folders.

    Returns:
        `list[Path]`, *optional*: the texts, sorted; `None` where there are no annotations of brat.
    """
    texts = []
    for path in map(Path, paths):
        if path.is_dir():
            texts += [one.with_suffix(".txt") for one in path.rglob("*.ann")]
        elif path.suffix == ".ann" or (path.suffix == ".txt" and path.with_suffix(".ann").is_file()):
            texts.append(path.with_suffix(".txt"))
    return sorted(set(texts)) or None


def read_brat(path: Path) -> Document:
    r"""Read a text and its annotations.

    Offsets count the characters of the file, its line ends as they are; a span of several parts with no more than
    white space between is one.

    Args:
        path (`Path`): The text.

    Returns:
        [`Document`]: its `source` is a [`BratSource`].

    Raises:
        ValueError: A file that cannot be read, or a line that is none of brat's; with its name and number.

    Example:
    ```python
    >>> import tempfile
    >>> from pathlib import Path
    >>> from rnn_hf.formats.brat import read_brat
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.txt").write_text("Anna lives in Oslo.")
    ...     _ = Path(folder, "a.ann").write_text("T1\tPER 0 4\tAnna\nT2\tLOC 14 18\tOslo\n")
    ...     read_brat(Path(folder, "a.txt")).tags()
    ['B-PER', 'O', 'O', 'B-LOC', 'O']

    ```
    """
    text = _read(path)
    file = path.with_suffix(".ann")
    found: list[tuple[str, str, list[tuple[int, int]], str | None]] = []
    others = []
    for number, line in enumerate(re.split(r"\r?\n", _read(file)) if file.is_file() else [], start=1):
        if not line.startswith("T"):
            others += [line] if line.strip() else []
            continue
        match = _TEXT_BOUND.fullmatch(line)
        if match is None:
            raise ValueError(
                f"{file}, line {number}: a text-bound annotation must be as T1, tab, PER 0 4, tab, Anna; got "
                f"{shown(line)}."
            )
        name, label, bounds, held = match.groups()
        parts = [(int(start), int(end)) for start, end in (part.split() for part in bounds.split(";"))]
        found.append((name, label, parts, held))
    located = [(parts[0][0], parts[-1][1], held if len(parts) == 1 else None) for _, _, parts, held in found]
    units = find_units(text, located, Units())
    positions = units.positions(text)
    spans, ids, notes = [], {}, []
    for (name, label, parts, _), (first, last, held) in zip(found, located, strict=True):
        start, end = to_characters(positions, first, last)
        inner = [to_characters(positions, *part) for part in parts]
        gaps = [text[before[1] : after[0]] for before, after in pairwise(inner)]
        spans.append(Span(start, end, label, is_whole=not any(gap.strip() for gap in gaps)))
        ids[start, end, label] = name
        if held is not None and not holds(text, positions, first, last, held):
            notes.append("different")
    document = Document(text, spans, BratSource(path.name, ids, others), units=units, notes=notes)
    if not file.is_file():
        document.left_out = "have no .ann file"
    return document


def brat_lines(document: Document, spans: Sequence[Span]) -> str:
    r"""Write the annotations of a text: spans, and what else was there of those that stay.

    Args:
        document ([`Document`]): What [`read_brat`] returned.
        spans (`Sequence[Span]`): Other spans.

    Returns:
        `str`: the content of the `.ann` file.

    Example:
    ```python
    >>> from rnn_hf.formats.brat import BratSource, brat_lines
    >>> from rnn_hf.formats.spans import Document, Span
    >>> document = Document("Anna lives.", [], BratSource("a.txt", {}, []))
    >>> brat_lines(document, [Span(0, 4, "PER")]).split("\t")
    ['T1', 'PER 0 4', 'Anna\n']

    ```
    """
    source: Any = document.source
    positions = document.units.positions(document.text)
    free = max((int(name[1:]) for name in source.ids.values()), default=0) + 1
    lines, known = [], set()
    for span in spans:
        name = source.ids.get((span.start, span.end, span.label))
        if name is None:
            name, free = f"T{free}", free + 1
        known.add(name)
        bounds = ";".join(
            f"{positions[span.start + part.start()]} {positions[span.start + part.end()]}"
            for part in re.finditer(r"[^\r\n]+", document.text[span.start : span.end])
        )
        held = " ".join(re.findall(r"[^\r\n]+", document.text[span.start : span.end]))
        label = "_".join(span.label.split())
        lines.append(f"{name}\t{label} {bounds}\t{held}")
    others: list[str] = source.others
    while True:  # until nothing refers to what is left out
        kept = [line for line in others if _refers_to(line) <= known | {one.partition("\t")[0] for one in others}]
        if kept == others:
            return "".join(f"{line}\n" for line in [*lines, *others])
        others = kept


def _refers_to(line: str) -> set[str]:
    columns = line.split("\t")
    return set(re.findall(r"\b[TEARMN]\d+\b", columns[1])) if len(columns) > 1 else set()


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error.reason}).") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error


__all__ = ["BratSource", "brat_lines", "brat_texts", "read_brat"]
