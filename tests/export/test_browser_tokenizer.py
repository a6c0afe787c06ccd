"""Tokenizers for transformers.js give the same ids in the tokenizers library too."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import few, texts_of_all_scripts
from tokenizers import Tokenizer, normalizers, pre_tokenizers

from rnn_hf import train_tokenizer
from rnn_hf.export.browser_tokenizer import browser_tokenizer, portable_regex
from rnn_hf.text.words import set_word_splitter

WORDS = [
    *("Dr.", "Lee", "'s", "(", "old", ")", "U.S.", "team", "did", "n't", "win", "--", "sorry", "...", ".", ",", "!"),
    *("서울", "에서", "。", "東京", "で", "ΟΔΟΣ", "$", "%", "a-b", "-", "/", "“", "”"),
]


def make(kind, is_split, lowercase, splitter):
    corpus = [WORDS] * 6 if is_split else [" ".join(WORDS)] * 3
    options = {"vocab_size": 320, "min_frequency": 1, "lowercase": lowercase, "is_split_into_words": is_split}
    tokenizer = train_tokenizer(corpus, kind, **options)
    if splitter:
        set_word_splitter(tokenizer)
    return tokenizer.backend_tokenizer


TOKENIZERS = [
    make(kind, is_split, lowercase, splitter)
    for kind in ("word", "wordpiece", "bpe", "unigram")
    for is_split, lowercase, splitter in ((False, True, False), (True, False, False), (True, True, True))
]


@few(300)
@given(st.sampled_from(TOKENIZERS), texts_of_all_scripts(), st.lists(st.sampled_from(WORDS), max_size=5))
def test_ids_stay(tokenizer, text, words):
    text = f"{text}{''.join(words)} {text}"
    other = Tokenizer.from_str(json.dumps(browser_tokenizer(json.loads(tokenizer.to_str()))))
    assert other.encode(text).ids == tokenizer.encode(text).ids


@pytest.mark.parametrize("number", range(len(TOKENIZERS)))
def test_no_part_is_left_that_javascript_takes_otherwise(number):
    state = json.loads(TOKENIZERS[number].to_str())
    before = copy.deepcopy(state)
    written = json.dumps(browser_tokenizer(state))
    assert state == before
    for part in ("WhitespaceSplit", "BertPreTokenizer", "WordLevel", "(?#", "(?m", "(?>"):
        assert part not in written


def test_a_tokenizer_that_transformers_js_cannot_run_is_refused():
    state = json.loads(TOKENIZERS[0].to_str())
    scripts = json.loads(pre_tokenizers.UnicodeScripts().__getstate__())
    with pytest.raises(ValueError, match="knows no pre_tokenizer of the type UnicodeScripts"):
        browser_tokenizer({**state, "pre_tokenizer": scripts})
    nmt = json.loads(normalizers.Sequence([normalizers.Nmt()]).__getstate__())
    with pytest.raises(ValueError, match="knows no normalizer of the type Nmt"):
        browser_tokenizer({**state, "normalizer": nmt})


def test_patterns_of_others_stay():
    assert portable_regex(r"\p{L}+|(?i:'s)") == r"\p{L}+|(?i:'s)"
