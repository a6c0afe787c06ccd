"""Which n-grams count, and how much: as loops over texts say."""

import math

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from strategies import few, little_config

from rnn_hf import RnnForSequenceClassification, train_tokenizer
from rnn_hf.linear import ngram_choice as module
from rnn_hf.linear.ngram_choice import set_ngrams
from rnn_hf.models.ngrams import character_ngrams, entry_keys, find_buckets, word_ngrams
from rnn_hf.text.characters import set_vocabulary

WORDS = ["cat", "cats", "dog", "Dogs", "a", "the"]
TOKENIZER = train_tokenizer(WORDS * 2, "word")


def make(num_labels, **options):
    config = little_config(vocab_size=len(TOKENIZER), num_labels=num_labels, ngram_buckets=1, **options)
    model = RnnForSequenceClassification(config)
    set_vocabulary(model, TOKENIZER)
    return model


def ngrams_of(model, ids) -> set[int]:
    keys = entry_keys(model.ngrams.spellings)[torch.tensor(ids)]
    befores = torch.arange(len(ids)) - 1
    of_words = word_ngrams(keys, befores, model.config.max_ngram).flatten().tolist()
    return {value for value in of_words + character_ngrams(model.ngrams.spellings[ids]).flatten().tolist() if value}


def weights_of(model, examples, num_labels) -> dict[int, float]:
    """Weigh n-grams that are in two texts or more: examples are token ids and sets of labels."""
    found = [(ngrams_of(model, ids), labels) for ids, labels in examples]
    counts = {value: sum(value in texts for texts, _ in found) for value in set().union(*(texts for texts, _ in found))}
    counts = {value: count for value, count in counts.items() if count >= 2}
    weights = {value: math.log((1 + len(found)) / (1 + count)) + 1 for value, count in counts.items()}
    if num_labels < 2:
        return weights
    ratios = dict.fromkeys(counts, 0.0)
    for label in range(num_labels):
        inside = {value: sum(value in texts for texts, labels in found if label in labels) for value in counts}
        total = sum(inside.values()) + len(counts)
        others = sum(counts.values()) - sum(inside.values()) + len(counts)
        for value, count in inside.items():
            if count:
                ratio = math.log((count + 1) / total) - math.log((counts[value] - count + 1) / others)
                ratios[value] = max(ratios[value], abs(ratio))
    return {value: weight * math.sqrt(ratios[value]) for value, weight in weights.items()}


texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=4), min_size=1, max_size=8)


@given(texts=texts, kind=st.sampled_from(["one", "several", "regression"]), chunk=st.integers(1, 9), data=st.data())
@few(60)
def test_weights_are_those_of_loops_over_texts(texts, kind, chunk, data):
    ids = [TOKENIZER(" ".join(words))["input_ids"] for words in texts]
    num_labels = 1 if kind == "regression" else 3
    one = st.integers(0, 2) if kind == "one" else st.lists(st.sampled_from([0.0, 1.0]), min_size=3, max_size=3)
    one = st.floats(-1, 1) if kind == "regression" else one
    labels = [data.draw(one) for _ in ids]
    sets = (
        [{label} if kind == "one" else {n for n, on in enumerate(label) if on} for label in labels]
        if (kind != "regression")
        else [set() for _ in labels]
    )
    problem = {"one": "single_label", "several": "multi_label"}.get(kind, "")
    model = make(num_labels, problem_type=f"{problem}_classification" if problem else "regression")
    expected = weights_of(model, list(zip(ids, sets, strict=True)), num_labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", chunk)
        number = set_ngrams(model, Dataset.from_dict({"input_ids": ids, "labels": labels}), num_buckets=1 << 16)
    hashes = model.ngrams.hashes
    found = dict(zip(hashes[hashes > 0].tolist(), model.ngrams.scales[hashes > 0].tolist(), strict=True))
    assert number == len(found) == len(expected)
    for value, weight in found.items():
        assert weight == pytest.approx(expected[value], rel=1e-5, abs=1e-6)
    buckets = find_buckets(torch.tensor(list(expected), dtype=torch.long), hashes)
    assert hashes[buckets].tolist() == list(expected)


def test_the_number_of_buckets_follows_from_the_data():
    few_texts = Dataset.from_dict({"input_ids": [[4, 5], [4, 5]], "labels": [0, 1]})
    model = make(2)
    number = set_ngrams(model, few_texts)
    assert number <= len(model.ngrams.weight) == model.config.ngram_buckets <= 4 * number
    many = make(300)
    set_ngrams(many, few_texts, num_buckets=10)
    assert many.ngrams.weight.shape == (10, 64)
    assert many.ngrams.weight.std() > 0.05


def test_without_shared_ngrams_nothing_counts():
    model = make(2)
    assert set_ngrams(model, Dataset.from_dict({"input_ids": [[4], [6]], "labels": [0, 1]}).select([0])) == 0
    assert model.ngrams.hashes.sum() == 0
    assert torch.isfinite(model(input_ids=torch.tensor([[4, 5]])).logits).all()


def test_ignored_labels_are_of_no_class():
    data = Dataset.from_dict({"input_ids": [[4, 5]] * 4, "labels": [0, 1, -100, -100]})
    assert set_ngrams(make(2), data) > 0
