"""The output folder of a run: one run at a time, nobody's files overwritten, no damaged checkpoint taken."""

import errno
import json
import multiprocessing
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from safetensors import SafetensorError
from safetensors.torch import load_file

from rnn_hf import RnnConfig, RnnForTokenClassification, RnnTrainer, RnnTrainingArguments
from rnn_hf.inference.loading import load
from rnn_hf.training.checkpoints import (
    CHECKSUMS,
    RESULTS,
    find_checkpoint,
    find_damage,
    list_checkpoints,
    write_checksums,
)
from rnn_hf.training.locks import locked
from rnn_hf.training.options import parse_arguments
from rnn_hf.training.runs import check_resumed
from rnn_hf.training.train import train

TASK = "token-classification"
OPTIONS = [
    "--hidden_size", "4", "--embedding_size", "4", "--char_num_filters", "2", "--disable_tqdm", "true",
    "--vocab_size", "50", "--max_steps", "6", "--save_strategy", "steps", "--save_steps", "2",
    "--eval_strategy", "no", "--per_device_train_batch_size", "4", "--save_total_limit", "3",
]  # fmt: skip
DAMAGES = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "emptied": lambda path: path.write_bytes(b""),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "one bit flipped": lambda path: path.write_bytes(flipped(path.read_bytes())),
    "removed": lambda path: path.unlink(),
}
FILES = [
    "config.json", "model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json",
    "tokenizer.json", "tokenizer_config.json", "modeling_rnn.py", CHECKSUMS,
]  # fmt: skip
# What the formats of the Trainer's own files promise.
FOUND_BY_FORMAT = [
    (name, damage)
    for name in ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")
    for damage in ("truncated", "emptied", "zeroed", "removed")
]


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def run(folder: Path, output_dir: Path, *options: str) -> dict[str, float]:
    words = ["--train_file", str(folder / "words.jsonl"), "--output_dir", str(output_dir), *OPTIONS, *options]
    return train(TASK, *parse_arguments(TASK, "", words))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of a run with the checkpoints 2, 4 and 6, with its data beside it."""
    folder = tmp_path_factory.mktemp("runs")
    rows = [{"tokens": ["a", "b", str(i)], "tags": ["X", "Y", "X"]} for i in range(20)]
    (folder / "words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run(folder, folder / "run")
    return folder / "run"


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    """The same, stopped after its last checkpoint and before its results."""
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    (folder / RESULTS).unlink()
    return folder


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_taken(name, damage, copy):
    checkpoint = copy / "checkpoint-6"
    DAMAGES[damage](checkpoint / name)
    if (name, damage) == (CHECKSUMS, "removed"):
        assert find_damage(checkpoint) is None  # the files themselves are whole
        return
    problem = str(find_damage(checkpoint))
    assert name in problem or (name == CHECKSUMS and problem.endswith(("has changed", "is missing")))
    assert find_checkpoint(copy, "true") == copy / "checkpoint-4"
    assert [one.name for one in list_checkpoints(copy)] == ["checkpoint-2", "checkpoint-4"]
    assert (copy / "damaged-checkpoint-6").is_dir()


@pytest.mark.parametrize(("name", "damage"), FOUND_BY_FORMAT)
def test_damage_is_found_without_checksums(name, damage, copy):
    checkpoint = copy / "checkpoint-6"
    (checkpoint / CHECKSUMS).unlink()
    assert find_damage(checkpoint) is None
    DAMAGES[damage](checkpoint / name)
    assert name in str(find_damage(checkpoint))


@pytest.mark.parametrize("content", ["{}", "[]", "null", "7", '{"global_step": 3}'])
def test_a_state_of_another_shape_is_found_without_checksums(content, copy):
    (copy / "checkpoint-6" / CHECKSUMS).unlink()
    (copy / "checkpoint-6" / "trainer_state.json").write_text(content, encoding="utf-8")
    assert find_damage(copy / "checkpoint-6") == "trainer_state.json is damaged"
    assert find_checkpoint(copy, "true") == copy / "checkpoint-4"


def test_a_run_with_a_damaged_checkpoint_ends_with_the_same_weights(finished, copy, capsys):
    DAMAGES["zeroed"](copy / "checkpoint-6" / "optimizer.pt")
    run(finished.parent, copy, "--resume_from_checkpoint", "true")
    before, after = (load_file(folder / "checkpoint-6" / "model.safetensors") for folder in (finished, copy))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_finished_run_without_a_step_left_is_refused_and_stays_as_it_was(finished, tmp_path):
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(
        ValueError, match=r"has ended after 6 steps, and nothing is left to train: give more --num_train"
    ):
        run(finished.parent, folder, "--resume_from_checkpoint", "true")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    run(finished.parent, folder, "--resume_from_checkpoint", "true", "--max_steps", "8")
    assert json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))["global_step"] == 8


def test_a_run_that_was_stopped_before_its_results_takes_no_step_more(finished, copy):
    run(finished.parent, copy, "--resume_from_checkpoint", "true")
    assert json.loads((copy / "trainer_state.json").read_text(encoding="utf-8"))["global_step"] == 6
    before, after = (load_file(folder / "model.safetensors") for folder in (finished, copy))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_other_options_than_those_it_began_with_are_said(finished, copy, caplog):
    run(finished.parent, copy, "--resume_from_checkpoint", "true", "--seed", "7", "--learning_rate", "0.5")
    changes = "learning_rate 0.002 → 0.5, seed 42 → 7"
    assert f"began with other options or data ({changes})" in caplog.text
    caplog.clear()
    (copy / RESULTS).unlink()
    run(finished.parent, copy, "--resume_from_checkpoint", "true", "--seed", "7", "--learning_rate", "0.5")
    assert "began with other" not in caplog.text


def test_other_data_than_those_it_began_with_are_said(finished, copy, tmp_path, caplog):
    text = (finished.parent / "words.jsonl").read_text(encoding="utf-8")
    for changed in (text.replace('"7"', '"8"'), text + text.splitlines()[0]):
        (tmp_path / "words.jsonl").write_text(changed, encoding="utf-8")
        caplog.clear()
        run(tmp_path, copy, "--resume_from_checkpoint", "true")
        assert re.search(r"other options or data \(train data 20 rows, \w+ → 2[01] rows, \w+\)", caplog.text)
        shutil.copy(finished / "training_args.json", copy)
        (copy / RESULTS).unlink()
    caplog.clear()
    run(finished.parent, copy, "--resume_from_checkpoint", "true")
    assert "began with other" not in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ignore_data_skip", "true"], "ignore_data_skip False → True"),
        (["--adam_beta1", "0.5"], "adam_beta1 0.9 → 0.5"),
        (["--embedding_dropout", "0.25"], r"embedding_dropout 0\.\d+ → 0.25"),
        (["--rdrop_loss_weight", "2"], r"rdrop_loss_weight \S+ → 2.0"),
    ],
)
def test_options_that_change_how_it_ends_are_said(options, message, finished, copy, caplog):
    run(finished.parent, copy, "--resume_from_checkpoint", "true", *options)
    assert re.search(rf"began with other options.*{message}", caplog.text)


class TestWithoutOptimizer:
    @pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "model.safetensors"])
    @pytest.mark.parametrize("checksums", ["{}", "without it"])
    def test_a_file_that_no_checksum_names_is_missed(self, name, checksums, copy):
        checkpoint = copy / "checkpoint-6"
        known = json.loads((checkpoint / CHECKSUMS).read_text(encoding="utf-8"))
        (checkpoint / name).unlink()
        del known[name]
        (checkpoint / CHECKSUMS).write_text("{}" if checksums == "{}" else json.dumps(known), encoding="utf-8")
        assert find_damage(checkpoint) == f"{name} is missing"

    @pytest.mark.parametrize("by_name", [True, False])
    def test_a_checkpoint_of_the_model_alone_is_refused_and_stays(self, by_name, finished, tmp_path):
        run(finished.parent, tmp_path / "run", "--save_only_model", "true")
        checkpoint = tmp_path / "run" / "checkpoint-6"
        with pytest.raises(ValueError, match=r"checkpoint-6 holds the model alone \(--save_only_model\)"):
            find_checkpoint(tmp_path / "run", str(checkpoint) if by_name else "true")
        assert checkpoint.is_dir()

    def test_a_checkpoint_that_a_kill_cut_off_is_passed_over(self, copy):
        for path in (copy / "checkpoint-6").iterdir():
            if path.name not in ("config.json", "model.safetensors"):
                path.unlink()
        assert find_checkpoint(copy, "true") == copy / "checkpoint-4"

    def test_resuming_needs_a_value(self, copy):
        with pytest.raises(ValueError, match="needs a value"):
            find_checkpoint(copy, " ")


def test_a_checkpoint_whose_best_state_is_damaged_is_passed_over(copy):
    path = copy / "checkpoint-6" / "trainer_state.json"
    state = json.loads(path.read_text(encoding="utf-8")) | {"best_global_step": 4}
    path.write_text(json.dumps(state), encoding="utf-8")
    write_checksums(copy / "checkpoint-6")
    assert find_checkpoint(copy, "true") == copy / "checkpoint-6"
    DAMAGES["emptied"](copy / "checkpoint-4" / "model.safetensors")
    assert find_checkpoint(copy, "true") == copy / "checkpoint-2"


def test_without_a_whole_checkpoint_training_starts_from_the_beginning(copy):
    for checkpoint in list_checkpoints(copy):
        DAMAGES["emptied"](checkpoint / "model.safetensors")
    assert find_checkpoint(copy, "true") is None
    assert len(list(copy.glob("damaged-checkpoint-*"))) == 3


def test_a_damaged_checkpoint_that_is_named_is_refused_with_a_whole_one(copy):
    DAMAGES["truncated"](copy / "checkpoint-6" / "scheduler.pt")
    message = r"checkpoint-6 is no complete checkpoint of a run: scheduler.pt has .* bytes.*checkpoint-4 is whole"
    with pytest.raises(ValueError, match=message):
        find_checkpoint(copy, str(copy / "checkpoint-6"))
    assert find_checkpoint(copy, str(copy / "checkpoint-2")) == copy / "checkpoint-2"


def test_other_folders_are_no_checkpoints(copy):
    for name in ("checkpoint-foo", "checkpoint-", "checkpoint-9-old"):
        (copy / name).mkdir()
    (copy / "checkpoint-99").write_text("a file", encoding="utf-8")
    assert [one.name for one in list_checkpoints(copy)] == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    assert find_checkpoint(copy, "true") == copy / "checkpoint-6"


class TestWhoseFolder:
    @pytest.mark.parametrize("resume", [None, "false", "true"])
    @pytest.mark.parametrize(
        "name", ["config.json", "README.md", "model.safetensors", "tokenizer.json", "modeling_rnn.py", "run.json"]
    )
    def test_files_that_training_would_overwrite_are_somebody_s(self, name, resume, tmp_path):
        (tmp_path / name).write_text("mine", encoding="utf-8")
        with pytest.raises(ValueError, match=f"holds files that training would overwrite: {name}"):
            find_checkpoint(tmp_path, resume)

    @pytest.mark.parametrize("resume", [None, "true"])
    def test_other_files_are_left_alone(self, resume, tmp_path):
        for name in ("log.txt", "notes.md", ".gitignore"):
            (tmp_path / name).write_text("mine", encoding="utf-8")
        assert find_checkpoint(tmp_path, resume) is None

    @pytest.mark.parametrize("resume", [None, "true"])
    def test_a_trained_model_without_its_checkpoints_is_not_overwritten(self, resume, copy):
        for checkpoint in list_checkpoints(copy):
            shutil.rmtree(checkpoint)
        with pytest.raises(ValueError, match="holds a trained model, which would be overwritten"):
            find_checkpoint(copy, resume)

    def test_newer_checkpoints_of_an_earlier_run_may_fill_what_is_kept(self, finished, tmp_path, capsys):
        output_dir = tmp_path / "run"
        run(finished.parent, output_dir, "--max_steps", "6", "--save_steps", "6")
        data = Dataset.from_dict({"input_ids": [[3, 4]] * 8, "labels": [[0, 1]] * 8})
        model, tokenizer = load(str(output_dir))
        args = RnnTrainingArguments(
            str(output_dir), max_steps=2, save_strategy="steps", save_steps=1, save_total_limit=1, eval_strategy="no"
        )
        trainer = RnnTrainer(model, args, train_dataset=data, processing_class=tokenizer)
        assert trainer.train().global_step == 2

    @pytest.mark.parametrize("resume", [None, "true"])
    def test_a_run_that_ended_before_its_first_checkpoint_is_begun_again(self, resume, tmp_path):
        for name in ("training_args.json", "tokenizer.json", "tokenizer_config.json"):
            (tmp_path / name).write_text("{}", encoding="utf-8")
        assert find_checkpoint(tmp_path, resume) is None

    def test_checkpoints_are_kept_or_deleted_as_wished(self, finished, tmp_path, capsys):
        run(finished.parent, tmp_path / "kept")
        assert "3 checkpoints" in capsys.readouterr().out
        run(finished.parent, tmp_path / "deleted", "--keep_checkpoints", "false")
        assert not list_checkpoints(tmp_path / "deleted")
        assert (tmp_path / "deleted" / "model.safetensors").is_file()


def hold(folder: Path, is_held) -> None:
    with locked(folder):
        is_held.set()
        signal.pause()


class TestLock:
    def test_one_run_a_folder(self, finished, tmp_path):
        with locked(tmp_path / "run"):
            with pytest.raises(ValueError, match=r"Another run is writing to .*: wait for its end"):
                run(finished.parent, tmp_path / "run")
            with locked(tmp_path / "other"):
                pass
        # Nothing stands in them.
        assert not (tmp_path / "run").exists()
        assert not (tmp_path / "other").exists()

    @pytest.mark.parametrize(
        "error",
        [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error: (os error 28)"),
         RuntimeError("[enforce fail] PytorchStreamWriter failed writing file data/0: file write failed")],
    )  # fmt: skip
    def test_a_full_disk_is_named(self, error, tmp_path):
        with (
            pytest.raises(ValueError, match=r"run could not be written to: the disk is full"),
            locked(tmp_path / "run"),
        ):
            raise error

    def test_a_dead_process_holds_no_lock(self, tmp_path):
        context = multiprocessing.get_context("fork")
        is_held = context.Event()
        process = context.Process(target=hold, args=(tmp_path, is_held))
        process.start()
        assert is_held.wait(20)
        with pytest.raises(ValueError, match="Another run"), locked(tmp_path):
            pass
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        with locked(tmp_path):
            pass


class TestOtherModel:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--hidden_size", "6"], "hidden_size 4 → 6"),
            (["--cell_type", "gru"], "cell_type lstm → gru"),
            (["--optim", "sgd"], "optim adamw_torch.* → sgd"),
        ],
    )
    def test_a_checkpoint_of_another_model_is_refused(self, options, message, finished, copy):
        with pytest.raises(ValueError, match=message):
            run(finished.parent, copy, "--resume_from_checkpoint", "true", *options)

    def test_a_tagger_of_an_earlier_version_does_not_go_on_with_words(self, tmp_path):
        model = RnnForTokenClassification(RnnConfig(vocab_size=9, hidden_size=4, subword_pooling="mean"))
        model.config.architectures = [type(model).__name__]
        config = json.loads(model.config.to_json_string())
        (tmp_path / "config.json").write_text(json.dumps(config))
        check_resumed(tmp_path, model)
        del config["subword_pooling"]
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match="subword_pooling none → mean"):
            check_resumed(tmp_path, model)

    def test_a_checkpoint_for_other_labels_is_refused(self, finished, copy, tmp_path):
        text = (finished.parent / "words.jsonl").read_text(encoding="utf-8").replace('"Y"', '"Z"')
        (tmp_path / "words.jsonl").write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=r"is of another model than these options and these data make .*id2label"):
            run(tmp_path, copy, "--resume_from_checkpoint", "true")
