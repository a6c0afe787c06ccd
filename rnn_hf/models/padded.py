"""LSTM layers over packed sequences with torch's kernel for padded input, which reaches oneDNN.

Each direction runs on its own, the backward one over sequences that were reversed by their own lengths. The time axis
is cut into segments where sequences end, so that there is little padding.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .packing import Packing

# Saturates a gate in every floating point type, float16 included.
_SATURATED = 1e4


def run_full(
    packed: Tensor, packing: Packing, state: tuple[Tensor, ...], weights: Sequence[Tensor]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run all directions of a layer over sequences of the same length.

    Args:
        packed (`torch.Tensor` of shape `[num_tokens, input_size]`): Input in packed layout.
        packing ([`Packing`]): The layout, without padding (`is_full`).
        state (`tuple[torch.Tensor]`): `h_0` and `c_0`, `[directions, num_sequences, hidden_size]`.
        weights (`Sequence[torch.Tensor]`): Those of `nn.LSTM`, direction by direction.

    Returns:
        The states `[num_tokens, directions * hidden_size]`, and the final state in the form of the initial one.
    """
    padded = packed.view(packing.max_length, packing.num_sequences, -1)
    states, *final = _lstm(padded, state, weights, bidirectional=state[0].shape[0] == 2)
    return states.flatten(0, 1), tuple(final)


def run_padded(
    packed: Tensor, packing: Packing, state: tuple[Tensor, ...], weights: Sequence[Tensor], reverse: bool = False
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run one direction of a layer, segment by segment.

    Args:
        packed (`torch.Tensor` of shape `[num_tokens, input_size]`): Input in packed layout.
        packing ([`Packing`]): The layout.
        state (`tuple[torch.Tensor]`): `h_0` and `c_0`, `[num_sequences, hidden_size]`, longest sequence first.
        weights (`Sequence[torch.Tensor]`): `weight_ih`, `weight_hh` and, unless without, `bias_ih`, `bias_hh`.
        reverse (`bool`): Whether to read every sequence from its last token to its first.

    Returns:
        The states `[num_tokens, hidden_size]`, and the final state in the form of the initial one.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.packing import Packing
    >>> from rnn_hf.models.padded import run_padded
    >>> packing, rnn = Packing.from_mask(torch.tensor([[1, 1, 1], [1, 0, 0]])), torch.nn.LSTM(3, 5)
    >>> state = torch.zeros(2, 5), torch.zeros(2, 5)
    >>> states, (h_n, c_n) = run_padded(torch.randn(4, 3), packing, state, rnn.all_weights[0])
    >>> states.shape, torch.equal(h_n, states[[3, 1]])
    (torch.Size([4, 5]), True)

    ```
    """
    if reverse:
        packed = _Select.apply(packed, packing.reversal)
    segments = packing.segments
    batch_sizes = packing.batch_sizes
    lengths = [int(batch_sizes[begin:end].sum()) for begin, end in pairwise(segments)]
    outputs: list[Tensor] = []
    ended: list[tuple[Tensor, ...]] = []
    state = tuple(part.unsqueeze(0) for part in state)
    first = 0
    for position, segment in enumerate(packed.split(lengths)):
        begin, end = segments[position], segments[position + 1]
        num_rows = int(batch_sizes[begin])
        going_on = int(batch_sizes[end]) if end < packing.max_length else 0
        if segment.shape[0] == num_rows * (end - begin):
            states, *final = _lstm(segment.view(end - begin, num_rows, -1), state, weights)
            outputs.append(states.flatten(0, 1))
        else:
            rows = packing.sorted_rows[first : first + lengths[position]]
            positions = (packing.steps[first : first + lengths[position]] - begin) * num_rows + rows
            padded = _Pad.apply(segment, positions, num_rows * (end - begin))
            states, *final = _lstm(padded.view(end - begin, num_rows, -1), state, _widen(weights))
            states = states.flatten(0, 1)
            outputs.append(_Select.apply(states, positions))
            last = (packing.sorted_lengths[:num_rows].clamp(max=end) - 1 - begin) * num_rows
            final[0] = states.index_select(0, last + torch.arange(num_rows, device=last.device)).unsqueeze(0)
        ended.append(tuple(part[0, going_on:] for part in final))
        state = tuple(part[:, :going_on].contiguous() for part in final)
        first += lengths[position]
    states = torch.cat(outputs) if len(outputs) > 1 else outputs[0]
    if reverse:
        states = _Select.apply(states, packing.reversal)
    return states, tuple(torch.cat(parts) for parts in zip(*reversed(ended), strict=True))


def _lstm(
    padded: Tensor, state: tuple[Tensor, ...], weights: Sequence[Tensor], bidirectional: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Call torch's kernel for one layer on `[num_steps, num_rows, input_size]`."""
    is_training = torch.is_grad_enabled()
    has_biases = len(weights) == (8 if bidirectional else 4)
    return torch.lstm(padded, state, list(weights), has_biases, 1, 0.0, is_training, bidirectional, False)


def _widen(weights: Sequence[Tensor]) -> list[Tensor]:
    """Add the weights of an input feature that is 1 on padding and 0 on tokens: see [`_Pad`].

    It shuts the input gate and opens the forget gate, so that each cell state is carried unchanged to the last step,
    where torch returns it.
    """
    hidden_size = weights[1].shape[1]
    column = weights[0].new_zeros(4, hidden_size, 1)
    column[0] = -_SATURATED
    column[1] = _SATURATED
    return [torch.cat([weights[0], column.flatten(0, 1)], dim=1), *weights[1:]]


class _Pad(torch.autograd.Function):
    """Lay packed input out padded, with one more feature that is 1 on padding and 0 on tokens."""

    @staticmethod
    def forward(ctx: Any, packed: Tensor, positions: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(positions)
        padded = packed.new_zeros(size, packed.shape[1] + 1)
        padded[:, :-1].index_copy_(0, positions, packed)
        padded[:, -1] = 1
        padded[:, -1].index_fill_(0, positions, 0)
        return padded

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (positions,) = ctx.saved_tensors
        return gradient[:, :-1].index_select(0, positions), None, None


class _Select(torch.autograd.Function):
    """Select rows, each at most once, so that their gradients can be copied instead of added."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, positions: Tensor) -> Tensor:
        ctx.save_for_backward(positions)
        ctx.num_rows = values.shape[0]
        return values.index_select(0, positions)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (positions,) = ctx.saved_tensors
        whole = len(positions) == ctx.num_rows
        found = gradient.new_empty if whole else gradient.new_zeros
        return found(ctx.num_rows, *gradient.shape[1:]).index_copy_(0, positions, gradient), None


__all__ = ["run_full", "run_padded"]
