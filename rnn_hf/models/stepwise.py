"""Recurrent layers step by step over packed sequences, with gradients written out by hand.

torch's own kernel for packed input records each step for autograd, and the gradient of each step's slice fills a
tensor of the size of the whole batch, so that its training time grows with the square of the sequence length
(https://github.com/pytorch/pytorch/issues/149194). Here the steps write into slices of one tensor, the gradient runs
back through the same slices, and all that does not depend on the step before is done for all steps at once. No
padding is computed. The equations are those of `nn.LSTM`, `nn.GRU` and `nn.RNN`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .packing import Packing

# Numbers of tokens for which oneDNN makes kernels.
_MULTIPLE = 64


def run_steps(
    mode: str,
    packed: Tensor,
    packing: Packing,
    state: tuple[Tensor, ...],
    weights: Sequence[Tensor],
    reverse: bool = False,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run one direction of one layer.

    Args:
        mode (`str`): `"LSTM"`, `"GRU"`, `"RNN_TANH"` or `"RNN_RELU"`, as in `nn.RNNBase`.
        packed (`torch.Tensor` of shape `[num_tokens, input_size]`): Input in packed layout.
        packing ([`Packing`]): The layout.
        state (`tuple[torch.Tensor]`):
            Initial hidden states `[num_sequences, hidden_size]`, longest sequence first; an LSTM's cell states too.
        weights (`Sequence[torch.Tensor]`): `weight_ih`, `weight_hh` and, unless without, `bias_ih`, `bias_hh`.
        reverse (`bool`): Whether to read every sequence from its last token to its first.

    Returns:
        The states `[num_tokens, hidden_size]`, and the final state in the form of the initial one.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.packing import Packing
    >>> from rnn_hf.models.stepwise import run_steps
    >>> packing, rnn = Packing.from_mask(torch.tensor([[1, 1, 1], [1, 0, 0]])), torch.nn.GRU(3, 5)
    >>> states, (h_n,) = run_steps("GRU", torch.randn(4, 3), packing, (torch.zeros(2, 5),), rnn.all_weights[0])
    >>> states.shape, torch.equal(h_n, states[[3, 1]])
    (torch.Size([4, 5]), True)

    ```
    """
    device_type = packed.device.type
    if torch.is_autocast_enabled(device_type):
        dtype = torch.get_autocast_dtype(device_type)
        packed, state = packed.to(dtype), tuple(part.to(dtype) for part in state)
        weights = [weight.to(dtype) for weight in weights]
    biases = tuple(weights[2:]) or (None, None)
    cells = None
    if mode == "LSTM":
        states, cells = _LstmSteps.apply(packing, reverse, packed, *state, *weights[:2], *biases)
    elif mode == "GRU":
        states = _GruSteps.apply(packing, reverse, packed, *state, *weights[:2], *biases)
    else:
        states = _RnnSteps.apply(mode, packing, reverse, packed, *state, *weights[:2], *biases)
    kept = (states,) if cells is None else (states, cells)
    if reverse:
        return states, tuple(values[: packing.num_sequences] for values in kept)
    return states, tuple(values.index_select(0, packing.last_positions) for values in kept)


