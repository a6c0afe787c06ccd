"""N-grams solved before training: a linear support vector machine over what n-grams count."""

import json

import numpy as np
import pytest
import torch
from datasets import Dataset
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC
from strategies import little_config

from rnn_hf import RnnForSequenceClassification, train_tokenizer
from rnn_hf.evaluation import calibration
from rnn_hf.linear import ngram_solver as module
from rnn_hf.linear.ngram_choice import set_ngrams
from rnn_hf.linear.ngram_solver import solve_ngrams
from rnn_hf.models.ngrams import MOST_LABELS
from rnn_hf.models.packing import Packing
from rnn_hf.text.characters import set_vocabulary
from rnn_hf.training.options import parse_arguments
from rnn_hf.training.train import train

WORDS = ["cat", "cats", "dog", "Dogs", "a", "the", "bird", "fish"]
TOKENIZER = train_tokenizer(WORDS * 2, "word")


def make(num_labels, seed=0, **options):
    """A model and examples: the label of a text is that of its first word, or those of its first two."""
    config = little_config(vocab_size=len(TOKENIZER), num_labels=num_labels, ngram_buckets=1, **options)
    model = RnnForSequenceClassification(config).eval()
    set_vocabulary(model, TOKENIZER)
    random, several = np.random.default_rng(seed), config.problem_type == "multi_label_classification"
    examples = []
    for _ in range(300):
        indices = random.integers(len(WORDS), size=4).tolist()
        ids = TOKENIZER(" ".join(WORDS[index] for index in indices))["input_ids"]
        labels = [index % num_labels for index in indices[:2]]
        given = [float(label in labels) for label in range(num_labels)] if several else labels[0]
        examples.append({"input_ids": ids, "labels": given})
    set_ngrams(model, examples)
    return model, examples


def parts(model, examples):
    """Yield the ids of each text, and their layout."""
    for example in examples:
        ids = torch.tensor(example["input_ids"])
        yield ids, Packing.from_mask(torch.ones(1, len(ids)))


def logits_of_ngrams(model, examples) -> torch.Tensor:
    return torch.cat([model.ngrams(*part) for part in parts(model, examples)]).detach()


def matrix_of(model, examples) -> np.ndarray:
    """How much n-grams count, `[num_texts, ngram_buckets]`."""
    matrix = np.zeros((len(examples), len(model.ngrams.scales)))
    for row, part in zip(matrix, parts(model, examples), strict=True):
        _, buckets, values = model.ngrams.values(*part)
        np.add.at(row, buckets.numpy(), values.numpy())
    return matrix


@pytest.mark.parametrize("num_labels", [2, 3, 12])
@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification"])
def test_logits_are_those_of_a_machine_for_each_label(num_labels, problem):
    model, examples = make(num_labels, problem_type=problem)
    assert solve_ngrams(model, examples)
    matrix, labels = matrix_of(model, examples), np.array([example["labels"] for example in examples])
    penalty = 0.3 if num_labels <= 10 else 1.0
    several = problem == "multi_label_classification"
    for label in range(num_labels):
        has_label = labels[:, label] > 0 if several else labels == label
        if has_label.any():
            expected = LinearSVC(C=penalty, dual=True).fit(matrix, has_label).decision_function(matrix)
        else:
            expected = -np.ones(len(matrix))
        expected = expected * (3.5 if num_labels == 2 and not several else 7)
        np.testing.assert_allclose(logits_of_ngrams(model, examples)[:, label], expected, atol=0.05)


def test_many_texts_are_read_in_few_passes(monkeypatch):
    monkeypatch.setattr(module, "_MOST_READ", 600)
    monkeypatch.setattr(module, "_FEWEST_PASSES", 1)
    model, examples = make(3)
    solve_ngrams(model, examples)
    matrix, labels = matrix_of(model, examples), np.array([example["labels"] for example in examples])
    machine = LinearSVC(C=0.3, dual=True, random_state=0, max_iter=2)
    with pytest.warns(ConvergenceWarning):
        machine.fit(matrix, labels == 0)
    found = logits_of_ngrams(model, examples)[:, 0]
    np.testing.assert_allclose(found, 7 * machine.decision_function(matrix), atol=0.01)


def test_the_same_data_gives_the_same_weights_and_they_are_frozen():
    models = [make(3)[0] for _ in range(2)]
    for model in models:
        solve_ngrams(model, make(3)[1])
        assert model.ngrams.is_solved
        assert not any(parameter.requires_grad for parameter in model.ngrams.parameters())
    assert torch.equal(models[0].ngrams.weight, models[1].ngrams.weight)


