"""Learning rates and the unfreezing of layers in fine-tuning."""

import pytest
import torch
from datasets import Dataset
from strategies import little_config
from transformers import TrainerCallback

from rnn_hf import RnnForSequenceClassification, RnnForTokenClassification, RnnTrainer, RnnTrainingArguments
from rnn_hf.optimizers.parameter_groups import layer_depth, parameter_groups

OPTIONS = {"vocab_size": 30, "characters": "ab", "num_hidden_layers": 2, "num_labels": 2, "char_num_filters": 2}


def model_of(task="text-classification", **options):
    torch.manual_seed(0)
    model_class = RnnForSequenceClassification if task == "text-classification" else RnnForTokenClassification
    return model_class(little_config(**(OPTIONS | options)))


def rates(model, args):
    """The learning rate and the weight decay of each parameter."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, args)
    return {names[id(one)]: (group.get("lr"), group["weight_decay"]) for group in groups for one in group["params"]}


@pytest.mark.parametrize("task", ["text-classification", "token-classification"])
def test_each_layer_has_a_rate_of_its_own(tmp_path, task):
    options = {"ngram_buckets": 8} if task == "text-classification" else {"num_lexical_features": 8, "use_crf": True}
    model = model_of(task, static_embedding_size=3, static_vocab_size=2, **options)
    args = RnnTrainingArguments(str(tmp_path), learning_rate=1.0, layer_lr_decay=0.5, vectors_learning_rate=0.125)
    found = rates(model, args)
    assert found.keys() == dict(model.named_parameters()).keys()
    for name, (rate, weight_decay) in found.items():
        if "static_embeddings" in name:
            assert rate == 0.125
        elif name.startswith(("ngrams.", "lexical.")):
            assert rate == (5 if name.startswith("ngrams.") else 1)
        else:
            depth = 2 - int(name.rpartition("_l")[2][0]) if ".rnn." in name else 3 if "embeddings" in name else 0
            assert (layer_depth(name, model), rate) == (depth, 0.5**depth)
        is_spared = "bias" in name or name.endswith("embeddings.weight") or "static" in name
        if not name.startswith(("ngrams.", "lexical.", "crf.")):
            assert weight_decay == (0.0 if is_spared else args.weight_decay), name


def test_without_a_decay_the_groups_are_as_ever(tmp_path):
    groups = parameter_groups(model_of(), RnnTrainingArguments(str(tmp_path), weight_decay=0.1))
    assert [(group["weight_decay"], "lr" in group) for group in groups] == [(0.1, False), (0.0, False)]


class Recorder(TrainerCallback):
    """Note which parameters change in each step."""

    def __init__(self):
        self.changed = []

    def on_step_begin(self, args, state, control, model=None, **_):
        self.before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    def on_step_end(self, args, state, control, model=None, **_):
        same = {name: torch.equal(parameter, self.before[name]) for name, parameter in model.named_parameters()}
        self.changed.append({layer_depth(name, model) for name in same if not same[name]})


def test_layers_are_unfrozen_one_after_the_other(tmp_path):
    rows = Dataset.from_dict({"input_ids": [[4, 5, 6], [7, 8, 9]] * 4, "labels": [0, 1] * 4})
    recorder = Recorder()
    args = RnnTrainingArguments(
        str(tmp_path),
        eval_strategy="no",
        save_strategy="no",
        num_train_epochs=4,
        per_device_train_batch_size=4,
        gradual_unfreezing=0.5,
        lr_scheduler_type="constant",
        disable_tqdm=True,
    )
    RnnTrainer(model_of(), args, train_dataset=rows, callbacks=[recorder]).train()
    wanted = [set(range(min(step, 3) + 1)) for step in range(8)]
    assert recorder.changed == wanted


@pytest.mark.parametrize("prefix", ["", "base_model.model."])
def test_features_have_their_rates_in_adapters_of_peft_too(tmp_path, prefix):
    lexical, ngrams = model_of("token-classification", num_lexical_features=8), model_of(ngram_buckets=8)
    names = {"base_model.model.": ("base_model", "model")}.get(prefix, ())
    for model, table in ((lexical, lexical.lexical.weight), (ngrams, ngrams.ngrams.weight)):
        wrapped = model
        for name in reversed(names):
            inner, wrapped = wrapped, torch.nn.Module()
            setattr(wrapped, name, inner)
        args = RnnTrainingArguments(str(tmp_path), weight_decay=0.1, ngram_learning_rate=0.5, lexical_learning_rate=0.5)
        (group,) = [g for g in parameter_groups(wrapped, args) if any(one is table for one in g["params"])]
        assert (group["lr"], group["weight_decay"]) == (0.5, 0.0)
