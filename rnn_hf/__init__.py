"""Recurrent text classifiers and taggers for the Hugging Face ecosystem."""

from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification

from .configuration_rnn import RnnConfig
from .data_collator import DataCollatorWithPacking
from .modeling_rnn import (
    RnnForSequenceClassification,
    RnnForTokenClassification,
    RnnModel,
    RnnModelOutput,
    RnnPreTrainedModel,
)
from .tokenization import train_tokenizer

__version__ = "0.1.0"

AutoConfig.register("rnn_hf", RnnConfig, exist_ok=True)
AutoModel.register(RnnConfig, RnnModel, exist_ok=True)
AutoModelForSequenceClassification.register(RnnConfig, RnnForSequenceClassification, exist_ok=True)
AutoModelForTokenClassification.register(RnnConfig, RnnForTokenClassification, exist_ok=True)

__all__ = [
    "DataCollatorWithPacking",
    "RnnConfig",
    "RnnForSequenceClassification",
    "RnnForTokenClassification",
    "RnnModel",
    "RnnModelOutput",
    "RnnPreTrainedModel",
    "train_tokenizer",
]
