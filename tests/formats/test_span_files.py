"""Files of annotated texts: recognised, read with what is said of them, written, trained on."""

import gzip
import json

import pytest
from datasets import Dataset

from rnn_hf.data.corpus import load_corpus
from rnn_hf.formats.arguments import DataArguments
from rnn_hf.formats.span_files import SpanSummary, find_span_file
from rnn_hf.formats.span_splits import is_of_spans

ANNA = {"id": 1, "text": "Anna lives in Oslo.", "label": [[0, 4, "PER"], [14, 18, "LOC"]], "note": "é"}
BOB = {"id": 2, "text": "Bob left.", "label": [[0, 3, "PER"]], "note": None}
NOBODY = {"id": 3, "text": "Nobody came.", "label": []}
ROWS = [ANNA, BOB, NOBODY]


def write_lines(path, rows):
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return str(path)


def write_list(path, rows):
    path.write_text(json.dumps(rows, ensure_ascii=False, indent=2), encoding="utf-8")
    return str(path)


def summary_of(file):
    found, summary = find_span_file(file), SpanSummary()
    for document in found.documents():
        summary.add(document)
    return summary.describe(found)


class TestFinding:
    @pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.ndjson", "a", "a.txt"])
    def test_by_its_content_whatever_its_name(self, tmp_path, name):
        file = find_span_file(write_lines(tmp_path / name, ROWS))
        assert (file.title, file.is_list) == ("doccano", False)
        assert [document.words for document in file.documents()][1] == ["Bob", "left", "."]

    def test_a_list_of_rows(self, tmp_path):
        file = find_span_file(write_list(tmp_path / "a.json", ROWS))
        assert file.is_list
        assert len(list(file.documents())) == 3

    def test_compressed_and_with_a_byte_order_mark(self, tmp_path):
        path = tmp_path / "a.jsonl.gz"
        path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + json.dumps(ANNA).encode()))
        assert len(list(find_span_file(str(path)).documents())) == 1

    def test_several_files_by_a_pattern(self, tmp_path):
        for number in range(3):
            write_lines(tmp_path / f"{number}.jsonl", ROWS)
        assert len(list(find_span_file(str(tmp_path / "*.jsonl")).documents())) == 9

    @pytest.mark.parametrize(
        "content",
        [
            "",
            "[]",
            "{",
            "[",
            '{"text": "a", "label": "b"}',
            '[{"text": "a", "label": "b"}]',
            "Anna\tB-PER\n",
            "text,label\na,b\n",
            '{"a": ' * 100_000,
            "\x00",
        ],
    )
    def test_other_files_are_left_to_the_other_readers(self, tmp_path, content):
        path = tmp_path / "a.json"
        path.write_text(content)
        assert find_span_file(str(path)) is None

    def test_what_is_not_there_or_elsewhere_too(self, tmp_path):
        for name in ("-", "", "nowhere.jsonl", "https://example.org/a.jsonl", str(tmp_path), "a\0b", "x" * 9000):
            assert find_span_file(name) is None

    def test_a_long_list_of_something_else_is_not_read_to_its_end(self, tmp_path):
        path = tmp_path / "a.json"
        path.write_text("[" + json.dumps({"tokens": ["a"] * 500_000, "tags": ["O"] * 500_000}) + ", {broken")
        assert find_span_file(str(path)) is None


class TestMessages:
    def test_one_says_what_the_file_holds(self, tmp_path):
        said = summary_of(write_lines(tmp_path / "a.jsonl", ROWS))
        assert said == (
            f"{tmp_path}/a.jsonl is read as an export of doccano: 3 texts with 3 spans of 2 labels ('LOC', 'PER')."
        )

    def test_and_counts_what_does_not_fit(self, tmp_path):
        odd = {"text": "Anna lives in Oslo.", "label": [[0, 3, "PER"], [0, 10, "X"], [5, 5, "X"], [0, 99, "X"]]}
        said = summary_of(write_lines(tmp_path / "a.jsonl", [odd, odd, ANNA]))
        assert said.endswith(
            "Of 10 spans, 2 overlap another one or are nested in it, and are left out: the longest are kept; 2 are "
            "empty, and are left out; 2 lie outside the text, and are left out."
        )

    def test_and_what_is_left_out(self, tmp_path):
        row = {"text": "Bob", "spans": [{"start": 0, "end": 3, "label": "PER"}]}
        rows = [row, row | {"answer": "reject"}, row | {"answer": "ignore"}]
        assert summary_of(write_lines(tmp_path / "a.jsonl", rows)).endswith(
            "1 texts with 1 spans of 1 labels ('PER'). Texts left out: 2 were rejected or ignored."
        )

    def test_of_several_annotators_the_first_counts(self, tmp_path):
        row = {
            "text": "Bob",
            "id": 1,
            "annotator": 1,
            "label": [{"start": 0, "end": 3, "text": "Bob", "labels": ["PER"]}],
        }
        said = summary_of(write_list(tmp_path / "a.json", [row, row | {"annotator": 2}, row | {"id": 2}]))
        assert said.endswith("Texts left out: 1 repeat a text for another annotator, of whom the first is taken.")
        row = {
            "text": "Bob",
            "_input_hash": 5,
            "_session_id": "ner-a",
            "spans": [{"start": 0, "end": 3, "label": "PER"}],
        }
        said = summary_of(write_lines(tmp_path / "b.jsonl", [row, row | {"_session_id": "ner-b"}]))
        assert "1 repeat a text" in said

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ("{broken", "line 2: Expecting property name"),
            ("[1]", r"row 2: a row must be an object, got \[1\]"),
            ('{"text": 3}', "row 2: 'text' must hold a text, got 3"),
            ('{"text": "a", "label": [["x"]]}', "row 2: 'label' must hold spans as in the other rows"),
            ('{"text": "a \\ud83d"}', r"row 2: The text holds the lone surrogate '\\ud83d'"),
        ],
    )
    def test_a_bad_row_is_named(self, tmp_path, line, reason):
        path = tmp_path / "a.jsonl"
        path.write_text(json.dumps(ANNA) + "\n" + line + "\n")
        with pytest.raises(ValueError, match=reason):
            load_corpus(DataArguments(train_file=str(path)), "token-classification")


