"""Losses of distillation beside plain references, alone and in training."""

import math

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from strategies import few, little_config, random_ids, seeds, some_lengths, with_objectives

from rnn_hf import (
    DataCollatorWithPacking,
    RnnForSequenceClassification,
    RnnForTokenClassification,
    RnnTrainer,
    RnnTrainingArguments,
    train_tokenizer,
)
from rnn_hf.objectives.distillation import count_targets, distillation_losses

PROBLEMS = ("single_label_classification", "multi_label_classification", "regression")


def plain(logits, teacher, problem_type, temperature):
    """Compute the sum of losses with loops over Python's numbers."""
    total = 0.0
    for row, wanted in zip(logits.tolist(), teacher.tolist(), strict=True):
        pairs = list(zip(row, wanted, strict=True))
        if problem_type == "regression":
            total += sum((one - other) ** 2 for one, other in pairs)
            continue
        by = temperature
        if problem_type == "multi_label_classification":
            for one, other in pairs:
                p, q = (1 / (1 + math.exp(-value / by)) for value in (other, one))
                total -= by**2 * (p * math.log(q) + (1 - p) * math.log(1 - q))
            continue
        p, q = ([math.exp(value / by) for value in values] for values in (wanted, row))
        p, q = ([value / sum(values) for value in values] for values in (p, q))
        total += by**2 * sum(one * math.log(one / other) for one, other in zip(p, q, strict=True))
    return total


