"""Exported models in the stock pipelines and in bulk."""

import builtins
import importlib.util
import json
import shutil
from unittest import mock

import onnx
import onnxruntime
import pytest
import torch
from strategies import little_config
from transformers import AutoTokenizer, pipeline

from rnn_hf import RnnForSequenceClassification, RnnForTokenClassification, train_tokenizer
from rnn_hf.export import runtime as onnx_model
from rnn_hf.export.folder import export
from rnn_hf.export.runtime import ORTModelForSequenceClassification, ORTModelForTokenClassification
from rnn_hf.inference.loading import load
from rnn_hf.inference.predictor import predict
from rnn_hf.text.characters import set_vocabulary

WORDS = ["to", "be", "or", "not", "that", "is", "the", "question"]
TEXTS = ["", "to be", *[" ".join(WORDS[position % 5 : 1 + position % 9]) for position in range(40)]]
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


def test_batches_are_smaller_than_those_of_torch(folders):
    sizes = []

    def count(model, **inputs):
        sizes.append(len(inputs["input_ids"]))
        return model.forward(**inputs)

    model, tokenizer = onnx_model.load(folders["classifier"][1])
    with mock.patch.object(type(model), "__call__", count):
        list(predict(model, tokenizer, TEXTS))
    assert sizes == [32, 10]


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
    with pytest.raises(ValueError, match=r"holds no onnx/model_int8.onnx.*rnn-hf export .* --int8"):
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


class TestFilesThatAreDamaged:
    @pytest.fixture
    def exported(self, folders, tmp_path):
        """A copy of the exported classifier."""
        return shutil.copytree(folders["classifier"][1], tmp_path / "exported")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", r"model\.onnx is empty: download or copy it again"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n", r"model\.onnx is only a pointer"),
            (b"<!DOCTYPE html><html></html>", r"model\.onnx holds a web page in place of what its name says"),
            (b"a text", r"model\.onnx is no ONNX graph that can be read.*export it anew"),
            (0.5, r"model\.onnx is no ONNX graph that can be read, it is damaged or was cut off"),
            (0.99, r"model\.onnx is no ONNX graph that can be read"),
        ],
    )
    def test_a_graph_that_is_damaged_is_named(self, exported, content, message):
        graph = exported / "onnx" / "model.onnx"
        whole = graph.read_bytes()
        graph.write_bytes(whole[: int(content * len(whole))] if isinstance(content, float) else content)
        with pytest.raises(ValueError, match=message):
            onnx_model.load(exported)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"input": "ids"},
                "inputs ids, attention_mask and the outputs logits; one that rnn_hf exports has input_ids",
            ),
            ({"output": "scores"}, "outputs scores; one that rnn_hf exports has"),
        ],
    )
    def test_a_graph_of_something_else_is_named(self, exported, change, message):
        path = exported / "onnx" / "model.onnx"
        graph = onnx.load(path)
        names = {}
        for kind, name in change.items():
            value = getattr(graph.graph, kind)[0]
            names[value.name], value.name = name, name
        for node in graph.graph.node:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]
        onnx.save(graph, path)
        with pytest.raises(ValueError, match=message):
            onnx_model.load(exported)

    def test_a_configuration_of_another_model_is_named(self, exported, folders):
        shutil.copy(f"{folders['tagger'][1]}/config.json", exported)
        with pytest.raises(ValueError, match=r"model with 4 labels, and config.json names 5, .*Export the model anew"):
            onnx_model.load(exported)

    def test_a_configuration_with_a_larger_vocabulary_is_named_when_an_id_is_beyond(self, exported):
        config = json.loads((exported / "config.json").read_text())
        (exported / "config.json").write_text(json.dumps(config | {"vocab_size": 1000}))
        model, _ = onnx_model.load(exported)
        with pytest.raises(ValueError, match=r"The graph cannot run; does it belong to this config\.json"):
            model(torch.tensor([[999]]))

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("config.json", "[1]", r"config\.json must hold a JSON object"),
            ("tokenizer.json", "{}", "no tokenizer that can be read, in tokenizer.json"),
            ("tokenizer_config.json", "[]", r"tokenizer_config\.json must hold a JSON object"),
        ],
    )
    def test_what_stands_beside_it_is_checked_too(self, exported, name, content, message):
        (exported / name).write_text(content)
        with pytest.raises(ValueError, match=message):
            onnx_model.load(exported)


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
    spec = importlib.util.spec_from_file_location("rnn_hf.export.runtime_again", onnx_model.__file__)
    with pytest.raises(ImportError, match=r'pip install "rnn_hf\[onnx\]"'):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_a_graph_of_another_temperature_is_refused(folders, tmp_path):
    _, exported = folders["classifier"]
    shutil.copytree(exported, tmp_path / "exported")
    config = json.loads((tmp_path / "exported" / "config.json").read_text())
    (tmp_path / "exported" / "config.json").write_text(json.dumps(config | {"temperature": 1.5}))
    with pytest.raises(ValueError, match=r"divides its logits by the temperature 1\.0, and config\.json names 1\.5"):
        onnx_model.load(tmp_path / "exported")
