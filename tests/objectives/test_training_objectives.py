"""What training adds to the loss of the labels, and that no saved model holds it."""

from collections import Counter

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from safetensors.torch import load_file
from strategies import few, gradients, little_config, random_ids, seeds, some_lengths, with_objectives

from rnn_hf import RnnForSequenceClassification, RnnForTokenClassification
from rnn_hf.models.language_model import LanguageModelHead
from rnn_hf.models.packing import Packing
from rnn_hf.objectives.training_objectives import TrainingObjectives, balanced_weights


def padded(sequences, value=0):
    return torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True, padding_value=value)


@given(some_lengths, seeds)
@few(30)
def test_forward_states_predict_the_next_token_and_backward_states_the_one_before(lengths, seed):
    torch.manual_seed(seed % 1000)
    head, vectors = LanguageModelHead(little_config()), torch.randn(30, 5)
    ids, states = random_ids(lengths, seed), [torch.randn(length, 8) for length in lengths]
    packing = Packing.from_mask(padded([torch.ones(length) for length in lengths]))
    loss = head(packing.pack(padded(states)), packing.pack(padded(ids)), vectors, packing)
    # A sample of 1,000 out of 30 entries holds them all, so each is told from all others.
    expected = torch.tensor(0.0)
    for row, sequence in zip(ids, states, strict=True):
        for step in range(len(row) - 1):
            forward = vectors @ head.projections[0](sequence[step, :4])
            backward = vectors @ head.projections[1](sequence[step + 1, 4:])
            expected = expected - (forward.log_softmax(0)[row[step + 1]] + backward.log_softmax(0)[row[step]]) / 2
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)


def test_a_unidirectional_model_predicts_the_next_token_only():
    torch.manual_seed(0)
    head, vectors, states = LanguageModelHead(little_config(bidirectional=False)), torch.randn(30, 5), torch.randn(2, 4)
    loss = head(states, torch.tensor([3, 7]), vectors, Packing.from_mask(torch.ones(1, 2)))
    torch.testing.assert_close(loss, -(vectors @ head.projections[0](states[0])).log_softmax(0)[7])


def test_it_adds_to_the_loss_in_training_only_and_every_parameter_learns():
    torch.manual_seed(0)
    model = RnnForTokenClassification(little_config(num_labels=3, num_hidden_layers=2))
    with_objectives(model, lm_loss_weight=0.5)
    batch = {"input_ids": torch.tensor([[3, 4, 5]]), "labels": torch.tensor([[0, 2, -100]])}
    with_language_model = model.train()(**batch).loss
    with_language_model.backward()
    gradients(model)
    without = model.eval()(**batch).loss
    assert with_language_model > without
    model.objectives = None
    torch.testing.assert_close(model.train()(**batch).loss, without)


def test_sequences_of_one_token_or_none_have_nothing_to_predict():
    head = LanguageModelHead(little_config())
    for length in (0, 1):
        packing = Packing.from_mask(torch.ones(1, length))
        assert head(torch.randn(length, 8), torch.ones(length, dtype=torch.long), torch.randn(30, 5), packing) == 0


def test_losses_of_small_batches_sum_to_that_of_the_big_one():
    torch.manual_seed(0)
    model = with_objectives(RnnForTokenClassification(little_config(num_labels=3)), lm_loss_weight=0.5).train()
    ids, labels = torch.randint(30, (4, 6)), torch.randint(3, (4, 6))
    whole = model(input_ids=ids, labels=labels, num_items_in_batch=24).loss
    halves = [model(input_ids=ids[rows], labels=labels[rows], num_items_in_batch=24).loss for rows in ([0, 1], [2, 3])]
    torch.testing.assert_close(sum(halves), whole)


OBJECTIVES = {
    "class_weights": [1.0, 2.0, 0.5], "rdrop_loss_weight": 1.0, "lm_loss_weight": 0.1, "num_auxiliary_tags": 4,
}  # fmt: skip


@pytest.mark.parametrize("model_class", [RnnForSequenceClassification, RnnForTokenClassification])
def test_a_saved_model_holds_none_of_them(model_class, tmp_path):
    plain = model_class(little_config(num_labels=3))
    model = with_objectives(model_class(little_config(num_labels=3)), **OBJECTIVES)
    model.load_state_dict(plain.state_dict(), strict=False)
    model.save_pretrained(tmp_path)
    assert load_file(tmp_path / "model.safetensors").keys() == plain.state_dict().keys()
    loaded, info = model_class.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert loaded.objectives is None


def test_a_checkpoint_of_training_holds_them_and_loads_as_a_model(tmp_path):
    model = with_objectives(RnnForTokenClassification(little_config(num_labels=3)), **OBJECTIVES).eval()
    model.save_pretrained(tmp_path, state_dict=model.state_dict())
    assert any(name.startswith("objectives.") for name in load_file(tmp_path / "model.safetensors"))
    ids = torch.tensor([[3, 4, 5]])
    loaded, info = RnnForTokenClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["unexpected_keys"]
    torch.testing.assert_close(loaded.eval()(input_ids=ids).logits, model(input_ids=ids).logits)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rdrop_loss_weight": -1.0}, "rdrop_loss_weight must not be negative, and finite; got -1.0"),
        ({"lm_loss_weight": float("nan")}, "lm_loss_weight must not be negative, and finite; got nan"),
        ({"auxiliary_loss_weight": float("inf")}, "auxiliary_loss_weight must not be negative, and finite; got inf"),
        ({"class_weights": [1.0, -2.0, 1.0]}, "that of label 1 is -2.0"),
        ({"class_weights": [1.0, float("inf"), 1.0]}, "that of label 1 is inf"),
        ({"class_weights": [1.0, 2.0]}, "one number for each of 3 labels, got 2"),
    ],
)
def test_weights_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TrainingObjectives(little_config(num_labels=3), **options)


class TestBalancedWeights:
    def test_let_every_label_count_as_much(self, japanese_sentences):
        tags = [[word[2] for word in words] for words in japanese_sentences]
        names = sorted({tag for sentence in tags for tag in sentence})
        data = Dataset.from_dict({"labels": [[names.index(tag) for tag in sentence] for sentence in tags]})
        weights = balanced_weights(data, len(names), "single_label_classification")
        counts = Counter(tag for sentence in tags for tag in sentence)
        totals = [count * weights[names.index(tag)] for tag, count in counts.items()]
        assert max(totals) == pytest.approx(min(totals))
        assert sum(totals) == pytest.approx(sum(counts.values()))

    def test_let_each_of_several_labels_count_as_much_as_its_absence(self):
        data = Dataset.from_dict({"labels": [[1.0, 0.0, 1.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]})
        always, once, other = balanced_weights(data, 3, "multi_label_classification")
        assert always < 0.01  # it is always there
        assert once == other == 3.0

    def test_are_for_classes(self):
        with pytest.raises(ValueError, match="--class_weights balanced is for classes"):
            balanced_weights(Dataset.from_dict({"labels": [0.5]}), 1, "regression")
