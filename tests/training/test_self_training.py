"""Self-training: models of other seeds label the texts without labels, and the student learns from them."""

import json
from pathlib import Path

import pytest

from rnn_hf.training.options import parse_arguments
from rnn_hf.training.train import train

TASK, TAG = "text-classification", "token-classification"
OPTIONS = ["--hidden_size", "8", "--embedding_size", "8", "--max_steps", "3", "--disable_tqdm", "true"]
STEPS = ["--save_strategy", "steps", "--save_steps", "1", "--eval_strategy", "no"]
RESUMED = ["--max_steps", "5", "--resume_from_checkpoint", "true"]


@pytest.fixture
def files(tmp_path) -> list[str]:
    rows = [{"text": f"a {word} film {n}", "label": word} for n in range(30) for word in ("good", "bad")]
    (tmp_path / "few.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "more.txt").write_text("a good plot\na bad plot\n" * 10, encoding="utf-8")
    return [f"--train_file={tmp_path / 'few.jsonl'}", f"--unlabelled_file={tmp_path / 'more.txt'}"]


@pytest.fixture
def tagged(tmp_path) -> list[str]:
    rows = [{"tokens": ["a", word, f"film{n}"], "tags": ["O", "B-X" if word == "good" else "O", "O"]}
            for n in range(30) for word in ("good", "bad")]  # fmt: skip
    (tmp_path / "few.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "more.txt").write_text("a good plot\na bad plot\n" * 10, encoding="utf-8")
    return [f"--train_file={tmp_path / 'few.jsonl'}", f"--unlabelled_file={tmp_path / 'more.txt'}"]


def run(files, folder, *options, task=TASK) -> Path:
    train(task, *parse_arguments(task, "", [*files, "--output_dir", str(folder), *OPTIONS, *options]))
    return folder


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def recorded(folder: Path) -> tuple:
    options = json.loads((folder / "training_args.json").read_text())
    return options["self_training"], options["unlabelled_loss_weight"]


def test_it_is_the_same_as_teachers_of_the_next_seeds(files, tmp_path):
    folder = run(files, tmp_path / "out", "--self_training", "2", "--seed", "5", "--augment", "1")
    teachers = [str(run(files[:1], tmp_path / f"seed-{seed}", "--seed", str(seed))) for seed in (6, 7)]
    other = run(files, tmp_path / "other", "--teacher", *teachers, "--seed", "5", "--augment", "1")
    assert weights(folder) == weights(other)
    assert "20 texts of `more.txt`" in (folder / "README.md").read_text(encoding="utf-8")


def test_teachers_are_deleted_with_the_checkpoints(files, tmp_path):
    folder = run(files, tmp_path / "out", "--self_training", "1", "--keep_checkpoints", "false")
    assert (folder / "model.safetensors").exists()
    assert not [path for path in folder.iterdir() if path.is_dir()]


def test_teachers_that_are_there_stay_when_a_run_is_resumed(files, tmp_path):
    folder = run(files, tmp_path / "out", *STEPS, "--self_training", "2")
    saved = [folder / f"self-training-{number}" / "model.safetensors" for number in (1, 2)]
    before = [path.stat().st_mtime_ns for path in saved]
    run(files, folder, *STEPS, *RESUMED)
    assert [path.stat().st_mtime_ns for path in saved] == before
    assert not (folder / "self-training-3").exists(), "it began with two"
    assert json.loads((folder / "trainer_state.json").read_text())["global_step"] == 5


def test_texts_without_labels_are_for_self_training(files, tmp_path, messages):
    folder = run(files, tmp_path / "out")
    assert any("Self-training: 3 models of other seeds" in one for one in messages())
    assert recorded(folder) == (3, 1.0)
    assert weights(folder) == weights(run(files, tmp_path / "said", "--self_training", "3"))


def test_a_weight_is_for_other_objectives(files, tmp_path):
    folder = run(files, tmp_path / "weighed", "--unlabelled_loss_weight", "1")
    assert recorded(folder) == (0, 1.0)
    assert not list(folder.glob("self-training-*"))
    assert weights(folder) == weights(run(files, tmp_path / "without", "--self_training", "0"))
    assert recorded(run(files[:1], tmp_path / "alone")) == (0, 1.0)
    assert weights(folder) != weights(tmp_path / "alone")


def test_a_resumed_run_learns_as_it_began(files, tmp_path):
    folder = run(files, tmp_path / "weighed", *STEPS, "--unlabelled_loss_weight", "0.5")
    run(files, folder, *STEPS, *RESUMED)
    assert recorded(folder) == (0, 0.5)
    assert not list(folder.glob("self-training-*"))
    folder = run(files, tmp_path / "taught", *STEPS, "--self_training", "1")
    with pytest.raises(ValueError, match=r"other options .*self_training 1 → 0"):
        run(files, folder, *STEPS, *RESUMED, "--unlabelled_loss_weight", "1")


@pytest.mark.parametrize(
    "options",
    [["--streaming"], ["--max_tokens_per_batch", "60"], ["--train_sampling_strategy", "group_by_length"]],
    ids=lambda options: options[0],
)
def test_batches_of_every_kind(files, tmp_path, options):
    folder = run(files, tmp_path / "out", "--self_training", "1", *options)
    assert "20 texts of `more.txt`" in (folder / "README.md").read_text(encoding="utf-8")


def test_a_tagger_with_a_random_field(tagged, tmp_path):
    folder = run(tagged, tmp_path / "out", task=TAG)
    teachers = [folder / f"self-training-{number}" for number in (1, 2, 3)]
    for one in (folder, *teachers):
        assert json.loads((one / "config.json").read_text())["use_crf"]
    assert len({weights(one) for one in teachers}) == 3
    other = run(tagged, tmp_path / "other", "--teacher", *map(str, teachers), task=TAG)
    assert weights(folder) == weights(other)
    assert "20 sentences of `more.txt`" in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--unlabelled_file", "nowhere.txt"], "There is no file nowhere.txt"),
        (["--resume_from_checkpoint", "nowhere"], "nowhere is no complete checkpoint"),
        (["--distillation_loss_weight", "0"], "leaves nothing of the --self_training"),
        (["--self_training", "2", "--unlabelled_loss_weight", "1"], "has no effect beside --self_training"),
    ],
)
def test_what_the_student_lacks_is_said_before_teachers_are_trained(files, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run(files, tmp_path / "out", *options)
    assert not list(tmp_path.glob("out/self-training-*"))


def test_a_folder_in_use_is_named_before_teachers_are_trained(files, tmp_path):
    run(files[:1], tmp_path / "out", "--keep_checkpoints", "false")
    with pytest.raises(ValueError, match="out holds a trained model"):
        run(files, tmp_path / "out")
    assert not list(tmp_path.glob("out/self-training-*"))
