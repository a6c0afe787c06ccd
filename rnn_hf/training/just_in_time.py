"""AdamW that brings a row of a large table up to date when a batch reads it.

A step reads a few hundred of the thousands of rows of a table of embeddings, and the stock optimizer changes them all:
momentum goes on moving a row after its last gradient. What all those steps do to a row has a closed form, so it can be
done at once, just before the row is read again (https://arxiv.org/abs/1309.2388 calls such updates just-in-time). The
weights that a model computes with are those of the stock optimizer, but for rounding, and where second moments are as
small as the square of `eps`.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from transformers import TrainerCallback, TrainingArguments
from transformers.training_args import OptimizerNames

from ..models.embeddings import RnnEmbeddings
from ..models.lexical import LexicalFeatures
from ..models.modeling_rnn import RnnForSequenceClassification, RnnForTokenClassification
from ..models.ngrams import NgramFeatures

# Of smaller tables, all rows are changed as fast as some.
LEAST_SIZE = 2**16
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
    >>> from rnn_hf.training.just_in_time import JustInTimeAdamW
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

    @property
    def tables(self) -> list[nn.Parameter]:
        """The tables that have a gradient."""
        return [parameter for parameter in self._tables if parameter.grad is not None]

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
        for parameter in self.tables:
            if parameter.grad is not None and not parameter.grad.is_sparse:
                self.leave(parameter)
        gradients = {parameter: parameter.grad for parameter in self.tables}
        for parameter in gradients:
            parameter.grad = None
        super().step()
        for parameter, gradient in gradients.items():
            assert gradient is not None
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
        # Where the square root of a second moment is as small as eps, a row has moved by nearly as much as by steps.
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


class SparseTables:
    """The tables of a model while it is trained with a [`JustInTimeAdamW`]: sparse gradients, rows up to date.

    Args:
        model (`nn.Module`): The model.
        args (`TrainingArguments`): The options of the training.
        callbacks (`Iterable[TrainerCallback]`): Those of the training. One from elsewhere may read the weights at any
            time, so that the stock optimizer has to train them.

    Attributes:
        modules (`list[nn.Module]`): What reads the tables; none where the stock optimizer is as good.
        optimizer ([`JustInTimeAdamW`], *optional*): What trains them.

    Example:
    ```python
    >>> from rnn_hf import RnnConfig, RnnForSequenceClassification
    >>> from rnn_hf.training.just_in_time import SparseTables
    >>> from transformers import TrainingArguments
    >>> model = RnnForSequenceClassification(RnnConfig(vocab_size=20_000, embedding_size=16))
    >>> SparseTables(model, TrainingArguments()).modules
    [Embedding(20000, 16)]

    ```
    """

    def __init__(self, model: nn.Module, args: TrainingArguments, callbacks: Iterable[TrainerCallback] = ()):
        is_possible = _is_stock_adamw(args) and not any(map(may_read_weights, callbacks))
        self.modules: list[Any] = list(find_tables(model)) if is_possible else []
        self.optimizer: JustInTimeAdamW | None = None
        self._model = model
        self._handles: list[Any] = []
        self._dense: list[Any] = []
        # What processes do not share: of the tables, [`clip`] shares the gradients.
        self._not_shared: Any = getattr(model, "_ddp_params_and_buffers_to_ignore", [])

    def make_optimizer(self, groups: list[dict[str, Any]], **options: Any) -> JustInTimeAdamW:
        """Make the optimizer of all parameters; see [`JustInTimeAdamW`]. Tables with weight decay stay dense."""
        possible = {one for group in groups if has_closed_form({**options, **group}) for one in group["params"]}
        self.modules = [module for module in self.modules if module.weight in possible]
        self.optimizer = JustInTimeAdamW(groups, [module.weight for module in self.modules], **options)
        self.attach()
        return self.optimizer

    def attach(self) -> None:
        """Let the gradients be sparse, and rows be brought up to date when they are read, until [`detach`]."""
        self.detach()
        if self.modules:
            self._handles.append(self._model.register_state_dict_pre_hook(self._before_saving))
            tables = set(tables_of(self.modules))
            names = [name for name, parameter in self._model.named_parameters() if parameter in tables]
            self._model._ddp_params_and_buffers_to_ignore = [*self._not_shared, *names]  # type: ignore[assignment]
            if _num_processes() > 1:
                for table in tables_of(self.modules):
                    dist.broadcast(table.data, 0)
        for module in self.modules:
            module.sparse = True
            if isinstance(module, nn.Embedding):
                self._handles.append(module.register_forward_pre_hook(self._before_reading))
            else:
                module.before_reading = self._before_reading

    def bring_up_to_date(self) -> None:
        """Bring all rows up to date."""
        if self.optimizer is not None:
            self.optimizer.bring_all_up_to_date()

    def detach(self) -> None:
        """Bring all rows up to date, and let the gradients be dense again."""
        self.bring_up_to_date()
        if self._handles:
            self._model._ddp_params_and_buffers_to_ignore = self._not_shared
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        for module in self.modules:
            module.sparse = False
            if not isinstance(module, nn.Embedding):
                module.before_reading = None

    def _before_saving(self, *_: Any) -> None:
        self.bring_up_to_date()

    def _before_reading(self, module: Any, inputs: tuple[Tensor, ...]) -> None:
        assert self.optimizer is not None
        self.optimizer.bring_up_to_date(module.weight, inputs[0])

    def clip(self, parameters: Iterator[nn.Parameter], max_norm: float) -> Tensor:
        """Clip the norm of all gradients, sparse ones too, after processes have shared these.

        Args:
            parameters (`Iterator[torch.nn.Parameter]`): The model's.
            max_norm (`float`): The largest norm.

        Returns:
            `torch.Tensor`: a scalar, the norm before.
        """
        assert self.optimizer is not None
        self._leave_dense_ones()
        gradients = []
        tables = {module.weight for module in self.modules}
        shared = _share(tables_of(self.modules))
        for parameter in parameters:
            if parameter in tables:
                if (gradient := shared[parameter]) is not None:
                    gradients.append(gradient.values())
                parameter.grad = gradient
            elif parameter.grad is not None:
                gradients.append(parameter.grad)
        norm = nn.utils.get_total_norm(gradients)
        if max_norm != float("inf"):
            torch._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp(max=1.0))
        return norm

    def _leave_dense_ones(self) -> None:
        """Let tables whose gradient is dense, as that of a user's own loss, be as other parameters; share that."""
        assert self.optimizer is not None
        gradients = [module.weight.grad for module in self.modules]
        are_dense = torch.tensor([gradient is not None and not gradient.is_sparse for gradient in gradients]).int()
        if _num_processes() > 1:
            dist.all_reduce(are_dense, dist.ReduceOp.MAX)
        for module, is_dense in zip(list(self.modules), are_dense.tolist(), strict=True):
            if is_dense:
                self.optimizer.leave(module.weight)
                self.modules.remove(module)
                self._dense.append(module)
                module.sparse = False
        for module in self._dense if _num_processes() > 1 else ():
            weight = module.weight
            gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad.to_dense()
            dist.all_reduce(gradient)
            weight.grad = gradient / _num_processes()


