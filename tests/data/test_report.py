"""The report on a corpus: every number is what a plain count gives, and what is suspicious is said with its cure."""

import json
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from rnn_hf import train_tokenizer
from rnn_hf.data import report as report_module
from rnn_hf.data.corpus import DataArguments, load_corpus
from rnn_hf.data.report import DataReport, Lengths, report_on
from rnn_hf.data.report_table import print_report, warnings_of

CLASSIFIER, TAGGER = "text-classification", "token-classification"


@pytest.fixture
def load(tmp_path):
    """Write rows of splits as JSON lines, and load them."""

    def load(task=CLASSIFIER, problem_type=None, options=None, **splits):
        files = {}
        for name, rows in splits.items():
            path = tmp_path / f"{name}.jsonl"
            path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
            files[f"{name}_file"] = str(path)
        arguments = DataArguments(**files, **(options or {}))
        return load_corpus(arguments, task, problem_type), arguments

    return load


def texts(*pairs) -> list[dict]:
    return [{"text": text, "label": label} for text, label in pairs]


def sentences(*pairs) -> list[dict]:
    return [{"tokens": words.split(), "tags": tags.split()} for words, tags in pairs]


def varied(count: int, start: int = 0) -> list[dict]:
    """Make texts of 20 characters and more that differ from each other."""
    return texts(*((f"this is the text of number {index}", "ab"[index % 2]) for index in range(start, start + count)))


@pytest.mark.parametrize("seed", range(5))
def test_lengths_are_percentiles(seed):
    lengths = [random.Random(seed * 100 + index).randrange(30) for index in range(seed * 7 + 1)]
    found = Lengths.of(Counter(lengths))
    median, most = (int(np.percentile(lengths, share, method="inverted_cdf")) for share in (50, 95))
    assert found == Lengths(median, most, max(lengths))


class TestRepeatedTexts:
    ROWS = texts(
        ("Good film", "pos"),
        ("good  FILM ", "pos"),
        ("bad film", "neg"),
        ("\uff42ad film", "pos"),
        ("Bad film", "neg"),
        ("another", "neg"),
        ("another one", "pos"),
    )

    def test_are_counted_whatever_their_case_white_space_and_width(self, load):
        corpus, _ = load(train=self.ROWS, validation=texts(("GOOD film", "neg"), ("new", "pos")), test=self.ROWS[:1])
        report = report_on(corpus)
        train, validation, test = report.splits.values()
        assert (train.num_repeated, train.num_contradicting, train.num_in_training) == (3, 2, None)
        assert (validation.num_repeated, validation.num_in_training, test.num_in_training) == (0, 1, 1)

    @pytest.mark.parametrize("seed", range(3))
    def test_are_those_of_a_plain_count(self, seed, load):
        draw = random.Random(seed)
        rows = texts(*((f"text {draw.randrange(30)}", draw.choice("abc")) for _ in range(60)))
        train = report_on(load(train=rows, validation=rows[:9])[0]).splits["train"]
        labels: dict[str, set[str]] = {}
        for row in rows:
            labels.setdefault(row["text"], set()).add(row["label"])
        counts = Counter(row["text"] for row in rows)
        assert train.num_repeated == sum(count - 1 for count in counts.values())
        assert train.num_contradicting == sum(counts[text] - 1 for text, found in labels.items() if len(found) > 1)

    def test_of_several_labels_do_not_contradict_in_another_order(self, load):
        rows = [{"text": "a", "label": ["x", "y"]}, {"text": "a", "label": ["y", "x"]}, {"text": "b", "label": ["x"]}]
        report = report_on(load(train=rows, validation=rows)[0])
        assert report.problem_type == "multi_label_classification"
        assert (report.splits["train"].num_repeated, report.splits["train"].num_contradicting) == (1, 0)
        assert report.splits["train"].labels == {"x": 3, "y": 2}

    def test_of_taggers_are_sentences(self, load):
        rows = sentences(("to be", "A B"), ("to be", "A A"), ("tobe", "B"))
        report = report_on(load(TAGGER, train=rows, validation=rows[:1])[0])
        assert (report.splits["train"].num_repeated, report.splits["train"].num_contradicting) == (1, 1)

    def test_empty_ones_are_none(self, load):
        rows = texts(("", "a"), (" ", "b"), ("x", "a"))
        corpus, _ = load(train=rows, validation=rows, options={"allow_empty_text": True})
        report = report_on(corpus)
        assert (report.splits["train"].num_empty, report.splits["train"].num_repeated) == (2, 0)
        assert report.splits["validation"].num_in_training == 1


