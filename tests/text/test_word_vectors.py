"""Static vectors: reading, matching, joining a vocabulary."""

import gzip
import importlib

import numpy as np
import pytest
import torch
from strategies import little_config
from transformers.utils import logging

from rnn_hf import RnnModel, train_tokenizer
from rnn_hf.text.characters import VocabularyEntry, set_vocabulary, vocabulary_entries
from rnn_hf.text.word_vectors import (
    StaticVectors,
    load_vectors,
    match_vectors,
    pretrain_character_cnn,
    set_vectors,
    vocabulary_words,
)

LINES = "the 0.5 1 -2\nof 3 4 5e-1\nJapan 1 1 1\n"
MATRIX = [[0.5, 1, -2], [3, 4, 0.5], [1, 1, 1]]


def vectors_of(*words) -> StaticVectors:
    return StaticVectors(list(words), np.arange(len(words) * 2, dtype=np.float32).reshape(-1, 2) + 1, "test")


@pytest.fixture
def messages(caplog):
    """Gives what the package's logger has said."""
    logging.enable_propagation()
    yield lambda: list(caplog.messages)
    logging.disable_propagation()


class TestReading:
    def test_glove(self, tmp_path):
        (tmp_path / "glove.txt").write_text(LINES)
        vectors = load_vectors(str(tmp_path / "glove.txt"))
        assert vectors.words == ["the", "of", "Japan"]
        assert vectors.matrix.tolist() == MATRIX
        assert vectors.size == 3

    def test_word2vec_and_fasttext_with_counts_in_the_first_line(self, tmp_path):
        (tmp_path / "wiki.vec").write_text("3 3\n" + LINES.replace("\n", " \n"))
        assert load_vectors(str(tmp_path / "wiki.vec")).matrix.tolist() == MATRIX

    def test_compressed(self, tmp_path):
        with gzip.open(tmp_path / "glove.txt.gz", "wt", encoding="utf-8") as file:
            file.write(LINES)
        assert load_vectors(str(tmp_path / "glove.txt.gz")).words == ["the", "of", "Japan"]

    def test_words_with_spaces(self, tmp_path):
        (tmp_path / "glove.txt").write_text("the 0.1 0.2\n. . . 0.3 0.4\n")
        assert load_vectors(str(tmp_path / "glove.txt")).words == ["the", ". . ."]

    def test_the_first_words_only(self, tmp_path):
        (tmp_path / "glove.txt").write_text(LINES)
        assert load_vectors(str(tmp_path / "glove.txt"), limit=2).words == ["the", "of"]

    def test_package(self, tmp_path, monkeypatch):
        folder = tmp_path / "little_vectors" / "data"
        folder.mkdir(parents=True)
        (tmp_path / "little_vectors" / "__init__.py").touch()
        np.save(folder / "little_emb.npy", np.array(MATRIX, dtype=np.float32))
        pa = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(
            pa.table({"index": ["the", "of", "Japan"]}), folder / "little_index.parquet"
        )
        monkeypatch.syspath_prepend(tmp_path)
        vectors = load_vectors("little_vectors", limit=2)
        assert vectors.words == ["the", "of"]
        assert vectors.matrix.tolist() == MATRIX[:2]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("the 1 2\nof 3\n", r"line 2: a word and 2 numbers are wanted, got 'of 3'"),
            ("the 1 2\nof x y\n", r"line 2: a word and 2 numbers are wanted, got 'of x y'"),
            ("text without numbers\n", r"line 1: a word and numbers are wanted"),
            ("", "holds no vectors"),
            ("3 2\n", "holds no vectors"),
            ("2 3\nthe 1 2\n", r"line 2: a word and 3 numbers are wanted, got 'the 1 2'"),
            ("the\t1\t2\n", r"line 1: a word and numbers are wanted, got 'the\\t1\\t2'"),
            ("the 1 2\n\nof 3 4\n", r"line 2: a word and 2 numbers are wanted, got ''"),
            ("the 1 2\nof 1 nan\n", r"bad.txt, line 2: the vector of 'of' holds NaN, or a number that is infinite"),
            ("the 1 NaN\n", r"line 1: the vector of 'the' holds NaN"),
            ("2 2\nthe 1 2\nof 1 -inf\n", r"line 3: the vector of 'of' holds NaN, or a number that is infinite"),
            ("the 1 2\nof 1 1e39\n", r"line 2: the vector of 'of' holds NaN, or a number that is infinite in 32 bits"),
            ("\x1b[2J" * 9999, r"line 1: a word and numbers are wanted, got '\\x1b\[2J"),
        ],
    )
    @pytest.mark.parametrize("name", ["bad.txt", "bad.txt.gz"])
    def test_other_files_are_refused(self, content, message, name, tmp_path):
        with gzip.open(tmp_path / name, "wt") if name.endswith(".gz") else (tmp_path / name).open("w") as file:
            file.write(content)
        with pytest.raises(ValueError, match=message.replace("bad.txt", name)) as error:
            load_vectors(str(tmp_path / name))
        assert len(str(error.value)) < 400

    @pytest.mark.parametrize(
        "content",
        [gzip.compress(LINES.encode())[:-12], gzip.compress(LINES.encode())[:25] + b"x" * 30, b"no gzip"],
        ids=["cut off", "overwritten", "no gzip"],  # those of bytes would hold the time
    )
    def test_broken_compressed_files_are_refused(self, content, tmp_path):
        (tmp_path / "bad.txt.gz").write_bytes(content)
        with pytest.raises(ValueError, match=r"bad.txt.gz could not be read as text: .*a word and its numbers a line"):
            load_vectors(str(tmp_path / "bad.txt.gz"))

    @pytest.mark.parametrize("limit", [0, -1])
    def test_no_vectors_wanted(self, limit, tmp_path):
        (tmp_path / "glove.txt").write_text(LINES)
        with pytest.raises(ValueError, match=rf"--vectors_vocab_size must be at least 1, got {limit}\."):
            load_vectors(str(tmp_path / "glove.txt"), limit)

    def test_first_of_a_word_that_comes_twice(self, tmp_path, messages):
        (tmp_path / "glove.txt").write_text("the 1 2\nof 3 4\nthe 5 6\nthe 7 8\n")
        vectors = load_vectors(str(tmp_path / "glove.txt"))
        assert (vectors.words, vectors.matrix.tolist()) == (["the", "of"], [[1, 2], [3, 4]])
        (said,) = messages()
        assert said.endswith("2 of 4 vectors are of words that have one already; the first of each counts.")

    def test_fewer_than_the_first_line_promises(self, tmp_path, messages):
        (tmp_path / "wiki.vec").write_text("3 2\nthe 1 2\nof 3 4\n")
        assert load_vectors(str(tmp_path / "wiki.vec"), limit=2).words == ["the", "of"]
        assert messages() == []
        assert load_vectors(str(tmp_path / "wiki.vec")).words == ["the", "of"]
        assert messages()[0].endswith("its first line promises 3 vectors, but it holds 2.")

    def test_vectors_of_zeros_and_a_byte_order_mark(self, tmp_path):
        (tmp_path / "glove.txt").write_text("\ufeffthe 0 0\nof 0 0\n", encoding="utf-8")
        assert load_vectors(str(tmp_path / "glove.txt")).words == ["the", "of"]

    def test_binary_files_are_refused(self, tmp_path):
        (tmp_path / "bad.bin").write_bytes(b"\xff\xfe\x00\x01" * 9)
        with pytest.raises(ValueError, match="could not be read as text"):
            load_vectors(str(tmp_path / "bad.bin"))

    @pytest.mark.parametrize("source", ["nowhere.txt", "no_such_package", "a b", "__main__", "."])
    def test_missing_files_and_packages_are_named(self, source):
        with pytest.raises(ValueError, match=f"--vectors {source} is neither a file nor an installed package"):
            load_vectors(source)

    @pytest.mark.parametrize(
        ("matrix", "words", "message"),
        [
            (MATRIX[:2], ["the", "of", "Japan"], r"3 words, but vectors of the shape \[2, 3\] and the type float32"),
            (MATRIX[0], ["the", "of", "Japan"], r"3 words, but vectors of the shape \[3\]"),
            ([], [], r"0 words, but vectors of the shape \[0\]"),
            ([["x"] * 3] * 2, ["the", "of"], r"the type <U1; a row of floats"),
            ([[1, 2], [np.nan, 1]], ["the", "of"], r"_emb.npy, row 2: the vector of 'of' holds NaN"),
            ([[np.inf, 2], [1, 1]], ["the", "of"], r"_emb.npy, row 1: the vector of 'the' holds NaN, or a number that"),
            ([[1, 2], [3, 4]], ["the", None], r"_index.parquet, row 2: a word is wanted, got None\."),
            (b"\x93NUMPY garbage", ["the"], "the package's files cannot be read"),
            ([[1, 2]], b"garbage", "the package's files cannot be read"),
        ],
    )
    def test_packages_with_other_files_are_refused(self, matrix, words, message, tmp_path, monkeypatch):
        pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        (tmp_path / "odd_vectors").mkdir()
        (tmp_path / "odd_vectors" / "__init__.py").touch()
        index, emb = tmp_path / "odd_vectors" / "x_index.parquet", tmp_path / "odd_vectors" / "x_emb.npy"
        if isinstance(words, bytes):
            index.write_bytes(words)
        else:
            parquet.write_table(pa.table({"index": pa.array(words, pa.string())}), index)
        if isinstance(matrix, bytes):
            emb.write_bytes(matrix)
        else:
            matrix = np.array(matrix)
            np.save(emb, matrix.astype(np.float32) if matrix.dtype.kind != "U" else matrix)
        monkeypatch.syspath_prepend(tmp_path)
        importlib.invalidate_caches()
        with pytest.raises(ValueError, match=message):
            load_vectors("odd_vectors", limit=2 if words == ["the", None] else None)

    def test_packages_without_vectors_are_refused(self):
        with pytest.raises(ValueError, match=r"the package holds no \*_emb.npy"):
            load_vectors("json")