@pytest.mark.parametrize(
    ("num_labels", "problem"), [(1, "regression"), (MOST_LABELS + 1, "single_label_classification")]
)
def test_what_is_no_such_problem_is_left_alone(num_labels, problem):
    model, examples = make(num_labels, problem_type=problem)
    before = model.ngrams.weight.clone()
    assert not solve_ngrams(model, examples)
    assert torch.equal(model.ngrams.weight, before)
    assert model.ngrams.weight.requires_grad


def test_data_of_one_label_is_left_alone():
    model, examples = make(3)
    assert not solve_ngrams(model, [example for example in examples if example["labels"] == 1])


def test_texts_without_a_label_do_not_count():
    model, examples = make(3)
    other, _ = make(3)
    solve_ngrams(model, examples)
    solve_ngrams(other, [*examples, *({"input_ids": one["input_ids"], "labels": -100} for one in examples[:9])])
    assert torch.equal(model.ngrams.weight, other.ngrams.weight)


@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_errors_cost_more_where_validation_labels_are_likelier_then(noise):
    """Of labels without noise, that is so; of noisy ones, the larger penalty would fit the noise."""
    models = []
    for has_validation in (False, True):
        (model, examples), random = make(2), np.random.default_rng(1)
        for example in examples:
            example["labels"] = (example["input_ids"][0] + int(random.random() < noise)) % 2
        validation = examples[200:] if has_validation else None
        solve_ngrams(model, examples[:200], validation=validation)
        models.append(model)
    is_usual = torch.equal(models[0].ngrams.weight, models[1].ngrams.weight)
    assert is_usual == (noise > 0)


@pytest.mark.parametrize("unknown", [-100, 2])
def test_few_validation_labels_and_unknown_ones_choose_nothing(unknown):
    model, examples = make(2)
    other, _ = make(2)
    solve_ngrams(model, examples)
    others = [one | {"labels": unknown} for one in examples[99:]]
    solve_ngrams(other, examples, validation=examples[:99] + others)
    assert torch.equal(model.ngrams.weight, other.ngrams.weight)


def test_balanced_labels_favour_the_rare_one():
    logits = []
    for class_weights in (None, "balanced"):
        model, examples = make(2)
        rare = [example for example in examples if example["labels"] == 1][:10]
        solve_ngrams(model, [example for example in examples if example["labels"] == 0] + rare, class_weights)
        logits.append(logits_of_ngrams(model, examples)[:, 1].mean())
    assert logits[1] > logits[0]


def test_of_too_many_texts_it_takes_chunks_at_equal_distances(monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 10)
    model, examples = make(3)
    whole, _ = module._read(model.ngrams, examples, 3)
    monkeypatch.setattr(module, "_MOST_VALUES", whole.nnz // 3)
    part, labels = module._read(model.ngrams, Dataset.from_list(examples), 3)
    kept = [row for row in range(300) if row // 10 % 4 == 0]
    assert part.nnz <= whole.nnz // 3
    assert (part != whole[kept]).nnz == 0
    assert labels.argmax(1).tolist() == [examples[row]["labels"] for row in kept]


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_a_trained_model_holds_them_weighed(ratio, tmp_path, monkeypatch, messages):
    monkeypatch.setattr(calibration, "fit_ratio", lambda states, ngrams, labels: ratio)
    random = np.random.default_rng(0)
    rows = []
    for _ in range(1200):
        words = random.choice(WORDS, size=4).tolist()
        rows.append({"text": " ".join(words), "label": words[0] if random.random() < 0.9 else "cat"})
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = f"--train_file {tmp_path}/a.jsonl --output_dir {tmp_path}/model --disable_tqdm 1 --save_strategy epoch "
    words += "--hidden_size 4 --embedding_size 4 --num_train_epochs 1 --ngram_dropout 0.5"
    results = train("text-classification", *parse_arguments("text-classification", "", words.split()))
    model = RnnForSequenceClassification.from_pretrained(tmp_path / "model")
    checkpoint = RnnForSequenceClassification.from_pretrained(next((tmp_path / "model").glob("checkpoint-*")))
    for layer, before, factor in (
        (model.ngrams, checkpoint.ngrams, min(ratio, 1)),
        (model.classifier, checkpoint.classifier, min(1 / ratio, 1)),
    ):
        torch.testing.assert_close(layer.weight, before.weight * factor)
        torch.testing.assert_close(layer.bias, before.bias * factor)
    assert results["test_accuracy"] > 0.5
    assert "--ngram_dropout has no effect on solved n-grams; --ngram_learning_rate trains them." in messages()
