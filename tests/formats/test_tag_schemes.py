"""Tag schemes are recognised in training data, and brought to IOB2 without a change of spans."""

import json
import random
from itertools import pairwise
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from strategies import few

from rnn_hf import train_tokenizer
from rnn_hf.data.corpus import DataArguments, load_corpus
from rnn_hf.formats.tag_schemes import TagScheme, count_bigrams, count_spans, find_scheme
from rnn_hf.models.crf import allowed_transitions

TAG = "token-classification"
# A sentence as its spans: the type, `None` outside, and the number of words.
sentences_of_spans = st.lists(
    st.lists(st.tuples(st.sampled_from([None, "PER", "LOC", "I-love", "x_y"]), st.integers(1, 4)), max_size=8),
    min_size=1,
    max_size=6,
)


def encode(spans, scheme: str) -> list[str]:
    """Write spans as each scheme's definition says: the plain reference."""
    tags: list[str] = []
    for position, (kind, size) in enumerate(spans):
        if kind is None:
            tags += ["O"] * size
            continue
        before = spans[position - 1][0] if position else None
        after = spans[position + 1][0] if position + 1 < len(spans) else None
        marks = ["I"] * size
        if scheme == "iob2" or (scheme == "iob1" and before == kind):
            marks[0] = "B"
        if scheme == "ioe2" or (scheme == "ioe1" and after == kind):
            marks[-1] = "E"
        if scheme in ("iobes", "bilou", "bmes", "bmewo"):
            begin, inside, end, single = {"iobes": "BIES", "bilou": "BILU", "bmes": "BMES", "bmewo": "BMEW"}[scheme]
            marks = [single] if size == 1 else [begin, *inside * (size - 2), end]
        tags += [f"{mark}-{kind}" for mark in marks]
    return tags


def found_in(sentences: list[list[str]], wanted: str = "auto") -> TagScheme | None:
    return find_scheme(count_bigrams(sentences), sorted({tag for tags in sentences for tag in tags}), wanted)


SCHEMES = ("iob1", "iob2", "ioe1", "ioe2", "iobes", "bilou", "bmes", "bmewo")
# Sentences that show all marks of each scheme.
TELLING = [
    [("PER", 3), (None, 1), ("LOC", 1), ("LOC", 2), (None, 2), ("PER", 1), ("PER", 1)],
    [(None, 1), ("LOC", 4), ("PER", 2)],
]
WRITINGS = {
    "plain": lambda mark, kind: f"{mark}-{kind}",
    "underscore": lambda mark, kind: f"{mark}_{kind}",
    "lower": lambda mark, kind: f"{mark.lower()}-{kind}",
    "lower underscore": lambda mark, kind: f"{mark.lower()}_{kind}",
    "suffix": lambda mark, kind: f"{kind}-{mark}",
    "suffix underscore": lambda mark, kind: f"{kind}_{mark}",
    "colon": lambda mark, kind: f"{mark}:{kind}",
}


def written(tags: list[str], how: str) -> list[str]:
    return [tag if tag == "O" else WRITINGS[how](tag[0], tag[2:]) for tag in tags]


