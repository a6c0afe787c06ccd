"""`RnnTrainer` in a user's own few lines, and the stock `Trainer` beside it."""

import json

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import Trainer, TrainingArguments

from rnn_hf import (
    DataCollatorWithPacking,
    RnnConfig,
    RnnForSequenceClassification,
    RnnForTokenClassification,
    RnnTrainer,
    RnnTrainingArguments,
    train_tokenizer,
)
from rnn_hf.batching import SeededLengthGroupedSampler, TokenBatchSampler

SIZES = {"embedding_size": 4, "hidden_size": 4}
QUIET = {"report_to": "none", "disable_tqdm": True, "use_cpu": True}


@pytest.fixture(scope="module")
def news(news_articles):
    """40 news articles, cut to different lengths, with their tokenizer."""
    texts = [text[: 40 + 17 * place] for place, (text, _) in enumerate(news_articles)]
    topics = sorted({topic for _, topic in news_articles})
    tokenizer = train_tokenizer(texts, vocab_size=300)
    labels = [topics.index(topic) for _, topic in news_articles]
    return Dataset.from_dict({"input_ids": tokenizer(texts)["input_ids"], "labels": labels}), tokenizer, topics


def classifier(tokenizer, topics, **fields) -> RnnForSequenceClassification:
    torch.manual_seed(0)
    config = RnnConfig(vocab_size=len(tokenizer), id2label=dict(enumerate(topics)), **(SIZES | fields))
    return RnnForSequenceClassification(config)


def trainer(news, folder, model=None, data=None, **options) -> RnnTrainer:
    dataset, tokenizer, topics = news
    data = dataset if data is None else data
    args = RnnTrainingArguments(str(folder), num_train_epochs=1, **(QUIET | options))
    model = classifier(tokenizer, topics, problem_type="single_label_classification") if model is None else model
    return RnnTrainer(model, args, train_dataset=data, eval_dataset=data, processing_class=tokenizer)


class TestInTenLines:
    def test_trains_measures_and_keeps_the_best(self, news, tmp_path):
        one = trainer(news, tmp_path)
        one.train()
        metrics = one.evaluate()
        assert {"eval_accuracy", "eval_f1", "eval_loss"} <= metrics.keys()
        assert one.state.best_metric == metrics["eval_accuracy"]

    def test_without_validation_data(self, news, tmp_path):
        dataset, tokenizer, topics = news
        args = RnnTrainingArguments(str(tmp_path), max_steps=2, eval_strategy="no", **QUIET)
        RnnTrainer(classifier(tokenizer, topics), args, train_dataset=dataset, processing_class=tokenizer).train()
        assert (tmp_path / "checkpoint-2" / "checksums.json").is_file()

    def test_with_the_stock_arguments(self, news, tmp_path):
        dataset, tokenizer, topics = news
        args = TrainingArguments(str(tmp_path), max_steps=2, save_strategy="no", **QUIET)
        one = RnnTrainer(classifier(tokenizer, topics), args, train_dataset=dataset, processing_class=tokenizer)
        assert one.train().global_step == 2

    def test_with_metrics_of_one_s_own(self, news, tmp_path):
        dataset, tokenizer, topics = news
        args = RnnTrainingArguments(
            str(tmp_path), num_train_epochs=1, metric_for_best_model="mine", greater_is_better=True, **QUIET
        )
        one = RnnTrainer(
            classifier(tokenizer, topics), args, train_dataset=dataset, eval_dataset=dataset,
            processing_class=tokenizer, compute_metrics=lambda prediction: {"mine": float(len(prediction.predictions))},
        )  # fmt: skip
        one.train()
        assert one.state.best_metric == len(dataset)

    def test_the_arguments_of_the_caller_stay_as_they_are(self, news, tmp_path):
        dataset, tokenizer, topics = news
        args = RnnTrainingArguments(str(tmp_path), max_tokens_per_batch=200, **QUIET)
        before = args.to_dict()
        RnnTrainer(
            classifier(tokenizer, topics), args, train_dataset=dataset, eval_dataset=dataset, processing_class=tokenizer
        )
        assert args.to_dict() == before

    def test_a_metric_that_the_task_does_not_have(self, news, tmp_path):
        with pytest.raises(ValueError, match="--metric_for_best_model mse is none of the scores of this task"):
            trainer(news, tmp_path, metric_for_best_model="mse")

    def test_the_stock_trainer_goes_on_working(self, news, tmp_path):
        dataset, tokenizer, topics = news
        args = TrainingArguments(str(tmp_path), max_steps=2, save_strategy="no", **QUIET)
        collator = DataCollatorWithPacking(tokenizer)
        assert Trainer(classifier(tokenizer, topics), args, collator, dataset).train().global_step == 2