def find_tables(model: nn.Module) -> Iterator[Any]:
    """Find what reads large tables of trained weights, a few rows at a time and in no other way.

    Args:
        model (`nn.Module`): The model; only classifiers and taggers have such tables.

    Yields:
        `nn.Embedding`, [`LexicalFeatures`] or [`NgramFeatures`], with the table as `weight`.
    """
    heads = [
        one for one in model.modules() if isinstance(one, RnnForSequenceClassification | RnnForTokenClassification)
    ]
    # A language model's scores take the product with all word embeddings.
    reads_all = any(head.objectives is not None and head.objectives.language_model is not None for head in heads)
    for module in [module for head in heads for module in head.modules()]:
        candidates: list[Any] = []
        if isinstance(module, RnnEmbeddings):
            candidates = [] if reads_all else [module.word_embeddings]
            candidates += [] if module.static_embeddings is None else [module.static_embeddings.vectors]
        elif isinstance(module, LexicalFeatures | NgramFeatures):
            candidates = [module]
        for candidate in candidates:
            if type(candidate) not in (nn.Embedding, LexicalFeatures, NgramFeatures) or candidate.sparse:
                continue
            if isinstance(candidate, nn.Embedding) and (candidate.scale_grad_by_freq or candidate.max_norm is not None):
                continue
            weight = candidate.weight
            if weight.dtype == torch.float32 and weight.requires_grad and weight.numel() >= LEAST_SIZE:
                yield candidate


