"""From encoded examples to packed batches."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence, pad_sequence
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase


@dataclass
class DataCollatorWithPacking:
    """Make a packed batch of encoded examples, for classifiers and taggers alike.

    The ids of all sequences go into one tensor without padding, in the layout of
    `torch.nn.utils.rnn.PackedSequence`. Its fields are separate entries of the batch, because the `Trainer`,
    pinning and distributed training handle flat tensors only. Labels keep the order of the examples.

    Args:
        tokenizer (`PreTrainedTokenizerBase`):
            Names the padding token, for `padding=True`.
        padding (`bool`):
            Emit padded `input_ids` and `attention_mask` instead: for metrics that want the inputs, and for
            `nn.DataParallel`. The model's results are the same.
        label_pad_token_id (`int`):
            Fills the labels of a tagger behind the end of a sequence; ignored by the loss.

    A batch has the entries

    - `labels`, where the examples have `labels` or `label`: `[batch_size]` for one class or value a sequence,
      `[batch_size, num_labels]` for lists of which one holds a float, `[batch_size, max_length]` for lists of integers
      (tags);
    - `auxiliary_tags`, where the examples of a tagger have them: `[batch_size, max_length]`;
    - `teacher_logits`, where the examples have them: `[batch_size, num_labels]`, of a tagger `[batch_size, max_length,
      num_labels]`, NaN behind the end of a sequence;
    - `sorted_indices`, `unsorted_indices` `[batch_size]`, `input_ids` `[num_tokens]` and `batch_sizes`
      `[max_length]`, or with `padding=True`: `input_ids` and `attention_mask` `[batch_size, max_length]`.

    Raises:
        ValueError: Examples without `input_ids`, a sequence of length 0, some examples without labels, labels that are
            no numbers or of different shapes, or a number of tags other than the number of tokens.

    Example:
    ```python
    >>> from rnn_hf import DataCollatorWithPacking, train_tokenizer
    >>> tokenizer = train_tokenizer(["a b c"], kind="word", min_frequency=1)
    >>> collator = DataCollatorWithPacking(tokenizer)
    >>> batch = collator([{"input_ids": [4, 5], "label": 0}, {"input_ids": [6, 7, 8], "label": 1}])
    >>> batch["input_ids"], batch["batch_sizes"], batch["labels"]
    (tensor([6, 4, 7, 5, 8]), tensor([2, 2, 1]), tensor([0, 1]))

    ```
    """

    tokenizer: PreTrainedTokenizerBase
    padding: bool = False
    label_pad_token_id: int = -100

    def __call__(self, features: Sequence[dict[str, Any]] | Sequence[list[dict[str, Any]]]) -> dict[str, Tensor]:
        """Collate examples, or the batches of a [`TokenBudgetDataset`], into one batch; see the class."""
        examples = [example for item in features for example in (item if isinstance(item, list) else [item])]
        return self._collate(examples)

    def _collate(self, features: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        sequences = [torch.as_tensor(_ids(feature), dtype=torch.long) for feature in features]
        for position, sequence in enumerate(sequences):
            if len(sequence) == 0:
                raise ValueError(
                    f"Example {position} of the batch has no token. Use a tokenizer that ends every sequence with a "
                    "special token, as rnn_hf.train_tokenizer makes them, or leave the example out."
                )
        # Labels come first: the Trainer takes the first entry's length for the number of examples.
        batch = self._labels(features, sequences) | _teacher_logits(features, sequences)
        if self.padding:
            pad_token_id = self.tokenizer.pad_token_id or 0
            batch["input_ids"] = pad_sequence(sequences, batch_first=True, padding_value=pad_token_id)
            lengths = torch.tensor([len(sequence) for sequence in sequences])
            steps = torch.arange(batch["input_ids"].shape[1])
            batch["attention_mask"] = (steps < lengths.unsqueeze(1)).long()
            return batch
        packed = pack_sequence(sequences, enforce_sorted=False)
        assert packed.sorted_indices is not None
        assert packed.unsorted_indices is not None
        batch["sorted_indices"] = packed.sorted_indices
        batch["unsorted_indices"] = packed.unsorted_indices
        batch["input_ids"] = packed.data
        batch["batch_sizes"] = packed.batch_sizes
        return batch

    def _labels(self, features: Sequence[dict[str, Any]], sequences: list[Tensor]) -> dict[str, Tensor]:
        labels = [feature.get("labels", feature.get("label")) for feature in features]
        missing = [position for position, label in enumerate(labels) if label is None]
        if len(missing) == len(labels):
            return {}
        if missing:
            raise ValueError(f"Example {missing[0]} of the batch has no label, others have.")
        tensors = _numbers("labels", labels)
        if tensors[0].dim() == 0 or tensors[0].is_floating_point():
            for position, tensor in enumerate(tensors):
                if tensor.shape != tensors[0].shape:
                    raise ValueError(
                        f"Example {position} of the batch has labels of the shape {list(tensor.shape)}, example 0 of "
                        f"{list(tensors[0].shape)}: each sequence needs as many."
                    )
            return {"labels": torch.stack(tensors)}
        batch = {"labels": self._tags(tensors, sequences)}
        if "auxiliary_tags" in features[0]:
            tensors = _numbers("auxiliary_tags", [feature.get("auxiliary_tags") for feature in features])
            batch["auxiliary_tags"] = self._tags(tensors, sequences)
        return batch

    def _tags(self, tensors: list[Tensor], sequences: list[Tensor]) -> Tensor:
        for position, (tags, sequence) in enumerate(zip(tensors, sequences, strict=True)):
            if tags.shape != sequence.shape:
                shape = " x ".join(map(str, tags.shape)) or "1"
                raise ValueError(
                    f"Example {position} of the batch has {shape} tags for {len(sequence)} tokens. A tagger needs "
                    "one tag a token (-100 for none); several labels of a whole sequence must be floats."
                )
        return pad_sequence(tensors, batch_first=True, padding_value=self.label_pad_token_id)


def _teacher_logits(features: Sequence[dict[str, Any]], sequences: list[Tensor]) -> dict[str, Tensor]:
    if "teacher_logits" not in features[0]:
        return {}
    rows = [torch.as_tensor(feature.get("teacher_logits", []), dtype=torch.float32) for feature in features]
    for position, (row, sequence) in enumerate(zip(rows, sequences, strict=True)):
        fits = row.shape == rows[0].shape if rows[0].dim() == 1 else row.shape == (len(sequence), rows[0].shape[1])
        if not fits:
            raise ValueError(
                f"Example {position} of the batch has teacher_logits of the shape {list(row.shape)} for "
                f"{len(sequence)} tokens: a classifier needs a number for each label, a tagger as many for each token."
            )
    return {"teacher_logits": pad_sequence(rows, batch_first=True, padding_value=float("nan"))}


def _numbers(name: str, values: Sequence[Any]) -> list[Tensor]:
    """Make a tensor of each value; where one holds a float, all do."""
    tensors = []
    for position, value in enumerate(values):
        try:
            tensors.append(torch.as_tensor(value))
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"Example {position} of the batch has {name} that are no numbers: {error}") from error
    floats = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
    return [tensor.to(floats[0]) for tensor in tensors] if floats else tensors


def _ids(feature: dict[str, Any]) -> Any:
    if "input_ids" not in feature:
        raise ValueError(f"An example has no input_ids, only {sorted(feature)}: encode texts with the tokenizer first.")
    ids, mask = feature["input_ids"], feature.get("attention_mask")
    if mask is None:
        return ids
    if "labels" in feature and not torch.as_tensor(mask).all():
        raise ValueError("An example is padded already; give the collator sequences without padding.")
    return [token for token, real in zip(ids, mask, strict=True) if real]


class TokenBudgetDataset(Dataset):
    """Encoded examples cut into batches of bounded size: each item is a list of examples.

    With it the stock `Trainer` trains on batches by tokens: give it `per_device_train_batch_size=1` and
    [`DataCollatorWithPacking`]. Memory stays bounded however uneven the lengths are.

    Args:
        dataset (`datasets.Dataset`):
            Examples with `input_ids`.
        max_tokens (`int`):
            Most tokens of a batch. A longer sequence makes a batch of its own.
        max_examples (`int`):
            Most examples of a batch.
        group_by_length (`bool`):
            Whether a batch gathers sequences of similar length, drawn anew from the whole dataset in each epoch:
            for training. Otherwise batches keep the order of the examples: for evaluation and prediction.
        seed (`int`):
            Seed of the order among sequences of the same length.

    Example:
    ```python
    >>> from datasets import Dataset
    >>> from rnn_hf.data.collator import TokenBudgetDataset
    >>> lengths = [1, 9, 2, 2, 8, 1]
    >>> examples = Dataset.from_dict({"input_ids": [[7] * length for length in lengths]})
    >>> batches = TokenBudgetDataset(examples, max_tokens=10, max_examples=32)
    >>> [[len(example["input_ids"]) for example in batch] for batch in batches]
    [[1, 9], [2, 2], [8, 1]]

    ```
    """

    def __init__(self, dataset: Any, max_tokens: int, max_examples: int, group_by_length: bool = False, seed: int = 0):
        self.dataset = dataset
        self.max_tokens = max_tokens
        self.max_examples = max_examples
        self.group_by_length = group_by_length
        self.seed = seed
        self.lengths = [
            len(ids) for batch in dataset.select_columns(["input_ids"]).iter(1000) for ids in batch["input_ids"]
        ]
        self.batches: list[list[int]] = []
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Draw the batches of an epoch: others each time, as many and as long as the last time."""
        order = list(range(len(self.lengths)))
        if self.group_by_length:
            source = torch.Generator().manual_seed(self.seed + epoch)
            order = torch.randperm(len(order), generator=source).tolist()
            order.sort(key=self.lengths.__getitem__)
        self.batches = list(cut_batches(order, self.lengths, self.max_examples, self.max_tokens))

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, position: int) -> list[dict[str, Any]]:
        columns = self.dataset[self.batches[position]]
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def cut_batches(
    order: Iterable[int], lengths: Sequence[int], max_examples: int, max_tokens: int
) -> Iterator[list[int]]:
    """Cut examples, in an order, into batches of bounded size.

    Args:
        order (`Iterable[int]`): Positions of the examples, in the order in which batches take them.
        lengths (`Sequence[int]`): Number of tokens of each example.
        max_examples (`int`): Most examples of a batch.
        max_tokens (`int`): Most tokens of a batch; a longer sequence makes a batch of its own.

    Yields:
        `list[int]`: positions of a batch's examples.

    Raises:
        ValueError: A bound below 1.

    Example:
    ```python
    >>> from rnn_hf.data.collator import cut_batches
    >>> list(cut_batches([0, 1, 2, 3], [3, 9, 4, 2], max_examples=2, max_tokens=8))
    [[0], [1], [2, 3]]

    ```
    """
    if max_tokens < 1 or max_examples < 1:
        raise ValueError(f"A batch needs room for a token: max_tokens={max_tokens}, max_examples={max_examples}.")
    batch: list[int] = []
    num_tokens = 0
    for position in order:
        if batch and (len(batch) == max_examples or num_tokens + lengths[position] > max_tokens):
            yield batch
            batch, num_tokens = [], 0
        batch.append(position)
        num_tokens += lengths[position]
    if batch:
        yield batch
