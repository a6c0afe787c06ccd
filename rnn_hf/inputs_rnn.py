"""Read a batch in any form: padded or packed, ids or vectors."""

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from .packing_rnn import Packing


def read_input(
    input_ids: Tensor | PackedSequence | None = None,
    attention_mask: Tensor | None = None,
    inputs_embeds: Tensor | None = None,
    batch_sizes: Tensor | None = None,
    sorted_indices: Tensor | None = None,
    unsorted_indices: Tensor | None = None,
) -> tuple[Tensor, Packing]:
    """Turn any form of input into packed tokens.

    Args:
        input_ids (`torch.LongTensor` or `PackedSequence`, *optional*):
            Ids, padded `[batch_size, sequence_length]`, packed `[num_tokens]` with `batch_sizes`, or in one object.
        attention_mask (`torch.Tensor` of shape `[batch_size, sequence_length]`, *optional*): 0 for padding.
        inputs_embeds (`torch.FloatTensor`, *optional*): Vectors in place of ids, of one more dimension.
        batch_sizes (`torch.LongTensor` of shape `[max_length]`, *optional*): Number of sequences at each step.
        sorted_indices (`torch.LongTensor` of shape `[batch_size]`, *optional*): Rows, the longest first.
        unsorted_indices (`torch.LongTensor` of shape `[batch_size]`, *optional*): The inverse.

    Returns:
        Ids `[num_tokens]` or vectors `[num_tokens, size]`, and the [`Packing`] they are in.

    Raises:
        ValueError: Contradicting or missing inputs, or shapes that do not fit.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.inputs_rnn import read_input
    >>> tokens, packing = read_input(torch.tensor([[5, 6, 7], [8, 9, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]]))
    >>> tokens
    tensor([5, 8, 6, 9, 7])

    ```
    """
    if (input_ids is None) == (inputs_embeds is None):
        raise ValueError("Give exactly one of input_ids and inputs_embeds.")
    tokens = input_ids if input_ids is not None else inputs_embeds
    assert tokens is not None
    if isinstance(tokens, PackedSequence):
        tokens, batch_sizes, sorted_indices, unsorted_indices = tokens
    packed_dim = 2 if tokens.is_floating_point() else 1
    if batch_sizes is not None:
        if attention_mask is not None:
            raise ValueError("Packed input holds no padding: give batch_sizes or attention_mask, not both.")
        if tokens.dim() != packed_dim or int(batch_sizes.sum()) != tokens.shape[0]:
            raise ValueError(
                f"Packed input must hold as many tokens as batch_sizes sums to, {int(batch_sizes.sum())}, in its "
                f"first dimension; got the shape {list(tokens.shape)}. nn.DataParallel splits packed batches "
                "wrongly: launch with torchrun, or let the collator pad."
            )
        return tokens, Packing.from_batch_sizes(batch_sizes, sorted_indices, unsorted_indices, tokens.device)
    if tokens.dim() != packed_dim + 1:
        raise ValueError(
            f"Padded input must have the shape [batch_size, sequence_length{', input_size' * (packed_dim - 1)}], "
            f"got {list(tokens.shape)}. Packed input comes with batch_sizes."
        )
    if attention_mask is None:
        attention_mask = tokens.new_ones(tokens.shape[:2], dtype=torch.bool)
    elif attention_mask.shape != tokens.shape[:2]:
        raise ValueError(
            f"attention_mask must have the shape [batch_size, sequence_length] = {list(tokens.shape[:2])}, "
            f"got {list(attention_mask.shape)}."
        )
    packing = Packing.from_mask(attention_mask)
    return packing.pack(tokens), packing


def repeat_batch(tokens: Tensor, packing: Packing, times: int) -> tuple[Tensor, Packing]:
    """Put a batch after itself, row after row, so that it is read several times at once.

    Args:
        tokens (`torch.Tensor` of shape `[num_tokens, ...]`): Packed ids or vectors.
        packing ([`Packing`]): The layout.
        times (`int`): How often the batch shall be there.

    Returns:
        Packed tokens `[times * num_tokens, ...]`, and their [`Packing`].

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.inputs_rnn import read_input, repeat_batch
    >>> tokens, packing = read_input(torch.tensor([[5, 6, 7], [8, 9, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]]))
    >>> tokens, packing = repeat_batch(tokens, packing, 2)
    >>> packing.pad(tokens)
    tensor([[5, 6, 7],
            [8, 9, 0],
            [5, 6, 7],
            [8, 9, 0]])

    ```
    """
    padded = packing.pad(tokens)
    mask = packing.pad(torch.ones(packing.num_tokens, dtype=torch.bool, device=tokens.device))
    packing = Packing.from_mask(mask.repeat(times, 1))
    return packing.pack(padded.repeat(times, *[1] * (padded.dim() - 1))), packing


__all__ = ["read_input", "repeat_batch"]
