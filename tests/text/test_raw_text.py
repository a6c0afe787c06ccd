"""Raw text is split as the words of the training data were, and words stay whole."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import few
from transformers import AutoTokenizer

from rnn_hf import train_tokenizer
from rnn_hf.text.encoding import encode_words
from rnn_hf.text.raw_text import learn_splitting, split_raw_text, words_kept_whole

KINDS = ("word", "wordpiece", "bpe", "unigram")
# As the Penn Treebank splits words.
PENN = [
    sentence.split()
    for sentence in (
        "Mr. Lee of the U.S. did n't leave Anna 's ( old ) house in Oslo .",
        "`` Well , '' he said , `` wait ... '' 1,000 or 3.5 $ more ; why ?",
        'The mid-air AT&T #ESB @anna is " here " ! They \'re ( not ) .',
    )
]
# As Universal Dependencies splits them.
EWT = [["a", "mid", "-", "air", "and", "/", "or", ",", "well", "-", "known", "-", "-", "-", "/", "/", "/", "/", "."]]


def split(tokenizer, text):
    """Split one text."""
    return next(split_raw_text(tokenizer, [text]))


def trained(kind="wordpiece", sentences=PENN, **options):
    options = {"vocab_size": 500, "min_frequency": 1, "is_split_into_words": True, **options}
    return train_tokenizer(sentences * 3, kind, **options)


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request):
    return trained(request.param)


CASES = {
    "Anna lives in Oslo.": "Anna lives in Oslo .",
    "(Anna's house)": "( Anna 's house )",
    "the U.S., the U.K., and Mr. Lee...": "the U.S. , the U.K. , and Mr. Lee ...",
    "They didn't; we'RE here!?": "They did n't ; we 'RE here ! ?",
    "mid-air AT&T #ESB @x 1,000, 2,5 $3 (a)(b)": "mid-air AT&T #ESB @x 1,000 , 2,5 $ 3 ( a ) ( b )",
    "New\u00a0York, café. 東京.": "New York , café . 東京 .",
    "": "",
    " . ": ".",
    "Anna lives in Oslo .": "Anna lives in Oslo .",
}


class TestSplitting:
    @pytest.mark.parametrize("text", CASES)
    def test_punctuation_stands_apart_as_in_training(self, tokenizer, text):
        assert split(tokenizer, text) == CASES[text].split()

    @pytest.mark.parametrize("text", CASES)
    def test_raw_text_has_the_tokens_of_its_words(self, tokenizer, text):
        words = split(tokenizer, text)
        encoding = tokenizer(text, return_offsets_mapping=True)
        expected = tokenizer(words, is_split_into_words=True)["input_ids"] if words else [tokenizer.eos_token_id]
        assert encoding["input_ids"] == expected == encode_words(tokenizer, [words])[0][0]
        places = [(start, end) for start, end in encoding["offset_mapping"] if end > start]
        assert all(text[start:end].strip() in " ".join(words) for start, end in places)

    def test_words_of_the_training_data_stay_whole(self, tokenizer):
        for sentence in PENN:
            assert split(tokenizer, " ".join(sentence)) == sentence
            ids = tokenizer(sentence, is_split_into_words=True)["input_ids"]
            with words_kept_whole(tokenizer):
                assert tokenizer(sentence, is_split_into_words=True)["input_ids"] == ids

    def test_words_that_are_given_stay_whole(self, tokenizer):
        """Even those that raw text would be split within."""
        words = ["Corp.", "(x)", "Oslo."]
        ids, firsts = encode_words(tokenizer, [words])
        with words_kept_whole(tokenizer):
            assert tokenizer(words, is_split_into_words=True)["input_ids"] == ids[0]
        plain = trained(tokenizer_kind(tokenizer), [[word] for sentence in PENN for word in sentence if word.isalnum()])
        assert len(firsts[0]) == 3
        assert split(plain, "Oslo.") == ["Oslo."]

    def test_offsets(self, tokenizer):
        text = "Anna leave in (Oslo)."
        encoding = tokenizer(text, return_offsets_mapping=True)
        places: dict[int, list[tuple[int, int]]] = {}
        for word, place in zip(encoding.word_ids(), encoding["offset_mapping"], strict=True):
            if word is not None and place[1] > place[0]:
                places.setdefault(word, []).append(place)
        words = [text[min(one)[0] : max(one)[1]] for one in places.values()]
        assert words == ["Anna", "leave", "in", "(", "Oslo", ")", "."]

    def test_marks_within_words(self):
        tokenizer = trained(sentences=EWT)
        assert split(tokenizer, "well-known, and/or") == ["well", "-", "known", ",", "and", "/", "or"]

    def test_text_that_was_split_at_white_space_only(self):
        tokenizer = trained(sentences=[["I", "live", "in", "Oslo."], ["(It's", "cold!)", "Well,", "-", "so", "what?"]])
        assert split(tokenizer, "(In Oslo.) Well - yes?") == ["(In", "Oslo.)", "Well", "-", "yes?"]

    def test_lower_case(self):
        tokenizer = trained(lowercase=True)
        assert split(tokenizer, "mr. u.s., Oslo.") == ["mr.", "u.s.", ",", "Oslo", "."]
        assert tokenizer.tokenize("Mr. Lee,")[:2] == ["mr.", "lee"]

    def test_survives_saving(self, tokenizer, tmp_path):
        tokenizer.save_pretrained(tmp_path)
        loaded = AutoTokenizer.from_pretrained(tmp_path)
        for text in CASES:
            assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
            assert split(loaded, text) == split(tokenizer, text)

    def test_long_rows_of_marks_take_no_time(self, tokenizer):
        assert "".join(split(tokenizer, "." * 20_000 + "x")) == "." * 20_000 + "x"

    @given(st.lists(st.text("ab.,'(-\"1#!é", min_size=1, max_size=5), min_size=1, max_size=30), st.integers())
    @few(150)
    def test_any_words_stay_whole_and_nothing_is_lost(self, words, seed):
        counts = {word: random.Random(f"{seed}{word}").randint(1, 9) for word in words}
        pattern = learn_splitting(counts)
        if pattern is None:
            return
        tokenizer = train_tokenizer(
            [[w] * n for w, n in counts.items()], "word", min_frequency=1, is_split_into_words=True
        )
        for word in words:
            assert split(tokenizer, word) == [word]
        text = "".join(words)
        assert "".join(split(tokenizer, text)) == text


def tokenizer_kind(tokenizer) -> str:
    kind = type(tokenizer.backend_tokenizer.model).__name__
    return {"WordLevel": "word", "WordPiece": "wordpiece", "BPE": "bpe", "Unigram": "unigram"}[kind]
