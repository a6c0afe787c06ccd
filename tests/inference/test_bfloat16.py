"""Prediction in bfloat16, against the model under autocast and against float32."""

import pytest
import torch

from rnn_hf import RnnConfig, RnnForSequenceClassification, RnnForTokenClassification, train_tokenizer
from rnn_hf.inference.bfloat16 import check_precision, choose_precision, computes_bfloat16, is_bfloat16_faster
from rnn_hf.inference.predictor import predict
from rnn_hf.models.lexical import LARGEST_SIZE, LexicalFeatures
from rnn_hf.models.losses import score_labels
from rnn_hf.models.packing import Packing
from rnn_hf.models.pooled_words import Words

CPU = torch.device("cpu")
WORDS = ["to", "be", "or", "not", "that", "is", "the", "question"]
native = pytest.mark.skipif(not computes_bfloat16(CPU), reason="the processor has no instructions for bfloat16")


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([WORDS, WORDS], kind="wordpiece", vocab_size=60, is_split_into_words=True)


def make(model_class, tokenizer, **options):
    torch.manual_seed(0)
    sizes = {"vocab_size": len(tokenizer), "embedding_size": 8, "hidden_size": 8, "initializer_range": 1.0}
    return model_class(RnnConfig(**sizes, **options)).eval()


@native
@pytest.mark.parametrize("in_training", [True, False])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_what_is_timed_decides(gain, cell, in_training):
    config = RnnConfig(hidden_size=8, cell_type=cell)
    state = torch.get_rng_state()
    for least, expected in ((0.0, True), (1e9, False)):
        gain(least)
        assert is_bfloat16_faster(config, CPU, in_training) is expected
    assert torch.equal(torch.get_rng_state(), state)


def test_other_devices_have_none_that_is_known():
    assert not computes_bfloat16(torch.device("meta"))


@native
def test_auto_takes_the_faster_one_and_says_so(gain, messages):
    gain(1e9)
    assert choose_precision("auto", RnnConfig(hidden_size=8)) == "float32"
    assert messages() == []
    gain(0.0)
    assert choose_precision("auto", RnnConfig(hidden_size=8)) == "bfloat16"
    assert messages() == ["Layers compute in bfloat16, which is faster here: precision float32 turns it off."]
    for wanted in ("float32", "bfloat16"):
        assert choose_precision(wanted, RnnConfig(hidden_size=8)) == wanted


@native
@pytest.mark.parametrize("dtype", ["float64", "float16", torch.bfloat16])
def test_auto_leaves_weights_of_other_types_as_they_are(gain, dtype):
    gain(0.0)
    assert choose_precision("auto", RnnConfig(hidden_size=8, dtype=dtype)) == "float32"


@pytest.mark.parametrize("device", ["cuda:99", "nowhere"])
def test_a_device_that_is_not_here_has_float32(device):
    assert choose_precision("auto", RnnConfig(hidden_size=256), device) == "float32"


def test_what_a_model_cannot_compute_in_is_refused(tokenizer):
    model = make(RnnForTokenClassification, tokenizer)
    with pytest.raises(ValueError, match="precision must be float32 or bfloat16, got 'auto'"):
        predict(model, tokenizer, [["to"]], precision="auto")
    for dtype in (torch.float64, torch.float16):
        with pytest.raises(ValueError, match=f"those of this model are in {str(dtype)[6:]}"):
            predict(model.to(dtype), tokenizer, [["to"]], precision="bfloat16")
    with pytest.raises(ValueError, match="a graph of onnxruntime has its own"):
        check_precision("bfloat16", object())


@pytest.mark.parametrize("use_crf", [True, False])
def test_tags_in_bfloat16_are_those_of_the_model_under_autocast(tokenizer, use_crf):
    options = {"id2label": {0: "O", 1: "B-X", 2: "I-X"}, "num_lexical_features": 40, "characters": "abc"}
    model = make(RnnForTokenClassification, tokenizer, use_crf=use_crf, char_num_filters=2, **options)
    sentences = [WORDS[: 1 + index % 8] for index in range(40)]
    found = list(predict(model, tokenizer, sentences, precision="bfloat16", batch_size=8))
    for sentence, one in zip(sentences, found, strict=True):
        encoded = tokenizer([sentence], is_split_into_words=True, return_tensors="pt")
        firsts = [encoded.word_ids().index(word) for word in range(len(sentence))]
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            logits = model(**encoded).logits[0]
        assert logits.dtype == torch.float32
        assert one["tags"] == [model.config.id2label[int(logits[first].argmax())] for first in firsts]


@pytest.mark.parametrize(
    ("problem_type", "pooling"),
    [
        ("single_label_classification", "max"),
        ("multi_label_classification", "attention"),
        ("regression", "mean"),
        ("single_label_classification", "last"),
    ],
)
def test_scores_in_bfloat16_are_close_to_those_in_float32(tokenizer, problem_type, pooling):
    model = make(RnnForSequenceClassification, tokenizer, num_labels=3, problem_type=problem_type, pooling=pooling)
    model.config.temperature = 0.7
    texts = [" ".join(WORDS[: 1 + index % 8]) for index in range(40)]
    key = {"single_label_classification": "score", "regression": "scores"}.get(problem_type, "all_scores")

    def scores(precision):
        found = [one[key] for one in predict(model, tokenizer, texts, precision=precision, all_scores=True)]
        return torch.tensor([list(one.values()) if isinstance(one, dict) else one for one in found])

    exact, rounded = scores("float32"), scores("bfloat16")
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(exact, rounded, atol=0.03, rtol=0)


@pytest.mark.parametrize("model_class", [RnnForSequenceClassification, RnnForTokenClassification])
def test_labels_are_scored_in_the_type_of_the_weights(tokenizer, model_class):
    model = make(model_class, tokenizer, num_labels=3)
    inputs = tokenizer(["to be"], return_tensors="pt")
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(**inputs).logits
        states = model.model(**inputs).last_hidden_state
        trained = model.train()(**inputs).logits
    assert states.dtype == torch.bfloat16
    scores = torch.nn.functional.linear(states.float(), model.classifier.weight, model.classifier.bias)
    if model_class is RnnForTokenClassification:
        torch.testing.assert_close(logits, scores)
    assert logits.dtype == trained.dtype == torch.float32  # in training on a CPU, too


def test_replicas_of_data_parallel_score_labels_under_autocast(tokenizer):
    model = make(RnnForSequenceClassification, tokenizer, num_labels=3)
    # As nn.DataParallel makes them: weights are attributes, and no parameters.
    classifier = model.classifier._replicate_for_data_parallel()
    classifier.weight, classifier.bias = model.classifier.weight.data, model.classifier.bias.data
    states = torch.randn(4, model.classifier.in_features)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(score_labels(classifier, states), score_labels(model.classifier, states))


def test_lexical_features_of_many_labels_are_not_rounded():
    num_labels = LARGEST_SIZE + 1
    config = RnnConfig(vocab_size=9, num_lexical_features=16, num_labels=num_labels, max_characters_per_token=4)
    lexical = LexicalFeatures(config).eval()
    lexical.set_characters(torch.randint(1, 99, (9, 4), generator=torch.manual_seed(0)) * 16 + 1)
    torch.nn.init.normal_(lexical.weight)
    inputs = torch.arange(9), Words.find(torch.ones(9, dtype=torch.bool), Packing.from_mask(torch.ones(1, 9)))
    exact = lexical(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(lexical(*inputs), exact)
    assert exact.abs().sum() > 0
