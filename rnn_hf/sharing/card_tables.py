"""The tables of a model card: the model, its training, exported graphs."""

from pathlib import Path
from typing import Any

from ..inference.model_files import read_json
from ..models.configuration_rnn import RnnConfig
from ..models.labels import tagging_scheme
from ..utils.display import hide_folders, markdown, markdown_code

CELLS = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "tanh RNN", "rnn_relu": "ReLU RNN"}
# What results hold beside scores.
_NO_SCORES = {"runtime", "samples_per_second", "steps_per_second", "samples", "model_preparation_time"}
_SPLITS = {"eval": "validation", "test": "test"}
_SCORE_NAMES = {
    "average_precision": "macro average precision",
    "exact_match": "exact match",
    "expected_calibration_error": "expected calibration error",
    "expected_calibration_error_uncalibrated": "the same, without the temperature",
    "f1_micro": "micro F1",
    "mse": "mean squared error",
    "perplexity": "perplexity per token",
    "perplexity_backward": "perplexity per token, from right to left",
    "perplexity_forward": "perplexity per token, from left to right",
    "perplexity_per_word": "perplexity per word",
    "r2": "r²",
}


def is_tagger(config: RnnConfig) -> bool:
    """Tell whether a configuration is that of a tagger."""
    return "RnnForTokenClassification" in (config.architectures or [])


def is_language_model(config: RnnConfig) -> bool:
    """Tell whether a configuration is that of a pretrained encoder, without labels."""
    return any(name in ("RnnForPreTraining", "RnnForCausalLM") for name in config.architectures or [])


def score_name(config: RnnConfig, score: str) -> str:
    """Name a score for people: `span F1`, `macro F1`."""
    if score in ("f1", "precision", "recall"):
        of_spans = is_tagger(config) and tagging_scheme(config.label_names) is not None
        return f"{'span' if of_spans else 'macro'} {score.replace('f1', 'F1')}"
    return _SCORE_NAMES.get(score, score)


def score_keys(results: dict[str, Any], prefixes: list[str]) -> list[str]:
    """Name the scores among results without their prefixes, the loss last."""
    split = (key.partition("_") for key in results)
    names = dict.fromkeys(name for prefix, _, name in split if prefix in prefixes and name not in _NO_SCORES)
    return sorted(names, key=lambda name: name == "loss")


def model_rows(folder: Path, config: RnnConfig, results: dict[str, Any]) -> dict[str, str]:
    """Make the rows of the table of the model: their titles, and what they say."""
    directions = "in both directions" if config.bidirectional else "in one direction"
    layers = f"{config.num_hidden_layers} layer{'s' if config.num_hidden_layers > 1 else ''}"
    rows = {}
    if "num_parameters" in results:
        rows["Parameters"] = f"{results['num_parameters']:,}"
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    rows |= {
        "Size of the weights": f"{size / 1e6:.1f} MB",
        "Vocabulary": f"{config.vocab_size:,} entries",
        "Embedding of a token": _vectors(config),
        "Recurrent layers": f"{layers} of {config.hidden_size} units {directions}, {CELLS[config.cell_type]}",
    }
    if is_tagger(config):
        if config.subword_pooling != "none":
            rows["Words of several tokens"] = f"one step, the {config.subword_pooling} of their tokens"
        if config.num_lexical_features:
            rows["Lexical features"] = f"{config.num_lexical_features:,}: forms, shapes, prefixes and suffixes of words"
        marks = " that tells where spans end" if config.span_labels else ""
        rows["Labels of a sentence"] = (
            f"scored together by a conditional random field{marks}" if config.use_crf else "one by one"
        )
    elif not is_language_model(config):
        rows["Vector of a text"] = f"`{config.pooling}` of the states"
        if config.ngram_buckets:
            words = f"1 to {config.max_ngram} words" if config.max_ngram > 1 else "single words"
            rows["N-grams"] = f"of {words}, and of 2 to 6 characters, in {config.ngram_buckets:,} buckets"
    if config.temperature != 1:
        rows["Temperature of the logits"] = f"{config.temperature:g}, fitted on validation data"
    return rows


def _vectors(config: RnnConfig) -> str:
    parts = [f"{config.embedding_size} of the word embedding"]
    if config.static_embedding_size:
        parts.append(f"{config.static_embedding_size} of pretrained word vectors")
    if config.characters is not None:
        size = config.input_size - config.embedding_size - config.static_embedding_size
        parts.append(f"{size} character features")
    return f"{config.input_size} numbers: {', '.join(parts)}"


