"""Models that version 0.1 saved, in one flat folder of modules, load and give the logits that they gave."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from rnn_hf import RnnForSequenceClassification, RnnForTokenClassification
from rnn_hf.inference.loading import check_weights, load_config, load_weights

SAVED = Path(__file__).with_name("version_0_1")
CLASSES = {
    "classifier": (RnnForSequenceClassification, AutoModelForSequenceClassification),
    "tagger": (RnnForTokenClassification, AutoModelForTokenClassification),
}
INPUT_IDS = torch.tensor([[5, 6, 7, 3], [8, 9, 0, 0]])


def logits_of(model) -> torch.Tensor:
    return model.eval()(input_ids=INPUT_IDS, attention_mask=(INPUT_IDS != 0).long()).logits


@pytest.mark.parametrize("automatic", [False, True])
@pytest.mark.parametrize("name", CLASSES)
def test_load_with_their_logits(name, automatic, recwarn):
    model, info = CLASSES[name][automatic].from_pretrained(SAVED / name, output_loading_info=True)
    assert not any(info.values())
    assert not recwarn.list
    expected = torch.tensor(json.loads((SAVED / name / "expected_logits.json").read_text(encoding="utf-8")))
    torch.testing.assert_close(logits_of(model), expected)


@pytest.mark.parametrize("name", CLASSES)
def test_are_whole_for_loading_in_bulk(name):
    config = load_config(str(SAVED / name))
    check_weights(SAVED / name, config)
    model = CLASSES[name][0].from_pretrained(None, config=config, state_dict=load_weights(SAVED / name))
    torch.testing.assert_close(logits_of(model), logits_of(CLASSES[name][0].from_pretrained(SAVED / name)))


@pytest.mark.parametrize("name", CLASSES)
def test_saved_anew_they_have_the_names_of_today(name, tmp_path):
    model = CLASSES[name][0].from_pretrained(SAVED / name)
    model.save_pretrained(tmp_path)
    assert load_file(tmp_path / "model.safetensors").keys() == model.state_dict().keys()
    shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
    torch.testing.assert_close(logits_of(CLASSES[name][0].from_pretrained(tmp_path)), logits_of(model))
