"""Encoding with any tokenizer."""

import unicodedata
from typing import get_args
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import assert_one_first_token_each
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast

from rnn_hf.text import encoding
from rnn_hf.text.encoding import encode_texts, encode_words, max_length_of
from rnn_hf.text.tokenization import TokenizerKind

# Words that a tokenizer may split, strip or drop.
ODD_WORDS = {
    "empty": "",
    "space": " ",
    "ideographic space": "\u3000",
    "no-break space": "\u00a0",
    "line break": "\n",
    "two words": "New York",
    "space around": " York ",
    "zero width space": "\u200b",
    "byte order mark": "\ufeff",
    "null character": "\x00",
    "bell": "\x07",
    "combining accent": "\u0301",
    "emoji": "🙂",
    "special token": "</s>",
    "metaspace": "▁",
    "unseen": "قطار",
}

every_kind = pytest.mark.parametrize("kind", get_args(TokenizerKind))


def word_level(vocab: dict[str, int], **special_tokens: str) -> PreTrainedTokenizerFast:
    """An existing tokenizer that adds nothing to a text."""
    tokenizer = Tokenizer(models.WordLevel(vocab, **special_tokens))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special_tokens)


class TestEncodeTexts:
    @every_kind
    def test_every_text_has_a_token(self, trained, kind):
        tokenizer = trained(kind)
        encoded = encode_texts(tokenizer, ["", "東京", " ", *ODD_WORDS.values()])
        assert all(ids and ids[-1] == tokenizer.eos_token_id for ids in encoded)
        assert encoded[0] == [tokenizer.eos_token_id]
        assert encoded[1] == tokenizer("東京")["input_ids"]

    def test_long_texts_are_whole_unless_told(self, trained, corpora):
        tokenizer, texts = trained("wordpiece", "english", is_split_into_words=False), corpora["english", False][:5]
        encoded = encode_texts(tokenizer, texts)
        assert encoded == [tokenizer(text)["input_ids"] for text in texts]
        assert min(map(len, encoded)) > 100

    @pytest.mark.parametrize("max_length", [0, -1])
    def test_length_out_of_range(self, trained, max_length):
        with pytest.raises(ValueError, match=rf"max_length must be at least 1, got {max_length}\."):
            encode_texts(trained("word"), ["a"], max_length)

    def test_single_text_in_place_of_a_list(self, trained):
        with pytest.raises(TypeError, match=r"takes a list of texts, got a single one: 'to be'\."):
            encode_texts(trained("word"), "to be")

    def test_no_texts(self, trained):
        assert encode_texts(trained("word"), []) == []

    @every_kind
    @pytest.mark.parametrize("max_length", [1, 2, 5])
    def test_long_texts_are_cut_and_keep_their_end_token(self, trained, reviews, kind, max_length):
        tokenizer = trained(kind, "korean", is_split_into_words=False)
        whole, cut = encode_texts(tokenizer, reviews), encode_texts(tokenizer, [*reviews, ""], max_length)
        assert cut[:-1] == [[*ids[: max_length - 1], tokenizer.eos_token_id] for ids in whole]
        assert cut[-1] == [tokenizer.eos_token_id]

    def test_cutting_once_does_not_cut_later_encodings(self, trained, reviews, tmp_path):
        tokenizer = trained("bpe", "korean", is_split_into_words=False)
        whole, words = encode_texts(tokenizer, reviews), encode_words(tokenizer, [reviews])
        encode_texts(tokenizer, reviews, max_length=2)
        assert encode_words(tokenizer, [reviews]) == words
        encode_texts(tokenizer, reviews, max_length=2)
        assert encode_texts(tokenizer, reviews) == whole
        encode_texts(tokenizer, reviews, max_length=2)
        tokenizer.save_pretrained(tmp_path)
        assert encode_texts(AutoTokenizer.from_pretrained(tmp_path), reviews) == whole

    def test_padding_once_does_not_pad_later_encodings(self, trained, reviews):
        tokenizer = trained("wordpiece", "korean", is_split_into_words=False)
        whole, words = encode_texts(tokenizer, reviews), encode_words(tokenizer, [["이"], reviews])
        tokenizer(reviews, padding="max_length", max_length=200)
        assert encode_texts(tokenizer, reviews) == whole
        tokenizer(reviews, padding="max_length", max_length=200)
        assert encode_words(tokenizer, [["이"], reviews]) == words

    def test_tokenizer_without_end_token_gives_the_unknown_one(self):
        tokenizer = word_level({"<unk>": 0, "to": 1}, unk_token="<unk>")
        assert tokenizer("")["input_ids"] == []
        assert encode_texts(tokenizer, ["", "to be", " "]) == [[0], [1, 0], [0]]
        assert encode_texts(tokenizer, ["", "to be to"], max_length=2) == [[0], [1, 0]]

    def test_slow_tokenizer(self):
        assert encode_texts(ByT5Tokenizer(), ["", "ab"]) == [[1], [100, 101, 1]]

    def test_tokenizer_with_nothing_to_stand_for_an_empty_text(self):
        tokenizer = word_level({"to": 0, "be": 1})
        assert encode_texts(tokenizer, ["be to"]) == [[1, 0]]
        with pytest.raises(ValueError, match="neither an unknown nor an end token"):
            encode_texts(tokenizer, ["be to", ""])


