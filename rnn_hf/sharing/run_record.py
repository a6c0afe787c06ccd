"""Record what a training run was: command, data, hardware, versions, speed, examples; as `run.json` in its folder."""

import json
import os
import platform
import re
import shlex
import statistics
import sys
import time
from collections.abc import Collection, Iterable
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
import transformers
import yaml
from transformers import PreTrainedTokenizerBase
from transformers.trainer_utils import PredictionOutput

from .. import __version__
from ..data.corpus import Corpus, DataArguments
from ..data.report import DataReport
from ..inference.loading import RnnModelWithHead, load
from ..inference.model_files import read_json
from ..inference.predictor import predict
from ..text.encoding import encode_texts, encode_words
from ..utils.files import replace_file
from ..utils.secrets import mask_command, mask_options, read_options_files

_NUM_TIMED_INPUTS = 256
_NUM_TIMED_ALONE = 32
_MIN_SECONDS = 0.2
_NUM_EXAMPLES = 3
_NUM_EXAMPLE_WORDS = 30
# What the card offers for trying the model out.
_NUM_SHORT_WORDS = 12
_NUM_SHORT_CHARACTERS = 100
# A confusion matrix of more labels fills megabytes, and no page.
_MOST_MATRIX_LABELS = 200


def record_run(
    output_dir: Path,
    corpus: Corpus,
    data_arguments: DataArguments,
    base_model: str | None,
    device: torch.device,
    num_processes: int,
    predictions: dict[str, PredictionOutput],
    secrets: Collection[str] = (),
    has_examples: bool = True,
    report: DataReport | None = None,
    teaching: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write `run.json` into the folder of a trained model, which is loaded and timed.

    Args:
        output_dir (`Path`): The folder, with model and tokenizer.
        corpus ([`Corpus`]): What it was trained on.
        data_arguments ([`DataArguments`]): Where that came from.
        base_model (`str`, *optional*): Folder or hub id of the checkpoint that was fine-tuned.
        device (`torch.device`): Where it was trained.
        num_processes (`int`): By how many processes.
        predictions (`dict[str, PredictionOutput]`): What the Trainer predicted for `validation` and `test`.
        secrets (`Collection[str]`): Values that must not be written, as [`~secrets.find_secrets`] gives them.
        has_examples (`bool`): Whether to write down texts of the data.
        report ([`DataReport`], *optional*): What the corpus holds; its numbers are written down.
        teaching (`dict[str, Any]`, *optional*): Who taught it what: `teachers`, each a `name` and `scores`;
            `num_rows` of all texts that they labelled; of those without labels `num_unlabelled`, and the name of their
            file, `unlabelled`. The others were made of these.

    Returns:
        `dict`: the content. `speed` is that of [`measure_speed`], `confusion_matrix`, of at most 200 labels, has a
        row for each true one and a column for each predicted one, `examples` are what [`predict`] gives for the first
        inputs of a split, `widget` short texts of the training data.
    """
    split = "test" if "test" in corpus.splits else "validation" if "validation" in corpus.splits else "train"
    inputs = list(islice(corpus.inputs(split), _NUM_TIMED_INPUTS))
    model, tokenizer = load(str(output_dir))
    record: dict[str, Any] = describe_run(
        corpus.task, _data(data_arguments), corpus.num_rows, base_model, device, num_processes, secrets
    ) | {
        **({} if corpus.tag_scheme is None else {"tag_scheme": corpus.tag_scheme}),
        **({} if report is None else {"data_report": report.to_dict()}),
        **({} if teaching is None else {"teaching": mask_options(teaching, secrets)}),
        "speed": {"split": split} | measure_speed(model, tokenizer, inputs),
        "examples": [],
    }
    if has_examples:
        record["examples"] = list(predict(model, tokenizer, [_shortened(one) for one in inputs[:_NUM_EXAMPLES]]))
        record["widget"] = _short_texts(corpus.inputs("train") if "train" in corpus.splits else inputs)
    has_classes = corpus.task == "text-classification" and corpus.problem_type == "single_label_classification"
    if has_classes and split in predictions and len(corpus.label_names) <= _MOST_MATRIX_LABELS:
        matrix = _confusion_matrix(predictions[split], len(corpus.label_names))
        record["confusion_matrix"] = {"split": split, "counts": matrix.tolist()}
    replace_file(output_dir / "run.json", json.dumps(record, indent=1, ensure_ascii=False))
    return record


def describe_run(
    task: str,
    data: dict[str, str],
    num_rows: dict[str, int],
    base_model: str | None,
    device: torch.device,
    num_processes: int,
    secrets: Collection[str] = (),
) -> dict[str, Any]:
    """Describe a training run of any kind: task, command, data, hardware, versions.

    Args:
        task (`str`): As in the hub.
        data (`dict[str, str]`): What the corpus is called: the file of each split, or a dataset.
        num_rows (`dict[str, int]`): Examples of each split.
        base_model (`str`, *optional*): Folder or hub id of the checkpoint that the run began with.
        device (`torch.device`): Where it was trained.
        num_processes (`int`): By how many processes.
        secrets (`Collection[str]`): Values that must not be written, as [`~secrets.find_secrets`] gives them.

    Returns:
        `dict`: the beginning of `run.json`.
    """
    return {
        "task": task,
        "date": date.today().isoformat(),
        **_command(sys.argv, secrets),
        "data": mask_options(data, secrets),
        "num_rows": num_rows,
        "base_model": mask_options(base_model, secrets),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name(),
        "num_processes": num_processes,
        "num_threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__}
        | {"transformers": transformers.__version__, "rnn_hf": __version__},
    }


def record_export(output_dir: Path) -> None:
    """Add to `run.json` the sizes of exported graphs, and their speed on the examples that stand there, if any.

    Args:
        output_dir (`Path`): Folder of a trained model with the folder `onnx` beside it.
    """
    import onnxruntime

    from ..export.folder import exported_files
    from ..export.runtime import load as load_onnx

    path = output_dir / "run.json"
    record = read_json(path, remedy="remove it, or train the model anew")
    try:
        inputs = [one["text"] if "text" in one else one["tokens"] for one in record["examples"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no examples to measure speed with: remove it, or train anew.") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    record["onnx"] = {}
    for name, size in exported_files(output_dir).items():
        if name.endswith(".onnx"):
            model: Any
            model, tokenizer = load_onnx(output_dir, file_name=name, session_options=options)
            speed = measure_speed(model, tokenizer, inputs) if inputs else {}
            record["onnx"][name] = {"bytes": size} | speed
    replace_file(path, json.dumps(record, indent=1, ensure_ascii=False))


def measure_speed(model: RnnModelWithHead, tokenizer: PreTrainedTokenizerBase, inputs: list[Any]) -> dict[str, Any]:
    """Time prediction, from text to labels.

    Args:
        model ([`RnnForSequenceClassification`] or [`RnnForTokenClassification`]): A model, on the device that it
            shall be timed on.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        inputs (`list[str]` or `list[list[str]]`): Texts for a classifier, lists of words for a tagger.

    Returns:
        `dict`: `words_per_second` and `tokens_per_second` of all inputs together; `milliseconds_per_input`, the median
        of inputs that come one by one, and `words_per_input`, their median length; the device, and how busy it was.
        The words of a text are those between white space.

    Example:
    ```python
    >>> from rnn_hf import RnnConfig, RnnForTokenClassification, train_tokenizer
    >>> from rnn_hf.sharing.run_record import measure_speed
    >>> tokenizer = train_tokenizer([["a", "b"]], kind="word", min_frequency=1, is_split_into_words=True)
    >>> model = RnnForTokenClassification(RnnConfig(vocab_size=len(tokenizer), hidden_size=8))
    >>> speed = measure_speed(model, tokenizer, [["a", "b", "a"]] * 5)
    >>> speed["num_inputs"], speed["num_words"], speed["words_per_input"], speed["words_per_second"] > 0
    (5, 15, 3, True)

    ```
    """
    words = [len(one.split()) if isinstance(one, str) else len(one) for one in inputs]
    is_text = isinstance(inputs[0], str)
    encoded = encode_texts(tokenizer, inputs) if is_text else encode_words(tokenizer, inputs)[0]
    tokens = sum(len(ids) for ids in encoded)
    list(predict(model, tokenizer, inputs[:_NUM_TIMED_ALONE]))
    passes, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < _MIN_SECONDS:
        list(predict(model, tokenizer, inputs))
        passes += 1
    alone = []
    for one in inputs[:_NUM_TIMED_ALONE]:
        start = time.perf_counter()
        list(predict(model, tokenizer, [one]))
        alone.append(time.perf_counter() - start)
    return {
        "device": processor_name() if model.device.type == "cpu" else torch.cuda.get_device_name(model.device),
        "num_threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,  # not on Windows
        "num_inputs": len(inputs),
        "num_words": sum(words),
        "words_per_second": round(passes * sum(words) / seconds),
        "tokens_per_second": round(passes * tokens / seconds),
        "milliseconds_per_input": round(statistics.median(alone) * 1e3, 2),
        "words_per_input": statistics.median(words[:_NUM_TIMED_ALONE]),
    }


def processor_name() -> str:
    """Name the processor and its number of cores."""
    try:
        names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        names = []
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{' '.join(name.split())}, {os.cpu_count()} cores"


def _command(arguments: list[str], secrets: Collection[str]) -> dict[str, str]:
    """Write down the command, and the options in the file that it names, without secrets."""
    record = {"command": shlex.join(mask_command([*_program(arguments[0]), *arguments[1:]], secrets))}
    options = read_options_files(arguments)
    if isinstance(options, dict):
        # Written anew: comments and quotes of the file itself could hold what the options do not.
        record["options"] = yaml.safe_dump(mask_options(options, secrets), sort_keys=False, allow_unicode=True)
    return record


def _program(path: str) -> list[str]:
    """Write a program as it is called: an installed command by its name, the package as a module."""
    program = Path(path)
    if program.stem == "rnn-hf":
        return ["rnn-hf"]
    return ["python", "-m", "rnn_hf"] if program.parts[-2:] == ("rnn_hf", "__main__.py") else ["python", path]


def _data(arguments: DataArguments) -> dict[str, str]:
    """Name the corpus: a dataset of the hub with its configuration, or files without their folders."""
    if arguments.dataset_name is not None:
        named = {"dataset_name": arguments.dataset_name, "dataset_config_name": arguments.dataset_config_name}
        if Path(arguments.dataset_name).exists():
            return {"folder": Path(arguments.dataset_name).name}
        return {key: value for key, value in named.items() if value is not None}
    files = {name: getattr(arguments, f"{name}_file") for name in ("train", "validation", "test")}
    return {name: file_name(file) for name, file in files.items() if file is not None}


def file_name(file: str) -> str:
    """Name a file without its folders or address.

    Example:
    ```python
    >>> from rnn_hf.sharing.run_record import file_name
    >>> file_name("https://host/corpora/a.csv?version=1")
    'a.csv'

    ```
    """
    return Path(urlsplit(file).path).name if "://" in file else Path(file).name


def _shortened(one: Any) -> Any:
    if isinstance(one, str):
        words = one.split()
        return one if len(words) <= _NUM_EXAMPLE_WORDS else " ".join(words[:_NUM_EXAMPLE_WORDS])
    return one[:_NUM_EXAMPLE_WORDS]


def _short_texts(inputs: Iterable[Any]) -> list[str]:
    """Choose a few short texts: whole ones where there are enough, else beginnings."""
    words = [one.split() if isinstance(one, str) else one for one in islice(inputs, _NUM_TIMED_INPUTS)]
    whole = [" ".join(one) for one in words if 0 < len(one) <= _NUM_SHORT_WORDS]
    texts = [text for text in whole if len(text) <= _NUM_SHORT_CHARACTERS]
    texts += [" ".join(one[:_NUM_SHORT_WORDS])[:_NUM_SHORT_CHARACTERS] for one in words if one]
    return list(dict.fromkeys(texts))[:_NUM_EXAMPLES]


def _confusion_matrix(output: PredictionOutput, num_labels: int) -> np.ndarray:
    """Count the pairs of true and predicted labels: `[num_labels, num_labels]`."""
    matrix = np.zeros((num_labels, num_labels), dtype=int)
    true, predicted = np.asarray(output.label_ids), np.asarray(output.predictions)
    known = (true >= 0) & (true < num_labels)
    np.add.at(matrix, (true[known], predicted[known]), 1)
    return matrix


__all__ = ["describe_run", "file_name", "measure_speed", "processor_name", "record_export", "record_run"]
