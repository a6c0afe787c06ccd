"""What teachers predict, kept on disk: computed once, in pieces, so that a run that was interrupted resumes there."""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import torch
from datasets import Dataset, Features, IterableDataset, List, Value, concatenate_datasets, interleave_datasets
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ..data.augmentation import Augmentation
from ..data.corpus import Corpus
from ..data.unlabelled import encode_unlabelled
from ..formats.loading import Split, column_names
from ..sharing.run_record import file_name
from ..utils.files import replace_file
from .teacher import Teacher, describe_teachers

logger = logging.get_logger(__name__)

# Texts whose scores are in a file.
CHUNK = 512


class SoftLabels:
    """The mean of several teachers' logits for the rows of a split; read from files as they are needed.

    Args:
        files (`list[list[str]]`): For each [`CHUNK`] rows, a file of each teacher.
        orders (`list[list[int]]`): For each teacher, its ids of the student's labels.
        is_tagger (`bool`): Whether words were scored: their probabilities are averaged.
        num_rows (`int`): Number of the rows.
    """

    def __init__(self, files: list[list[str]], orders: list[list[int]], is_tagger: bool, num_rows: int = 0):
        self.files = files
        self.orders = orders
        self.is_tagger = is_tagger
        self.num_rows = num_rows
        self._last: tuple[int, list[Tensor]] = (-1, [])

    def __getitem__(self, row: int) -> Tensor:
        number, position = divmod(row, CHUNK)
        if self._last[0] != number:
            self._last = (number, self._read(self.files[number]))
        return self._last[1][position]

    def _read(self, files: list[str]) -> list[Tensor]:
        parts = []
        for file, order in zip(files, self.orders, strict=True):
            scores = _read_chunk(Path(file))
            if scores is None:
                raise ValueError(f"{file} was removed or damaged while it was needed: start again.")
            parts.append([one[..., order] for one in scores])
        if len(parts) == 1:
            return parts[0]
        if not self.is_tagger:
            return [torch.stack(one).mean(dim=0) for one in zip(*parts, strict=True)]
        return [torch.stack(one).softmax(dim=-1).mean(dim=0).log() for one in zip(*parts, strict=True)]


def soft_labels(
    teachers: Sequence[Teacher],
    label_names: Sequence[str],
    inputs: Iterable[Any],
    num_expected: int | None = None,
    *,
    bf16: bool = False,
    show_progress: bool = True,
) -> SoftLabels:
    """Let teachers score all rows of a split, or find the scores that they gave before.

    Scores are kept in the cache folder of `datasets`, by the digests of the teacher and of the texts, and by their
    precision.

    Args:
        teachers (`Sequence[Teacher]`): The teachers.
        label_names (`Sequence[str]`): The student's labels, in the order of their ids.
        inputs (`Iterable`): Texts, or lists of words.
        num_expected (`int`, *optional*): How many there are, for the progress bar.
        bf16 (`bool`): Whether teachers compute in bfloat16.
        show_progress (`bool`): Whether there is a progress bar.

    Returns:
        [`SoftLabels`]
    """
    files: list[list[str]] = []
    names = ", ".join(teacher.name for teacher in teachers)
    what = "sentences" if teachers[0].is_tagger else "texts"
    num_rows, num_new = 0, 0
    with tqdm(total=num_expected, desc=f"Labelling {what} by {names}", disable=not show_progress) as progress:
        for chunk in _chunks(inputs):
            files.append([])
            digest = hashlib.blake2b(json.dumps(chunk).encode(), digest_size=16).hexdigest()
            is_new = False
            for teacher in teachers:
                file = _folder(teacher, bf16) / f"{digest}.safetensors"
                if _read_chunk(file) is None:
                    is_new = True
                    _write_chunk(file, teacher.score(chunk, bf16))
                files[-1].append(str(file))
            num_rows += len(chunk)
            num_new += is_new * len(chunk)
            progress.update(len(chunk))
    if num_new < num_rows:
        logger.warning(f"{names} had labelled {num_rows - num_new:,} of {num_rows:,} {what} before.")
    return SoftLabels(files, [teacher.order(label_names) for teacher in teachers], teachers[0].is_tagger, num_rows)


