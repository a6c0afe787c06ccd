"""Labels in the forms that people write them in: real-looking files, and what must come of them."""

import csv
import io
import json
from pathlib import Path

import pytest

from rnn_hf import train_tokenizer
from rnn_hf.cli import main
from rnn_hf.data.corpus import DataArguments, load_corpus
from rnn_hf.formats.label_texts import joined_labels, parse_list, read_label_names

CLASSIFY = "text-classification"


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["text 1 2 3"], "bpe", vocab_size=300)


def jsonl(path: Path, labels, column="label") -> str:
    rows = [{"text": f"text {row}", column: label} for row, label in enumerate(labels)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def table(path: Path, labels, header="text,label") -> str:
    path.write_text(header + "\n" + "".join(f"text {row},{label}\n" for row, label in enumerate(labels)), "utf-8")
    return str(path)


def load(file, *, problem_type=None, label_names=None, needed=("train", "validation"), test_file=None, **arguments):
    files = {"train_file": file, "validation_file": file} if label_names is None else {"test_file": file}
    if test_file is not None:
        files["test_file"] = test_file
    return load_corpus(DataArguments(**files, **arguments), CLASSIFY, problem_type, label_names, needed)


def evaluate(file, label_names, problem_type, **arguments):
    return load(file, label_names=label_names, problem_type=problem_type, needed=("test",), **arguments)


def encoded(corpus, tokenizer, split="train"):
    return [row["labels"] for row in corpus.encode(tokenizer)[split]]


def refusal(file, **arguments) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        load(file, **arguments)
    return str(error.value)


class TestAColumnCalledLabels:
    @pytest.mark.parametrize("column", ["labels", "input_ids", "auxiliary_tags"])
    @pytest.mark.parametrize(
        ("labels", "expected"),
        [
            (["spam", "ham", "spam"], [1, 0, 1]),
            ([2, 0, 1], [2, 0, 1]),
            ([0.5, 2.0, 1.25], [0.5, 2.0, 1.25]),
            ([["b"], [], ["a", "b"]], [[0.0, 1.0], [0.0, 0.0], [1.0, 1.0]]),
        ],
        ids=["texts", "integers", "floats", "lists"],
    )
    def test_is_read_as_label_is(self, tmp_path, tokenizer, labels, expected, column, streaming):
        corpus = load(jsonl(tmp_path / "a.jsonl", labels, column), label_column=column, streaming=streaming)
        assert encoded(corpus, tokenizer) == encoded(corpus, tokenizer, "validation") == expected

    def test_integers_of_a_regression(self, tmp_path, tokenizer, streaming):
        file = jsonl(tmp_path / "a.jsonl", [3, 1, 2], "labels")
        corpus = load(file, problem_type="regression", streaming=streaming)
        assert encoded(corpus, tokenizer) == [3.0, 1.0, 2.0]
        assert all(isinstance(label, float) for label in encoded(corpus, tokenizer))


class TestOneHot:
    ROWS = ([1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0])

    @pytest.mark.parametrize("as_type", [int, float, bool])
    def test_by_number(self, tmp_path, tokenizer, messages, as_type, streaming):
        labels = [[as_type(flag) for flag in row] for row in self.ROWS]
        corpus = load(jsonl(tmp_path / "a.jsonl", labels), streaming=streaming)
        assert corpus.problem_type == "multi_label_classification"
        assert corpus.label_names == ["0", "1", "2", "3"]
        assert encoded(corpus, tokenizer) == [list(map(float, row)) for row in self.ROWS]
        assert "holds a 0 or 1 for each of 4 labels, named by their number: --label_names" in messages()[0]

    def test_names_keep_their_order(self, tmp_path, tokenizer, streaming):
        file = jsonl(tmp_path / "a.jsonl", self.ROWS)
        names = ["toxic", "obscene", "threat", "insult"]
        corpus = load_corpus(
            DataArguments(train_file=file, validation_file=file, label_names=names, streaming=streaming), CLASSIFY
        )
        assert corpus.label_names == names
        assert encoded(corpus, tokenizer) == [list(map(float, row)) for row in self.ROWS]

    def test_as_text_in_a_csv_file(self, tmp_path, tokenizer, streaming):
        file = table(tmp_path / "a.csv", ['"[1, 0, 1]"', '"[0, 0, 1]"', "[0 1 0]"])
        corpus = load(file, streaming=streaming)
        assert encoded(corpus, tokenizer) == [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]

    def test_of_a_label_that_no_row_has(self, tmp_path, tokenizer):
        corpus = load(jsonl(tmp_path / "a.jsonl", [[1, 0, 0], [0, 1, 0]]))
        assert corpus.label_names == ["0", "1", "2"]
        assert encoded(corpus, tokenizer) == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]

    @pytest.mark.parametrize(
        ("labels", "names"),
        [
            ([[0], [1], [0]], ["0", "1"]),
            ([[0, 1], [2], [1]], ["0", "1", "2"]),
            ([[0, 1], [1, 2], [0, 2]], ["0", "1", "2"]),
            ([[0], [0, 1], []], ["0", "1"]),
        ],
    )
    def test_lists_of_numbers_of_labels_are_none(self, tmp_path, tokenizer, labels, names, streaming):
        corpus = load(jsonl(tmp_path / "a.jsonl", labels), streaming=streaming)
        assert corpus.label_names == names
        assert encoded(corpus, tokenizer) == [[float(int(name) in row) for name in names] for row in labels]

    def test_of_a_trained_model(self, tmp_path, tokenizer, streaming):
        file = jsonl(tmp_path / "a.jsonl", [[1, 0, 1], [0, 0, 0]])
        corpus = evaluate(file, ["x", "y", "z"], "multi_label_classification", streaming=streaming)
        assert encoded(corpus, tokenizer, "test") == [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]

    def test_another_length_in_validation_is_refused(self, tmp_path, streaming):
        train, other = jsonl(tmp_path / "a.jsonl", self.ROWS), jsonl(tmp_path / "b.jsonl", [[1, 0, 0, 1], [1, 0]])
        with pytest.raises(ValueError, match=r"b.jsonl, row 2: column 'label' holds a list of 2, but there are 4"):
            load_corpus(DataArguments(train_file=train, validation_file=other, streaming=streaming), CLASSIFY)

    def test_names_of_another_number_are_refused(self, tmp_path):
        file = jsonl(tmp_path / "a.jsonl", self.ROWS)
        arguments = DataArguments(train_file=file, validation_file=file, label_names=["a", "b"])
        with pytest.raises(ValueError, match=r"row 1: column 'label' holds a list of 4, but there are 2 labels"):
            load_corpus(arguments, CLASSIFY)


