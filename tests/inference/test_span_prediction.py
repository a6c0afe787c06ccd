"""Spans that a tagger finds: in raw text, and in files of annotated texts, in their own form."""

import json

import pytest
from transformers import pipeline

from rnn_hf import RnnConfig, RnnForTokenClassification, train_tokenizer
from rnn_hf.commands.predict import main
from rnn_hf.formats.span_files import find_span_file
from rnn_hf.inference.predictor import predict
from rnn_hf.inference.span_prediction import predict_spans, tag_texts
from rnn_hf.training.options import parse_arguments
from rnn_hf.training.train import train

ANNA = {"id": 1, "text": "Anna lives in Oslo.", "label": [[0, 4, "PER"], [14, 18, "LOC"]], "note": "é"}
BOB = {"id": 2, "text": "Bob left.", "label": [[0, 3, "PER"]], "note": None}
ROWS = [ANNA, BOB, {"id": 3, "text": "", "label": []}]


def write_lines(path, rows):
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return str(path)


def write_list(path, rows):
    path.write_text(json.dumps(rows, ensure_ascii=False, indent=2), encoding="utf-8")
    return str(path)


def tagger(label="PER"):
    """A tagger for which each word is a span."""
    tokenizer = train_tokenizer([["Anna"]], kind="word", min_frequency=1, is_split_into_words=True)
    config = RnnConfig(vocab_size=len(tokenizer), hidden_size=4, embedding_size=4, id2label={0: f"B-{label}"})
    return RnnForTokenClassification(config).eval(), tokenizer


