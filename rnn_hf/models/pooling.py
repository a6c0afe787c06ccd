"""One vector of each sequence's states, computed on packed tokens.

Between two lengths at which sequences end, packed tokens are a whole block of steps and sequences (`Packing.runs`).
Each block is reduced over its steps, and what remains is joined: no padding, and no copy of the states.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .losses import at_least_float32
from .packing import Packing
from .segments import Segment, SegmentedStates


def pool(kind: str, states: Tensor, last_states: Tensor, scores: Tensor | None, packing: Packing) -> Tensor:
    """Make one vector of each sequence's states.

    Args:
        kind (`str`): `"last"`, `"mean"`, `"max"` or `"attention"`.
        states (`torch.FloatTensor` of shape `[num_tokens, size]`): States in packed layout.
        last_states (`torch.FloatTensor` of shape `[directions, batch_size, hidden_size]`): The last of each direction.
        scores (`torch.FloatTensor` of shape `[num_tokens, 1]`, *optional*): A score for each state, for attention.
        packing ([`Packing`]): The layout.

    Returns:
        `torch.FloatTensor` of shape `[batch_size, size]`, in the batch's order.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.packing import Packing
    >>> from rnn_hf.models.pooling import pool
    >>> pool("last", torch.randn(2, 4), torch.ones(2, 1, 2), None, Packing.from_mask(torch.ones(1, 2)))
    tensor([[1., 1., 1., 1.]])

    ```
    """
    if kind == "last":
        return torch.cat(list(last_states), dim=-1)
    if scores is not None:
        return attention_pool(states, scores, packing)
    return (mean_pool if kind == "mean" else max_pool)(states, packing)


def max_pool(states: Tensor, packing: Packing) -> Tensor:
    """Take the maximum of each feature over a sequence's tokens.

    Tokens that share the maximum share its gradient evenly, as with `torch.amax`.

    Args:
        states (`torch.FloatTensor` of shape `[num_tokens, size]`): States in packed layout.
        packing ([`Packing`]): The layout.

    Returns:
        `torch.FloatTensor` of shape `[batch_size, size]`, in the batch's order; 0 for a sequence without a token.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.packing import Packing
    >>> from rnn_hf.models.pooling import max_pool
    >>> packing = Packing.from_mask(torch.tensor([[1, 0], [1, 1], [0, 0]]))
    >>> max_pool(torch.tensor([[-3.0], [-1.0], [-2.0]]), packing)
    tensor([[-1.],
            [-2.],
            [ 0.]])

    ```
    """
    return _in_batch_order(_Max.apply(states, packing), packing)


def mean_pool(states: Tensor, packing: Packing) -> Tensor:
    """Average a sequence's states.

    Args:
        states (`torch.FloatTensor` of shape `[num_tokens, size]`): States in packed layout.
        packing ([`Packing`]): The layout.

    Returns:
        `torch.FloatTensor` of shape `[batch_size, size]`, in the batch's order; 0 for a sequence without a token.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.packing import Packing
    >>> from rnn_hf.models.pooling import mean_pool
    >>> packing = Packing.from_mask(torch.tensor([[1, 0], [1, 1], [0, 0]]))
    >>> mean_pool(torch.tensor([[-3.0], [-1.0], [-2.0]]), packing)
    tensor([[-1.0000],
            [-2.5000],
            [ 0.0000]])

    ```
    """
    ones = states.new_ones(packing.num_tokens, 1)
    lengths = packing.sorted_lengths[: packing.num_sequences].unsqueeze(1)
    pooled = _WeightedSum.apply(states, ones, packing) / lengths
    return _in_batch_order(pooled.to(states.dtype), packing)


def attention_pool(states: Tensor, scores: Tensor, packing: Packing) -> Tensor:
    """Average a sequence's states with the softmax of scores as weights.

    Args:
        states (`torch.FloatTensor` of shape `[num_tokens, size]`): States in packed layout.
        scores (`torch.FloatTensor` of shape `[num_tokens, 1]`): A score of each.
        packing ([`Packing`]): The layout.

    Returns:
        `torch.FloatTensor` of shape `[batch_size, size]`, in the batch's order; 0 for a sequence without a token.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.packing import Packing
    >>> from rnn_hf.models.pooling import attention_pool
    >>> packing = Packing.from_mask(torch.tensor([[1, 0], [1, 1], [0, 0]]))
    >>> attention_pool(torch.tensor([[-3.0], [-1.0], [-2.0]]), torch.tensor([[0.0], [5.0], [0.0]]), packing)
    tensor([[-1.0000],
            [-2.5000],
            [ 0.0000]])

    ```
    """
    scores = at_least_float32(scores)
    # Shifted so that no exponential overflows; the shift cancels out.
    highest = _Max.apply(scores.detach(), packing)
    weights = (scores - highest.index_select(0, packing.sorted_rows)).exp()
    total = _WeightedSum.apply(weights, torch.ones_like(weights), packing)
    weights = (weights / total.index_select(0, packing.sorted_rows)).to(states.dtype)
    pooled = _WeightedSum.apply(states, weights, packing)
    return _in_batch_order(pooled.to(states.dtype), packing)


def pool_segments(kind: str, states: SegmentedStates, score: Callable[[Tensor], Tensor]) -> Tensor:
    """Make one vector of each sequence's states, which come segment by segment: see [`pool`].

    Args:
        kind (`str`): `"last"`, `"mean"`, `"max"` or `"attention"`.
        states ([`SegmentedStates`]): The states.
        score (`Callable`): Takes states `[num_tokens, size]` and gives their scores `[num_tokens, 1]`, for attention.

    Returns:
        `torch.FloatTensor` of shape `[batch_size, size]`, in the batch's order.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.packing import Packing
    >>> from rnn_hf.models.pooling import pool_segments
    >>> from rnn_hf.models.recurrence import PackedGRU
    >>> from rnn_hf.models.segments import SegmentedStates
    >>> packing, embed = Packing.from_mask(torch.ones(2, 9)), torch.nn.Embedding(18, 4)
    >>> with torch.no_grad():
    ...     pool_segments("max", SegmentedStates(PackedGRU(4, 8), embed, torch.arange(18), packing), None).shape
    torch.Size([2, 8])

    ```
    """
    packing = states.packing
    num_rows, first = packing.num_sequences, states.initial[0]
    pooled = first.new_full((num_rows, states.size), -torch.inf if kind == "max" else 0.0)
    pooled = pooled if kind == "max" else at_least_float32(pooled)
    highest, total = at_least_float32(first.new_full((num_rows, 1), -torch.inf)), pooled.new_zeros(num_rows, 1)

    def receive(values: Tensor, columns: slice, segment: Segment) -> None:
        rows, layout = slice(segment.packing.num_sequences), segment.packing
        if kind == "max":
            pooled[rows, columns] = torch.maximum(pooled[rows, columns], _Max.apply(values, layout))
        elif kind == "mean":
            pooled[rows, columns] += _WeightedSum.apply(values, values.new_ones(len(values), 1), layout)
        elif kind == "attention":
            # A softmax as it goes: what was summed is scaled down where a higher score comes.
            scores = at_least_float32(score(values))
            higher = torch.maximum(highest[rows], _Max.apply(scores, layout))
            scale = (highest[rows] - higher).exp()
            highest[rows] = higher
            weights = (scores - higher.index_select(0, layout.sorted_rows)).exp()
            total[rows] = total[rows] * scale + _WeightedSum.apply(weights, torch.ones_like(weights), layout)
            given = _WeightedSum.apply(values, weights.to(values.dtype), layout)
            pooled[rows] = pooled[rows] * scale + given

    last = states.run(receive, jointly=kind == "attention")[-(states.size // states.rnn.hidden_size) :]
    if kind == "last":
        return torch.cat(list(last), dim=-1)
    if kind == "mean":
        total = packing.sorted_lengths[:num_rows].unsqueeze(1)
    return _in_batch_order((pooled if kind == "max" else pooled / total).to(first.dtype), packing)


def _in_batch_order(pooled: Tensor, packing: Packing) -> Tensor:
    """Put the longest sequence's row, the first one, where it belongs; add those of sequences without a token."""
    missing = packing.batch_size - packing.num_sequences
    if missing:
        pooled = torch.cat([pooled, pooled.new_zeros(missing, pooled.shape[1])])
    return pooled.index_select(0, packing.unsorted_indices)


def _blocks(packed: Tensor, packing: Packing) -> Iterator[Tensor]:
    """View packed values as blocks `[num_steps, num_sequences, size]` without a sequence's end in between."""
    runs = packing.runs
    blocks = packed.split([num_steps * num_rows for num_steps, num_rows in runs])
    for block, (num_steps, num_rows) in zip(blocks, runs, strict=True):
        yield block.view(num_steps, num_rows, -1)


class _Max(torch.autograd.Function):
    """The maximum of each feature over each sequence: `[num_tokens, size]` to `[num_sequences, size]`."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, packing: Packing) -> Tensor:
        maxima = states.new_full((packing.num_sequences, states.shape[1]), -torch.inf)
        for block in _blocks(states, packing):
            rows = maxima[: block.shape[1]]
            torch.maximum(rows, block.amax(dim=0), out=rows)
        ctx.save_for_backward(states, maxima)
        ctx.packing = packing
        return maxima

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        states, maxima = ctx.saved_tensors
        found = torch.empty_like(states)
        counts = at_least_float32(torch.zeros_like(maxima))
        for block, shares in zip(_blocks(states, ctx.packing), _blocks(found, ctx.packing), strict=True):
            rows = block.shape[1]
            torch.eq(block, maxima[:rows], out=shares)
            counts[:rows] += shares.sum(dim=0, dtype=counts.dtype)
        portion = (gradient / counts).to(states.dtype)
        for shares in _blocks(found, ctx.packing):
            shares *= portion[: shares.shape[1]]
        return found, None


class _WeightedSum(torch.autograd.Function):
    """The sum of each sequence's states times weights: `[num_tokens, size]` to `[num_sequences, size]`.

    It is in single precision at least.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, weights: Tensor, packing: Packing) -> Tensor:
        total = at_least_float32(states.new_zeros(packing.num_sequences, states.shape[1]))
        with torch.autocast(states.device.type, enabled=False):
            for block, factors in zip(_blocks(states, packing), _blocks(weights, packing), strict=True):
                # [num_rows, 1, num_steps] @ [num_rows, num_steps, size]
                total[: block.shape[1]] += torch.bmm(factors.permute(1, 2, 0), block.transpose(0, 1)).squeeze(1)
        ctx.save_for_backward(states, weights)
        ctx.packing = packing
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        states, weights = ctx.saved_tensors
        gradient = gradient.to(states.dtype)
        d_states = d_weights = None
        if ctx.needs_input_grad[1]:
            d_weights = torch.empty_like(weights)
            with torch.autocast(states.device.type, enabled=False):
                for block, found in zip(_blocks(states, ctx.packing), _blocks(d_weights, ctx.packing), strict=True):
                    of_rows = gradient[: block.shape[1]].unsqueeze(2)  # [num_rows, size, 1]
                    found.copy_(torch.bmm(block.transpose(0, 1), of_rows).transpose(0, 1))
        if ctx.needs_input_grad[0]:
            d_states = gradient.index_select(0, ctx.packing.sorted_rows).mul_(weights)
        return d_states, d_weights, None


__all__ = ["attention_pool", "max_pool", "mean_pool", "pool", "pool_segments"]
