"""From encoded examples to packed batches."""

from functools import cache
from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from accelerate.utils import find_batch_size as accelerate_batch_size
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from strategies import VOCAB_SIZE, few, little_config
from torch.nn.utils.rnn import pack_sequence, pad_sequence
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments
from transformers.trainer_pt_utils import find_batch_size as trainer_batch_size

from rnn_hf import DataCollatorWithPacking, RnnForSequenceClassification, RnnForTokenClassification, train_tokenizer
from rnn_hf.data.collator import TokenBudgetDataset

sequences = st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=1, max_size=9)
batches_of_sequences = st.lists(sequences, min_size=1, max_size=7)


@cache
def tokenizer():
    return train_tokenizer(["a b c"], kind="word", min_frequency=1)


def collate(examples, **options):
    return DataCollatorWithPacking(tokenizer(), **options)(examples)


def examples_of(all_ids, labels=None):
    if labels is None:
        return [{"input_ids": ids} for ids in all_ids]
    return [{"input_ids": ids, "labels": label} for ids, label in zip(all_ids, labels, strict=True)]


# Ids.


@given(batches_of_sequences)
@few(50)
def test_packed_fields_are_those_of_torch(all_ids):
    batch = collate(examples_of(all_ids))
    packed = pack_sequence([torch.tensor(ids) for ids in all_ids], enforce_sorted=False)
    assert batch.keys() == {"sorted_indices", "unsorted_indices", "input_ids", "batch_sizes"}
    assert torch.equal(batch["input_ids"], packed.data)
    assert torch.equal(batch["batch_sizes"], packed.batch_sizes)
    assert torch.equal(batch["sorted_indices"], packed.sorted_indices)
    assert torch.equal(batch["unsorted_indices"], packed.unsorted_indices)


@given(batches_of_sequences)
@few(50)
def test_padded_fields_are_the_ids_and_where_they_are(all_ids):
    batch = collate(examples_of(all_ids), padding=True)
    assert batch.keys() == {"input_ids", "attention_mask"}
    tensors = [torch.tensor(ids) for ids in all_ids]
    pad_token_id = tokenizer().pad_token_id
    assert torch.equal(batch["input_ids"], pad_sequence(tensors, batch_first=True, padding_value=pad_token_id))
    assert torch.equal(batch["attention_mask"], pad_sequence([torch.ones_like(one) for one in tensors], True))


@pytest.mark.parametrize("make", [list, tuple, np.array, torch.tensor], ids=["list", "tuple", "array", "tensor"])
def test_ids_may_come_in_any_kind_of_sequence(make):
    batch = collate([{"input_ids": make([3, 4, 5]), "labels": 1}, {"input_ids": make([6]), "labels": 0}])
    assert batch["input_ids"].tolist() == [3, 6, 4, 5]
    assert batch["input_ids"].dtype == torch.long


def test_masked_tokens_are_left_out():
    padded = {"input_ids": [3, 4, 0, 0], "attention_mask": [1, 1, 0, 0], "label": 1}
    left = {"input_ids": [0, 5], "attention_mask": [0, 1], "label": 0}
    batch = collate([padded, left])
    assert batch["input_ids"].tolist() == [3, 5, 4]
    assert batch["batch_sizes"].tolist() == [2, 1]


def test_other_columns_are_left_out():
    batch = collate([{"input_ids": [3], "attention_mask": [1], "text": "three", "label": 1, "offsets": [(0, 1)]}])
    assert batch.keys() == {"labels", "sorted_indices", "unsorted_indices", "input_ids", "batch_sizes"}


# Labels.


@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("column", ["label", "labels"])
def test_labels_keep_the_order_of_the_examples(column, padding):
    batch = collate(
        [{"input_ids": [3] * length, column: label} for length, label in ((2, 7), (5, 8), (1, 9))], padding=padding
    )
    assert batch["labels"].tolist() == [7, 8, 9]
    assert batch["labels"].dtype == torch.long


