"""Word vectors from a transformer: those of its vocabulary's words, reduced and weighted."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from rnn_hf import train_tokenizer
from rnn_hf.text.transformer_vectors import transformer_vectors
from rnn_hf.text.word_vectors import load_vectors
from rnn_hf.training.options import parse_arguments
from rnn_hf.training.train import train

SENTENCES = [["the", "film", "was", "good"], ["the", "plot", "was", "bad"], ["films", "unseen"]] * 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("bert")
    tokenizer = train_tokenizer(SENTENCES, kind="wordpiece", vocab_size=60, is_split_into_words=True)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


def test_vectors_are_those_of_a_plain_computation(folder):
    words, matrix = transformer_vectors(folder)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    assert {"the", "film", "was"} <= set(words)
    assert all(len(tokenizer(word).input_ids) == 2 and not word.startswith("##") for word in words)
    rows = []
    for word in words:
        with torch.no_grad():
            rows.append(model(**tokenizer(word, return_tensors="pt")).last_hidden_state[0].mean(dim=0).numpy())
    states = np.stack(rows)
    states = states - states.mean(axis=0)
    left, values, _ = np.linalg.svd(states, full_matrices=False)
    expected = left * values * np.log(np.arange(2, len(words) + 2))[:, None]
    expected = expected - expected.mean(axis=0)
    assert matrix.shape == (len(words), 16)
    assert matrix.std() == pytest.approx(1, rel=0.05)
    # Up to the signs of the components.
    scale = np.abs(expected).sum() / np.abs(matrix).sum()
    np.testing.assert_allclose(np.abs(matrix[:, :5]) * scale, np.abs(expected[:, :5]), rtol=0.02, atol=1e-3)


def test_a_limit_takes_the_first_words(folder):
    assert load_vectors(folder, limit=4).words == load_vectors(folder).words[:4]
    assert load_vectors(folder, limit=4).size == 4


def test_they_serve_a_model(folder, tmp_path):
    rows = [{"tokens": words, "tags": ["N" if word in ("film", "plot") else "X" for word in words]}
            for words in SENTENCES * 3]  # fmt: skip
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = ["--train_file", str(tmp_path / "a.jsonl"), "--vectors", folder, "--output_dir", str(tmp_path / "out")]
    words += ["--hidden_size", "8", "--max_steps", "2", "--disable_tqdm", "true"]
    train("token-classification", *parse_arguments("token-classification", "", words))
    config = json.loads((tmp_path / "out/config.json").read_text(encoding="utf-8"))
    assert config["static_embedding_size"] == 16


def test_what_cannot_be_loaded_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"^--vectors \S+ could not be loaded: [^\n]*$"):
        transformer_vectors(str(tmp_path))
