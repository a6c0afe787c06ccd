"""Self-training: models of other seeds label the texts without labels, and the student learns from them."""

import json
from pathlib import Path

import pytest

from rnn_hf.training.options import parse_arguments
from rnn_hf.training.train import train

TASK = "text-classification"
OPTIONS = ["--hidden_size", "8", "--embedding_size", "8", "--max_steps", "3", "--disable_tqdm", "true"]


@pytest.fixture
def files(tmp_path) -> list[str]:
    rows = [{"text": f"a {word} film {n}", "label": word} for n in range(30) for word in ("good", "bad")]
    (tmp_path / "few.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "more.txt").write_text("a good plot\na bad plot\n" * 10, encoding="utf-8")
    return [f"--train_file={tmp_path / 'few.jsonl'}", f"--unlabelled_file={tmp_path / 'more.txt'}"]


def run(files, folder, *options) -> Path:
    train(TASK, *parse_arguments(TASK, "", [*files, "--output_dir", str(folder), *OPTIONS, *options]))
    return folder


def test_it_is_the_same_as_teachers_of_the_next_seeds(files, tmp_path):
    folder = run(files, tmp_path / "out", "--self_training", "2", "--seed", "5", "--augment", "1")
    teachers = [str(run(files[:1], tmp_path / f"seed-{seed}", "--seed", str(seed))) for seed in (6, 7)]
    other = run(files, tmp_path / "other", "--teacher", *teachers, "--seed", "5", "--augment", "1")
    assert (folder / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    assert "20 texts of `more.txt`" in (folder / "README.md").read_text(encoding="utf-8")


def test_teachers_are_deleted_with_the_checkpoints(files, tmp_path):
    folder = run(files, tmp_path / "out", "--self_training", "1", "--keep_checkpoints", "false")
    assert (folder / "model.safetensors").exists()
    assert not [path for path in folder.iterdir() if path.is_dir()]


def test_teachers_that_are_there_stay_when_a_run_is_resumed(files, tmp_path):
    steps = ["--save_strategy", "steps", "--save_steps", "1", "--eval_strategy", "no", "--self_training", "2"]
    folder = run(files, tmp_path / "out", *steps)
    weights = [folder / f"self-training-{number}" / "model.safetensors" for number in (1, 2)]
    before = [path.stat().st_mtime_ns for path in weights]
    run(files, folder, *steps, "--max_steps", "5", "--resume_from_checkpoint", "true")
    assert [path.stat().st_mtime_ns for path in weights] == before
    assert json.loads((folder / "trainer_state.json").read_text())["global_step"] == 5