def training_rows(
    config: RnnConfig, results: dict[str, Any], run: dict[str, Any], state: dict[str, Any], args: dict[str, Any]
) -> dict[str, str]:
    """Make the rows of the table of training: their titles, and what they say."""
    rows = {}
    data = run.get("data", {})
    if data:
        rows["Data"] = ", ".join(
            f"{markdown(name.replace('_', ' '))}: {markdown_code(str(value))}" for name, value in data.items()
        )
    if "num_rows" in run:
        rows["Examples"] = ", ".join(f"{count:,} {markdown(split)}" for split, count in run["num_rows"].items())
    if "teaching" in run:
        rows |= _teaching_rows(config, run["teaching"], run.get("num_rows", {}).get("train", 0))
    if "data_report" in run:
        rows |= _data_rows(run["data_report"]["splits"])
    if run.get("tag_scheme"):
        predicted = "" if run["tag_scheme"] == "IOB2" else "; the model predicts IOB2"
        rows["Tag scheme"] = markdown(run["tag_scheme"]) + predicted
    if run.get("base_model"):
        rows["Fine-tuned from"] = markdown_code(hide_folders(run["base_model"]))
    if "train_runtime" in results:
        resumed = ", since it was resumed" if args.get("resume_from_checkpoint") else ""
        rows["Duration"] = _duration(results["train_runtime"]) + resumed
    if "epoch" in state:
        rows["Epochs"] = f"{state['epoch']:g}, {state.get('global_step', 0):,} steps"
    names = {"learning_rate": "Learning rate", "per_device_train_batch_size": "Batch size", "seed": "Seed"}
    rows |= {title: f"{args[name]:g}" for name, title in names.items() if name in args}
    if args.get("max_tokens_per_batch") and "Batch size" in rows:
        rows["Batch size"] += f", at most {args['max_tokens_per_batch']:,} tokens"
    if args.get("bf16") or args.get("fp16"):
        rows["Precision"] = "mixed, bfloat16" if args.get("bf16") else "mixed, float16"
    given = args["data"] if isinstance(args.get("data"), dict) else {}
    has_unlabelled = "unlabelled" in given and "teaching" not in run
    beside = {
        "a language model": args.get("lm_loss_weight"),
        "auxiliary labels": args.get("auxiliary_loss_weight") if "auxiliary_tags_column" in given else None,
        "R-Drop": args.get("rdrop_loss_weight"),
        "texts without labels": args.get("unlabelled_loss_weight") if has_unlabelled else None,
        "the logits of the teacher": args.get("distillation_loss_weight") if "teaching" in run else None,
    }
    if any(beside.values()):
        parts = [f"{name} (weight {weight:g})" for name, weight in beside.items() if weight]
        rows["Training loss"] = f"with that of {', '.join(parts)}; validation and test without"
    if run:
        threads = f"{run['num_threads']} thread{'s' if run['num_threads'] > 1 else ''}"
        processes = f", {run['num_processes']} processes" if run["num_processes"] > 1 else ""
        rows["Hardware"] = f"{markdown(run['device'])}; {threads}{processes}"
        rows["Software"] = ", ".join(markdown(f"{name} {version}") for name, version in run["versions"].items())
        rows["Date"] = markdown(run["date"])
    return rows


def _teaching_rows(config: RnnConfig, teaching: dict[str, Any], num_labelled: int) -> dict[str, str]:
    """Tell who taught the model, and on which texts beside those with labels."""
    named = []
    for teacher in teaching["teachers"]:
        scores = [
            f"{score_name(config, name.partition('_')[2])} {value:.4f} on {_SPLITS[name.partition('_')[0]]}"
            for name, value in teacher["scores"].items()
        ]
        named.append(markdown_code(teacher["name"]) + (f" ({scores[0]} data, by its own results)" if scores else ""))
    rows = {"Teacher" if len(named) == 1 else "Teachers, whose mean counts": ", ".join(named)}
    what = "sentences" if is_tagger(config) else "texts"
    num_unlabelled = teaching.get("num_unlabelled", 0)
    others = [f"{num_unlabelled:,} {what} of {markdown_code(teaching['unlabelled'])}"] if num_unlabelled else []
    if num_made := teaching["num_rows"] - num_labelled - num_unlabelled:
        others.append(f"{num_made:,} that were made of the {what}")
    if others:
        rows["Labelled by the teacher alone"] = ", ".join(others)
    return rows


def _data_rows(splits: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Tell how long the training texts are, and how many are there twice, or in other splits too."""
    train = splits["train"]
    rows = {}
    for unit in ("words", "tokens"):
        if unit in train:
            median, most, longest = train[unit]
            rows[f"Length in {unit}"] = f"median {median:,}, 95th percentile {most:,}, longest {longest:,}"
    repeated = _counted(train["num_repeated"], train)
    if train["num_contradicting"]:
        repeated += f", of which {train['num_contradicting']:,} with another label"
    rows["Repeated in the training data"] = repeated
    others = {name: split for name, split in splits.items() if "num_in_training" in split}
    if others:
        counts = (f"{markdown(name)} {_counted(split['num_in_training'], split)}" for name, split in others.items())
        rows["In the training data too"] = ", ".join(counts)
    return rows


def _counted(count: int, split: dict[str, Any]) -> str:
    return f"{count:,} of {split['num_read']:,}"


def exported_scores(folder: Path, config: RnnConfig) -> dict[str, dict[str, float]]:
    """Read how exported graphs scored: of each score of each split, the value by the graph's name."""
    scores: dict[str, dict[str, float]] = {}
    for path in sorted((folder / "onnx").glob("*_results.json")):
        graph, _, split = path.name.removesuffix("_results.json").rpartition("_")
        prefix = "eval" if split == "validation" else split
        results = read_json(path)
        for name in score_keys(results, [prefix]):
            if name in ("accuracy", "f1"):
                scores.setdefault(f"{score_name(config, name)} ({split})", {})[graph] = results[f"{prefix}_{name}"]
    return scores


def exported_row(name: str, graph: dict[str, Any], scores: dict[str, dict[str, float]]) -> list[str]:
    """Make the row of an exported graph: its name, its size, its speed, its scores."""
    values = [of_graphs.get(Path(name).stem) for of_graphs in scores.values()]
    speed = f"{graph['words_per_second']:,}" if "words_per_second" in graph else ""
    row = [markdown_code(name), f"{graph['bytes'] / 1e6:.1f} MB", speed]
    return row + ["" if value is None else f"{value:.4f}" for value in values]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


__all__ = [
    "CELLS",
    "exported_row",
    "exported_scores",
    "is_language_model",
    "is_tagger",
    "model_rows",
    "score_keys",
    "score_name",
    "training_rows",
]
