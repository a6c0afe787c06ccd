"""N-grams of a classifier: the same as loops over texts give, in logits and gradients, whatever the batch."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import VOCAB_SIZE, few, generator, little_config, random_ids, seeds, set_random_ngrams
from torch.nn.utils.rnn import pack_sequence, pad_sequence

from rnn_hf import RnnConfig, RnnForSequenceClassification, train_tokenizer
from rnn_hf.models.ngrams import END, MOST_LABELS, NUM_CODES, PRIME, NgramFeatures
from rnn_hf.models.packing import Packing
from rnn_hf.text.characters import set_vocabulary


def hashed(items, factor):
    value = 0
    for number, item in enumerate(items):
        value = item if number == 0 and factor == 48_271 else (value * factor + item) % (PRIME - 1) + 1
    return value


def logits_of(ngrams: NgramFeatures, ids: list[int]) -> torch.Tensor:
    """Score the labels of one text."""
    spellings = [[code for code in ngrams.spellings[entry].tolist() if code] for entry in ids]
    keys = [hashed(codes, 1_000_003) for codes in spellings]
    counts = [ids.count(entry) for entry in ids]
    words, characters = [], []  # hashes, and how often the rarest token of each stands in the text
    for size in range(1, ngrams.max_ngram + 1):
        for begin in range(len(ids) - size + 1):
            part = keys[begin : begin + size]
            if 0 not in part:
                value = part[0]
                for key in part[1:]:
                    value = (value * 1_000_003 + key) % (PRIME - 1) + 1
                words.append((value, min(counts[begin : begin + size])))
    for codes, count in zip(spellings, counts, strict=True):
        for size in range(2, 7):
            for begin in range(len(codes) - size + 1):
                characters.append((hashed(codes[begin : begin + size], 48_271), count))
    pooled = ngrams.weight[:1].sum(dim=0) * 0
    for found in (words, characters):
        total, square = torch.zeros(ngrams.size), 0.0
        for (value, count), times in Counter(found).items():
            choices = (value % len(ngrams.hashes), value * 48_271 % PRIME % len(ngrams.hashes))
            bucket = next((bucket for bucket in choices if ngrams.hashes[bucket] == value), None)
            if bucket is not None:
                scale = float(ngrams.scales[bucket])
                total = total + times * count ** (-1 / 3) * scale * ngrams.weight[bucket]
                square += times * count ** (1 / 3) * scale**2
        pooled = pooled + total / max(square, 1.0) ** 0.5
    return (pooled if ngrams.projection is None else ngrams.projection(pooled)) + ngrams.bias


def make(seed, **options) -> NgramFeatures:
    torch.manual_seed(seed % 1000)
    ngrams = NgramFeatures(little_config(**{"ngram_buckets": 301, "num_labels": 3, **options})).eval()
    torch.nn.init.normal_(ngrams.weight)
    set_random_ngrams(ngrams, seed)
    return ngrams


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    room=st.integers(1, 12),
    max_ngram=st.integers(1, 3),
    num_labels=st.sampled_from([1, 3, MOST_LABELS + 1]),
    seed=seeds,
)
@few(60)
def test_logits_and_gradients_are_those_of_loops_over_texts(lengths, room, max_ngram, num_labels, seed):
    ngrams = make(seed, num_labels=num_labels, max_characters_per_token=room, max_ngram=max_ngram)
    ids = random_ids(lengths, seed)
    packed = pack_sequence(ids, enforce_sorted=False)
    logits = ngrams(packed.data, Packing.from_batch_sizes(*packed[1:]))
    expected = torch.stack([logits_of(ngrams, row.tolist()) for row in ids])
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    direction = torch.randn(logits.shape, generator=generator(seed))
    actual, wanted = (
        torch.autograd.grad((values * direction).sum(), list(ngrams.parameters())) for values in (logits, expected)
    )
    for one, other in zip(actual, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@given(lengths=st.lists(st.integers(1, 8), min_size=1, max_size=4), seed=seeds)
@few(20)
def test_a_text_s_logits_do_not_depend_on_the_batch(lengths, seed):
    model = RnnForSequenceClassification(little_config(ngram_buckets=301, num_labels=3, max_characters_per_token=5))
    set_random_ngrams(model.ngrams, seed)
    torch.nn.init.normal_(model.ngrams.weight)
    ids = random_ids(lengths, seed)
    mask = pad_sequence([torch.ones(length) for length in lengths], batch_first=True)
    logits = model.eval()(input_ids=pad_sequence(ids, batch_first=True), attention_mask=mask).logits
    for row, sequence in zip(logits, ids, strict=True):
        torch.testing.assert_close(row, model(input_ids=sequence.unsqueeze(0)).logits[0], rtol=1e-4, atol=1e-5)


def test_empty_texts_have_no_ngrams():
    ngrams = make(0)
    packing = Packing.from_mask(torch.tensor([[0, 0], [1, 1]]))
    logits = ngrams(torch.tensor([5, 6]), packing)
    assert torch.equal(logits[0], ngrams.bias)
    nothing = ngrams(torch.zeros(0, dtype=torch.long), Packing.from_mask(torch.zeros(2, 2)))
    assert torch.equal(nothing, ngrams.bias.expand(2, 3))


@given(lengths=st.lists(st.integers(1, 8), min_size=1, max_size=4), seed=seeds)
@few(20)
def test_values_are_those_by_which_weights_are_multiplied(lengths, seed):
    ngrams = make(seed)
    packed = pack_sequence(random_ids(lengths, seed), enforce_sorted=False)
    packing = Packing.from_batch_sizes(*packed[1:])
    texts, buckets, values = ngrams.values(packed.data, packing)
    logits = ngrams.bias.repeat(len(lengths), 1).index_add(0, texts, ngrams.weight[buckets] * values.unsqueeze(1))
    torch.testing.assert_close(logits, ngrams(packed.data, packing), rtol=1e-4, atol=1e-4)


def test_solved_ngrams_are_left_out_in_training():
    model = RnnForSequenceClassification(little_config(ngram_buckets=301, num_labels=2, classifier_dropout=0.0))
    set_random_ngrams(model.ngrams, 0)
    model.ngrams.is_solved = True
    batch = {"input_ids": torch.arange(1, 7).unsqueeze(0)}
    full, model.ngrams, ngrams = model.eval()(**batch).logits, None, model.ngrams
    of_states, model.ngrams = model(**batch).logits, ngrams
    assert not torch.equal(full, of_states)
    model.ngrams.train()
    assert torch.equal(model(**batch).logits, of_states)


def test_without_buckets_there_is_nothing():
    model = RnnForSequenceClassification(little_config(num_labels=2))
    assert model.ngrams is None
    assert not any("ngrams" in name for name in model.state_dict())


def test_vectors_alone_do_not_do():
    model = RnnForSequenceClassification(little_config(ngram_buckets=8, num_labels=2))
    with pytest.raises(ValueError, match="give input_ids beside inputs_embeds"):
        model(inputs_embeds=torch.zeros(1, 2, 5))


@pytest.mark.parametrize("num_labels", [3, MOST_LABELS + 1])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_sums_long_texts_in_single_precision(dtype, num_labels):
    model = RnnForSequenceClassification(little_config(ngram_buckets=301, num_labels=num_labels)).eval()
    set_random_ngrams(model.ngrams, 0)
    torch.nn.init.normal_(model.ngrams.weight)
    ids = torch.arange(70_000) % VOCAB_SIZE
    packing = Packing.from_mask(torch.ones(1, len(ids)))
    with torch.no_grad():
        expected = model.ngrams(ids, packing)
        found = model.to(dtype).ngrams(ids, packing)
        torch.testing.assert_close(found.float(), expected, atol=0.1, rtol=0.02)
        assert model(input_ids=ids[None, :9]).logits.dtype == dtype


def test_dropout_leaves_ngrams_out_in_training_alone():
    ngrams = make(1, ngram_dropout=0.5)
    ids, packing = torch.arange(20), Packing.from_mask(torch.ones(1, 20))
    assert torch.equal(ngrams(ids, packing), ngrams(ids, packing))
    ngrams.train()
    assert not torch.equal(ngrams(ids, packing), ngrams(ids, packing))


def test_a_resized_vocabulary_keeps_its_characters(tmp_path):
    model = RnnForSequenceClassification(little_config(ngram_buckets=301, num_labels=2))
    set_random_ngrams(model.ngrams, 0)
    torch.nn.init.normal_(model.ngrams.weight)
    ids = torch.tensor([[5, 6, 7]])
    before = model.eval()(input_ids=ids).logits
    model.resize_token_embeddings(VOCAB_SIZE + 2)
    torch.testing.assert_close(model(input_ids=ids).logits, before)
    assert torch.isfinite(model(input_ids=ids + VOCAB_SIZE - 6).logits).all()
    model.save_pretrained(tmp_path)
    loaded = RnnForSequenceClassification.from_pretrained(tmp_path)
    for name, values in model.state_dict().items():
        assert torch.equal(values, loaded.state_dict()[name]), name
    torch.testing.assert_close(loaded(input_ids=ids).logits, before)


def test_tables_that_change_in_place_are_seen():
    ngrams, ids, packing = make(2), torch.arange(20), Packing.from_mask(torch.ones(1, 20))
    with torch.inference_mode():
        ngrams(ids, packing)
    ngrams.load_state_dict(make(3).state_dict())
    torch.testing.assert_close(ngrams(ids, packing), make(3)(ids, packing))


@pytest.mark.parametrize("kind", ["word", "wordpiece", "bpe", "unigram"])
def test_spellings_are_in_lower_case_between_marks(kind):
    tokenizer = train_tokenizer(["Anna and anna", "Anna and anna"], kind, vocab_size=60)
    model = RnnForSequenceClassification(RnnConfig(vocab_size=len(tokenizer), ngram_buckets=8, hidden_size=4))
    set_vocabulary(model, tokenizer)
    ids = [index for index in tokenizer("Anna anna")["input_ids"] if index not in tokenizer.all_special_ids]
    rows = [[code for code in model.ngrams.spellings[entry].tolist() if code] for entry in ids]
    rows = [row for row in rows if row]  # "Ġ" alone has no character
    assert all(row[0] in (1, 2) and row[-1] == END for row in rows)
    texts = "".join(chr(code - NUM_CODES) for row in rows for code in row[1:-1])
    assert texts == "annaanna"
