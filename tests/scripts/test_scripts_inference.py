"""Mistakes made with the scripts that use a trained model: each ends in one line that says what to do."""

import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from rnn_hf import RnnConfig, RnnForSequenceClassification, RnnForTokenClassification, train_tokenizer
from rnn_hf.export.folder import export
from rnn_hf.sharing.model_card import write_model_card

ROOT = Path(__file__).parents[2]
WORDS = ["to", "be", "or", "not"]
LABELS = {0: "O", 1: "B-X\tY\n", 2: "\x1b[2Jred", 3: "[/b]|`é\u2028"}
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def main_of(script: str):
    """Import a script and return its `main`."""
    spec = importlib.util.spec_from_file_location(f"script_{script}", ROOT / "scripts" / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


MAINS = {name: main_of(name) for name in ("predict", "export_onnx", "push_to_hub", "write_model_card")}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder of folders: `classifier` and `tagger` with cards, and `exported`, a graph of the classifier."""
    position = tmp_path_factory.mktemp("models")
    tokenizer = train_tokenizer([WORDS, WORDS], kind="word", is_split_into_words=True)
    sizes = {"vocab_size": len(tokenizer), "embedding_size": 4, "hidden_size": 4, "id2label": LABELS}
    for name, model_class in (("classifier", RnnForSequenceClassification), ("tagger", RnnForTokenClassification)):
        torch.manual_seed(0)
        model_class(RnnConfig(**sizes)).save_pretrained(position / name)
        tokenizer.save_pretrained(position / name)
        write_model_card(position / name)
    export(str(position / "classifier"), position / "exported")
    (position / "texts.txt").write_text("to be\nor not\n", encoding="utf-8")
    (position / "latin1.txt").write_bytes("to be\ncafé\n".encode("latin-1"))
    (position / "utf16.txt").write_text("to be\n", encoding="utf-16")
    return position


@pytest.fixture
def here(models, tmp_path, monkeypatch) -> Path:
    """The working directory, with copies of the models."""
    shutil.copytree(models, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for variable in ("HF_TOKEN", "RNN_HF_DEBUG"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def run(script: str, *arguments: str, stdin: bytes = b"to be\n") -> None:
    """Run a script in this process."""
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin))
    try:
        MAINS[script]([*arguments])
    finally:
        sys.stdin = sys.__stdin__


def fails(capsys, script: str, *arguments: str, stdin: bytes = b"to be\n") -> str:
    """Run a script that must fail, and return its only line on standard error."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run(script, *arguments, stdin=stdin)
    assert stop.value.code not in (0, None)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "Traceback" not in line
    assert "fault of rnn_hf" not in line
    return line


# Of a script and its arguments, what the message must hold.
ARGUMENTS = [
    ("predict", [], ["arguments are required: model", "--help"]),
    ("predict", ["nowhere/at/all"], ["nowhere/at/all holds no model", "no such folder"]),
    ("predict", ["nobody/nothing"], ["nobody/nothing", "not in the cache", "HF_HUB_OFFLINE"]),
    ("predict", [""], ["A model needs a name"]),
    ("predict", ["texts.txt"], ["texts.txt is a file", "folder"]),
    ("predict", ["classifier", "absent.txt"], ["absent.txt cannot be read", "No such file"]),
    ("predict", ["classifier", "."], [". cannot be read", "Is a directory"]),
    ("predict", ["classifier", "texts.txt/below"], ["texts.txt/below cannot be read", "Not a directory"]),
    ("predict", ["classifier", "latin1.txt"], ["latin1.txt, line 2: not UTF-8"]),
    ("predict", ["tagger", "latin1.txt"], ["latin1.txt, line 2: not UTF-8"]),
    ("predict", ["classifier", "utf16.txt"], ["utf16.txt, line 1: not UTF-8"]),
    ("predict", ["classifier", "texts.txt", "more.txt"], ["unknown options or values: more.txt"]),
    ("predict", ["classifier", "texts.txt", "--batch_size", "0"], ["batch_size must be a number of at least 1, got 0"]),
    ("predict", ["classifier", "texts.txt", "--batch_size", "-1"], ["batch_size", "got -1"]),
    ("predict", ["classifier", "texts.txt", "--batch_size", "many"], ["--batch_size", "'many'"]),
    ("predict", ["classifier", "texts.txt", "--batch_size", "1.5"], ["--batch_size", "'1.5'"]),
    ("predict", ["classifier", "texts.txt", "--batch", "8"], ["unknown options or values: --batch"]),
    ("predict", ["classifier", "texts.txt", "--device", "gpu"], ["no device 'gpu' here, only cpu"]),
    ("predict", ["classifier", "texts.txt", "--device", "cuda:99"], ["no device 'cuda:99' here, only cpu"]),
    ("predict", ["classifier", "texts.txt", "--device", "meta"], ["no device 'meta' here"]),
    ("predict", ["classifier", "texts.txt", "--device", ""], ["no device '' here"]),
    ("predict", ["exported", "texts.txt", "--backend", "onnx", "--device", "cuda"], ["--device cuda is for --backend"]),
    (
        "predict",
        ["exported", "texts.txt", "--backend", "onnx", "--precision", "auto"],
        ["--precision auto is for --backend torch: a graph has its own"],
    ),
    ("predict", ["classifier", "texts.txt", "--precision", "half"], ["--precision", "'half'", "bfloat16"]),
    ("predict", ["classifier", "--output_format", "xml"], ["--output_format", "'xml'", "jsonl"]),
    ("predict", ["classifier", "--backend", "tensorrt"], ["--backend", "'tensorrt'", "onnx"]),
    ("predict", ["classifier", "--revision", "v1"], ["classifier is a folder, which has no revision 'v1'"]),
    (
        "predict",
        ["exported", "texts.txt"],
        ["exported holds no weights: model.safetensors is missing", "--backend onnx"],
    ),
    ("predict", ["classifier", "--backend", "onnx"], ["classifier holds no onnx/model.onnx", "rnn-hf export MODEL"]),
    ("predict", ["exported", "--backend", "onnx", "--file_name", "x.onnx"], ["exported holds no x.onnx"]),
    ("predict", ["exported", "--backend", "onnx", "--file_name", "config.json"], ["config.json is no ONNX graph"]),
    ("export_onnx", ["classifier"], ["arguments are required: output_dir"]),
    ("export_onnx", ["nowhere/at/all", "out"], ["nowhere/at/all holds no model"]),
    ("export_onnx", ["exported", "out"], ["exported holds no weights"]),
    ("export_onnx", ["classifier", "out", "--opset", "17"], ["opset must be from 18", "got 17"]),
    ("export_onnx", ["classifier", "out", "--opset", "999"], ["opset must be from 18", "got 999"]),
    ("export_onnx", ["classifier", "out", "--opset", "-1"], ["opset must be from 18", "got -1"]),
    ("export_onnx", ["classifier", "out", "--opset", "new"], ["--opset", "'new'"]),
    ("export_onnx", ["classifier", "out", "--int"], ["unknown options or values: --int"]),
    ("export_onnx", ["classifier", "texts.txt"], ["texts.txt is a file", "folder"]),
    ("export_onnx", ["classifier", "texts.txt/below"], ["texts.txt", "is a file"]),
    ("export_onnx", ["classifier", "tagger"], ["tagger holds another model"]),
    ("export_onnx", ["classifier", "x" * 300], ["x" * 300, "File name too long"]),
    ("export_onnx", ["classifier", "/proc/nothing"], ["/proc/nothing"]),
    ("push_to_hub", ["classifier"], ["arguments are required: repo_id"]),
    ("push_to_hub", ["nowhere", "alice/x"], ["There is no folder nowhere"]),
    ("push_to_hub", ["texts.txt", "alice/x"], ["There is no folder texts.txt"]),
    ("push_to_hub", ["classifier", "a/b/c"], ["'a/b/c' is no repository on the hub, namespace/name"]),
    ("push_to_hub", ["classifier", "alice/a b"], ["'alice/a b' is no repository on the hub"]),
    ("push_to_hub", ["classifier", ""], ["'' is no repository on the hub"]),
    ("push_to_hub", ["classifier", "alice/x"], ["There is no access token", "hf auth login"]),
    ("push_to_hub", ["classifier", "alice/x", "--dry"], ["unknown options or values: --dry"]),
    (
        "push_to_hub",
        ["classifier", "alice/x", "--create_pr", "--revision", "b"],
        ["leave --revision or --create_pr out"],
    ),
    ("push_to_hub", ["exported", "alice/x", "--dry_run"], ["exported holds no weights"]),
    ("write_model_card", [], ["arguments are required: folder"]),
    ("write_model_card", ["nowhere"], ["There is no folder nowhere"]),
    ("write_model_card", ["alice/pos"], ["There is no folder alice/pos"]),
    ("write_model_card", ["texts.txt"], ["There is no folder texts.txt"]),
    ("write_model_card", ["."], [". holds no model: config.json is missing"]),
    ("write_model_card", ["classifier", "--language"], ["--language", "expected at least one argument"]),
    ("write_model_card", ["classifier", "--licence", "mit"], ["unknown options or values: --licence"]),
]


@pytest.mark.parametrize(("script", "arguments", "words"), ARGUMENTS)
def test_arguments_that_are_wrong_are_named(here, capsys, script, arguments, words):
    line = fails(capsys, script, *arguments)
    assert all(word in line for word in words), line
    assert not (here / "out").exists()


CARD = ("write_model_card", "classifier")
PREDICT = ("predict", "classifier", "texts.txt")
EXPORT = ("export_onnx", "classifier", "out")
EXPORT_HERE = ("export_onnx", "classifier", "classifier")
PUSH = ("push_to_hub", "classifier", "alice/x", "--dry_run")
ONNX = ("predict", "exported", "texts.txt", "--backend", "onnx")

# Of a file, its content (text, bytes, changed keys, or the part that is left), commands, and what they must say.
FILES = [
    ("classifier/config.json", "[1]", [PREDICT, EXPORT, PUSH, CARD], ["config.json must hold a JSON object", "a list"]),
    ("classifier/config.json", "null", [PREDICT], ["config.json must hold a JSON object", "null"]),
    ("classifier/config.json", '"text"', [PREDICT], ["config.json must hold a JSON object", "a text"]),
    ("classifier/config.json", 0.5, [PREDICT, EXPORT, PUSH, CARD], ["config.json is no JSON", "cut off"]),
    ("classifier/config.json", "", [PREDICT], ["config.json is empty"]),
    ("classifier/config.json", POINTER, [PREDICT], ["config.json is only a pointer", "git lfs pull"]),
    ("classifier/config.json", {"dtype": "float99"}, [PREDICT, EXPORT, PUSH], ["config.json", "dtype='float99'"]),
    ("classifier/config.json", {"model_type": None}, [PREDICT, EXPORT, CARD], ["config.json", "model_type=None"]),
    ("classifier/config.json", {"model_type": "bert"}, [PREDICT, PUSH], ["config.json", "model_type='bert'"]),
    ("classifier/config.json", {"architectures": ["RnnModel"]}, [PREDICT, EXPORT], ["['RnnModel']"]),
    ("classifier/config.json", {"num_hidden_layers": 10**9}, [PREDICT, EXPORT, PUSH], ["num_hidden_layers", "config"]),
    ("classifier/config.json", {"num_hidden_layers": 200}, [PREDICT, PUSH], ["200", "the weights are of 1 layers"]),
    ("classifier/config.json", {"hidden_size": 5}, [PREDICT, PUSH], ["do not fit its config.json", "another shape"]),
    ("classifier/config.json", {"hidden_size": 0}, [PREDICT], ["config.json cannot be read", "hidden_size"]),
    ("classifier/config.json", {"cell_type": "foo"}, [PREDICT], ["config.json cannot be read", "cell_type", "foo"]),
    ("classifier/config.json", {"attn_implementation": "a/b"}, [PREDICT, PUSH], ["attn_implementation='a/b'"]),
    ("classifier/tokenizer.json", "{}", [PREDICT, EXPORT, PUSH], ["no tokenizer that can be read", "tokenizer.json"]),
    ("classifier/tokenizer.json", 0.5, [PREDICT, PUSH], ["tokenizer.json is no JSON"]),
    ("classifier/tokenizer.json", "", [PREDICT, PUSH], ["tokenizer.json is empty"]),
    ("classifier/tokenizer.json", POINTER, [PREDICT, PUSH], ["tokenizer.json is only a pointer"]),
    ("classifier/tokenizer.json", None, [PREDICT, EXPORT, PUSH], ["holds no tokenizer: tokenizer.json is missing"]),
    ("classifier/tokenizer_config.json", "[]", [PREDICT, PUSH], ["tokenizer_config.json must hold a JSON object"]),
    ("classifier/tokenizer_config.json", {"model_max_length": -3}, [PREDICT], ["model_max_length=-3", "at least 1"]),
    ("classifier/model.safetensors", 0.5, [PREDICT, EXPORT, PUSH], ["model.safetensors is damaged or was cut off"]),
    ("classifier/model.safetensors", "", [PREDICT, PUSH], ["model.safetensors is empty"]),
    ("classifier/model.safetensors", POINTER, [PREDICT, PUSH], ["model.safetensors is only a pointer"]),
    ("classifier/model.safetensors", None, [PREDICT, PUSH], ["holds no weights: model.safetensors is missing"]),
    ("classifier/README.md", "---\nlicense: [mit\n---\n", [PUSH, CARD], ["README.md cannot be read"]),
    ("classifier/README.md", None, [PUSH], ["holds no model card", "rnn-hf card classifier"]),
    ("classifier/README.md", b"---\nlicense: mit\n---\n\xff", [PUSH, CARD], ["README.md cannot be read"]),
    ("classifier/run.json", '{"data": ', [PUSH, CARD, EXPORT_HERE], ["run.json is no JSON"]),
    ("classifier/run.json", "[]", [PUSH, CARD, EXPORT_HERE], ["run.json must hold a JSON object"]),
    ("classifier/all_results.json", "[]", [PUSH, CARD], ["all_results.json must hold a JSON object"]),
    ("classifier/trainer_state.json", "", [PUSH, CARD], ["trainer_state.json is empty"]),
    ("classifier/training_args.json", '{"seed"', [PUSH, CARD], ["training_args.json is no JSON"]),
    ("classifier/all_results.json", '{"eval_loss": "x"}', [CARD], ["all_results.json", "something else"]),
    ("classifier/LICENSE", "a\nhf_" + "aB3" * 9, [PUSH], ["LICENSE, line 2 holds a token", "take it out"]),
    ("exported/onnx/model.onnx", "", [ONNX], ["model.onnx is empty"]),
    ("exported/onnx/model.onnx", 0.5, [ONNX], ["model.onnx is no ONNX graph that can be read"]),
    ("exported/onnx/model.onnx", POINTER, [ONNX], ["model.onnx is only a pointer"]),
    ("exported/config.json", {"id2label": {"0": "X"}, "label2id": {"X": 0}}, [ONNX], ["4 labels", "names 1"]),
    ("exported/config.json", "[1]", [ONNX], ["config.json must hold a JSON object"]),
    ("exported/tokenizer.json", "{}", [ONNX], ["no tokenizer that can be read", "tokenizer.json"]),
]


def damage(path: Path, content) -> None:
    """Write text or bytes, change keys of JSON, keep a part of what is there, or remove it."""
    if content is None:
        path.unlink()
    elif isinstance(content, dict):
        changed = json.loads(path.read_text()) | content
        path.write_text(json.dumps({key: value for key, value in changed.items() if content.get(key, 0) is not None}))
    elif isinstance(content, float):
        path.write_bytes(path.read_bytes()[: int(content * path.stat().st_size)])
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize(
    ("file", "content", "command", "words"),
    [(file, content, command, words) for file, content, commands, words in FILES for command in commands],
)
def test_files_that_are_damaged_are_named(here, capsys, file, content, command, words):
    damage(here / file, content)
    line = fails(capsys, *command)
    assert all(word in line for word in words), line
    assert not (here / "out").exists()
    assert not (here / "classifier" / "onnx").exists()


def test_the_bad_inputs_are_many():
    assert len(ARGUMENTS) + sum(len(commands) for _, _, commands, _ in FILES) >= 80


@pytest.mark.parametrize(("stdin", "words"), [(b"to be\n\xff\n", ["standard input, line 2: not UTF-8"])])
def test_standard_input_that_is_wrong_is_named(here, capsys, stdin, words):
    line = fails(capsys, "predict", "classifier", stdin=stdin)
    assert all(word in line for word in words), line


class TestDebug:
    def test_brings_the_traceback(self, here, capsys):
        with pytest.raises(SystemExit):
            run("predict", "classifier", "absent.txt", "--debug")
        error = capsys.readouterr().err
        assert "Traceback (most recent call last)" in error
        assert error.splitlines()[-1].startswith("error: absent.txt cannot be read")

    def test_so_does_the_environment(self, here, capsys, monkeypatch):
        monkeypatch.setenv("RNN_HF_DEBUG", "1")
        with pytest.raises(SystemExit):
            run("write_model_card", "nowhere")
        assert "Traceback (most recent call last)" in capsys.readouterr().err


class TestPredictions:
    def table(self, capsys, *arguments: str, stdin: bytes) -> list[str]:
        run("predict", *arguments, stdin=stdin)
        return capsys.readouterr().out.split("\n")

    def test_labels_break_no_table_and_move_no_cursor(self, here, capsys):
        shown = {r"O", r"B-X\tY\n", r"\x1b[2Jred", "[/b]|`é\\u2028"}
        rows = self.table(capsys, "classifier", stdin=b"to be\nor not\n")
        assert [len(row.split("\t")) for row in rows[:-1]] == [3, 3]
        assert {row.split("\t")[0] for row in rows[:-1]} <= shown
        rows = self.table(capsys, "tagger", stdin=b"to \x1b[1mbe\xe2\x80\xae\n")
        assert [row.split("\t")[0] for row in rows[:2]] == ["to", r"\x1b[1mbe\u202e"]
        assert {row.split("\t")[1] for row in rows[:2]} <= shown
        assert rows[2:] == ["", ""]

    def test_texts_break_no_table(self, here, capsys):
        (row, end) = self.table(capsys, "classifier", stdin="to\tbe\x0b\x85 東京\n".encode())
        assert row.split("\t")[2] == r"to\tbe\x0b\x85 東京"
        assert end == ""

    def test_json_lines_hold_what_was_given(self, here, capsys):
        text = "to\tbe \x1b[2J \u2028 東京"
        run("predict", "classifier", "--output_format", "jsonl", stdin=f"{text}\nor\n".encode())
        out = capsys.readouterr().out
        assert "東京" in out
        assert "\x1b" not in out
        first, second = map(json.loads, out.splitlines())
        assert (first["text"], second["text"]) == (text, "or")
        assert first["label"] in LABELS.values()

    def test_a_label_with_a_lone_surrogate_can_be_printed(self, here, capsys):
        damage(
            here / "tagger" / "config.json", {"id2label": {str(i): f"{i}\ud800" for i in range(4)}, "label2id": None}
        )
        run("predict", "tagger", "--output_format", "jsonl")
        assert json.loads(capsys.readouterr().out)["tags"][0][1] == "\ud800"
        run("predict", "tagger")
        assert r"\ud800" in capsys.readouterr().out

    def test_a_mark_of_the_byte_order_is_no_text(self, here, capsys):
        run("predict", "tagger", stdin=b"\xef\xbb\xbfto be\r\n")
        assert capsys.readouterr().out.startswith("to\t")

    def test_nothing_gives_nothing(self, here, capsys):
        run("predict", "classifier", stdin=b"")
        assert capsys.readouterr().out == ""

    def test_the_device_may_be_named(self, here, capsys):
        run("predict", "classifier", "--device", "cpu")
        assert capsys.readouterr().out.endswith("to be\n")

    def test_no_answer_runs_the_code_of_a_folder(self, here, capsys):
        for path in (here / "classifier").glob("*.py"):
            path.write_text("open('was_run', 'w').close()\n" + path.read_text())
        run("predict", "classifier", stdin=b"y\ny\ny\n")
        assert len(capsys.readouterr().out.splitlines()) == 3
        assert not (here / "was_run").exists()


def test_an_interruption_takes_one_line(here, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("rnn_hf.inference.predictor._predict_window", interrupted)
    assert fails(capsys, "predict", "classifier", "texts.txt") == "error: interrupted."


def test_a_full_disk_takes_one_line(here, capsys, monkeypatch):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        try:
            assert "No space left on device" in fails(capsys, "predict", "classifier", "texts.txt")
        finally:
            os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())


def test_a_closed_pipe_takes_one_line_at_most(here):
    (here / "many.txt").write_text("to be or not\n" * 5_000)
    command = f"{sys.executable} {ROOT}/scripts/predict.py classifier many.txt | head -n 1"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, env=environment)
    assert len(result.stdout.splitlines()) == 1
    assert result.stderr.splitlines() in ([], ["error: the output was closed before everything was written."])