class TestLabels:
    def test_of_a_classifier(self, load):
        rows = texts(*((f"text {index}", label) for index, label in enumerate("aaabbc")))
        corpus, _ = load(train=rows, validation=rows[:1], options={"additional_labels": ["d"]})
        report = report_on(corpus)
        assert report.splits["train"].labels == {"a": 3, "b": 2, "c": 1}
        assert (report.labels_with(1), report.labels_with(0), report.held_out_only()) == (["c"], ["d"], [])
        assert report.to_dict()["labels"] == {
            "number": 4,
            "most_frequent": 3,
            "least_frequent": 0,
            "with_one_row": 1,
            "without_rows": 1,
        }

    def test_that_are_rare_are_named(self, load, capsys):
        rows = texts(*((f"text {index}", f"label {max(index - 3, 0)}") for index in range(10)))
        print_report(report_on(load(train=rows, validation=rows, options={"additional_labels": ["more"]})[0]))
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Labels: 8; ")]
        assert "Only once: 'label 1', 'label 2', 'label 3', … (6 in all). Not in the training data: 'more'." in line

    def test_of_tags_that_mark_spans_are_types(self, load):
        rows = sentences(("A B lives in C D", "I-PER I-PER O O I-LOC B-LOC"), ("E F", "I-LOC I-LOC")) * 3
        report = report_on(load(TAGGER, train=rows, validation=rows)[0])
        assert report.tag_scheme == "IOB1"
        assert sorted(report.label_names) == ["LOC", "PER"]
        assert report.splits["train"].labels == {"PER": 3, "LOC": 9}

    def test_of_other_tags_are_tags(self, load):
        rows = sentences(("to be", "PART VERB"), ("be", "VERB"))
        report = report_on(load(TAGGER, train=rows, validation=rows)[0])
        assert report.tag_scheme is None
        assert report.splits["train"].labels == {"PART": 1, "VERB": 2}

    def test_of_a_regression_are_numbers(self, load, capsys):
        report = report_on(load(train=texts(("a", 1.0), ("b", 4.0), ("b", 2.5)), validation=texts(("a", 0.0)))[0])
        assert (report.label_names, report.splits["train"].numbers) == ([], (1.0, 2.5, 4.0))
        assert report.splits["train"].num_contradicting == 1
        assert not warnings_of(report)
        assert "labels" not in report.to_dict()
        print_report(report)
        assert "Numbers in the training data: 1 to 4, 2.5 on average." in capsys.readouterr().out

    def test_that_only_held_out_rows_have_are_named(self, load, caplog):
        rows = sentences(*((f"word{index} x", f"T{index} X") for index in range(20)))
        report = report_on(load(TAGGER, train=rows)[0])
        assert len(report.held_out_only()) == 4
        (warning,) = warnings_of(report)
        assert warning.startswith("The training data lacks labels that were held out of it: 'T")
        assert "--validation_file" in warning

    def test_numbers_are_few_for_thousands(self, load, capsys):
        rows = texts(*((f"text {index}", f"label {index % 5000}") for index in range(10000)))
        report = report_on(load(train=rows, validation=rows[:5])[0])
        assert len(json.dumps(report.to_dict())) < 2000
        print_report(report)
        out = capsys.readouterr().out
        assert "Labels: 5,000; most often label 0 2" in out
        assert len(out.splitlines()) <= 25


