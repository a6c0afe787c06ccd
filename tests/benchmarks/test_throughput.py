"""Words a second of default models beside their peers, on little corpora."""

import json
import re
import sys

import pytest

from rnn_hf.commands.benchmark import main

TINY = [
    *("--hidden_size", "8", "--embedding_size", "8", "--char_num_filters", "4", "--vocab_size", "300"),
    *("--disable_tqdm", "true"),
]


def write(path, rows) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_taggers_in_each_precision_and_backend(japanese_sentences, tmp_path, capsys):
    rows = [{"tokens": [w[0] for w in words], "tags": [w[2] for w in words]} for words in japanese_sentences[:40]]
    file = write(tmp_path / "train.jsonl", rows)
    given = ["--task", "token-classification", "--train_file", file, "--test_file", file, "--repeat", "1", *TINY]
    main(["words", *given, "--json", str(tmp_path / "rows.json")])
    found = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    names = ("torch float32", "onnxruntime float32", "onnxruntime int8", "torch bfloat16")
    assert {row["model"] for row in found} == {f"rnn_hf, {name}" for name in names}
    for row in found:
        assert ("training, words/s" in row) == ("torch" in row["model"])
        assert min(value for name, value in row.items() if name != "model") > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "pip install .flair==0.15.1. there, and name its Python with --flair_python"),
        (["--flair_python", "nowhere/python"], "--flair_python nowhere/python is no Python: No such file"),
        (["--flair_python", sys.executable], "Flair does not run with --flair_python .*No module named 'flair'"),
    ],
)
def test_a_python_without_flair_is_named(options, message, capsys):
    with pytest.raises(SystemExit):
        main(["flair", *options, "--train_file", "train.conllu"])
    assert re.search(message, " ".join(capsys.readouterr().err.split()))