class _RnnSteps(torch.autograd.Function):
    """`h' = tanh(W_ih x + b_ih + W_hh h + b_hh)`, or relu."""

    @staticmethod
    def forward(ctx: Any, mode, packing, reverse, packed, h_0, weight_ih, weight_hh, bias_ih, bias_hh):  # type: ignore[no-untyped-def]
        # Becomes the states in place. What a function returns must be no view of what it has made.
        states = _project(packed, weight_ih, bias_ih, bias_hh).clone()
        transposed = transpose(weight_hh)
        h = None
        for step in _steps(states, packing, reverse):
            h = _carry(h, h_0, len(step))
            step.addmm_(h, transposed)
            h = step.tanh_() if mode == "RNN_TANH" else step.relu_()
        ctx.save_for_backward(packed, h_0, weight_ih, weight_hh, states)
        ctx.layout = (mode, packing, reverse)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_states):  # type: ignore[no-untyped-def]
        packed, h_0, weight_ih, weight_hh, states = ctx.saved_tensors
        mode, packing, reverse = ctx.layout
        slopes = 1 - states * states if mode == "RNN_TANH" else (states > 0).to(states.dtype)
        d_gates = grad_states.clone(memory_format=torch.contiguous_format)
        later = None
        for d_gate, slope in zip(
            _steps(d_gates, packing, not reverse), _steps(slopes, packing, not reverse), strict=True
        ):
            if later is not None:
                rows = min(len(d_gate), len(later))
                d_gate[:rows].addmm_(later[:rows], weight_hh)
            later = d_gate.mul_(slope)
        previous = _previous(states, h_0, packing, reverse)
        d_h_0 = _at_first_step(d_gates, packing, reverse) @ weight_hh if ctx.needs_input_grad[4] else None
        d_packed = _multiply(d_gates, weight_ih) if ctx.needs_input_grad[3] else None
        d_weights = _sum_products(d_gates, packed, previous)
        d_bias = d_gates.sum(0) if any(ctx.needs_input_grad[7:]) else None
        return None, None, None, d_packed, d_h_0, *d_weights, d_bias, d_bias


class _GruSteps(torch.autograd.Function):
    """`r, z = σ(…)`, `n = tanh(W_in x + b_in + r (W_hn h + b_hn))`, `h' = (1 - z) n + z h`."""

    @staticmethod
    def forward(ctx: Any, packing, reverse, packed, h_0, weight_ih, weight_hh, bias_ih, bias_hh):  # type: ignore[no-untyped-def]
        size = weight_hh.shape[1]
        hidden_bias = None if bias_hh is None else torch.cat([bias_hh[: 2 * size], torch.zeros_like(bias_hh[:size])])
        gates = _project(packed, weight_ih, bias_ih, hidden_bias)  # [num_tokens, r z n], activated in place
        states, candidates = (packed.new_empty(len(packed), size) for _ in range(2))
        weight_rz, weight_n = transpose(weight_hh[: 2 * size]), transpose(weight_hh[2 * size :])
        bias_n = packed.new_zeros(size) if bias_hh is None else bias_hh[2 * size :]
        columns = (gates[:, : 2 * size], *gates.split(size, dim=1), candidates, states)
        h = None
        for rz, r, z, n, candidate, step in zip(*(_steps(part, packing, reverse) for part in columns), strict=True):
            h = _carry(h, h_0, len(step))
            rz.addmm_(h, weight_rz).sigmoid_()
            torch.addmm(bias_n, h, weight_n, out=candidate)  # W_hn h + b_hn
            n.addcmul_(r, candidate).tanh_()
            h = torch.lerp(n, h, z, out=step)
        ctx.save_for_backward(packed, h_0, weight_ih, weight_hh, states, gates, candidates)
        ctx.layout = (packing, reverse)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_states):  # type: ignore[no-untyped-def]
        packed, h_0, weight_ih, weight_hh, states, gates, candidates = ctx.saved_tensors
        packing, reverse = ctx.layout
        num_tokens, size = states.shape
        r, z, n = gates.split(size, dim=1)
        previous = _previous(states, h_0, packing, reverse)
        # The gradient of each gate's sum is that of the state times a factor known beforehand.
        d_gates = states.new_empty(num_tokens, 3, size)  # of the sums that W_hh makes; holds the factors first
        factor_n = (1 - z) * (1 - n * n)
        torch.mul(factor_n * candidates, r * (1 - r), out=d_gates[:, 0])
        torch.mul(previous - n, z * (1 - z), out=d_gates[:, 1])
        torch.mul(factor_n, r, out=d_gates[:, 2])
        d_states = grad_states.clone(memory_format=torch.contiguous_format)
        flat = d_gates.view(num_tokens, 3 * size)
        later = None
        for d_state, z_step, d_gate, flat_step in zip(
            *(_steps(part, packing, not reverse) for part in (d_states, z, d_gates, flat)), strict=True
        ):
            if later is not None:
                rows = min(len(d_state), len(later[0]))
                d_later, z_later, flat_later = (part[:rows] for part in later)
                d_state[:rows].addcmul_(d_later, z_later).addmm_(flat_later, weight_hh)
            d_gate.mul_(d_state.unsqueeze(1))
            later = (d_state, z_step, flat_step)
        d_h_0 = None
        if ctx.needs_input_grad[3]:
            d_first, z_first, flat_first = (_at_first_step(part, packing, reverse) for part in (d_states, z, flat))
            d_h_0 = torch.addmm(d_first * z_first, flat_first, weight_hh)
        (d_weight_hh,) = _sum_products(flat, previous)
        d_bias_hh = flat.sum(0) if any(ctx.needs_input_grad[7:]) else None
        torch.mul(d_states, factor_n, out=d_gates[:, 2])  # now of the sums that W_ih makes
        d_bias_ih = flat.sum(0) if ctx.needs_input_grad[6] else None
        d_packed = _multiply(flat, weight_ih) if ctx.needs_input_grad[2] else None
        return None, None, d_packed, d_h_0, *_sum_products(flat, packed), d_weight_hh, d_bias_ih, d_bias_hh


