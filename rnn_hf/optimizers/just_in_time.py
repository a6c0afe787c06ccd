"""AdamW that brings a row of a large table up to date when a batch reads it.

A step reads a few hundred of the thousands of rows of a table of embeddings, and the stock optimizer changes them all:
momentum goes on moving a row after its last gradient. What all those steps do to a row has a closed form, so it can be
done at once, just before the row is read again (https://arxiv.org/abs/1309.2388 calls such updates just-in-time). The
weights that a model computes with are those of the stock optimizer, but for rounding, and where second moments are as
small as the square of `eps`.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

# By how much momentum fades until it counts no more, and the slowest fading in a step; with the usual betas it is 0.9.
_FADED, _SLOWEST = 1e-11, 0.95
# A larger one would count beside the square roots of most second moments.
_LARGEST_EPS = 1e-7


class JustInTimeAdamW(torch.optim.AdamW):
    """`torch.optim.AdamW`, which changes rows of tables when they are read.

    A table is a parameter with sparse gradients and without weight decay. [`bring_up_to_date`] is called for the rows
    that are read, before each use; [`bring_all_up_to_date`] before the whole table is read. The state dictionary is
    that of the stock optimizer.

    Args:
        params (`Iterable`): Parameters or groups of them; see `torch.optim.AdamW`.
        tables (`list[torch.nn.Parameter]`): Which of them are tables.
        options: See `torch.optim.AdamW`.

    Raises:
        ValueError: A table with weight decay, or options under which the sum of the delayed steps is not known.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.optimizers.just_in_time import JustInTimeAdamW
    >>> table = torch.nn.Embedding(1000, 8, sparse=True)
    >>> optimizer = JustInTimeAdamW(table.parameters(), [table.weight], weight_decay=0.0)
    >>> table(torch.tensor([3, 5])).sum().backward()
    >>> optimizer.step()
    >>> optimizer.bring_all_up_to_date()

    ```
    """

    def __init__(self, params: Any, tables: list[nn.Parameter], **options: Any):
        super().__init__(params, **options)
        self._tables: dict[nn.Parameter, _Table] = {}
        chosen = set(tables)
        for number, group in enumerate(self.param_groups):
            for parameter in chosen.intersection(group["params"]):
                if not has_closed_form(group):
                    given = {name: value for name, value in group.items() if name != "params"}
                    raise ValueError(
                        "Rows are brought up to date without weight_decay, amsgrad and maximize, with betas of which "
                        f"the first is at most {_SLOWEST} times the square root of the second, and an eps of at most "
                        f"{_LARGEST_EPS}; got {given}."
                    )
                self._tables[parameter] = _Table(self, parameter, number)

    @torch.no_grad()
    def leave(self, parameter: nn.Parameter) -> None:
        """Let a table be a parameter as any other from now on, as where its gradient is dense."""
        if parameter in self._tables:
            self._tables.pop(parameter).bring_all_up_to_date()

    @torch.no_grad()
    def bring_up_to_date(self, parameter: nn.Parameter, rows: Tensor) -> None:
        """Do the delayed steps of some rows of a table.

        Args:
            parameter (`torch.nn.Parameter` of shape `[num_rows, size]`): The table.
            rows (`torch.LongTensor` or `torch.IntTensor` of any shape): The rows, which may repeat.
        """
        if parameter in self._tables:
            self._tables[parameter].bring_up_to_date(rows.flatten().long())

    @torch.no_grad()
    def bring_all_up_to_date(self) -> None:
        """Do the delayed steps of all rows of all tables."""
        for table in self._tables.values():
            table.bring_all_up_to_date()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step; see `torch.optim.AdamW`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        gradients = {parameter: parameter.grad for parameter in self._tables if parameter.grad is not None}
        for parameter, gradient in list(gradients.items()):
            if gradient.is_sparse:
                parameter.grad = None
            else:
                self.leave(parameter)
                del gradients[parameter]
        super().step()
        for parameter, gradient in gradients.items():
            self._tables[parameter].step(gradient)
            parameter.grad = gradient
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the state, of all rows up to date; see `torch.optim.Optimizer.state_dict`."""
        self.bring_all_up_to_date()
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state; see `torch.optim.Optimizer.load_state_dict`."""
        self.bring_all_up_to_date()
        super().load_state_dict(state_dict)


class _Table:
    """A table, and which steps its rows lack.

    Steps are counted from the last time that all rows were up to date.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, parameter: nn.Parameter, number: int):
        self.optimizer, self.parameter, self.number = optimizer, parameter, number
        self.num_steps = 0
        # The last step of each row.
        self.last = torch.zeros(len(parameter), dtype=torch.int32, device=parameter.device)
        # By how much of its quotient of moments a row has to move that lacks the steps after each one.
        self.moves = torch.zeros(1, dtype=torch.float64, device=parameter.device)

    @property
    def group(self) -> dict[str, Any]:
        return self.optimizer.param_groups[self.number]

    @property
    def state(self) -> dict[str, Any]:
        return self.optimizer.state[self.parameter]

    def bring_up_to_date(self, rows: Tensor) -> None:
        if self.num_steps == 0:
            return
        rows = rows[self.last[rows] < self.num_steps]
        if len(rows) > 0:
            self._move(rows.unique())

    def bring_all_up_to_date(self) -> None:
        if self.num_steps == 0:
            return
        self._move((self.last < self.num_steps).nonzero().flatten())
        self.num_steps = 0
        self.last.zero_()
        self.moves = self.moves.new_zeros(1)

    def _move(self, rows: Tensor) -> None:
        """Do the delayed steps of distinct rows."""
        state, parameter, (first, second) = self.state, self.parameter, self.group["betas"]
        lasts = self.last[rows]
        num_steps = (self.num_steps - lasts).unsqueeze(1).to(parameter.dtype)
        means, squares = (state[name].index_select(0, rows) for name in ("exp_avg", "exp_avg_sq"))
        # The bias corrections of the first delayed steps, in which rows move the most, stand for those of all of them.
        corrections = (1 - second ** (float(state["step"]) + 1 - num_steps)).sqrt()
        moves = self.moves[lasts].to(means.dtype).unsqueeze(1)
        moved = parameter.index_select(0, rows).addcdiv_(
            means * moves, squares.sqrt().add_(self.group["eps"] * corrections), value=-1
        )
        parameter.index_copy_(0, rows, moved)
        state["exp_avg"].index_copy_(0, rows, means.mul_(first**num_steps))
        state["exp_avg_sq"].index_copy_(0, rows, squares.mul_(second**num_steps))
        self.last[rows] = self.num_steps

    def step(self, gradient: Tensor) -> None:
        """Take a step with a sparse gradient."""
        gradient = gradient.coalesce()
        rows, values = gradient.indices()[0], gradient.values()
        self.bring_up_to_date(rows)
        state, (first, second), rate = self.state, self.group["betas"], float(self.group["lr"])
        if not state:
            state["step"] = torch.zeros(())
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = torch.zeros_like(self.parameter, memory_format=torch.preserve_format)
        state["step"] += 1
        step = float(state["step"])
        correction = (1 - second**step) ** 0.5
        size = rate / (1 - first**step)
        means = state["exp_avg"].index_select(0, rows).lerp_(values, 1 - first)
        squares = state["exp_avg_sq"].index_select(0, rows).mul_(second).addcmul_(values, values, value=1 - second)
        state["exp_avg"].index_copy_(0, rows, means)
        state["exp_avg_sq"].index_copy_(0, rows, squares)
        moved = self.parameter.index_select(0, rows).addcdiv_(
            means, squares.sqrt_().div_(correction).add_(self.group["eps"]), value=-size
        )
        self.parameter.index_copy_(0, rows, moved)
        self._count(size * correction)
        self.last[rows] = self.num_steps

    def _count(self, size: float) -> None:
        """Count a step, which rows without a gradient lack from now on."""
        self.num_steps += 1
        if len(self.moves) <= self.num_steps:
            self.moves = torch.cat([self.moves, self.moves.new_zeros(max(1024, len(self.moves)))])
        first, second = self.group["betas"]
        fading = first / second**0.5
        num_counted = math.ceil(math.log(_FADED) / math.log(fading)) if fading > 0 else 1
        oldest = max(0, self.num_steps - num_counted)
        ages = torch.arange(self.num_steps - oldest, 0, -1, dtype=torch.float64, device=self.moves.device)
        self.moves[oldest : self.num_steps] += size * fading**ages
        self.moves[self.num_steps] = 0


def has_closed_form(group: dict[str, Any]) -> bool:
    """Tell whether what delayed steps do to a row has a closed form, with the options of a group of parameters.

    Example:
    ```python
    >>> from rnn_hf.optimizers.just_in_time import has_closed_form
    >>> has_closed_form({"weight_decay": 0.0}), has_closed_form({"weight_decay": 0.01})
    (True, False)

    ```
    """
    first, second = group.get("betas", (0.9, 0.999))
    others = (group.get("weight_decay", 0.01), group.get("amsgrad"), group.get("maximize"))
    return not any(others) and first <= _SLOWEST * second**0.5 and group.get("eps", 1e-8) <= _LARGEST_EPS


__all__ = ["JustInTimeAdamW", "has_closed_form"]
