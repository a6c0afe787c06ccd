"""The command `rnn-hf`."""

import configparser
import io
import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

import rnn_hf
from rnn_hf import RnnConfig, RnnForTokenClassification, train_tokenizer
from rnn_hf.cli import COMMANDS, main
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
        *("train-classifier", "train-tagger", "predict", "evaluate", "export", "push", "card", "benchmark")
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

    def test_export(self, model, capsys):
        main(["export", "pos", "graph"])
        assert capsys.readouterr().out.endswith("graph/onnx/model.onnx\n")

    def test_evaluate(self, model, capsys):
        row = json.dumps({"tokens": ["to", "be"], "tags": ["X", "Y"]})
        Path("test.jsonl").write_text(row, encoding="utf-8")
        main(["evaluate", "pos", "--test_file", "test.jsonl", "--output_dir", "scores"])
        assert "pos on test" in capsys.readouterr().out
        assert json.loads(Path("scores/test_results.json").read_text(encoding="utf-8"))["test_samples"] == 1

    def test_benchmark(self, model, capsys):
        words = ["crf", "--batch_size", "2", "--length", "3", "--repeat", "1", "--json", "crf.json"]
        main(["benchmark", *words])
        rows = json.loads(Path("crf.json").read_text(encoding="utf-8"))
        assert [row["training step"] for row in rows] == ["with CRF, 20 labels", "without CRF, 20 labels"]


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
        assert ends(capsys, "evaluate", "pos") == (130, "", "error: interrupted.\n")

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
    names = {"pyyaml": "yaml", "scikit-learn": "sklearn"}
    required = [line.partition(">")[0] for line in SETUP["options.extras_require"][extra].split()]
    assert {names.get(name, name) for name in required} == set(EXTRAS[extra])
