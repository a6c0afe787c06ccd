"""Bulk prediction: order, equality with single predictions, constant memory; and loading what may be damaged."""

import io
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import pipeline

from rnn_hf import RnnConfig, RnnForSequenceClassification, RnnForTokenClassification, train_tokenizer
from rnn_hf.data.collator import cut_batches
from rnn_hf.inference.loading import find_device, load, load_config
from rnn_hf.inference.predictor import predict

WORDS = ["to", "be", "or", "not", "that", "is", "the", "question"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([WORDS, WORDS], kind="wordpiece", vocab_size=60, is_split_into_words=True)


def make(model_class, tokenizer, **options):
    torch.manual_seed(0)
    config = RnnConfig(
        vocab_size=len(tokenizer), embedding_size=8, hidden_size=8, initializer_range=1.0, **{"num_labels": 4} | options
    )
    return model_class(config).eval()


@settings(deadline=None, max_examples=15)
@given(st.lists(st.lists(st.sampled_from([*WORDS, "", "unseen", "New York"]), max_size=9), max_size=12))
def test_tags_are_those_of_each_sentence_alone(tokenizer, sentences):
    model = make(RnnForTokenClassification, tokenizer)
    together = list(predict(model, tokenizer, sentences, batch_size=4, max_tokens_per_batch=20))
    alone = [next(iter(predict(model, tokenizer, [sentence]))) for sentence in sentences]
    assert together == alone
    assert [result["tokens"] for result in together] == sentences
    assert all(len(result["tags"]) == len(result["tokens"]) for result in together)


def test_labels_come_in_the_order_of_the_texts(tokenizer):
    model = make(RnnForSequenceClassification, tokenizer)
    texts = ["", *[" ".join(WORDS[: 1 + position % 8]) for position in range(50)]]
    together = list(predict(model, tokenizer, texts, batch_size=7))
    for text, result in zip(texts, together, strict=True):
        logits = model(**tokenizer([text], return_tensors="pt")).logits[0].detach()
        assert result["text"] == text
        assert result["label"] == model.config.id2label[int(logits.argmax())]
        assert result["score"] == pytest.approx(float(logits.softmax(-1).max()), abs=1e-5)


def test_several_labels_are_those_above_one_half(tokenizer):
    model = make(RnnForSequenceClassification, tokenizer, problem_type="multi_label_classification")
    (result,) = predict(model, tokenizer, ["to be or not"])
    scores = model(**tokenizer(["to be or not"], return_tensors="pt")).logits[0].sigmoid()
    assert result["labels"] == [f"LABEL_{index}" for index in range(4) if scores[index] > 0.5]
    assert result["scores"] == pytest.approx(scores[scores > 0.5].tolist(), abs=1e-5)


def test_a_regression_gives_its_values(tokenizer):
    model = make(RnnForSequenceClassification, tokenizer, problem_type="regression", num_labels=1)
    (result,) = predict(model, tokenizer, ["to be"])
    assert result["scores"] == pytest.approx(
        model(**tokenizer(["to be"], return_tensors="pt")).logits[0].tolist(), abs=1e-5
    )


def test_reads_no_further_than_it_must(tokenizer):
    model = make(RnnForSequenceClassification, tokenizer)
    read = 0

    def endless():
        nonlocal read
        while True:
            read += 1
            yield "to be"

    results = predict(model, tokenizer, endless())
    for _ in range(3):
        next(results)
    assert read <= 4096


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 8), st.integers(1, 40))
def test_batches_keep_their_bounds_and_the_order(lengths, max_examples, max_tokens):
    batches = list(cut_batches(range(len(lengths)), lengths, max_examples, max_tokens))
    assert [position for batch in batches for position in batch] == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= max_examples
        assert len(batch) == 1 or sum(lengths[position] for position in batch) <= max_tokens


