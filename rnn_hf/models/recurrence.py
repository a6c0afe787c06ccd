"""Stacked recurrent layers over packed sequences, with the weights of a stock `nn.LSTM`, `nn.GRU` or `nn.RNN`.

Three paths give the results of the stock module on a `PackedSequence`:

- `"packed"` runs `packed`, torch's kernel for packed input: cuDNN on CUDA, and the quickest start for inference on a
  CPU.
- `"stepwise"` runs `stepwise`, whose training time on a CPU is linear in the sequence length.
- `"padded"`, of LSTMs only, runs `padded`, which reaches oneDNN.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .packed import KERNELS, run_packed
from .packing import SEGMENT_COST, Packing
from .padded import run_full, run_padded
from .repeated import run_repeated
from .stepwise import run_steps

# The paths of each kind of module.
PATHS = dict.fromkeys(KERNELS, ("packed", "stepwise")) | {"LSTM": ("packed", "stepwise", "padded")}

# What a step costs beside its tokens, and a token, in the unit of `Packing.padded_cost`, in inference and in training.
# In training the steps' many little operations weigh less the larger the state is. Measured on batches of Banking77,
# CLINC150, NSMC, SST-2 and BBC News, and of random lengths.
_STEP_COST, _TOKEN_COST = 3.0, 1.1
_TRAINING_STEP_COST_TIMES_HIDDEN_SIZE, _TRAINING_TOKEN_COST = 450, 0.9


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
            The packed states of each layer, or of the last one only.
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
    weight_dropout: float = 0.0,
    path: str | None = None,
    all_layers: bool = True,
    rows: Tensor | None = None,
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
        weight_dropout (`float`):
            Probability of a recurrent weight to be dropped from all steps, in training
            (https://arxiv.org/abs/1708.02182).
        path (`str`, *optional*):
            `"packed"`, `"stepwise"` or, of an LSTM, `"padded"`, to force a path; without it the fastest is taken.
        all_layers (`bool`): Whether to return the states of every layer, rather than of the last one only.
        rows (`torch.LongTensor` of shape `[num_tokens]`, *optional*): Where tokens repeat, which row of `packed`, now
            that of the distinct ones, each packed token has; see [`~repeated.run_repeated`].

    Returns:
        [`RecurrentOutput`]

    Raises:
        ValueError: An initial state of the wrong shape, type or device, a cell state for a cell that has none, or an
            unknown path.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.packing import Packing
    >>> from rnn_hf.models.recurrence import run_recurrence
    >>> packing = Packing.from_mask(torch.tensor([[1, 1, 0], [1, 1, 1]]))
    >>> states, h_n, c_n = run_recurrence(torch.nn.LSTM(4, 8, num_layers=2), torch.randn(5, 4), packing)
    >>> states[-1].shape, h_n.shape, c_n.shape
    (torch.Size([5, 8]), torch.Size([2, 2, 8]), torch.Size([2, 2, 8]))

    ```
    """
    if is_cast_to_half(packed.device.type):
        h_0, c_0 = (None if state is None else state.float() for state in (h_0, c_0))
        with torch.autocast(packed.device.type, enabled=False):
            return run_recurrence(
                rnn, packed.float(), packing, h_0, c_0, dropout, weight_dropout, path, all_layers, rows
            )
    directions = 2 if rnn.bidirectional else 1
    state = initial_state(rnn, packed, packing, h_0, c_0)
    if path is None:
        path = choose_path(rnn, packed, packing)
    elif path not in PATHS[rnn.mode]:
        raise ValueError(f"A {rnn.mode} has the paths {', '.join(map(repr, PATHS[rnn.mode]))}; got {path!r}.")

    layers: list[Tensor] = []
    finals: list[tuple[Tensor, ...]] = []
    # By their names, for what replaces them for a while, as peft does, replaces no list of them.
    all_weights: list[Any] = [getattr(rnn, name) for name in rnn._flat_weights_names]
    if weight_dropout > 0 and rnn.training:
        all_weights = [
            nn.functional.dropout(weight, weight_dropout) if name.startswith("weight_hh") else weight
            for name, weight in zip(rnn._flat_weights_names, all_weights, strict=True)
        ]
    num_weights = len(all_weights) // rnn.num_layers
    for layer in range(rnn.num_layers):
        layer_state = state
        if rnn.num_layers > 1:
            layer_state = tuple(part[layer * directions : (layer + 1) * directions] for part in state)
        if packed.shape[0] == 0:
            packed, final = packed.new_zeros(0, directions * rnn.hidden_size), layer_state
        else:
            if layer > 0 and dropout is not None:
                packed = dropout(packed, packing)
            weights = all_weights[layer * num_weights : (layer + 1) * num_weights]
            run_layer = _RUN_LAYER[path] if layer > 0 or rows is None else partial(run_repeated, rows)
            if packing.num_sequences == packing.batch_size:
                packed, final = run_layer(rnn, weights, packed, packing, layer_state)
            else:
                # Sequences without a token keep their initial state.
                present = tuple(part[:, : packing.num_sequences].contiguous() for part in layer_state)
                packed, final = run_layer(rnn, weights, packed, packing, present)
                final = tuple(
                    torch.cat([part.to(first.dtype), first[:, packing.num_sequences :]], dim=1)
                    for part, first in zip(final, layer_state, strict=True)
                )
        layers = [*layers, packed] if all_layers else [packed]
        finals.append(final)
    joined: tuple[Tensor, ...] = finals[0] if rnn.num_layers == 1 else tuple(map(torch.cat, zip(*finals, strict=True)))
    if packing.batch_size > 1:
        joined = tuple(part.index_select(1, packing.unsorted_indices) for part in joined)
    return RecurrentOutput(layers, joined[0], joined[1] if rnn.mode == "LSTM" else None)


