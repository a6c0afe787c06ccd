"""Annotated texts in the JSON of annotation tools: what a row holds, and how predicted spans go into it.

These are doccano, Prodigy, Label Studio (JSON and JSON-MIN), and the words with spans that GLiNER is trained on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..utils.messages import shown
from .spans import Document, Span, Units, find_units, holds, to_characters

# Columns that hold the text where they exist.
_TEXT_COLUMNS = ("text", "data", "sentence", "content")
# Columns of spans that are recognised where they hold none in any row that was looked at, and how spans are written.
_SPAN_COLUMNS = {"spans": "spans", "entities": "offsets"}
# What tool writes spans in each form, in columns of which names.
_TITLES: dict[str, tuple[str, tuple[str, ...]]] = {
    "triples": ("doccano", ("label", "labels", "entities")),
    "offsets": ("doccano", ("entities",)),
    "spans": ("Prodigy", ("spans",)),
    "regions": ("Label Studio (JSON-MIN)", ("label",)),
}
_NOT_ACCEPTED = ("reject", "ignore")
MODEL_VERSION = "rnn_hf"


@dataclass
class SpanRows:
    """Rows with a text and a list of its spans, as doccano, Prodigy, and Label Studio in its JSON-MIN write them.

    Args:
        text_column (`str`): The column of the texts.
        column (`str`): The column of the spans.
        form (`str`): How a span is written: `"triples"`, `[0, 4, "PER"]`; `"offsets"`, with `start_offset` and
            `end_offset`; `"spans"`, with `start`, `end` and `label`; `"regions"`, with `labels` and `text`.
    """

    text_column: str
    column: str
    form: str

    @property
    def title(self) -> str:
        """What tool writes this."""
        title, columns = _TITLES[self.form]
        return title if self.column in columns else f"a tool such as {title}"

    def read(self, row: dict[str, Any]) -> Document:
        """Turn a row into a document.

        Raises:
            ValueError: It has no text, or something else than spans.
        """
        text, items = _text(row, self.text_column), row.get(self.column) or []
        if not isinstance(items, list):
            raise ValueError(f"{self.column!r} must hold a list of spans, got {shown(items)}.")
        for item in items:
            if _form(item) != self.form:
                raise ValueError(f"{self.column!r} must hold spans as in the other rows, got {shown(item)}.")
        default = Units(utf16=self.form == "regions")
        located = [(start, end, label, held) for item in items for start, end, label, held in _located(item)]
        document = _document(text, located, default, row)
        if row.get("answer") in _NOT_ACCEPTED:
            document.left_out = "were rejected or ignored"
        return document

    def identity(self, row: dict[str, Any]) -> Any:
        """Return what rows of the same text by several annotators have in common; `None` where there is one."""
        if "annotator" in row:
            return row.get("id")
        return row.get("_input_hash") if "_session_id" in row or "_annotator_id" in row else None

    def write(self, document: Document, spans: Sequence[Span]) -> dict[str, Any]:
        """Return the row with other spans, and all else as it was."""
        row, positions = dict(document.source), document.units.positions(document.text)
        bounds = [(positions[span.start], positions[span.end], span.label) for span in spans]
        if self.form == "triples":
            return row | {self.column: [list(one) for one in bounds]}
        if self.form == "regions":
            texts = [document.text[span.start : span.end] for span in spans]
            regions = [
                {"start": start, "end": end, "text": text, "labels": [label]}
                for (start, end, label), text in zip(bounds, texts, strict=True)
            ]
            return row | {self.column: regions}
        if self.form == "spans":
            return row | {self.column: [_with_tokens(row.get("tokens"), *one) for one in bounds]}
        old = {(one["start_offset"], one["end_offset"], one["label"]): one for one in row.get(self.column) or []}
        free = max((one["id"] for one in old.values() if isinstance(one.get("id"), int)), default=-1) + 1
        entities = []
        for position, one in enumerate(bounds):
            new = {"id": free + position, "label": one[2], "start_offset": one[0], "end_offset": one[1]}
            entities.append(old.get(one, new))
        if isinstance(row.get("relations"), list):
            ids = [one.get("id") for one in entities]
            row["relations"] = [
                one for one in row["relations"] if one.get("from_id") in ids and one.get("to_id") in ids
            ]
        return row | {self.column: entities}


@dataclass
class LabelStudioTasks:
    """Tasks of Label Studio in its JSON format; predictions are added to those that a task has.

    Args:
        text_column (`str`): Where in `data` the text is.
        names (`tuple[str, str, str]`): `from_name`, `to_name` and `type` of the regions.
    """

    text_column: str
    names: tuple[str, str, str] = ("label", "text", "labels")
    title: ClassVar[str] = "Label Studio"

    def read(self, row: dict[str, Any]) -> Document:
        """Turn a task into a document with the spans of its first annotation, or of the one marked as ground truth.

        Raises:
            ValueError: It has no text, or offsets that are no numbers.
        """
        text = _text(row.get("data") or {}, self.text_column)
        annotations = _annotations(row)
        annotation = next((one for one in annotations if one.get("ground_truth")), (annotations or [{}])[0])
        located = [
            (*_bounds(value), label, value.get("text")) for value in _regions(annotation) for label in _labels(value)
        ]
        document = _document(text, located, Units(utf16=True), row)
        if not annotations:
            document.left_out = "have no annotation that was not cancelled"
        if len(annotations) > 1:
            document.notes.append("annotators")
        return document

    def identity(self, row: dict[str, Any]) -> Any:
        """Return `None`: all annotations of a text are in one task."""

    def write(self, document: Document, spans: Sequence[Span]) -> dict[str, Any]:
        """Return the task with a prediction."""
        row, positions = document.source, document.units.positions(document.text)
        from_name, to_name, kind = self.names
        result = [
            {
                "id": f"{MODEL_VERSION}_{position}",
                "from_name": from_name,
                "to_name": to_name,
                "type": kind,
                "value": {
                    "start": positions[span.start],
                    "end": positions[span.end],
                    "text": document.text[span.start : span.end],
                    kind: [span.label],
                },
            }
            for position, span in enumerate(spans)
        ]
        others = [
            one
            for one in row.get("predictions") or []
            if not (isinstance(one, dict) and one.get("model_version") == MODEL_VERSION)
        ]
        return row | {"predictions": [*others, {"model_version": MODEL_VERSION, "result": result}]}


@dataclass
class WordRows:
    """Rows with words, `tokenized_text`, and spans of words, `ner`, the last word included, as GLiNER reads them."""

    title: ClassVar[str] = "GLiNER"

    def read(self, row: dict[str, Any]) -> Document:
        """Turn a row into a document.

        Raises:
            ValueError: It has no words, or something else than spans.
        """
        words, items = row.get("tokenized_text"), row.get("ner") or []
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError(f"'tokenized_text' must hold a list of words, got {shown(words)}.")
        for item in items if isinstance(items, list) else [items]:
            if _form(item) != "triples":
                raise ValueError(f"'ner' must hold spans of words as [0, 1, \"PER\"], got {shown(item)}.")
        return Document("", [Span(first, last + 1, label) for first, last, label in items], row, words)

    def identity(self, row: dict[str, Any]) -> Any:
        """Return `None`: rows do not tell who annotated them."""

    def write(self, document: Document, spans: Sequence[Span]) -> dict[str, Any]:
        """Return the row with other spans."""
        return document.source | {"ner": [[span.start, span.end - 1, span.label] for span in spans]}


@dataclass
class TextPairs:
    """Pairs of a text and `{"entities": [[0, 4, "PER"]]}`, as spaCy was trained on."""

    title: ClassVar[str] = "spaCy (pairs)"

    def read(self, row: Any) -> Document:
        """Turn a pair into a document.

        Raises:
            ValueError: It is no such pair.
        """
        if not _is_pair(row):
            raise ValueError(f'a row must be a pair [text, {{"entities": [[0, 4, "PER"]]}}], got {shown(row)}.')
        text, items = row[0], row[1]["entities"]
        return _document(text, [one for item in items for one in _located(item)], Units(), row)

    def identity(self, row: Any) -> Any:
        """Return `None`: pairs do not tell who annotated them."""

    def write(self, document: Document, spans: Sequence[Span]) -> Any:
        """Return the pair with other spans."""
        positions = document.units.positions(document.text)
        entities = [[positions[span.start], positions[span.end], span.label] for span in spans]
        text, annotations = document.source
        return [text, annotations | {"entities": entities}]


def _is_pair(row: Any) -> bool:
    if not (isinstance(row, list) and len(row) == 2 and isinstance(row[0], str) and isinstance(row[1], dict)):
        return False
    items = row[1].get("entities")
    return isinstance(items, list) and all(_form(item) == "triples" for item in items)


RowFormat = SpanRows | LabelStudioTasks | WordRows | TextPairs


def recognise(rows: Iterable[Any]) -> RowFormat | None:
    """Tell which tool has written rows.

    Args:
        rows (`Iterable[Any]`): The first rows of a file.

    Returns:
        The format, or `None` where they hold no spans.

    Raises:
        ValueError: Tasks of Label Studio with regions that are not of a text.

    Example:
    ```python
    >>> from rnn_hf.formats.annotations import recognise
    >>> recognise([{"id": 1, "text": "Anna", "label": [[0, 4, "PER"]]}])
    SpanRows(text_column='text', column='label', form='triples')

    ```
    """
    rows = list(rows)
    if rows and _is_pair(rows[0]):
        return TextPairs()
    rows = [row for row in rows if isinstance(row, dict)]
    for row in rows:
        if isinstance(row.get("tokenized_text"), list) and isinstance(row.get("ner"), list):
            return WordRows()
    if rows and all(_is_task(row) for row in rows):
        return _recognise_tasks(rows)
    for row in rows:
        for column, items in row.items():
            forms = {_form(item) for item in items} if isinstance(items, list) else set()
            if len(forms) == 1 and None not in forms and not _holds_words(row):
                located = [one for item in items for one in _located(item)]
                if text_column := _find_text(row, [(start, end, held) for start, end, _, held in located]):
                    return SpanRows(text_column, column, str(forms.pop()))
    for row in rows:
        for column, form in _SPAN_COLUMNS.items():
            if row.get(column) == [] and isinstance(row.get("text"), str) and not _holds_words(row):
                return SpanRows("text", column, form)
    return None


def _recognise_tasks(rows: list[dict[str, Any]]) -> LabelStudioTasks | None:
    has_results = False
    for row in rows:
        for annotation in [*_annotations(row), *(row.get("predictions") or [])]:
            if not isinstance(annotation, dict):
                continue
            for item in annotation.get("result") or []:
                has_results = True
                if regions := _regions({"result": [item]}):
                    (value,) = regions
                    names = (item.get("from_name", "label"), item.get("to_name", "text"), item.get("type", "labels"))
                    text_column = _find_text(row["data"], [(*_bounds(value), value.get("text"))])
                    return LabelStudioTasks(text_column, names) if text_column else None
    text_column = None if has_results else _find_text(rows[0]["data"], [])
    return LabelStudioTasks(text_column) if text_column else None


def _is_task(row: dict[str, Any]) -> bool:
    known = ("annotations", "completions", "predictions")
    return isinstance(row.get("data"), dict) and any(isinstance(row.get(name), list) for name in known)


def _annotations(task: dict[str, Any]) -> list[dict[str, Any]]:
    found = task.get("annotations", task.get("completions")) or []
    return [one for one in found if isinstance(one, dict) and not one.get("was_cancelled")]


def _regions(annotation: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the values of what marks a part of a text, in its order."""
    values = [item.get("value") for item in annotation.get("result") or [] if isinstance(item, dict)]
    return [value for value in values if isinstance(value, dict) and "start" in value and _labels(value)]