class _LstmSteps(torch.autograd.Function):
    """`i, f, o = σ(…)`, `g = tanh(…)`, `c' = f c + i g`, `h' = o tanh(c')`."""

    @staticmethod
    def forward(ctx: Any, packing, reverse, packed, h_0, c_0, weight_ih, weight_hh, bias_ih, bias_hh):  # type: ignore[no-untyped-def]
        ctx.set_materialize_grads(False)
        size = weight_hh.shape[1]
        gates = _project(packed, weight_ih, bias_ih, bias_hh)  # [num_tokens, i f g o], activated in place
        states, cells = (packed.new_empty(len(packed), size) for _ in range(2))
        transposed = transpose(weight_hh)
        columns = (gates, gates[:, : 2 * size], *gates.split(size, dim=1), cells, states)
        h = c = None
        for gate, if_, i, f, g, o, cell, step in zip(
            *(_steps(part, packing, reverse) for part in columns), strict=True
        ):
            h, c = _carry(h, h_0, len(step)), _carry(c, c_0, len(step))
            gate.addmm_(h, transposed)
            if_.sigmoid_()
            c = torch.mul(f, c, out=cell).addcmul_(i, g.tanh_())
            h = torch.tanh(c, out=step).mul_(o.sigmoid_())
        ctx.save_for_backward(packed, h_0, c_0, weight_ih, weight_hh, states, cells, gates)
        ctx.layout = (packing, reverse)
        return states, cells

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_states, grad_cells):  # type: ignore[no-untyped-def]
        packed, h_0, c_0, weight_ih, weight_hh, states, cells, gates = ctx.saved_tensors
        packing, reverse = ctx.layout
        num_tokens, size = states.shape
        i, f, g, o = gates.split(size, dim=1)
        # The gradients of the gates' sums are those of cell and hidden state times factors known beforehand.
        d_gates = states.new_empty(num_tokens, 4, size)  # holds the factors first
        torch.mul(g * i, 1 - i, out=d_gates[:, 0])
        torch.mul(_previous(cells, c_0, packing, reverse) * f, 1 - f, out=d_gates[:, 1])
        torch.mul(i, 1 - g * g, out=d_gates[:, 2])
        squashed = torch.tanh(cells)
        torch.mul(squashed * o, 1 - o, out=d_gates[:, 3])
        factor_c = (1 - squashed * squashed).mul_(o)
        d_states = torch.zeros_like(states) if grad_states is None else grad_states.clone()
        d_cells = torch.zeros_like(cells) if grad_cells is None else grad_cells.clone()
        flat = d_gates.view(num_tokens, 4 * size)
        columns = (d_states, d_cells, f, factor_c, d_gates[:, :3], d_gates[:, 3], flat)
        later = None
        for d_state, d_cell, f_step, f_c, d_ifg, d_o, flat_step in zip(
            *(_steps(part, packing, not reverse) for part in columns), strict=True
        ):
            if later is not None:
                rows = min(len(d_state), len(later[0]))
                d_later, f_later, flat_later = (part[:rows] for part in later)
                d_state[:rows].addmm_(flat_later, weight_hh)
                d_cell[:rows].addcmul_(d_later, f_later)
            d_cell.addcmul_(d_state, f_c)
            d_ifg.mul_(d_cell.unsqueeze(1))
            d_o.mul_(d_state)
            later = (d_cell, f_step, flat_step)
        d_h_0 = d_c_0 = None
        if ctx.needs_input_grad[3]:
            d_h_0 = _at_first_step(flat, packing, reverse) @ weight_hh
        if ctx.needs_input_grad[4]:
            d_c_0 = _at_first_step(d_cells, packing, reverse) * _at_first_step(f, packing, reverse)
        d_packed = _multiply(flat, weight_ih) if ctx.needs_input_grad[2] else None
        d_weights = _sum_products(flat, packed, _previous(states, h_0, packing, reverse))
        d_bias = flat.sum(0) if any(ctx.needs_input_grad[7:]) else None
        return None, None, d_packed, d_h_0, d_c_0, *d_weights, d_bias, d_bias


