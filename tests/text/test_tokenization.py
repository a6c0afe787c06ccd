"""Tokenizers trained on Japanese words, English articles and Korean reviews."""

import re
import unicodedata
from collections import Counter
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import assert_one_first_token_each
from transformers import AutoTokenizer

from rnn_hf.text.encoding import encode_texts, encode_words
from rnn_hf.text.tokenization import TokenizerKind, train_tokenizer

KINDS = get_args(TokenizerKind)
SPECIAL_TOKENS = ["<pad>", "<unk>", "</s>"]


every_kind = pytest.mark.parametrize("kind", KINDS)
every_corpus = pytest.mark.parametrize(
    ("language", "is_split_into_words"),
    [(language, split) for language in ("japanese", "english", "korean") for split in (True, False)],
    ids=lambda value: {True: "words", False: "texts"}.get(value, value),
)


class TestTraining:
    @pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
    @every_corpus
    def test_nothing_in_the_training_data_is_unknown(self, trained, corpora, kind, language, is_split_into_words):
        tokenizer = trained(kind, language, is_split_into_words)
        ids = tokenizer(corpora[language, is_split_into_words], is_split_into_words=is_split_into_words)["input_ids"]
        tokens = {token for sequence in ids for token in sequence}
        assert len(tokens) > 20
        assert tokenizer.unk_token_id not in tokens

    @pytest.mark.parametrize("language", ["japanese", "english", "korean"])
    def test_words_are_known_where_they_occur_twice(self, trained, corpora, language):
        tokenizer, sentences = trained("word", language), corpora[language, True]
        # Split once more, since one Japanese word is an ideographic space.
        words = " ".join(word for sentence in sentences for word in sentence).split()
        counts = Counter(unicodedata.normalize("NFC", word) for word in words)
        often = {word for word, count in counts.items() if count > 1}
        assert set(tokenizer.get_vocab()) - set(SPECIAL_TOKENS) == often
        ids = tokenizer(sentences, is_split_into_words=True)["input_ids"]
        unknown = sum(sequence.count(tokenizer.unk_token_id) for sequence in ids)
        assert unknown == sum(count for count in counts.values() if count == 1) > 0

    @every_kind
    @every_corpus
    def test_survives_saving(self, trained, corpora, kind, language, is_split_into_words, tmp_path):
        tokenizer, corpus = trained(kind, language, is_split_into_words), corpora[language, is_split_into_words]
        tokenizer.save_pretrained(tmp_path)
        reloaded = AutoTokenizer.from_pretrained(tmp_path)
        unseen = [["Zürich", "", "새로운"]] if is_split_into_words else ["Zürich is 새로운!", ""]
        options = {"is_split_into_words": is_split_into_words}
        expected, got = tokenizer(corpus + unseen, **options), reloaded(corpus + unseen, **options)
        assert got["input_ids"] == expected["input_ids"]
        assert got["attention_mask"] == expected["attention_mask"]
        for name in ("pad_token_id", "unk_token_id", "eos_token_id", "padding_side", "model_input_names"):
            assert getattr(reloaded, name) == getattr(tokenizer, name)
        for ids in expected["input_ids"][:3]:
            assert reloaded.decode(ids) == tokenizer.decode(ids)

    @every_kind
    def test_special_tokens_come_first(self, trained, kind):
        assert trained(kind).convert_ids_to_tokens([0, 1, 2]) == SPECIAL_TOKENS

    @every_kind
    def test_every_encoding_ends_with_the_end_token(self, trained, kind):
        tokenizer = trained(kind)
        assert tokenizer("")["input_ids"] == [tokenizer.eos_token_id]
        assert tokenizer("東京")["input_ids"].count(tokenizer.eos_token_id) == 1
        assert tokenizer("東京")["input_ids"][-1] == tokenizer.eos_token_id
        assert tokenizer("東京", "大阪")["input_ids"].count(tokenizer.eos_token_id) == 2

    @pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
    @pytest.mark.parametrize("text", ["the government said on monday", "지루해서 중간에 나왔습니다 별 반 개도 아깝다"])
    def test_decoding_gives_the_text_back(self, trained, kind, text):
        tokenizer = trained(kind, "english" if text.isascii() else "korean", is_split_into_words=False)
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True).strip() == text

    def test_bpe_knows_every_character(self, trained):
        tokenizer = trained("bpe", "english", is_split_into_words=False)
        text = "Ünïcödé 東京 🙂 قطار"
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text

    def test_wordpiece_marks_what_continues_a_word(self):
        tokenizer = train_tokenizer(["walked talked walks talks"] * 3, "wordpiece", vocab_size=18)
        tokens = tokenizer.tokenize("talked")
        assert len(tokens) > 1
        assert not tokens[0].startswith("##")
        assert all(token.startswith("##") for token in tokens[1:])

    def test_wordpiece_reads_whole_sentences_without_spaces(self, trained, corpora):
        # Repeated without its first letter, which the tokenizer may know at the beginning only.
        run = next(run for text in corpora["japanese", False] for run in re.findall(r"[ぁ-ん一-龥]{10,}", text))
        sentence = run + run[1:] * 40
        assert 400 < len(sentence) < 1000
        tokenizer = trained("wordpiece", "japanese", is_split_into_words=False)
        assert tokenizer.unk_token_id not in tokenizer(sentence)["input_ids"]

    @pytest.mark.parametrize(("min_frequency", "known"), [(1, "abc"), (2, "ab"), (3, "a")])
    def test_rare_words_are_cut_off(self, min_frequency, known):
        tokenizer = train_tokenizer(["a b c", "a b", "a"], "word", min_frequency=min_frequency)
        assert set(tokenizer.get_vocab()) == {*SPECIAL_TOKENS, *known}

    @pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
    def test_rare_pairs_are_not_merged(self, kind):
        tokens = train_tokenizer(["abab xy", *["abab"] * 9], kind, min_frequency=2).tokenize("abab xy")
        tokens = [token.lstrip("#Ġ") for token in tokens]
        assert [token for token in tokens if token] == ["abab", "x", "y"]

    @every_kind
    @pytest.mark.parametrize("vocab_size", [400, 1000])
    def test_vocabulary_is_bounded(self, corpora, kind, vocab_size):
        tokenizer = train_tokenizer(corpora["english", False], kind, vocab_size=vocab_size)
        assert len(tokenizer) == vocab_size
        assert max(tokenizer.get_vocab().values()) == vocab_size - 1

    @pytest.mark.parametrize(("kind", "smallest"), [("wordpiece", 3 + 3 + 2), ("bpe", 3 + 256)])
    def test_letters_and_bytes_are_kept_even_beyond_the_bound(self, kind, smallest):
        tokenizer = train_tokenizer(["ab ac", "b"], kind, vocab_size=4)
        assert len(tokenizer) == smallest
        assert tokenizer.unk_token_id not in tokenizer("ab ac b")["input_ids"]

    @pytest.mark.parametrize("kind", ["word", "wordpiece", "bpe"])
    def test_same_corpus_gives_same_tokenizer(self, reviews, corpora, kind):
        first, second = (train_tokenizer(corpora["english", False], kind, vocab_size=1000) for _ in range(2))
        assert first.get_vocab() == second.get_vocab()
        assert first(reviews)["input_ids"] == second(reviews)["input_ids"]

    @every_kind
    def test_case_is_kept_unless_lowercase_is_asked(self, kind):
        corpus = ["Straße ÉCOLE straße école", "STRASSE"] * 5
        kept, lowered = train_tokenizer(corpus, kind), train_tokenizer(corpus, kind, lowercase=True)
        assert kept("ÉCOLE")["input_ids"] != kept("école")["input_ids"]
        assert lowered("ÉCOLE")["input_ids"] == lowered("école")["input_ids"]
        assert all(token.lower() == token or token.startswith("Ġ") for token in lowered.tokenize("ÉCOLE Straße"))

    @every_kind
    @pytest.mark.parametrize("text", ["시간이 아까운 영화... 돈 주고 보지 마세요 ㅠㅠ", "Ångström café", "が ガ"])
    def test_decomposed_text_reads_as_composed(self, trained, kind, text):
        tokenizer = trained(kind, "korean", is_split_into_words=False)
        decomposed = unicodedata.normalize("NFD", text)
        assert decomposed != text
        assert tokenizer(decomposed)["input_ids"] == tokenizer(text)["input_ids"]

    @every_kind
    def test_decomposed_corpus_gives_the_vocabulary_of_the_composed(self, reviews, kind):
        decomposed = [unicodedata.normalize("NFD", text) for text in reviews]
        vocabularies = [set(train_tokenizer(corpus, kind).get_vocab()) for corpus in (reviews, decomposed)]
        assert vocabularies[0] == vocabularies[1]

    @every_kind
    @pytest.mark.parametrize("is_split_into_words", [True, False], ids=["words", "texts"])
    def test_a_generator_is_read_once(self, corpora, kind, is_split_into_words):
        corpus = corpora["korean", is_split_into_words]
        read = []

        def generate():
            for element in corpus:
                read.append(element)
                yield element

        options = {"is_split_into_words": is_split_into_words, "min_frequency": 1}
        from_generator = train_tokenizer(generate(), kind, **options)
        assert read == corpus
        assert set(from_generator.get_vocab()) == set(train_tokenizer(corpus, kind, **options).get_vocab())

    def test_split_words_are_not_split_at_punctuation(self):
        words = train_tokenizer([["don't", "U.K."]] * 2, "word", is_split_into_words=True)
        texts = train_tokenizer(["don't U.K."] * 2, "word")
        assert words.tokenize(["don't", "U.K."], is_split_into_words=True) == ["don't", "U.K."]
        assert texts.tokenize("don't U.K.") == ["don", "'", "t", "U", ".", "K", "."]