class TestTokens:
    @pytest.mark.parametrize("streaming", [False, True])
    def test_are_counted(self, streaming, load):
        rows = texts(("a b c d", "x"), ("a b", "y"), ("c d d", "x"))
        corpus, arguments = load(train=rows, validation=rows[1:], options={"streaming": streaming})
        tokenizer = train_tokenizer(["a a b b"], kind="word")
        encoded = corpus.encode(tokenizer)
        report = report_on(corpus, arguments, tokenizer, encoded)
        train = report.splits["train"]
        lengths = [len(row["input_ids"]) for row in encoded["train"]]
        assert train.tokens == Lengths(4, 5, max(lengths)) == Lengths(4, 5, 5)
        assert train.unknown_tokens == pytest.approx(5 / 9)
        assert report.splits["validation"].unknown_tokens == pytest.approx(3 / 5)

    def test_that_are_cut_are_counted(self, load):
        rows = texts(("a b a b a b", "x"), ("a b", "y"))
        corpus, arguments = load(train=rows, validation=rows, options={"max_seq_length": 5})
        tokenizer = train_tokenizer(["a a b b"], kind="word")
        report = report_on(corpus, arguments, tokenizer, corpus.encode(tokenizer, 5))
        assert (report.splits["train"].num_cut, report.splits["train"].tokens.longest) == (1, 5)
        (warning,) = warnings_of(report)
        assert warning == "50% of the training texts are cut: a higher --max_seq_length reads more of them."

    def test_words_that_a_tagger_has_not_seen(self, load):
        train, test = sentences(("to be", "A B")), sentences(("to be or not", "A B A A"))
        report = report_on(load(TAGGER, train=train, validation=train, test=test)[0])
        assert [split.unseen_words for split in report.splits.values()] == [None, 0.0, 0.5]


class TestExamples:
    def test_are_what_the_model_reads(self, load):
        corpus, _ = load(train=texts(("a good film", "pos"), ("a bad film", "neg")), validation=texts(("a", "pos")))
        assert report_on(corpus).examples == [("a good film", "pos"), ("a bad film", "neg")]
        tokenizer = train_tokenizer(["a film a film go go"], kind="wordpiece", vocab_size=30)
        (example, label), _ = report_on(corpus, None, tokenizer).examples
        ids = tokenizer("a good film")["input_ids"]
        assert (example.split(), label) == (tokenizer.convert_ids_to_tokens(ids), "pos")

    def test_of_taggers_have_a_tag_at_the_first_token_of_a_word(self, load):
        corpus, _ = load(TAGGER, train=sentences(("go Oslo", "O B-LOC")) * 2, validation=sentences(("go", "O")))
        assert report_on(corpus).examples[0] == ("go/O Oslo/B-LOC", "")
        tokenizer = train_tokenizer(
            [["go", "go", "lo", "Os"]], kind="wordpiece", is_split_into_words=True, vocab_size=20
        )
        tokens = report_on(corpus, None, tokenizer).examples[0][0].split()
        assert next(token for token in tokens if "/" in token and not token.startswith("<")) == "go/O"
        assert sum("/O" in token or "/B-LOC" in token for token in tokens) == 2

    def test_of_bytes_can_be_read(self, load):
        corpus, _ = load(train=texts(("東京 東京", "a"), ("x", "b")), validation=texts(("x", "a")))
        tokenizer = train_tokenizer(["東京 東京 東京"], kind="bpe", vocab_size=400)
        assert "東京" in report_on(corpus, None, tokenizer).examples[0][0]

    def test_are_shortened(self, load, capsys):
        rows = texts(("word " * 5000, "a"), ("w" * 5000, "b"))
        corpus, _ = load(train=rows, validation=rows)
        report = report_on(corpus)
        assert report.examples[0] == ("word " * 15 + "word …", "a")
        print_report(report)
        assert max(map(len, capsys.readouterr().out.splitlines())) < 300

    @pytest.mark.parametrize("kind", [None, "word", "bpe"])
    def test_hold_no_secrets(self, kind, load):
        secret = "hf_" + "abcdefgh" * 4
        rows = texts((f"log in with {secret} here", "a"), ("say sesame-1234 now", "b"))
        corpus, _ = load(train=rows, validation=rows)
        tokenizer = None if kind is None else train_tokenizer([row["text"] for row in rows] * 2, kind=kind)
        shown = "".join(
            "".join(text.split())
            for text, _ in report_on(corpus, None, tokenizer, None, True, {"sesame-1234"}).examples
        )
        assert "abcdefgh" not in shown
        assert "1234" not in shown

    def test_of_taggers_hold_none_over_several_words(self, load):
        rows = sentences(("my password = hunter22 ok", "A A B A A"))
        corpus, _ = load(TAGGER, train=rows, validation=rows)
        assert report_on(corpus).examples[0][0] == "my/A password/A =/B …/A ok/A"

    def test_are_left_out_where_data_is_private(self, load, capsys):
        corpus, _ = load(train=varied(4), validation=varied(2))
        report = report_on(corpus, has_examples=False)
        assert report.examples == []
        print_report(report)
        assert "this is the text" not in capsys.readouterr().out

    def test_and_names_move_no_cursor(self, load, capsys):
        rows = texts(("\x1b[2Jred [b]bold[/b]", "\x1b[1mlabel"), ("x", "[red]y"))
        print_report(report_on(load(train=rows, validation=rows)[0]))
        out = capsys.readouterr().out
        assert "\x1b" not in out
        assert "[b]bold[/b]" in out
        assert "[red]y 1" in out


