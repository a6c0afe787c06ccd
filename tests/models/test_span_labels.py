"""IOB2 labels, and the IOBES labels that a conditional random field scores in their place."""

import pytest

from rnn_hf.models.labels import span_labels


def test_labels_stand_for_those_where_spans_go_on_and_end():
    names, open_ids, closed_ids, next_ids = span_labels(("B-PER", "O", "I-PER", "B-LOC", "I-ORG", "B-ORG"))
    assert names == ["B-PER", "S-PER", "O", "I-PER", "E-PER", "S-LOC", "I-ORG", "E-ORG", "B-ORG", "S-ORG"]
    assert [names[index] for index in open_ids] == ["B-PER", "O", "I-PER", "S-LOC", "I-ORG", "B-ORG"]
    assert [names[index] for index in closed_ids] == ["S-PER", "O", "E-PER", "S-LOC", "E-ORG", "S-ORG"]
    assert next_ids == [2, -1, 2, -1, 4, 4]


@pytest.mark.parametrize(
    "names",
    [
        ("NOUN", "VERB"),
        ("O", "B-X"),  # spans of one word alone
        ("O", "I-X"),  # IOB1
        ("O", "B-X", "I-X", "I-Y"),  # a span that no label begins
        ("O", "B-X", "I-X", "E-X", "S-X"),
    ],
)
def test_other_labels_are_not_refined(names):
    assert span_labels(names) is None
