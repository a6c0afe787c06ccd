"""Long texts in chunks with carried state: the probabilities of the whole text, and truncated gradients."""

import math

import pytest
import torch
from datasets import Dataset
from strategies import little_config, random_ids

from rnn_hf import RnnForPreTraining, RnnForSequenceClassification, RnnTrainingArguments, train_tokenizer
from rnn_hf.training.lm_trainer import RnnPretrainer

LENGTHS = [1, 7, 3, 12, 5, 11]


def examples(lengths=LENGTHS, seed=0):
    rows = [row.tolist() for row in random_ids(lengths, seed)]
    return Dataset.from_list([{"input_ids": row, "labels": [-100, *row[1:]]} for row in rows])


@pytest.fixture
def make(tmp_path):
    """Make a trainer of a little model."""

    def run(chunk_length=100, config=None, options=None, **settings):
        torch.manual_seed(0)
        model = RnnForPreTraining(little_config(**(config or {})))
        model.separate_directions()
        settings = {"seed": 1, "per_device_train_batch_size": 4, "max_grad_norm": 0.0, "report_to": "none"} | settings
        args = RnnTrainingArguments(str(tmp_path / "out"), disable_tqdm=True, eval_strategy="no", **settings)
        tokenizer = train_tokenizer(["a a b b"], kind="word")
        data = {"train_dataset": examples(), "eval_dataset": examples()}
        return RnnPretrainer(
            model, args, processing_class=tokenizer, chunk_length=chunk_length, **(data | (options or {}))
        )

    return run


@pytest.mark.parametrize("chunk_length", [1, 2, 5, 11])
@pytest.mark.parametrize("cell_type", ["lstm", "gru"])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_carried_state_equals_unchunked_reading(make, chunk_length, cell_type, bidirectional):
    config = {"cell_type": cell_type, "num_hidden_layers": 2, "bidirectional": bidirectional}
    whole = make(config=config).predict(examples())
    chunked = make(chunk_length, config).predict(examples())
    torch.testing.assert_close(torch.tensor(chunked.predictions), torch.tensor(whole.predictions), rtol=1e-4, atol=1e-4)
    assert chunked.label_ids.tolist() == whole.label_ids.tolist() == [length - 1 for length in LENGTHS]
    assert chunked.metrics["test_perplexity"] == pytest.approx(whole.metrics["test_perplexity"], rel=1e-5)


def losses_and_gradients(trainer, batches):
    """The loss of a step over some batches, and the gradients that it leaves."""
    trainer.create_optimizer()
    num_items = sum((batch["labels"] != -100).sum() for batch in batches)
    loss = sum(trainer.training_step(trainer.model, batch, num_items) for batch in batches)
    return loss, {name: parameter.grad.clone() for name, parameter in trainer.model.named_parameters()}


@pytest.mark.parametrize("bidirectional", [True, False])
def test_training_in_chunks_has_the_loss_of_the_whole_and_gradients_that_end_between_chunks(make, bidirectional):
    config = {"bidirectional": bidirectional, "num_hidden_layers": 2}
    trainer = make(4, config)
    batch = trainer.data_collator(list(examples()))
    loss, found = losses_and_gradients(trainer, [batch])
    whole = make(config=config)
    expected, full = losses_and_gradients(whole, [batch])
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    # The head's gradients do not pass through the states.
    for name in full:
        if name.startswith("lm_head."):
            torch.testing.assert_close(found[name], full[name], rtol=1e-3, atol=1e-5)
    assert not torch.allclose(found["model.rnn.weight_hh_l0"], full["model.rnn.weight_hh_l0"], rtol=1e-3)
    # Each chunk's gradients are those of a text that begins in the states that were carried to it.
    (row,) = [torch.tensor(one["input_ids"]) for one in examples() if len(one["input_ids"]) == 12]
    trainer = make(4, config)
    batch = trainer.data_collator([{"input_ids": row.tolist(), "labels": [-100, *row[1:].tolist()]}])
    _, found = losses_and_gradients(trainer, [batch])
    model = make(config=config).model.train()
    encoder, directions = model.model, model.config.num_directions
    total = 0.0
    for begin in (0, 4, 8):
        chunk = row[begin : begin + 4][None]
        states = {}
        with torch.no_grad():
            before = encoder(input_ids=row[None, :begin]) if begin else None
            after = encoder(input_ids=row[None, begin + 4 :]) if begin < 8 else None
            for name, size in (("h_0", "h_n"), ("c_0", "c_n")):
                states[name] = torch.zeros(2 * directions, 1, model.config.hidden_size)
                for direction, side in enumerate((before, after)[:directions]):
                    if side is not None:
                        states[name][direction::directions] = getattr(side, size)[direction::directions]
        following = torch.cat([row[begin + 1 : begin + 5], torch.full((4,), -100)])[:4]
        preceding = torch.cat([torch.tensor([-100]), row])[begin : begin + 4]
        output = model(input_ids=chunk, next_ids=following, previous_ids=preceding, num_items_in_batch=11, **states)
        total = total + output.loss
    total.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("chunk_length", [4, 100])
def test_accumulated_batches_have_the_gradients_of_one(make, chunk_length):
    rows = list(examples())
    trainer = make(chunk_length)
    loss, found = losses_and_gradients(
        trainer, [trainer.data_collator(part) for part in (rows[:2], rows[2:3], rows[3:])]
    )
    trainer = make(chunk_length)
    whole, expected = losses_and_gradients(trainer, [trainer.data_collator(rows)])
    torch.testing.assert_close(loss, whole, rtol=1e-4, atol=1e-5)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("eval_batch_size", [1, 4, 100])
def test_perplexities_do_not_depend_on_batches(make, eval_batch_size):
    trainer = make(
        config={"num_hidden_layers": 2}, per_device_eval_batch_size=eval_batch_size, options={"num_words": 30}
    )
    metrics = trainer.evaluate()
    model = trainer.model
    likelihoods = torch.cat(
        [model(input_ids=torch.tensor([row["input_ids"]])).log_likelihoods.detach() for row in examples()]
    )
    num_tokens = sum(LENGTHS) - len(LENGTHS)
    forward, backward = (-likelihoods.sum(0)).tolist()
    assert metrics["eval_perplexity_forward"] == pytest.approx(math.exp(forward / num_tokens), rel=1e-4)
    assert metrics["eval_perplexity_backward"] == pytest.approx(math.exp(backward / num_tokens), rel=1e-4)
    assert metrics["eval_loss"] == pytest.approx((forward + backward) / 2 / num_tokens, rel=1e-4)
    assert metrics["eval_perplexity"] == pytest.approx(math.exp(metrics["eval_loss"]))
    assert metrics["eval_perplexity_per_word"] == pytest.approx(math.exp((forward + backward) / 2 / 30), rel=1e-4)


def test_it_learns(make):
    trainer = make(4, num_train_epochs=30, learning_rate=0.03)
    before = trainer.evaluate()["eval_perplexity"]
    trainer.train()
    assert trainer.evaluate()["eval_perplexity"] < before / 2


def test_batches_by_tokens(make):
    trainer = make(4, max_tokens_per_batch=12, num_train_epochs=1)
    trainer.train()
    assert trainer.state.global_step > 2


def test_other_models_are_refused(tmp_path):
    model = RnnForSequenceClassification(little_config(num_labels=2))
    with pytest.raises(ValueError, match="trains RnnForPreTraining, got RnnForSequenceClassification"):
        RnnPretrainer(model, RnnTrainingArguments(str(tmp_path), eval_strategy="no"), train_dataset=examples())
