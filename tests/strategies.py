"""What several test files share: settings, little models, random sequences."""

import math
import multiprocessing
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor, distributed

from rnn_hf import RnnConfig
from rnn_hf.formats.spans import Span
from rnn_hf.models.ngrams import NgramFeatures, bucket_choices, character_ngrams, entry_keys, word_ngrams
from rnn_hf.objectives.training_objectives import TrainingObjectives
from rnn_hf.text.encoding import encode_words

CELLS = ("lstm", "gru", "rnn_tanh", "rnn_relu")
POOLINGS = ("last", "mean", "max", "attention")
DIRECTIONS = (False, True)
VOCAB_SIZE = 30

seeds = st.integers(0, 2**32 - 1)
some_lengths = st.lists(st.integers(1, 9), min_size=1, max_size=5)


def few(max_examples):
    """Few examples, no deadline."""
    return settings(max_examples=max_examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])


LITTLE = {
    "vocab_size": VOCAB_SIZE,
    "embedding_size": 5,
    "hidden_size": 4,
    "pooling": "last",
    "word_dropout": 0.0,
    "embedding_dropout": 0.0,
    "hidden_dropout": 0.0,
    "classifier_dropout": 0.0,
    "ngram_dropout": 0.0,
}


def little_config(**options) -> RnnConfig:
    """Little sizes, no dropout."""
    return RnnConfig(**{**LITTLE, **options})


def generator(seed) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_ids(lengths, seed) -> list[Tensor]:
    source = generator(seed)
    return [torch.randint(VOCAB_SIZE, (length,), generator=source) for length in lengths]


def random_vectors(lengths, size, seed, dtype=torch.float32) -> list[Tensor]:
    source = generator(seed)
    return [torch.randn(length, size, generator=source).to(dtype) for length in lengths]


def set_random_ngrams(ngrams: NgramFeatures, seed, random_entries=True) -> None:
    """Give entries random characters, and buckets to some of the n-grams that can occur."""
    source = generator(seed)
    spellings = ngrams.spellings
    if random_entries:
        lengths = torch.randint(spellings.shape[1] + 1, (len(spellings), 1), generator=source)
        codes = torch.randint(1, 7, spellings.shape, generator=source)
        spellings.copy_(torch.where(torch.arange(spellings.shape[1]) < lengths, codes, 0))
    keys, size = entry_keys(spellings), len(spellings)
    pairs = torch.stack([keys.repeat_interleave(size), keys.repeat(size)])  # [2, num_pairs]
    hashes = word_ngrams(pairs.flatten(), torch.arange(-size * size, size * size), 2)[1, size * size :]
    hashes = torch.cat([keys, hashes, character_ngrams(spellings).flatten()])
    hashes = hashes[hashes > 0]
    hashes = hashes[torch.randperm(len(hashes), generator=source)]
    ngrams.hashes.zero_()
    for choice, some in zip(bucket_choices(hashes, len(ngrams.hashes)), (hashes[::2], hashes), strict=True):
        choice = choice[::2] if len(some) < len(choice) else choice
        free = ngrams.hashes[choice] == 0
        ngrams.hashes[choice[free]] = some[free].int()
    ngrams.scales.copy_(torch.rand(ngrams.scales.shape, generator=source) * 2)
    with torch.no_grad():
        ngrams.bias.copy_(torch.randn(ngrams.bias.shape, generator=source))


def project(values: Tensor) -> Tensor:
    """Make a scalar of a tensor in which each position counts differently."""
    weights = torch.arange(1.0, values.numel() + 1).mul(math.sqrt(2)).sin()
    return (values.float() * weights.view_as(values)).sum()


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor], rtol=1e-4, atol=1e-5) -> None:
    """Compare named tensors."""
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            actual[name], value, rtol=rtol, atol=atol, msg=lambda message, name=name: f"{name}: {message}"
        )


def gradients(module: torch.nn.Module) -> dict[str, Tensor]:
    """Take the gradients of all parameters off a module."""
    found = {f"gradient of {name}": parameter.grad for name, parameter in module.named_parameters()}
    module.zero_grad()
    assert None not in found.values()
    return found


def with_objectives(model, **options):
    """Let a model have additional objectives in training: see `TrainingObjectives`."""
    model.objectives = TrainingObjectives(model.config, **options)
    return model


def texts_of_all_scripts(max_size=40):
    """Texts of letters with and without marks, of all directions, beyond U+FFFF, with white space of all kinds."""
    letters = "abcXYZ019äßéİıﬁ\u0301\u0308\u0338Яابشم\u064bשלוםहिन्दीกรุงำ서울"  # noqa: RUF001
    others = "東京ひらカナー😀👍🏽🇳🇴𝔸𐍈\u200d\ufe0f.,;:!?-—_'’\"«»()[]{}<>/\\@#$%&*+=|~^`€\u200b\ufeff"  # noqa: RUF001
    spaces = "   \t\n\u00a0\u2028\u3000"
    pieces = st.sampled_from([*letters, *others, *spaces, "\r\n", "\r\n"])
    return st.lists(pieces, max_size=max_size).map("".join)


def assert_one_first_token_each(tokenizer, sentences) -> None:
    """Encode sentences, and check the positions of their words."""
    encoded, all_firsts = encode_words(tokenizer, sentences)
    assert len(encoded) == len(all_firsts) == len(sentences)
    for ids, firsts, words in zip(encoded, all_firsts, sentences, strict=True):
        assert len(firsts) == len(words)
        assert firsts == sorted(set(firsts))
        assert all(first < len(ids) - 1 for first in firsts)
        assert ids[-1] == tokenizer.eos_token_id
        assert max(ids) < len(tokenizer)


def draw_spans(data, words, labels=("PER", "LOC", "ORG-x")):
    """Draw spans that do not overlap, from the first to the last."""
    spans, position = [], 0
    while position < len(words):
        length = data.draw(st.integers(1, 4))
        label = data.draw(st.sampled_from([None, *labels]))
        end = min(position + length, len(words))
        if label is not None:
            spans.append(Span(words[position][0], words[end - 1][1], label))
        position = end
    return spans


def in_two_processes(work: Callable[[int, Path], None], folder: Path) -> None:
    """Call a function in two processes of a group, with the rank of each and a folder."""
    context = multiprocessing.get_context("fork")  # which shares the libraries that are loaded
    processes = [context.Process(target=_in_group, args=(work, rank, folder)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        process.kill()
    assert [process.exitcode for process in processes] == [0, 0]


def _in_group(work: Callable[[int, Path], None], rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2, timeout=timedelta(seconds=100)
    )
    work(rank, folder)
    os._exit(0)  # torch's gloo may hang when it is taken down
