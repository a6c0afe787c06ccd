"""Long batches in bounded memory: recurrent layers that read segments of the time axis, one after the other.

A direction carries its state from segment to segment, the backward one from the last to the first. Where both
directions of a layer are needed at once, as the next layer needs them, the states at the borders of segments are kept,
and the states within are computed anew. The results are those of a batch that is read whole.
"""

from collections.abc import Callable
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
        self.segments: list[Segment] = []
        first = 0
        for batch_sizes in packing.batch_sizes.split(max(1, SEGMENT_TOKENS // packing.num_sequences)):
            end = first + int(batch_sizes.sum())
            self.segments.append(Segment(slice(first, end), Packing.from_batch_sizes(batch_sizes)))
            first = end

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
        # By layer and direction: what is carried, and what was carried into each segment.
        carried = [tuple(part[number].clone() for part in self.initial) for number in range(len(self.initial[0]))]
        borders: list[dict[int, tuple[Tensor, ...]]] = [{} for _ in carried]
        num_sweeps = rnn.num_layers + 1 if rnn.bidirectional else 1
        for sweep in range(num_sweeps):
            backwards = (num_sweeps - 1 - sweep) % 2 == 1
            for position in range(len(self.segments))[:: -1 if backwards else 1]:
                segment = self.segments[position]
                packed = self.embed(self.inputs[segment.tokens])
                for layer in range(min(sweep, last) + 1 if rnn.bidirectional else last + 1):
                    chosen = list(range(directions))
                    if rnn.bidirectional and (sweep == layer or (layer == last and not jointly)):
                        chosen = [int(backwards)]
                    numbers = [layer * directions + direction for direction in chosen]
                    packed = self._read(numbers, position, packed, carried, borders)
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
        carried: list[tuple[Tensor, ...]],
        borders: list[dict[int, tuple[Tensor, ...]]],
    ) -> Tensor:
        """Run directions of a layer over a segment, from its border where that is known."""
        packing = self.segments[position].packing
        num_rows = packing.num_sequences
        are_known = [position in borders[number] for number in numbers]
        for number, is_known in zip(numbers, are_known, strict=True):
            if not is_known:
                borders[number][position] = tuple(part[:num_rows].clone() for part in carried[number])
        states = tuple(map(torch.stack, zip(*(borders[number][position] for number in numbers), strict=True)))
        packed, final = run_directions(self.rnn, numbers, packed, packing, states)
        for row, (number, is_known) in enumerate(zip(numbers, are_known, strict=True)):
            if not is_known:
                for part, found in zip(carried[number], final, strict=True):
                    part[:num_rows] = found[row]
        return packed


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