class TestArguments:
    def test_token_batches(self, news, tmp_path):
        one = trainer(news, tmp_path, max_tokens_per_batch=300, per_device_train_batch_size=8)
        for batch in one.get_train_dataloader():
            assert len(batch["labels"]) <= 8
            assert len(batch["input_ids"]) <= 300 or len(batch["labels"]) == 1

    def test_samples_per_second_count_samples(self, news, tmp_path):
        result = trainer(news, tmp_path, max_tokens_per_batch=300).train()
        seconds = result.metrics["train_runtime"]
        assert result.metrics["train_samples_per_second"] * seconds == pytest.approx(len(news[0]), rel=0.01)

    def test_balanced_class_weights(self, news, tmp_path):
        dataset, *_ = news
        one = trainer(news, tmp_path, class_weights="balanced", data=dataset.select(range(12)))
        weights = one.model.config.class_weights
        assert weights[dataset[0]["labels"]] < weights[dataset[11]["labels"]]

    def test_early_stopping(self, news, tmp_path):
        dataset, tokenizer, topics = news
        args = RnnTrainingArguments(
            str(tmp_path), num_train_epochs=9, learning_rate=0.0, early_stopping_patience=2, **QUIET
        )
        model = classifier(tokenizer, topics, problem_type="single_label_classification")
        one = RnnTrainer(model, args, train_dataset=dataset, eval_dataset=dataset, processing_class=tokenizer)
        one.train()
        assert one.state.epoch == 3

    @pytest.mark.parametrize("rate", [0.0, 0.1])
    def test_vectors_have_a_learning_rate_of_their_own(self, rate, news, tmp_path):
        dataset, tokenizer, topics = news
        model = classifier(tokenizer, topics, static_embedding_size=3, static_vocab_size=5)
        before = model.model.embeddings.static_embeddings.vectors.weight.clone()
        model.model.embeddings.static_embeddings.places.fill_(1)
        args = RnnTrainingArguments(str(tmp_path), max_steps=2, eval_strategy="no", vectors_learning_rate=rate, **QUIET)
        RnnTrainer(model, args, train_dataset=dataset, processing_class=tokenizer).train()
        assert torch.equal(before, model.model.embeddings.static_embeddings.vectors.weight) == (rate == 0)

    def test_predictions_keep_their_order_whatever_the_sampling(self, news, tmp_path):
        dataset, *_ = news
        one = trainer(news, tmp_path, train_sampling_strategy="group_by_length")
        assert one.predict(dataset).label_ids.tolist() == dataset["labels"]

    def test_a_rate_that_falls_on_a_plateau_needs_no_metric_to_be_named(self, news, tmp_path):
        one = trainer(news, tmp_path, lr_scheduler_type="reduce_lr_on_plateau", load_best_model_at_end=False)
        assert one.train().global_step == 2

    def test_evaluation_reads_all_examples_where_training_drops_some(self, news, tmp_path):
        one = trainer(news, tmp_path, dataloader_drop_last=True, per_device_eval_batch_size=16)
        assert len(one.predict(news[0]).predictions) == len(news[0])
        assert sum(len(batch["labels"]) for batch in one.get_eval_dataloader()) == len(news[0])
        assert sum(len(batch["labels"]) for batch in one.get_train_dataloader()) < len(news[0])

    def test_token_batches_need_lengths(self, news, tmp_path):
        stream = news[0].to_iterable_dataset()
        one = trainer(news, tmp_path, max_tokens_per_batch=100, max_steps=2, data=stream)
        with pytest.raises(ValueError, match="max_tokens_per_batch needs to know all lengths"):
            one.get_train_dataloader()


