"""Recurrent layers over packed sequences with torch's kernel for packed input: cuDNN on CUDA."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .packing import Packing

# By the `mode` of a stock module.
KERNELS: dict[str, Callable[..., Any]] = {
    "LSTM": torch.lstm,
    "GRU": torch.gru,
    "RNN_TANH": torch.rnn_tanh,
    "RNN_RELU": torch.rnn_relu,
}

# The most steps that cuDNN takes (https://github.com/pytorch/pytorch/issues/133751).
_MOST_STEPS = 65535

# Without gradients, more tokens than these run through torch's kernel for packed input piece by piece: it keeps the
# gates of all tokens, and a tensor for each step.
_MOST_TOKENS = 16384


def run_packed(
    rnn: nn.RNNBase, weights: Sequence[Tensor], packed: Tensor, packing: Packing, state: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run all directions of a layer.

    Args:
        rnn (`nn.LSTM`, `nn.GRU` or `nn.RNN`): What kind of cell it is.
        weights (`Sequence[torch.Tensor]`): Those of the layer, direction by direction.
        packed (`torch.Tensor` of shape `[num_tokens, input_size]`): Input in packed layout.
        packing ([`Packing`]): The layout.
        state (`tuple[torch.Tensor]`):
            Initial hidden states `[directions, num_sequences, hidden_size]`, longest sequence first; an LSTM's cell
            states too.

    Returns:
        The states `[num_tokens, directions * hidden_size]`, and the final state in the form of the initial one.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.packed import run_packed
    >>> from rnn_hf.models.packing import Packing
    >>> rnn, packing = torch.nn.GRU(3, 5), Packing.from_mask(torch.ones(1, 4))
    >>> run_packed(rnn, rnn._flat_weights, torch.randn(4, 3), packing, (torch.zeros(1, 1, 5),))[0].shape
    torch.Size([4, 5])

    ```
    """
    if len(packed) > _MOST_TOKENS and packed.device.type == "cpu" and not torch.is_grad_enabled():
        return _in_pieces(rnn, weights, packed, packing, state, _MOST_TOKENS // packing.num_sequences)
    if packing.max_length > _MOST_STEPS and packed.device.type == "cuda":
        return _in_pieces(rnn, weights, packed, packing, state, _MOST_STEPS)
    return _packed_kernel(rnn, weights, packed, packing.batch_sizes, state)


def _packed_kernel(
    rnn: nn.RNNBase, weights: Sequence[Tensor], packed: Tensor, batch_sizes: Tensor, state: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Call torch's kernel for one layer on packed tokens, with as many directions as there are states."""
    bidirectional = state[0].shape[0] == 2
    initial = state if len(state) == 2 else state[0]
    states, *final = KERNELS[rnn.mode](
        packed, batch_sizes, initial, weights, rnn.bias, 1, 0.0, rnn.training, bidirectional
    )
    return states, tuple(final)


def _in_pieces(
    rnn: nn.RNNBase,
    weights: Sequence[Tensor],
    packed: Tensor,
    packing: Packing,
    state: tuple[Tensor, ...],
    num_steps: int,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run each direction piece by piece of `num_steps`, the backward one over reversed sequences."""
    states, finals = None, []
    num_weights = len(weights) // len(state[0])
    for direction in range(len(state[0])):
        of_direction = weights[direction * num_weights : (direction + 1) * num_weights]
        columns = slice(direction * rnn.hidden_size, (direction + 1) * rnn.hidden_size)
        carried = tuple(part[direction : direction + 1] for part in state)
        ended: list[tuple[Tensor, ...]] = []
        first = 0
        for batch_sizes in packing.batch_sizes.split(max(1, num_steps)):
            num_rows, num_tokens = int(batch_sizes[0]), int(batch_sizes.sum())
            ended.append(tuple(part[:, num_rows:] for part in carried))
            carried = tuple(part[:, :num_rows].contiguous() for part in carried)
            indices: Any = slice(first, first + num_tokens)
            if direction == 1:
                indices = packing.reversal[indices]
            found, carried = _packed_kernel(rnn, of_direction, packed[indices], batch_sizes, carried)
            if states is None:
                states = found.new_empty(len(packed), len(state[0]) * rnn.hidden_size)
            states[indices, columns] = found
            first += num_tokens
        finals.append(tuple(torch.cat(parts, dim=1) for parts in zip(carried, *reversed(ended), strict=True)))
    assert states is not None
    return states, tuple(torch.cat(parts) for parts in zip(*finals, strict=True))


__all__ = ["KERNELS", "run_packed"]