def run_directions(
    rnn: nn.RNNBase, numbers: Sequence[int], packed: Tensor, packing: Packing, state: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run one direction of a layer, or both, over packed sequences that have a token each.

    Args:
        rnn (`nn.LSTM`, `nn.GRU` or `nn.RNN`): Holds the weights.
        numbers (`Sequence[int]`): Which of the `layers * directions`: one, or the two of a layer.
        packed (`torch.Tensor` of shape `[num_tokens, input_size]`): Input in packed layout.
        packing ([`Packing`]): The layout.
        state (`tuple[torch.Tensor]`):
            Initial hidden states `[len(numbers), num_sequences, hidden_size]`, longest sequence first; an LSTM's cell
            states too.

    Returns:
        The states `[num_tokens, len(numbers) * hidden_size]`, and the final state in the form of the initial one.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.packing import Packing
    >>> from rnn_hf.models.recurrence import run_directions
    >>> rnn, packing = torch.nn.GRU(3, 5, bidirectional=True), Packing.from_mask(torch.ones(1, 4))
    >>> run_directions(rnn, [1], torch.randn(4, 3), packing, (torch.zeros(1, 1, 5),))[0].shape
    torch.Size([4, 5])

    ```
    """
    names = rnn._flat_weights_names
    num_weights = len(names) // (rnn.num_layers * (2 if rnn.bidirectional else 1))
    weights = [getattr(rnn, name) for number in numbers for name in names[number * num_weights :][:num_weights]]
    is_backward = rnn.bidirectional and len(numbers) == 1 and numbers[0] % 2 == 1
    if is_backward:
        packed = packed.index_select(0, packing.reversal)
    states, final = _RUN_LAYER[choose_path(rnn, packed, packing)](rnn, weights, packed, packing, state)
    return states.index_select(0, packing.reversal) if is_backward else states, final


def choose_path(rnn: nn.RNNBase, packed: Tensor, packing: Packing) -> str:
    """Name the fastest path.

    Args:
        rnn (`nn.LSTM`, `nn.GRU` or `nn.RNN`): The module.
        packed (`torch.Tensor` of shape `[num_tokens, input_size]`): Its input.
        packing ([`Packing`]): The layout.

    Returns:
        `str`: On CUDA, and for a single step, `"packed"`. Else of an LSTM `"padded"`, unless padding and segments cost
        more than stepping. Otherwise `"stepwise"` where there will be gradients, and `"packed"` where not.
    """
    if packed.device.type == "cuda" or packing.max_length <= 1:
        return "packed"
    in_training = torch.is_grad_enabled()
    stepping = "stepwise" if in_training else "packed"
    if rnn.mode != "LSTM" or packed.device.type != "cpu" or (packing.num_sequences == 1 and not in_training):
        return stepping
    if in_training and packing.is_full:
        return "padded"
    step_cost, token_cost = _STEP_COST, _TOKEN_COST
    if in_training:
        step_cost, token_cost = _TRAINING_STEP_COST_TIMES_HIDDEN_SIZE / rnn.hidden_size, _TRAINING_TOKEN_COST
    stepping_cost = token_cost * packing.num_tokens + step_cost * packing.max_length
    if packing.num_tokens + SEGMENT_COST >= stepping_cost:  # spares a few tokens the search for segments
        return stepping
    return "padded" if packing.padded_cost < stepping_cost else stepping


def is_cast_to_half(device_type: str) -> bool:
    """Tell whether autocast to bfloat16 would cast a recurrent layer to float16 instead, which overflows sooner.

    torch does so on CUDA. Such a layer computes in single precision.

    Args:
        device_type (`str`): Where it is, `"cuda"` say.

    Returns:
        `bool`.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.recurrence import is_cast_to_half
    >>> with torch.autocast("cpu", torch.bfloat16):
    ...     is_cast_to_half("cpu")
    False

    ```
    """
    is_enabled = device_type == "cuda" and torch.is_autocast_enabled(device_type)
    return is_enabled and torch.get_autocast_dtype(device_type) == torch.bfloat16


class _TakesPackedTokens:
    """A stock recurrent module that also takes packed tokens, with the arguments of [`run_recurrence`]."""

    def forward(
        self, input: Any, hx: Any = None, *, packing: Packing | None = None, **options: Any
    ) -> RecurrentOutput | Any:
        """Run over packed tokens where their layout is given, and as the stock module where not.

        Args:
            input (`torch.Tensor` or `PackedSequence`): Packed tokens, or what the stock module takes.
            hx (`torch.Tensor` or `tuple[torch.Tensor]`, *optional*): The stock module's initial states.
            packing ([`Packing`], *optional*): The layout of packed tokens.
            options: The other arguments of [`run_recurrence`].

        Returns:
            [`RecurrentOutput`] of packed tokens, else what the stock module returns.

        Example:
        ```python
        >>> import torch
        >>> from rnn_hf.models.packing import Packing
        >>> from rnn_hf.models.recurrence import PackedGRU
        >>> packing = Packing.from_mask(torch.tensor([[1, 1, 0], [1, 1, 1]]))
        >>> PackedGRU(4, 8)(torch.randn(5, 4), packing=packing).states[-1].shape
        torch.Size([5, 8])

        ```
        """
        if packing is None:
            return super().forward(input, hx)  # type: ignore[misc]
        assert isinstance(self, nn.RNNBase)
        return run_recurrence(self, input, packing, **options)


class PackedLSTM(_TakesPackedTokens, nn.LSTM):  # type: ignore[misc]
    """`nn.LSTM` that also takes packed tokens."""


class PackedGRU(_TakesPackedTokens, nn.GRU):  # type: ignore[misc]
    """`nn.GRU` that also takes packed tokens."""


class PackedRNN(_TakesPackedTokens, nn.RNN):  # type: ignore[misc]
    """`nn.RNN` that also takes packed tokens."""


def initial_state(
    rnn: nn.RNNBase, packed: Tensor, packing: Packing, h_0: Tensor | None, c_0: Tensor | None
) -> tuple[Tensor, ...]:
    """Check initial states, and put them into sorted order: see [`run_recurrence`].

    Returns:
        `tuple[torch.Tensor]` of shape `[layers * directions, batch_size, hidden_size]`: hidden states, and those of an
        LSTM's cells; zeros where none are given.
    """
    shape = (rnn.num_layers * (2 if rnn.bidirectional else 1), packing.batch_size, rnn.hidden_size)
    if c_0 is not None and rnn.mode != "LSTM":
        raise ValueError(f"c_0 was given, but only an LSTM has a cell state; this is a {rnn.mode}.")
    state: tuple[Tensor, ...] = (_initial_state("h_0", h_0, shape, packed, packing),)
    return state + ((_initial_state("c_0", c_0, shape, packed, packing),) if rnn.mode == "LSTM" else ())


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
    # Autocast computes in a type of its own, and returns states of it.
    of_right_type = given.dtype == packed.dtype or torch.is_autocast_enabled(packed.device.type)
    if given.device != packed.device or not given.is_floating_point() or not of_right_type:
        raise ValueError(
            f"{name} must be of {packed.dtype} on {packed.device}, as the vectors of the tokens; got {given.dtype} on "
            f"{given.device}."
        )
    return given[:, packing.sorted_indices]


def _stepwise_layer(
    rnn: nn.RNNBase, weights: Sequence[Tensor], packed: Tensor, packing: Packing, state: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    return _by_direction(partial(run_steps, rnn.mode, packed, packing), weights, state)


def _padded_layer(
    rnn: nn.RNNBase, weights: Sequence[Tensor], packed: Tensor, packing: Packing, state: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    if packing.is_full and len(packing.segments) == 2:
        return run_full(packed, packing, state, weights)
    return _by_direction(partial(run_padded, packed, packing), weights, state)


def _by_direction(
    run: Callable[..., tuple[Tensor, tuple[Tensor, ...]]],
    weights: Sequence[Tensor],
    state: tuple[Tensor, ...],
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run each direction on its own, and join states and final states."""
    states, finals = [], []
    directions = state[0].shape[0]
    num_weights = len(weights) // directions
    for direction in range(directions):
        initial = tuple(part[direction] for part in state)
        of_direction = weights[direction * num_weights : (direction + 1) * num_weights]
        direction_states, final = run(initial, of_direction, reverse=direction == 1)
        states.append(direction_states)
        finals.append(final)
    if len(states) == 1:
        return states[0], tuple(part.unsqueeze(0) for part in finals[0])
    return torch.cat(states, dim=1), tuple(torch.stack(parts) for parts in zip(*finals, strict=True))


_RUN_LAYER = {"packed": run_packed, "stepwise": _stepwise_layer, "padded": _padded_layer}


# What each `cell_type` of the configuration means.
RECURRENT_MODULES: dict[str, tuple[Callable[..., nn.RNNBase], dict[str, str]]] = {
    "lstm": (PackedLSTM, {}),
    "gru": (PackedGRU, {}),
    "rnn_tanh": (PackedRNN, {"nonlinearity": "tanh"}),
    "rnn_relu": (PackedRNN, {"nonlinearity": "relu"}),
}

__all__ = [
    "PATHS",
    "RECURRENT_MODULES",
    "LockedDropout",
    "PackedGRU",
    "PackedLSTM",
    "PackedRNN",
    "RecurrentOutput",
    "choose_path",
    "initial_state",
    "is_cast_to_half",
    "run_directions",
    "run_recurrence",
]
