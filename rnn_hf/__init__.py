"""Recurrent text classifiers and taggers for the Hugging Face ecosystem."""

from importlib import import_module
from typing import Any

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from .data.collator import DataCollatorWithPacking
from .models.configuration_rnn import RnnConfig
from .models.modeling_lm import RnnForCausalLM, RnnForPreTraining
from .models.modeling_rnn import (
    RnnForSequenceClassification,
    RnnForTokenClassification,
    RnnModel,
    RnnModelOutput,
    RnnPreTrainedModel,
)
from .text.tokenization import train_tokenizer

__version__ = "0.1.0"

AutoConfig.register("rnn_hf", RnnConfig, exist_ok=True)
AutoModel.register(RnnConfig, RnnModel, exist_ok=True)
AutoModelForPreTraining.register(RnnConfig, RnnForPreTraining, exist_ok=True)
AutoModelForCausalLM.register(RnnConfig, RnnForCausalLM, exist_ok=True)
AutoModelForSequenceClassification.register(RnnConfig, RnnForSequenceClassification, exist_ok=True)
AutoModelForTokenClassification.register(RnnConfig, RnnForTokenClassification, exist_ok=True)

__all__ = [
    "DataCollatorWithPacking",
    "RnnConfig",
    "RnnForCausalLM",
    "RnnForPreTraining",
    "RnnForSequenceClassification",
    "RnnForTokenClassification",
    "RnnModel",
    "RnnModelOutput",
    "RnnPreTrainedModel",
    "RnnTrainer",
    "RnnTrainingArguments",
    "train_tokenizer",
]

# Loaded when they are asked for: they need what only training does (pip install "rnn_hf[train]").
_OF_TRAINING = {"RnnTrainer": "rnn_hf.training.trainer", "RnnTrainingArguments": "rnn_hf.training.arguments"}


def __getattr__(name: str) -> Any:
    if name in _OF_TRAINING:
        try:
            return getattr(import_module(_OF_TRAINING[name]), name)
        except ModuleNotFoundError as error:
            raise ImportError(f'{name} needs the package {error.name}: pip install "rnn_hf[train]"') from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