def test_load_finds_the_head(tokenizer, tmp_path):
    for model_class in (RnnForSequenceClassification, RnnForTokenClassification):
        make(model_class, tokenizer).save_pretrained(tmp_path / model_class.__name__)
        tokenizer.save_pretrained(tmp_path / model_class.__name__)
        assert type(load(str(tmp_path / model_class.__name__))[0]) is model_class


class TestInputs:
    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            ("to be", r"must be a list or a generator of texts, got 'to be' \(str\)"),
            (b"to be", "must be a list or a generator of texts"),
            ({"text": "to be"}, "must be a list or a generator of texts"),
            (None, r"got None \(NoneType\)"),
            (3, r"got 3 \(int\)"),
            (["to be", None], r"Input 1 must be a text, as the model is a classifier; got None"),
            (["to be", ["to", "be"]], r"Input 1 must be a text.*got \['to', 'be'\] \(list\)"),
            ([b"to be"], "Input 0 must be a text"),
            ([1.5], r"Input 0 must be a text.*got 1\.5 \(float\)"),
            ([["x" * 999]], "…"),
        ],
    )
    def test_a_classifier_takes_texts(self, tokenizer, inputs, message):
        with pytest.raises(TypeError, match=message):
            list(predict(make(RnnForSequenceClassification, tokenizer), tokenizer, inputs))

    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            ("to be", "must be a list or a generator of lists of words"),
            (["to be"], r"Input 0 must be a list of words, as the model is a tagger; got 'to be'.*text\.split\(\)"),
            ([["to"], "be"], "Input 1 must be a list of words"),
            ([["to"], None], r"Input 1 .* got None"),
            ([["to", 3]], r"Input 0, word 1 must be a text, got 3 \(int\)"),
            ([["to", None]], "Input 0, word 1 must be a text, got None"),
            ([["to", ["be"]]], r"Input 0, word 1 must be a text, got \['be'\]"),
        ],
    )
    def test_a_tagger_takes_lists_of_words(self, tokenizer, inputs, message):
        with pytest.raises(TypeError, match=message):
            list(predict(make(RnnForTokenClassification, tokenizer), tokenizer, inputs))

    def test_the_place_of_a_bad_input_is_counted_over_all(self, tokenizer):
        model = make(RnnForSequenceClassification, tokenizer)
        with pytest.raises(TypeError, match="Input 4999 must be a text"):
            list(predict(model, tokenizer, ["to be"] * 4999 + [None]))

    @pytest.mark.parametrize("text", ["a\ud800b", "\udfff"])
    def test_lone_surrogates_are_named(self, tokenizer, text):
        with pytest.raises(ValueError, match=r"Input 1 holds the lone surrogate '\\u[a-f\d]{4}'"):
            list(predict(make(RnnForSequenceClassification, tokenizer), tokenizer, ["to", text]))
        with pytest.raises(ValueError, match="Input 1 holds the lone surrogate"):
            list(predict(make(RnnForTokenClassification, tokenizer), tokenizer, [["to"], ["be", text]]))

    @pytest.mark.parametrize("bound", ["batch_size", "max_tokens_per_batch"])
    @pytest.mark.parametrize("value", [0, -1, "7", 1.5])
    def test_bounds_are_checked_before_anything_is_read(self, tokenizer, bound, value):
        with pytest.raises(ValueError, match=rf"{bound} must be a number of at least 1, got {value!r}"):
            predict(make(RnnForSequenceClassification, tokenizer), tokenizer, iter(["to"]), **{bound: value})

    def test_tuples_of_words_are_tagged(self, tokenizer):
        model = make(RnnForTokenClassification, tokenizer)
        assert [one["tags"] for one in predict(model, tokenizer, [("to", "be")])] == [
            one["tags"] for one in predict(model, tokenizer, [["to", "be"]])
        ]


