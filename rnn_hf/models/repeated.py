"""LSTM layers over batches in which tokens repeat, in inference on a CPU.

What the gates get from the input depends on a token alone, and is two thirds of a layer's work with the usual sizes. It
is computed once for each distinct token; in a batch of sentences, less than half of the tokens are distinct.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from .packing import Packing
from .stepwise import transpose

# Of fewer sequences or tokens, steps cost more than is saved.
_LEAST_SEQUENCES, _LEAST_TOKENS = 16, 256


def find_distinct(rnn: nn.RNNBase, input_ids: Tensor, packing: Packing) -> tuple[Tensor, Tensor | None]:
    """Find the distinct tokens of a batch, where that saves time: for an LSTM, on a CPU, without gradients.

    Args:
        rnn (`nn.LSTM`, `nn.GRU` or `nn.RNN`): What reads the batch.
        input_ids (`torch.LongTensor` of shape `[num_tokens]`): Packed token ids.
        packing ([`Packing`]): Their layout.

    Returns:
        The distinct ids, and which of them each token has; or the ids as they are, and `None`.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.packing import Packing
    >>> from rnn_hf.models.repeated import find_distinct
    >>> ids, packing = torch.arange(640) % 3, Packing.from_mask(torch.ones(32, 20))
    >>> with torch.no_grad():
    ...     find_distinct(torch.nn.LSTM(2, 3).eval(), ids, packing)[0]
    tensor([0, 1, 2])

    ```
    """
    is_inference = not (rnn.training or torch.is_grad_enabled()) and input_ids.device.type == "cpu"
    is_large = packing.num_sequences >= _LEAST_SEQUENCES and packing.num_tokens >= _LEAST_TOKENS
    # What wraps an LSTM for a while, as peft does, is read as usual.
    if not isinstance(rnn, nn.LSTM) or not is_inference or not is_large:
        return input_ids, None
    return input_ids.unique(return_inverse=True)


def run_repeated(
    rows: Tensor,
    rnn: nn.RNNBase,
    weights: Sequence[Tensor],
    distinct: Tensor,
    packing: Packing,
    state: tuple[Tensor, ...],
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run all directions of a layer.

    Args:
        rows (`torch.LongTensor` of shape `[num_tokens]`): Which of the distinct tokens each packed token is.
        rnn (`nn.LSTM`): The module.
        weights (`Sequence[torch.Tensor]`): Those of the layer, direction by direction.
        distinct (`torch.Tensor` of shape `[num_distinct, input_size]`): Vectors of the distinct tokens.
        packing ([`Packing`]): The layout.
        state (`tuple[torch.Tensor]`):
            `h_0` and `c_0`, `[directions, num_sequences, hidden_size]`, longest sequence first.

    Returns:
        The states `[num_tokens, directions * hidden_size]`, and the final state in the form of the initial one.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.packing import Packing
    >>> from rnn_hf.models.repeated import run_repeated
    >>> packing, rnn = Packing.from_mask(torch.ones(2, 2)), torch.nn.LSTM(3, 5)
    >>> rows, state = torch.tensor([0, 1, 1, 0]), (torch.zeros(1, 2, 5), torch.zeros(1, 2, 5))
    >>> with torch.no_grad():
    ...     run_repeated(rows, rnn, rnn.all_weights[0], torch.randn(2, 3), packing, state)[0].shape
    torch.Size([4, 5])

    ```
    """
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else distinct.dtype
    with torch.autocast("cpu", enabled=False):
        distinct, weights = distinct.to(dtype), [weight.to(dtype) for weight in weights]
        directions, size = len(state[0]), rnn.hidden_size
        num_weights = len(weights) // directions
        states = distinct.new_empty(len(rows), directions * size)
        finals = []
        for direction in range(directions):
            weight_ih, weight_hh, *biases = weights[direction * num_weights : (direction + 1) * num_weights]
            given = distinct @ weight_ih.t()
            if biases:
                given += biases[0] + biases[1]
            columns = states[:, direction * size : (direction + 1) * size]
            initial = (part[direction].to(dtype) for part in state)
            finals.append(_steps(given, rows, columns, packing, initial, transpose(weight_hh), direction == 1))
    return states, tuple(map(torch.stack, zip(*finals, strict=True)))


def _steps(
    given: Tensor,
    rows: Tensor,
    states: Tensor,
    packing: Packing,
    initial: Iterable[Tensor],
    weight: Tensor,
    backwards: bool,
) -> tuple[Tensor, ...]:
    """Write the states of a direction, and return its final ones."""
    size = states.shape[1]
    h_n, c_n = (part.clone() for part in initial)
    sizes = packing.step_sizes
    # The gates of one step stay in the processor's cache; those of all tokens would not.
    gates = given.new_empty(packing.num_sequences, given.shape[1])
    steps = list(zip(rows.split(sizes), states.split(sizes), sizes, strict=True))
    for chosen, state, num_rows in reversed(steps) if backwards else steps:
        # Rows that have ended, or have not begun, keep what they have.
        h, c = h_n[:num_rows], c_n[:num_rows]
        gate = torch.index_select(given, 0, chosen, out=gates[:num_rows])
        gate.addmm_(h, weight)
        gate[:, : 2 * size].sigmoid_()
        i, f, g, o = gate.split(size, dim=1)
        c.mul_(f).addcmul_(i, g.tanh_())
        torch.mul(torch.tanh(c), o.sigmoid_(), out=h)
        state.copy_(h)
    return h_n, c_n


__all__ = ["find_distinct", "run_repeated"]