def _folder(teacher: Teacher, bf16: bool) -> Path:
    name = teacher.digest + ("-bfloat16" if bf16 else "")
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "rnn_hf_soft_labels" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _chunks(inputs: Iterable[Any]) -> Iterator[list[Any]]:
    rows = iter(inputs)
    while chunk := list(islice(rows, CHUNK)):
        yield chunk


def _write_chunk(file: Path, scores: list[Tensor]) -> None:
    if scores[0].dim() == 1:
        tensors = {"scores": torch.stack(scores)}
    else:
        tensors = {"scores": torch.cat(scores), "lengths": torch.tensor([len(one) for one in scores])}
    replace_file(file, save_tensors(tensors))


def _read_chunk(file: Path) -> list[Tensor] | None:
    """Read the scores of a chunk; `None` where there are none, or a damaged file."""
    try:
        tensors = load_tensors(file.read_bytes())
        lengths = tensors["lengths"].tolist() if "lengths" in tensors else None
        return list(tensors["scores"] if lengths is None else tensors["scores"].split(lengths))
    except (FileNotFoundError, SafetensorError, KeyError, RuntimeError):
        return None


def add_soft_labels(split: Split, labels: SoftLabels) -> Split:
    """Give encoded rows a column `teacher_logits`.

    Args:
        split (`Split`): Encoded rows, in the order in which they were scored. A tagger's words are where a column
            `word_positions` says, which is left out then, or else where there is a label.
        labels ([`SoftLabels`]): Their scores.

    Returns:
        `Split`: with `teacher_logits`, of a tagger for each token, NaN where no word begins.
    """
    left_out = ["word_positions"] if "word_positions" in column_names(split) else []
    options: dict[str, Any] = {}
    if isinstance(split, Dataset):
        options["desc"] = "Adding soft labels"
        numbers: Any = List(Value("float32"))
        kept = {name: kind for name, kind in split.features.items() if name not in left_out}
        options["features"] = Features(kept | {"teacher_logits": List(numbers) if labels.is_tagger else numbers})
    return split.map(
        _add,
        with_indices=True,
        batched=True,
        batch_size=CHUNK,
        remove_columns=left_out,
        fn_kwargs={"files": labels.files, "orders": labels.orders, "is_tagger": labels.is_tagger},
        **options,
    )


def _add(
    batch: dict[str, list], rows: list[int], files: list[list[str]], orders: list[list[int]], is_tagger: bool
) -> dict[str, list]:
    labels = SoftLabels(files, orders, is_tagger)
    scores = [labels[row] for row in rows]
    if not is_tagger:
        return {"teacher_logits": torch.stack(scores).tolist()}
    positions = batch.get("word_positions") or [
        [position for position, label in enumerate(labels) if label != -100] for labels in batch["labels"]
    ]
    padded = []
    for ids, firsts, one in zip(batch["input_ids"], positions, scores, strict=True):
        of_tokens = torch.full((len(ids), one.shape[1]), torch.nan)
        of_tokens[firsts] = one
        padded.append(of_tokens.tolist())
    return {"teacher_logits": padded}


class Lesson(NamedTuple):
    """What a student learns from.

    Args:
        rows (`Split`): Encoded rows with `teacher_logits`.
        num_rows (`int`): How many there are.
        for_solving (`Split`): Those of the training data and of texts without labels, with the labels that teachers
            predict where there are none: for the linear parts, which are solved before training.
        record (`dict[str, Any]`): For `run.json`: who taught, and how many texts, as
            [`~sharing.run_record.record_run`] says.
    """

    rows: Split
    num_rows: int
    for_solving: Split
    record: dict[str, Any]


