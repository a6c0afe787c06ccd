"""Which examples make a batch in training, in an order that depends on the seed and the epoch alone.

A run that is resumed in the middle of an epoch therefore sees the batches that it would have seen.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import LengthGroupedSampler

from ..data.collator import cut_batches


class TokenBatchSampler(Sampler[list[int]]):
    """Batches of bounded size that gather sequences of similar length, drawn anew in each epoch.

    Every process gets as many batches as the others; one step may have a batch twice for that. In each step, processes
    get batches of similar length, so that none waits long for another.

    Args:
        lengths (`Sequence[int]`): Number of tokens of each example.
        max_tokens (`int`): Most tokens of a batch. A longer sequence makes a batch of its own.
        max_examples (`int`): Most examples of a batch.
        seed (`int`): Seed of the order, to which the epoch is added.
        num_replicas (`int`): Number of processes.
        rank (`int`): Number of this process.

    Example:
    ```python
    >>> from rnn_hf.training.batching import TokenBatchSampler
    >>> lengths = [1, 9, 2, 2, 8, 1]
    >>> sorted(sorted(lengths[index] for index in batch) for batch in TokenBatchSampler(lengths, 10, 32))
    [[1, 1, 2, 2], [8], [9]]

    ```
    """

    def __init__(
        self,
        lengths: Sequence[int],
        max_tokens: int,
        max_examples: int,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
    ):
        self.lengths = lengths
        self.max_tokens = max_tokens
        self.max_examples = max_examples
        self.seed = seed
        self.num_replicas = num_replicas
        self.rank = rank
        self.epoch = 0
        # Cut along the sorted lengths, which are the same in each epoch: so is the number of batches.
        self._num_batches = sum(1 for _ in self._cut(range(len(lengths))))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches come next."""
        self.epoch = epoch

    def _cut(self, order: Sequence[int]) -> Iterator[list[int]]:
        by_length = sorted(order, key=self.lengths.__getitem__)
        return cut_batches(by_length, self.lengths, self.max_examples, self.max_tokens)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        batches = list(self._cut(torch.randperm(len(self.lengths), generator=generator).tolist()))
        steps = [batches[start : start + self.num_replicas] for start in range(0, len(batches), self.num_replicas)]
        for index in torch.randperm(len(steps), generator=generator).tolist():
            yield steps[index][self.rank % len(steps[index])]

    def __len__(self) -> int:
        return -(-self._num_batches // self.num_replicas)


class MixedBatchSampler(Sampler[list[int]]):
    """Batches of as many examples without labels as with labels, both drawn anew in each epoch.

    An epoch is one pass over the labelled examples. The others come in their turn, over several epochs if they are
    more. Every process gets as many batches as the others; the last ones may be given out twice for that.

    Args:
        num_labelled (`int`): Number of labelled examples, which come first in the dataset.
        num_unlabelled (`int`): Number of those behind.
        batch_size (`int`): Most labelled examples in a batch.
        seed (`int`): Seed of the order, to which the epoch is added.
        num_replicas (`int`): Number of processes.
        rank (`int`): Number of this process.

    Example:
    ```python
    >>> from rnn_hf.training.batching import MixedBatchSampler
    >>> sampler = MixedBatchSampler(num_labelled=3, num_unlabelled=10, batch_size=2)
    >>> [sum(index >= 3 for index in batch) for batch in sampler], len(sampler)
    ([2, 1], 2)

    ```
    """

    def __init__(
        self,
        num_labelled: int,
        num_unlabelled: int,
        batch_size: int,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
    ):
        self.num_labelled = num_labelled
        self.num_unlabelled = num_unlabelled
        self.batch_size = batch_size
        self.seed = seed
        self.num_replicas = num_replicas
        self.rank = rank
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches come next."""
        self.epoch = epoch

    def _shuffled(self, number: int, turn: int) -> list[int]:
        return torch.randperm(number, generator=torch.Generator().manual_seed(self.seed + turn)).tolist()

    def __iter__(self) -> Iterator[list[int]]:
        begin = self.epoch * self.num_labelled  # among the unlabelled ones of all epochs
        first, last = (index // self.num_unlabelled for index in (begin, begin + self.num_labelled - 1))
        others = [index for turn in range(first, last + 1) for index in self._shuffled(self.num_unlabelled, turn)]
        others = others[begin - first * self.num_unlabelled :][: self.num_labelled]
        order = self._shuffled(self.num_labelled, self.epoch)
        batches = [
            order[start : start + self.batch_size]
            + [self.num_labelled + index for index in others[start : start + self.batch_size]]
            for start in range(0, self.num_labelled, self.batch_size)
        ]
        shared = (batches * self.num_replicas)[: len(self) * self.num_replicas]
        yield from shared[self.rank :: self.num_replicas]

    def __len__(self) -> int:
        num_batches = -(-self.num_labelled // self.batch_size)
        return -(-num_batches // self.num_replicas)


class SeededLengthGroupedSampler(LengthGroupedSampler):
    """The Trainer's sampler by length, with an order that depends on seed and epoch rather than on what ran before.

    Args:
        seed (`int`): Seed of the order, to which the epoch is added.
        options: See `transformers.trainer_pt_utils.LengthGroupedSampler`.

    Example:
    ```python
    >>> from rnn_hf.training.batching import SeededLengthGroupedSampler
    >>> sampler = SeededLengthGroupedSampler(seed=1, batch_size=2, lengths=[3, 1, 2, 5])
    >>> list(sampler) == list(sampler)
    True

    ```
    """

    def __init__(self, seed: int, **options: Any):
        super().__init__(**options)
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return super().__iter__()


def set_epoch(loader: Any, epoch: int) -> None:
    """Tell a data loader's dataset and samplers the epoch, however deep they are wrapped.

    Args:
        loader: A data loader, sampler or dataset.
        epoch (`int`): The epoch, from 0.
    """
    for name in ("batch_sampler", "sampler", "dataset"):
        inner = getattr(loader, name, None)
        if inner is not None:
            set_epoch(inner, epoch)
            if hasattr(inner, "set_epoch"):
                inner.set_epoch(epoch)


__all__ = [
    "MixedBatchSampler",
    "SeededLengthGroupedSampler",
    "TokenBatchSampler",
    "set_epoch",
]