class TestMatching:
    def test_takes_the_word_itself_first(self):
        vectors = vectors_of("apple", "Apple")
        entries = [VocabularyEntry("Apple", True), VocabularyEntry("apple", True)]
        assert match_vectors(vectors, entries).tolist() == [2, 1]

    def test_falls_back_to_lower_case(self):
        assert match_vectors(
            vectors_of("apple"), [VocabularyEntry("APPLE", True), VocabularyEntry("Pear", True)]
        ).tolist() == [1, 0]

    def test_falls_back_to_another_case(self):
        assert match_vectors(vectors_of("Paris", "of"), [VocabularyEntry("paris", True)]).tolist() == [1]

    def test_gives_pieces_within_words_nothing(self):
        assert match_vectors(
            vectors_of("able"), [VocabularyEntry("able", False), VocabularyEntry("", True)]
        ).tolist() == [0, 0]


class TestVocabulary:
    def test_gains_forms_with_capitals_of_words_without(self):
        assert list(vocabulary_words(vectors_of("the", "a", "3rd"))) == ["the", "The", "THE", "a", "A", "3rd", "3RD"]

    def test_keeps_the_forms_of_words_with_capitals(self):
        assert list(vocabulary_words(vectors_of("the", "Apple"))) == ["the", "Apple"]

    def test_has_lower_case_only_for_a_lowercasing_tokenizer(self):
        assert list(vocabulary_words(vectors_of("the", "Apple"), lowercase=True)) == ["the", "apple"]

    @pytest.mark.parametrize("kind", ["word", "wordpiece"])
    def test_words_join_behind_those_of_the_corpus(self, kind):
        plain = train_tokenizer([["a", "cat"]], kind, min_frequency=1, is_split_into_words=True)
        extended = train_tokenizer(
            [["a", "cat"]],
            kind,
            min_frequency=1,
            is_split_into_words=True,
            additional_words=["cat", "dog", "two words"],
        )
        assert len(extended) == len(plain) + 1
        assert extended.init_kwargs["num_corpus_entries"] == len(plain)
        assert extended.tokenize("dog") == ["dog"]
        assert extended.convert_tokens_to_ids("dog") == len(plain)
        assert {token: extended.convert_tokens_to_ids(token) for token in plain.get_vocab()} == plain.get_vocab()

    @pytest.mark.parametrize("kind", ["bpe", "unigram"])
    def test_vocabularies_of_pieces_take_no_words(self, kind):
        with pytest.raises(ValueError, match="of the kind 'word' or 'wordpiece' only"):
            train_tokenizer(["a cat sat on a mat " * 9], kind, vocab_size=300, additional_words=["dog"])


