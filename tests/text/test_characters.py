"""Vocabulary entries of tokenizers of every kind, and their characters."""

import pytest
import torch
from strategies import little_config

from rnn_hf import RnnForTokenClassification, RnnModel, train_tokenizer
from rnn_hf.models.embeddings import BEGINNING, CONTINUATION, END, UNKNOWN
from rnn_hf.text.characters import collect_characters, set_vocabulary, vocabulary_entries
from rnn_hf.text.encoding import encode_words

KINDS = ("word", "wordpiece", "bpe", "unigram")
KOREAN = [["나는", "어제", "새", "책을", "읽었다"], ["그는", "오늘", "책을", "샀다"], ["나는", "오늘", "쉬었다"]]
ENGLISH = [["unbelievable", "beliefs", "believe"], ["a", "believer", "believes"], ["unbelief", "is", "believable"]]


@pytest.fixture(scope="module")
def corpora(japanese_sentences):
    return {
        "English": ENGLISH,
        "Korean": KOREAN,
        "Japanese": [[word[0] for word in words] for words in japanese_sentences[:60]],
    }


def trained(sentences, kind):
    vocab_size = {"bpe": 300, "unigram": 700 if len(sentences) > 9 else 70}.get(kind, 120)
    return train_tokenizer(sentences, kind, vocab_size=vocab_size, min_frequency=1, is_split_into_words=True)


@pytest.mark.parametrize("language", ["English", "Korean", "Japanese"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_first_token_of_each_word_starts_a_word_and_no_other_does(kind, language, corpora):
    sentences = corpora[language]
    tokenizer = trained(sentences, kind)
    entries = vocabulary_entries(tokenizer)
    all_ids, all_firsts = encode_words(tokenizer, sentences)
    for ids, firsts in zip(all_ids, all_firsts, strict=True):
        assert [position for position, index in enumerate(ids) if entries[index].starts_word] == firsts


@pytest.mark.parametrize("language", ["English", "Korean", "Japanese"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_characters_of_a_word_s_tokens_make_up_the_word(kind, language, corpora):
    sentences = corpora[language]
    tokenizer = trained(sentences, kind)
    entries = vocabulary_entries(tokenizer)
    for ids, words in zip(encode_words(tokenizer, sentences)[0], sentences, strict=True):
        texts = [entries[index].text for index in ids]
        # Pieces of less than a letter show as replacement characters; unknown tokens have no characters.
        if tokenizer.unk_token_id not in ids and not any("\ufffd" in text for text in texts):
            assert "".join(texts) == "".join(words)


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_have_no_characters(kind):
    tokenizer = trained(ENGLISH, kind)
    entries = vocabulary_entries(tokenizer)
    for index in tokenizer.all_special_ids:
        assert entries[index].text == ""
    assert not entries[tokenizer.pad_token_id].starts_word
    assert not entries[tokenizer.eos_token_id].starts_word
    # Whole words are unknown to some kinds, single characters to others.
    assert entries[tokenizer.unk_token_id].starts_word == (kind != "unigram")


def test_characters_are_those_of_all_entries():
    assert collect_characters(trained([["ba", "ab"], ["ca"]], "word")) == "abc"


class TestTable:
    def table(self, words, length, characters="abc"):
        tokenizer = train_tokenizer([words], "word", min_frequency=1, is_split_into_words=True)
        options = {"vocab_size": len(tokenizer), "characters": characters, "max_characters_per_token": length}
        model = RnnForTokenClassification(little_config(use_crf=True, **options))
        set_vocabulary(model, tokenizer)
        table = model.model.embeddings.character_cnn.character_ids
        return {word: table[tokenizer.convert_tokens_to_ids(word)].tolist() for word in words}, model, tokenizer

    def test_holds_characters_between_marks(self):
        found, _, _ = self.table(["ab", "c"], 5)
        assert found == {"ab": [BEGINNING, 5, 6, END, 0], "c": [BEGINNING, 7, END, 0, 0]}

    def test_of_a_long_entry_holds_the_beginning_and_the_end(self):
        found, _, _ = self.table(["abcabcabcc", "abc"], 5)
        assert found["abcabcabcc"] == [BEGINNING, 5, 6, 7, END]
        assert found["abc"] == [BEGINNING, 5, 6, 7, END]
        found, _, _ = self.table(["aaaabbbbcc"], 6)
        assert found["aaaabbbbcc"] == [BEGINNING, 5, 5, 7, 7, END]

    def test_marks_other_characters_as_unknown(self):
        assert self.table(["ax"], 4)[0]["ax"] == [BEGINNING, 5, UNKNOWN, END]

    def test_marks_pieces_that_continue_a_word(self):
        tokenizer = trained(ENGLISH, "wordpiece")
        options = {"vocab_size": len(tokenizer), "characters": "abelis", "max_characters_per_token": 9}
        model = RnnForTokenClassification(little_config(**options))
        set_vocabulary(model, tokenizer)
        table = model.model.embeddings.character_cnn.character_ids
        assert table[tokenizer.convert_tokens_to_ids("##s")].tolist()[:3] == [CONTINUATION, 10, END]

    def test_tells_the_tagger_which_entries_start_words(self):
        _, model, tokenizer = self.table(["ab", "c"], 5)
        assert model.word_starts.sum() == 3  # two words and the unknown one
        assert not model.word_starts[[tokenizer.pad_token_id, tokenizer.eos_token_id]].any()

    @pytest.mark.parametrize("kind", KINDS)
    def test_special_tokens_within_a_sentence_start_words_where_words_are_read(self, kind):
        tokenizer = trained(ENGLISH, kind)
        model = RnnForTokenClassification(little_config(vocab_size=len(tokenizer), subword_pooling="mean"))
        set_vocabulary(model, tokenizer)
        for words in (["the", tokenizer.eos_token, "the"], ["the", tokenizer.pad_token, "the"], ["the", "", "the"]):
            (ids,), (firsts,) = encode_words(tokenizer, [words])
            if kind != "unigram" or words[1]:  # whose unknown token may continue a word
                assert model.word_starts[torch.tensor(ids)[firsts]].all()

    def test_any_length_is_possible(self):
        for length in (1, 2, 3):
            found, model, _ = self.table(["ab", "c"], length)
            assert all(len(row) == length for row in found.values())
            assert model(input_ids=torch.tensor([[3, 4]])).logits.isfinite().all()

    def test_of_an_encoder_that_was_resized_alone_is_written_whole(self):
        _, model, tokenizer = self.table(["ab", "c"], 5)
        tokenizer.add_tokens(["cc"])
        with pytest.raises(ValueError, match=r"resize the model first, with model.resize_token_embeddings\(6\)"):
            set_vocabulary(model, tokenizer)
        model.model.resize_token_embeddings(len(tokenizer))
        set_vocabulary(model, tokenizer)
        assert len(model.word_starts) == len(tokenizer)
        assert model.model.embeddings.character_cnn.character_ids[tokenizer.convert_tokens_to_ids("cc")].tolist()[
            1:3
        ] == [7, 7]

    def test_a_model_without_tables_needs_no_vocabulary(self):
        model = RnnModel(little_config())
        set_vocabulary(model, None)
