"""Files of annotated texts: recognised by their content, read as words and tags, written with other spans.

Neither takes more than the tokenizers library, so that prediction reads them too.
"""

import bz2
import glob
import gzip
import json
import lzma
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

from ..utils.display import printable
from ..utils.messages import listed, shown
from .annotations import RowFormat, TextPairs, recognise
from .brat import brat_lines, brat_texts, read_brat
from .spans import Document, describe_notes, tag_spans

_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_JSON_ENDINGS = (".json", ".jsonl", ".ndjson", ".txt", "")
# Rows that are looked at to recognise a format.
_MOST_ROWS = 1000
_MOST_BYTES = 2**22
# One of these stands near the beginning of a list of annotated texts; other lists are not read to their end.
_KEYS = (b'"start', b'"label', b'"entities"', b'"spans"', b'"annotations"', b'"completions"', b'"tokenized_text"')


@dataclass
class SpanFile:
    """A file, or several, of texts with annotated spans.

    Args:
        name (`str`): What the user calls it, for messages.
        paths (`list[str]`): The files; of brat, the texts.
        row_format (`RowFormat`, *optional*): What a row of JSON holds; brat's files without it.
        is_list (`bool`): Whether the file is one list, rather than a row a line.
    """

    name: str
    paths: list[str]
    row_format: RowFormat | None = None
    is_list: bool = False

    @property
    def title(self) -> str:
        """What tool writes such files."""
        return "brat" if self.row_format is None else self.row_format.title

    @property
    def folder(self) -> Path:
        """The folder that all files are in."""
        return Path(os.path.commonpath([os.path.dirname(path) for path in self.paths]) or ".")

    def documents(self) -> Iterator[Document]:
        """Yield the documents in their order.

        Raises:
            ValueError: A row, or a line, that is none of the format; with the file, the row and the value.
        """
        seen = set()
        for path in self.paths:
            if self.row_format is None:
                yield read_brat(Path(path))
                continue
            for number, row in enumerate(_rows(path), start=1):
                try:
                    if not isinstance(row, dict) and not isinstance(self.row_format, TextPairs):
                        raise ValueError(f"a row must be an object, got {shown(row)}.")
                    document = self.row_format.read(row)
                except ValueError as error:
                    raise ValueError(f"{printable(path)}, row {number}: {error}") from error
                identity = self.row_format.identity(row)
                if identity is not None and document.left_out is None:
                    if identity in seen:
                        document.left_out = "repeat a text for another annotator, of whom the first is taken"
                    seen.add(identity)
                yield document

    def write(self, documents: Iterable[tuple[Document, Sequence[str]]]) -> Iterator[str]:
        """Write documents with other tags in place of theirs; all else stays.

        Args:
            documents (`Iterable[tuple[Document, Sequence[str]]]`): What [`documents`] yields, and a tag for each word.

        Yields:
            `str`: parts of a file of the same format; of brat's, the annotations of a text.
        """
        first = True
        for document, tags in documents:
            spans = tag_spans(document.offsets, tags)
            if self.row_format is None:
                yield brat_lines(document, spans)
                continue
            row = json.dumps(self.row_format.write(document, spans), ensure_ascii=False)
            if not self.is_list:
                yield row + "\n"
            else:
                yield ("[\n" if first else ",\n") + row
                first = False
        if self.is_list and self.row_format is not None:
            yield "[]\n" if first else "\n]\n"


