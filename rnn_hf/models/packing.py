"""The two layouts of a batch of sequences, and the ways between them.

Padded: `[batch_size, sequence_length, ...]`, a row for each sequence, in the batch's order.

Packed: `[num_tokens, ...]`, the layout of `torch.nn.utils.rnn.PackedSequence`: the first tokens of all
sequences, then all second tokens, and so on, with the longest sequence first in each step. It holds no padding.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)

# What running one more segment costs beside its tokens, counted in tokens, and how many positions to cut are tried.
# Measured with `rnn-hf benchmark layer`. Longer segments than of so many tokens take memory and save no time.
SEGMENT_COST = 64
_MOST_CUTS = 16
_MOST_TOKENS = 4096


@dataclass(frozen=True)
class Packing:
    """Where each token of a batch stands in the packed and in the padded layout.

    Unlike a `PackedSequence`, a batch may hold sequences of length 0: they come last in sorted order.

    Args:
        batch_sizes (`torch.LongTensor` of shape `[max_length]`, on the CPU):
            Number of sequences that are longer than the step.
        sorted_indices (`torch.LongTensor` of shape `[batch_size]`):
            The batch's rows from the longest sequence to the shortest.
        unsorted_indices (`torch.LongTensor` of shape `[batch_size]`):
            The inverse permutation.
        sequence_length (`int`):
            Number of columns of the padded layout; the longest sequence may be shorter.
        columns (`torch.LongTensor` of shape `[batch_size, sequence_length]`, *optional*):
            For each row, in sorted order, the padded columns of its tokens in their order. `None` where the
            tokens fill each row from the left.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.packing import Packing
    >>> ids = torch.tensor([[7, 8, 0], [4, 5, 6]])
    >>> packing = Packing.from_mask(ids != 0)
    >>> packed = packing.pack(ids)
    >>> packed, packing.batch_sizes, packing.lengths
    (tensor([4, 7, 5, 8, 6]), tensor([2, 2, 1]), tensor([2, 3]))
    >>> packing.pad(packed, value=-100)
    tensor([[   7,    8, -100],
            [   4,    5,    6]])

    ```
    """

    batch_sizes: Tensor
    sorted_indices: Tensor
    unsorted_indices: Tensor
    sequence_length: int
    columns: Tensor | None = None

    @classmethod
    def from_mask(cls, attention_mask: Tensor) -> "Packing":
        """Read the layout off a padded batch.

        Args:
            attention_mask (`torch.Tensor` of shape `[batch_size, sequence_length]`):
                Nonzero where there is a token: padding may stand right, left, or between tokens.
        """
        mask = attention_mask != 0
        if mask.shape[0] == 1 and mask.all():
            row = torch.zeros(1, dtype=torch.long, device=mask.device)
            return cls(torch.ones(mask.shape[1], dtype=torch.long), row, row, mask.shape[1])
        lengths = mask.sum(dim=1)
        sorted_indices = lengths.argsort(descending=True, stable=True)
        steps = torch.arange(mask.shape[1], device=mask.device)
        longer = lengths.unsqueeze(1) > steps  # [batch_size, sequence_length]
        batch_sizes = longer.sum(dim=0)
        columns = None
        if not torch.equal(mask, longer):
            columns = mask[sorted_indices].to(torch.uint8).argsort(dim=1, descending=True, stable=True)
        return cls(
            batch_sizes=batch_sizes[batch_sizes > 0].cpu(),
            sorted_indices=sorted_indices,
            unsorted_indices=sorted_indices.argsort(),
            sequence_length=mask.shape[1],
            columns=columns,
        )

    @classmethod
    def from_batch_sizes(
        cls,
        batch_sizes: Tensor,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
        device: torch.device | None = None,
    ) -> "Packing":
        """Read the layout off the fields of a `PackedSequence`.

        Args:
            batch_sizes (`torch.LongTensor` of shape `[max_length]`): Sequences longer than the step.
            sorted_indices (`torch.LongTensor` of shape `[batch_size]`, *optional*):
                Rows from the longest to the shortest; without it the batch is in that order already.
            unsorted_indices (`torch.LongTensor` of shape `[batch_size]`, *optional*): Its inverse.
            device (`torch.device`, *optional*): Where the tokens are.

        Raises:
            ValueError: Fields that no `PackedSequence` has: `batch_sizes` that increase or are not positive,
                `sorted_indices` that are no permutation of the batch, `unsorted_indices` that are not their inverse.
        """
        batch_sizes = _indices("batch_sizes", batch_sizes).cpu()
        if len(batch_sizes) and (int(batch_sizes[-1]) < 1 or bool((batch_sizes[1:] > batch_sizes[:-1]).any())):
            raise ValueError(
                "batch_sizes must be at least 1 and never increase, since a sequence that ended does not go on; got "
                f"{_shown(batch_sizes)}."
            )
        num_sequences = int(batch_sizes[0]) if len(batch_sizes) else 0
        if sorted_indices is None:
            sorted_indices = torch.arange(num_sequences)
        sorted_indices = _indices("sorted_indices", sorted_indices).to(device)
        if len(sorted_indices) < num_sequences:
            raise ValueError(
                f"sorted_indices must hold each row of the batch, which has {num_sequences} by batch_sizes; got "
                f"{len(sorted_indices)}."
            )
        values, inverse = sorted_indices.sort()
        are_wrong = values != torch.arange(len(values), device=values.device)
        if unsorted_indices is not None:
            unsorted_indices = _indices("unsorted_indices", unsorted_indices).to(device)
            if len(unsorted_indices) != len(inverse):
                raise ValueError(
                    f"unsorted_indices must hold as many rows as sorted_indices, {len(inverse)}; got "
                    f"{len(unsorted_indices)}."
                )
            are_wrong = torch.stack([are_wrong, unsorted_indices != inverse])
        if are_wrong.any():
            if not torch.equal(values, torch.arange(len(values), device=values.device)):
                raise ValueError(
                    f"sorted_indices must hold each row from 0 to {len(values) - 1} once; got {_shown(sorted_indices)}."
                )
            assert unsorted_indices is not None
            raise ValueError(
                f"unsorted_indices must be the inverse of sorted_indices, {_shown(inverse)}; got "
                f"{_shown(unsorted_indices)}."
            )
        return cls(
            batch_sizes=batch_sizes,
            sorted_indices=sorted_indices,
            unsorted_indices=inverse,
            sequence_length=len(batch_sizes),
        )

    @property
    def batch_size(self) -> int:
        """`int`: number of sequences, those of length 0 included."""
        return self.sorted_indices.shape[0]

    @cached_property
    def num_sequences(self) -> int:
        """`int`: number of sequences that have at least one token."""
        return int(self.batch_sizes[0]) if self.max_length else 0

    @property
    def max_length(self) -> int:
        """`int`: length of the longest sequence."""
        return self.batch_sizes.shape[0]

    @cached_property
    def num_tokens(self) -> int:
        """`int`: number of tokens of all sequences together."""
        return int(self.batch_sizes.sum())

    @cached_property
    def is_full(self) -> bool:
        """`bool`: whether all sequences with a token are equally long."""
        return self.max_length == 0 or int(self.batch_sizes[-1]) == self.num_sequences

    @cached_property
    def runs(self) -> list[tuple[int, int]]:
        """`list[tuple[int, int]]`: parts of the time axis without a sequence's end, as (number of steps, of sequences).

        The packed tokens of each are a whole `[num_steps, num_sequences, ...]`.
        """
        sizes, counts = self.batch_sizes.unique_consecutive(return_counts=True)
        return list(zip(counts.tolist(), sizes.tolist(), strict=True))

    @cached_property
    def step_sizes(self) -> list[int]:
        """`list[int]`: `batch_sizes` as numbers."""
        return self.batch_sizes.tolist()

    @cached_property
    def steps(self) -> Tensor:
        """`torch.LongTensor` of shape `[num_tokens]`: each packed token's position in its sequence, from 0."""
        steps = torch.arange(self.max_length).repeat_interleave(self.batch_sizes)
        return steps.to(self.sorted_indices.device)

    @cached_property
    def sorted_rows(self) -> Tensor:
        """`torch.LongTensor` of shape `[num_tokens]`: each packed token's sequence, in sorted order."""
        first = (self.batch_sizes.cumsum(0) - self.batch_sizes).repeat_interleave(self.batch_sizes)
        return (torch.arange(self.num_tokens) - first).to(self.sorted_indices.device)

    @cached_property
    def sorted_lengths(self) -> Tensor:
        """`torch.LongTensor` of shape `[batch_size]`: lengths from the longest to the shortest."""
        rows = torch.arange(self.batch_size)
        lengths = self.batch_sizes.numel() - torch.searchsorted(self.batch_sizes.flip(0), rows, right=True)
        return lengths.to(self.sorted_indices.device)

    @cached_property
    def step_positions(self) -> Tensor:
        """`torch.LongTensor` of shape `[max_length]`: the packed position at which each step begins."""
        return (self.batch_sizes.cumsum(0) - self.batch_sizes).to(self.sorted_indices.device)

    @cached_property
    def last_positions(self) -> Tensor:
        """`torch.LongTensor` of shape `[num_sequences]`: the packed position of each sequence's last token."""
        rows = torch.arange(self.num_sequences, device=self.sorted_indices.device)
        return self.step_positions[self.sorted_lengths[: self.num_sequences] - 1] + rows

    @cached_property
    def reversal(self) -> Tensor:
        """`torch.LongTensor` of shape `[num_tokens]`: the packed position of each token's mirror image."""
        mirrored = self.sorted_lengths[self.sorted_rows] - 1 - self.steps
        return self.step_positions[mirrored] + self.sorted_rows

    @property
    def segments(self) -> list[int]:
        """`list[int]`: steps at which to cut the time axis, from 0 to the length of the longest sequence.

        Sequences end there, so that a padded layout of each segment holds little padding; and the parts are of
        bounded size.
        """
        return self._cut[0]

    @property
    def padded_cost(self) -> int:
        """`int`: what running each segment padded costs: its tokens, its padding, and a constant, in tokens."""
        return self._cut[1]

    @cached_property
    def _cut(self) -> tuple[list[int], int]:
        """Find the segments that cost least, by dynamic programming over the lengths at which sequences end."""
        if self.is_full:
            cost = self.num_sequences * self.max_length + SEGMENT_COST
            return self._bounded([0, self.max_length]), cost
        ends = (self.batch_sizes[1:] != self.batch_sizes[:-1]).nonzero().flatten() + 1
        if len(ends) > _MOST_CUTS:
            ends = ends[torch.linspace(0, len(ends) - 1, _MOST_CUTS).round().long()]
        positions = [0, *ends.tolist(), self.max_length]
        rows = self.batch_sizes[positions[:-1]].tolist()
        costs, begins = [0], [0]
        for end in range(1, len(positions)):
            options = [
                costs[begin] + (positions[end] - positions[begin]) * rows[begin] + SEGMENT_COST for begin in range(end)
            ]
            costs.append(min(options))
            begins.append(options.index(costs[-1]))
        cuts = [len(positions) - 1]
        while cuts[-1] > 0:
            cuts.append(begins[cuts[-1]])
        return self._bounded([positions[position] for position in reversed(cuts)]), costs[-1]

    def _bounded(self, segments: list[int]) -> list[int]:
        """Cut long segments into equal ones of bounded size."""
        bounded = [0]
        for begin, end in pairwise(segments):
            parts = math.ceil((end - begin) * int(self.batch_sizes[begin]) / _MOST_TOKENS)
            bounded += [begin + (end - begin) * part // parts for part in range(1, parts + 1)]
        return bounded

    def previous_positions(self, reverse: bool = False) -> Tensor:
        """Tell where the token before each token stands.

        Args:
            reverse (`bool`): Whether sequences are read from their last token to their first.

        Returns:
            `torch.LongTensor` of shape `[num_tokens]`: positions in the packed tokens behind `num_sequences` initial
            values, which come before each sequence's first token in reading order.
        """
        rows, steps = self.sorted_rows, self.steps
        if reverse:
            begins = steps == self.sorted_lengths[rows] - 1
            before = self.step_positions[(steps + 1).clamp(max=self.max_length - 1)]
        else:
            begins = steps == 0
            before = self.step_positions[(steps - 1).clamp(min=0)]
        return torch.where(begins, rows, self.num_sequences + before + rows)

    def group_ends(self, starts: Tensor) -> Tensor:
        """Tell where the group of each token ends: of pieces of one word, the last one.

        Args:
            starts (`torch.BoolTensor` of shape `[num_tokens]`): Whether each packed token begins a group.

        Returns:
            `torch.LongTensor` of shape `[num_tokens]`: the packed position of the last token before the next start, or
            before the sequence's end.
        """
        if starts.all():
            return torch.arange(self.num_tokens, device=starts.device)
        next_starts = torch.arange(self.max_length + 1, device=starts.device).repeat(self.num_sequences, 1)
        next_starts[self.sorted_rows, self.steps] = torch.where(starts, self.steps, self.max_length)
        next_starts = next_starts.flip(1).cummin(dim=1).values.flip(1)
        return self.step_positions[next_starts[self.sorted_rows, self.steps + 1] - 1] + self.sorted_rows

    @property
    def lengths(self) -> Tensor:
        """`torch.LongTensor` of shape `[batch_size]`: lengths in the batch's order."""
        return self.sorted_lengths[self.unsorted_indices]

    @cached_property
    def positions(self) -> Tensor:
        """`torch.LongTensor` of shape `[num_tokens]`: each packed token's position in the flattened padded layout."""
        columns = self.steps if self.columns is None else self.columns[self.sorted_rows, self.steps]
        return self.sorted_indices[self.sorted_rows] * self.sequence_length + columns

    def select(self, chosen: Tensor) -> "Packing":
        """Leave tokens out.

        Args:
            chosen (`torch.BoolTensor` of shape `[num_tokens]`): Whether each packed token stays.

        Returns:
            [`Packing`] of the tokens that stay, with the same padded layout.
        """
        return self if chosen.all() else Packing.from_mask(self.pad(chosen))

    @property
    def _is_one_row(self) -> bool:
        return self.batch_size == 1 and self.max_length == self.sequence_length

    def pack(self, padded: Tensor) -> Tensor:
        """Take `[batch_size, sequence_length, ...]` to `[num_tokens, ...]`."""
        if self._is_one_row:
            return padded[0]
        return padded.flatten(0, 1).index_select(0, self.positions)

    def pad(self, packed: Tensor, value: float = 0.0) -> Tensor:
        """Take `[num_tokens, ...]` to `[batch_size, sequence_length, ...]`, with `value` where no token is."""
        if self._is_one_row:
            return packed.unsqueeze(0)
        rest = packed.shape[1:]
        padded = packed.new_full((self.batch_size * self.sequence_length, *rest), value)
        return padded.index_copy_(0, self.positions, packed).view(self.batch_size, self.sequence_length, *rest)


def pack_rows(rows: Sequence[Tensor]) -> tuple[Tensor, Packing]:
    """Pack rows of any lengths, 0 included, without padding them first.

    Args:
        rows (`Sequence[torch.Tensor]`): Values of each row, along the first dimension.

    Returns:
        All values in packed layout, and the layout.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.packing import pack_rows
    >>> values, packing = pack_rows([torch.tensor([1]), torch.tensor([2, 3])])
    >>> values, packing.batch_sizes
    (tensor([2, 1, 3]), tensor([2, 1]))

    ```
    """
    lengths = torch.tensor([len(row) for row in rows])
    sorted_indices = lengths.argsort(descending=True, stable=True)
    steps = torch.cat([torch.arange(length) for length in lengths.tolist()])
    order = (steps * len(rows) + sorted_indices.argsort().repeat_interleave(lengths)).argsort()
    return torch.cat(list(rows))[order], Packing.from_batch_sizes(steps.bincount(), sorted_indices)


def _indices(name: str, values: Tensor) -> Tensor:
    """Check that a field is one list of integers."""
    if values.dim() != 1 or values.dtype not in INTEGERS:
        raise ValueError(
            f"{name} must be a tensor of integers of one dimension; got the shape {list(values.shape)} of "
            f"{values.dtype}."
        )
    return values.long()


def _shown(values: Tensor) -> str:
    """Write a tensor of integers in short."""
    listed = values[:10].tolist()
    return f"[{', '.join(map(str, listed))}{', …' if len(values) > 10 else ''}]"


__all__ = ["INTEGERS", "SEGMENT_COST", "Packing", "pack_rows"]
