"""What the tests of teachers share."""

import random

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification

from rnn_hf import train_tokenizer

WORDS = ("good", "bad", "fine", "awful", "film", "plot", "actor", "scene", "the", "a", "is", "was", "unexpectedly")


@pytest.fixture(scope="session")
def sentences() -> list[list[str]]:
    """120 sentences of two to nine words."""
    source = random.Random(0)
    return [source.choices(WORDS, k=source.randint(2, 9)) for _ in range(120)]


@pytest.fixture(scope="session")
def make_teacher(tmp_path_factory, sentences):
    """Give a function that saves a little BERT with random weights, and returns its folder."""

    def make(labels: list[str], is_tagger: bool = False, seed: int = 0, longest: int = 64, **options) -> str:
        torch.manual_seed(seed)
        tokenizer = train_tokenizer(sentences[:100], kind="wordpiece", vocab_size=60, is_split_into_words=True)
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=longest,
            initializer_range=0.5,
            id2label=dict(enumerate(labels)),
            label2id={label: index for index, label in enumerate(labels)},
            **options,
        )
        folder = tmp_path_factory.mktemp("teacher")
        kind = BertForTokenClassification if is_tagger else BertForSequenceClassification
        kind(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return str(folder)

    return make