@dataclass
class SpanSummary:
    """What a file of annotated texts holds.

    Args:
        num_documents (`int`): Texts with annotations.
        num_spans (`int`): Their spans.
        labels (`set[str]`): The labels.
        notes (`Counter[str]`): How often something was noted about a span or a text.
        left_out (`Counter[str]`): How many texts are left out, by the reason.
    """

    num_documents: int = 0
    num_spans: int = 0
    labels: set[str] = field(default_factory=set)
    notes: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, document: Document) -> list[str] | None:
        """Count a document, and return the tags of its words; `None` where it is left out."""
        if document.left_out is not None:
            self.left_out[document.left_out] += 1
            return None
        tags = document.tags()
        self.num_documents += 1
        self.num_spans += len(document.spans)
        self.labels.update(span.label for span in document.spans)
        self.notes.update(document.notes)
        return tags

    def describe(self, file: SpanFile) -> str:
        """Say what the file holds, and what is left out."""
        parts = [
            f"{printable(file.name)} is read as an export of {file.title}: {self.num_documents:,} texts with "
            f"{self.num_spans:,} spans of {len(self.labels):,} labels ({listed(sorted(self.labels))}).",
            describe_notes(self.num_spans, self.notes),
        ]
        if several := self.notes["annotators"]:
            parts.append(f"{several:,} texts have several annotations, of which the first is taken.")
        if self.left_out:
            reasons = "; ".join(f"{number:,} {reason}" for reason, number in self.left_out.items())
            parts.append(f"Texts left out: {reasons}.")
        return " ".join(filter(None, parts))


def find_span_file(file: str) -> SpanFile | None:
    """Recognise a file of annotated texts by its content.

    Args:
        file (`str`): A local file, a pattern, or a folder of brat.

    Returns:
        [`SpanFile`], *optional*: `None` where it is none, or cannot be read.

    Raises:
        ValueError: Annotations by Label Studio of something else than texts.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf.formats.span_files import find_span_file
    >>> with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
    ...     _ = file.write('{"text": "Anna lives in Oslo.", "label": [[0, 4, "PER"], [14, 18, "LOC"]]}')
    ...     file.flush()
    ...     (document,) = find_span_file(file.name).documents()
    >>> document.words, document.tags()
    (['Anna', 'lives', 'in', 'Oslo', '.'], ['B-PER', 'O', 'O', 'B-LOC', 'O'])

    ```
    """
    paths = _local(file)
    if texts := brat_texts(paths):
        return SpanFile(file, [str(path) for path in texts])
    if not paths or any(not os.path.isfile(path) or _ending(path) not in _JSON_ENDINGS for path in paths):
        return None
    rows: list[Any] = []
    is_list = None
    with suppress(ValueError, OSError, EOFError, RecursionError, lzma.LZMAError):  # what is damaged is said in reading
        is_list = _is_list(paths[0])
        rows.extend(() if is_list is None else islice(_rows(paths[0]), _MOST_ROWS))
    try:
        row_format = recognise(rows)
    except ValueError as error:
        raise ValueError(f"{printable(file)}: {error}") from error
    return None if row_format is None else SpanFile(file, paths, row_format, bool(is_list))


def _local(file: str) -> list[str]:
    if "://" in file:
        return []
    with suppress(OSError, ValueError):
        if os.path.exists(file):
            return [file]
        return sorted(glob.iglob(file, recursive=True))
    return []


def _ending(path: str) -> str:
    name = Path(path)
    return Path(name.stem if name.suffix in _OPENERS else name.name).suffix.lower()


def _open(path: str) -> IO[bytes]:
    opener = _OPENERS.get(Path(path).suffix, open)
    return opener(path, "rb")


def _is_list(path: str) -> bool | None:
    """Tell a list of rows from rows that are lines; `None` of what is no JSON."""
    with _open(path) as file:
        beginning = file.read(_MOST_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip()
    if beginning.startswith(b"["):
        return True if any(key in beginning for key in _KEYS) or beginning[1:].strip() == b"]" else None
    return False if beginning.startswith(b"{") else None


def _rows(path: str) -> Iterator[Any]:
    """Yield the rows of a JSON file.

    Raises:
        ValueError: A line that is no JSON, with its number.
    """
    try:
        with _open(path) as file:
            if _is_list(path):
                yield from json.loads(file.read().decode("utf-8-sig"))
                return
            for number, line in enumerate(file, start=1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                if text.strip():
                    try:
                        yield json.loads(text)
                    except json.JSONDecodeError as error:
                        raise ValueError(
                            f"{printable(path)}, line {number}: {error.msg}: {shown(text.strip(), 60)}."
                        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{printable(path)} is not UTF-8 ({error.reason}).") from error


__all__ = ["SpanFile", "SpanSummary", "find_span_file"]
