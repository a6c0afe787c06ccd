"""Tables of which a [`~just_in_time.JustInTimeAdamW`] changes the rows that are read, in several processes too."""

from collections.abc import Iterable, Iterator
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
from .just_in_time import JustInTimeAdamW, has_closed_form

# Of smaller tables, all rows are changed as fast as some.
LEAST_SIZE = 2**16


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
    >>> from rnn_hf.optimizers.sparse_tables import SparseTables
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

    @property
    def tables(self) -> list[nn.Parameter]:
        """`list[torch.nn.Parameter]`: the tables that the modules read."""
        return [module.weight for module in self.modules]

    def make_optimizer(self, groups: list[dict[str, Any]], **options: Any) -> JustInTimeAdamW:
        """Make the optimizer of all parameters; see [`JustInTimeAdamW`]. Tables with weight decay stay dense."""
        possible = {one for group in groups if has_closed_form({**options, **group}) for one in group["params"]}
        self.modules = [module for module in self.modules if module.weight in possible]
        self.optimizer = JustInTimeAdamW(groups, self.tables, **options)
        self.attach()
        return self.optimizer

    def attach(self) -> None:
        """Let the gradients be sparse, and rows be brought up to date when they are read, until [`detach`]."""
        self.detach()
        if self.modules:
            self._handles.append(self._model.register_state_dict_pre_hook(self._before_saving))
            tables = set(self.tables)
            names = [name for name, parameter in self._model.named_parameters() if parameter in tables]
            self._model._ddp_params_and_buffers_to_ignore = [*self._not_shared, *names]  # type: ignore[assignment]
            if _num_processes() > 1:
                for table in self.tables:
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
        tables = set(self.tables)
        shared = _share(self.tables)
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
        if _num_processes() > 1 and self.modules:
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


def may_read_weights(callback: TrainerCallback) -> bool:
    """Tell whether a callback may read a model's weights at any time: those of other packages than these."""
    return type(callback).__module__.partition(".")[0] not in ("transformers", __name__.partition(".")[0])


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
    if num_processes == 1 or not tables:
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


__all__ = ["LEAST_SIZE", "SparseTables", "find_tables", "may_read_weights"]
