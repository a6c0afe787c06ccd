"""Bring the tags of a corpus to IOB2, and say so."""

import contextlib
from collections import Counter
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import datasets
from transformers.utils import logging

from ..formats.loading import Split, quiet
from ..formats.tag_schemes import (
    MOST_TAGS,
    Bigrams,
    StrayTagError,
    TagCounts,
    TagScheme,
    count_bigrams,
    count_spans,
    find_scheme,
)
from ..models.crf import allowed_transitions
from ..models.labels import tagging_scheme
from ..utils.messages import listed, shown
from .validation import class_label, label_name

logger = logging.get_logger(__name__)

_BATCH_SIZE = 1000


def to_iob2(
    splits: dict[str, Split],
    origins: dict[str, str],
    label_column: str,
    wanted: str = "auto",
    label_names: Sequence[str] | None = None,
) -> tuple[dict[str, Split], TagScheme | None]:
    """Bring the tags of a corpus to IOB2 where they mark spans, as those of the training data do, and say so.

    Args:
        splits (`dict[str, Split]`): The corpus.
        origins (`dict[str, str]`): Where each split comes from, for messages.
        label_column (`str`): Column of the tags.
        wanted (`str`): `--tag_scheme`.
        label_names (`Sequence[str]`, *optional*): Labels of a trained model, which says what its tags are.

    Returns:
        The splits, and the scheme of the training data, or of what is evaluated.

    Raises:
        ValueError: Tags that do not fit the scheme of the others, or the one that is wanted.
    """
    if label_names is not None and tagging_scheme(label_names) != "iob2":
        if wanted not in ("auto", "none"):
            raise ValueError(
                f"--tag_scheme {wanted} is for models of spans in IOB2; this one has the labels {listed(label_names)}. "
                "Leave it out."
            )
        return splits, None
    name, *others = splits
    first_rows, bigrams = _count(splits[name], label_column)
    if wanted == "none":
        if label_names is None:
            _warn_of_forbidden(origins[name], bigrams, sorted(first_rows))
        return splits, None
    try:
        found = find_scheme(bigrams, sorted(first_rows), wanted)
    except StrayTagError as error:
        if label_names is None or wanted != "auto":
            raise ValueError(f"{origins[name]}, row {first_rows[error.tag]}: {error}") from error
        found = error.scheme  # what it does not cover, the model does not know
    if found is None and label_names is not None and _are_types(first_rows, label_names):
        found = TagScheme("io")
    if found is None:
        if label_names is None:
            _check_unmarked(origins[name], first_rows, bigrams)
        return splits, None
    converted = {name: _converted(splits[name], origins[name], label_column, found, bigrams, is_said=True)}
    for name in others:
        first_rows, bigrams = _count(splits[name], label_column)
        scheme = found
        if not all(map(found.split, first_rows)) and wanted == "auto":
            with contextlib.suppress(StrayTagError):
                scheme = find_scheme(bigrams, sorted(first_rows)) or found
        converted[name] = _converted(splits[name], origins[name], label_column, scheme, bigrams, scheme != found)
    return converted, found


def _converted(
    split: Split, origin: str, label_column: str, scheme: TagScheme, bigrams: Bigrams, is_said: bool
) -> Split:
    counts = count_spans(scheme, bigrams)
    if is_said or counts.faults:
        logger.warning(f"{origin}: {_described(scheme, counts)}")
    return split if scheme.is_plain and not counts.faults else _convert(split, label_column, scheme)


def _are_types(tags: Collection[str], label_names: Sequence[str]) -> bool:
    """Tell whether tags are the types of a model's spans, without marks."""
    types = {name[2:] for name in label_names if name[1:2] == "-"}
    return bool(tags) and all(tag == "O" or tag in types for tag in tags)


def _check_unmarked(origin: str, first_rows: dict[str, int], bigrams: Bigrams) -> None:
    """Say what tags may be that look like those of spans, but mark none as any scheme does."""
    counts: Counter[str] = Counter()
    for (_, tag), count in bigrams.items():
        if tag is not None:
            counts[tag] += count
    if "*" in first_rows and (opened := [tag for tag in first_rows if tag.startswith("(")]):
        raise ValueError(
            f"{origin}, row {first_rows[opened[0]]}: the tag {shown(opened[0])} marks a span with brackets, as in "
            f"CoNLL-2012, which is not read: write B-{opened[0].strip('(*)')}, I-{opened[0].strip('(*)')} and O."
        )
    types = [tag for tag in counts if tag != "O"]
    if len(types) > 1 and counts["O"] > max(counts[tag] for tag in types):
        logger.warning(
            f"{origin}: most words have the tag 'O', but no tag marks a span, as B-{types[0]} would: each tag stands "
            "for itself, and scores count words. If equal tags in a row are a span, say --tag_scheme io."
        )