class TestWarnings:
    def test_there_are_none_without_a_reason(self, load):
        assert warnings_of(report_on(load(train=varied(40))[0])) == []

    def test_of_texts_that_are_in_training_too(self, load):
        corpus, _ = load(train=varied(50), validation=varied(10, start=48), test=varied(10, start=50))
        (warning,) = warnings_of(report_on(corpus))
        assert warning == (
            "2 validation texts of 20 characters or more (20.0%) are in the training data too, so that scores on them "
            "are too good: remove them from one of the two, or name another --validation_file."
        )

    def test_of_rows_that_were_held_out_of_copies(self, load):
        warnings = warnings_of(report_on(load(train=varied(10) * 10)[0]))
        assert [re.match(r"\d+ (\w+) texts", warning)[1] for warning in warnings] == ["validation", "test"]
        assert "remove texts that are there twice from --train_file, or name other --test_file" in warnings[1]

    def test_not_of_short_texts(self, load):
        rows = texts(("good", "a"), ("bad", "b")) + varied(20)
        report = report_on(load(train=rows, validation=rows[:2])[0])
        assert report.splits["validation"].num_in_training == 2
        assert warnings_of(report) == []

    def test_of_labels_that_contradict_each_other(self, load):
        rows = varied(20) + [{"text": "the same text", "label": label} for label in "ab"]
        (warning,) = warnings_of(report_on(load(train=rows, validation=varied(5, start=90))[0]))
        assert warning.startswith("1 training texts (4.5%) are there before with other labels: correct them, or name")
        assert "--label_column" in warning

    def test_of_columns_of_numbers_and_of_nothing(self, load):
        rows = texts(*((str(index), "ab"[index % 2]) for index in range(10)))
        (warning,) = warnings_of(report_on(load(train=rows, validation=rows[:0] or varied(3))[0]))
        assert "holds numbers in 100% of the rows" in warning
        assert "--text_column" in warning
        rows = texts(*(("", "ab"[index % 2]) for index in range(9)), ("x", "a"))
        corpus, _ = load(train=rows, validation=varied(3), options={"allow_empty_text": True})
        (warning,) = warnings_of(report_on(corpus))
        assert "is empty in 90% of the rows" in warning

    def test_of_validation_tokens_that_are_unknown(self, load):
        corpus, arguments = load(train=texts(("a b", "x"), ("b a", "y")), validation=texts(("c d a", "x")))
        tokenizer = train_tokenizer(["a a b b"], kind="word")
        (warning,) = warnings_of(report_on(corpus, arguments, tokenizer, corpus.encode(tokenizer)))
        assert warning.startswith(
            "67% of the validation tokens are unknown to the tokenizer, of the training tokens 0%"
        )
        assert "--tokenizer_kind" in warning


