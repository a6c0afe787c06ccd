"""Tokenizers trained on Japanese words, English articles and Korean reviews; encoding with any tokenizer."""

import re
import unicodedata
from collections import Counter
from typing import get_args
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast

from rnn_hf.text import encoding
from rnn_hf.text.encoding import encode_texts, encode_words, max_length_of
from rnn_hf.text.tokenization import TokenizerKind, train_tokenizer

KINDS = get_args(TokenizerKind)
SPECIAL_TOKENS = ["<pad>", "<unk>", "</s>"]
REVIEWS = [
    "이 영화 정말 재미있어요! 배우들의 연기가 최고였습니다.",
    "시간이 아까운 영화... 돈 주고 보지 마세요 ㅠㅠ",
    "기대 안 하고 봤는데 생각보다 재미있네요 ^^",
    "지루해서 중간에 나왔습니다. 별 반 개도 아깝다.",
    "음악도 좋고 영상도 좋고, 마지막 장면은 잊지 못할 것 같아요.",
    "정말 재미있어요! 정말 최고였습니다.",
]
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


@pytest.fixture(scope="module")
def corpora(japanese_sentences, news_articles):
    """Texts or words, by their name and whether they are split into words."""
    words = [[word[0] for word in sentence] for sentence in japanese_sentences]
    texts = [text for text, _ in news_articles]
    return {
        ("japanese", True): words[:200],
        ("japanese", False): ["".join(sentence) for sentence in words[:200]],
        ("english", True): [text.split() for text in texts],
        ("english", False): texts,
        ("korean", True): [text.split() for text in REVIEWS],
        ("korean", False): REVIEWS,
    }


@pytest.fixture(scope="module")
def trained(corpora):
    """A tokenizer of a kind, trained once on one of the corpora."""
    cache = {}

    def make(kind, language="japanese", is_split_into_words=True):
        key = kind, language, is_split_into_words
        if key not in cache:
            corpus = corpora[language, is_split_into_words]
            cache[key] = train_tokenizer(corpus, kind, vocab_size=3000, is_split_into_words=is_split_into_words)
        return cache[key]

    return make


def word_level(vocab: dict[str, int], **special_tokens: str) -> PreTrainedTokenizerFast:
    """An existing tokenizer that adds nothing to a text."""
    tokenizer = Tokenizer(models.WordLevel(vocab, **special_tokens))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special_tokens)


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
    @pytest.mark.parametrize("text", ["the government said on monday", REVIEWS[3].replace(".", "")])
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
    def test_same_corpus_gives_same_tokenizer(self, corpora, kind):
        first, second = (train_tokenizer(corpora["english", False], kind, vocab_size=1000) for _ in range(2))
        assert first.get_vocab() == second.get_vocab()
        assert first(REVIEWS)["input_ids"] == second(REVIEWS)["input_ids"]

    @every_kind
    def test_case_is_kept_unless_lowercase_is_asked(self, kind):
        corpus = ["Straße ÉCOLE straße école", "STRASSE"] * 5
        kept, lowered = train_tokenizer(corpus, kind), train_tokenizer(corpus, kind, lowercase=True)
        assert kept("ÉCOLE")["input_ids"] != kept("école")["input_ids"]
        assert lowered("ÉCOLE")["input_ids"] == lowered("école")["input_ids"]
        assert all(token.lower() == token or token.startswith("Ġ") for token in lowered.tokenize("ÉCOLE Straße"))

    @every_kind
    @pytest.mark.parametrize("text", [*REVIEWS[:2], "Ångström café", "が ガ"])
    def test_decomposed_text_reads_as_composed(self, trained, kind, text):
        tokenizer = trained(kind, "korean", is_split_into_words=False)
        decomposed = unicodedata.normalize("NFD", text)
        assert decomposed != text
        assert tokenizer(decomposed)["input_ids"] == tokenizer(text)["input_ids"]

    @every_kind
    def test_decomposed_corpus_gives_the_vocabulary_of_the_composed(self, kind):
        decomposed = [unicodedata.normalize("NFD", text) for text in REVIEWS]
        vocabularies = [set(train_tokenizer(corpus, kind).get_vocab()) for corpus in (REVIEWS, decomposed)]
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
    def test_long_texts_are_cut_and_keep_their_end_token(self, trained, kind, max_length):
        tokenizer = trained(kind, "korean", is_split_into_words=False)
        whole, cut = encode_texts(tokenizer, REVIEWS), encode_texts(tokenizer, [*REVIEWS, ""], max_length)
        assert cut[:-1] == [[*ids[: max_length - 1], tokenizer.eos_token_id] for ids in whole]
        assert cut[-1] == [tokenizer.eos_token_id]

    def test_cutting_once_does_not_cut_later_encodings(self, trained, tmp_path):
        tokenizer = trained("bpe", "korean", is_split_into_words=False)
        whole, words = encode_texts(tokenizer, REVIEWS), encode_words(tokenizer, [REVIEWS])
        encode_texts(tokenizer, REVIEWS, max_length=2)
        assert encode_words(tokenizer, [REVIEWS]) == words
        encode_texts(tokenizer, REVIEWS, max_length=2)
        assert encode_texts(tokenizer, REVIEWS) == whole
        encode_texts(tokenizer, REVIEWS, max_length=2)
        tokenizer.save_pretrained(tmp_path)
        assert encode_texts(AutoTokenizer.from_pretrained(tmp_path), REVIEWS) == whole

    def test_padding_once_does_not_pad_later_encodings(self, trained):
        tokenizer = trained("wordpiece", "korean", is_split_into_words=False)
        whole, words = encode_texts(tokenizer, REVIEWS), encode_words(tokenizer, [["이"], REVIEWS])
        tokenizer(REVIEWS, padding="max_length", max_length=200)
        assert encode_texts(tokenizer, REVIEWS) == whole
        tokenizer(REVIEWS, padding="max_length", max_length=200)
        assert encode_words(tokenizer, [["이"], REVIEWS]) == words

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


def assert_one_first_token_each(tokenizer, sentences):
    encoded, all_firsts = encode_words(tokenizer, sentences)
    assert len(encoded) == len(all_firsts) == len(sentences)
    for ids, firsts, words in zip(encoded, all_firsts, sentences, strict=True):
        assert len(firsts) == len(words)
        assert firsts == sorted(set(firsts))
        assert all(first < len(ids) - 1 for first in firsts)
        assert ids[-1] == tokenizer.eos_token_id
        assert max(ids) < len(tokenizer)


class TestMaxLength:
    @pytest.mark.parametrize(("limit", "read"), [(int(1e30), None), (1e30, None), (10**9, None), (512, 512), (1, 1)])
    def test_of_a_tokenizer(self, limit, read):
        tokenizer = word_level({"<unk>": 0}, unk_token="<unk>")
        assert max_length_of(tokenizer) is None
        tokenizer.model_max_length = limit
        assert max_length_of(tokenizer) == read
