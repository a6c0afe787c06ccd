"""Read a batch in any form: padded or packed, ids or vectors."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from .packing import INTEGERS, Packing

# What tokenizers, pipelines and peft pass to attention models: of no effect here, and what only attention has.
_IGNORED = ("token_type_ids", "use_cache")
_OF_ATTENTION = ("head_mask", "output_attentions")


def read_input(
    input_ids: Tensor | PackedSequence | None = None,
    attention_mask: Tensor | None = None,
    inputs_embeds: Tensor | PackedSequence | None = None,
    batch_sizes: Tensor | None = None,
    sorted_indices: Tensor | None = None,
    unsorted_indices: Tensor | None = None,
) -> tuple[Tensor | None, Tensor | None, Packing]:
    """Turn any form of input into packed tokens.

    Args:
        input_ids (`torch.LongTensor` or `PackedSequence`, *optional*):
            Ids, padded `[batch_size, sequence_length]`, packed `[num_tokens]` with `batch_sizes`, or in one object.
        attention_mask (`torch.Tensor` of shape `[batch_size, sequence_length]`, *optional*): 0 for padding.
        inputs_embeds (`torch.FloatTensor` or `PackedSequence`, *optional*):
            Vectors in place of ids, or beside them, of one more dimension.
        batch_sizes (`torch.LongTensor` of shape `[max_length]`, *optional*): Number of sequences at each step.
        sorted_indices (`torch.LongTensor` of shape `[batch_size]`, *optional*): Rows, the longest first.
        unsorted_indices (`torch.LongTensor` of shape `[batch_size]`, *optional*): The inverse.

    Returns:
        Ids `[num_tokens]` and vectors `[num_tokens, size]`, `None` for what is not given, and the [`Packing`] they are
        in.

    Raises:
        ValueError: Contradicting or missing inputs, types or shapes that do not fit, or a layout that none has.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.inputs import read_input
    >>> ids, _, packing = read_input(torch.tensor([[5, 6, 7], [8, 9, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]]))
    >>> ids
    tensor([5, 8, 6, 9, 7])

    ```
    """
    given: dict[str, Any] = {"input_ids": input_ids, "inputs_embeds": inputs_embeds}
    given = {name: tokens for name, tokens in given.items() if tokens is not None}
    if not given:
        raise ValueError("Give input_ids or inputs_embeds.")
    fields: Any = (batch_sizes, sorted_indices, unsorted_indices)
    for name, tokens in given.items():
        if isinstance(tokens, PackedSequence):
            given[name], *fields = tokens
    for name, tokens in given.items():
        fits = tokens.dtype in INTEGERS if name == "input_ids" else tokens.is_floating_point()
        if not fits:
            wanted = "integers, the ids of tokens" if name == "input_ids" else "floating point numbers"
            raise ValueError(f"{name} must be {wanted}; got {tokens.dtype}.")
    if fields[0] is not None:
        if attention_mask is not None:
            raise ValueError("Packed input holds no padding: give batch_sizes or attention_mask, not both.")
        device = next(iter(given.values())).device
        batch_sizes, sorted_indices, unsorted_indices = fields
        packing = Packing.from_batch_sizes(batch_sizes, sorted_indices, unsorted_indices, device)
        for name, tokens in given.items():
            if tokens.dim() != _num_dims(name) - 1 or len(tokens) != packing.num_tokens:
                raise ValueError(
                    f"Packed input must hold as many tokens as batch_sizes sums to, {packing.num_tokens}, in its "
                    f"first dimension; got {name} of the shape {list(tokens.shape)}. nn.DataParallel splits packed "
                    "batches wrongly: launch with torchrun, or let the collator pad."
                )
        packed = given
    else:
        for name, tokens in given.items():
            if tokens.dim() != _num_dims(name):
                raise ValueError(
                    f"Padded {name} must have the shape [batch_size, sequence_length"
                    f"{', input_size' * (_num_dims(name) - 2)}], got {list(tokens.shape)}. Packed input comes with "
                    "batch_sizes."
                )
        shapes = {tokens.shape[:2] for tokens in given.values()}
        if len(shapes) > 1:
            raise ValueError(
                "input_ids and inputs_embeds must have the same [batch_size, sequence_length]; got "
                f"{' and '.join(str(list(tokens.shape)) for tokens in given.values())}."
            )
        (shape,) = shapes
        packing = Packing.from_mask(_checked_mask(attention_mask, shape, next(iter(given.values()))))
        packed = {name: packing.pack(tokens) for name, tokens in given.items()}
    ids = packed.get("input_ids")
    return None if ids is None else ids.long(), packed.get("inputs_embeds"), packing


def _num_dims(name: str) -> int:
    return 2 if name == "input_ids" else 3


def _checked_mask(attention_mask: Tensor | None, shape: torch.Size, tokens: Tensor) -> Tensor:
    if attention_mask is None:
        return tokens.new_ones(shape, dtype=torch.bool)
    if attention_mask.shape != shape:
        raise ValueError(
            f"attention_mask must have the shape [batch_size, sequence_length] = {list(shape)}, "
            f"got {list(attention_mask.shape)}."
        )
    if attention_mask.is_complex() or (attention_mask.is_floating_point() and bool(attention_mask.isnan().any())):
        raise ValueError("attention_mask must be 0 for padding and another number for tokens; it is complex or NaN.")
    return attention_mask


def repeat_batch(tokens: Sequence[Tensor | None], packing: Packing, times: int) -> tuple[list[Tensor | None], Packing]:
    """Put a batch after itself, row after row, so that it is read several times at once.

    Args:
        tokens (`Sequence[torch.Tensor]` of shape `[num_tokens, ...]`): Packed ids or vectors, or `None`.
        packing ([`Packing`]): Their layout.
        times (`int`): How often the batch shall be there.

    Returns:
        Packed tokens `[times * num_tokens, ...]`, and their [`Packing`].

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.inputs import read_input, repeat_batch
    >>> ids, _, packing = read_input(torch.tensor([[5, 6, 7], [8, 9, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]]))
    >>> (ids,), packing = repeat_batch([ids], packing, 2)
    >>> packing.pad(ids)
    tensor([[5, 6, 7],
            [8, 9, 0],
            [5, 6, 7],
            [8, 9, 0]])

    ```
    """
    mask = packing.pad(torch.ones(packing.num_tokens, dtype=torch.bool, device=packing.sorted_indices.device))
    repeated = Packing.from_mask(mask.repeat(times, 1))
    # The index of each token of the repeated batch among the packed tokens.
    indices = packing.pad(torch.arange(packing.num_tokens, device=mask.device)).repeat(times, 1)
    indices = repeated.pack(indices)
    return [None if values is None else values.index_select(0, indices) for values in tokens], repeated


def check_ignored(arguments: dict[str, Any]) -> None:
    """Check arguments that have no effect on a recurrent model, but come from a tokenizer or a pipeline for others.

    Args:
        arguments (`dict`): What was given beside the arguments of the model: `token_type_ids` and `use_cache` of any
            value; `output_attentions` and `head_mask` where they ask for nothing.

    Raises:
        TypeError: An argument of another name.
        ValueError: Attention is asked for, which no recurrent layer has.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.inputs import check_ignored
    >>> check_ignored({"token_type_ids": torch.zeros(2, 3), "output_attentions": False})
    >>> check_ignored({"output_attentions": True})
    Traceback (most recent call last):
    ...
    ValueError: output_attentions: a recurrent model has no attention heads. Ask for output_hidden_states instead.

    ```
    """
    for name, value in arguments.items():
        if name in _OF_ATTENTION and value is not None and value is not False:
            raise ValueError(f"{name}: a recurrent model has no attention heads. Ask for output_hidden_states instead.")
        if name not in _IGNORED + _OF_ATTENTION:
            raise TypeError(f"The model got an unexpected keyword argument {name!r}.")


def check_ids(input_ids: Tensor, num_entries: int) -> None:
    """Check that ids lie within the vocabulary; on a CPU only: elsewhere that would wait for the device.

    Args:
        input_ids (`torch.LongTensor` of any shape): The ids.
        num_entries (`int`): Number of entries of the vocabulary.

    Raises:
        ValueError: An id that is no entry.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.inputs import check_ids
    >>> check_ids(torch.tensor([0, 9]), 10)

    ```
    """
    if input_ids.device.type != "cpu" or input_ids.numel() == 0 or torch.compiler.is_compiling():
        return
    lowest, highest = (int(bound) for bound in input_ids.aminmax())
    if lowest < 0 or highest >= num_entries:
        raise ValueError(
            f"input_ids must be at least 0 and below the vocabulary's size, {num_entries}; got ids from {lowest} to "
            f"{highest}. Does the tokenizer belong to this model?"
        )


__all__ = ["check_ids", "check_ignored", "read_input", "repeat_batch"]
