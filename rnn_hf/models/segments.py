"""Long batches in bounded memory: recurrent layers that read segments of the time axis, one after the other.

A direction carries its state from segment to segment, the backward one from the last to the first. Where both
directions of a layer are needed at once, as the next layer needs them, the states at the borders of segments are kept,
and the states within are computed anew. The results are those of a batch that is read whole.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .packing import Packing
from .recurrence import initial_state, run_directions

# Without gradients, a batch of more tokens on a CPU is read in segments of about so many.
MOST_TOKENS = 65536
SEGMENT_TOKENS = 4096


class Segment(NamedTuple):
    """Some steps of a batch.

    Args:
        tokens (`slice`): Where its packed tokens stand among those of the batch.
        packing ([`Packing`]): Their layout; its sequences are the first ones of the batch, in sorted order.
    """

    tokens: slice
    packing: Packing


# Takes the states `[num_tokens, size]` of the last layer, the columns that they have among those of both directions,
# and their segment.
Receiver = Callable[[Tensor, slice, Segment], None]


class SegmentedStates:
    """The states of recurrent layers over a batch that is too long to hold them all.

    Args:
        rnn (`nn.LSTM`, `nn.GRU` or `nn.RNN`): Holds the weights.
        embed (`Callable`): Takes some of the `inputs`, and returns their vectors `[num_tokens, input_size]`.
        inputs (`torch.Tensor` of shape `[num_tokens, …]`): Packed tokens, ids for instance.
        packing ([`Packing`]): The layout of the batch.
        h_0 (`torch.Tensor` of shape `[layers * directions, batch_size, hidden_size]`, *optional*):
            Initial hidden states in the batch's order; zeros without it.
        c_0 (`torch.Tensor`, the shape of `h_0`, *optional*): Initial cell states of an LSTM.

    Raises:
        ValueError: Initial states that do not fit; see [`~recurrence.run_recurrence`].

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.packing import Packing
    >>> from rnn_hf.models.recurrence import PackedGRU
    >>> from rnn_hf.models.segments import SegmentedStates
    >>> packing, embed = Packing.from_mask(torch.ones(1, 9)), torch.nn.Embedding(9, 4)
    >>> sums = torch.zeros(16)
    >>> def receive(states, columns, segment):
    ...     sums[columns] += states.sum(dim=0)
    >>> with torch.no_grad():
    ...     SegmentedStates(PackedGRU(4, 8, bidirectional=True), embed, torch.arange(9), packing).run(receive).shape
    torch.Size([2, 1, 8])

    ```
    """

    def __init__(
        self,
        rnn: nn.RNNBase,
        embed: Callable[[Tensor], Tensor],
        inputs: Tensor,
        packing: Packing,
        h_0: Tensor | None = None,
        c_0: Tensor | None = None,
    ):
        self.rnn = rnn
        self.embed = embed
        self.inputs = inputs
        self.packing = packing
        self.size = (2 if rnn.bidirectional else 1) * rnn.hidden_size
        self.initial = initial_state(rnn, embed(inputs[:1]), packing, h_0, c_0)
        # Steps of each segment, and where its tokens begin. What is kept for each one lies in few large tensors: small
        # ones between what is freed again would leave holes in the memory, segment after segment.
        self.steps = packing.batch_sizes.split(max(1, SEGMENT_TOKENS // packing.num_sequences))
        self.begins = [0, *torch.stack([sizes.sum() for sizes in self.steps]).cumsum(0).tolist()]

    def segment(self, position: int) -> Segment:
        """Return a segment, by its position."""
        tokens = slice(self.begins[position], self.begins[position + 1])
        return Segment(tokens, Packing.from_batch_sizes(self.steps[position]))

    def run(self, receive: Receiver, jointly: bool = False) -> Tensor:
        """Read the batch.

        Layers of two directions are read in one sweep more than there are layers, and the last sweep goes forwards. A
        layer's first sweep runs one direction, and the next one the other. Later ones run both from the borders.

        Args:
            receive (`Receiver`): Called once for each segment and each direction of the last layer, in the order in
                which the direction reads them.
            jointly (`bool`): Whether it is called once for each segment with the states of both directions, the first
                segment first; it takes one more run of the last layer's backward direction.

        Returns:
            `torch.Tensor` of shape `[layers * directions, batch_size, hidden_size]`: the hidden states after the last
            step of each direction, in the batch's order.
        """
        rnn, last = self.rnn, self.rnn.num_layers - 1
        directions = 2 if rnn.bidirectional else 1
        # By layer and direction: what is carried.
        carried = [tuple(part[number].clone() for part in self.initial) for number in range(len(self.initial[0]))]
        borders = [
            _Borders(self.steps, state) if rnn.bidirectional and (jointly or number < last * directions) else None
            for number, state in enumerate(carried)
        ]
        num_sweeps = rnn.num_layers + 1 if rnn.bidirectional else 1
        for sweep in range(num_sweeps):
            backwards = (num_sweeps - 1 - sweep) % 2 == 1
            for position in range(len(self.steps))[:: -1 if backwards else 1]:
                segment = self.segment(position)
                packed = self.embed(self.inputs[segment.tokens])
                for layer in range(min(sweep, last) + 1 if rnn.bidirectional else last + 1):
                    chosen = list(range(directions))
                    if rnn.bidirectional and (sweep == layer or (layer == last and not jointly)):
                        chosen = [int(backwards)]
                    numbers = [layer * directions + direction for direction in chosen]
                    packed = self._read(numbers, position, packed, segment.packing, carried, borders)
                is_whole = len(chosen) == directions
                if layer == last and (is_whole or not jointly):
                    begin = 0 if is_whole else chosen[0] * rnn.hidden_size
                    receive(packed, slice(begin, begin + packed.shape[1]), segment)
        return torch.stack([state[0] for state in carried]).index_select(1, self.packing.unsorted_indices)

    def _read(
        self,
        numbers: list[int],
        position: int,
        packed: Tensor,
        packing: Packing,
        carried: list[tuple[Tensor, ...]],
        borders: list["_Borders | None"],
    ) -> Tensor:
        """Run directions of a layer over a segment, from its border where that is known."""
        num_rows = packing.num_sequences
        states, are_new = [], []
        for number in numbers:
            state, kept = tuple(part[:num_rows] for part in carried[number]), borders[number]
            are_new.append(kept is None or position not in kept.known)
            states.append(state if kept is None else kept.at(position, state))
        packed, final = run_directions(
            self.rnn, numbers, packed, packing, tuple(map(torch.stack, zip(*states, strict=True)))
        )
        for row, (number, is_new) in enumerate(zip(numbers, are_new, strict=True)):
            if is_new:
                for part, found in zip(carried[number], final, strict=True):
                    part[:num_rows] = found[row]
        return packed


class _Borders:
    """The states of a direction with which it enters each segment.

    Args:
        steps (`Sequence[torch.LongTensor]`): Number of sequences at each step, by segment.
        state (`tuple[torch.Tensor]`): A state `[num_sequences, hidden_size]`, of which there will be many.
    """

    def __init__(self, steps: Sequence[Tensor], state: tuple[Tensor, ...]):
        self.begins = [0, *torch.stack([sizes[0] for sizes in steps]).cumsum(0).tolist()]
        self.parts = tuple(part.new_empty(self.begins[-1], part.shape[1]) for part in state)
        self.known: set[int] = set()

    def at(self, position: int, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the state at a segment's border; the one given is kept where none is known."""
        rows = slice(self.begins[position], self.begins[position + 1])
        if position not in self.known:
            self.known.add(position)
            for part, given in zip(self.parts, state, strict=True):
                part[rows] = given
        return tuple(part[rows] for part in self.parts)


def is_long(rnn: nn.RNNBase, packing: Packing) -> bool:
    """Tell whether a batch is to be read in segments: one of many tokens, on a CPU, in evaluation without gradients.

    Args:
        rnn (`nn.LSTM`, `nn.GRU` or `nn.RNN`): What reads it; what wraps it for a while, as peft does, cannot.
        packing ([`Packing`]): Its layout.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.packing import Packing
    >>> from rnn_hf.models.segments import is_long
    >>> with torch.no_grad():
    ...     [is_long(torch.nn.LSTM(2, 3).eval(), Packing.from_mask(torch.ones(1, length))) for length in (9, 90_000)]
    [False, True]

    ```
    """
    is_inference = isinstance(rnn, nn.RNNBase) and not rnn.training and not torch.is_grad_enabled()
    return is_inference and packing.sorted_indices.device.type == "cpu" and packing.num_tokens > MOST_TOKENS


__all__ = ["Receiver", "Segment", "SegmentedStates", "is_long"]