class TestNamesOfIntegers:
    def load(self, file, names, **arguments):
        return load_corpus(
            DataArguments(train_file=file, validation_file=file, label_names=names, **arguments), CLASSIFY
        )

    @pytest.mark.parametrize("make", [jsonl, table])
    def test_in_their_order(self, tmp_path, tokenizer, make, streaming):
        file = make(tmp_path / ("a.csv" if make is table else "a.jsonl"), [2, 0, 2])
        corpus = self.load(file, ["world", "sports", "business"], streaming=streaming)
        assert corpus.label_names == ["world", "sports", "business"]
        assert encoded(corpus, tokenizer) == [2, 0, 2]

    def test_in_lists(self, tmp_path, tokenizer, streaming):
        corpus = self.load(jsonl(tmp_path / "a.jsonl", [[2], [0, 1], [0, 2]]), ["z", "y", "x"], streaming=streaming)
        assert corpus.label_names == ["z", "y", "x"]
        assert encoded(corpus, tokenizer) == [[0.0, 0.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 1.0]]

    def test_in_a_file(self, tmp_path):
        (tmp_path / "names.txt").write_text("\ufeffworld\r\nsports and more\r\n", "utf-8", newline="")
        file = jsonl(tmp_path / "a.jsonl", [1, 0])
        assert self.load(file, [str(tmp_path / "names.txt")]).label_names == ["world", "sports and more"]

    def test_of_test_data_of_a_trained_model(self, tmp_path, tokenizer):
        file = jsonl(tmp_path / "a.jsonl", [1, 0])
        arguments = DataArguments(test_file=file, label_names=["ham", "spam"])
        corpus = load_corpus(arguments, CLASSIFY, "single_label_classification", ["spam", "ham"], ("test",))
        assert encoded(corpus, tokenizer, "test") == [0, 1]

    @pytest.mark.parametrize("label", [3, -1, "ham", True, 0.5])
    def test_others_are_refused(self, tmp_path, label, streaming):
        file = jsonl(tmp_path / "a.jsonl", [0, 1, label] if not isinstance(label, str) else ["0", "1", label])
        if isinstance(label, bool):
            file = jsonl(tmp_path / "a.jsonl", [True, False])
        with pytest.raises(ValueError, match=r"row \d: column 'label' holds .*, but --label_names names the whole"):
            self.load(file, ["a", "b", "c"], streaming=streaming)

    @pytest.mark.parametrize(
        ("names", "fault"),
        [
            (["a", "b", "a"], "'a' is named twice"),
            (["a", " "], "' ' is empty"),
            (["nosuch.txt"], "nosuch.txt is no file"),
        ],
    )
    def test_names_that_are_none(self, names, fault):
        with pytest.raises(ValueError, match=f"--label_names: {fault}"):
            read_label_names(names)