def test_several_labels_and_values_stay_floats():
    several = collate(examples_of([[3], [4, 5]], [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]))["labels"]
    assert several.tolist() == [[1, 0, 1], [0, 0, 0]]
    values = collate(examples_of([[3], [4, 5]], [0.5, -2.0]))["labels"]
    assert values.tolist() == [0.5, -2.0]
    assert several.is_floating_point()
    assert values.is_floating_point()


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([[1, 0], [0.5, 1]], [[1.0, 0.0], [0.5, 1.0]]),
        ([[0.5, 1], [1, 0]], [[0.5, 1.0], [1.0, 0.0]]),
        ([[1, 0], [1.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]),
        ([1, 0.5], [1.0, 0.5]),
        ([0.5, 1], [0.5, 1.0]),
        ([np.array([1, 0]), np.array([0.5, 1], dtype=np.float32)], [[1.0, 0.0], [0.5, 1.0]]),
    ],
    ids=str,
)
@pytest.mark.parametrize("padding", [False, True])
def test_one_float_makes_all_labels_floats_wherever_it_stands(labels, expected, padding):
    # Of two tokens each, so that integers would be taken for tags.
    found = collate(examples_of([[3, 4], [5, 6]], labels), padding=padding)["labels"]
    assert found.is_floating_point()
    assert found.tolist() == expected


@given(batches_of_sequences, st.integers(-200, -100), st.booleans())
@few(50)
def test_tags_are_padded_in_the_order_of_the_examples(all_ids, label_pad_token_id, padding):
    tags = [[index % 5 for index in ids] for ids in all_ids]
    labels = collate(examples_of(all_ids, tags), label_pad_token_id=label_pad_token_id, padding=padding)["labels"]
    width = max(map(len, all_ids))
    assert labels.tolist() == [row + [label_pad_token_id] * (width - len(row)) for row in tags]


@pytest.mark.parametrize("padding", [False, True])
def test_tags_of_a_second_kind_are_padded_like_the_labels(padding):
    examples = examples_of([[3, 4], [5]], [[0, 1], [1]])
    for example, tags in zip(examples, ([7, -100], [8]), strict=True):
        example["auxiliary_tags"] = tags
    assert collate(examples, padding=padding)["auxiliary_tags"].tolist() == [[7, -100], [8, -100]]
    examples[1]["auxiliary_tags"] = [8, 9]
    with pytest.raises(ValueError, match="Example 1 of the batch has 2 tags for 1 tokens"):
        collate(examples, padding=padding)


def test_tags_are_padded_with_what_the_loss_ignores():
    labels = collate(examples_of([[3], [4, 5, 6]], [[1], [2, -100, 0]]))["labels"]
    assert labels.tolist() == [[1, -100, -100], [2, -100, 0]]


@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("labels", [[0, 1], [0.5, 1.5], [[1.0, 0.0], [0.0, 1.0]], [[1], [1, 0, 2]]], ids=str)
def test_the_trainer_counts_examples_by_the_first_entry(labels, padding):
    batch = collate(examples_of([[3], [4, 5, 6]], labels), padding=padding)
    assert next(iter(batch)) == "labels"
    assert trainer_batch_size(batch) == 2
    assert accelerate_batch_size(batch) == 2


@pytest.mark.parametrize("padding", [False, True])
def test_without_labels_examples_are_counted_as_well(padding):
    batch = collate(examples_of([[3], [4, 5, 6], [7, 8]]), padding=padding)
    assert trainer_batch_size(batch) == 3
    assert accelerate_batch_size(batch) == 3


# Refusals.


