"""Tiny models, and the texts that they read."""

import pytest
import torch

from rnn_hf import RnnConfig, RnnForSequenceClassification, RnnForTokenClassification, train_tokenizer
from rnn_hf.export.folder import export

WORDS = ["to", "be", "or", "not", "that", "is", "the", "question"]


def save(folder, model_class, **options) -> str:
    tokenizer = train_tokenizer([WORDS, WORDS], kind="wordpiece", vocab_size=60, is_split_into_words=True)
    torch.manual_seed(0)
    sizes = {"vocab_size": len(tokenizer), "embedding_size": 8, "hidden_size": 8, "initializer_range": 1.0}
    model_class(RnnConfig(**sizes, **options)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, str]:
    """Folders of models by their kind; that of the classifier has graphs too."""
    folder = tmp_path_factory.mktemp("engines")
    several, number = {"problem_type": "multi_label_classification"}, {"problem_type": "regression"}
    named = {"id2label": dict(enumerate("abc"))}
    found = {
        "classifier": save(folder / "classifier", RnnForSequenceClassification, **named),
        "several labels": save(folder / "several", RnnForSequenceClassification, **several, **named),
        "regression": save(folder / "regression", RnnForSequenceClassification, **number, num_labels=1),
        "tagger": save(folder / "tagger", RnnForTokenClassification, id2label={0: "O", 1: "B-X", 2: "I-X"}),
    }
    export(found["classifier"], found["classifier"], int8=True)
    return found


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Forty texts of different lengths, one of them empty."""
    return ["", *(" ".join((WORDS * 3)[index % 8 : index % 8 + 1 + index % 13]) for index in range(39))]
