"""Further texts: masked, with swapped words, n-grams; the same for the same seed."""

import random
from collections import Counter

import pytest

from rnn_hf import train_tokenizer
from rnn_hf.data.augmentation import MASK, Augmentation, fill_masks

SOURCE = random.Random(0)
WORDS = [f"w{number}" for number in range(12)]
SENTENCES = [SOURCE.choices(WORDS, k=20) for _ in range(300)]
TEXTS = [" ".join(words) for words in SENTENCES]


def test_texts_and_sentences_are_varied_alike():
    texts = list(Augmentation(lambda: TEXTS, copies=3, seed=1))
    assert [text.split() for text in texts] == list(Augmentation(lambda: SENTENCES, copies=3, seed=1))
    assert len(texts) == 3 * len(TEXTS)


def test_the_seed_says_which():
    one = Augmentation(lambda: TEXTS, copies=1, seed=1)
    assert list(one) == list(one) == list(Augmentation(lambda: TEXTS, copies=1, seed=1))
    assert list(one) != list(Augmentation(lambda: TEXTS, copies=1, seed=2))


def test_how_often_words_change():
    of_full_length = is_masked = is_swapped = num_words = 0
    made = list(Augmentation(lambda: SENTENCES, copies=4, seed=0))
    for position, new in enumerate(made):
        assert len(new) in (*range(1, 6), 20)
        if len(new) < 20:
            continue
        of_full_length += 1
        for word, found in zip(SENTENCES[position // 4], new, strict=True):
            num_words += 1
            is_masked += found == MASK
            is_swapped += found not in (MASK, word)
    assert 1 - of_full_length / len(made) == pytest.approx(0.25, abs=0.04)
    assert is_masked / num_words == pytest.approx(0.1, abs=0.01)
    # Of two words at random, one in twelve is the same.
    assert is_swapped / num_words == pytest.approx(0.1 * 11 / 12, abs=0.02)


def test_a_word_is_swapped_for_one_that_stands_between_the_same_words():
    texts = ["a good film", "a bad film", "the plot"] * 50
    counts = Counter(text for text in Augmentation(lambda: texts, copies=5, seed=0) if MASK not in text)
    whole = {text for text in counts if len(text.split()) == 3}
    assert whole == {"a good film", "a bad film"}
    assert Augmentation(lambda: texts, 1, 0).frames == {("a", "film"): ["good"] * 50 + ["bad"] * 50}


def test_texts_that_come_out_as_they_were_are_left_out():
    made = list(Augmentation(lambda: ["one"], copies=50, seed=0))
    assert made == [MASK]
    assert list(Augmentation(lambda: [""], copies=5, seed=0)) == []


def test_masks_are_those_of_the_tokenizer():
    tokenizer = train_tokenizer(TEXTS, kind="word")
    assert fill_masks([["w1", MASK], []], tokenizer) == [["w1", "<unk>"], []]
    tokenizer.add_special_tokens({"mask_token": "<mask>"})
    assert tokenizer(fill_masks([f"{MASK} w1"], tokenizer)).input_ids[0][0] == tokenizer.mask_token_id