class TestFiles:
    @pytest.mark.parametrize("write", [write_lines, write_list])
    def test_the_file_comes_out_in_its_own_form(self, tmp_path, write):
        file = find_span_file(write(tmp_path / "a.json", ROWS))
        text = "".join(predict_spans(*tagger("X"), file))
        rows = json.loads(text) if write is write_list else [json.loads(line) for line in text.splitlines()]
        assert [{**row, "label": 0} for row in rows] == [{**row, "label": 0} for row in ROWS]
        assert rows[1]["label"] == [[0, 3, "X"], [4, 8, "X"], [8, 9, "X"]]
        assert "é" in text, "characters are not escaped"

    def test_texts_that_were_rejected_are_predicted_too(self, tmp_path):
        row = {"text": "Bob", "spans": [{"start": 0, "end": 3, "label": "PER"}], "answer": "reject"}
        file = find_span_file(write_lines(tmp_path / "a.jsonl", [row, row | {"spans": []}]))
        rows = [json.loads(line) for line in "".join(predict_spans(*tagger("X"), file)).splitlines()]
        assert [row["spans"][0]["label"] for row in rows] == ["X", "X"]

    def test_a_tagger_that_was_trained_on_spans_finds_them(self, tmp_path):
        """From an export to a model, to its pipeline on raw text, to predictions in the export's form."""
        names, places = ["Anna", "Bob", "Eva Lind", "O'Neill"], ["Oslo", "東京", "New York"]
        rows = []
        for name in names:
            for place in places:
                text = f"({name}) lives in {place}, now."
                start = text.index(place)
                rows.append({"text": text, "label": [[1, 1 + len(name), "PER"], [start, start + len(place), "LOC"]]})
        file = write_lines(tmp_path / "a.jsonl", rows)
        options = "--num_train_epochs 25 --hidden_size 24 --embedding_size 24 --min_frequency 1 --disable_tqdm true"
        options += " --early_stopping_patience 0 --learning_rate 0.01 --char_cnn false --per_device_train_batch_size 4"
        arguments = ["--train_file", file, "--validation_file", file, "--output_dir", str(tmp_path / "out")]
        train("token-classification", *parse_arguments("token-classification", "", arguments + options.split()))
        pipe = pipeline("token-classification", str(tmp_path / "out"), aggregation_strategy="simple")
        for row in rows:
            found = [[one["start"], one["end"], one["entity_group"]] for one in pipe(row["text"])]
            assert found == row["label"]
        written = "".join(predict_spans(pipe.model, pipe.tokenizer, find_span_file(file)))
        assert [json.loads(line) for line in written.splitlines()] == rows
        words = [document.words for document in find_span_file(file).documents()]
        assert [one["tokens"] for one in predict(pipe.model, pipe.tokenizer, words)] == words

    def brat(self, folder):
        (folder / "deep").mkdir(parents=True)
        for name, text in (("a", "Anna\r\nleft"), ("deep/b", "Bob")):
            (folder / f"{name}.txt").write_bytes(text.encode())
            (folder / f"{name}.ann").write_text("T7\tX 0 3\tBob\nA1\tSure T7\n" if name != "a" else "")
        return folder

    def test_texts_of_brat_go_into_a_folder(self, tmp_path):
        file = find_span_file(str(self.brat(tmp_path / "in")))
        assert list(predict_spans(*tagger("X"), file, output_dir=tmp_path / "out")) == []
        written = {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
        assert written == {
            "a.txt": b"Anna\r\nleft",
            "a.ann": b"T1\tX 0 4\tAnna\nT2\tX 6 10\tleft\n",
            "b.txt": b"Bob",
            "b.ann": b"T7\tX 0 3\tBob\nA1\tSure T7\n",
        }
        assert (tmp_path / "out" / "deep" / "b.ann").is_file()

    def test_one_text_of_brat_is_printed_too(self, tmp_path):
        file = find_span_file(str(self.brat(tmp_path) / "deep" / "b.txt"))
        assert list(predict_spans(*tagger("Y"), file)) == ["T8\tY 0 3\tBob\n"]

    def test_where_to_write_must_make_sense(self, tmp_path):
        folder = self.brat(tmp_path / "in")
        (tmp_path / "file").write_text("")
        brat, rows = find_span_file(str(folder)), find_span_file(write_lines(tmp_path / "a.jsonl", ROWS))
        for file, output_dir, reason in (
            (brat, None, "means 2 texts of brat: name a folder with --output_dir"),
            (brat, folder, "holds the texts themselves"),
            (brat, tmp_path / "file", "is a file: name a folder"),
            (rows, tmp_path / "out", "--output_dir is for texts that were annotated with brat"),
        ):
            with pytest.raises(ValueError, match=reason):
                list(predict_spans(*tagger(), file, output_dir=output_dir))


class TestRawText:
    def test_words_and_spans_have_their_places(self):
        (found,) = tag_texts(*tagger("X"), ["(Anna\u200b 😀)"])
        assert found["tokens"] == ["(", "Anna", "😀", ")"]
        assert [(one["start"], one["end"]) for one in found["spans"]] == [(0, 1), (1, 5), (7, 8), (8, 9)]

    def test_there_may_be_none(self):
        texts = ["", " ", "a"] * 2000
        assert [len(one["spans"]) for one in tag_texts(*tagger(), iter(texts))] == [0, 0, 1] * 2000


class TestCommand:
    @pytest.fixture
    def folder(self, tmp_path):
        model, tokenizer = tagger("X")
        model.save_pretrained(tmp_path / "model")
        tokenizer.save_pretrained(tmp_path / "model")
        return tmp_path / "model"

    def test_an_export_comes_out_as_one(self, folder, tmp_path, capsys):
        main([str(folder), write_lines(tmp_path / "a.jsonl", ROWS)])
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [row["label"] for row in rows] == [
            [[0, 4, "X"], [5, 10, "X"], [11, 13, "X"], [14, 18, "X"], [18, 19, "X"]],
            [[0, 3, "X"], [4, 8, "X"], [8, 9, "X"]],
            [],
        ]

    def test_or_as_words_and_tags_where_that_is_asked_for(self, folder, tmp_path, capsys):
        file = write_lines(tmp_path / "a.jsonl", ROWS)
        main([str(folder), file, "--output_format", "jsonl"])
        assert json.loads(capsys.readouterr().out.splitlines()[1])["tokens"] == ["Bob", "left", "."]
        main([str(folder), file, "--output_format", "table"])
        assert capsys.readouterr().out.startswith("Anna\tB-X\nlives\tB-X\n")

    def test_lines_of_raw_text_are_split_as_the_training_data(self, tmp_path, capsys):
        from rnn_hf.text.words import set_word_splitter

        model, tokenizer = tagger("X")
        set_word_splitter(tokenizer)
        model.save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        (tmp_path / "a.txt").write_text("(Anna) left.\n")
        main([str(tmp_path), str(tmp_path / "a.txt"), "--output_format", "jsonl"])
        row = json.loads(capsys.readouterr().out)
        assert row["tokens"] == ["(", "Anna", ")", "left", "."]
        assert row["spans"][1] == {"start": 1, "end": 5, "label": "X"}

    def test_an_output_folder_gets_the_spans_of_raw_text(self, tmp_path, capsys):
        from rnn_hf.text.words import set_word_splitter

        model, tokenizer = tagger("X")
        set_word_splitter(tokenizer)
        model.save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        (tmp_path / "a.txt").write_text("(Anna) left.\n")
        main([str(tmp_path), str(tmp_path / "a.txt"), "--output_format", "jsonl"])
        expected = json.loads(capsys.readouterr().out)
        main([str(tmp_path), str(tmp_path / "a.txt"), "--output_dir", str(tmp_path / "out"), "--num_workers", "1"])
        row = json.loads((tmp_path / "out" / "part-000000.jsonl").read_text())
        assert row == {"prediction": expected.pop("tags"), "error": None} | expected
