"""Read files with a line a word: CoNLL's, CoNLL-U, and tables with a row a word."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import IO, Any, cast

import datasets
from datasets import Dataset, DownloadConfig, IterableDataset
from datasets.data_files import DataFilesList
from datasets.utils.file_utils import xopen
from transformers.utils import logging

from ..utils.messages import listed, shown
from .arguments import source_name
from .conll_columns import choose_columns, find_header, sentence_columns, survey_columns
from .conll_layout import (
    Layout,
    LayoutError,
    choose_splitter,
    csv_splitter,
    iterate_rows,
    split_line,
    survey_lines,
)
from .tag_schemes import types_of

logger = logging.get_logger(__name__)

CONLLU_COLUMNS = ["id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc"]
OPTIONS = ["column_names", "delimiter", "encoding", "encoding_errors", "skip_docstart", "comment_prefix"]
# Options of CSV files beside them, and of where files are and what is kept of them.
CSV_OPTIONS = ["sep", "quotechar", "quoting"]
PLACES = ["token", "storage_options", "cache_dir", "keep_in_memory"]
# Where more than this share of the words begin sentences, these are no sentences.
_MOST_SHORT = 0.7
# Words that are looked at to tell two columns apart.
_MOST_LOOKED_AT = 2000
# More words than these make no sentence.
_MOST_UNBROKEN = 1000
# Part of the fingerprint of what is kept: another one where files are read in another way.
_VERSION = "1"


class Files:
    """Files that a name, a pattern or an address means, local or not, compressed or not.

    Args:
        file (`str`): The name, pattern or address, local names with their special characters escaped.
        shown_name (`str`): What to call the file if it is a single one.
        options (`dict[str, Any]`): `encoding`, `encoding_errors`, `token` and `storage_options`.
        streaming (`bool`): Whether to read addresses as they come, rather than from copies.
    """

    def __init__(self, file: str, shown_name: str, options: dict[str, Any], streaming: bool):
        self.config = DownloadConfig(
            token=options.get("token"), storage_options=options.get("storage_options") or {}, extract_on_the_fly=True
        )
        self.encoding = options.get("encoding", "utf-8-sig")
        self.errors = options.get("encoding_errors")
        found = DataFilesList.from_patterns([file], download_config=self.config)
        manager: Any = datasets.StreamingDownloadManager if streaming else datasets.DownloadManager
        manager = manager(download_config=self.config)
        self.paths: list[tuple[str, str]] = []
        for path in found:
            name = shown_name if len(found) == 1 else source_name(path)
            self.paths += [(name, one) for one in manager.iter_files([manager.download_and_extract(path)])]
        self.state = [list(found), [list(one) for one in found.origin_metadata], self.encoding, self.errors]

    def __iter__(self) -> Iterator[tuple[str, Iterable[str]]]:
        for name, path in self.paths:
            yield name, read_lines(path, self.encoding, self.errors, self.config)


def read_lines(path: str, encoding: str, errors: str | None, config: DownloadConfig) -> Iterator[str]:
    """Yield the lines of a file, which may be compressed or elsewhere."""
    with cast("IO[str]", xopen(path, "r", encoding=encoding, errors=errors, download_config=config)) as lines:
        for number, line in enumerate(lines):
            # Some editors put a mark before the first word.
            yield line.removeprefix("\ufeff") if number == 0 else line


def load_conll(
    file: str,
    shown_name: str,
    options: dict[str, Any],
    streaming: bool,
    is_conllu: bool = False,
    like: Layout | None = None,
) -> tuple[Dataset | IterableDataset, Layout]:
    r"""Load files with a line a word as a dataset with a row a sentence.

    How the files are laid out is found out from all their lines. Columns without names are `tokens`, `column_2`, …,
    `tags`.

    Args:
        file (`str`): A name, a pattern or an address.
        shown_name (`str`): What to call it in messages.
        options (`dict[str, Any]`): Of the user: `OPTIONS`.
        streaming (`bool`): Whether to read the files each time anew, rather than to keep them in the cache.
        is_conllu (`bool`): Whether the columns are those of CoNLL-U.
        like ([`Layout`], *optional*): That of the training data.

    Returns:
        The dataset, and how the files are laid out.

    Raises:
        LayoutError: Lines of different numbers of columns, columns that one cannot tell apart, no lines.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf.formats.conll import load_conll
    >>> with tempfile.NamedTemporaryFile("w", suffix=".conll") as file:
    ...     _ = file.write("Anna B-PER\nlives O\n\nBye O\n")
    ...     file.flush()
    ...     dataset, layout = load_conll(file.name, "a.conll", {}, streaming=True)
    ...     rows = list(dataset)
    >>> rows[0]
    {'tokens': ['Anna', 'lives'], 'tags': ['B-PER', 'O']}

    ```
    """
    files = Files(file, shown_name, options, streaming)
    layout = conllu_layout(options) if is_conllu else _find_layout(files, shown_name, options, like)
    if is_conllu or layout.finds_comments:
        # All lines are checked before training begins.
        if not any(row is not None for name, lines in files for row in iterate_rows(lines, layout, name)):
            raise LayoutError(f"{shown_name} has no rows.")
        for name, lines in files:
            for _ in iterate_rows(lines, layout, name):
                pass
    return _as_dataset(files, layout, options, streaming), layout


def conllu_layout(options: dict[str, Any]) -> Layout:
    """Return the layout of CoNLL-U files."""
    names = tuple(options.get("column_names", CONLLU_COLUMNS))
    return Layout(
        f":{options.get('delimiter') or chr(9)}",
        names,
        comment_prefix=options.get("comment_prefix", "#"),
        skip_docstart=options.get("skip_docstart", True),
        drops_ranges=names[0] == "id",
        may_lack_columns="column_names" not in options,
    )


def _find_layout(files: Files, shown_name: str, options: dict[str, Any], like: Layout | None) -> Layout:
    is_csv = options.get("sep") is not None
    quotes = {name: options[name] for name in ("quotechar", "quoting") if name in options}
    known = csv_splitter(options["sep"], **quotes) if is_csv else None
    survey = survey_lines(files, options, known)
    if not survey.first_lines:
        raise LayoutError(f"{shown_name} has no rows.")
    named = options.get("column_names")
    splitter, width = choose_splitter(survey, None if named is None else len(named))
    if width == 1:
        raise LayoutError(_one_column(shown_name, survey.first_lines[0]))
    layout = Layout(
        splitter,
        tuple(named or ("tokens", *(f"column_{index}" for index in range(2, width)), "tags")),
        comment_prefix=options.get("comment_prefix"),
        finds_comments="comment_prefix" not in options and survey.doubtful and not is_csv,
        skip_docstart=options.get("skip_docstart", True),
    )
    said = [options.get("tokens_column"), options.get("tags_column")]
    firsts = (split_line(line, splitter) for line in survey.first_lines)
    header = next(
        (one for one in firsts if list(one) == named or (named is None and find_header(one, *said) is not None)), None
    )
    if header is not None:
        layout = replace(layout, header=tuple(cell.lower() for cell in header))
        if named is None:
            layout = _named_by_header(layout, header, said)
        logger.warning(f"{shown_name}: the first line, {listed(header)}, names the columns, and is no word.")
    elif is_csv and named is None:
        raise LayoutError(
            f"{shown_name}: the first line, {listed(split_line(survey.first_lines[0], splitter))}, names no columns of "
            "words and tags. Name them with --tokens_column and --tags_column, or all with --dataset_kwargs "
            '\'{"column_names": ["sentence_id", "tokens", "tags"]}\'.'
        )
    if named is not None:
        lower = [name.lower() for name in named]
        words = options.get("tokens_column")
        index = named.index(words) if words in named else None
        layout = replace(layout, sentence_columns=sentence_columns(lower), word_index=index)
    if is_csv or layout.sentence_columns:
        _check_sentences(files, layout, shown_name)
    if not is_csv and survey.num_sentences == 1 and survey.num_plain + survey.num_tabs > _MOST_UNBROKEN:
        raise LayoutError(
            f"{shown_name} has {survey.num_plain + survey.num_tabs:,} words, but nothing that says which make a "
            "sentence. Put an empty line after each sentence."
        )
    if width == 2 and named is None and header is None:
        layout = _with_order(layout, files, shown_name, said, like)
    if layout.finds_comments or (width > 2 and named is None and header is None):
        layout = _with_columns(layout, files, shown_name, options, like)
    return layout


def _with_order(layout: Layout, files: Files, shown_name: str, said: list[str | None], like: Layout | None) -> Layout:
    """Tell which of two columns holds the tags: the second, unless the first marks spans and the second does not."""
    if any(said):
        return layout
    if like is not None and len(like.column_names) == 2:
        return replace(layout, column_names=like.column_names, tag_index=like.tag_index)
    values = survey_columns(files, layout, most_rows=_MOST_LOOKED_AT).values
    if types_of(values[0]) is None or types_of(values[1]) is not None:
        return layout
    logger.warning(
        f"{shown_name}: the first column marks spans, and is taken for the tags; the second holds the words."
    )
    return replace(layout, column_names=("tags", "tokens"), tag_index=0)


def _index(names: list[str], known: Iterable[str]) -> int:
    return next((names.index(name) for name in known if name in names), -1)


def _named_by_header(layout: Layout, header: list[str], said: list[str | None]) -> Layout:
    """Take the names of a header, but `tokens` and `tags` for columns that are not named by options."""
    names = list(header)
    found = find_header(header, *said)
    assert found is not None
    for index, option, name in zip(found, said, ("tokens", "tags"), strict=True):
        if option is None:
            names = [f"{one}_" if one == name and position != index else one for position, one in enumerate(names)]
            names[index] = name
    unique = [name if names.index(name) == index else f"{name}_{index + 1}" for index, name in enumerate(names)]
    return replace(
        layout,
        column_names=tuple(unique),
        sentence_columns=sentence_columns([cell.lower() for cell in header]),
        tag_index=found[1],
        word_index=found[0],
    )


def _check_sentences(files: Files, layout: Layout, shown_name: str) -> None:
    """Check that rows say which sentence they belong to."""
    num_words, num_sentences, ids = 0, 0, set()
    for name, lines in files:
        for row in iterate_rows(lines, layout, name):
            num_words, num_sentences = num_words + (row is not None), num_sentences + (row is None)
            if row is not None:
                ids.add(tuple(row[1][index] for index in layout.sentence_columns))
    if not layout.sentence_columns and num_sentences <= len(files.paths) and num_words > num_sentences:
        raise LayoutError(
            f"{shown_name} has a row for each word, but nothing that says which rows make a sentence. Add a column "
            "sentence_id, or an empty line after each sentence."
        )
    if layout.sentence_columns and len(ids) < num_sentences > _MOST_SHORT * num_words:
        raise LayoutError(
            f"{shown_name}: the words of a sentence do not follow each other: sort the rows by "
            f"{shown(layout.column_names[layout.sentence_columns[-1]])}."
        )


def _with_columns(
    layout: Layout, files: Files, shown_name: str, options: dict[str, Any], like: Layout | None
) -> Layout:
    """Look into the columns for what they hold."""
    columns = survey_columns(files, layout)
    if columns.num_rows == 0:
        raise LayoutError(f"{shown_name} has no rows.")
    width = len(layout.column_names)
    tag = layout.tag_index
    if "column_names" in options:
        tag = _index(list(layout.column_names), [options.get("tags_column") or "tags"])
    elif layout.header is None and width > 2:
        plain = [f"column_{index + 1}" for index in range(width)]
        said = [options.get("tokens_column"), options.get("tags_column")]
        if said[1] in plain:
            word, tag = plain.index(said[0]) if said[0] in plain else int(columns.is_index), plain.index(said[1])
        elif like is not None and len(like.column_names) == width and like.is_index_first == columns.is_index:
            word, tag = like.column_names.index("tokens"), like.column_names.index("tags")
        else:
            word, tag, message = choose_columns(columns, shown_name)
            if message:
                logger.warning(message)
        plain[word], plain[tag] = said[0] or "tokens", said[1] or "tags"
        layout = replace(layout, column_names=tuple(plain), is_index_first=columns.is_index)
    if layout.finds_comments:
        layout = replace(layout, word_tags=tuple(sorted(columns.values[tag])), tag_index=tag)
    return layout


def _one_column(name: str, line: str) -> str:
    found = next((separator for separator in ",;|/" if separator in line), None)
    text = f"{name} has no column of tags: its lines have one column, such as {shown(line, 60)}."
    if found is not None:
        text += f" If {shown(found)} separates columns, say --dataset_kwargs '{json.dumps({'delimiter': found})}'."
    return text


def _as_dataset(files: Files, layout: Layout, options: dict[str, Any], streaming: bool) -> Dataset | IterableDataset:
    features = datasets.Features({name: datasets.List(datasets.Value("string")) for name in layout.column_names})
    generate = partial(_sentences, layout=layout, encoding=files.encoding, errors=files.errors, config=files.config)
    parts = {"paths": files.paths}
    if streaming:
        return IterableDataset.from_generator(generate, features=features, gen_kwargs=parts)
    state = repr((_VERSION, files.state, layout)).encode()
    return Dataset.from_generator(
        generate,
        features=features,
        gen_kwargs=parts,
        fingerprint=hashlib.blake2b(state, digest_size=16).hexdigest(),
        cache_dir=options.get("cache_dir"),
        keep_in_memory=options.get("keep_in_memory", False),
    )


def _sentences(
    paths: list[tuple[str, str]], layout: Layout, encoding: str, errors: str | None, config: DownloadConfig
) -> Iterator[dict[str, list[str]]]:
    """Yield a row for each sentence."""
    for name, path in paths:
        sentence: list[list[str]] = []
        for row in iterate_rows(read_lines(path, encoding, errors, config), layout, name):
            if row is not None:
                sentence.append(row[1])
                continue
            kept = sentence
            if layout.drops_ranges:
                kept = [cells for cells in sentence if not is_range(cells[0])]
            columns = zip(*kept, strict=True) if kept else [()] * len(layout.column_names)
            yield {column: list(cells) for column, cells in zip(layout.column_names, columns, strict=True)}
            sentence = []


def is_range(index: str) -> bool:
    """Tell whether an index of CoNLL-U is that of a multiword token (`1-2`) or an empty node (`2.1`)."""
    return re.fullmatch(r"\d+[-.]\d+", index) is not None


__all__ = [
    "CONLLU_COLUMNS",
    "CSV_OPTIONS",
    "OPTIONS",
    "PLACES",
    "Files",
    "Layout",
    "LayoutError",
    "conllu_layout",
    "load_conll",
    "read_lines",
]
