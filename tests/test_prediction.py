"""Bulk prediction: order, equality with single predictions, constant memory."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_hf import RnnConfig, RnnForSequenceClassification, RnnForTokenClassification, train_tokenizer
from rnn_hf.data_collator import cut_batches
from rnn_hf.prediction import load, predict

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
    texts = ["", *[" ".join(WORDS[: 1 + place % 8]) for place in range(50)]]
    together = list(predict(model, tokenizer, texts, batch_size=7))
    for text, result in zip(texts, together, strict=True):
        logits = model(**tokenizer([text], return_tensors="pt")).logits[0]
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
    assert [place for batch in batches for place in batch] == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= max_examples
        assert len(batch) == 1 or sum(lengths[place] for place in batch) <= max_tokens


def test_load_finds_the_head(tokenizer, tmp_path):
    for model_class in (RnnForSequenceClassification, RnnForTokenClassification):
        make(model_class, tokenizer).save_pretrained(tmp_path / model_class.__name__)
        tokenizer.save_pretrained(tmp_path / model_class.__name__)
        assert type(load(str(tmp_path / model_class.__name__))[0]) is model_class


class TestFoldersThatAreDamaged:
    @pytest.fixture
    def folder(self, tokenizer, tmp_path):
        make(RnnForTokenClassification, tokenizer).save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        return tmp_path

    @pytest.mark.parametrize("content", [b"", b"PK damaged", None])
    def test_weights_that_are_damaged_or_cut_off_are_named(self, folder, content):
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-10] if content is None else content)
        with pytest.raises(
            ValueError, match=r"model\.safetensors is damaged or was cut off .*download or copy it again"
        ):
            load(str(folder))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"num_hidden_layers": 2}, r"8 missing, as model\.rnn\.bias_hh_l1"),
            ({"hidden_size": 9}, r"9 of another shape, as classifier\.weight"),
            ({"use_crf": True}, r"missing, as crf\."),
        ],
    )
    def test_weights_that_do_not_fit_the_configuration_are_named(self, folder, change, message):
        self.edit(folder, change)
        with pytest.raises(ValueError, match=rf"weights in .* do not fit its config\.json \(.*{message}"):
            load(str(folder))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"embed_size": 8}, "has no field 'embed_size'. Did you mean 'embedding_size'"),
            ({"pooling": "first"}, "'pooling' expected one of"),
            ({"hidden_size": -1}, "hidden_size must be at least 1"),
        ],
    )
    def test_a_configuration_of_another_version_is_named(self, folder, change, message):
        self.edit(folder, change)
        with pytest.raises(ValueError, match=rf"config\.json cannot be read: .*{message}.*another version of rnn_hf"):
            load(str(folder))

    def test_a_configuration_that_lacks_a_newer_field_takes_its_default(self, folder):
        self.edit(folder, {"word_dropout": None})
        assert load(str(folder))[0].config.word_dropout == RnnConfig().word_dropout

    def test_a_missing_tokenizer_is_named(self, folder):
        (folder / "tokenizer.json").unlink()
        (folder / "tokenizer_config.json").unlink()
        with pytest.raises(ValueError, match="holds no tokenizer that can be read"):
            load(str(folder))

    def test_a_folder_has_no_revision(self, folder):
        with pytest.raises(ValueError, match="is a folder, which has no revision 'v1'"):
            load(str(folder), revision="v1")

    @staticmethod
    def edit(folder, change):
        config = json.loads((folder / "config.json").read_text()) | change
        config = {key: value for key, value in config.items() if change.get(key, 0) is not None}
        (folder / "config.json").write_text(json.dumps(config))


def test_load_refuses_other_models(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "rnn_hf", "architectures": ["RnnModel"]}))
    with pytest.raises(ValueError, match=r"holds no classifier or tagger .*\['RnnModel'\]"):
        load(str(tmp_path))
