"""Taggers from files as they are found: `rnn-hf train-tagger --train_file FILE --output_dir DIR` and nothing else."""

import json
import random
from pathlib import Path

import pytest
from transformers import pipeline

from rnn_hf.commands.evaluate import main as evaluate
from rnn_hf.commands.predict import main as predict
from rnn_hf.commands.train_tagger import main as train_tagger

TINY = [
    "--hidden_size=16",
    "--embedding_size=16",
    "--num_train_epochs=12",
    "--disable_tqdm=true",
    "--learning_rate=1e-2",
]
PEOPLE, PLACES = ["Anna", "Mia Lee", "Max de Boer"], ["Oslo", "New York", "Rome"]


def sentences(seed: int, count: int) -> list[list[tuple[str, str]]]:
    """Little sentences with people and places, in IOB2."""
    source = random.Random(seed)
    made = []
    for _ in range(count):
        person, place = source.choice(PEOPLE).split(), source.choice(PLACES).split()
        words = [(word, "O") for word in source.choice(["Today ,", "(", "Yes :"]).split()]
        words += [(word, "I-PER" if index else "B-PER") for index, word in enumerate(person)]
        words += [(word, "O") for word in source.choice(["lives in", "left", "is from"]).split()]
        words += [(word, "I-LOC" if index else "B-LOC") for index, word in enumerate(place)]
        made.append([*words, (".", "O")])
    return made


def iob1(tags: list[str]) -> list[str]:
    return [tag if tag == "O" else f"I-{tag[2:]}" for tag in tags]  # no two spans of a type are adjacent


def bilou(tags: list[str]) -> list[str]:
    after = [*tags[1:], "O"]
    ends = [one != "O" and not other.startswith("I") for one, other in zip(tags, after, strict=True)]
    marks = [{"BTrue": "U", "ITrue": "L"}.get(f"{tag[0]}{end}", tag[0]) for tag, end in zip(tags, ends, strict=True)]
    return [mark + tag[1:] for mark, tag in zip(marks, tags, strict=True)]


def write(path: Path, shape: str, corpus: list[list[tuple[str, str]]]) -> str:
    lines = []
    for number, sentence in enumerate(corpus):
        words, tags = [word for word, _ in sentence], [tag for _, tag in sentence]
        if shape == "conll2003":
            lines += ["-DOCSTART- -X- O O", ""] if number % 9 == 0 else []
            lines += [f"{word} NN I-NP {tag}" for word, tag in zip(words, iob1(tags), strict=True)]
        elif shape == "wnut":
            lines += [f"{word}\t{tag}" for word, tag in sentence]
        elif shape == "germeval":
            lines.append(f"#\thttp://de.wikipedia.org/wiki/{number}\t[2009-10-17]")
            lines += [f"{index}\t{word}\t{tag}\tO" for index, (word, tag) in enumerate(sentence, 1)]
        elif shape == "multiconer":
            lines.append(f"# id {number}-a\tdomain=en")
            lines += [f"{word} _ _ {tag}" for word, tag in sentence]
        elif shape == "bilou":
            lines += [f"{word}\t{tag.replace('-', '_')}" for word, tag in zip(words, bilou(tags), strict=True)]
        lines.append("\t" if shape == "wnut" else "")
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module", params=["conll2003", "wnut", "germeval", "multiconer", "bilou"])
def trained(request, tmp_path_factory) -> tuple[str, Path, str]:
    folder = tmp_path_factory.mktemp(request.param)
    name = "train.tsv" if request.param == "germeval" else "train.conll"
    train = write(folder / name, request.param, sentences(1, 90))
    train_tagger(["--train_file", train, "--output_dir", str(folder / "out"), *TINY])
    return request.param, folder / "out", write(folder / f"other-{name}", request.param, sentences(2, 20))


def test_the_right_tags_are_learnt_and_scored(trained):
    shape, folder, _ = trained
    results = json.loads((folder / "all_results.json").read_text())
    assert results["test_f1"] == results["eval_f1"] == 1.0
    config = json.loads((folder / "config.json").read_text())
    assert sorted(config["label2id"]) == ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"]
    assert config["use_crf"]
    scheme = {"conll2003": "IOB1", "bilou": "BILOU, written as B_TYPE"}.get(shape, "IOB2")
    assert json.loads((folder / "run.json").read_text())["tag_scheme"] == scheme


@pytest.mark.parametrize("streaming", ["false", "true"])
def test_a_trained_model_is_evaluated_on_such_files(trained, tmp_path, streaming):
    _, folder, other = trained
    options = ["--test_file", other, "--output_dir", str(tmp_path), "--streaming", streaming]
    evaluate([str(folder), *options])
    results = json.loads((tmp_path / "test_results.json").read_text())
    assert (results["test_f1"], results["test_samples"]) == (1.0, 20)


def test_raw_text_is_tagged_as_words_are(trained, tmp_path, capsys):
    _, folder, _ = trained
    text = "Today, Anna lives in Oslo."
    entities = pipeline("token-classification", str(folder), aggregation_strategy="simple")(text)
    found = [(one["entity_group"], one["word"], text[one["start"] : one["end"]]) for one in entities]
    assert found == [("PER", "Anna", "Anna"), ("LOC", "Oslo", "Oslo")]
    (tmp_path / "lines.txt").write_text(f"\ufeff{text}\n(Mia Lee left New York.\n", encoding="utf-8")
    predict([str(folder), str(tmp_path / "lines.txt"), "--output_format", "jsonl"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == {
        "tokens": ["Today", ",", "Anna", "lives", "in", "Oslo", "."],
        "tags": ["O", "O", "B-PER", "O", "O", "B-LOC", "O"],
    }
    assert rows[1]["tokens"] == ["(", "Mia", "Lee", "left", "New", "York", "."]
    assert rows[1]["tags"] == ["O", "B-PER", "I-PER", "O", "B-LOC", "I-LOC", "O"]