class TestCorpus:
    def test_is_one_of_words_and_tags(self, tmp_path):
        file = write_lines(tmp_path / "a.jsonl", ROWS * 10)
        corpus = load_corpus(DataArguments(train_file=file), "token-classification")
        assert corpus.label_names == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
        assert sum(corpus.num_rows.values()) == 30

    @pytest.mark.parametrize("streaming", [False, True])
    def test_streamed_and_whole_are_the_same(self, tmp_path, streaming):
        file = write_lines(tmp_path / "a.jsonl", ROWS * 3)
        arguments = DataArguments(train_file=file, validation_file=file, test_file=file, streaming=streaming)
        corpus = load_corpus(arguments, "token-classification")
        assert corpus.num_rows == {"train": 9, "validation": 9, "test": 9}
        rows = list(corpus.splits["train"])
        assert rows[:2] == [
            {"tokens": ["Anna", "lives", "in", "Oslo", "."], "tags": [3, 0, 0, 1, 0]},
            {"tokens": ["Bob", "left", "."], "tags": [3, 0, 0]},
        ]
        assert len(rows) == 9
        assert is_of_spans(corpus.splits["train"])

    @pytest.mark.parametrize("streaming", [False, True])
    def test_its_parts_are_known_to_be_of_spans(self, tmp_path, streaming):
        file = write_lines(tmp_path / "a.jsonl", ROWS * 10)
        arguments = DataArguments(train_file=file, streaming=streaming, max_train_samples=25)
        corpus = load_corpus(arguments, "token-classification")
        assert all(map(is_of_spans, corpus.splits.values()))
        assert not is_of_spans(Dataset.from_dict({"tokens": [["a"]]}))

    def test_texts_that_no_one_annotated_are_left_out(self, tmp_path):
        (tmp_path / "a.txt").write_text("Anna lives.")
        (tmp_path / "a.ann").write_text("T1\tPER 0 4\tAnna\n")
        (tmp_path / "b.txt").write_text("Bob left.")
        (tmp_path / "b.ann").write_text("T1\tPER 0 3\tBob\n")
        arguments = DataArguments(train_file=str(tmp_path), validation_file=str(tmp_path / "b.ann"))
        assert load_corpus(arguments, "token-classification").num_rows == {"train": 2, "validation": 1}

    def test_a_label_of_validation_that_training_lacks_is_named(self, tmp_path):
        train_file = write_lines(tmp_path / "a.jsonl", [BOB, BOB])
        arguments = DataArguments(train_file=train_file, validation_file=write_lines(tmp_path / "b.jsonl", [ANNA]))
        with pytest.raises(ValueError, match=r"b\.jsonl.*the label 'B-LOC'.*is not among those of the training data"):
            load_corpus(arguments, "token-classification")

    def test_a_single_word_in_training_may_be_longer_in_validation(self, tmp_path):
        longer = {"text": "Bob Smith left.", "label": [[0, 9, "PER"]]}
        train_file = write_lines(tmp_path / "a.jsonl", [BOB, BOB])
        arguments = DataArguments(train_file=train_file, validation_file=write_lines(tmp_path / "b.jsonl", [longer]))
        assert load_corpus(arguments, "token-classification").label_names == ["O", "B-PER", "I-PER"]

    def test_a_file_without_annotations_cannot_be_learned_from(self, tmp_path):
        rows = [{"text": "Bob", "spans": [{"start": 0, "end": 3, "label": "PER"}], "answer": "reject"}]
        with pytest.raises(ValueError, match="holds no annotated text"):
            load_corpus(DataArguments(train_file=write_lines(tmp_path / "a.jsonl", rows)), "token-classification")

    def test_named_columns_say_that_it_is_something_else(self, tmp_path):
        row = {"words": ["Anna", "left"], "tags": ["B-PER", "O"], "text": "Anna left"}
        row |= {"spans": [{"start": 0, "end": 4, "label": "X"}]}
        arguments = DataArguments(train_file=write_lines(tmp_path / "a.jsonl", [row] * 20), tokens_column="words")
        assert load_corpus(arguments, "token-classification").label_names == ["B-PER", "O"]

    def test_a_classifier_reads_texts_and_labels(self, tmp_path):
        with pytest.raises(ValueError, match="must be a text or a number"):
            load_corpus(DataArguments(train_file=write_lines(tmp_path / "a.jsonl", ROWS)), "text-classification")


class TestWriting:
    def test_with_true_tags_nothing_changes(self, tmp_path):
        path = tmp_path / "a.jsonl"
        file = find_span_file(write_lines(path, ROWS))
        written = "".join(file.write((document, document.tags()) for document in file.documents()))
        assert written == path.read_text(encoding="utf-8")

    def test_an_empty_list_stays_one(self, tmp_path):
        file = find_span_file(write_list(tmp_path / "a.json", ROWS))
        assert "".join(file.write([])) == "[]\n"
