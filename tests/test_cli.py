"""The command `rnn-hf`."""

import configparser
import csv
import io
import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from datasets import Dataset, load_dataset
from huggingface_hub import constants
from transformers import AutoTokenizer

import rnn_hf
from rnn_hf import RnnConfig, RnnForSequenceClassification, RnnForTokenClassification, train_tokenizer
from rnn_hf.cli import COMMANDS, main
from rnn_hf.data.corpus import DataArguments, load_corpus
from rnn_hf.inference.loading import load
from rnn_hf.inference.predictor import predict
from rnn_hf.utils.command_line import EXTRAS

ROOT = Path(__file__).parents[1]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")


@pytest.fixture
def model(tmp_path, monkeypatch) -> Path:
    """The folder `pos` of a tiny tagger, in the working directory."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer([["to", "be"], ["to", "be"]], kind="word", is_split_into_words=True)
    config = RnnConfig(vocab_size=len(tokenizer), embedding_size=4, hidden_size=4, id2label={0: "X", 1: "Y"})
    RnnForTokenClassification(config).save_pretrained(tmp_path / "pos")
    tokenizer.save_pretrained(tmp_path / "pos")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.delenv("RNN_HF_DEBUG", raising=False)
    return tmp_path / "pos"


def ends(capsys, *words: str) -> tuple[object, str, str]:
    """Run the command until it exits, and return the exit code and what it printed."""
    with pytest.raises(SystemExit) as stop:
        main([*words])
    return (stop.value.code or 0, *capsys.readouterr())


def test_it_is_installed_with_the_package():
    assert SETUP["options.entry_points"]["console_scripts"].split() == ["rnn-hf", "=", "rnn_hf.cli:main"]


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_lists_the_commands(words, capsys):
    main(words)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "usage: rnn-hf COMMAND ..."
    listed = [line.split(maxsplit=1) for line in lines if line.startswith("  ")]
    assert dict(listed) == COMMANDS
    assert list(COMMANDS) == [
        *("train-classifier", "train-tagger", "train-teacher", "pretrain", "inspect", "predict", "evaluate", "export"),
        *("push", "space", "push-space", "serve", "card", "benchmark"),
    ]


def test_each_command_has_a_module():
    modules = {path.stem.replace("_", "-") for path in (ROOT / "rnn_hf" / "commands").glob("[!_]*.py")}
    assert modules == set(COMMANDS)


def test_version(capsys):
    main(["--version"])
    assert capsys.readouterr().out == f"rnn-hf {rnn_hf.__version__}\n"


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("train_tagger", "train-tagger"),
        ("tain-clasifier", "train-classifier"),
        ("export_onnx", "export"),
        ("evaluate_checkpoint", "evaluate"),
        ("push_to_hub", "push"),
        ("bench", "benchmark"),
    ],
)
def test_for_an_unknown_command_the_closest_one_is_suggested(name, closest, capsys):
    said = f"error: {name!r} is no command: did you mean {closest}? See rnn-hf --help.\n"
    assert ends(capsys, name, "--x") == (2, "", said)


@pytest.mark.parametrize(("name", "shown"), [("zzz", "'zzz'"), ("--debug", "'--debug'"), ("\x1b[2J\n", r"'\x1b[2J\n'")])
def test_where_none_is_close_all_are_named(name, shown, capsys):
    said = f"error: {shown} is no command: there are {', '.join(COMMANDS)}. See rnn-hf --help.\n"
    assert ends(capsys, name) == (2, "", said)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(command, capsys):
    code, out, err = ends(capsys, command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: rnn-hf {command} ")
    assert f"\n    rnn-hf {command} " in out
    assert "python scripts/" not in out
    assert "default: None" not in out


@pytest.mark.parametrize("command", COMMANDS)
def test_a_mistake_takes_one_line_that_names_the_command(command, capsys):
    words = ["layer"] if command == "benchmark" else []
    code, out, err = ends(capsys, command, *words, "--nosuch")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert err.endswith(f"See rnn-hf {command} --help.\n")


@pytest.mark.parametrize("module", [path.stem for path in (ROOT / "scripts").glob("[!rq]*.py")])
def test_the_scripts_are_the_same_commands(module):
    source = (ROOT / "scripts" / f"{module}.py").read_text(encoding="utf-8")
    (line,) = [line for line in source.splitlines() if line.startswith("from rnn_hf.commands.")]
    assert line.partition(" import ")[0].rpartition(".")[2].replace("_", "-") in COMMANDS
    assert source.endswith('\n\nif __name__ == "__main__":\n    main()\n')


class TestCommands:
    def test_predict(self, model, capsys, monkeypatch):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"to be\n")))
        main(["predict", "pos", "--output_format", "jsonl"])
        assert json.loads(capsys.readouterr().out)["tokens"] == ["to", "be"]

    def test_card_then_push(self, model, capsys):
        main(["card", "pos", "--license", "mit"])
        assert "license: mit" in (model / "README.md").read_text(encoding="utf-8")
        main(["push", "pos", "alice/pos", "--dry_run"])
        assert "model.safetensors" in capsys.readouterr().out

    @pytest.mark.parametrize("examples", [True, False])
    def test_inspect(self, model, capsys, examples):
        rows = [{"tokens": ["to", "be"], "tags": ["X", "Y"]}, {"tokens": ["or", "not", "to"], "tags": ["Y", "Y", "X"]}]
        Path("train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows * 10), encoding="utf-8")
        words = ["--task", "token-classification", "--train_file", "train.jsonl", "--tokenizer_name", "pos"]
        before = sorted(model.parent.rglob("*"))
        main(["inspect", *words, *([] if examples else ["--examples", "false"])])
        out = capsys.readouterr().out
        assert re.search(r"sentences +│ 16 +│ 2 +│ 2 ", out)
        assert re.search(r"length in words +│ \d, 3, 3 ", out)
        assert re.search(r"unknown tokens +│ \d\d.\d% ", out)
        assert "Tags: 2; " in out
        assert ("Example: " in out) == examples
        assert "/X" in out or not examples
        assert sorted(model.parent.rglob("*")) == before, "nothing is written"

    @pytest.mark.parametrize(("num_kinds", "are_told"), [(1, False), (20, True)])
    def test_inspect_tells_auxiliary_labels_that_training_has(self, model, capsys, num_kinds, are_told):
        tags = [f"{mark}-{kind}" for kind in range(num_kinds) for mark in "BI"]
        rows = [{"tokens": [f"{tag}{row}" for tag in tags], "tags": tags} for row in range(10)]
        Path("train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        main(["inspect", "--task", "token-classification", "--train_file", "train.jsonl"])
        assert ("ends of spans" in capsys.readouterr().out) == are_told

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--test_file", "a.csv"], "There is no train data: give --train_file"),
            (["--train_file", "a.csv", "--max_seq_length", "9"], "--max_seq_length counts tokens"),
            (["--train_file", "a.csv", "--tags_column", "ner"], "--tags_column is for taggers"),
            (["--task", "token-classification", "--problem_type", "regression"], "--problem_type is for classifiers"),
            (["--train_file", "a.csv", "--tokenizer_name", "nowhere"], "nowhere"),
        ],
    )
    def test_inspect_names_what_makes_no_sense(self, model, capsys, words, message):
        Path("a.csv").write_text("text,label\n" + "good,yes\nbad,no\n" * 10, encoding="utf-8")
        code, _, err = ends(capsys, "inspect", *words)
        assert code == 1
        assert message in err.splitlines()[-1]

    def test_export(self, model, capsys):
        main(["export", "pos", "graph"])
        assert capsys.readouterr().out.endswith("graph/onnx/model.onnx\n")

    def test_evaluate(self, model, capsys):
        row = json.dumps({"tokens": ["to", "be"], "tags": ["X", "Y"]})
        Path("test.jsonl").write_text(row, encoding="utf-8")
        main(["evaluate", "pos", "--test_file", "test.jsonl", "--output_dir", "scores"])
        assert "pos on test" in capsys.readouterr().out
        assert json.loads(Path("scores/test_results.json").read_text(encoding="utf-8"))["test_samples"] == 1

    def test_a_failed_evaluation_leaves_no_folder(self, model, capsys):
        Path("test.jsonl").write_text("{}\n", encoding="utf-8")
        code, _, _ = ends(capsys, "evaluate", "pos", "--test_file", "test.jsonl", "--output_dir", "a/scores")
        assert code == 1
        assert not Path("a").exists()

    def test_earlier_scores_are_not_replaced_in_silence(self, model, capsys):
        row = json.dumps({"tokens": ["to", "be"], "tags": ["X", "Y"]})
        Path("test.jsonl").write_text(row, encoding="utf-8")
        for end in ("test_results.json.\n", "test_results.json, in place of earlier ones.\n"):
            main(["evaluate", "pos", "--test_file", "test.jsonl"])
            assert capsys.readouterr().out.endswith(end)

    def test_a_push_without_a_token_lists_nothing(self, model, capsys, monkeypatch):
        monkeypatch.delenv("HF_TOKEN", raising=False)
        main(["card", "pos"])
        capsys.readouterr()
        code, out, said = ends(capsys, "push", "pos", "alice/pos")
        assert (code, out) == (1, "")
        assert said.startswith("error: ")

    def test_benchmark(self, model, capsys):
        words = ["crf", "--batch_size", "2", "--length", "3", "--repeat", "1", "--json", "crf.json"]
        main(["benchmark", *words])
        rows = json.loads(Path("crf.json").read_text(encoding="utf-8"))
        assert [row["training step"] for row in rows] == ["with CRF, 20 labels", "without CRF, 20 labels"]

    @pytest.mark.parametrize("modes", [["inference"], ["training", "inference"]])
    def test_a_benchmark_of_a_layer_is_drawn(self, modes, model, capsys):
        words = ["--size", "4", "--lengths", "2", "3", "--batch_sizes", "2", "--repeat", "1", "--plot", "layer.png"]
        main(["benchmark", "layer", "--modes", *modes, *words])
        assert Path("layer.png").read_bytes().startswith(b"\x89PNG")


def trained_by(program: list[str], monkeypatch) -> str:
    """Train a tiny tagger as if the process had been started with a program, and return the command in its card."""
    rows = [{"tokens": ["a", "b"], "tags": ["X", "Y"]} for _ in range(20)]
    Path("words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = shlex.split("train-tagger --train_file words.jsonl --output_dir out --num_train_epochs 1 --hidden_size 4")
    monkeypatch.setattr(sys, "argv", [*program, *words, "--disable_tqdm", "true"])
    main()
    return Path("out/README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("program", "shown"),
    [("/home/al/.venv/bin/rnn-hf", "rnn-hf"), ("/home/al/rnn_hf/__main__.py", "python -m rnn_hf")],
)
def test_a_model_card_records_the_command_as_it_was_typed(program, shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    card = trained_by([program], monkeypatch)
    assert f"\n{shown} train-tagger --train_file words.jsonl --output_dir out" in card


def test_as_a_module(model):
    command = [sys.executable, "-m", "rnn_hf", "predict", str(model)]
    result = subprocess.run(command, input="to be\n", capture_output=True, text=True, check=True, cwd=ROOT)
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == ["to", "be", ""]


class TestImportOfACommand:
    """What happens while the modules of a command are imported."""

    @pytest.fixture(autouse=True)
    def forget(self, monkeypatch):
        """Let the command's modules be imported anew."""
        for name in ("rnn_hf.commands.evaluate", "rnn_hf.data.corpus"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.delenv("RNN_HF_DEBUG", raising=False)

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
    def test_an_interruption_takes_one_line(self, capsys, monkeypatch):
        class Finder:
            def find_spec(self, *_):
                if self == "rnn_hf.data.corpus":
                    signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
        # A shell lets its background jobs ignore interruptions.
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            assert ends(capsys, "evaluate", "pos") == (130, "", "error: interrupted.\n")
        finally:
            signal.signal(signal.SIGINT, handler)

    def test_a_missing_extra_is_named(self, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "datasets", None)
        said = 'error: The package datasets is missing: pip install "rnn_hf[train]"\n'
        assert ends(capsys, "evaluate", "pos") == (1, "", said)

    def test_debug_brings_the_traceback(self, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "datasets", None)
        _, _, said = ends(capsys, "evaluate", "pos", "--debug")
        assert said.startswith("Traceback (most recent call last):\n")


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_extras_are_those_of_the_package(extra):
    names = {"pyyaml": "yaml", "ray[data]": "ray", "scikit-learn": "sklearn"}
    required = [line.partition(">")[0] for line in SETUP["options.extras_require"][extra].strip().splitlines()]
    assert {names.get(name, name) for name in required} == set(EXTRAS[extra])


class TestPredictionOfFiles:
    """Rows keep their columns, their order and their format."""

    @pytest.fixture(autouse=True)
    def folders(self, model):
        """Folders of tiny classifiers, beside that of the tagger."""
        problems = {
            "topic": ("single_label_classification", ["ham", "spam"]),
            "stars": ("regression", ["LABEL_0"]),
            "moods": ("multi_label_classification", ["joy", "fear"]),
        }
        for name, (problem_type, labels) in problems.items():
            torch.manual_seed(0)
            config = RnnConfig(
                vocab_size=5,
                embedding_size=4,
                hidden_size=4,
                problem_type=problem_type,
                id2label=dict(enumerate(labels)),
                label_thresholds=[0.3, 0.3] if name == "moods" else None,
            )
            RnnForSequenceClassification(config).save_pretrained(name)
            AutoTokenizer.from_pretrained("pos").save_pretrained(name)

    ROWS = ("to be", "or\nnot", "to", "be, to", '"be"')

    def table(self, name="a.csv", column="text", rows=ROWS) -> str:
        with Path(name).open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if name.endswith(".tsv") else ",")
            writer.writerows([("id", column, "note"), *((f"0{row}", text, "") for row, text in enumerate(rows))])
        return name

    def expected(self, name, **options):
        return list(predict(*load(name), list(self.ROWS), **options))

    @pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
    @pytest.mark.parametrize("column", ["text", "Review"])
    def test_one_label(self, name, column, capsys):
        main(["predict", "topic", self.table(name, column)])
        separator = "\t" if name == "a.tsv" else ","
        rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out, newline=""), delimiter=separator))
        assert list(rows[0]) == ["id", column, "note", "prediction", "score"]
        for index, (row, found) in enumerate(zip(rows, self.expected("topic"), strict=True)):
            assert (row["id"], row[column], row["note"]) == (f"0{index}", self.ROWS[index], "")
            assert (row["prediction"], float(row["score"])) == (found["label"], pytest.approx(found["score"], abs=1e-5))

    def test_labels_of_fasttext_are_left_out(self, capsys):
        Path("a.txt").write_text("__label__spam __label__x to be\nor not\n", "utf-8")
        Path("b.txt").write_text("to be\nor not\n", "utf-8")
        outputs = []
        for name in ("a.txt", "b.txt"):
            main(["predict", "topic", name])
            outputs.append(capsys.readouterr().out)
        assert outputs[0] == outputs[1]

    @pytest.mark.parametrize("name", ["a.tsv", "a.txt", "eng.testa"])
    def test_a_tagger_reads_words_that_have_tags(self, name, capsys):
        Path(name).write_text("to\tB-X\nbe\tO\n\nor\tO\nnot\tO\n", "utf-8")
        main(["predict", "pos", name])
        lines = capsys.readouterr().out.splitlines()
        assert [line.split("\t")[:2] for line in lines] == [["to", "B-X"], ["be", "O"], [""], ["or", "O"], ["not", "O"]]
        assert [line.count("\t") for line in lines] == [2, 2, 0, 2, 2]
        if name != "a.tsv":
            main(["predict", "pos", name, "--input_format", "lines"])
            assert len(capsys.readouterr().out.split("\n\n")) > 3  # of texts

    def test_rejected(self, capsys):
        main(["predict", "topic", self.table(), "--rejection_threshold", "1"])
        assert {row["prediction"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))} == {""}

    def test_several_labels(self, capsys):
        expected = self.expected("moods", all_scores=True)
        main(["predict", "moods", self.table(), "--output_format", "jsonl"])
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [(row["prediction"], row["score"]) for row in rows] == [
            (one["labels"], one["all_scores"]) for one in expected
        ]
        assert set(rows[0]["score"]) == {"joy", "fear"}
        main(["predict", "moods", self.table(), "--label_separator", "|"])
        rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out, newline="")))
        assert [row["prediction"] for row in rows] == ["|".join(one["labels"]) for one in expected]

    def test_what_is_written_can_be_trained_on(self, capsys):
        main(["predict", "moods", self.table(), "--output_file", "b.csv"])
        corpus = load_corpus(
            DataArguments(test_file="b.csv", label_column="prediction"),
            "text-classification",
            "multi_label_classification",
            ["joy", "fear"],
            ("test",),
        )
        assert list(corpus.splits["test"]["prediction"]) == [one["labels"] for one in self.expected("moods")]

    def test_a_number(self, capsys):
        main(["predict", "stars", self.table()])
        rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out, newline="")))
        assert "score" not in rows[0]
        found = [float(row["prediction"]) for row in rows]
        assert found == pytest.approx([one["scores"][0] for one in self.expected("stars")], abs=1e-5)

    def test_columns_of_the_same_names_are_kept(self, capsys):
        main(["predict", "topic", self.table(), "--output_file", "b.csv"])
        main(["predict", "topic", "b.csv", "--output_file", "c.csv"])
        assert Path("c.csv").read_text("utf-8").splitlines()[0] == "id,text,note,prediction,score,prediction_2,score_2"

    def test_parquet_and_json(self, capsys):
        split = Dataset.from_dict({"text": list(self.ROWS), "id": list(range(5))})
        split.to_parquet("a.parquet")
        split.to_json("a.jsonl")
        main(["predict", "topic", "a.parquet", "--output_file", "b.parquet"])
        main(["predict", "topic", "a.jsonl", "--output_file", "b.jsonl"])
        one, other = (
            load_dataset(kind, data_files=name, split="train").to_list()
            for kind, name in (("parquet", "b.parquet"), ("json", "b.jsonl"))
        )
        assert one == other
        assert [row["id"] for row in one] == list(range(5))

    def test_lines_as_a_table(self, capsys):
        Path("a.txt").write_text("\ufeffto be\nor\n", "utf-8")
        main(["predict", "topic", "a.txt", "--output_format", "csv"])
        assert capsys.readouterr().out.startswith("text,prediction,score\nto be,")
        main(["predict", "topic", "a.txt"])
        assert "\ufeff" not in capsys.readouterr().out

    def test_a_csv_file_as_lines(self, capsys):
        main(["predict", "topic", self.table(rows=("a", "b")), "--input_format", "lines"])
        assert len(capsys.readouterr().out.splitlines()) == 3

    def test_rows_from_standard_input(self, capsys, monkeypatch):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbftext;n\nto be;1\n")))
        main(["predict", "topic", "--input_format", "csv", "--dataset_kwargs", '{"sep": ";"}'])
        assert capsys.readouterr().out.startswith("text;n;prediction;score\nto be;1;")

    def test_conll(self, capsys):
        Path("a.conll").write_text("# id 1\nto X\nbe Y\n\nto X\n", "utf-8")
        main(["predict", "pos", "a.conll"])
        tags = [one["tags"] for one in predict(*load("pos"), [["to", "be"], ["to"]])]
        assert capsys.readouterr().out == (f"# id 1\nto X {tags[0][0]}\nbe Y {tags[0][1]}\n\nto X {tags[1][0]}\n")

    def test_words_of_json(self, capsys):
        Path("a.jsonl").write_text('{"id": 1, "words": ["to", "be"]}\n', "utf-8")
        main(["predict", "pos", "a.jsonl", "--tokens_column", "words"])
        row = json.loads(capsys.readouterr().out)
        assert (row["id"], row["words"], len(row["prediction"])) == (1, ["to", "be"], 2)

    def test_a_bad_row_is_named_and_nothing_is_written(self, capsys):
        Path("a.jsonl").write_text('{"text": "a"}\n\n{"text": 3}\n', "utf-8")
        Path("b.jsonl").write_text("before", "utf-8")
        code, _, said = ends(capsys, "predict", "topic", "a.jsonl", "--output_file", "b.jsonl")
        assert (code, said) == (1, "error: a.jsonl, line 3: column 'text' must hold a text, got 3.\n")
        assert Path("b.jsonl").read_text("utf-8") == "before"
        assert {path.name for path in Path().glob(".*")} == set()

    @pytest.mark.parametrize(
        ("words", "fault"),
        [
            (["topic", "a.csv", "--text_column", "x"], "a.csv has no column 'x', only: 'id', 'text', 'note'."),
            (["topic", "none.csv"], "none.csv cannot be read: No such file."),
            (["topic", "a.csv", "--output_file", "a.csv"], "--output_file a.csv is the input: name another file."),
            (["topic", "a.csv", "--output_file", "."], "--output_file . is no regular file."),
            (["topic", "a.csv", "--output_file", "no/b.csv"], "--output_file no/b.csv: there is no folder no."),
            (["topic", "a.csv", "--output_format", "parquet"], "Parquet is not printed: name a file to write to"),
            (["topic", "a.csv", "--output_format", "conll"], "What is read as csv cannot be written as conll"),
            (["pos", "a.csv"], "a.csv is csv, but the model reads lists of words: give CoNLL"),
            (["topic", "a.csv", "--input_format", "conll"], "a.csv is conll, but the model reads texts: give CSV"),
            (["topic", "a.csv", "--tokens_column", "x"], "--tokens_column is for taggers"),
        ],
    )
    def test_mistakes(self, words, fault, capsys):
        self.table()
        code, out, said = ends(capsys, "predict", *words)
        assert (code, out, said.count("\n")) == (1, "", 1)
        assert fault in said

    def test_more_rows_than_are_read_at_once(self, capsys, monkeypatch):
        monkeypatch.setattr("rnn_hf.inference.predictor._WINDOW", 4)
        self.table(rows=[f"to {row}" for row in range(11)])
        main(["predict", "topic", "a.csv"])
        rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
        assert [row["text"] for row in rows] == [f"to {row}" for row in range(11)]