def _project(packed: Tensor, weight_ih: Tensor, bias_ih: Tensor | None, bias_hh: Tensor | None) -> Tensor:
    """Compute what the gates get from the input, for all steps at once."""
    if bias_ih is None or bias_hh is None:
        return _multiply(packed, weight_ih.t())
    return torch.addmm(bias_ih + bias_hh, _rounded_up(packed), weight_ih.t())[: len(packed)]


def transpose(weight_hh: Tensor) -> Tensor:
    """Lay recurrent weights out as steps multiply them: in single precision, a few rows take a third less time.

    Args:
        weight_hh (`torch.Tensor` of shape `[num_gates * hidden_size, hidden_size]`): The weights.

    Returns:
        `torch.Tensor` of shape `[hidden_size, num_gates * hidden_size]`.
    """
    transposed = weight_hh.t()
    return transposed.contiguous() if weight_hh.dtype == torch.float32 else transposed


def _multiply(values: Tensor, weight: Tensor) -> Tensor:
    return (_rounded_up(values) @ weight)[: len(values)]


def _sum_products(d_gates: Tensor, *inputs: Tensor) -> list[Tensor]:
    """Sum the outer products of the gates' gradients and their inputs over all tokens."""
    transposed = _rounded_up(d_gates).t()
    return [transposed @ _rounded_up(values) for values in inputs]


def _rounded_up(values: Tensor) -> Tensor:
    """Add rows of zeros to values of half precision on a CPU, up to a multiple of 64.

    oneDNN makes a kernel for each new shape of matrices, which takes longer than to multiply those of a batch.
    """
    missing = -len(values) % _MULTIPLE
    if missing == 0 or values.element_size() > 2 or values.device.type != "cpu":
        return values
    return nn.functional.pad(values, (0, 0, 0, missing))


def _steps(packed: Tensor, packing: Packing, reverse: bool) -> Sequence[Tensor]:
    """Slice packed values `[num_tokens, …]` into steps, in the order in which a direction reads them."""
    steps = packed.split(packing.step_sizes)
    return steps[::-1] if reverse else steps


def _carry(before: Tensor | None, initial: Tensor, num_rows: int) -> Tensor:
    """Take over the states of a step's rows from the step before; rows that begin here have their initial state."""
    if before is None:
        return initial[:num_rows]
    num_before = len(before)
    if num_before < num_rows:
        return torch.cat([before, initial[num_before:num_rows]])
    return before if num_before == num_rows else before[:num_rows]


def _previous(values: Tensor, initial: Tensor, packing: Packing, reverse: bool) -> Tensor:
    """Take for each token the value before it, in reading order; initial values before a sequence's first."""
    return torch.cat([initial, values]).index_select(0, packing.previous_positions(reverse))


def _at_first_step(values: Tensor, packing: Packing, reverse: bool) -> Tensor:
    """Take the values at the step that each sequence is read first: `[num_sequences, …]`."""
    return values.index_select(0, packing.last_positions) if reverse else values[: packing.num_sequences]


__all__ = ["run_steps", "transpose"]
