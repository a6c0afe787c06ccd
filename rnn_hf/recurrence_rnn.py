"""Stacked recurrent layers over packed sequences, with the weights of a stock `nn.LSTM`, `nn.GRU` or `nn.RNN`.

Two paths give the results of the stock module on a `PackedSequence`:

- the packed one calls torch's kernel for packed input, layer by layer. Its training time on a CPU grows with the
  square of the sequence length (https://github.com/pytorch/pytorch/issues/149194).
- the padded one calls the kernel for padded input, each direction on its own, the backward one over sequences that
  were reversed by their own lengths. Its time is linear, and an LSTM reaches oneDNN. The time axis is cut where
  sequences end, so that there is little padding.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .packing_rnn import Packing

_CELLS: dict[str, Callable[..., Any]] = {
    "LSTM": torch.lstm,
    "GRU": torch.gru,
    "RNN_TANH": torch.rnn_tanh,
    "RNN_RELU": torch.rnn_relu,
}

# Saturates a gate in every floating point type, float16 included.
_SATURATED = 1e4

# What a call of the kernel costs beside its tokens, counted in tokens, and how many places to cut are tried.
_SEGMENT_COST = 64
_MOST_CUTS = 32


class LockedDropout(nn.Module):
    """Dropout with one mask per sequence, the same at every step (https://arxiv.org/abs/1512.05287).

    Args:
        p (`float`): Probability of a feature to be dropped from a sequence.
    """

    def __init__(self, p: float = 0.5):
        super().__init__()
        self.p = p

    def forward(self, packed: Tensor, packing: Packing) -> Tensor:
        """Drop features of packed states.

        Args:
            packed (`torch.Tensor` of shape `[num_tokens, size]`): States in packed layout.
            packing ([`Packing`]): Says which sequence each token belongs to.

        Returns:
            `torch.Tensor` of shape `[num_tokens, size]`; the input itself in evaluation.
        """
        if not self.training or self.p == 0:
            return packed
        mask = nn.functional.dropout(packed.new_ones(packing.num_sequences, packed.shape[1]), self.p)
        return packed * mask.index_select(0, packing.sorted_rows)

    def extra_repr(self) -> str:
        """Show the probability."""
        return f"p={self.p}"


class RecurrentOutput(NamedTuple):
    """What [`run_recurrence`] returns.

    Args:
        states (`list[torch.Tensor]` of shape `[num_tokens, directions * hidden_size]`):
            The packed states of each layer.
        h_n (`torch.Tensor` of shape `[layers * directions, batch_size, hidden_size]`):
            Hidden states after the last step of each direction, in the batch's order.
        c_n (`torch.Tensor`, the shape of `h_n`, or `None`): The LSTM's cell states.
    """

    states: list[Tensor]
    h_n: Tensor
    c_n: Tensor | None


def run_recurrence(
    rnn: nn.RNNBase,
    packed: Tensor,
    packing: Packing,
    h_0: Tensor | None = None,
    c_0: Tensor | None = None,
    dropout: LockedDropout | None = None,
    path: str | None = None,
) -> RecurrentOutput:
    """Run a stock recurrent module over packed sequences.

    Args:
        rnn (`nn.LSTM`, `nn.GRU` or `nn.RNN`): Holds the weights; its own `dropout` is not applied.
        packed (`torch.Tensor` of shape `[num_tokens, input_size]`): Input in packed layout.
        packing ([`Packing`]): The layout.
        h_0 (`torch.Tensor` of shape `[layers * directions, batch_size, hidden_size]`, *optional*):
            Initial hidden states in the batch's order; zeros without it.
        c_0 (`torch.Tensor`, the shape of `h_0`, *optional*): Initial cell states of an LSTM.
        dropout ([`LockedDropout`], *optional*): Applied between layers.
        path (`str`, *optional*):
            `"packed"` or `"padded"`, to force a path; without it the faster one is taken.

    Returns:
        [`RecurrentOutput`]

    Raises:
        ValueError: An initial state of the wrong shape, or a cell state for a cell that has none.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.packing_rnn import Packing
    >>> from rnn_hf.recurrence_rnn import run_recurrence
    >>> packing = Packing.from_mask(torch.tensor([[1, 1, 0], [1, 1, 1]]))
    >>> states, h_n, c_n = run_recurrence(torch.nn.LSTM(4, 8, num_layers=2), torch.randn(5, 4), packing)
    >>> states[-1].shape, h_n.shape, c_n.shape
    (torch.Size([5, 8]), torch.Size([2, 2, 8]), torch.Size([2, 2, 8]))

    ```
    """
    directions = 2 if rnn.bidirectional else 1
    shape = (rnn.num_layers * directions, packing.batch_size, rnn.hidden_size)
    has_cell_state = rnn.mode == "LSTM"
    if c_0 is not None and not has_cell_state:
        raise ValueError(f"c_0 was given, but only an LSTM has a cell state; this is a {rnn.mode}.")
    state = tuple(
        _initial_state(name, given, shape, packed, packing)
        for name, given in (("h_0", h_0), ("c_0", c_0))[: 1 + has_cell_state]
    )
    if path is None:
        path = choose_path(rnn, packed)
    run_layer = {"packed": _packed_layer, "padded": _padded_layer}[path]

    layers: list[Tensor] = []
    finals: list[tuple[Tensor, ...]] = []
    for layer in range(rnn.num_layers):
        chosen = slice(layer * directions, (layer + 1) * directions)
        layer_state = tuple(part[chosen] for part in state)
        if packing.num_tokens == 0:
            packed, final = packed.new_zeros(0, directions * rnn.hidden_size), layer_state
        else:
            if layer > 0 and dropout is not None:
                packed = dropout(packed, packing)
            # Sequences without a token keep their initial state.
            present = tuple(part[:, : packing.num_sequences].contiguous() for part in layer_state)
            packed, final = run_layer(rnn, rnn.all_weights[chosen], packed, packing, present)
            if packing.num_sequences < packing.batch_size:
                final = tuple(
                    torch.cat([part.to(first.dtype), first[:, packing.num_sequences :]], dim=1)
                    for part, first in zip(final, layer_state, strict=True)
                )
        layers.append(packed)
        finals.append(final)
    unsorted = [torch.cat(parts)[:, packing.unsorted_indices] for parts in zip(*finals, strict=True)]
    return RecurrentOutput(layers, unsorted[0], unsorted[1] if has_cell_state else None)


def choose_path(rnn: nn.RNNBase, packed: Tensor) -> str:
    """Name the faster path: `"packed"` on CUDA (cuDNN) and for inference without oneDNN, else `"padded"`."""
    if packed.device.type == "cuda":
        return "packed"
    if packed.device.type == "cpu" and rnn.mode != "LSTM" and not torch.is_grad_enabled():
        return "packed"
    return "padded"


def _initial_state(
    name: str, given: Tensor | None, shape: tuple[int, int, int], packed: Tensor, packing: Packing
) -> Tensor:
    if given is None:
        return packed.new_zeros(shape)
    if given.shape != shape:
        raise ValueError(
            f"{name} must have the shape [layers * directions, batch_size, hidden_size] = {list(shape)}, "
            f"got {list(given.shape)}."
        )
    return given[:, packing.sorted_indices]


def _packed_layer(
    rnn: nn.RNNBase, weights: Sequence[Sequence[Tensor]], packed: Tensor, packing: Packing, state: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    states, *final = _CELLS[rnn.mode](
        packed,
        packing.batch_sizes,
        state if len(state) == 2 else state[0],
        [weight for direction in weights for weight in direction],
        rnn.bias,
        1,
        0.0,
        rnn.training,
        rnn.bidirectional,
    )
    return states, tuple(final)


def _padded_layer(
    rnn: nn.RNNBase, weights: Sequence[Sequence[Tensor]], packed: Tensor, packing: Packing, state: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    if packing.is_full:
        padded = packed.view(packing.max_length, packing.num_sequences, -1)
        both = [weight for direction in weights for weight in direction]
        states, final = _run_padded(rnn, padded, state, both, rnn.bidirectional)
        return states.flatten(0, 1), final

    segments = _cut(packing)
    outputs: list[Tensor] = []
    finals: list[tuple[Tensor, ...]] = []
    for direction, direction_weights in enumerate(weights):
        initial = tuple(part[direction : direction + 1] for part in state)
        if direction == 0:
            states, final = _run_segments(rnn, packed, packing, initial, direction_weights, segments)
        else:
            reversed_states, final = _run_segments(
                rnn, _Reverse.apply(packed, packing.reversal), packing, initial, direction_weights, segments
            )
            states = _Reverse.apply(reversed_states, packing.reversal)
        outputs.append(states)
        finals.append(final)
    return torch.cat(outputs, dim=1), tuple(torch.cat(parts) for parts in zip(*finals, strict=True))


class _Reverse(torch.autograd.Function):
    """Reverse each packed sequence: a permutation that is its own inverse, so its gradient needs no scattering."""

    @staticmethod
    def forward(ctx, packed, reversal):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(reversal)
        return packed.index_select(0, reversal)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        (reversal,) = ctx.saved_tensors
        return _Reverse.apply(gradient, reversal), None


def _cut(packing: Packing) -> list[int]:
    """Cut the time axis where sequences end, so that running each segment padded costs least.

    A segment costs as much as its tokens and padding, plus a constant. The cheapest cuts are found by dynamic
    programming over the lengths at which sequences end.

    Returns:
        `list[int]`: steps at which segments begin, and the length of the longest sequence.
    """
    batch_sizes = packing.batch_sizes
    ends = (batch_sizes[1:] != batch_sizes[:-1]).nonzero().flatten() + 1
    if len(ends) > _MOST_CUTS:
        ends = ends[torch.linspace(0, len(ends) - 1, _MOST_CUTS).round().long()]
    places = [0, *ends.tolist(), packing.max_length]
    rows = [int(batch_sizes[place]) for place in places[:-1]]
    costs, previous = [0], [0]
    for end in range(1, len(places)):
        options = [costs[begin] + (places[end] - places[begin]) * rows[begin] + _SEGMENT_COST for begin in range(end)]
        costs.append(min(options))
        previous.append(options.index(costs[-1]))
    cuts = [len(places) - 1]
    while cuts[-1] > 0:
        cuts.append(previous[cuts[-1]])
    return [places[cut] for cut in reversed(cuts)]


def _run_segments(
    rnn: nn.RNNBase,
    packed: Tensor,
    packing: Packing,
    state: tuple[Tensor, ...],
    weights: Sequence[Tensor],
    segments: list[int],
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run one direction segment by segment, from the first step of the longest sequences to their last."""
    batch_sizes = packing.batch_sizes
    lengths = [int(batch_sizes[begin:end].sum()) for begin, end in pairwise(segments)]
    outputs: list[Tensor] = []
    ended: list[tuple[Tensor, ...]] = []
    first = 0
    for place, segment in enumerate(packed.split(lengths)):
        begin, end = segments[place], segments[place + 1]
        num_rows = int(batch_sizes[begin])
        going_on = int(batch_sizes[end]) if end < packing.max_length else 0
        if segment.shape[0] == num_rows * (end - begin):
            padded = segment.view(end - begin, num_rows, -1)
            states, final = _run_padded(rnn, padded, state, weights)
            outputs.append(states.flatten(0, 1))
        else:
            rows = packing.sorted_rows[first : first + lengths[place]]
            places = (packing.steps[first : first + lengths[place]] - begin) * num_rows + rows
            padded, wider = _pad_input(rnn.mode, segment, weights, places, num_rows * (end - begin))
            states, final = _run_padded(rnn, padded.view(end - begin, num_rows, -1), state, wider)
            states = states.flatten(0, 1)
            outputs.append(states.index_select(0, places))
            last = (packing.sorted_lengths[:num_rows].clamp(max=end) - 1 - begin) * num_rows
            h_n = states.index_select(0, last + torch.arange(num_rows, device=last.device))
            final = (h_n.unsqueeze(0), *final[1:])
        ended.append(tuple(part[:, going_on:] for part in final))
        state = tuple(part[:, :going_on].contiguous() for part in final)
        first += lengths[place]
    return torch.cat(outputs), tuple(torch.cat(parts, dim=1) for parts in zip(*reversed(ended), strict=True))


def _run_padded(
    rnn: nn.RNNBase, padded: Tensor, state: tuple[Tensor, ...], weights: Sequence[Tensor], bidirectional: bool = False
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Call torch's kernel for one layer on `[num_steps, num_rows, input_size]`."""
    states, *final = _CELLS[rnn.mode](
        padded,
        state if len(state) == 2 else state[0],
        list(weights),
        rnn.bias,
        1,
        0.0,
        rnn.training,
        bidirectional,
        False,
    )
    return states, tuple(final)


def _pad_input(
    mode: str, packed: Tensor, weights: Sequence[Tensor], places: Tensor, size: int
) -> tuple[Tensor, list[Tensor]]:
    """Lay packed input out padded, so that what the cell does on padding harms nothing.

    An LSTM must carry each cell state unchanged to the last step, where torch returns it; a ReLU cell must not
    grow without bound. Both are had exactly from one more input feature that is 1 on padding, 0 on tokens, and
    saturates the gates.

    Returns:
        `torch.Tensor` of shape `[size, input_size (+ 1)]` and the direction's weights, widened to match.
    """
    hidden_size = weights[1].shape[1]
    if mode == "LSTM":
        on_padding = packed.new_zeros(4, hidden_size)
        on_padding[0] = -_SATURATED  # input gate shut
        on_padding[1] = _SATURATED  # forget gate open
    elif mode == "RNN_RELU":
        on_padding = packed.new_full((1, hidden_size), -_SATURATED)
    else:
        return packed.new_zeros(size, packed.shape[1]).index_copy_(0, places, packed), list(weights)
    padded = packed.new_zeros(size, packed.shape[1] + 1)
    padded[:, -1] = 1
    padded = padded.index_copy_(0, places, nn.functional.pad(packed, (0, 1)))
    column = on_padding.view(-1, 1).to(weights[0].dtype)
    return padded, [torch.cat([weights[0], column], dim=1), *weights[1:]]


__all__ = ["LockedDropout", "RecurrentOutput", "choose_path", "run_recurrence"]
