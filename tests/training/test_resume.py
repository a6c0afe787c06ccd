"""Runs that are killed and resumed end with the weights, bit for bit, of runs that nothing interrupts."""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import threading
import traceback
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from datasets import Dataset
from transformers import TrainerCallback

from rnn_hf.optimizers import sparse_tables
from rnn_hf.training import trainer as trainer_module
from rnn_hf.training.checkpoints import list_checkpoints
from rnn_hf.training.options import parse_arguments
from rnn_hf.training.pretrain import pretrain
from rnn_hf.training.train import train

TAG, PRETRAIN = "token-classification", "language-modeling"
NUM_KILLS = 10
# Of modes that only vary others.
FEW_KILLS = 3
EPOCHS, STEPS_PER_EPOCH = 4, 6
# Dropout everywhere, so that every random number counts; evaluation and saving in the middle of epochs.
OPTIONS = [
    "--hidden_size", "6", "--embedding_size", "4", "--char_num_filters", "2", "--vocab_size", "200",
    "--disable_tqdm", "true", "--num_train_epochs", str(EPOCHS), "--per_device_train_batch_size", "4",
    "--save_strategy", "steps", "--save_steps", "2", "--eval_strategy", "steps", "--eval_steps", "2",
    "--learning_rate", "0.01", "--save_total_limit", "3", "--early_stopping_patience", "0",
]  # fmt: skip
OF_TAGGERS = ["--num_lexical_features", "0"]
MODES = {
    "plain": [],
    "token batches": ["--max_tokens_per_batch", "100"],
    "streaming": ["--streaming", "true"],
    "group_by_length": ["--train_sampling_strategy", "group_by_length"],
    "workers": ["--dataloader_num_workers", "1"],
    "token batches with persistent workers": [
        "--max_tokens_per_batch", "100", "--dataloader_num_workers", "1", "--dataloader_persistent_workers", "true",
    ],
    "streaming with workers": ["--streaming", "true", "--dataloader_num_workers", "1"],
    "accumulation": ["--gradient_accumulation_steps", "2", "--per_device_train_batch_size", "2"],
    "R-Drop and a language model": ["--rdrop_loss_weight", "1", "--lm_loss_weight", "0.1"],
    "lexical features that are solved": ["--num_lexical_features", "64"],
    "lexical features that are trained": ["--num_lexical_features", "64", "--lexical_learning_rate", "0.01"],
}  # fmt: skip
OFTEN_KILLED = ("plain", "token batches", "streaming", "group_by_length")
# What a checkpoint holds that later steps depend on.
STATE = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth")


@pytest.fixture(scope="module")
def files(japanese_sentences, tmp_path_factory) -> list[str]:
    """24 and 8 sentences with parts of speech."""
    folder = tmp_path_factory.mktemp("tagged")
    rows = [{"tokens": [w[0] for w in words], "tags": [w[2] for w in words]} for words in japanese_sentences]
    rows = [row for row in rows if "感動詞" not in row["tags"] and len(row["tokens"]) < 30]
    parts = {"train": rows[:24], "validation": rows[24:32]}
    for name, part in parts.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return [f"--{name}_file={folder / name}.jsonl" for name in parts]


class KillAt(TrainerCallback):
    """Kill this process a moment after a step, where one is named only in the run of that folder."""

    def __init__(self, step: int, delay: float, folder: Path | None = None):
        self.step = step
        self.delay = delay
        self.folder = folder

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.step and self.folder in (None, Path(args.output_dir)):
            threading.Timer(self.delay, os.kill, (os.getpid(), signal.SIGKILL)).start()


def run(
    files: list[str], folder: Path, *options: str, kill: KillAt | None = None, processes: int = 1, task: str = TAG
) -> int:
    """Train in processes of their own, which share the libraries that are loaded already; return how they ended."""
    words = [*files, "--output_dir", str(folder), *OPTIONS, *(OF_TAGGERS if task == TAG else []), *options]
    port = free_port()
    children = [start(words, kill, rank, processes, port, task) for rank in range(processes)]
    code = 0
    running = set(children)
    while running:
        child, status = os.wait()
        if child not in running:
            continue  # what another test has left
        running.remove(child)
        code = code or os.waitstatus_to_exitcode(status)
        if code:
            for other in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(other, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)  # workers that outlive it
    return code