class TestModes:
    def test_the_model_is_in_its_own_mode_whenever_a_result_comes(self, tokenizer):
        model = make(RnnForSequenceClassification, tokenizer, classifier_dropout=0.9)
        expected = list(predict(model, tokenizer, ["to be"] * 3))
        assert not model.training
        model.train()
        model.model.eval()  # a part that somebody froze
        modes = {name: module.training for name, module in model.named_modules()}
        for result in predict(model, tokenizer, ["to be"] * 3):
            assert result == expected[0]
            assert {name: module.training for name, module in model.named_modules()} == modes

    def test_an_error_leaves_the_mode_as_it_was(self, tokenizer):
        model = make(RnnForSequenceClassification, tokenizer).train()
        words = [f"word{index}" for index in range(99)]
        larger = train_tokenizer([words], kind="word", min_frequency=1, is_split_into_words=True)
        with pytest.raises(ValueError, match="Does the tokenizer belong to this model"):
            list(predict(model, larger, [" ".join(words)]))
        assert all(module.training for module in model.modules())


class TestLength:
    """A tokenizer's `model_max_length` is how much of a text its classifier was trained to read."""

    def test_a_classifier_reads_as_much_as_it_was_trained_on(self, tokenizer, tmp_path):
        model = make(RnnForSequenceClassification, tokenizer)
        model.save_pretrained(tmp_path)
        text = " ".join(WORDS)
        limited = train_tokenizer([WORDS, WORDS], kind="wordpiece", vocab_size=60, is_split_into_words=True)
        limited.model_max_length = 3
        limited.save_pretrained(tmp_path)
        loaded, loaded_tokenizer = load(str(tmp_path))
        assert loaded_tokenizer.model_max_length == 3
        (result,) = predict(loaded, loaded_tokenizer, [text])
        short = model(**tokenizer([text], truncation=True, max_length=3, return_tensors="pt")).logits
        assert result["score"] == pytest.approx(short.softmax(-1).max().item(), abs=1e-6)
        whole = model(**tokenizer([text], return_tensors="pt")).logits
        assert result["score"] != pytest.approx(whole.softmax(-1).max().item(), abs=1e-6)
        assert result["text"] == text

    def test_stock_pipelines_do_so_when_they_are_told_to(self, tokenizer, tmp_path):
        make(RnnForSequenceClassification, tokenizer).save_pretrained(tmp_path)
        limited = train_tokenizer([WORDS, WORDS], kind="wordpiece", vocab_size=60, is_split_into_words=True)
        limited.model_max_length = 3
        limited.save_pretrained(tmp_path)
        text = " ".join(WORDS)
        (expected,) = predict(*load(str(tmp_path)), [text])
        told = pipeline("text-classification", model=str(tmp_path), truncation=True)(text)[0]
        untold = pipeline("text-classification", model=str(tmp_path))(text)[0]
        assert told["score"] == pytest.approx(expected["score"], abs=1e-6)
        assert untold["score"] != pytest.approx(expected["score"], abs=1e-6)

    def test_a_tagger_reads_every_word(self, tokenizer):
        model = make(RnnForTokenClassification, tokenizer)
        (expected,) = predict(model, tokenizer, [WORDS])
        limited = train_tokenizer([WORDS, WORDS], kind="wordpiece", vocab_size=60, is_split_into_words=True)
        limited.model_max_length = 3
        assert next(iter(predict(model, limited, [WORDS]))) == expected


class TestDevices:
    def test_the_cpu_is_there(self):
        assert find_device("cpu").type == "cpu"

    @pytest.mark.parametrize("name", ["cuda:99", "cpux", "", "meta", "cuda:x", "1", "mps:7", "privateuseone"])
    def test_what_is_not_there_is_refused(self, name):
        with pytest.raises(ValueError, match=rf"There is no device {name!r} here, only cpu"):
            find_device(name)


