"""Write the model card of a trained model, from the files of its run."""

import shlex
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from jinja2 import UndefinedError

from ..inference.loading import load_config
from ..inference.model_files import read_json
from ..models.configuration_rnn import RnnConfig
from ..models.labels import tagging_scheme
from ..utils.display import hide_folders, json_line, markdown, markdown_block, markdown_code, printable, shorten
from ..utils.files import replace_file
from ..utils.secrets import find_secrets, mask_command, mask_options
from .card_tables import (
    CELLS,
    exported_row,
    exported_scores,
    is_language_model,
    is_tagger,
    model_rows,
    score_keys,
    score_name,
    training_rows,
)
from .card_text import joined, marked, merged, read_model_card, sections
from .plots import draw_confusion_matrix, draw_training_curve
from .pretraining_card import PRETRAINING_TEMPLATE, describe_language_model, pretraining_limits

_TEMPLATE = Path(__file__).with_name("model_card_template.md")
_FILES = ("all_results.json", "run.json", "trainer_state.json", "training_args.json")
_SPLITS = {"eval": "validation", "test": "test"}
_METRIC_TYPES = {"f1_micro": "f1", "r2": "r_squared"}
# Scores that the metadata, which ranks models, leaves out.
_NOT_LISTED = ("expected_calibration_error", "expected_calibration_error_uncalibrated")
_MOST_LABELS = 200
_MOST_LABEL_CHARACTERS = 100
_MOST_EXAMPLE_CHARACTERS = 500
_NUM_WIDGET_WORDS = 12
_REMEDY = "copy it again from the run, or remove it, and the card leaves out what it would tell"