class TestRecognition:
    @pytest.mark.parametrize("how", WRITINGS)
    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_each_scheme_in_each_writing(self, scheme, how):
        sentences = [written(encode(spans, scheme), how) for spans in TELLING]
        found = found_in(sentences)
        assert found is not None
        assert found.name == {"bmewo": "bmes"}.get(scheme, scheme)
        assert [found.to_iob2(tags) for tags in sentences] == [encode(spans, "iob2") for spans in TELLING]
        counts = count_spans(found, count_bigrams(sentences))
        assert (counts.spans, counts.types, counts.faults) == (7, 2, 0)

    @given(sentences_of_spans, st.sampled_from(SCHEMES), st.sampled_from(list(WRITINGS)))
    @few(200)
    def test_conversion_keeps_spans(self, sentences, scheme, how):
        spans = [*sentences, *TELLING]
        tags = [written(encode(one, scheme), how) for one in spans]
        found = found_in(tags)
        assert found is not None
        assert [found.to_iob2(one) for one in tags] == [encode(one, "iob2") for one in spans]
        num_spans = sum(kind is not None for one in spans for kind, _ in one)
        assert count_spans(found, count_bigrams(tags)).spans == num_spans

    @given(st.lists(st.sampled_from(["O", *(f"{mark}-{kind}" for mark in "BIES" for kind in ("X", "Y"))]), max_size=12))
    @few(300)
    def test_any_tags_have_the_spans_that_seqeval_finds(self, tags):
        iob2 = TagScheme("iobes").to_iob2(tags)
        assert get_entities(iob2) == get_entities(tags)
        assert count_spans(TagScheme("iobes"), count_bigrams([tags])).spans == len(get_entities(tags))
        # No tag stands where the conditional random field could not decode it.
        names = ["O", "B-X", "I-X", "B-Y", "I-Y"]
        begins, follows, _ = allowed_transitions(names)
        ids = [names.index(tag) for tag in iob2]
        assert all(begins[one] for one in ids[:1])
        assert all(follows[one, other] for one, other in pairwise(ids))

    @pytest.mark.parametrize(
        "tags",
        [
            ["NN", "VBZ", "-LRB-", "-RRB-", ".", "NN-LOC", "O", "S-x"],
            ["PUNCT", "NOUN", "X"],
            ["O", "vitamin-B", "O", "vitamin-E", "O"],
            ["o", "b-cell", "t-cell", "o", "b-cell"],
            ["O", "VITAMIN_B", "O"],
            ["B", "E", "S"],
            ["O", "B"],
            ["O", "O"],
            ["I", "you", "he"],
            ["1", "2", "3"],
            ["O", "u-bahn", "s-bahn", "o"],
            ["I-NP", "I-VP"],
        ],
    )
    def test_tags_that_stand_for_themselves(self, tags):
        assert found_in([tags, tags]) is None

    @pytest.mark.parametrize(
        ("tags", "iob2"),
        [
            (["B", "I", "O", "B"], ["B-SPAN", "I-SPAN", "O", "B-SPAN"]),
            (["b", "i", "o", "b"], ["B-SPAN", "I-SPAN", "O", "B-SPAN"]),
            (["B", "M", "E", "S", "B", "E", "S", "S"], ["B", "I", "I", "B", "B", "I", "B", "B"]),
            (["B-PER-nam", "I-PER-nam", "O"], ["B-PER-nam", "I-PER-nam", "O"]),
            (["B-I-love", "I-I-love", "O"], ["B-I-love", "I-I-love", "O"]),
            (["I-PER", "O", "I-PER", "I-LOC"], ["B-PER", "O", "B-PER", "B-LOC"]),
            (["B_PER", "O", "B_LOC"], ["B-PER", "O", "B-LOC"]),
            (["B-NP", "I-NP", "B-VP"], ["B-NP", "I-NP", "B-VP"]),
        ],
    )
    def test_odd_forms(self, tags, iob2):
        found = found_in([tags])
        assert found is not None
        converted = found.to_iob2(tags)
        assert converted == iob2 or [tag.removesuffix("-SPAN") for tag in converted] == iob2

    @pytest.mark.parametrize("stray", ["PER", "B_PER", "b-PER", "o", "U-PER", "S-PER", "E-LOC", "B-", "-", "PER-B"])
    def test_a_tag_that_does_not_fit_the_others(self, stray):
        sentences = [["B-PER", "I-PER", "O", "B-LOC"]] * 9 + [[stray, "O"]]
        with pytest.raises(ValueError, match="does not fit the others, which are in IOB2 as 'B-LOC', 'B-PER', "):
            found_in(sentences)

    def test_a_scheme_can_be_named(self):
        assert str(found_in([["B-PER", "O"]], "iob1")) == "IOB1"
        assert str(found_in([["PER-B", "O"]], "iob2")) == "IOB2, written as TYPE-B"
        with pytest.raises(ValueError, match="does not fit the others"):
            found_in([["B-PER", "E-PER", "O"]], "iob2")
        with pytest.raises(ValueError, match="the tag 'NN' is none of BILOU: name another --tag_scheme"):
            found_in([["NN", "O"]], "bilou")