class TestBounds:
    @pytest.mark.parametrize("streaming", [False, True])
    def test_the_first_rows_are_read_and_it_is_said(self, streaming, load, monkeypatch, capsys):
        monkeypatch.setattr(report_module, "MOST_ROWS", 7)
        corpus, _ = load(train=varied(10), validation=varied(3), options={"streaming": streaming})
        report = report_on(corpus)
        assert [(split.num_rows, split.num_read) for split in report.splits.values()] == [(10, 7), (3, 3)]
        assert report.is_partial
        print_report(report)
        assert re.search(r"looked at, the first +│ 7 +│ 3 ", capsys.readouterr().out)

    def test_of_tokens_of_streams(self, load, monkeypatch, capsys):
        monkeypatch.setattr(report_module, "_NUM_STREAMED", 3)
        corpus, arguments = load(train=varied(10), validation=varied(4), options={"streaming": True})
        tokenizer = train_tokenizer(corpus.inputs("train"))
        report = report_on(corpus, arguments, tokenizer, corpus.encode(tokenizer))
        assert [split.num_encoded for split in report.splits.values()] == [3, 4]
        print_report(report)
        assert re.search(r"tokens of the first +│ 3 +│ 4 ", capsys.readouterr().out)

    def test_a_stream_gives_the_same(self, load):
        reports = []
        for streaming in (False, True):
            corpus, arguments = load(train=varied(30), validation=varied(5), options={"streaming": streaming})
            reports.append(report_on(corpus, arguments))
        assert reports[0] == reports[1]

    def test_of_words_that_are_remembered(self, load, monkeypatch):
        monkeypatch.setattr(report_module, "_MOST_WORDS", 2)
        rows = sentences(("to be or not", "A B A A"))
        report = report_on(load(TAGGER, train=rows, validation=rows)[0])
        assert report.splits["validation"].unseen_words is None


def test_numbers_alone_are_recorded(load):
    report = report_on(load(train=varied(10), validation=varied(5))[0])

    def leaves(value):
        return (
            [leaf for one in (value.values() if isinstance(value, dict) else value) for leaf in leaves(one)]
            if isinstance(value, dict | list)
            else [value]
        )

    found = report.to_dict()
    assert {type(leaf) for leaf in leaves(found)} <= {int, float}
    assert found["splits"]["train"]["words"] == [7, 7, 7]
    assert found == json.loads(json.dumps(found))


class TestTable:
    def test_says_what_was_read(self, load, capsys):
        corpus, arguments = load(train=varied(20), test=varied(3, start=20))
        print_report(report_on(corpus, arguments))
        out = capsys.readouterr().out
        assert re.search(r"from +│ train.jsonl +│ held out +│ test.jsonl", out)
        assert re.search(r"format +│ json +│ +│ json", out)
        assert re.search(r"texts +│ 18 +│ 2 +│ 3 ", out)
        assert "Columns: 'text', 'label'. Input: 'text', label: 'label'." in out
        assert len(out.splitlines()) <= 25

    def test_names_columns_that_are_labels(self, tmp_path, capsys):
        rows = [{"text": f"a text {index}", "good": index % 2, "bad": 1 - index % 2} for index in range(20)]
        Dataset.from_list(rows).to_parquet(tmp_path / "a.parquet")
        arguments = DataArguments(train_file=str(tmp_path / "a.parquet"), label_columns=["good", "bad"])
        print_report(report_on(load_corpus(arguments, CLASSIFIER), arguments))
        assert "Input: 'text', label: 'good', 'bad'." in capsys.readouterr().out

    def test_of_annotated_texts(self, tmp_path, capsys):
        file = Path(tmp_path, "a.jsonl")
        row = {"text": "Anna lives in Oslo.", "label": [[0, 4, "PER"], [14, 18, "LOC"]]}
        file.write_text((json.dumps(row) + "\n") * 20, encoding="utf-8")
        arguments = DataArguments(train_file=str(file))
        report = report_on(load_corpus(arguments, TAGGER), arguments)
        assert isinstance(report, DataReport)
        assert report.formats == {"train": "annotated spans"}
        assert report.splits["train"].labels == {"PER": 16, "LOC": 16}