@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([{"text": "a", "label": 1}], r"no input_ids, only \['label', 'text'\]"),
        (examples_of([[3], []]), "Example 1 of the batch has no token"),
        ([{"input_ids": [0, 0], "attention_mask": [0, 0]}], "Example 0 of the batch has no token"),
        ([{"input_ids": [3], "label": 1}, {"input_ids": [4]}], "Example 1 of the batch has no label, others have"),
        ([{"input_ids": [3], "label": 1}, {"input_ids": [4], "label": None}], "Example 1 of the batch has no label"),
        (examples_of([[3], [4, 5]], [[1], [1]]), "Example 1 of the batch has 1 tags for 2 tokens"),
        (examples_of([[3, 4]], [[1, 0, 1]]), "several labels of a whole sequence must be floats"),
        (
            examples_of([[3], [4]], [[0.5, 1.0], [1.0]]),
            r"Example 1 of the batch has labels of the shape \[1\], example 0",
        ),
        (examples_of([[3], [4]], [0.5, [1.0]]), r"Example 1 of the batch has labels of the shape \[1\], example 0 of"),
        (examples_of([[3], [4, 5]], [[1], 1]), "Example 1 of the batch has 1 tags for 2 tokens"),
        (examples_of([[3], [4, 5]], [[1], [[1, 2]]]), "Example 1 of the batch has 1 x 2 tags for 2 tokens"),
        (examples_of([[3], [4]], [1, "B-PER"]), "Example 1 of the batch has labels that are no numbers"),
        (examples_of([[3], [4, 5]], [[1], [1, None]]), "Example 1 of the batch has labels that are no numbers"),
        (
            [{"input_ids": [3], "labels": [1], "auxiliary_tags": [1]}, {"input_ids": [4], "labels": [1]}],
            "Example 1 of the batch has auxiliary_tags that are no numbers",
        ),
        (
            [{"input_ids": [3, 0], "attention_mask": [1, 0], "labels": [1, -100]}],
            "padded already; give the collator sequences without padding",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_unfit_examples_are_refused(examples, message, padding):
    with pytest.raises(ValueError, match=message):
        collate(examples, padding=padding)


# With models and loaders.


def test_both_modes_give_the_same_predictions_and_losses():
    torch.manual_seed(0)
    all_ids = [[3, 4, 5], [6], [7, 8]]
    for model, labels in (
        (RnnForSequenceClassification(little_config()), [0, 1, 1]),
        (RnnForTokenClassification(little_config()), [[0, 1, 1], [0], [-100, 1]]),
    ):
        packed, padded = (model(**collate(examples_of(all_ids, labels), padding=one)) for one in (False, True))
        torch.testing.assert_close(packed.logits, padded.logits)
        torch.testing.assert_close(packed.loss, padded.loss)


def little_dataset(lengths):
    """Examples whose ids and label tell their position."""
    return Dataset.from_dict(
        {
            "input_ids": [[position] * length for position, length in enumerate(lengths)],
            "label": list(range(len(lengths))),
        }
    )


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("padding", [False, True])
def test_loaders_collate_in_other_processes(padding, num_workers):
    dataset = little_dataset([3, 1, 4, 1, 5, 9, 2])
    loader = DataLoader(
        dataset, batch_size=3, collate_fn=DataCollatorWithPacking(tokenizer(), padding), num_workers=num_workers
    )
    batches = list(loader)
    assert [batch["labels"].tolist() for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    for start, batch in zip((0, 3, 6), batches, strict=True):
        expected = collate([dataset[position] for position in range(start, min(start + 3, 7))], padding=padding)
        assert batch.keys() == expected.keys()
        assert all(torch.equal(batch[name], value) for name, value in expected.items())


# Batches by tokens.

budgets = st.fixed_dictionaries(
    {
        "max_tokens": st.integers(1, 30),
        "max_examples": st.integers(1, 6),
        "group_by_length": st.booleans(),
        "seed": st.integers(0, 5),
    }
)
lengths_of_datasets = st.lists(st.integers(1, 40), max_size=25)


def positions(batches):
    return [[example["label"] for example in batch] for batch in batches]


@given(lengths_of_datasets, budgets)
@few(50)
def test_no_batch_exceeds_its_bounds_and_every_example_comes_once(lengths, budget):
    batches = TokenBudgetDataset(little_dataset(lengths), **budget)
    found = positions(batches[position] for position in range(len(batches)))
    assert sorted(position for batch in found for position in batch) == list(range(len(lengths)))
    for batch in found:
        assert 1 <= len(batch) <= budget["max_examples"]
        assert sum(lengths[position] for position in batch) <= budget["max_tokens"] or len(batch) == 1


@given(lengths_of_datasets, budgets)
@few(50)
def test_no_two_neighbouring_batches_would_fit_into_one(lengths, budget):
    batches = TokenBudgetDataset(little_dataset(lengths), **budget).batches
    for batch, following in pairwise(batches):
        together = [*batch, following[0]]
        assert len(together) > budget["max_examples"] or sum(lengths[one] for one in together) > budget["max_tokens"]


@given(lengths_of_datasets, st.integers(1, 30), st.integers(1, 6), st.integers(0, 5))
@few(30)
def test_without_grouping_examples_keep_their_order(lengths, max_tokens, max_examples, seed):
    batches = TokenBudgetDataset(little_dataset(lengths), max_tokens, max_examples, seed=seed).batches
    assert [position for batch in batches for position in batch] == list(range(len(lengths)))


@given(lengths_of_datasets, st.integers(0, 5))
@few(30)
def test_grouping_gathers_similar_lengths_and_depends_on_the_seed_only(lengths, seed):
    first, second = (
        TokenBudgetDataset(little_dataset(lengths), 20, 4, group_by_length=True, seed=seed).batches for _ in range(2)
    )
    assert first == second
    in_order = [lengths[position] for batch in first for position in batch]
    assert in_order == sorted(lengths)


def test_another_seed_gives_other_batches():
    dataset = little_dataset([3] * 50)
    assert (
        TokenBudgetDataset(dataset, 20, 4, group_by_length=True, seed=1).batches
        != TokenBudgetDataset(dataset, 20, 4, group_by_length=True, seed=2).batches
    )


@given(lengths_of_datasets, budgets)
@few(30)
def test_each_epoch_has_other_batches_of_the_same_sizes(lengths, budget):
    dataset = TokenBudgetDataset(little_dataset(lengths), **budget)
    first = dataset.batches
    dataset.set_epoch(1)
    assert [[lengths[position] for position in batch] for batch in dataset.batches] == [
        [lengths[position] for position in batch] for batch in first
    ]
    dataset.set_epoch(0)
    assert dataset.batches == first


def test_the_trainer_draws_batches_anew_in_each_epoch(tmp_path):
    seen = []

    class Watching(DataCollatorWithPacking):
        def __call__(self, features):
            seen.append([example["label"] for batch in features for example in batch])
            return super().__call__(features)

    dataset = TokenBudgetDataset(little_dataset([2] * 24), 100, 4, group_by_length=True)
    arguments = TrainingArguments(
        str(tmp_path), per_device_train_batch_size=1, num_train_epochs=2, report_to="none", disable_tqdm=True,
        save_strategy="no", remove_unused_columns=False,
    )  # fmt: skip
    model = RnnForSequenceClassification(little_config(num_labels=24))
    Trainer(model, arguments, Watching(tokenizer()), train_dataset=dataset).train()
    first, second = seen[:6], seen[6:]
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(24))
    assert {frozenset(batch) for batch in first} != {frozenset(batch) for batch in second}


def test_a_sequence_beyond_the_budget_makes_a_batch_of_its_own():
    lengths = [2, 50, 3, 4, 60]
    batches = TokenBudgetDataset(little_dataset(lengths), max_tokens=10, max_examples=8).batches
    assert [[lengths[position] for position in batch] for batch in batches] == [[2], [50], [3, 4], [60]]


@pytest.mark.parametrize("group_by_length", [False, True])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loader_of_batches_collates_each(num_workers, group_by_length):
    lengths = [3, 1, 4, 1, 5, 9, 2]
    batches = TokenBudgetDataset(little_dataset(lengths), 10, 3, group_by_length=group_by_length)
    loader = DataLoader(batches, collate_fn=DataCollatorWithPacking(tokenizer()), num_workers=num_workers)
    found = list(loader)
    assert [batch["labels"].tolist() for batch in found] == batches.batches
    for batch, chosen in zip(found, batches.batches, strict=True):
        expected = collate([{"input_ids": [position] * lengths[position], "label": position} for position in chosen])
        assert all(torch.equal(batch[name], value) for name, value in expected.items())


def test_several_items_of_batches_are_collated_into_one():
    batches = TokenBudgetDataset(little_dataset([3, 1, 4, 1]), max_tokens=4, max_examples=2)
    together = collate([batches[0], batches[1]])
    assert together["labels"].tolist() == [0, 1, 2]
    assert together["batch_sizes"].tolist() == [3, 2, 2, 1]


@pytest.mark.parametrize("bounds", [(0, 1), (1, 0), (-1, 1)])
def test_a_budget_without_room_is_refused(bounds):
    with pytest.raises(ValueError, match=f"max_tokens={bounds[0]}, max_examples={bounds[1]}"):
        TokenBudgetDataset(little_dataset([1]), *bounds)