def start(words: list[str], kill: KillAt | None, rank: int, processes: int, port: int, task: str) -> int:
    child = os.fork()
    if child > 0:
        return child
    try:
        os.setpgid(0, 0)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        torch.set_num_threads(1)
        AcceleratorState._reset_state(reset_partial_state=True)  # that of tests before, in this process
        if processes > 1:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
            os.environ |= {"LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        if kill is not None:
            make = trainer_module.RnnTrainer.__init__
            trainer_module.RnnTrainer.__init__ = lambda self, *args, callbacks=(), **kwargs: make(
                self, *args, callbacks=[*callbacks, kill], **kwargs
            )
        arguments = parse_arguments(task, "", words)
        if task == PRETRAIN:
            pretrain(*arguments)
        else:
            train(task, *arguments)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def last_state(folder: Path, names: tuple[str, ...] = STATE) -> dict[str, bytes]:
    checkpoint = list_checkpoints(folder)[-1]
    return {name: (checkpoint / name).read_bytes() for name in names} | {"name": checkpoint.name.encode()}


def last_step(folder: Path) -> int:
    checkpoints = list_checkpoints(folder)
    return int(checkpoints[-1].name.rpartition("-")[2]) if checkpoints else 0


@pytest.mark.parametrize("mode", MODES)
def test_a_run_that_is_killed_again_and_again_ends_like_one_that_is_not(mode, files, tmp_path):
    options = MODES[mode]
    assert run(files, tmp_path / "whole", *options) == 0
    steps = json.loads((tmp_path / "whole" / "trainer_state.json").read_text())["max_steps"]
    assert steps >= EPOCHS * STEPS_PER_EPOCH

    random_numbers = random.Random(f"kill {mode}")
    wanted = NUM_KILLS if mode in OFTEN_KILLED else FEW_KILLS
    moments = sorted(random_numbers.sample(range(1, steps), wanted))
    folder = tmp_path / "killed"
    num_kills = 0
    for step in moments:
        if step <= last_step(folder):
            continue  # the kill before it came late
        kill = KillAt(step, random_numbers.uniform(0, 0.03))
        ended = run(files, folder, *options, "--resume_from_checkpoint", "true", kill=kill)
        num_kills += ended == -signal.SIGKILL
    assert run(files, folder, *options, "--resume_from_checkpoint", "true") == 0
    assert num_kills >= 0.7 * wanted
    whole, killed = last_state(tmp_path / "whole"), last_state(folder)
    assert [name for name in whole if whole[name] != killed[name]] == []
    assert (tmp_path / "whole/model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_with_rows_that_are_brought_up_to_date_when_read_ends_as_if_it_had_not_been_killed(
    processes, files, tmp_path, monkeypatch
):
    monkeypatch.setattr(sparse_tables, "LEAST_SIZE", 0)
    monkeypatch.setattr(sparse_tables, "may_read_weights", lambda callback: False)  # KillAt does not
    options = [*MODES["lexical features that are trained"], "--gradient_accumulation_steps", "2"]
    options += ["--per_device_train_batch_size", "1", "--use_cpu", "true"]
    assert run(files, tmp_path / "whole", *options, processes=processes) == 0
    kill = KillAt(7, 0)
    assert run(files, tmp_path / "killed", *options, kill=kill, processes=processes) == -signal.SIGKILL
    resumed = [*options, "--resume_from_checkpoint", "true"]
    assert run(files, tmp_path / "killed", *resumed, processes=processes) == 0
    names = STATE[:3]
    assert last_state(tmp_path / "whole", names) == last_state(tmp_path / "killed", names)


@pytest.mark.parametrize("options", [[], ["--streaming", "true"], ["--max_tokens_per_batch", "100"]])
def test_pretraining_that_is_killed_ends_like_one_that_is_not(options, files, tmp_path, monkeypatch):
    monkeypatch.setattr(sparse_tables, "LEAST_SIZE", 0)  # language models read whole tables, large ones too
    options = [*options, "--tokens_column", "tokens", "--chunk_length", "8", "--num_hidden_layers", "2"]
    assert run(files, tmp_path / "whole", *options, task=PRETRAIN) == 0
    for step in (5, 16):
        kill = KillAt(step, 0.01)
        resumed = [*options, "--resume_from_checkpoint", "true"]
        assert run(files, tmp_path / "killed", *resumed, task=PRETRAIN, kill=kill) == -signal.SIGKILL
    assert run(files, tmp_path / "killed", *resumed, task=PRETRAIN) == 0
    assert last_state(tmp_path / "whole") == last_state(tmp_path / "killed")
    whole, killed = (tmp_path / name / "model.safetensors" for name in ("whole", "killed"))
    assert whole.read_bytes() == killed.read_bytes()


def test_learning_from_unlabelled_text_that_is_killed_ends_like_one_that_is_not(files, tmp_path):
    options = ["--unlabelled_file", files[1].partition("=")[2], "--unlabelled_loss_weight", "1"]
    assert run(files, tmp_path / "whole", *options) == 0
    assert run(files, tmp_path / "killed", *options, kill=KillAt(15, 0)) == -signal.SIGKILL
    assert run(files, tmp_path / "killed", *options, "--resume_from_checkpoint", "true") == 0
    assert last_state(tmp_path / "whole") == last_state(tmp_path / "killed")
    assert run(files, tmp_path / "plain") == 0
    assert last_state(tmp_path / "whole", STATE[:1]) != last_state(tmp_path / "plain", STATE[:1])


def test_self_training_that_is_killed_in_either_stage_ends_like_one_that_is_not(files, tmp_path):
    options = ["--unlabelled_file", files[1].partition("=")[2], "--num_train_epochs", "2"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run(files, whole, *options) == 0
    resumed: list[str] = []
    for folder in (killed / "self-training-2", killed):
        assert run(files, killed, *options, *resumed, kill=KillAt(5, 0, folder)) == -signal.SIGKILL
        resumed = ["--resume_from_checkpoint", "true"]
    assert run(files, killed, *options, *resumed) == 0
    assert last_state(whole) == last_state(killed)
    for number in (1, 2, 3):
        saved = [folder / f"self-training-{number}/model.safetensors" for folder in (whole, killed)]
        assert saved[0].read_bytes() == saved[1].read_bytes()


def test_fine_tuning_layer_by_layer_that_is_killed_ends_like_one_that_is_not(files, tmp_path):
    options = ["--layer_lr_decay", "0.5", "--gradual_unfreezing", "0.7"]
    assert run(files, tmp_path / "whole", *options) == 0
    assert run(files, tmp_path / "killed", *options, kill=KillAt(7, 0)) == -signal.SIGKILL
    assert run(files, tmp_path / "killed", *options, "--resume_from_checkpoint", "true") == 0
    # Of the optimizer, the file's order may differ: its states are made one after the other.
    names = tuple(name for name in STATE if name != "optimizer.pt")
    assert last_state(tmp_path / "whole", names) == last_state(tmp_path / "killed", names)


def test_patience_is_counted_on(files, tmp_path):
    options = ["--learning_rate", "0", "--early_stopping_patience", "4"]
    assert run(files, tmp_path / "whole", *options) == 0
    stopped = last_step(tmp_path / "whole")
    assert stopped == 10  # the first evaluation is the best; four that are no better follow, two steps apart
    assert run(files, tmp_path / "killed", *options, kill=KillAt(7, 0)) == -signal.SIGKILL
    assert run(files, tmp_path / "killed", *options, "--resume_from_checkpoint", "true") == 0
    assert last_step(tmp_path / "killed") == stopped
    assert last_state(tmp_path / "whole") == last_state(tmp_path / "killed")


def test_a_run_that_had_stopped_early_takes_no_further_step(files, tmp_path):
    options = ["--learning_rate", "0", "--early_stopping_patience", "4"]
    assert run(files, tmp_path, *options) == 0
    (tmp_path / "all_results.json").unlink()  # as if it had been killed before its results
    assert run(files, tmp_path, *options, "--resume_from_checkpoint", "true") == 0
    assert last_step(tmp_path) == 10
    assert run(files, tmp_path, *options, "--resume_from_checkpoint", "true") != 0, "nothing is left to train"
    longer = [*options[:-1], "6"]
    assert run(files, tmp_path, *longer, "--resume_from_checkpoint", "true") == 0
    assert last_step(tmp_path) == 14


def test_a_folder_that_was_moved_is_resumed_with_its_best_state(files, tmp_path):
    options = ["--learning_rate", "0", "--early_stopping_patience", "0"]
    assert run(files, tmp_path / "old", *options, kill=KillAt(15, 0)) == -signal.SIGKILL
    shutil.move(tmp_path / "old", tmp_path / "new")
    assert run(files, tmp_path / "new", *options, "--resume_from_checkpoint", "true") == 0
    state = json.loads((tmp_path / "new" / "trainer_state.json").read_text())
    assert Path(state["best_model_checkpoint"]) == tmp_path / "new" / "checkpoint-2"


@pytest.fixture(scope="module")
def shards(files, tmp_path_factory) -> list[str]:
    """The same sentences in files of Parquet, of different sizes."""
    folder = tmp_path_factory.mktemp("shards")
    for file in files:
        name, path = file.removeprefix("--").split("_file=")
        rows = Dataset.from_json(path)
        for number, part in enumerate([range(2), range(2, 7), range(7, len(rows))]):
            rows.select(part).to_parquet(folder / f"{name}-{number}.parquet")
    return [f"--{name}_file={folder / name}-*.parquet" for name in ("train", "validation")]


@pytest.mark.parametrize("mode", [*OFTEN_KILLED, "streaming of shards"])
def test_two_processes_resume_exactly_in_a_later_epoch(mode, files, shards, tmp_path):
    if mode == "streaming of shards":
        files, mode = shards, "streaming"
    options = [*MODES[mode], "--per_device_train_batch_size", "2", "--use_cpu", "true"]
    assert run(files, tmp_path / "whole", *options, processes=2) == 0
    steps = json.loads((tmp_path / "whole" / "trainer_state.json").read_text())["max_steps"]
    kill = KillAt(steps * 5 // 8, 0)
    assert run(files, tmp_path / "killed", *options, processes=2, kill=kill) == -signal.SIGKILL
    assert 0 < last_step(tmp_path / "killed") < steps
    assert run(files, tmp_path / "killed", *options, "--resume_from_checkpoint", "true", processes=2) == 0
    names = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state_0.pth", "rng_state_1.pth")
    assert last_state(tmp_path / "whole", names) == last_state(tmp_path / "killed", names)