class TestUnseenLabels:
    def test_count_as_errors_of_a_classifier(self, news, tmp_path):
        dataset, tokenizer, topics = news
        test = Dataset.from_dict({"input_ids": dataset["input_ids"][:4], "labels": [0, 1, len(topics), len(topics)]})
        args = TrainingArguments(str(tmp_path), **QUIET)
        model = classifier(tokenizer, topics, problem_type="single_label_classification")
        one = RnnTrainer(model, args, processing_class=tokenizer, label_names=[*topics, "weather"])
        result = one.predict(test)
        right = int((result.predictions[:2] == np.array([0, 1])).sum())
        assert result.metrics["test_accuracy"] == right / 4
        assert np.isfinite(result.metrics["test_loss"])

    def test_count_as_errors_of_a_tagger_of_spans(self, tmp_path):
        tokenizer = train_tokenizer([["a", "b"]], kind="word", min_frequency=1, is_split_into_words=True)
        names = ["O", "B-X", "I-X"]
        config = RnnConfig(vocab_size=len(tokenizer), id2label=dict(enumerate(names)), use_crf=True, **SIZES)
        model = RnnForTokenClassification(config)
        with torch.no_grad():
            model.classifier.bias.copy_(torch.tensor([9.0, 0.0, 0.0]))
        test = Dataset.from_dict({"input_ids": [[3, 4, 3, 2]], "labels": [[0, 3, 0, -100]]})
        args = TrainingArguments(str(tmp_path), **QUIET)
        one = RnnTrainer(model, args, processing_class=tokenizer, label_names=[*names, "B-Y"])
        metrics = one.predict(test).metrics
        assert metrics["test_accuracy"] == pytest.approx(2 / 3)
        assert metrics["test_recall"] == 0
        assert np.isfinite(metrics["test_loss"])


class TestSamplers:
    LENGTHS = (3, 50, 7, 7, 20, 1, 30, 12, 9, 9, 4)

    @pytest.mark.parametrize("num_replicas", [1, 2, 3])
    def test_token_batches_share_all_examples_out(self, num_replicas):
        samplers = [TokenBatchSampler(self.LENGTHS, 30, 4, 1, num_replicas, rank) for rank in range(num_replicas)]
        batches = [list(sampler) for sampler in samplers]
        assert len({len(part) for part in batches}) == 1
        assert all(len(part) == len(sampler) for part, sampler in zip(batches, samplers, strict=True))
        assert {index for part in batches for batch in part for index in batch} == set(range(len(self.LENGTHS)))

    @pytest.mark.parametrize(
        "sampler",
        [TokenBatchSampler(LENGTHS, 30, 4), SeededLengthGroupedSampler(0, batch_size=2, lengths=list(LENGTHS))],
    )
    def test_the_order_depends_on_the_epoch_alone(self, sampler):
        orders = []
        for epoch in (0, 1, 0):
            sampler.set_epoch(epoch)
            torch.manual_seed(epoch + 7)
            orders.append(list(sampler))
        assert orders[0] == orders[2] != orders[1]


def test_speed_is_measured_where_the_system_does_not_say_how_busy_it_is(news, tmp_path, monkeypatch):
    import os

    from rnn_hf.run_record import measure_speed

    monkeypatch.delattr(os, "getloadavg")
    _, tokenizer, topics = news
    speed = measure_speed(classifier(tokenizer, topics), tokenizer, ["one text", "another"])
    assert speed["load_average"] is None
    json.dumps(speed)