def write_model_card(
    folder: str | Path,
    *,
    license: str | None = None,
    language: list[str] | None = None,
    dataset_pretty_name: str | None = None,
) -> Path:
    """Write `README.md` and its plots into the folder of a trained model.

    All that it says is read from files in the folder: `config.json`, `all_results.json`, `training_args.json`,
    `trainer_state.json` and `run.json`; what a missing file would tell is left out, and so are secrets and the folders
    of absolute paths. A card that is there is brought up
    to date: sections that carry our mark are written anew; all others stay as they are, where they are, and so does
    metadata of which the run knows nothing.

    Args:
        folder (`str` or `Path`): Output folder of a training run.
        license (`str`, *optional*): The licence's identifier on the hub (`"apache-2.0"`); else the run's.
        language (`list[str]`, *optional*): ISO 639 codes of the languages; else the run's.
        dataset_pretty_name (`str`, *optional*): What the data is called; else the run's.

    Returns:
        `Path`: the card.

    Raises:
        ValueError: The folder holds no model of this package, a damaged file, or a card whose metadata cannot be read.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf import RnnConfig, RnnForTokenClassification
    >>> from rnn_hf.sharing.card_text import read_model_card
    >>> from rnn_hf.sharing.model_card import write_model_card
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     RnnForTokenClassification(RnnConfig(vocab_size=9, num_labels=2)).save_pretrained(folder)
    ...     card = read_model_card(write_model_card(folder, license="mit"))
    >>> card.data.license, card.data.pipeline_tag
    ('mit', 'token-classification')

    ```
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}.")
    config = load_config(str(folder))
    path = folder / "README.md"
    old = read_model_card(path) if path.exists() else None
    results, run, state, args = _read_records(folder)
    given = {"license": license, "language": language, "dataset_pretty_name": dataset_pretty_name}
    args |= {name: value for name, value in given.items() if value is not None}
    try:
        card = _new_card(folder, config, results, run, state, args)
    except (ArithmeticError, AttributeError, LookupError, TypeError, UndefinedError, ValueError) as error:
        names = ", ".join(name for name in _FILES if (folder / name).exists())
        raise ValueError(
            f"The card of {folder} cannot be written, for one of its files ({names}) holds something else than "
            f"training writes there ({type(error).__name__}: {error}): {_REMEDY}."
        ) from error
    if old is not None:
        card.text = merged(old.text, card.text)
        tags = [*card.data.get("tags"), *(tag for tag in old.data.get("tags", []) if tag not in card.data.get("tags"))]
        kept = {key: value for key, value in old.data.__dict__.items() if card.data.get(key) is None}
        card.data.__dict__.update(kept | {"tags": tags})
    replace_file(path, str(card))
    return path


def _read_records(folder: Path) -> list[dict[str, Any]]:
    """Read what a run wrote, without secrets and without the folders of absolute paths."""
    records = [read_json(folder / name, _REMEDY) if (folder / name).exists() else {} for name in _FILES]
    _, run, _, args = records
    words, options = _words(run.get("command")), _mapping(run.get("options"))
    secrets = find_secrets(words, run, options, args)
    if words:
        run["command"] = shlex.join(hide_folders(mask_command(words, secrets)))
    if "options" in run:
        shown = hide_folders(mask_options(options, secrets))
        run["options"] = yaml.safe_dump(shown, sort_keys=False, allow_unicode=True) if options else None
    if "data" in run:
        run["data"] = hide_folders(run["data"])
    return [mask_options(record, secrets) for record in records]


def _words(command: Any) -> list[str]:
    """Split a command into words, at white space where its quotes do not close."""
    try:
        return shlex.split(command) if isinstance(command, str) else []
    except ValueError:
        return command.split()


def _mapping(options: Any) -> dict[str, Any]:
    """Read options that were written as YAML; what is no mapping is left out of the card."""
    try:
        parsed = yaml.safe_load(options) if isinstance(options, str) else options
    except yaml.YAMLError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _new_card(
    folder: Path,
    config: RnnConfig,
    results: dict[str, Any],
    run: dict[str, Any],
    state: dict[str, Any],
    args: dict[str, Any],
) -> ModelCard:
    """Draw the plots, and fill the template."""
    has_curve = draw_training_curve(state.get("log_history", []), folder / "training_curve.png")
    if has_matrix := "confusion_matrix" in run:
        counts = run["confusion_matrix"]["counts"]
        draw_confusion_matrix(counts, config.label_names, folder / "confusion_matrix.png")
    splits = {prefix: name for prefix, name in _SPLITS.items() if f"{prefix}_loss" in results}
    graph_scores = exported_scores(folder, config)
    card = ModelCard.from_template(
        _metadata(folder, config, results, run, args),
        template_path=str(PRETRAINING_TEMPLATE if is_language_model(config) else _TEMPLATE),
        pipeline_tag=_task(config),
        model_name=markdown(_name(folder, args)),
        model_id=json_line(_model_id(folder, args)),
        summary=_summary(config, run, args),
        splits=splits,
        scores=_scores(config, results, splits),
        notes=_notes(config, run, args),
        has_curve=has_curve,
        has_matrix=has_matrix,
        run=_escaped({key: run[key] for key in ("confusion_matrix", "speed") if key in run}),
        command=markdown_block(run["command"]) if run.get("command") else None,
        options=markdown_block(run["options"], "yaml") if run.get("options") else None,
        input=json_line(_widget_texts(run)[0]),
        examples=[_example(one) for one in run.get("examples", [])],
        labels=_labels(config),
        model=model_rows(folder, config, results),
        training=training_rows(config, results, run, state, args),
        files=[f"`{name}`" for name in _FILES if (folder / name).exists()],
        limits=_limits(config, run, args),
        exported_scores=list(graph_scores),
        exported=[exported_row(name, one, graph_scores) for name, one in run.get("onnx", {}).items()],
    )
    card.text = joined([marked(section) for section in sections(card.text)])
    return card


def _escaped(value: Any) -> Any:
    """Escape every text in nested mappings for Markdown."""
    if isinstance(value, dict):
        return {key: _escaped(one) for key, one in value.items()}
    return markdown(value) if isinstance(value, str) else value


def _task(config: RnnConfig) -> str:
    if is_language_model(config):
        return "feature-extraction" if config.bidirectional else "text-generation"
    return "token-classification" if is_tagger(config) else "text-classification"


def _name(folder: Path, args: dict[str, Any]) -> str:
    return printable((args.get("hub_model_id") or folder.resolve().name).rpartition("/")[2])


def _model_id(folder: Path, args: dict[str, Any]) -> str:
    """Name what the examples load: a repository, or the folder as somebody in the working directory would."""
    return args.get("hub_model_id") or hide_folders(folder.as_posix())


def _metadata(
    folder: Path, config: RnnConfig, results: dict[str, Any], run: dict[str, Any], args: dict[str, Any]
) -> ModelCardData:
    data = run.get("data", {})
    dataset_id = data.get("dataset_name")
    base_model = run.get("base_model")
    prefix = "test" if "test_loss" in results else "eval"
    scores = {name: results[f"{prefix}_{name}"] for name in score_keys(results, [prefix]) if name not in _NOT_LISTED}
    evaluations = [
        EvalResult(
            task_type=_task(config),
            dataset_type=dataset_id or data.get(_SPLITS[prefix]) or _data_name(run) or "unknown",
            dataset_name=args.get("dataset_pretty_name") or _data_name(run) or "unknown",
            dataset_config=data.get("dataset_config_name"),
            dataset_split=_SPLITS[prefix],
            metric_type=_METRIC_TYPES.get(score, score),
            metric_name=score_name(config, score),
            metric_value=value,
        )
        for score, value in scores.items()
    ]
    return ModelCardData(
        license=args.get("license"),
        language=args.get("language"),
        datasets=None if dataset_id is None else [dataset_id],
        base_model=base_model if _is_on_the_hub(base_model) else None,
        library_name="transformers",
        pipeline_tag=_task(config),
        tags=["rnn_hf", config.cell_type.partition("_")[0], *(["crf"] if config.use_crf else [])],
        metrics=list(dict.fromkeys(_METRIC_TYPES.get(score, score) for score in scores if score != "loss")) or None,
        widget=[{"text": text} for text in _widget_texts(run)] if run and not is_language_model(config) else None,
        model_name=_name(folder, args) if evaluations else None,
        eval_results=evaluations or None,
    )


def _is_on_the_hub(name: Any) -> bool:
    """Tell the name of a repository from that of a folder."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return isinstance(name, str) and not Path(name).exists()


