"""Word vectors from a transformer: what it makes of each word of its vocabulary alone."""

import os
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from ..utils.display import one_line, printable

# Numbers of a vector at most.
_SIZE = 128
_BATCH_SIZE = 512
_CONTINUATION = "##"


def is_transformer(source: str) -> bool:
    """Tell whether a folder holds a saved model."""
    return os.path.isfile(os.path.join(source, "config.json"))


def transformer_vectors(folder: str, limit: int | None = None) -> tuple[list[str], np.ndarray]:
    """Compute vectors of the words in a transformer's vocabulary.

    As in Model2Vec (https://github.com/MinishLab/model2vec), the vector of a word is the mean of the last states of
    the word alone. The principal components of all vectors are taken, and rare words, which stand later in the
    vocabulary, weigh more than frequent ones: by the logarithm of their rank.

    Args:
        folder (`str`): Folder with the model and its fast tokenizer.
        limit (`int`, *optional*): Take only the first so many words.

    Returns:
        The words, and a `numpy.ndarray` of shape `[num_words, at most 128]`, float32, whose numbers have the mean 0 and
        the variance 1.

    Raises:
        ValueError: There is no such model, or its vocabulary has no whole words.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model = AutoModel.from_pretrained(folder, trust_remote_code=False, use_safetensors=True).eval()
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"--vectors {printable(folder)} could not be loaded: {one_line(str(error))}") from error
    words = _whole_words(tokenizer)[:limit]
    if not words:
        raise ValueError(f"--vectors {printable(folder)}: its vocabulary has no whole words.")
    states = _mean_states(model, tokenizer, words)
    states -= states.mean(dim=0)
    size = min(_SIZE, *states.shape)
    _, _, components = torch.linalg.svd(states.T @ states)
    vectors = states @ components[:size].T
    vectors *= torch.arange(2, len(words) + 2).log().unsqueeze(1)
    vectors = (vectors - vectors.mean(dim=0)) / vectors.std().clamp(min=1e-6)
    return words, vectors.numpy().astype(np.float32)


def _whole_words(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the words that are one token, in the order of the vocabulary."""
    words: dict[str, None] = {}
    special = set(tokenizer.all_special_ids)
    for token, index in sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1]):
        word = tokenizer.convert_tokens_to_string([token]).strip()
        if index in special or not word or token.startswith(_CONTINUATION) or any(map(str.isspace, word)):
            continue
        if tokenizer(f" {word}", add_special_tokens=False)["input_ids"] == [index]:
            words[word] = None
    return list(words)


@torch.no_grad()
def _mean_states(model: Any, tokenizer: PreTrainedTokenizerBase, words: list[str]) -> torch.Tensor:
    means = []
    with tqdm(total=len(words), desc="Word vectors of the transformer") as progress:
        for start in range(0, len(words), _BATCH_SIZE):
            batch = words[start : start + _BATCH_SIZE]
            # Some tokenizers know a word by the space before it.
            encoding = tokenizer([f" {word}" for word in batch])
            rows = [torch.tensor(ids) for ids in encoding["input_ids"]]
            ids = pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id or 0)
            mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
            states = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
            means.append((states * mask.unsqueeze(2)).sum(dim=1) / mask.sum(dim=1, keepdim=True))
            progress.update(len(batch))
    return torch.cat(means)


__all__ = ["is_transformer", "transformer_vectors"]