@pytest.fixture
def folder(tokenizer, tmp_path):
    """A tagger's folder."""
    make(RnnForTokenClassification, tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def edit(folder, change, name="config.json"):
    """Change keys of a JSON file; `None` takes one out."""
    content = json.loads((folder / name).read_text()) | change
    content = {key: value for key, value in content.items() if change.get(key, 0) is not None}
    (folder / name).write_text(json.dumps(content))


class TestFoldersThatAreDamaged:
    @pytest.mark.parametrize("content", [b"PK damaged", None, b"\xff" * 100])
    def test_weights_that_are_damaged_or_cut_off_are_named(self, folder, content):
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-10] if content is None else content)
        with pytest.raises(
            ValueError, match=r"model\.safetensors is damaged or was cut off .*download or copy it again"
        ):
            load(str(folder))

    @pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "{name} is empty: download or copy it again"),
            (POINTER, "{name} is only a pointer .*git lfs pull"),
            (
                "<!DOCTYPE html>\n<title>Log in</title>",
                "{name} holds a web page .*a page to log in at.* check the netw",
            ),
            ("\n<HTML><body>", "{name} holds a web page in place of what its name says"),
        ],
    )
    def test_files_that_never_arrived_are_named(self, folder, name, content, message):
        (folder / name).write_text(content)
        with pytest.raises(ValueError, match=message.format(name=name)):
            load(str(folder))

    @pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "added_tokens.json"])
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("[1]", "must hold a JSON object, .*holds a list"),
            ("null", "must hold a JSON object, .*holds null"),
            ('"text"', "must hold a JSON object, .*holds a text"),
            ("3", "must hold a JSON object, .*holds 3"),
            ('{"a": ', "is no JSON, it is damaged or was cut off"),
            ("[" * 100_000, "is no JSON, it is damaged"),
            (b"\xff\xfe{\x00", "is no JSON, it is damaged or was cut off"),
        ],
    )
    def test_json_that_is_no_object_is_named(self, folder, name, content, message):
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(ValueError, match=rf"{name} {message}"):
            load(str(folder))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"num_hidden_layers": 2}, r"8 missing, as model\.rnn\.bias_hh_l1"),
            ({"hidden_size": 9}, r"9 of another shape, as classifier\.weight"),
            ({"use_crf": True}, r"missing, as crf\."),
            ({"num_hidden_layers": 900}, "num_hidden_layers=900, but the weights are of 1 layers"),
            ({"hidden_size": 60_000, "embedding_size": 60_000}, "10 of another shape"),
            ({"vocab_size": 90_000_000}, "2 of another shape"),
            ({"characters": "ab", "char_num_filters": 90_000}, "missing, as model.embeddings"),
        ],
    )
    def test_weights_that_do_not_fit_the_configuration_are_named_at_once(self, folder, change, message):
        edit(folder, change)
        start = time.process_time()
        with pytest.raises(ValueError, match=rf"weights in .* do not fit its config\.json \(.*{message}"):
            load(str(folder))
        assert time.process_time() - start < 10

    def test_labels_that_tell_where_spans_end_are_counted(self, tokenizer, tmp_path):
        labels = dict(enumerate(["O", "B-X", "I-X", "B-Y"]))
        model = make(RnnForTokenClassification, tokenizer, id2label=labels, use_crf=True, crf_tag_scheme="iobes")
        model.save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        assert load(str(tmp_path))[0].classifier.out_features == 6
        edit(tmp_path, {"id2label": {0: "O", 1: "B-X", 2: "I-X"}, "label2id": None})
        with pytest.raises(ValueError, match=r"id2label names 3 labels, but classifier\.bias in the weights is of 6"):
            load(str(tmp_path))

    def test_weights_of_another_type_are_named(self, folder):
        weights = load_file(folder / "model.safetensors")
        save_file(weights | {"classifier.bias": torch.zeros(4, dtype=torch.int64)}, folder / "model.safetensors")
        with pytest.raises(ValueError, match=r"1 of another type, as classifier\.bias"):
            load(str(folder))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"hidden_size": 10**12}, "cannot be read: .*hidden_size"),
            ({"num_hidden_layers": 10**9}, "cannot be read: .*num_hidden_layers"),
            ({"pooling": "first"}, "cannot be read: .*'pooling' expected one of"),
            ({"hidden_size": -1}, "cannot be read: .*hidden_size"),
            ({"hidden_size": "8"}, "cannot be read: .*hidden_size"),
            ({"id2label": dict.fromkeys("abcd", "X")}, "cannot be read: "),
            ({"dtype": "float99"}, "says dtype='float99', which must be one of float32, float16, bfloat16, float64"),
            ({"dtype": "int8"}, "says dtype='int8', which must be one of"),
            ({"torch_dtype": ["x"]}, "says torch_dtype="),
            ({"architectures": 3}, "says architectures=3, which must be a list of names"),
            ({"architectures": [3]}, "says architectures="),
        ],
    )
    def test_a_configuration_that_cannot_be_read_is_named(self, folder, change, message):
        edit(folder, change)
        with pytest.raises(ValueError, match=rf"config\.json {message}.*another version of rnn_hf"):
            load(str(folder))

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            ({"id2label": {0: "X"}}, "id2label names 1 labels, but classifier.bias in the weights is of 4"),
            ({"id2label": dict(enumerate(map(str, range(200_000))))}, "id2label names 200,000 labels, but classifier"),
            ({"label2id": {str(index): index for index in range(200_000)}}, "label2id names 200,000 labels, but class"),
            ({"id2label": None, "label2id": None, "num_labels": 10**9}, "num_labels=1,000,000,000, but classifier.b"),
            ({"id2label": dict(enumerate(["a" * 10**7, *"bcd"]))}, "it names a label of 10,000,000 characters, and t"),
        ],
        ids=["few", "many", "many in label2id", "a number", "long"],
    )
    def test_labels_that_do_not_fit_the_weights_are_named_at_once(self, folder, labels, message):
        edit(folder, labels)
        start = time.process_time()
        with pytest.raises(ValueError, match=message):
            load(str(folder))
        assert time.process_time() - start < 10

    def test_more_labels_than_there_may_be_are_refused_without_weights_too(self, folder):
        (folder / "model.safetensors").unlink()
        edit(folder, {"id2label": None, "label2id": None, "num_labels": 10**9})
        with pytest.raises(
            ValueError, match=r"config\.json cannot be read: num_labels=1,000,000,000, and there may be"
        ):
            load_config(str(folder))

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("transformers_weights", "../elsewhere.safetensors"),
            ("attn_implementation", "somebody/kernels"),
            ("_attn_implementation", "somebody/kernels"),
            ("quantization_config", {"quant_method": "bitsandbytes"}),
        ],
    )
    def test_what_would_load_other_files_or_code_is_refused(self, folder, key, value):
        edit(folder, {key: value})
        with pytest.raises(ValueError, match=rf"config\.json holds {key}=.*, which no model of rnn_hf has"):
            load(str(folder))

    def test_a_configuration_that_lacks_a_newer_field_takes_its_default(self, folder):
        edit(folder, {"word_dropout": None})
        assert load(str(folder))[0].config.word_dropout == RnnConfig().word_dropout

    @pytest.mark.parametrize("labels", [["x" * 20_000 + str(index) for index in range(4)], None])
    def test_long_and_many_labels_load_fast(self, tokenizer, tmp_path, labels):
        names = labels or [f"label {index}" for index in range(20_000)]
        id2label = dict(enumerate(names))
        make(RnnForSequenceClassification, tokenizer, id2label=id2label, num_labels=len(names)).save_pretrained(
            tmp_path
        )
        tokenizer.save_pretrained(tmp_path)
        start = time.process_time()
        model, _ = load(str(tmp_path))
        assert time.process_time() - start < 20  # minutes, where it takes the square of either
        assert model.config.label_names == names

    def test_a_missing_tokenizer_is_named(self, folder):
        (folder / "tokenizer.json").unlink()
        with pytest.raises(ValueError, match=r"holds no tokenizer: tokenizer\.json is missing\. Save it there with"):
            load(str(folder))

    @pytest.mark.parametrize("name", ["vocab.json", "vocab.txt", "spiece.model"])
    def test_a_slow_tokenizer_is_named(self, folder, name):
        for path in folder.glob("tokenizer*"):
            path.unlink()
        (folder / name).write_text("x")
        with pytest.raises(ValueError, match=r"tokenizer\.json is missing\. Save a fast tokenizer there") as refused:
            load(str(folder))
        assert "tiktoken" not in str(refused.value)

    @pytest.mark.parametrize(
        ("name", "change", "message"),
        [
            ("tokenizer.json", {"model": None}, "no tokenizer that can be read, in tokenizer.json"),
            ("tokenizer.json", {"model": {"type": "Unheard"}}, "no tokenizer that can be read, in tokenizer.json"),
            ("tokenizer.json", {"added_tokens": 3}, "no tokenizer that can be read, in tokenizer.json"),
            ("tokenizer_config.json", {"tokenizer_class": 3}, "no tokenizer that can be read"),
            ("tokenizer_config.json", {"pad_token": 3}, "no tokenizer that can be read"),
            ("tokenizer_config.json", {"padding_side": "up"}, "no tokenizer that can be read"),
            ("tokenizer_config.json", {"model_max_length": "x"}, r"tokenizer_config\.json says model_max_length='x'"),
            ("tokenizer_config.json", {"model_max_length": 0}, "says model_max_length=0, which must be a number"),
            ("config.json", {"vocab_size": 10}, "do not fit its config.json"),
        ],
    )
    def test_a_tokenizer_that_cannot_be_read_is_named(self, folder, name, change, message):
        edit(folder, change, name)
        with pytest.raises(ValueError, match=message):
            load(str(folder))

    def test_a_tokenizer_of_another_model_is_named(self, folder):
        more = [f"word{index}" for index in range(50)]
        train_tokenizer([more, more], kind="word", is_split_into_words=True).save_pretrained(folder)
        with pytest.raises(ValueError, match=r"has 53 entries, but the model has \d+ .*do not belong together"):
            load(str(folder))

    def test_a_folder_has_no_revision(self, folder):
        with pytest.raises(ValueError, match="is a folder, which has no revision 'v1'"):
            load(str(folder), revision="v1")

    @pytest.mark.parametrize(("name", "message"), [("", "A model needs a name"), (" ", "A model needs a name")])
    def test_no_name_is_no_model(self, name, message):
        with pytest.raises(ValueError, match=message):
            load(name)

    def test_a_file_is_no_model(self, folder):
        with pytest.raises(ValueError, match=r"config\.json is a file: name the folder that holds the model"):
            load(str(folder / "config.json"))