def teach(
    teachers: Sequence[Teacher],
    corpus: Corpus,
    train: Split,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int | None = None,
    augment: int = 0,
    seed: int = 0,
    bf16: bool = False,
    show_progress: bool = True,
) -> Lesson:
    """Join the training data and texts without labels, all labelled by teachers.

    Args:
        teachers (`Sequence[Teacher]`): The teachers.
        corpus ([`Corpus`]): The data.
        train (`Split`): Its encoded training data.
        tokenizer (`PreTrainedTokenizerBase`): The student's tokenizer.
        max_length (`int`, *optional*): Where the student's texts are cut.
        augment (`int`): How many further texts to make of each, see [`~augmentation.Augmentation`].
        seed (`int`): Seed of these, and of the order in which streams are joined.
        bf16 (`bool`): Whether teachers compute in bfloat16.
        show_progress (`bool`): Whether there is a progress bar.

    Returns:
        [`Lesson`]
    """
    options: Any = {"bf16": bf16, "show_progress": show_progress}
    labels = soft_labels(teachers, corpus.label_names, corpus.inputs("train"), corpus.num_rows["train"], **options)
    parts, sizes = [add_soft_labels(train, labels)], [labels.num_rows]
    num_labels = len(corpus.label_names) + len(corpus.unseen_names)
    column = "text" if corpus.task == "text-classification" else "tokens"
    others = [] if corpus.unlabelled is None else [corpus.unlabelled.split]
    if augment > 0:
        augmentation = Augmentation(corpus.training_inputs, augment, seed)
        others.append(_augmented(augmentation, column, isinstance(train, Dataset)))
    for split in others:
        num_expected = len(split) if isinstance(split, Dataset) else None
        labels = soft_labels(teachers, corpus.label_names, (row[column] for row in split), num_expected, **options)
        encoded = encode_unlabelled(split, tokenizer, corpus.problem_type, num_labels, max_length)
        if corpus.auxiliary_names:
            encoded = encoded.map(_copy_labels, batched=True, input_columns=["labels"])
        parts.append(add_soft_labels(encoded, labels))
        sizes.append(labels.num_rows)
    num_own = len(parts) - (augment > 0)
    own = _joined(parts[:num_own], sizes[:num_own], seed)
    if num_own > 1:
        own = own.map(_predict, batched=True, fn_kwargs={"problem_type": corpus.problem_type})
    record: dict[str, Any] = {"teachers": describe_teachers(teachers, corpus), "num_rows": sum(sizes)}
    if corpus.unlabelled is not None:
        record |= {"unlabelled": file_name(corpus.unlabelled.origin), "num_unlabelled": corpus.unlabelled.num_rows}
    return Lesson(_joined(parts, sizes, seed), sum(sizes), own, record)


def _predict(batch: dict[str, list], problem_type: str) -> dict[str, list]:
    """Put what teachers predict where a label is missing."""
    filled = []
    for labels, logits in zip(batch["labels"], batch["teacher_logits"], strict=True):
        scores = torch.tensor(logits)
        if isinstance(labels, int):
            labels = int(scores.argmax()) if labels == -100 else labels
        elif problem_type == "multi_label_classification":
            labels = (scores > 0).float().tolist() if math.isnan(labels[0]) else labels
        elif problem_type == "single_label_classification" and all(label == -100 for label in labels):
            labels = torch.where(scores[:, 0].isnan(), -100, scores.argmax(dim=1)).tolist()
        filled.append(labels)
    return {"labels": filled}


def _augmented(augmentation: Augmentation, column: str, is_whole: bool) -> Split:
    if is_whole:
        return Dataset.from_dict({column: list(augmentation)})
    return IterableDataset.from_generator(_rows, gen_kwargs={"inputs": augmentation, "column": column})


def _rows(inputs: Iterable[Any], column: str) -> Iterator[dict[str, Any]]:
    for one in inputs:
        yield {column: one}


def _copy_labels(labels: list[Any]) -> dict[str, list[Any]]:
    return {"auxiliary_tags": labels}


def _joined(parts: list[Split], sizes: list[int], seed: int) -> Split:
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, Dataset) for part in parts):
        return concatenate_datasets(parts)
    streams = [part.to_iterable_dataset() if isinstance(part, Dataset) else part for part in parts]
    shares = [size / sum(sizes) for size in sizes]
    strategy: Any = "all_exhausted_without_replacement"
    return interleave_datasets(streams, shares, seed=seed, stopping_strategy=strategy)


__all__ = ["CHUNK", "Lesson", "SoftLabels", "add_soft_labels", "soft_labels", "teach"]