def tables_of(modules: list[Any]) -> list[nn.Parameter]:
    """Return the tables that modules read."""
    return [module.weight for module in modules]


def may_read_weights(callback: TrainerCallback) -> bool:
    """Tell whether a callback may read a model's weights at any time: those of other packages than these."""
    return type(callback).__module__.partition(".")[0] not in ("transformers", __name__.partition(".")[0])


def has_closed_form(group: dict[str, Any]) -> bool:
    """Tell whether what delayed steps do to a row has a closed form, with the options of a group of parameters.

    Example:
    ```python
    >>> from rnn_hf.training.just_in_time import has_closed_form
    >>> has_closed_form({"weight_decay": 0.0}), has_closed_form({"weight_decay": 0.01})
    (True, False)

    ```
    """
    first, second = group.get("betas", (0.9, 0.999))
    others = (group.get("weight_decay", 0.01), group.get("amsgrad"), group.get("maximize"))
    return not any(others) and first <= _SLOWEST * second**0.5 and group.get("eps", 1e-8) <= _LARGEST_EPS


def _is_stock_adamw(args: TrainingArguments) -> bool:
    """Tell whether the optimizer is torch's AdamW on a CPU, and nothing else handles its parameters."""
    others = (args.fp16, args.torch_compile, args.deepspeed, args.fsdp, args.optim_args)
    is_adamw = args.optim in (OptimizerNames.ADAMW_TORCH, OptimizerNames.ADAMW_TORCH_FUSED)
    return is_adamw and args.device.type == "cpu" and not any(others)


def _num_processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _share(tables: list[nn.Parameter]) -> dict[nn.Parameter, Tensor | None]:
    """Average the gradients of tables over the processes: without repeated rows."""
    num_processes = _num_processes()
    if num_processes == 1:
        return {table: None if table.grad is None else table.grad.coalesce() for table in tables}
    own = [(_empty(table) if table.grad is None else table.grad).coalesce() for table in tables]
    counts = torch.tensor([gradient.indices().shape[1] for gradient in own])
    all_counts = [torch.empty_like(counts) for _ in range(num_processes)]
    dist.all_gather(all_counts, counts)
    shared: dict[nn.Parameter, Tensor | None] = {}
    for number, (table, gradient) in enumerate(zip(tables, own, strict=True)):
        sizes = [int(one[number]) for one in all_counts]
        if sum(sizes) == 0:
            shared[table] = None
            continue
        rows, values = (
            torch.cat(_gather(part, sizes)) for part in (gradient.indices()[0], gradient.values() / num_processes)
        )
        shared[table] = torch.sparse_coo_tensor(rows.unsqueeze(0), values, table.shape).coalesce()
    return shared


def _empty(table: Tensor) -> Tensor:
    rows = torch.empty(1, 0, dtype=torch.long, device=table.device)
    return torch.sparse_coo_tensor(rows, table.new_empty(0, table.shape[1]), table.shape)


def _gather(part: Tensor, sizes: list[int]) -> list[Tensor]:
    """Gather tensors of different lengths from all processes."""
    padded = part.new_zeros(max(sizes), *part.shape[1:])
    padded[: len(part)] = part
    found = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(found, padded)
    return [one[:size] for one, size in zip(found, sizes, strict=True)]


__all__ = [
    "LEAST_SIZE",
    "JustInTimeAdamW",
    "SparseTables",
    "find_tables",
    "has_closed_form",
    "may_read_weights",
    "tables_of",
]