def _labels(value: dict[str, Any]) -> list[str]:
    found = value.get("labels") or value.get("hypertextlabels") or []
    return [label for label in found if isinstance(label, str)] if isinstance(found, list) else []


def _bounds(value: dict[str, Any]) -> tuple[int, int]:
    # In hypertext, `start` and `end` are paths.
    bounds = value.get("globalOffsets") or value
    start, end = bounds.get("start"), bounds.get("end")
    if not isinstance(start, int) or not isinstance(end, int):
        raise ValueError(
            "a region of a text must have whole numbers as 'start' and 'end', in hypertext in 'globalOffsets'; got "
            f"{shown(start)} and {shown(end)}."
        )
    return start, end


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _form(item: Any) -> str | None:
    """Tell how a span is written."""
    if isinstance(item, list):
        fits = len(item) == 3 and _is_number(item[0]) and _is_number(item[1]) and isinstance(item[2], str)
        return "triples" if fits and item[2].strip() else None
    if not isinstance(item, dict):
        return None
    for form, (start, end) in {"offsets": ("start_offset", "end_offset"), "spans": ("start", "end")}.items():
        if _is_number(item.get(start)) and _is_number(item.get(end)):
            if isinstance(item.get("label"), str) and item["label"].strip():
                return form
            if form == "spans" and _labels(item):
                return "regions"
    return None


