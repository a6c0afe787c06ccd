"""Training the rows of the results table: options, seeds, what is left to do after a stop, and the summary."""

import json
import runpy
import shutil
import statistics
import sys
from pathlib import Path
from unittest import mock

import pytest

ROOT = Path(__file__).parents[2]
TINY = [
    *("--vectors", "none", "--mimick_epochs", "0", "--char_cnn", "false", "--num_train_epochs", "1"),
    *("--embedding_size", "8", "--hidden_size", "4", "--num_hidden_layers", "1", "--max_train_samples", "60"),
]


def reproduce(*arguments: object) -> None:
    """Run the script in this process; it trains in others."""
    script = ROOT / "scripts" / "reproduce.py"
    with mock.patch.object(sys, "argv", [str(script), *map(str, arguments)]):
        runpy.run_path(str(script), run_name="__main__")


@pytest.fixture(scope="module")
def corpus(japanese_sentences, tmp_path_factory):
    """Japanese sentences under the names and in the columns of CoNLL-2000."""
    folder = tmp_path_factory.mktemp("corpus")
    usual = [sentence for sentence in japanese_sentences if not any(word[-1].endswith("-PER") for word in sentence)]
    for name, sentences in (("train.txt", usual[:400]), ("test.txt", usual[400:])):
        blocks = ["\n".join(f"{word[0]} {word[2]} {word[-1]}" for word in sentence) for sentence in sentences]
        (folder / name).write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def runs(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    reproduce("conll2000", corpus, "--seeds", 1, 2, "--output_dir", folder, *TINY)
    return folder


def results(runs: Path, seed: int) -> dict[str, float]:
    return json.loads((runs / f"seed-{seed}" / "all_results.json").read_text(encoding="utf-8"))


def test_the_summary_has_mean_and_deviation_of_the_seeds(runs):
    summary = json.loads((runs / "summary.json").read_text(encoding="utf-8"))
    assert (summary["row"], summary["measure"], summary["seeds"]) == ("conll2000", "f1", [1, 2])
    for split in ("eval", "test"):
        values = [results(runs, seed)[f"{split}_f1"] for seed in (1, 2)]
        assert summary[split] == {
            "mean": statistics.mean(values),
            "deviation": statistics.stdev(values),
            "values": values,
        }


def test_options_of_the_row_hold_unless_others_are_given(runs):
    for seed in (1, 2):
        config = json.loads((runs / f"seed-{seed}" / "config.json").read_text(encoding="utf-8"))
        assert config["use_crf"]
        assert config["hidden_size"] == 4
        arguments = json.loads((runs / f"seed-{seed}" / "training_args.json").read_text(encoding="utf-8"))
        assert (arguments["seed"], arguments["num_train_epochs"], arguments["lm_loss_weight"]) == (seed, 1, 0.1)


def test_seeds_that_are_there_are_only_read(runs, corpus, capfd):
    before = {path: path.stat().st_mtime_ns for path in runs.glob("seed-*/*")}
    reproduce("conll2000", corpus, "--seeds", 1, 2, "--output_dir", runs, *TINY)
    printed = capfd.readouterr().out
    assert "$ python" not in printed
    for seed in (1, 2):
        assert f"{results(runs, seed)['test_f1']:.4f}" in printed
    assert {path: path.stat().st_mtime_ns for path in runs.glob("seed-*/*")} == before


def test_without_validation_data_the_summary_has_the_test_alone(corpus, tmp_path):
    reproduce("conll2000", corpus, "--seeds", 1, "--output_dir", tmp_path, "--eval_strategy", "no", *TINY)
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert summary["test"]["values"] == [results(tmp_path, 1)["test_f1"]]
    assert "eval" not in summary


def test_missing_files_are_named(tmp_path, capfd):
    (tmp_path / "train.txt").touch()
    with pytest.raises(SystemExit, match="2"):
        reproduce("conll2000", tmp_path)
    assert f"{tmp_path} lacks test.txt" in capfd.readouterr().err


def test_a_seed_that_was_stopped_is_resumed(runs, corpus, tmp_path, capfd):
    shutil.copytree(runs / "seed-1", tmp_path / "seed-1")
    for name in ("all_results.json", "model.safetensors", "run.json", "README.md"):
        (tmp_path / "seed-1" / name).unlink()
    reproduce("conll2000", corpus, "--seeds", 1, "--output_dir", tmp_path, *TINY)
    assert "Training is resumed from" in capfd.readouterr().err
    assert results(tmp_path, 1)["test_f1"] == results(runs, 1)["test_f1"]


@pytest.mark.parametrize(
    ("options", "name", "cure"),
    [
        (["--seed", "5"], "seed", "name the seeds with --seeds"),
        (["--seed=5"], "seed", "name the seeds with --seeds"),
        (["--hidden_size", "4", "--seed=5"], "seed", "name the seeds with --seeds"),
        (["--output_dir", "a", "--output_dir", "b"], "output_dir", "give --output_dir once"),
        (["--output_dir=a", "--output_dir=b"], "output_dir", "give --output_dir once"),
        (["--output-dir", "a"], "output_dir", "give --output_dir once"),
        (["--train_file", "a.txt"], "train_file", "the files are those of DATA_DIR"),
        (["--train-file=a.txt"], "train_file", "the files are those of DATA_DIR"),
        (["--validation_file=a.txt"], "validation_file", "the files are those of DATA_DIR"),
        (["--test-file", "a.txt"], "test_file", "the files are those of DATA_DIR"),
        (["--dataset_name", "a"], "dataset_name", "the files are those of DATA_DIR"),
        (["--config", "a.yaml"], "config", "the options of the row are those of model_cards/ROW.yaml"),
        (["--config=a.yaml"], "config", "the options of the row are those of model_cards/ROW.yaml"),
        (["--resume_from_checkpoint", "true"], "resume_from_checkpoint", "a seed that was stopped is resumed anyway"),
        (["--resume-from-checkpoint=true"], "resume_from_checkpoint", "a seed that was stopped is resumed anyway"),
    ],
)
def test_options_that_are_set_for_each_run_are_refused(corpus, tmp_path, monkeypatch, capfd, options, name, cure):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        reproduce("conll2000", corpus, *options)
    captured = capfd.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith(f"error: --{name} is set for each run: {cure}")
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "[1]", '{"eval_f1": '])
def test_damaged_results_are_named(content, runs, corpus, tmp_path, capfd):
    shutil.copytree(runs / "seed-1", tmp_path / "seed-1")
    (tmp_path / "seed-1" / "all_results.json").write_text(content, encoding="utf-8")
    with pytest.raises(SystemExit, match="1"):
        reproduce("conll2000", corpus, "--seeds", 1, "--output_dir", tmp_path, *TINY)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path}/seed-1/all_results.json")


def test_a_seed_that_fails_is_named_after_what_it_said(corpus, tmp_path, capfd):
    options = ["--output_dir", tmp_path, *TINY, "--vectors", "nowhere.txt"]
    with pytest.raises(SystemExit, match="1"):
        reproduce("conll2000", corpus, "--seeds", 1, *options)
    said, summed_up = capfd.readouterr().err.splitlines()[-2:]
    assert said == "error: --vectors nowhere.txt is neither a file nor an installed package nor a transformer's folder."
    assert summed_up == "error: Seed 1 failed; what it said stands above."


def test_commands_are_printed_without_tokens(corpus, tmp_path, capfd):
    with pytest.raises(SystemExit, match="1"):
        reproduce("conll2000", corpus, "--seeds", 1, "--output_dir", tmp_path, "--hub_token", "tok-1234", "--nosuch")
    captured = capfd.readouterr()
    assert "--hub_token …" in captured.out
    assert "tok-1234" not in captured.out + captured.err