def _data_name(run: dict[str, Any]) -> str | None:
    """Name the data: its id on the hub, or the file of the training data."""
    data = run.get("data", {})
    if "dataset_name" in data:
        return " ".join(data.values())
    return data.get("train") or next(iter(data.values()), None)


def _scores(config: RnnConfig, results: dict[str, Any], splits: dict[str, str]) -> dict[str, list[str]]:
    """Make the rows of the table of scores."""
    rows = {}
    for name in score_keys(results, list(splits)):
        values = [results.get(f"{prefix}_{name}") for prefix in splits]
        rows[score_name(config, name)] = ["" if value is None else f"{value:.4f}" for value in values]
    rows["examples"] = [f"{results.get(f'{prefix}_samples', 0):,}" for prefix in splits]
    return rows


def _summary(config: RnnConfig, run: dict[str, Any], args: dict[str, Any]) -> str:
    data = args.get("dataset_pretty_name") or _data_name(run)
    trained = f", trained on {markdown(data)}" if data else ""
    if is_language_model(config):
        return describe_language_model(config, trained)
    what = {
        "regression": "gives each text a number",
        "multi_label_classification": f"gives each text those of {config.num_labels} labels that apply",
    }.get(str(config.problem_type), f"gives each text one of {config.num_labels} labels")
    kind = "text classifier"
    if is_tagger(config):
        kind, what = "tagger", f"gives each word one of {config.num_labels} labels"
    direction = "bidirectional" if config.bidirectional else "unidirectional"
    return f"A recurrent {kind} ({direction} {CELLS[config.cell_type]}) that {what}{trained}."