def test_vectors_reach_the_entries_of_a_model():
    vectors = vectors_of("cat", "dog")
    tokenizer = train_tokenizer([["Cat", "cow"]], "word", min_frequency=1, is_split_into_words=True,
                                additional_words=vocabulary_words(vectors))  # fmt: skip
    config = little_config(
        vocab_size=len(tokenizer), num_word_embeddings=5, static_embedding_size=2, static_vocab_size=2, unk_token_id=1
    )
    model = RnnModel(config).eval()
    share = set_vectors(model, vectors, vocabulary_entries(tokenizer))
    assert share == pytest.approx(1 / 3)  # of Cat, cow and the unknown word, one
    ids = torch.tensor(tokenizer.convert_tokens_to_ids(["Cat", "cow", "cat", "Dog"]))
    found = model.embeddings(ids)[:, 5:]
    assert found.tolist() == [[1, 2], [0, 0], [1, 2], [3, 4]]


STEMS = ("walk", "talk", "jump", "play", "lift", "cook", "wash")


class TestPretrainingOfTheCharacterCNN:
    def model(self, characters="adefhijklmnoprstuwy"):
        """Make a model whose words have vectors that tell their endings."""
        torch.manual_seed(0)
        words = [stem + ending for stem in STEMS for ending in ("ed", "s")]
        vectors = StaticVectors(
            words, np.array([[1.0, 0.0] if word.endswith("s") else [0.0, 1.0] for word in words]), ""
        )
        tokenizer = train_tokenizer([["a"]], "word", min_frequency=1, is_split_into_words=True, additional_words=words)
        config = little_config(
            vocab_size=len(tokenizer), num_word_embeddings=4, static_embedding_size=2, static_vocab_size=len(words),
            unk_token_id=1, characters=characters, char_num_filters=8,
        )  # fmt: skip
        model = RnnModel(config)
        set_vocabulary(model, tokenizer)
        set_vectors(model, vectors, vocabulary_entries(tokenizer))
        return model

    def test_comes_to_predict_the_vectors(self):
        model = self.model()
        assert pretrain_character_cnn(model, num_epochs=1, learning_rate=0.0) < 0.1
        assert pretrain_character_cnn(model, num_epochs=150) > 0.6

    def test_changes_nothing_else(self):
        model = self.model()
        before = {name: parameter.clone() for name, parameter in model.named_parameters()}
        pretrain_character_cnn(model, num_epochs=2)
        changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
        assert changed == {name for name in before if "character_cnn" in name}

    def test_needs_a_character_cnn(self):
        with pytest.raises(ValueError, match="--mimick_epochs is for models with a character CNN, and needs --vectors"):
            pretrain_character_cnn(self.model(characters=None), num_epochs=1)

    @pytest.mark.parametrize("num_epochs", [0, -1])
    def test_needs_an_epoch(self, num_epochs):
        with pytest.raises(
            ValueError, match=rf"--mimick_epochs must be at least 1 to learn anything, got {num_epochs}"
        ):
            pretrain_character_cnn(self.model(), num_epochs)

    @pytest.mark.parametrize("what", ["vector_ids", "vectors"])
    def test_needs_vectors_that_differ(self, what):
        model = self.model()
        static = model.embeddings.static_embeddings
        with torch.no_grad():
            (static.vector_ids if what == "vector_ids" else static.vectors.weight).zero_()
        with pytest.raises(ValueError, match=r"vectors of the vocabulary's words do not differ"):
            pretrain_character_cnn(model, num_epochs=1)
