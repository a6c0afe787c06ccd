"""Examples of datasets of any kind, in their order."""

import torch
from datasets import Dataset

from rnn_hf.data.examples import iterate_examples

ROWS = [{"input_ids": list(range(number % 5)), "labels": float(number), "text": str(number)} for number in range(2_003)]


def test_a_table_gives_the_rows_that_it_has_one_by_one():
    table = Dataset.from_list(ROWS)
    shuffled = table.shuffle(seed=1).select(range(1_500))
    assert list(iterate_examples(table)) == ROWS
    assert list(iterate_examples(shuffled)) == [shuffled[index] for index in range(len(shuffled))]
    assert list(iterate_examples(table.select_columns("labels"))) == [{"labels": row["labels"]} for row in ROWS]


def test_a_table_with_a_format_keeps_it():
    table = Dataset.from_list(ROWS[:9]).with_format("torch", columns=["input_ids"])
    examples = list(iterate_examples(table))
    assert [example.keys() for example in examples] == [{"input_ids"}] * 9
    assert torch.equal(examples[4]["input_ids"], torch.arange(4))


def test_lists_of_examples_are_taken_apart():
    assert list(iterate_examples([ROWS[:2], ROWS[2:3]])) == ROWS[:3]
