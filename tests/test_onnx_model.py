"""Exported models in the stock pipelines and in bulk."""

import builtins
import importlib.util
import json

import onnxruntime
import pytest
import torch
from strategies import little_config
from transformers import AutoTokenizer, pipeline

from rnn_hf import RnnForSequenceClassification, RnnForTokenClassification, onnx_model, train_tokenizer
from rnn_hf.export import export
from rnn_hf.onnx_model import ORTModelForSequenceClassification, ORTModelForTokenClassification
from rnn_hf.prediction import load, predict
from rnn_hf.spelling import set_vocabulary

WORDS = ["to", "be", "or", "not", "that", "is", "the", "question"]
TEXTS = ["", "to be", *[" ".join(WORDS[place % 5 : 1 + place % 9]) for place in range(40)]]
LABELS = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A classifier and a tagger with random weights, each saved and exported."""
    tokenizer = train_tokenizer([WORDS, WORDS], kind="wordpiece", vocab_size=40, is_split_into_words=True)
    made = {}
    for name, model_class, options in (
        ("classifier", RnnForSequenceClassification, {"pooling": "attention", "num_labels": 4}),
        ("tagger", RnnForTokenClassification, {"use_crf": True, "id2label": LABELS}),
    ):
        torch.manual_seed(0)
        config = little_config(vocab_size=len(tokenizer), initializer_range=1.0, characters="abehinoqrstu", **options)
        model = model_class(config)
        set_vocabulary(model, tokenizer)
        torch.nn.init.normal_(model.classifier.weight)
        saved = tmp_path_factory.mktemp(name)
        model.save_pretrained(saved)
        tokenizer.save_pretrained(saved)
        export(str(saved), saved / "exported", int8=True)
        made[name] = str(saved), str(saved / "exported")
    return made


def assert_same_predictions(actual, expected):
    assert len(actual) == len(expected)
    for found, wanted in zip(actual, expected, strict=True):
        if isinstance(wanted, list):
            assert_same_predictions(found, wanted)
        else:
            assert {key: value for key, value in found.items() if key != "score"} == {
                key: value for key, value in wanted.items() if key != "score"
            }
            if "score" in wanted:
                assert found["score"] == pytest.approx(wanted["score"], abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 8])
def test_the_stock_pipelines_give_what_they_give_with_torch(folders, batch_size, caplog):
    for task, name, model_class in (
        ("text-classification", "classifier", ORTModelForSequenceClassification),
        ("token-classification", "tagger", ORTModelForTokenClassification),
    ):
        saved, exported = folders[name]
        model = model_class.from_pretrained(exported)
        ours = pipeline(task, model=model, tokenizer=AutoTokenizer.from_pretrained(exported), batch_size=batch_size)
        stock = pipeline(task, model=saved, batch_size=batch_size)
        assert_same_predictions(ours(TEXTS), stock(TEXTS))
    assert "not supported" not in caplog.text


def test_predictions_in_bulk_come_in_order_and_equal_those_of_torch(folders):
    for name, inputs in (("classifier", TEXTS), ("tagger", [text.split() for text in TEXTS])):
        saved, exported = folders[name]
        ours = list(predict(*onnx_model.load(exported), inputs, batch_size=7))
        assert_same_predictions(ours, list(predict(*load(saved), inputs, batch_size=7)))
        assert [one.get("text", one.get("tokens")) for one in ours] == inputs


def test_the_int8_graph_runs_in_the_same_way(folders):
    saved, exported = folders["classifier"]
    model = ORTModelForSequenceClassification.from_pretrained(exported, file_name="onnx/model_int8.onnx")
    batch = AutoTokenizer.from_pretrained(exported)(TEXTS, padding=True, return_tensors="pt")
    logits = model(batch["input_ids"], batch["attention_mask"]).logits
    with torch.no_grad():
        expected = load(saved)[0](batch["input_ids"], batch["attention_mask"]).logits
    assert 0 < float((logits - expected).abs().max()) < 0.1


def test_options_of_the_session_are_those_given(folders):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = ORTModelForTokenClassification.from_pretrained(
        folders["tagger"][1],
        provider="CPUExecutionProvider",
        provider_options={"arena_extend_strategy": "kSameAsRequested"},
        session_options=options,
    )
    assert model.session.get_session_options().intra_op_num_threads == 1
    assert model.session.get_providers() == ["CPUExecutionProvider"]


def test_errors_say_what_to_do(folders, tmp_path):
    saved, exported = folders["classifier"]
    with pytest.raises(ValueError, match="holds no model"):
        onnx_model.load(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"holds no onnx/model_int8.onnx.*export_onnx.py .* --int8"):
        onnx_model.load(saved, file_name="onnx/model_int8.onnx")
    with pytest.raises(ValueError, match=r"ORTModelForTokenClassification runs .* this one is for text-classification"):
        ORTModelForTokenClassification.from_pretrained(exported)
    with pytest.raises(ValueError, match=r"no NoExecutionProvider, only .*CPUExecutionProvider"):
        onnx_model.load(exported, provider="NoExecutionProvider")
    with pytest.raises(ValueError, match="holds no weights"):
        load(exported)
    model, _ = onnx_model.load(exported)
    with pytest.raises(ValueError, match=r"got ids from -1 to 2.*Does the tokenizer belong"):
        model(torch.tensor([[2, -1]]))
    assert model(torch.tensor([[2, -1]]), torch.tensor([[1, 0]])).logits.shape == (1, 4)


def test_other_models_are_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="model_type='bert'"):
        onnx_model.load(tmp_path)


def test_a_missing_package_is_named(monkeypatch):
    real_import = builtins.__import__

    def without_onnxruntime(name, *args, **kwargs):
        if name == "onnxruntime":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_onnxruntime)
    spec = importlib.util.spec_from_file_location("rnn_hf.onnx_model_again", onnx_model.__file__)
    with pytest.raises(ImportError, match=r'pip install "rnn_hf\[onnx\]"'):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