def _located(item: Any) -> list[tuple[int, int, str, str | None]]:
    """Return where a span is, its labels and its text."""
    if isinstance(item, list):
        return [(*item, None)]
    start, end = (item["start_offset"], item["end_offset"]) if "start_offset" in item else (item["start"], item["end"])
    held = item.get("text") if isinstance(item.get("text"), str) else None
    return [(start, end, label, held) for label in ([item["label"]] if "label" in item else _labels(item))]


def _holds_words(row: dict[str, Any]) -> bool:
    """Tell a row of words and tags, whatever else it has."""
    words = row.get("tokens")
    return isinstance(words, list) and bool(words) and isinstance(words[0], str)


def _text(row: dict[str, Any], column: str) -> str:
    text = row.get(column)
    if not isinstance(text, str):
        raise ValueError(f"{column!r} must hold a text, got {shown(text)}.")
    return text


def _find_text(row: dict[str, Any], located: list[tuple[int, int, str | None]]) -> str | None:
    """Find the column of the text: the one whose parts the spans hold, or one of the usual names, or the longest."""
    texts = {name: value for name, value in row.items() if isinstance(value, str)}

    def rank(name: str) -> tuple[int, int, int]:
        text = texts[name]
        positions = find_units(text, located, Units(utf16=True)).positions(text)
        fits = sum(held is None or holds(text, positions, start, end, held) for start, end, held in located)
        usual = len(_TEXT_COLUMNS) - _TEXT_COLUMNS.index(name) if name in _TEXT_COLUMNS else 0
        return fits, usual, len(text)

    return max(texts, key=rank, default=None)


def _document(
    text: str, located: list[tuple[int, int, str, str | None]], default: Units, row: dict[str, Any]
) -> Document:
    units = find_units(text, [(start, end, held) for start, end, _, held in located], default)
    positions = units.positions(text)
    spans = [Span(*to_characters(positions, start, end), label) for start, end, label, _ in located]
    known = [(start, end, held) for start, end, _, held in located if held is not None]
    different = sum(not holds(text, positions, *one) for one in known)
    return Document(text, spans, row, units=units, notes=["different"] * different)


def _with_tokens(tokens: Any, start: int, end: int, label: str) -> dict[str, Any]:
    """Make a span of Prodigy, with the first and the last of a row's tokens where it has some."""
    span = {"start": start, "end": end}
    if isinstance(tokens, list) and all(isinstance(token, dict) for token in tokens):
        firsts = [token.get("id") for token in tokens if token.get("start") == start]
        lasts = [token.get("id") for token in tokens if token.get("end") == end]
        if firsts and lasts:
            span |= {"token_start": firsts[0], "token_end": lasts[-1]}
    return span | {"label": label}


__all__ = ["LabelStudioTasks", "RowFormat", "SpanRows", "TextPairs", "WordRows", "recognise"]