class TestWeightsInParts:
    @pytest.fixture
    def parts(self, folder):
        """The tagger, its weights in two files with an index."""
        weights = load_file(folder / "model.safetensors")
        names = sorted(weights)
        (folder / "model.safetensors").unlink()
        weight_map = {}
        for number, part in enumerate((names[:5], names[5:]), start=1):
            file = f"model-0000{number}-of-00002.safetensors"
            save_file({name: weights[name] for name in part}, folder / file)
            weight_map |= dict.fromkeys(part, file)
        self.write_index(folder, {"metadata": {}, "weight_map": weight_map})
        return folder

    @staticmethod
    def write_index(folder, content):
        (folder / "model.safetensors.index.json").write_text(json.dumps(content))

    def test_load(self, parts, tokenizer):
        expected = make(RnnForTokenClassification, tokenizer).state_dict()
        loaded = load(str(parts))[0].state_dict()
        assert all(torch.equal(loaded[name], expected[name]) for name in expected)

    @pytest.mark.parametrize(
        ("index", "message"),
        [
            ({}, 'lists no weights, under "weight_map"'),
            ({"weight_map": []}, "lists no weights"),
            ({"weight_map": {}}, "lists no weights"),
            ({"weight_map": {"a": "../model.safetensors"}}, r"names '\.\./model\.safetensors', which is no file of w"),
            ({"weight_map": {"a": "/etc/model.safetensors"}}, "names '/etc/model.safetensors', which is no file of w"),
            ({"weight_map": {"a": "sub/model.safetensors"}}, "which is no file of weights in its folder"),
            ({"weight_map": {"a": "..\\model.safetensors"}}, "which is no file of weights in its folder"),
            ({"weight_map": {"a": "optimizer.bin"}}, "which is no file of weights in its folder"),
            ({"weight_map": {"a": 3}}, "names 3, which is no file of weights"),
            ({"weight_map": {"a": "absent.safetensors"}}, r"absent\.safetensors of model.safetensors.index.json is m"),
            ([], "must hold a JSON object"),
        ],
    )
    def test_an_index_that_is_wrong_is_named(self, parts, index, message):
        self.write_index(parts, index)
        with pytest.raises(ValueError, match=message):
            load(str(parts))

    def test_a_part_that_was_cut_off_is_named(self, parts):
        part = parts / "model-00002-of-00002.safetensors"
        part.write_bytes(part.read_bytes()[:100])
        with pytest.raises(ValueError, match=r"model-00002-of-00002\.safetensors is damaged or was cut off"):
            load(str(parts))


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of Unix")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_files_that_may_not_be_read_are_not_called_damaged(folder, name):
    load(str(folder))  # so that all modules are there
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as position:
        os.chmod(position, 0o755)
        shutil.copytree(folder, f"{position}/model")
        os.chmod(f"{position}/model", 0o755)
        for path in Path(position, "model").iterdir():
            path.chmod(0o000 if path.name == name else 0o644)
        try:
            if user == 0:
                os.seteuid(65534)
            with pytest.raises(ValueError, match=rf"{name} cannot be read: Permission denied\. Check its permissions"):
                load(f"{position}/model")
        finally:
            os.seteuid(user)