def save(path: Path, sentences: list[list[str]]) -> str:
    rows = [{"tokens": [f"w{i}" for i in range(len(tags))], "tags": tags} for tags in sentences]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def load(label_names=None, needed=("train", "validation"), **arguments):
    return load_corpus(DataArguments(**arguments), TAG, None, label_names, needed)


def tags_of(corpus, split: str) -> list[list[str]]:
    words = (word for name in corpus.splits for words in corpus.inputs(name) for word in words)
    tokenizer = train_tokenizer([list(words)], "word", min_frequency=1, is_split_into_words=True)
    rows = corpus.encode(tokenizer)[split]
    return [[corpus.label_names[label] for label in row["labels"] if label >= 0] for row in rows]


def many(scheme: str, how: str = "plain", seed: int = 0) -> tuple[list[list[str]], list[list[str]]]:
    """Random sentences in a scheme, and in IOB2."""
    source = random.Random(seed)
    spans = [[(source.choice([None, "PER", "LOC"]), source.randint(1, 3)) for _ in range(5)] for _ in range(20)]
    spans += TELLING
    return [written(encode(one, scheme), how) for one in spans], [encode(one, "iob2") for one in spans]


class TestCorpora:
    @pytest.mark.parametrize("how", ["plain", "suffix", "lower underscore"])
    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_a_corpus_is_brought_to_iob2(self, tmp_path, messages, scheme, how, streaming):
        tags, iob2 = many(scheme, how)
        train, other = save(tmp_path / "train.jsonl", tags), save(tmp_path / "other.jsonl", tags[:9])
        corpus = load(train_file=train, validation_file=other, test_file=other, streaming=streaming)
        assert corpus.label_names == ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"]
        assert tags_of(corpus, "train") == iob2
        assert tags_of(corpus, "validation") == tags_of(corpus, "test") == iob2[:9]
        assert corpus.tag_scheme.startswith(scheme.upper())
        (message,) = messages()
        assert message.startswith(f"{train}: the tags are in {scheme.upper()}")
        assert f"{len(get_entities([t for tags in iob2 for t in [*tags, 'O']]))} spans of 2 types." in message
        assert ("--tag_scheme none" in message) == ((scheme, how) != ("iob2", "plain"))

    def test_stray_marks_are_counted_and_begin_a_span(self, tmp_path, messages, streaming):
        sentences = [["B-PER", "I-PER", "O"]] * 5 + [["O", "I-PER", "I-PER"], ["B-LOC", "I-PER", "O"]]
        file = save(tmp_path / "a.jsonl", sentences)
        corpus = load(train_file=file, validation_file=file, streaming=streaming)
        assert tags_of(corpus, "train")[5:] == [["O", "B-PER", "I-PER"], ["B-LOC", "B-PER", "O"]]
        assert len(messages()) == 2
        assert "the tags are in IOB2: 8 spans of 2 types. 2 tags do not fit ('I-PER' after 'O')" in messages()[0]

    def test_a_validation_file_in_another_scheme(self, tmp_path, messages, streaming):
        (train, _), (other, iob2) = many("iob1"), many("bilou", "underscore", seed=1)
        files = {"train_file": save(tmp_path / "a.jsonl", train), "validation_file": save(tmp_path / "b.jsonl", other)}
        corpus = load(**files, streaming=streaming)
        assert tags_of(corpus, "validation") == iob2
        assert messages()[1].startswith(f"{files['validation_file']}: the tags are in BILOU, written as B_TYPE: ")

    def test_a_validation_file_without_evidence_is_read_as_the_training_data(self, tmp_path, streaming):
        train, _ = many("bilou", "suffix")
        other = save(tmp_path / "b.jsonl", [["PER-U", "O"]])
        corpus = load(train_file=save(tmp_path / "a.jsonl", train), validation_file=other, streaming=streaming)
        assert tags_of(corpus, "validation") == [["B-PER", "O"]]

    def test_unknown_types_of_validation_are_still_refused(self, tmp_path):
        train, _ = many("iob1")
        files = {"train_file": save(tmp_path / "a.jsonl", train)}
        files["validation_file"] = save(tmp_path / "b.jsonl", [["O", "I-ORG"], ["I-PER"]])
        with pytest.raises(ValueError, match=r"b\.jsonl, row 1: the label 'B-ORG' in column 'tags' is not among"):
            load(**files)
        corpus = load(**files, unseen_labels="count")
        assert corpus.unseen_names == ["B-ORG"]

    def test_tags_may_stay_as_they_are(self, tmp_path, messages, streaming):
        tags, _ = many("iob1")
        file = save(tmp_path / "a.jsonl", tags)
        corpus = load(train_file=file, validation_file=file, tag_scheme="none", streaming=streaming)
        assert tags_of(corpus, "train") == tags
        assert corpus.tag_scheme is None
        assert "tags stand where their names do not allow it, and will never be predicted there" in messages()[0]

    def test_a_scheme_can_be_named(self, tmp_path, streaming):
        file = save(tmp_path / "a.jsonl", [["VITAMIN-B", "O", "VITAMIN-E"]])
        corpus = load(train_file=file, validation_file=file, streaming=streaming)
        assert (corpus.label_names, corpus.tag_scheme) == (["O", "VITAMIN-B", "VITAMIN-E"], None)
        corpus = load(train_file=file, validation_file=file, tag_scheme="iobes", streaming=streaming)
        assert corpus.label_names == ["B-VITAMIN", "O"]

    def test_columns_with_named_numbers(self, tmp_path, streaming):
        names = ["O", "L-PER", "B-PER", "U-PER", "I-PER"]
        features = Features({"tokens": List(Value("string")), "tags": List(ClassLabel(names=names))})
        rows = {"tokens": [["a", "b", "c"], ["d", "e"]], "tags": [[2, 1, 0], [3, 0]]}
        Dataset.from_dict(rows, features).to_parquet(tmp_path / "a.parquet")
        file = str(tmp_path / "a.parquet")
        corpus = load(train_file=file, validation_file=file, streaming=streaming)
        assert tags_of(corpus, "train") == [["B-PER", "I-PER", "O"], ["B-PER", "O"]]

    def test_a_stray_tag_is_named_with_its_row(self, tmp_path, streaming):
        tags, _ = many("iob2")
        file = save(tmp_path / "a.jsonl", [*tags, ["O", "PER"]])
        with pytest.raises(ValueError, match=r"a\.jsonl, row 23: the tag 'PER' does not fit the others"):
            load(train_file=file, validation_file=file, streaming=streaming)

    def test_additional_labels_are_converted_too(self, tmp_path):
        tags, _ = many("bilou")
        file = save(tmp_path / "a.jsonl", tags)
        corpus = load(train_file=file, validation_file=file, additional_labels=["U-LST", "L-LST"])
        assert {"B-LST", "I-LST"} <= set(corpus.label_names)
        assert not {"U-LST", "L-LST"} & set(corpus.label_names)

    def test_bad_rows_are_named_as_ever(self, tmp_path, streaming):
        rows = [{"tokens": ["a", "b"], "tags": ["I-X", "O"]}, {"tokens": ["a", "b"], "tags": ["I-X", None]}]
        (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        with pytest.raises(ValueError, match=r"a\.jsonl, row 2: the word 'b' has no tag in column 'tags'\."):
            load(train_file=str(tmp_path / "a.jsonl"), streaming=streaming)

    @pytest.mark.parametrize("scheme", ["iob1", "bilou", "ioe2"])
    def test_a_trained_model_says_what_its_tags_are(self, tmp_path, scheme, streaming):
        tags, iob2 = many(scheme)
        options = {"test_file": save(tmp_path / "a.jsonl", tags), "needed": ("test",), "streaming": streaming}
        names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
        corpus = load(names, **options)
        assert tags_of(corpus, "test") == iob2
        plain = sorted({tag for one in tags for tag in one} | {"NN"})
        assert tags_of(load(plain, **options), "test") == tags
        with pytest.raises(ValueError, match=r"--tag_scheme iob1 is for models of spans in IOB2"):
            load(plain, **options, tag_scheme="iob1")
