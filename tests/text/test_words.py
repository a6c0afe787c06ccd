"""Words of raw text, alone and inside a tokenizer."""

# ruff: noqa: RUF001

from itertools import pairwise
from unicodedata import normalize

import pytest
from hypothesis import given
from strategies import few, texts_of_all_scripts

from rnn_hf import train_tokenizer
from rnn_hf.text.words import are_split, set_word_splitter, split_words

KINDS = ("word", "wordpiece", "bpe", "unigram")


def words_of(text):
    return [text[start:end] for start, end in split_words(text)]


class TestSplitWords:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("Anna lives in Oslo.", ["Anna", "lives", "in", "Oslo", "."]),
            ("(Oslo's) U.S. 2.5 %", ["(", "Oslo", "'", "s", ")", "U", ".", "S", ".", "2", ".", "5", "%"]),
            ("l’été — naïve", ["l", "’", "été", "—", "naïve"]),
            ("e\u0301te\u0301!", ["e\u0301te\u0301", "!"]),
            ("東京でSony製。", ["東", "京", "で", "Sony", "製", "。"]),
            ("กรุงเทพ", ["ก", "รุ", "ง", "เ", "ท", "พ"]),
            ("서울에서 살아요", ["서울에서", "살아요"]),
            ("שלום, עולם", ["שלום", ",", "עולם"]),
            ("مرحبًا بك", ["مرحبًا", "بك"]),
            ("हिन्दी में", ["हिन्दी", "में"]),
            ("𝔸𝔹c 😀😀", ["𝔸𝔹c", "😀", "😀"]),
            ("a\u00a0b\u2028c\u200bd\ufeff", ["a", "b", "c", "d"]),
            (" \r\n\t", []),
            ("", []),
        ],
    )
    def test_words_are_runs_of_letters_and_punctuation_stands_alone(self, text, words):
        assert words_of(text) == words

    @given(texts_of_all_scripts())
    @few(60)
    def test_words_cover_all_but_white_space_in_order(self, text):
        words = split_words(text)
        assert all(start < end for start, end in words)
        assert all(before[1] <= after[0] for before, after in pairwise(words))
        covered = {index for word in words for index in range(*word)}
        left = {character for index, character in enumerate(text) if index not in covered}
        assert all(one.isspace() or one in "\u200b\ufeff" for one in left)

    @given(texts_of_all_scripts())
    @few(60)
    def test_a_word_is_split_no_further(self, text):
        for word in words_of(text):
            assert words_of(word) == [word]

    def test_a_lone_surrogate_is_no_character(self):
        with pytest.raises(ValueError, match=r"'\\ud83d'"):
            split_words("a \ud83d")


class TestTokenizers:
    TEXTS = ("Anna (Oslo's) don't — 東京で 2.5%", "e\u0301cole \u00abx\u00bb 😀 \u200bשלום", "ﬁn. <\u0338 ... --")

    @pytest.mark.parametrize("kind", KINDS)
    def test_raw_text_has_the_tokens_of_its_words(self, kind):
        sentences = [words_of(text) for text in self.TEXTS]
        tokenizer = train_tokenizer(sentences * 3, kind=kind, is_split_into_words=True, vocab_size=300, min_frequency=1)
        before = tokenizer(sentences, is_split_into_words=True)["input_ids"]
        set_word_splitter(tokenizer)
        assert tokenizer(sentences, is_split_into_words=True)["input_ids"] == before
        assert tokenizer(list(self.TEXTS))["input_ids"] == before

    @pytest.mark.parametrize("kind", KINDS)
    def test_tokens_know_their_places_in_raw_text(self, kind):
        sentences = [words_of(text) for text in self.TEXTS]
        tokenizer = train_tokenizer(sentences * 3, kind=kind, is_split_into_words=True, vocab_size=300, min_frequency=1)
        set_word_splitter(tokenizer)
        for text in self.TEXTS:
            text = normalize("NFC", text)  # a mark that is composed at a word's end has no place
            encoding = tokenizer(text, return_offsets_mapping=True)
            places = {}
            for word, (start, end) in zip(encoding.word_ids(0), encoding["offset_mapping"], strict=True):
                if word is not None:
                    places[word] = (min(start, places.get(word, (start,))[0]), end)
            assert list(places.values()) == split_words(text)

    @pytest.mark.parametrize("kind", KINDS)
    def test_it_is_saved_with_the_tokenizer(self, kind, tmp_path):
        tokenizer = train_tokenizer([["(", "Anna", ")"]] * 3, kind=kind, is_split_into_words=True, vocab_size=300)
        set_word_splitter(tokenizer)
        tokenizer.save_pretrained(tmp_path)
        loaded = type(tokenizer).from_pretrained(tmp_path)
        assert loaded("(Anna)")["input_ids"] == tokenizer(["(", "Anna", ")"], is_split_into_words=True)["input_ids"]

    def test_words_with_punctuation_within_are_not_split_so(self):
        assert are_split([["U", ".", "S", "."], ["x"]])
        assert not are_split([["x"], ["U.S."]])
        assert not are_split([["two words"]])
        assert not are_split([["東京"]])
        assert not are_split([[]])
