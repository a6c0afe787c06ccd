"""The Trainer of language models: long texts in chunks with carried state, and perplexities."""

import contextlib
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import EvalPrediction

from ..models.modeling_lm import RnnForPreTraining, neighbours
from ..models.packing import Packing
from .trainer import RnnTrainer


class RnnPretrainer(RnnTrainer):
    """A [`RnnTrainer`] for language models.

    Texts longer than `chunk_length` are read chunk by chunk: each direction's state is carried to its next chunk, and
    gradients end there (truncated backpropagation through time, https://arxiv.org/abs/1708.02182). All probabilities
    are those of the whole text, and the memory is that of a chunk. A batch's weights are the same for all its chunks.

    Args:
        model ([`RnnForPreTraining`]): The model.
        args ([`RnnTrainingArguments`]): The options.
        chunk_length (`int`): Most tokens of a text that are read at once.
        num_words (`int`, *optional*): Words of the evaluation data, for the perplexity per word.
        options: See [`RnnTrainer`]. Encoded examples have `labels`: the ids, with -100 for the first one.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf import RnnConfig, RnnForPreTraining, RnnTrainingArguments, train_tokenizer
    >>> from rnn_hf.training.lm_trainer import RnnPretrainer
    >>> tokenizer = train_tokenizer(["to be or not to be"], kind="word", min_frequency=1)
    >>> rows = [{"input_ids": [4, 3, 5, 6, 4, 3, 2], "labels": [-100, 3, 5, 6, 4, 3, 2]}]
    >>> model = RnnForPreTraining(RnnConfig(vocab_size=len(tokenizer), hidden_size=8))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     args = RnnTrainingArguments(folder, eval_strategy="no")
    ...     trainer = RnnPretrainer(model, args, chunk_length=4, processing_class=tokenizer, eval_dataset=rows)
    ...     sorted(name for name in trainer.evaluate() if "perplexity" in name)
    ['eval_perplexity', 'eval_perplexity_backward', 'eval_perplexity_forward']

    ```
    """

    def __init__(
        self,
        model: Any = None,
        args: Any = None,
        *positional: Any,
        chunk_length: int = 256,
        num_words: int | None = None,
        **options: Any,
    ):
        self._chunk_length = chunk_length
        self._num_words = num_words
        self._states: tuple[Tensor, ...] = ()
        super().__init__(model, args, *positional, compute_metrics=self._perplexities, **options)

    def _prepare_task(self) -> None:
        if not isinstance(self.model, RnnForPreTraining):
            raise ValueError(f"RnnPretrainer trains RnnForPreTraining, got {type(self.model).__name__}.")
        self._check_data()
        self._choose_metric()

    def _find_problem_type(self, labels: Tensor | None = None) -> str:
        return "language_modeling"

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Compute the loss of a batch or of a chunk, and keep the states after it; see the stock Trainer."""
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        self._states = _states_of(outputs)
        return (loss, outputs) if return_outputs else loss

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """Take a training step on a batch, chunk by chunk; see the stock Trainer."""
        model.train()
        inputs = self._prepare_inputs(inputs)
        if not self._is_long(inputs):
            return super().training_step(model, inputs, *args, **kwargs)
        chunks = self._cut(inputs)
        after = self._backward_states(model, chunks)
        total = torch.zeros((), device=self.args.device)
        self._states = ()
        for index, chunk in enumerate(chunks):
            chunk = self._continued(chunk, self._states, after[index])
            # Processes may have different numbers of chunks, and wait for each other once.
            is_last = index == len(chunks) - 1
            with contextlib.nullcontext() if is_last else self.accelerator.no_sync(model):
                total += super().training_step(model, chunk, *args, **kwargs)
        return total

    @torch.no_grad()
    def prediction_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Read a batch, chunk by chunk.

        Returns:
            The loss; of each text the logarithms of the probability of its tokens, in each direction; and how many
            tokens these are.
        """
        inputs = self._prepare_inputs(inputs)
        counts = (inputs["labels"] != -100).sum(dim=1)
        if not self._is_long(inputs):
            with self.compute_loss_context_manager():
                total = model(**inputs).log_likelihoods.float()
        else:
            chunks = self._cut(inputs)
            total = torch.zeros(len(counts), self._config.num_directions, device=counts.device)
            states: tuple[Tensor, ...] = ()
            for chunk, after in zip(chunks, self._backward_states(model, chunks), strict=True):
                with self.compute_loss_context_manager():
                    outputs = model(**self._continued(chunk, states, after))
                states = _states_of(outputs)
                total[: len(outputs.log_likelihoods)] += outputs.log_likelihoods.float()
            total = total[inputs["unsorted_indices"]]
        return -total.mean(dim=1).sum() / counts.sum().clamp(min=1), total, counts

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate; the loss is the mean over all tokens, of which the perplexity is the exponential."""
        output = super().evaluation_loop(*args, **kwargs)
        prefix = kwargs.get("metric_key_prefix", "eval")
        if output.metrics and f"{prefix}_perplexity" in output.metrics:
            output.metrics[f"{prefix}_loss"] = math.log(output.metrics[f"{prefix}_perplexity"])
        return output

    def _perplexities(self, prediction: EvalPrediction) -> dict[str, float]:
        likelihoods, counts = np.asarray(prediction.predictions, dtype=np.float64), np.asarray(prediction.label_ids)
        losses = -likelihoods.sum(axis=0)  # [directions]
        num_tokens = max(int(counts.sum()), 1)
        metrics = {"perplexity": _exponential(losses.mean() / num_tokens)}
        if self._num_words:
            metrics["perplexity_per_word"] = _exponential(losses.mean() / self._num_words)
        if len(losses) > 1:
            for name, loss in zip(("forward", "backward"), losses, strict=True):
                metrics[f"perplexity_{name}"] = _exponential(loss / num_tokens)
        return metrics

    def _is_long(self, inputs: dict[str, Any]) -> bool:
        return len(inputs["batch_sizes"]) > self._chunk_length

    def _cut(self, inputs: dict[str, Any]) -> list[dict[str, Any]]:
        """Cut a batch along the time axis. Each chunk has the rows that are not at their end yet, the longest first."""
        ids, batch_sizes = inputs["input_ids"], inputs["batch_sizes"].cpu()
        packing = Packing.from_batch_sizes(batch_sizes, inputs["sorted_indices"], device=ids.device)
        sizes = batch_sizes.split(self._chunk_length)
        tokens = [int(one.sum()) for one in sizes]
        parts = zip(sizes, *(one.split(tokens) for one in (ids, *neighbours(ids, packing))), strict=True)
        return [
            dict(zip(("batch_sizes", "input_ids", "next_ids", "previous_ids"), part, strict=True)) for part in parts
        ]

    @torch.no_grad()
    def _backward_states(self, model: nn.Module, chunks: list[dict[str, Any]]) -> list[tuple[Tensor, ...]]:
        """Find, for each chunk, the states of the chunk after it, in which the backward direction enters it."""
        states: list[tuple[Tensor, ...]] = [()] * len(chunks)
        if self._config.bidirectional:
            encoder = self.accelerator.unwrap_model(model).model
            for index in range(len(chunks) - 1, 0, -1):
                chunk = self._continued(chunks[index], (), states[index])
                named = {name: chunk[name] for name in chunk if not name.endswith("_ids") or name == "input_ids"}
                states[index - 1] = _states_of(encoder(**named))
        return states

    def _continued(
        self, chunk: dict[str, Any], before: tuple[Tensor, ...], after: tuple[Tensor, ...]
    ) -> dict[str, Any]:
        """Give a chunk its initial states: those of the chunks before and after it, or zeros where there is none."""
        config, num_rows = self._config, int(chunk["batch_sizes"][0])
        shape = (config.num_hidden_layers * config.num_directions, num_rows, config.hidden_size)
        initial = {}
        for index, name in enumerate(("h_0", "c_0") if config.cell_type == "lstm" else ("h_0",)):
            state = torch.zeros(shape, device=self.args.device, dtype=self.model.dtype)
            for direction, carried in enumerate((before, after)[: config.num_directions]):
                if carried:
                    rows = carried[index][direction :: config.num_directions, :num_rows]
                    state[direction :: config.num_directions, : rows.shape[1]] = rows
            initial[name] = state
        return chunk | initial


def _states_of(outputs: Any) -> tuple[Tensor, ...]:
    """Take the final states of outputs, without what gradients need."""
    return tuple(state.detach() for state in (outputs.h_n, outputs.c_n) if state is not None)


def _exponential(value: float) -> float:
    """Take the exponential, infinite where it is too large for a number."""
    return math.exp(value) if value < 700 else math.inf


__all__ = ["RnnPretrainer"]