def _warn_of_forbidden(origin: str, bigrams: Bigrams, names: list[str]) -> None:
    """Say where tags that stay as they are follow each other as a conditional random field never lets them."""
    if tagging_scheme(names) is None:
        return
    begins, follows, ends = allowed_transitions(names)
    ids = {name: position for position, name in enumerate(names)}
    count = 0
    for (before, tag), number in bigrams.items():
        if before is None:
            allowed = begins[ids[tag]] if tag is not None else begins.new_ones(())
        else:
            allowed = ends[ids[before]] if tag is None else follows[ids[before], ids[tag]]
        count += 0 if allowed else number
    if count:
        logger.warning(
            f"{origin}: {count:,} tags stand where their names do not allow it, and will never be predicted there: "
            "leave --tag_scheme out, or say --use_crf false."
        )


def _described(scheme: TagScheme, counts: TagCounts) -> str:
    spans = f"{counts.spans:,} span{'' if counts.spans == 1 else 's'} of {counts.types:,} type"
    text = f"the tags are in {scheme}: {spans}{'' if counts.types == 1 else 's'}."
    if counts.faults:
        text += (
            f" {counts.faults:,} tag{' does' if counts.faults == 1 else 's do'} not fit ({counts.fault}); a span "
            "begins where no other goes on."
        )
    if not scheme.is_plain:
        text += " The model learns and predicts IOB2; --tag_scheme none leaves the tags as they are."
    return text


def _count(split: Split, label_column: str) -> tuple[dict[str, int], Bigrams]:
    """Read the tags: the first row of each, and their bigrams. What is no tag is left to the checks of all rows."""
    feature = (split.features or {}).get(label_column)
    classes = class_label(feature)
    first_rows = dict.fromkeys(classes.names if classes is not None else (), 1)
    bigrams: Bigrams = Counter()
    row = 0
    try:
        with quiet():
            for batch in split.select_columns([label_column]).iter(batch_size=_BATCH_SIZE):
                sentences = [_names(tags, feature) for tags in batch[label_column]]
                bigrams.update(count_bigrams(sentences))
                for row, tags in enumerate(sentences, start=row + 1):  # noqa: B020
                    for tag in tags:
                        first_rows.setdefault(tag, row)
                if len(first_rows) > MOST_TAGS:
                    break
    except Exception:  # noqa: S110
        pass  # the check of all rows meets it again, and says where
    return {tag: first for tag, first in first_rows.items() if tag.strip()}, bigrams


def _names(tags: Any, feature: Any) -> list[str]:
    classes = class_label(feature)
    if not isinstance(tags, list):
        return []
    if classes is None:
        return tags if all(isinstance(tag, str) for tag in tags) else []
    is_known = all(isinstance(tag, int) and 0 <= tag < classes.num_classes for tag in tags)
    return [label_name(tag, feature) for tag in tags] if is_known else []


def _convert(split: Split, label_column: str, scheme: TagScheme) -> Split:
    features = split.features
    options: dict[str, Any] = {}
    if features is not None:
        options["features"] = datasets.Features({**features, label_column: datasets.List(datasets.Value("string"))})
    if isinstance(split, datasets.Dataset):
        options["desc"] = "Converting tags to IOB2"
    return split.map(
        partial(_convert_row, scheme=scheme, label_column=label_column, feature=(features or {}).get(label_column)),
        **options,
    )


def _convert_row(row: dict[str, Any], scheme: TagScheme, label_column: str, feature: Any) -> dict[str, Any]:
    tags = row[label_column]
    if not isinstance(tags, list):
        return {label_column: tags}
    names = [label_name(tag, feature) if isinstance(tag, int) and tag >= 0 else tag for tag in tags]
    return {label_column: scheme.to_iob2(names)}


__all__ = ["to_iob2"]