class TestEncodeWords:
    @every_kind
    def test_first_tokens_are_the_beginnings_of_the_words(self, trained, corpora, kind):
        tokenizer, sentences = trained(kind), corpora["japanese", True][:50]
        for ids, firsts, words in zip(*encode_words(tokenizer, sentences), sentences, strict=True):
            assert len(firsts) == len(words)
            ends = [*firsts[1:], len(ids) - 1]
            pieces = [tokenizer.decode(ids[first:end]).strip() for first, end in zip(firsts, ends, strict=True)]
            composed = [unicodedata.normalize("NFC", word) for word in words]
            if kind == "word":
                composed = [word if word in tokenizer.get_vocab() else "<unk>" for word in composed]
            assert pieces == composed

    @every_kind
    @pytest.mark.parametrize("word", ODD_WORDS.values(), ids=list(ODD_WORDS))
    @pytest.mark.parametrize("is_split_into_words", [True, False], ids=["words", "texts"])
    def test_every_word_has_one_first_token(self, trained, kind, word, is_split_into_words):
        tokenizer = trained(kind, "japanese", is_split_into_words)
        sentences = [["東京", word, "に"], [word], [word, word, "東京"], []]
        assert_one_first_token_each(tokenizer, sentences)

    @every_kind
    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(sentences=st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=6)))
    def test_every_word_of_anything_has_one_first_token(self, trained, kind, sentences):
        assert_one_first_token_each(trained(kind), sentences)

    @every_kind
    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        sentences=st.lists(
            st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4) | st.sampled_from(["東京", "</s>"]))
        ),
        at_once=st.integers(1, 5),
    )
    def test_words_that_are_encoded_once_make_the_same_sentences(self, trained, kind, sentences, at_once):
        tokenizer = trained(kind)
        sentences = [*sentences, *sentences[::-1], []]
        alone = [encode_words(tokenizer, [sentence]) for sentence in sentences]
        with mock.patch.multiple(encoding, _LEAST_SENTENCES=1, _WORDS_AT_ONCE=at_once):
            together = encode_words(tokenizer, sentences)
        assert together == ([ids for ((ids,), _) in alone], [firsts for (_, (firsts,)) in alone])

    @pytest.mark.parametrize(
        "pre_tokenizer",
        [
            pre_tokenizers.Metaspace(prepend_scheme="first"),
            pre_tokenizers.Metaspace(prepend_scheme="always"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
            pre_tokenizers.BertPreTokenizer(),
        ],
        ids=lambda one: type(one).__name__,
    )
    def test_a_word_may_stand_anywhere_in_tokenizers_of_others(self, pre_tokenizer):
        backend = Tokenizer(models.BPE(unk_token="<unk>"))
        backend.pre_tokenizer = pre_tokenizer
        trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>", "[CLS]", "[SEP]"], show_progress=False)
        backend.train_from_iterator(["to be or not to be", "that is the question"] * 3, trainer)
        backend.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
        sentences = [["to", "be", "or"], ["be", "to"], ["that"], [], ["question", "be", "un-be", ""]]
        alone = [encode_words(tokenizer, [sentence]) for sentence in sentences]
        with mock.patch.multiple(encoding, _LEAST_SENTENCES=1, _WORDS_AT_ONCE=2):
            together = encode_words(tokenizer, sentences)
        assert together == ([ids for ((ids,), _) in alone], [firsts for (_, (firsts,)) in alone])

    def test_words_that_depend_on_their_place_are_encoded_in_their_sentences(self, trained):
        tokenizer, calls = trained("word"), []
        encode = encoding._encode_words

        def encode_by_place(tokenizer, sentences, add_special_tokens=True):
            calls.append(sentences)
            all_ids, all_firsts = encode(tokenizer, sentences, add_special_tokens)
            return [[ids[0] + 100, *ids[1:]] for ids in all_ids], all_firsts

        with mock.patch.multiple(encoding, _LEAST_SENTENCES=1, _encode_words=encode_by_place):
            ids, _ = encode_words(tokenizer, [["東京", "に"], ["に"]])
        assert calls[-1] == [["東京", "に"], ["に"]]
        assert all(one[0] >= 100 for one in ids)

    def test_word_without_a_token_reads_as_the_unknown_one(self, trained):
        tokenizer = trained("wordpiece")
        encoded, firsts = encode_words(tokenizer, [["東京", "", "に"]])
        assert encoded[0][firsts[0][1]] == tokenizer.unk_token_id
        assert encoded == encode_words(tokenizer, [["東京", "<unk>", "に"]])[0]

    def test_neighbours_of_an_odd_word_are_encoded_as_ever(self, trained):
        tokenizer = trained("wordpiece")
        plain, _ = encode_words(tokenizer, [["東京", "に"]])
        (odd,), (firsts,) = encode_words(tokenizer, [["東京", "\u200b", "に"]])
        assert odd[: firsts[1]] + odd[firsts[2] :] == plain[0]

    def test_sentence_alone_and_among_others_are_equal(self, trained, corpora):
        sentences = corpora["japanese", True][:20]
        together = encode_words(trained("bpe"), sentences)
        alone = [encode_words(trained("bpe"), [sentence]) for sentence in sentences]
        assert together == ([ids for ((ids,), _) in alone], [firsts for (_, (firsts,)) in alone])

    def test_no_sentences_and_no_words(self, trained):
        tokenizer = trained("word")
        assert encode_words(tokenizer, []) == ([], [])
        assert encode_words(tokenizer, [[]]) == ([[tokenizer.eos_token_id]], [[]])

    def test_tokenizer_without_end_token(self):
        tokenizer = word_level({"<unk>": 0, "to": 1}, unk_token="<unk>")
        assert encode_words(tokenizer, [["to", "", "be"], [], ["\u3000"]]) == (
            [[1, 0, 0], [0], [0]],
            [[0, 1, 2], [], [0]],
        )

    @pytest.mark.parametrize("sentence", [["to", ""], []])
    def test_tokenizer_with_nothing_to_stand_for_an_empty_word(self, sentence):
        with pytest.raises(ValueError, match="neither an unknown nor an end token"):
            encode_words(word_level({"to": 0}), [sentence])

    def test_slow_tokenizer_is_refused(self):
        with pytest.raises(ValueError, match=r"needs a fast tokenizer, got ByT5Tokenizer\."):
            encode_words(ByT5Tokenizer(), [["a"]])


class TestMaxLength:
    @pytest.mark.parametrize(("limit", "read"), [(int(1e30), None), (1e30, None), (10**9, None), (512, 512), (1, 1)])
    def test_of_a_tokenizer(self, limit, read):
        tokenizer = word_level({"<unk>": 0}, unk_token="<unk>")
        assert max_length_of(tokenizer) is None
        tokenizer.model_max_length = limit
        assert max_length_of(tokenizer) == read