class TestTrust:
    @pytest.mark.parametrize("answer", ["y\n" * 9, "yes\n" * 9])
    def test_no_answer_runs_the_code_of_a_folder(self, folder, monkeypatch, answer):
        marker = folder / "was_run"
        for path in folder.glob("*.py"):
            path.write_text(f"open({str(marker)!r}, 'w').close()\n" + path.read_text())
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        load(str(folder))
        load_config(str(folder))
        assert not marker.exists()
        assert sys.stdin.read() == answer, "nothing was asked"

    def test_a_tokenizer_with_code_of_its_own_is_refused(self, folder, monkeypatch):
        (folder / "tokenization_own.py").write_text(f"open({str(folder / 'was_run')!r}, 'w').close()\n")
        edit(folder, {"auto_map": {"AutoTokenizer": [None, "tokenization_own.Own"]}}, "tokenizer_config.json")
        monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 9))
        with pytest.raises(ValueError, match=r"tokenizer_config\.json names code of its own under auto_map"):
            load(str(folder))
        assert not (folder / "was_run").exists()


def test_load_refuses_other_models(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "rnn_hf", "architectures": ["RnnModel"]}))
    with pytest.raises(ValueError, match=r"holds no classifier or tagger .*\['RnnModel'\]"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("classifier.weight", float("nan"), "not finite, in classifier.weight"),
        ("model.rnn.weight_hh_l0", float("inf"), "not finite, in model.rnn.weight_hh_l0"),
        ("model.embeddings.character_cnn.character_ids", 3_000_001, "character_ids names rows that do not exist"),
        ("model.embeddings.character_cnn.character_ids", -1, "character_ids names rows that do not exist"),
        ("model.embeddings.static_embeddings.vector_ids", 99, "vector_ids names rows that do not exist"),
        ("lexical.feature_rows", 99, "feature_rows names rows that do not exist"),
        ("lexical.character_codes", -1, "character_codes names rows that do not exist"),
    ],
)
def test_weights_without_sense_are_refused(name, value, message, tokenizer, tmp_path):
    options = {"characters": "abc", "static_embedding_size": 2, "static_vocab_size": 3, "num_lexical_features": 9}
    make(RnnForTokenClassification, tokenizer, **options).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights[name].view(-1)[1] = value
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=message):
        load(str(tmp_path))
