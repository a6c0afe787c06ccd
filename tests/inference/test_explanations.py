"""Words are weighed by what a prediction loses without them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import few, generator, little_config

from rnn_hf import RnnForSequenceClassification, RnnForTokenClassification, train_tokenizer
from rnn_hf.export.folder import export
from rnn_hf.export.runtime import load as load_exported
from rnn_hf.inference.explanations import Explanation, explain
from rnn_hf.text.characters import set_vocabulary
from rnn_hf.text.encoding import encode_words

TEXTS = ["The striker scored twice, in the cup final.", "東京で 본 영화!", "final"]
WORDS = [["Ann", "Lee", "left", "Oslo", "."], ["서울", "에서", "Ann"], ["Lee"]]
IOB2 = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def make(model_class, names, corpus, **options):
    is_tagger = model_class is RnnForTokenClassification
    tokenizer = train_tokenizer(corpus, vocab_size=90, min_frequency=1, is_split_into_words=is_tagger)
    model = model_class(little_config(vocab_size=len(tokenizer), id2label=dict(enumerate(names)), **options)).eval()
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=generator(number)) * 0.6)
    set_vocabulary(model, tokenizer)
    return model, tokenizer


def logits_of(model, tokenizer, text):
    with torch.no_grad():
        return model(**tokenizer([text], return_tensors="pt")).logits[0].tolist()


def tag_logits_of(model, tokenizer, words, word):
    (ids,), (firsts,) = encode_words(tokenizer, [words])
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, firsts[word]].tolist()


def log_odds(logits, label):
    """Compute the log-odds of a label, plainly."""
    odds = math.exp(logits[label]) / sum(math.exp(one) for index, one in enumerate(logits) if index != label)
    return math.log(odds)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("max_tokens", [1, 30, 16384])
def test_a_classifier_s_words_are_left_out_one_by_one(text, max_tokens):
    model, tokenizer = make(RnnForSequenceClassification, "ABC", TEXTS, pooling="mean")
    whole = logits_of(model, tokenizer, text)
    best = max(range(3), key=whole.__getitem__)
    found = explain(model, tokenizer, text, max_tokens_per_batch=max_tokens)
    assert found.label == "ABC"[best]
    assert "".join(word for word, _ in found.scores()) == "".join(text.split())
    for start, end, moved in found.words:
        without = logits_of(model, tokenizer, text[:start] + text[end:])
        assert moved == pytest.approx(log_odds(whole, best) - log_odds(without, best), abs=1e-4)


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("max_tokens", [1, 16384])
def test_a_tagger_s_words_are_left_out_one_by_one(words, max_tokens):
    model, tokenizer = make(RnnForTokenClassification, IOB2, WORDS * 2, use_crf=True)
    for word in range(len(words)):
        for label in (None, "I-LOC"):
            whole = tag_logits_of(model, tokenizer, words, word)
            target = max(range(5), key=whole.__getitem__) if label is None else 4
            found = explain(model, tokenizer, words, word=word, label=label, max_tokens_per_batch=max_tokens)
            assert found.label == IOB2[target]
            assert [shown for shown, _ in found.scores()] == words
            for index, (_, _, moved) in enumerate(found.words):
                if index == word:
                    assert moved == 0
                    continue
                left = tag_logits_of(model, tokenizer, words[:index] + words[index + 1 :], word - (index < word))
                scores = torch.tensor([whole, left], dtype=torch.float64)
                others = torch.cat([scores[:, :target], scores[:, target + 1 :]], dim=1).logsumexp(dim=1)
                expected = scores[:, target] - others
                assert moved == pytest.approx(float(expected[0] - expected[1]), rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("problem_type", ["multi_label_classification", "regression"])
def test_of_several_labels_and_of_values_each_is_by_itself(problem_type):
    model, tokenizer = make(RnnForSequenceClassification, "ABC", TEXTS, problem_type=problem_type)
    whole = logits_of(model, tokenizer, TEXTS[0])
    for label in range(3):
        for start, end, moved in explain(model, tokenizer, TEXTS[0], label="ABC"[label]).words:
            without = logits_of(model, tokenizer, TEXTS[0][:start] + TEXTS[0][end:])
            assert moved == pytest.approx(whole[label] - without[label], abs=1e-5)


def test_an_exported_model_is_explained_too(tmp_path):
    model, tokenizer = make(RnnForSequenceClassification, "ABC", TEXTS)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    export(str(tmp_path), tmp_path)
    exported, same = load_exported(tmp_path)
    expected, found = explain(model, tokenizer, TEXTS[0]), explain(exported, same, TEXTS[0])
    assert found.label == expected.label
    assert [moved for _, moved in found.scores()] == pytest.approx([moved for _, moved in expected.scores()], abs=1e-4)


def test_the_model_stays_in_the_mode_it_was_in():
    model, tokenizer = make(RnnForSequenceClassification, "ABC", TEXTS)
    model.train()
    explain(model, tokenizer, TEXTS[0])
    assert model.training


@pytest.mark.parametrize("text", ["", "  "])
def test_a_text_without_words_is_explained_by_none(text):
    model, tokenizer = make(RnnForSequenceClassification, "ABC", TEXTS)
    assert explain(model, tokenizer, text).words == []


@few(50)
@given(st.lists(st.tuples(st.text("a<&\"' \n", min_size=1, max_size=3), st.floats(-9, 9)), max_size=5), st.text("<>&a"))
def test_html_holds_the_text_and_no_markup_of_it(words, label):
    text, spans = "", []
    for word, moved in words:
        spans.append((len(text), len(text) + len(word), moved))
        text += word + " "
    shown = Explanation(text, label, spans).to_html()
    assert shown.count("<span") == shown.count("</span>") == len(words)
    assert shown.count("<") == 4 + 2 * len(words)
    assert Explanation(text, label, spans)._repr_html_() == shown


@pytest.mark.parametrize(
    ("tags", "text", "options", "error", "said"),
    [
        (False, ["a"], {}, TypeError, "must be a str"),
        (False, "a", {"word": 0}, ValueError, "leave word out"),
        (False, "a", {"label": "D"}, ValueError, "no label 'D', only A, B, C"),
        (True, "a b", {"word": 0}, TypeError, "list of words"),
        (True, ["a"], {}, ValueError, "one of the 1 words, got None"),
        (True, ["a"], {"word": 1}, ValueError, "one of the 1 words, got 1"),
    ],
)
def test_what_makes_no_sense_is_refused(tags, text, options, error, said):
    kind = (RnnForTokenClassification, IOB2, WORDS) if tags else (RnnForSequenceClassification, "ABC", TEXTS)
    model, tokenizer = make(*kind)
    with pytest.raises(error, match=said):
        explain(model, tokenizer, text, **options)
