"""Lexical features of words: the same as loops over words and characters give, in scores and gradients."""

import copy
import subprocess
import sys
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import VOCAB_SIZE, few, generator, little_config, random_ids, seeds
from torch.nn.utils.rnn import pack_sequence, pad_sequence

from rnn_hf import RnnConfig, RnnForTokenClassification, train_tokenizer
from rnn_hf.models import lexical as lexical_features
from rnn_hf.models.lexical import (
    LARGEST_SIZE,
    NUM_CELLS,
    NUM_CLASSES,
    PRIME,
    LexicalFeatures,
    hash_features,
    join_characters,
)
from rnn_hf.models.packing import Packing
from rnn_hf.models.pooled_words import Words
from rnn_hf.text.characters import character_code, set_vocabulary
from rnn_hf.text.encoding import encode_words

ENTRIES = ["", "a", "B", "un", "Der", "x-ray", "1987", "日本", "カタカナ", "unbelievable", *"abcdefghijklmnopqrst"]
IOB2 = {0: "O", 1: "B-X", 2: "I-X"}


def features_of(word: list[int]) -> list[int]:
    """Hash the features of a word, one after the other."""

    def factor(feature, position):
        return pow(48271, 1009 * (feature + 1) + position, PRIME)

    characters, classes = [code // NUM_CLASSES for code in word], [code % NUM_CLASSES for code in word]
    hashes = [sum(code * factor(0, step) for step, code in enumerate(characters))]
    for size in range(1, 6):
        prefix = sum(code * factor(size, step) for step, code in enumerate(characters[:size]))
        hashes.append(prefix if size <= len(word) else None)
    for size in range(1, 6):
        suffix = sum(code * factor(10 + size, step) for step, code in enumerate(characters[::-1][:size]))
        hashes.append(suffix if size <= len(word) else None)
    around = [0, *classes, 0]
    hashes.append(sum(factor(20, 16 * a + b) for a, b in pairwise(around) if a != b))
    hashes.append(sum(code * factor(21, step) for step, code in enumerate(classes[:8])) + min(len(word), 8))
    added = enumerate(hashes)
    return [-1 if value is None else (value + factor(30, feature)) % PRIME for feature, value in added]


def scores_of(lexical: LexicalFeatures, ids: list[int], is_start: list[bool]):
    """Score the labels of each token of a sequence."""
    words: list[list[int]] = []
    of_tokens = []
    for position, (entry, starts) in enumerate(zip(ids, is_start, strict=True)):
        if starts or position == 0:
            words.append([])
        words[-1] += [code for code in lexical.character_codes[entry].tolist() if code]
        of_tokens.append(len(words) - 1)
    room, size = lexical.character_codes.shape[1], lexical.size
    given = []
    for word in words:
        if len(word) > room:
            word = word[: room - room // 2] + word[len(word) - room // 2 :]
        rows = [int(lexical.feature_rows[value % NUM_CELLS]) for value in features_of(word) if value >= 0]
        given.append(lexical.weight[[row for row in rows if row > 0]].sum(dim=0))
    scores = []
    for word in of_tokens:
        near = [other for other in range(word - 2, word + 3) if 0 <= other < len(words)]
        part = sum(given[other][(other - word + 2) * size : (other - word + 3) * size] for other in near)
        scores.append(part if lexical.projection is None else lexical.projection(part))
    return torch.stack(scores)


def all_words(number: int) -> Words:
    """Return the words of a sequence of so many tokens, each of which is one."""
    return Words.find(torch.ones(number, dtype=torch.bool), Packing.from_mask(torch.ones(1, number)))


def make(seed, entries=ENTRIES, num_labels=3, **options) -> LexicalFeatures:
    torch.manual_seed(seed % 1000)
    lexical = LexicalFeatures(little_config(**{"num_lexical_features": 97, "num_labels": num_labels, **options})).eval()
    with torch.no_grad():
        lexical.weight.normal_()
        for row, entry in zip(lexical.character_codes, entries, strict=True):
            codes = [character_code(character) for character in entry][: len(row)]
            row[: len(codes)] = torch.tensor(codes, dtype=torch.int32)
    lexical.set_characters(lexical.character_codes[: len(entries) // 2])
    return lexical


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    room=st.integers(1, 14),
    share=st.sampled_from([0.0, 0.5, 1.0]),
    num_labels=st.sampled_from([1, 3, LARGEST_SIZE + 1]),
    seed=seeds,
)
@few(60)
def test_scores_and_gradients_are_those_of_loops_over_words(lengths, room, share, num_labels, seed):
    lexical = make(seed, num_labels=num_labels, max_characters_per_token=room)
    ids, is_start = random_ids(lengths, seed), torch.rand(VOCAB_SIZE, generator=generator(seed)) < share
    packed = pack_sequence(ids, enforce_sorted=False)
    packing = Packing.from_batch_sizes(*packed[1:])
    words = Words.find(is_start[packed.data], packing)
    scores = packing.pad(lexical(packed.data, words)[words.of_tokens])
    expected = pad_sequence([scores_of(lexical, row.tolist(), is_start[row].tolist()) for row in ids], batch_first=True)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-4)
    direction = torch.randn(scores.shape, generator=generator(seed))
    actual, wanted = (
        torch.autograd.grad((values * direction).sum(), list(lexical.parameters())) for values in (scores, expected)
    )
    for one, other in zip(actual, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@given(st.text(min_size=0, max_size=20))
@few(100)
def test_features_are_those_of_loops_over_characters(word):
    codes = [character_code(character) for character in word]
    row = torch.tensor([codes + [0] * (21 - len(codes))])
    assert hash_features(row, torch.tensor([len(codes)]))[0].tolist() == features_of(codes)


def test_features_are_the_same_in_every_process():
    code = (
        "import torch; from rnn_hf.models.lexical import hash_features; from rnn_hf.text.characters import "
        "character_code; print(hash_features(torch.tensor([[character_code(c) for c in 'Straße']]), torch.tensor([6])))"
    )
    first, second = (subprocess.run([sys.executable, "-c", code], capture_output=True, text=True) for _ in range(2))
    assert first.stdout == second.stdout
    assert "925928027" in first.stdout, first.stdout + first.stderr


def test_dropout_leaves_features_out_in_training_alone():
    lexical = make(0, lexical_dropout=0.5)
    ids, words = torch.arange(10), all_words(10)
    assert torch.equal(lexical(ids, words), lexical(ids, words))
    lexical.train()
    assert not torch.equal(lexical(ids, words), lexical(ids, words))


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_features_of_entries_are_found_anew_where_tables_change(share, monkeypatch):
    monkeypatch.setattr(lexical_features, "_LEAST_WORDS", 1)
    lexical, ids = make(0), torch.arange(VOCAB_SIZE)
    packing = Packing.from_mask(torch.ones(1, VOCAB_SIZE))
    words = Words.find(torch.rand(VOCAB_SIZE, generator=generator(1)) < share, packing)

    def assert_are_those_of_the_tables():
        expected = lexical.find_features(*join_characters(lexical.character_codes, ids, words))
        assert torch.equal(lexical.word_features(ids, words), expected)

    assert_are_those_of_the_tables()
    assert lexical._features_of_entries(1) is lexical._features_of_entries(1)
    monkeypatch.setattr(lexical_features, "_LEAST_WORDS", 1000)  # few words take what was found
    assert lexical._features_of_entries(1) is not None
    assert_are_those_of_the_tables()
    lexical.character_codes[4, 0] += 16
    assert lexical._features_of_entries(1) is None
    assert_are_those_of_the_tables()
    monkeypatch.setattr(lexical_features, "_LEAST_WORDS", 1)
    lexical.character_codes[3, 0] += 16
    assert_are_those_of_the_tables()
    lexical.feature_rows.zero_()
    assert_are_those_of_the_tables()
    lexical.load_state_dict(make(5).state_dict())
    assert_are_those_of_the_tables()
    lexical.character_codes = lexical.character_codes.flip(0)
    assert_are_those_of_the_tables()
    lexical.feature_rows.data = lexical.feature_rows.data.flip(0)
    assert_are_those_of_the_tables()
    copied = copy.deepcopy(lexical)
    copied.character_codes.fill_(33)
    assert_are_those_of_the_tables()
    lexical = copied
    assert_are_those_of_the_tables()


def test_without_buckets_there_is_nothing():
    model = RnnForTokenClassification(little_config(num_labels=2))
    assert model.lexical is None
    assert not any("lexical" in name for name in model.state_dict())


@pytest.mark.parametrize("kind", ["word", "wordpiece", "bpe", "unigram"])
def test_a_word_has_its_features_whichever_tokens_it_has(kind):
    sentences = [["Anna", "unlikely", "likes", "a", "lake"], ["Anna", "likes", "kite", "likely"]] * 3
    tokenizer = train_tokenizer(sentences, kind, vocab_size=60, min_frequency=3, is_split_into_words=True)
    config = RnnConfig(
        vocab_size=len(tokenizer), num_lexical_features=64, id2label=IOB2, embedding_size=4, hidden_size=4
    )
    model = RnnForTokenClassification(config).eval()
    set_vocabulary(model, tokenizer)
    with torch.no_grad():
        model.lexical.weight.normal_()
    words = ["Anna", "likes", "unlikely", "lake"]
    (ids,), (firsts,) = encode_words(tokenizer, [words])
    ids, packing = torch.tensor(ids), Packing.from_mask(torch.ones(1, len(ids)))
    batch = Words.find(model.word_starts[ids], packing)
    scores = model.lexical(ids, batch)[batch.of_tokens[torch.tensor(firsts)]]
    whole = make(0, words + [""] * (VOCAB_SIZE - len(words)), num_lexical_features=64)
    with torch.no_grad():
        whole.weight.copy_(model.lexical.weight)
        whole.feature_rows.copy_(model.lexical.feature_rows)
    expected = whole(torch.arange(4), all_words(4))
    torch.testing.assert_close(scores, expected)


def test_a_resized_vocabulary_keeps_its_characters(tmp_path):
    model = RnnForTokenClassification(little_config(num_lexical_features=8, id2label=IOB2, use_crf=True))
    model.lexical.character_codes.fill_(33)
    model.resize_token_embeddings(VOCAB_SIZE + 2)
    assert model.lexical.character_codes.shape[0] == VOCAB_SIZE + 2
    assert model.lexical.character_codes[-2:].sum() == 0
    model.save_pretrained(tmp_path)
    loaded = RnnForTokenClassification.from_pretrained(tmp_path)
    for name, values in model.state_dict().items():
        assert torch.equal(values, loaded.state_dict()[name]), name
    model.resize_token_embeddings(VOCAB_SIZE)
    assert model.lexical.character_codes.shape[0] == VOCAB_SIZE


def test_vectors_alone_do_not_do():
    model = RnnForTokenClassification(little_config(num_lexical_features=8, num_labels=2))
    with pytest.raises(ValueError, match="give input_ids beside inputs_embeds"):
        model(inputs_embeds=torch.zeros(1, 2, 5))


@given(lengths=st.lists(st.integers(1, 8), min_size=1, max_size=4), use_crf=st.booleans(), seed=seeds)
@few(20)
def test_a_tagger_s_results_do_not_depend_on_the_batch(lengths, use_crf, seed):
    torch.manual_seed(seed % 100)
    config = little_config(num_lexical_features=50, id2label=IOB2, use_crf=use_crf, max_characters_per_token=5)
    model, ids = RnnForTokenClassification(config).eval(), random_ids(lengths, seed)
    model.word_starts.copy_(torch.rand(VOCAB_SIZE, generator=generator(seed)) < 0.6)
    model.lexical.character_codes.random_(0, 40, generator=generator(seed))
    torch.nn.init.normal_(model.lexical.weight)
    mask = pad_sequence([torch.ones(length) for length in lengths], batch_first=True)
    batch = {"input_ids": pad_sequence(ids, batch_first=True), "attention_mask": mask}
    logits, marginals = model(**batch).logits, model.marginals(**batch)
    assert torch.isfinite(model.train()(**batch, labels=mask.long() * 2).loss)
    model.eval()
    for row, probabilities, sequence in zip(logits, marginals, ids, strict=True):
        alone = {"input_ids": sequence.unsqueeze(0)}
        torch.testing.assert_close(row[: len(sequence)], model(**alone).logits[0], rtol=1e-4, atol=1e-4)
        probabilities = probabilities[: len(sequence)]
        torch.testing.assert_close(probabilities, model.marginals(**alone)[0], rtol=1e-4, atol=1e-4)