def _notes(config: RnnConfig, run: dict[str, Any], args: dict[str, Any]) -> str:
    notes = [f"One run, with seed {args['seed']}."] if "seed" in args else []
    if is_tagger(config) and tagging_scheme(config.label_names) is not None:
        notes.append("Spans count where begin, end and kind are right, as in CoNLL's evaluation.")
    if config.label_thresholds is not None:
        notes.append(
            "Each label applies above a threshold of its own, `label_thresholds` in `config.json`, which was chosen on "
            "the validation data: the scores there are too good. Pipelines give the probabilities of all labels with "
            "`top_k=None`, and apply no threshold."
        )
    data = run.get("data", {})
    held_out = [name for name in _SPLITS.values() if name in run.get("num_rows", {}) and name not in data]
    if "train" in data and held_out:
        notes.append(f"The {' and '.join(held_out)} data was held out from the training file.")
    return " ".join(notes)


def _widget_texts(run: dict[str, Any]) -> list[str]:
    """Make short inputs for trying the model out."""
    texts = [one["text"].split() if "text" in one else one["tokens"] for one in run.get("examples", [])]
    texts = [text.split() for text in run.get("widget", [])] or texts
    short = (printable(" ".join(words[:_NUM_WIDGET_WORDS])) for words in texts if words)
    return [shorten(text, _MOST_EXAMPLE_CHARACTERS) for text in short] or ["An example."]


def _example(one: dict[str, Any]) -> dict[str, str]:
    if "tags" in one:
        pairs = zip(one["tokens"], one["tags"], strict=True)
        prediction = " ".join(f"{token}/{tag}" for token, tag in pairs)
        return {"input": _cell(" ".join(one["tokens"])), "prediction": _cell(prediction)}
    labels = [one["label"]] if "label" in one else one.get("labels", [])
    scores = [one["score"]] if "score" in one else one["scores"]
    numbers = ", ".join(f"{score:.3f}" for score in scores)
    prediction = f"{', '.join(labels)} ({numbers})" if labels else numbers or "none"
    return {"input": _cell(one["text"]), "prediction": _cell(prediction)}


def _cell(text: str) -> str:
    return markdown(shorten(" ".join(text.split()), _MOST_EXAMPLE_CHARACTERS))


def _labels(config: RnnConfig) -> str:
    if config.problem_type == "regression":
        return "None: the model predicts a number."
    names = config.label_names
    shown = [markdown_code(shorten(name, _MOST_LABEL_CHARACTERS)) for name in names[:_MOST_LABELS]]
    rest = f", and {len(names) - _MOST_LABELS:,} others, which `config.json` lists" if len(names) > _MOST_LABELS else ""
    return f"{len(names)}, in the order of their ids: {', '.join(shown)}{rest}."


def _limits(config: RnnConfig, run: dict[str, Any], args: dict[str, Any]) -> list[str]:
    languages = args.get("language")
    kind = f" in {markdown(', '.join(languages))}" if languages else ""
    examples = f" ({run['num_rows']['train']:,} examples)" if run else ""
    limits = [f"For text{kind} of the kind it was trained on{examples}. Of other kinds its scores above say nothing."]
    if is_language_model(config):
        return limits + pretraining_limits(config)
    if config.problem_type != "regression":
        limits.append("It knows the labels above only, and predicts one of them for whatever it is given.")
    if is_tagger(config) and config.use_crf:
        limits.append(
            "Its logits choose the best sequence of labels; the scores that a pipeline makes of them are no "
            "probabilities. The model's method `marginals` gives those."
        )
    elif config.problem_type != "regression":
        is_calibrated = not is_tagger(config) and config.temperature != 1
        limits.append(
            "Its scores are calibrated on validation data, for texts of that kind. Of texts of other kinds they can be "
            "too high."
            if is_calibrated
            else "Its scores are not calibrated: 0.9 need not be right in nine of ten cases."
        )
    source = "the training data" if "teaching" not in run else "the training data or its teacher"
    limits.append(f"What {source} gets wrong or leaves out, it does too. It was not examined for bias.")
    return limits


__all__ = ["write_model_card"]