@pytest.mark.parametrize("problem_type", PROBLEMS)
@pytest.mark.parametrize("temperature", [1.0, 3.0])
@given(seed=seeds)
@few(10)
def test_losses(problem_type, temperature, seed):
    source = torch.Generator().manual_seed(seed)
    logits, teacher = torch.randn(2, 5, 3, generator=source)
    losses = distillation_losses(logits, teacher, problem_type, temperature)
    assert losses.shape == ((5,) if problem_type == PROBLEMS[0] else (5, 3))
    assert losses.sum().item() == pytest.approx(plain(logits, teacher, problem_type, temperature), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("problem_type", PROBLEMS)
def test_a_classifier_learns_from_texts_with_and_without_labels(problem_type):
    torch.manual_seed(0)
    model = RnnForSequenceClassification(little_config(num_labels=3, problem_type=problem_type))
    ids = torch.randint(30, (4, 5))
    teacher = torch.randn(4, 3)
    labels = torch.tensor([0, -100, 2, -100]) if problem_type == PROBLEMS[0] else torch.rand(4, 3).round()
    if problem_type != PROBLEMS[0]:
        labels[1::2] = torch.nan
    logits = model(input_ids=ids).logits
    gold = model(input_ids=ids[::2], labels=labels[::2]).loss / 2  # both losses are averaged over all texts
    count = 4 if problem_type == PROBLEMS[0] else 12
    with_objectives(model, distillation_loss_weight=0.5).train()
    assert count_targets(teacher, problem_type) == count
    loss = model(input_ids=ids, labels=labels, teacher_logits=teacher, num_items_in_batch=torch.tensor(count)).loss
    expected = gold + 0.5 * plain(logits, teacher, problem_type, 1.0) / count
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(one.grad.isfinite().all() for one in model.parameters())
    only = model(input_ids=ids[1::2], labels=labels[1::2], teacher_logits=teacher[1::2]).loss
    expected = 0.5 * plain(logits[1::2], teacher[1::2], problem_type, 1.0) / (count / 2)
    assert only.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("head", [{}, {"use_crf": True}, {"use_crf": True, "crf_tag_scheme": "iobes"}])
@pytest.mark.parametrize("rdrop", [0.0, 1.0])
@given(some_lengths, seeds)
@few(10)
def test_a_tagger_learns_from_words_alone(head, rdrop, lengths, seed):
    torch.manual_seed(seed % 1000)
    names = {0: "O", 1: "B-X", 2: "I-X"}
    model = RnnForTokenClassification(little_config(id2label=names, num_lexical_features=0, **head))
    ids = torch.nn.utils.rnn.pad_sequence(random_ids(lengths, seed), batch_first=True)
    mask = torch.arange(ids.shape[1]) < torch.tensor(lengths).unsqueeze(1)
    teacher = torch.randn(*ids.shape, 3).masked_fill(~mask.unsqueeze(2) | (torch.rand(*ids.shape, 1) < 0.3), torch.nan)
    labels = torch.full_like(ids, -100)  # of no word
    with_objectives(model, distillation_loss_weight=2.0, rdrop_loss_weight=rdrop).train()
    output = model(input_ids=ids, attention_mask=mask, labels=labels, teacher_logits=teacher)
    words = ~teacher[..., 0].isnan()
    expected = plain(output.logits[words], teacher[words], PROBLEMS[0], 1.0) * 2 / max(int(words.sum()), 1)
    assert output.loss.item() == pytest.approx(expected, rel=1e-3, abs=1e-5)
    output.loss.backward()
    assert count_targets(teacher, PROBLEMS[0]) == words.sum()


def test_logits_of_other_labels_are_refused():
    model = with_objectives(RnnForSequenceClassification(little_config(num_labels=3)), distillation_loss_weight=1.0)
    with pytest.raises(ValueError, match="teacher_logits must be those of 3 labels, got 2"):
        model.train()(
            input_ids=torch.ones(1, 2, dtype=torch.long), labels=torch.tensor([1]), teacher_logits=torch.ones(1, 2)
        )


def test_a_batch_has_them_padded():
    tokenizer = train_tokenizer(["a b c"], kind="word", min_frequency=1)
    texts = [{"input_ids": [4], "labels": 0, "teacher_logits": [1.0, 2.0]}] * 2
    assert DataCollatorWithPacking(tokenizer)(texts)["teacher_logits"].tolist() == [[1.0, 2.0]] * 2
    sentences = [
        {"input_ids": [4], "labels": [0], "teacher_logits": [[1.0, 2.0]]},
        {"input_ids": [5, 6], "labels": [1, -100], "teacher_logits": [[3.0, 4.0], [math.nan] * 2]},
    ]
    found = DataCollatorWithPacking(tokenizer)(sentences)["teacher_logits"]
    assert found.shape == (2, 2, 2)
    assert found[0, 0].tolist() == [1.0, 2.0]
    assert found[:, 1].isnan().all()
    sentences[1]["teacher_logits"] = [[3.0, 4.0]]
    with pytest.raises(
        ValueError, match=r"Example 1 of the batch has teacher_logits of the shape \[1, 2\] for 2 tokens"
    ):
        DataCollatorWithPacking(tokenizer)(sentences)


def rows_with_a_teacher(is_tagger):
    source = torch.Generator().manual_seed(1)
    rows = []
    for number, ids in enumerate(random_ids([3, 7, 2, 5, 4, 6, 1, 8], seed=3)):
        shape = (len(ids), 3) if is_tagger else (3,)
        labels = torch.randint(3, shape[:-1], generator=source) if number % 3 else torch.full(shape[:-1], -100)
        teacher = torch.randn(shape, generator=source)
        if is_tagger:
            teacher[1::2] = torch.nan
        rows.append({"input_ids": ids.tolist(), "labels": labels.tolist(), "teacher_logits": teacher.tolist()})
    return rows


@pytest.mark.parametrize("is_tagger", [False, True])
def test_accumulated_batches_train_like_one_big_batch(tmp_path, is_tagger):
    kind = RnnForTokenClassification if is_tagger else RnnForSequenceClassification
    tokenizer = train_tokenizer(["a b"], kind="word", min_frequency=1)
    weights = []
    for size in (8, 2):
        torch.manual_seed(0)
        model = kind(little_config(num_labels=3))
        args = RnnTrainingArguments(
            str(tmp_path), per_device_train_batch_size=size, gradient_accumulation_steps=8 // size, max_steps=3,
            eval_strategy="no", save_strategy="no", optim="sgd", learning_rate=0.5, warmup_steps=0, weight_decay=0,
            disable_tqdm=True,
        )  # fmt: skip
        data = Dataset.from_list(rows_with_a_teacher(is_tagger))
        trainer = RnnTrainer(model, args, train_dataset=data, processing_class=tokenizer)
        trainer.train()
        assert model.objectives.distillation_loss_weight == 1
        weights.append({name: value.clone() for name, value in model.state_dict().items()})
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-4, atol=1e-5)


def test_without_them_nothing_is_attached(tmp_path):
    rows = [{"input_ids": [3], "labels": 1}, {"input_ids": [4], "labels": 0}]
    model = RnnForSequenceClassification(little_config())
    args = RnnTrainingArguments(str(tmp_path), eval_strategy="no")
    RnnTrainer(model, args, train_dataset=rows, processing_class=train_tokenizer(["a b"], kind="word", min_frequency=1))
    assert model.objectives is None