class TestSpecialTokensInText:
    """Corpora such as the Penn Treebank hold the tokenizer's own special tokens as words."""

    ODD = (*SPECIAL_TOKENS, "<UNK>", "</S>", "<PAD>", "<unK>", "a<unk>b", "</s></s>", "##<unk>", "▁</s>", "<s>", "<")
    WORDS = ("the", "The", "of", "N", "a", "b", "s", "pad", *ODD)

    @every_kind
    @pytest.mark.parametrize("is_split_into_words", [True, False], ids=["words", "texts"])
    @pytest.mark.parametrize("lowercase", [False, True], ids=["cased", "lowercased"])
    @settings(max_examples=12, deadline=None)
    @given(
        sentences=st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=6), min_size=1, max_size=4),
        additional_words=st.lists(st.sampled_from(("zebra", *WORDS)), max_size=4),
    )
    def test_vocabulary_is_whole(self, kind, is_split_into_words, lowercase, sentences, additional_words):
        sentences = [["the", "cat"], *sentences]
        tokenizer = train_tokenizer(
            sentences if is_split_into_words else [" ".join(words) for words in sentences],
            kind,
            min_frequency=1,
            lowercase=lowercase,
            is_split_into_words=is_split_into_words,
            additional_words=additional_words if kind in ("word", "wordpiece") else (),
        )
        assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))
        assert tokenizer.convert_ids_to_tokens([0, 1, 2]) == SPECIAL_TOKENS
        assert (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.eos_token_id) == (0, 1, 2)
        assert 3 < tokenizer.init_kwargs["num_corpus_entries"] <= len(tokenizer)
        assert_one_first_token_each(tokenizer, sentences)
        for ids in encode_texts(tokenizer, [" ".join(words) for words in sentences]):
            assert max(ids) < len(tokenizer)

    @every_kind
    def test_they_are_read_as_special_tokens(self, kind):
        words = ["the", "<unk>", "of", "</s>", "N", "<pad>"]
        tokenizer = train_tokenizer([words] * 3, kind, is_split_into_words=True)
        (ids,), (firsts,) = encode_words(tokenizer, [words])
        read = [ids[first] for first in firsts]
        assert read[1::2] == [1, 2, 0]
        assert min(read[::2]) > 2

    @pytest.mark.parametrize("kind", ["word", "wordpiece", "unigram"])
    def test_nothing_is_learnt_from_them(self, kind):
        corpus = ["the cat of the cat of"]
        texts = ["<unk> the cat</s> of<pad><unk>the cat of </s>"]
        assert set(train_tokenizer(texts, kind).get_vocab()) == set(train_tokenizer(corpus, kind).get_vocab())

    @every_kind
    def test_survive_saving(self, kind, tmp_path):
        words = ["the", "<unk>", "</s>", "<pad>", "<UNK>", "a</s>b"]
        tokenizer = train_tokenizer([words] * 3, kind, is_split_into_words=True, lowercase=True)
        tokenizer.save_pretrained(tmp_path)
        reloaded = AutoTokenizer.from_pretrained(tmp_path)
        assert reloaded.get_vocab() == tokenizer.get_vocab()
        assert encode_words(reloaded, [words]) == encode_words(tokenizer, [words])