class TestSeveralLabelsInCsv:
    EXPECTED = ([1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0])

    def test_with_a_separator(self, tmp_path, tokenizer, streaming):
        file = table(tmp_path / "a.csv", ["sports# short", "long", "", "short"])
        corpus = load(file, label_separator="#", streaming=streaming)
        assert corpus.label_names == ["long", "short", "sports"]
        assert corpus.problem_type == "multi_label_classification"
        assert encoded(corpus, tokenizer) == [[0, 1, 1], [1, 0, 0], [0, 0, 0], [0, 1, 0]]

    def test_one_label_in_all_rows_is_still_multi_label(self, tmp_path):
        corpus = load(table(tmp_path / "a.csv", ["a", "b", "a"]), label_separator=";")
        assert corpus.problem_type == "multi_label_classification"

    @pytest.mark.parametrize(
        "labels",
        [
            ["\"['a', 'c']\"", "['b']", "[]", "['a']"],
            ['"[""a"", ""c""]"', '"[""b""]"', "[]", '"[""a""]"'],
            ["['a' 'c']", "['b']", "[]", "['a']"],
            ["\"('a', 'c')\"", "\"('b',)\"", "()", "\"{'a'}\""],
        ],
        ids=["python", "json", "numpy", "tuples"],
    )
    def test_as_a_list_in_a_text(self, tmp_path, tokenizer, labels, streaming):
        corpus = load(table(tmp_path / "a.csv", labels), streaming=streaming)
        assert corpus.label_names == ["a", "b", "c"]
        assert encoded(corpus, tokenizer) == list(self.EXPECTED)

    def test_a_row_that_is_no_list_is_named(self, tmp_path, streaming):
        file = table(tmp_path / "a.csv", ["['a']", "['b']", "a and b"])
        message = refusal(file, streaming=streaming)
        assert message.startswith(f"{file}, row 3: column 'label' holds 'a and b', but lists of labels in the rows be")

    @pytest.mark.parametrize("flags", [("0", "1"), ("0.0", "1.0"), ("False", "True"), ("false", "true")])
    def test_as_columns(self, tmp_path, tokenizer, flags, streaming):
        file = tmp_path / "a.csv"
        lines = [
            ",".join([f"text {row}", *(flags[int(flag)] for flag in one)]) for row, one in enumerate(self.EXPECTED)
        ]
        file.write_text("\n".join(["comment_text,z,y,x", *lines]) + "\n", "utf-8")
        corpus = load(str(file), label_columns=["z", "y", "x"], streaming=streaming)
        assert corpus.label_names == ["z", "y", "x"]
        assert (corpus.input_column, corpus.problem_type) == ("comment_text", "multi_label_classification")
        assert encoded(corpus, tokenizer) == list(self.EXPECTED)

    def test_as_columns_of_json(self, tmp_path, tokenizer, streaming):
        rows = [{"text": "a", "joy": 1, "fear": 0, "label": "x"}, {"text": "b", "joy": 1, "fear": 1, "label": "y"}]
        (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        corpus = load(str(tmp_path / "a.jsonl"), label_columns=["joy", "fear"], streaming=streaming)
        assert encoded(corpus, tokenizer) == [[1.0, 0.0], [1.0, 1.0]]

    @pytest.mark.parametrize("value", ["2", "", "yes"])
    def test_what_is_neither_0_nor_1_is_named(self, tmp_path, value, streaming):
        file = table(tmp_path / "a.csv", ["0,1", f"1,{value}"], "text,a,b")
        message = refusal(file, label_columns=["a", "b"], streaming=streaming)
        assert message.startswith(f"{file}, row 2: column 'b' must hold 0 or 1, whether the text has this label, got ")

    def test_a_column_that_is_missing_is_named(self, tmp_path):
        file = table(tmp_path / "a.csv", ["0,1"], "text,a,b")
        assert "no column 'c', only: 'text', 'a', 'b'. Name the right one with --label_columns." in refusal(
            file, label_columns=["a", "c"]
        )

    @pytest.mark.parametrize(
        "options",
        [
            {"label_columns": ["a", "a"]},
            {"label_columns": ["text"]},
            {"label_columns": ["a"], "label_separator": "#"},
            {"label_columns": ["a"], "label_names": ["b", "c"]},
        ],
    )
    def test_options_that_contradict_each_other(self, options):
        with pytest.raises(ValueError, match="--label_columns"):
            load_corpus(DataArguments(train_file="a.csv", **options), CLASSIFY)

    def test_joined_labels_are_noticed(self, tmp_path, messages, streaming):
        labels = ["joy", "joy|fear", "fear", "fear|anger", "anger", "joy|anger"]
        load(table(tmp_path / "a.csv", labels), streaming=streaming)
        (message,) = messages()
        assert "look like several in one, as 'joy|fear'" in message
        assert message.endswith("Part them with --label_separator '|'.")

    def test_lists_that_cannot_be_read_are_noticed(self, tmp_path, messages):
        load(table(tmp_path / "a.csv", ["[joy fear]", "[joy]", "[]"]))
        assert (
            "holds '[joy fear]' (row 1), which looks like a list of labels and cannot be read as one" in messages()[0]
        )

    @pytest.mark.parametrize("names", [["Oslo, Norway", "Rome, Italy", "x"], ["a", "b"], ["C#", "F#", "D"], []])
    def test_others_are_not(self, names):
        assert joined_labels(names) is None

    def test_of_a_trained_model(self, tmp_path, tokenizer, streaming):
        file = table(tmp_path / "a.csv", ["b#a", "", "c"])
        corpus = evaluate(file, ["c", "b", "a"], "multi_label_classification", label_separator="#", streaming=streaming)
        assert encoded(corpus, tokenizer, "test") == [[0.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]

    def test_train_and_validation_in_different_forms(self, tmp_path, tokenizer, streaming):
        train = jsonl(tmp_path / "a.jsonl", [["a", "b"], ["b"]])
        other = table(tmp_path / "b.csv", ["\"['b', 'a']\"", "['a']"])
        arguments = DataArguments(train_file=train, validation_file=other, streaming=streaming)
        corpus = load_corpus(arguments, CLASSIFY)
        assert encoded(corpus, tokenizer, "validation") == [[1.0, 1.0], [1.0, 0.0]]


class TestNumbers:
    @pytest.mark.parametrize(
        ("labels", "names"),
        [
            (["0110", "110", "0110"], ["0110", "110"]),
            (["1.10", "1.2", "1.10"], ["1.10", "1.2"]),
            (["007", "7", "08"], ["007", "08", "7"]),
            (["1", "2", "3a"], ["1", "2", "3a"]),
            (["10", "9", "-1"], ["-1", "9", "10"]),
            (["1", "2", "x"], ["1", "2", "x"]),
        ],
    )
    @pytest.mark.parametrize("make", [jsonl, table])
    def test_codes_are_classes(self, tmp_path, tokenizer, labels, names, make, streaming):
        file = make(tmp_path / ("a.csv" if make is table else "a.jsonl"), labels)
        corpus = load(file, streaming=streaming)
        assert corpus.problem_type == "single_label_classification"
        assert sorted(corpus.label_names) == sorted(names)
        assert [corpus.label_names[index] for index in encoded(corpus, tokenizer)] == labels

    def test_a_late_text_in_a_column_of_integers(self, tmp_path, streaming):
        labels = [str(row % 3) for row in range(10_500)] + ["unknown"]
        corpus = load(table(tmp_path / "a.csv", labels), streaming=streaming)
        assert corpus.label_names == ["0", "1", "2", "unknown"]
        assert corpus.num_rows["train"] == 10_501

    def test_a_late_fraction_in_a_column_of_integers(self, tmp_path, streaming):
        labels = [str(row % 3) for row in range(10_500)] + ["1.5"]
        assert load(table(tmp_path / "a.csv", labels), streaming=streaming).problem_type == "regression"

    @pytest.mark.parametrize("labels", [["3.4", "1", "2.75"], ["3.40", "1.25", "2.75"], ["1.0", "2.0", "3.5"]])
    @pytest.mark.parametrize("make", [jsonl, table])
    def test_fractions_are_a_regression(self, tmp_path, tokenizer, labels, make, streaming):
        file = make(tmp_path / ("a.csv" if make is table else "a.jsonl"), labels)
        corpus = load(file, streaming=streaming)
        assert corpus.problem_type == "regression"
        assert encoded(corpus, tokenizer) == list(map(float, labels))

    def test_texts_are_numbers_of_a_regression(self, tmp_path, tokenizer, streaming):
        file = jsonl(tmp_path / "a.jsonl", ["3", "1", "02"])
        assert encoded(load(file, problem_type="regression", streaming=streaming), tokenizer) == [3.0, 1.0, 2.0]
        corpus = evaluate(file, ["LABEL_0"], "regression", streaming=streaming)
        assert encoded(corpus, tokenizer, "test") == [3.0, 1.0, 2.0]

    def test_fractions_can_be_classes(self, tmp_path):
        file = table(tmp_path / "a.csv", ["1.5", "2.0", "1.5"])
        assert load(file, problem_type="single_label_classification").label_names == ["1.5", "2.0"]

    def test_numbers_in_training_and_texts_of_numbers_in_validation(self, tmp_path, tokenizer, streaming):
        train, other = jsonl(tmp_path / "a.jsonl", [1.5, 2.5]), table(tmp_path / "b.csv", ["2", "3"])
        corpus = load_corpus(DataArguments(train_file=train, validation_file=other, streaming=streaming), CLASSIFY)
        assert encoded(corpus, tokenizer, "validation") == [2.0, 3.0]

    def test_texts_stay_as_they_are_written(self, tmp_path, streaming):
        (tmp_path / "a.csv").write_text("text,label\n007,a\n1.50,b\n1e5,a\ntrue,b\n NA,a\n", "utf-8")
        corpus = load(str(tmp_path / "a.csv"), streaming=streaming)
        assert list(corpus.inputs("train")) == ["007", "1.50", "1e5", "true", " NA"]

    def test_dtype_is_not_needed(self, tmp_path):
        file = table(tmp_path / "a.csv", ["01", "02"])
        message = refusal(file, dataset_kwargs='{"dtype": {"label": "str"}}')
        assert message.startswith("--dataset_kwargs: dtype is not needed: all columns of a CSV file are read as they")

    def test_a_decimal_comma(self, tmp_path, tokenizer):
        (tmp_path / "a.csv").write_text("text;label\na b;1,5\nb c;2,25\n", "utf-8")
        corpus = load(str(tmp_path / "a.csv"), dataset_kwargs='{"sep": ";", "decimal": ","}')
        assert encoded(corpus, tokenizer) == [1.5, 2.25]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("['it''s', 'b']", None),
        ("[a, b]", None),
        ("(a)", None),
        ("[1.5]", None),
        ("[[1], [2]]", None),
        ("[1.0, 0.0]", [1, 0]),
        ("", None),
        ("[", None),
        ("[" * 5000 + "]" * 5000, None),
    ],
)
def test_texts_that_are_lists_or_not(text, parts):
    assert parse_list(text) == parts


