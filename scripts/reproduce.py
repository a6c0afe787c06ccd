"""Train a row of the results table with several seeds, and sum up: mean and deviation on validation and test.

    python scripts/reproduce.py conll2000 ~/corpora/conll2000
    python scripts/reproduce.py ud_english_ewt ~/corpora/UD_English-EWT --seeds 1 2 3 --output_dir outputs/ewt

The options of each row stand in model_cards/ROW.yaml; others given here go before them, for every seed:
--char_cnn false. Those that say what a run reads and where it writes are set here for each run. Seeds that are trained
already are only read, and one that was stopped is resumed.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rnn_hf.training.checkpoints import RESULTS
from rnn_hf.utils.command_line import CommandParser, command
from rnn_hf.utils.secrets import find_secrets, mask_command

MODEL_CARDS = Path(__file__).parents[1] / "model_cards"
EWT = {
    "train_file": "en_ewt-ud-train.conllu",
    "validation_file": "en_ewt-ud-dev.conllu",
    "test_file": "en_ewt-ud-test.conllu",
}
# Of each row: the script that trains it, the measure that counts, and the files of its corpus.
ROWS: dict[str, tuple[str, str, dict[str, str]]] = {
    "ud_english_ewt": ("tagger", "accuracy", EWT),
    "ud_english_ewt_glove": ("tagger", "accuracy", EWT),
    "conll2000": ("tagger", "f1", {"train_file": "train.txt", "test_file": "test.txt"}),
    "bc5cdr": ("tagger", "f1", {"train_file": "train.tsv", "validation_file": "devel.tsv", "test_file": "test.tsv"}),
    "sst2": (
        "classifier",
        "accuracy",
        {"train_file": "train_phrases.jsonl", "validation_file": "validation.jsonl", "test_file": "test.jsonl"},
    ),
    "nsmc": ("classifier", "accuracy", {"train_file": "ratings_train.txt", "test_file": "ratings_test.txt"}),
    "clinc150": (
        "classifier",
        "accuracy",
        {"train_file": "train.jsonl", "validation_file": "validation.jsonl", "test_file": "test.jsonl"},
    ),
}

# What is set for each run here, and what to say instead.
OWN_OPTIONS = {
    "seed": "name the seeds with --seeds",
    "output_dir": "give --output_dir once; each seed has its folder there",
    "train_file": "the files are those of DATA_DIR",
    "validation_file": "the files are those of DATA_DIR",
    "test_file": "the files are those of DATA_DIR",
    "dataset_name": "the files are those of DATA_DIR",
    "config": "the options of the row are those of model_cards/ROW.yaml; give others one by one",
    "resume_from_checkpoint": "a seed that was stopped is resumed anyway",
}


def check_options(words: list[str], options: list[str]) -> str | None:
    """Say which option would contradict what is set for each run, if any: however it is written."""
    names = [option.removeprefix("--").partition("=")[0].replace("-", "_") for option in options if option[:2] == "--"]
    outputs = [word for word in words if word.partition("=")[0] == "--output_dir"]
    names += ["output_dir"] if len(outputs) > 1 else []
    clash = next((name for name in names if name in OWN_OPTIONS), None)
    return None if clash is None else f"--{clash} is set for each run: {OWN_OPTIONS[clash]}"


def train(row: str, data_dir: Path, output_dir: Path, seed: int, options: list[str]) -> dict[str, Any]:
    """Train one seed, unless it is there already, and return its results."""
    script, _, names = ROWS[row]
    results = output_dir / RESULTS
    if not results.is_file():
        files = [part for option, name in names.items() for part in (f"--{option}", str(data_dir / name))]
        words = [f"scripts/train_{script}.py", "--config", str(MODEL_CARDS / f"{row}.yaml"), *files]
        words += ["--seed", str(seed), "--output_dir", str(output_dir), *options]
        if output_dir.exists():
            words += ["--resume_from_checkpoint", "true"]
        print("$ python", *mask_command(words, find_secrets(words)), flush=True)
        if subprocess.run([sys.executable, *words], check=False, cwd=MODEL_CARDS.parent).returncode:  # noqa: S603
            raise ValueError(f"Seed {seed} failed; what it said stands above.")
    try:
        found = json.loads(results.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{results} is damaged: remove {output_dir}, to train that seed anew.") from error
    if not isinstance(found, dict) or not {"train_runtime", "num_parameters"} <= found.keys():
        raise ValueError(f"{results} holds no results: remove {output_dir}, to train that seed anew.")
    return found


def summarise(row: str, results: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Average a row's measure over its seeds."""
    measure = ROWS[row][1]
    summary: dict[str, Any] = {"row": row, "measure": measure, "seeds": list(results)}
    for split in ("eval", "test"):
        values = [result[f"{split}_{measure}"] for result in results.values() if f"{split}_{measure}" in result]
        if len(values) < len(results):
            continue  # trained without validation, on all data
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        summary[split] = {"mean": statistics.mean(values), "deviation": deviation, "values": values}
    summary["train_runtime"] = statistics.mean(result["train_runtime"] for result in results.values())
    summary["num_parameters"] = next(iter(results.values()))["num_parameters"]
    return summary


def show(summary: dict[str, Any]) -> None:
    """Print a table, a line for each seed and one for all."""
    splits = {split: name for split, name in (("eval", "validation"), ("test", "test")) if split in summary}
    table = Table("seed", *(f"{name} {summary['measure']}" for name in splits.values()), title=summary["row"])
    for seed, *values in zip(summary["seeds"], *(summary[split]["values"] for split in splits), strict=True):
        table.add_row(str(seed), *(f"{value:.4f}" for value in values))
    table.add_section()
    table.add_row("mean", *(f"{summary[split]['mean']:.4f} ± {summary[split]['deviation']:.4f}" for split in splits))
    Console().print(table)


@command
def main(argv: list[str] | None = None) -> None:
    """Parse the command line, train, and sum up."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("row", choices=sorted(ROWS), help="row of the table")
    parser.add_argument("data_dir", type=Path, help="folder of the corpus, with the files under their usual names")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="one run each")
    parser.add_argument("--output_dir", type=Path, help="folder of the runs; outputs/ROW without it")
    known, options = parser.parse_known_args(argv)
    if problem := check_options(sys.argv[1:] if argv is None else argv, options):
        parser.error(problem)
    if missing := [name for name in ROWS[known.row][2].values() if not (known.data_dir / name).is_file()]:
        parser.error(f"{known.data_dir} lacks {', '.join(missing)}")
    if known.show_traceback:
        options.append("--debug")
    output_dir = (known.output_dir or Path("outputs") / known.row).resolve()
    results = {
        seed: train(known.row, known.data_dir.resolve(), output_dir / f"seed-{seed}", seed, options)
        for seed in known.seeds
    }
    summary = summarise(known.row, results)
    (output_dir / "summary.json").write_text(json.dumps(summary, indent=2), encoding="utf-8")
    show(summary)


if __name__ == "__main__":
    main()