class TestMistakesInTraining:
    def test_unknown_kind(self):
        with pytest.raises(ValueError, match=r"'syllable'; choose from word, wordpiece, bpe, unigram"):
            train_tokenizer(["a"], "syllable")

    @every_kind
    @pytest.mark.parametrize("vocab_size", [-1, 0, 3, 2**31, 10**30, 5.5, True, "9"])
    def test_vocabulary_size_out_of_range(self, kind, vocab_size):
        message = rf"^--vocab_size must be a whole number from 4 .* \(it must leave room .*, got {vocab_size!r}\.$"
        with pytest.raises(ValueError, match=message):
            train_tokenizer(["a"], kind, vocab_size=vocab_size)

    @every_kind
    @pytest.mark.parametrize("min_frequency", [-1, 0, 2**64, 1.5])
    def test_frequency_out_of_range(self, kind, min_frequency):
        with pytest.raises(
            ValueError, match=rf"^--min_frequency must be a whole number from 1 .*, got {min_frequency}"
        ):
            train_tokenizer(["a"], kind, min_frequency=min_frequency)

    def test_no_word_is_frequent_enough(self):
        with pytest.raises(ValueError, match=r"No word of the corpus occurs 3 times.*lower --min_frequency"):
            train_tokenizer(["a b c", "a b <unk> <unk> <unk>"], "word", min_frequency=3)
        assert train_tokenizer(["a"], "word", min_frequency=3, additional_words=["b"]).tokenize("b") == ["b"]

    def test_no_room_for_the_letters(self, corpora):
        with pytest.raises(ValueError, match=r"vocab_size=50 is too small for the characters of the corpus"):
            train_tokenizer(corpora["japanese", False], "unigram", vocab_size=50)

    @every_kind
    @pytest.mark.parametrize(
        "corpus", [[], [""], [" ", "\n", "\u3000"], iter(())], ids=["none", "empty", "white", "it"]
    )
    def test_corpus_without_text(self, kind, corpus):
        with pytest.raises(ValueError, match="The corpus holds no text"):
            train_tokenizer(corpus, kind)

    @every_kind
    @pytest.mark.parametrize("corpus", [[], [[]], [[""], [" "]]], ids=["none", "no words", "empty words"])
    def test_corpus_without_words(self, kind, corpus):
        with pytest.raises(ValueError, match="The corpus holds no text"):
            train_tokenizer(corpus, kind, is_split_into_words=True)

    @every_kind
    @pytest.mark.parametrize("element", [None, 7, b"bytes", ["split", "words"]])
    def test_element_that_is_no_text(self, kind, element):
        with pytest.raises(TypeError, match="Element 1 of the corpus must be a text, got") as error:
            train_tokenizer(["a text", element], kind)
        assert repr(element) in str(error.value)

    @every_kind
    @pytest.mark.parametrize("element", ["a text", ["a", None], [["a"]], [1]])
    def test_element_that_is_no_list_of_words(self, kind, element):
        with pytest.raises(TypeError, match="Element 1 of the corpus must be a list of words, got") as error:
            train_tokenizer([["a"], element], kind, is_split_into_words=True)
        assert repr(element) in str(error.value)

    @every_kind
    def test_text_that_is_no_unicode(self, kind):
        with pytest.raises(ValueError, match=r"Element 1 of the corpus holds a lone surrogate.*'a\\ud800'"):
            train_tokenizer(["a", "a\ud800"], kind)

    @every_kind
    def test_single_text_in_place_of_a_corpus(self, kind):
        with pytest.raises(TypeError, match=r"The corpus must be a list of texts, got a single one: 'to be'\."):
            train_tokenizer("to be", kind)

    @pytest.mark.parametrize("words", [[3], [None], ["a", ["b"]]])
    def test_additional_words_that_are_no_words(self, words):
        with pytest.raises(TypeError, match=r"additional_words must be texts, got"):
            train_tokenizer(["a"], "word", min_frequency=1, additional_words=words)

    def test_long_elements_are_shortened(self):
        with pytest.raises(TypeError) as error:
            train_tokenizer([["\x1b" * 100_000]], "word")
        assert len(str(error.value)) < 300
        assert "\x1b" not in str(error.value)

    @every_kind
    def test_error_in_the_corpus_comes_through(self, kind):
        def generate():
            yield "a text"
            raise RuntimeError("the disk is gone")

        with pytest.raises(RuntimeError, match="the disk is gone"):
            train_tokenizer(generate(), kind)
