"""Folders of texts: a folder for each label, with a file for each text, as aclImdb and 20 Newsgroups have them."""

import os
from collections.abc import Iterator
from pathlib import Path

import datasets
from datasets import Dataset
from transformers.utils import logging

from ..utils.messages import listed, shown
from .arguments import source_name
from .tables import TableError, unreadable

logger = logging.get_logger(__name__)

# Names of folders that hold splits, and no texts of a label.
_SPLITS = frozenset({"train", "training", "validation", "valid", "dev", "val", "test", "testing"})
# What texts without a label stand in.
_UNLABELLED = ("unsup", "unsupervised", "unlabeled", "unlabelled")
_MOST_LOOKED_AT = 50


def class_folders(folder: str) -> list[Path]:
    """Find the folders of labels in a folder.

    Args:
        folder (`str`): A local folder.

    Returns:
        `list[Path]`: two folders or more, which hold text files alone; none where the folder is something else.

    Example:
    ```python
    >>> import os, tempfile
    >>> from rnn_hf.formats.class_folders import class_folders
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("neg", "pos"):
    ...         os.mkdir(f"{folder}/{name}")
    ...         _ = open(f"{folder}/{name}/1.txt", "w").write("A film.")
    ...     [path.name for path in class_folders(folder)]
    ['neg', 'pos']

    ```
    """
    if not os.path.isdir(folder):
        return []
    found = sorted(path for path in Path(folder).iterdir() if path.is_dir() and not path.name.startswith("."))
    found = [path for path in found if path.name.lower() not in _UNLABELLED]
    is_right = len(found) > 1 and all(path.name.lower() not in _SPLITS and _holds_texts(path) for path in found)
    return found if is_right else []


def _holds_texts(folder: Path) -> bool:
    """Tell whether a folder has files alone, whose names end in `.txt`, in a number, or in nothing."""
    names = []
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        if not entry.is_file():
            return False
        names.append(entry.name)
        if len(names) == _MOST_LOOKED_AT:
            break
    return bool(names) and all(Path(name).suffix.lower() in (".txt", ".text") or "." not in name for name in names)


def load_class_folders(folder: str, encoding: str | None = None) -> Dataset:
    """Load each file of the folders of labels as a row.

    Args:
        folder (`str`): A local folder.
        encoding (`str`, *optional*): Of all files; UTF-8 without it.

    Returns:
        A split with the columns `text` and `label`, in the order of the names.

    Raises:
        ValueError: A file is not in this encoding.
    """
    found = class_folders(folder)
    left_out = sorted(set(_UNLABELLED) & {one.lower() for one in os.listdir(folder)})
    counts: dict[str, int] = {}
    rows = list(_rows(found, encoding))
    for _, label in rows:
        counts[label] = counts.get(label, 0) + 1
    numbers = [f"{label} {count:,}" for label, count in counts.items()]
    logger.warning(
        f"{source_name(folder)} has a folder for each of {len(counts)} labels, with a file for each text: "
        f"{', '.join(numbers[:10])}{', …' if len(numbers) > 10 else ''}."
        + (f" {listed(left_out)} is left out: texts without labels." if left_out else "")
    )
    features = datasets.Features({name: datasets.Value("string") for name in ("text", "label")})
    columns = zip(*rows, strict=True)
    return Dataset.from_dict(dict(zip(features, map(list, columns), strict=True)), features=features)


def _rows(folders: list[Path], encoding: str | None) -> Iterator[tuple[str, str]]:
    for folder in folders:
        for path in sorted(folder.iterdir(), key=lambda path: (len(path.name), path.name)):
            if path.name.startswith("."):
                continue
            if not path.is_file():
                raise TableError(f"{source_name(str(path))} is no file: a folder of a label holds files alone.")
            try:
                yield path.read_text(encoding or "utf-8-sig").strip(), folder.name
            except UnicodeDecodeError as error:
                raise TableError(
                    unreadable([str(path)], source_name(str(path)), encoding, error)
                    or f"{source_name(str(path))} is no text: {error.reason}."
                ) from error
            except LookupError as error:
                raise TableError(f"--dataset_kwargs: there is no encoding {shown(encoding)}.") from error


__all__ = ["class_folders", "load_class_folders"]