class TestTraining:
    """Forms of labels from the command line to the predictions."""

    WORDS = ("ball goal team", "bank stock money", "ball stock team")

    def train(self, folder, *words):
        folder.mkdir(exist_ok=True)
        options = ["--output_dir", str(folder / "model"), "--num_train_epochs", "30", "--learning_rate", "0.02"]
        options += [
            "--per_device_train_batch_size",
            "4",
            "--hidden_size",
            "8",
            "--embedding_size",
            "8",
            "--char_num_filters",
            "4",
            "--disable_tqdm",
            "true",
        ]
        main(["train-classifier", *words, *options])
        return folder / "model"

    def predicted(self, model, file, capsys, *options):
        capsys.readouterr()
        main(["predict", str(model), file, *options])
        return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))

    @pytest.mark.parametrize(
        ("form", "options"),
        [
            (("sports", "money", "sports#money"), ["--label_separator", "#"]),
            (("['sports']", "['money']", "\"['money', 'sports']\""), []),
            (('"[0, 1]"', '"[1, 0]"', '"[1, 1]"'), ["--label_names", "money", "sports"]),
            (("0,1", "1,0", "1,1"), ["--label_columns", "money", "sports"]),
        ],
        ids=["separated", "lists", "one-hot", "columns"],
    )
    def test_of_several_labels(self, tmp_path, capsys, form, options):
        header = "id,review,money,sports" if "--label_columns" in options else "id,review,labels"
        rows = [f"0{index},{text},{label}" for index, (text, label) in enumerate(zip(self.WORDS, form, strict=True))]
        file = tmp_path / "a.csv"
        file.write_text("\n".join([header, *rows * 10]) + "\n", "utf-8")
        data = ["--train_file", str(file), "--validation_file", str(file), *options]
        model = self.train(tmp_path / "run", *data)
        found = self.predicted(model, str(file), capsys, "--label_separator", "#")
        assert [row["prediction"] for row in found[:3]] == ["sports", "money", "money#sports"]
        assert [row["id"] for row in found[:3]] == ["00", "01", "02"]
        assert {name for row in found for name in json.loads(row["score"])} == {"money", "sports"}
        main(["evaluate", str(model), "--test_file", str(file), "--output_dir", str(tmp_path / "out"), *options])
        scores = json.loads((tmp_path / "out" / "test_results.json").read_text("utf-8"))
        assert scores["test_f1"] == 1.0

    def test_of_codes(self, tmp_path, capsys):
        rows = [f"{text},{label}" for text, label in zip(self.WORDS, ("0110", "110", "1.10"), strict=True)]
        file = tmp_path / "a.csv"
        file.write_text("\n".join(["text,label", *rows * 10]) + "\n", "utf-8")
        model = self.train(tmp_path / "run", "--train_file", str(file), "--validation_file", str(file))
        found = self.predicted(model, str(file), capsys)
        assert [row["prediction"] for row in found[:3]] == ["0110", "110", "1.10"]
        main(["evaluate", str(model), "--test_file", str(file), "--output_dir", str(tmp_path / "out")])
        assert json.loads((tmp_path / "out" / "test_results.json").read_text("utf-8"))["test_accuracy"] == 1.0

    def test_that_fails_leaves_no_folder(self, tmp_path, capsys):
        (tmp_path / "a.csv").write_text("text,label\n", "utf-8")
        with pytest.raises(SystemExit):
            self.train(tmp_path / "run", "--train_file", str(tmp_path / "a.csv"))
        assert not (tmp_path / "run" / "model").exists()
