"""`RnnTrainer` in a user's own few lines, and the stock `Trainer` beside it."""

import json
from typing import ClassVar

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from strategies import with_objectives
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    EarlyStoppingCallback,
    Trainer,
    TrainingArguments,
)
from transformers.trainer_pt_utils import AcceleratorConfig

from rnn_hf import (
    DataCollatorWithPacking,
    RnnConfig,
    RnnForSequenceClassification,
    RnnForTokenClassification,
    RnnModel,
    RnnTrainer,
    RnnTrainingArguments,
    train_tokenizer,
)
from rnn_hf.data.collator import TokenBudgetDataset
from rnn_hf.data.examples import SizedStream
from rnn_hf.objectives.training_objectives import balanced_weights
from rnn_hf.training.batching import SeededLengthGroupedSampler, TokenBatchSampler

SIZES = {"embedding_size": 4, "hidden_size": 4}
QUIET = {"report_to": "none", "disable_tqdm": True, "use_cpu": True}


@pytest.fixture(scope="module")
def news(news_articles):
    """40 news articles, cut to different lengths, with their tokenizer."""
    texts = [text[: 40 + 17 * position] for position, (text, _) in enumerate(news_articles)]
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
        weights = one.model.objectives.class_weights
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
        model.model.embeddings.static_embeddings.vector_ids.fill_(1)
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


UNSAVED = {"eval_strategy": "no", "save_strategy": "no"}
IDS = [[3 + position % 5, 4, 5][: 1 + position % 3] for position in range(12)]
CLASSES = [position % 4 // 3 for position in range(12)]  # three of four are 0
SEVERAL = [[float(position % 2), 1.0, 0.0] for position in range(12)]
NUMBERS = [position / 10 for position in range(12)]
TAGS = [[position % 3] * len(ids) for position, ids in enumerate(IDS)]


def encoded(labels=CLASSES, **columns) -> Dataset:
    return Dataset.from_dict({"input_ids": IDS, "labels": labels} | columns)


def head(cls=RnnForSequenceClassification, **fields):
    torch.manual_seed(0)
    return cls(RnnConfig(**(SIZES | {"vocab_size": 20} | fields)))


def tagger(**fields) -> RnnForTokenClassification:
    return head(RnnForTokenClassification, **({"num_labels": 3} | fields))


def small(folder, model=None, data=None, *, trainer_options=None, **options) -> RnnTrainer:
    data = encoded() if data is None else data
    args = RnnTrainingArguments(str(folder), **(QUIET | {"num_train_epochs": 1} | options))
    given = {"train_dataset": data, "eval_dataset": data} | (trainer_options or {})
    return RnnTrainer(head() if model is None and "model_init" not in given else model, args, **given)


class TestModels:
    def test_may_be_made_by_a_function(self, tmp_path):
        made = []

        def model_init():
            made.append(head())
            return made[-1]

        options = {"class_weights": "balanced", **UNSAVED}
        one = small(tmp_path / "made", trainer_options={"model_init": model_init}, **options)
        assert len(made) == 1
        one.train()
        assert len(made) == 2
        assert one.model is made[-1]
        given = small(tmp_path / "given", **options)
        given.train()
        assert one.model.objectives.class_weights == given.model.objectives.class_weights == [2 / 3, 2.0]
        assert torch.equal(one.model.classifier.weight, given.model.classifier.weight)

    def test_may_be_made_for_a_trial(self, tmp_path):
        one = small(tmp_path, trainer_options={"model_init": lambda trial: head()}, **UNSAVED)
        assert one.train().global_step == 1

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, "requires either a `model` or `model_init`"),
            ({"model_init": lambda: None}, "should not return None"),
            ({"model": head(), "model_init": head}, "but not both"),
        ],
    )
    def test_there_must_be_one(self, options, message, tmp_path):
        with pytest.raises((RuntimeError, ValueError), match=message):
            RnnTrainer(args=TrainingArguments(str(tmp_path), **QUIET), **options)

    @pytest.mark.parametrize(
        "make",
        [
            lambda: head(RnnModel),
            lambda: torch.nn.Linear(2, 2),
            lambda: BertForSequenceClassification(
                BertConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4)
            ),
        ],
    )
    def test_are_classifiers_and_taggers_of_this_package(self, make, tmp_path):
        with pytest.raises(ValueError, match=r"RnnForTokenClassification, got \w+: .*use transformers.Trainer"):
            small(tmp_path, make())


SEVERAL_LABELS = "multi_label_classification"


class TestLabelSmoothing:
    @pytest.mark.parametrize(
        ("model", "labels", "options", "message"),
        [
            (head(), CLASSES, {"rdrop_loss_weight": 1.0}, "that of --rdrop_loss_weight: .* set --rdrop_loss_weight 0"),
            (with_objectives(head(), class_weights=[1.0, 2.0]), CLASSES, {}, "without --class_weights"),
            (with_objectives(head(), rdrop_loss_weight=1.0), CLASSES, {}, "that of --rdrop_loss_weight"),
            (
                head(num_labels=3, problem_type="multi_label_classification"),
                SEVERAL,
                {},
                "is multi_label_classification",
            ),
            (head(num_labels=3), SEVERAL, {}, "is multi_label_classification"),
            (head(num_labels=1), NUMBERS, {}, "is regression"),
            (tagger(use_crf=True), TAGS, {}, "smooths single labels.*--use_crf false"),
            (tagger(), TAGS, {"lm_loss_weight": 0.1, "auxiliary_loss_weight": 0.0}, "that of --lm_loss_weight"),
            (tagger(), TAGS, {}, "that of --auxiliary_loss_weight"),
            (
                tagger(),
                TAGS,
                {"lm_loss_weight": 0.1, "rdrop_loss_weight": 1.0},
                "--rdrop_loss_weight and --lm_loss_weight",
            ),
        ],
    )
    def test_drops_no_part_of_the_loss(self, model, labels, options, message, tmp_path):
        data = encoded(labels, **({"auxiliary_tags": TAGS} if labels is TAGS else {}))
        with pytest.raises(ValueError, match=f"--label_smoothing_factor .*{message}"):
            small(tmp_path, model, data, label_smoothing_factor=0.1, **options)

    def test_does_not_go_with_balanced_weights(self, tmp_path):
        with pytest.raises(ValueError, match=r"--label_smoothing_factor .* without --class_weights"):
            small(tmp_path, label_smoothing_factor=0.1, class_weights="balanced")

    @pytest.mark.parametrize(("model", "labels"), [(head(), CLASSES), (tagger(), TAGS)])
    def test_works_where_each_text_or_word_has_one_label(self, model, labels, tmp_path):
        assert small(tmp_path, model, encoded(labels), label_smoothing_factor=0.1, **UNSAVED).train().global_step == 1


class TestOpenProblemType:
    @pytest.mark.parametrize("as_list", [False, True])
    @pytest.mark.parametrize(
        ("num_labels", "labels", "metric", "other"),
        [
            (2, CLASSES, "accuracy", "f1"),
            (3, SEVERAL, "average_precision", "f1"),
            (1, NUMBERS, "mse", "r2"),
            (1, list(range(12)), "mse", "r2"),
        ],
    )
    def test_follows_from_the_labels(self, num_labels, labels, metric, other, as_list, tmp_path):
        data = encoded(labels).to_list() if as_list else encoded(labels)
        one = small(tmp_path, head(num_labels=num_labels), data)
        one.train()
        metrics = one.evaluate()
        assert one.args.metric_for_best_model == f"eval_{metric}"
        assert one.state.best_metric == metrics[f"eval_{metric}"]
        assert f"eval_{other}" in metrics

    def test_whole_numbers_of_a_regression_are_numbers(self, tmp_path):
        one = small(tmp_path, head(num_labels=1), encoded(list(range(12))))
        result = one.predict(encoded(list(range(12))))
        error = np.square(result.predictions.reshape(-1) - np.arange(12)).mean()
        assert result.metrics["test_mse"] == pytest.approx(error, rel=1e-4)
        assert result.metrics["test_loss"] == pytest.approx(error, rel=1e-4)

    def test_of_a_stream(self, tmp_path):
        one = small(tmp_path, head(num_labels=3), encoded(SEVERAL).to_iterable_dataset(), max_steps=1)
        assert one.args.metric_for_best_model == "eval_average_precision"

    def test_balanced_weights_of_several_labels(self, tmp_path):
        one = small(tmp_path, head(num_labels=3), encoded(SEVERAL), class_weights="balanced")
        assert one.model.objectives.class_weights == [1.0, 1e-3, 1.0]

    @pytest.mark.parametrize("num_labels", [1, 2])
    def test_without_labels_there_are_predictions_and_no_scores(self, num_labels, tmp_path):
        result = small(tmp_path, head(num_labels=num_labels)).predict(encoded().remove_columns("labels"))
        assert result.predictions.shape == ((12, 1) if num_labels == 1 else (12,))
        assert "test_accuracy" not in result.metrics


class TestBestModel:
    A, B = encoded(), encoded([1 - label for label in CLASSES])

    @pytest.mark.parametrize(
        ("named", "chosen", "greater_is_better"),
        [
            (None, "eval_a_accuracy", True),
            ("f1", "eval_a_f1", True),
            ("eval_loss", "eval_a_loss", False),
            ("eval_a_accuracy", "eval_a_accuracy", True),
            ("eval_b_accuracy", "eval_b_accuracy", True),
            ("b_loss", "eval_b_loss", False),
        ],
    )
    def test_of_several_evaluation_sets_the_first_chooses_unless_another_is_named(
        self, named, chosen, greater_is_better, tmp_path
    ):
        one = small(tmp_path, metric_for_best_model=named, trainer_options={"eval_dataset": {"a": self.A, "b": self.B}})
        assert one.args.metric_for_best_model == chosen
        assert one.args.greater_is_better is greater_is_better
        assert chosen in one.evaluate()
        if named is None:
            one.train()
            assert one.state.best_metric == one.evaluate()[chosen]

    def test_a_score_that_no_evaluation_set_has(self, tmp_path):
        with pytest.raises(ValueError, match=r"--metric_for_best_model c_f1 is none of .* one of the prefixes a_, b_"):
            small(tmp_path, metric_for_best_model="c_f1", trainer_options={"eval_dataset": {"a": self.A, "b": self.B}})

    @pytest.mark.parametrize(
        ("options", "chosen", "greater_is_better"),
        [
            ({}, "eval_loss", False),
            ({"lr_scheduler_type": "reduce_lr_on_plateau", "load_best_model_at_end": False}, "eval_loss", False),
            ({"save_strategy": "best", "load_best_model_at_end": False}, "eval_loss", False),
            ({"metric_for_best_model": "mine"}, "eval_mine", True),
            ({"metric_for_best_model": "mine", "greater_is_better": False}, "eval_mine", False),
        ],
    )
    def test_with_metrics_of_one_s_own_the_loss_chooses_unless_one_is_named(
        self, options, chosen, greater_is_better, tmp_path
    ):
        one = small(tmp_path, trainer_options={"compute_metrics": lambda _: {"mine": 0.5}}, **options)
        one.train()
        assert one.args.metric_for_best_model == chosen
        assert one.args.greater_is_better is greater_is_better
        assert one.state.best_metric == one.evaluate()[chosen]

    def test_metrics_of_one_s_own_on_several_sets(self, tmp_path):
        options = {"compute_metrics": lambda _: {"mine": 0.5}, "eval_dataset": {"a": self.A, "b": self.B}}
        one = small(tmp_path, metric_for_best_model="mine", trainer_options=options)
        one.train()
        assert one.args.metric_for_best_model == "eval_a_mine"

    def test_where_only_the_loss_is_known_it_chooses(self, tmp_path):
        one = small(tmp_path, prediction_loss_only=True)
        one.train()
        assert one.state.best_metric == one.evaluate()["eval_loss"]
        with pytest.raises(ValueError, match=r"--metric_for_best_model f1 .* with --prediction_loss_only: loss"):
            small(tmp_path, prediction_loss_only=True, metric_for_best_model="f1")

    @pytest.mark.parametrize(
        ("schedule", "model", "data", "mode"),
        [
            ("reduce_lr_on_plateau", head(), encoded(), "max"),
            ("greedy", head(num_labels=1), encoded(NUMBERS), "min"),
        ],
    )
    def test_an_adaptive_learning_rate_knows_which_scores_are_better(self, schedule, model, data, mode, tmp_path):
        one = small(tmp_path, model, data, lr_scheduler_type=schedule)
        one.train()
        assert one.lr_scheduler.mode == mode

    def test_the_stock_trainer_takes_the_loss(self, tmp_path):
        args = RnnTrainingArguments(str(tmp_path), num_train_epochs=2, **QUIET)
        one = Trainer(head(), args, DataCollatorWithPacking(None), train_dataset=self.A, eval_dataset=self.A)
        one.train()
        losses = [entry["eval_loss"] for entry in one.state.log_history if "eval_loss" in entry]
        assert one.state.best_metric == min(losses)
        assert one.evaluate()["eval_loss"] == pytest.approx(min(losses))

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (encoded().remove_columns("labels"), "eval_dataset has no labels"),
            ({"a": encoded(), "b": encoded().remove_columns("labels")}, r"eval_dataset\['b'\] has no labels"),
            (encoded().select([]), "eval_dataset has no example"),
            ({"a": []}, "eval_dataset has no example"),
            ({}, "eval_dataset is a dictionary without datasets"),
        ],
    )
    def test_evaluation_data_that_has_no_scores(self, data, message, tmp_path):
        with pytest.raises(ValueError, match=message):
            small(tmp_path, trainer_options={"eval_dataset": data})


class TestEarlyStopping:
    @staticmethod
    def patience(one: RnnTrainer) -> list[int]:
        callbacks = one.callback_handler.callbacks
        return [each.early_stopping_patience for each in callbacks if isinstance(each, EarlyStoppingCallback)]

    def test_is_the_user_s_where_there_is_one(self, tmp_path):
        callbacks = [EarlyStoppingCallback(4)]
        one = small(tmp_path, learning_rate=0.0, num_train_epochs=9, trainer_options={"callbacks": callbacks})
        assert self.patience(one) == [4]
        assert len(callbacks) == 1
        one.train()
        assert one.state.epoch == 5

    @pytest.mark.parametrize("callback", [EarlyStoppingCallback, EarlyStoppingCallback(1)])
    def test_is_the_user_s_where_one_is_added_later(self, callback, tmp_path):
        one = small(tmp_path)
        assert self.patience(one) == [3]
        one.add_callback(callback)
        assert self.patience(one) == [1]

    def test_waits_as_long_as_is_said_when_resumed(self, tmp_path):
        still = {"learning_rate": 0.0, "num_train_epochs": 9}
        small(tmp_path, max_steps=1, **still).train()
        one = small(tmp_path, **still, trainer_options={"callbacks": [EarlyStoppingCallback(5)]})
        one.train(resume_from_checkpoint=True)
        assert self.patience(one) == [5]
        assert one.state.epoch == 6

    def test_needs_no_best_model_to_be_loaded(self, tmp_path):
        options = {"callbacks": [EarlyStoppingCallback(1)]}
        one = small(tmp_path, load_best_model_at_end=False, learning_rate=0.0, num_train_epochs=9,
                    trainer_options=options)  # fmt: skip
        one.train()
        assert one.state.epoch == 2


class Examples(torch.utils.data.Dataset):
    """Examples in memory, as a dataset of torch."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def with_text(rows: Dataset) -> Dataset:
    return rows.add_column("text", ["a"] * len(rows))


KINDS = {
    "list": lambda rows: with_text(rows).to_list(),
    "torch": lambda rows: Examples(rows.to_list()),
    "tensors": lambda rows: [{name: torch.tensor(value) for name, value in row.items()} for row in rows],
    "formatted": lambda rows: with_text(rows).with_format("torch"),
    "transformed": lambda rows: rows.with_transform(lambda batch: {"labels": batch["labels"]} | batch),
    "label": lambda rows: rows.rename_column("labels", "label"),
    "list of label": lambda rows: rows.rename_column("labels", "label").to_list(),
}


class TestKindsOfData:
    @pytest.mark.parametrize("kind", KINDS)
    def test_are_trained_on_alike(self, kind, tmp_path):
        runs = []
        for name, data in (("dataset", encoded()), (kind, KINDS[kind](encoded()))):
            one = small(tmp_path / name, data=data, class_weights="balanced", max_tokens_per_batch=5, **UNSAVED)
            one.train()
            runs.append(one)
        assert runs[0].model.objectives.class_weights == runs[1].model.objectives.class_weights
        assert runs[0].state.global_step > 1
        assert torch.equal(runs[0].model.classifier.weight, runs[1].model.classifier.weight)

    @pytest.mark.parametrize("kind", KINDS)
    def test_are_grouped_by_length_alike(self, kind, tmp_path):
        options = {"train_sampling_strategy": "group_by_length", "per_device_train_batch_size": 4}
        one = small(tmp_path, data=KINDS[kind](encoded()), **options)
        other = small(tmp_path, **options)
        assert [batch["input_ids"].tolist() for batch in one.get_train_dataloader()] == [
            batch["input_ids"].tolist() for batch in other.get_train_dataloader()
        ]

    @pytest.mark.parametrize(
        "data",
        [
            encoded(),
            encoded().to_list(),
            encoded().to_iterable_dataset(),
            SizedStream(encoded().to_iterable_dataset(), 12),
            TokenBudgetDataset(encoded(), max_tokens=9, max_examples=4),
        ],
    )
    def test_labels_are_weighed_alike(self, data):
        assert balanced_weights(data, 2, "single_label_classification") == [2 / 3, 2.0]

    def test_tags_are_weighed_in_lists(self):
        data = [{"input_ids": [4, 5, 6], "labels": [0, 0, -100]}, {"input_ids": [4, 5], "labels": [0, 1]}]
        assert balanced_weights(data, 2, "single_label_classification") == [2 / 3, 2.0]

    @pytest.mark.parametrize(
        ("data", "problem_type", "message"),
        [
            ([{"input_ids": [4]}], "single_label_classification", "Example 0 of the data has no labels, only"),
            ([{"labels": 0}, {"labels": None}], "single_label_classification", "Example 1 of the data has no labels"),
            ([{"labels": 2}], "single_label_classification", "whole numbers below 2; those of example 0 are 2"),
            ([{"labels": 0.5}], "single_label_classification", "whole numbers below 2; those of example 0 are 0.5"),
            ([{"labels": "a"}], "single_label_classification", "whole numbers below 2; those of example 0 are 'a'"),
            ([{"labels": [1.0]}], "multi_label_classification", r"2 numbers 0 or 1; those of example 0 are \[1.0\]"),
            (["text"], "single_label_classification", "Example 0 of the data must be a mapping .* got str"),
        ],
    )
    def test_labels_that_cannot_be_weighed(self, data, problem_type, message):
        with pytest.raises(ValueError, match=message):
            balanced_weights(data, 2, problem_type)

    def test_there_must_be_examples(self, tmp_path):
        with pytest.raises(ValueError, match="train_dataset has no example"):
            small(tmp_path, data=[], eval_strategy="no")


class TestStreams:
    def test_are_evaluated_like_their_examples(self, tmp_path):
        stream = encoded().to_iterable_dataset()
        one = small(tmp_path, trainer_options={"eval_dataset": {"a": stream, "b": encoded()}})
        metrics = one.evaluate()
        assert metrics["eval_a_accuracy"] == metrics["eval_b_accuracy"]

    def test_may_come_later(self, tmp_path):
        one = small(tmp_path)
        assert one.evaluate(encoded().to_iterable_dataset())["eval_accuracy"] == one.evaluate()["eval_accuracy"]
        streamed = one.predict(encoded().to_iterable_dataset())
        assert streamed.predictions.tolist() == one.predict(encoded()).predictions.tolist()

    @pytest.mark.parametrize(
        ("form", "later"),
        [
            ("dict", False),
            ("object", False),
            ("dispatching", False),
            ("none", True),
            ("dict", True),
            ("file", True),
            ("json", True),
        ],
    )
    def test_work_with_each_form_of_accelerator_config(self, form, later, tmp_path):
        file = tmp_path / "accelerator.json"
        file.write_text('{"even_batches": false}', encoding="utf-8")
        config = {
            "none": None, "dict": {"even_batches": False}, "file": str(file), "json": '{"even_batches": false}',
            "object": AcceleratorConfig(even_batches=False), "dispatching": {"dispatch_batches": True},
        }[form]  # fmt: skip
        args = RnnTrainingArguments(
            str(tmp_path), max_steps=1, accelerator_config=None if later else config, **(QUIET | UNSAVED)
        )
        if later:
            args.accelerator_config = config
        before = args.to_dict()
        stream = encoded().to_iterable_dataset()
        assert RnnTrainer(head(), args, train_dataset=stream).train().global_step == 1
        assert args.to_dict() == before


class TestOptionsThatDoNotFit:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"batch_eval_metrics": True}, "--batch_eval_metrics true needs a compute_metrics of your own"),
            ({"eval_do_concat_batches": False}, "--eval_do_concat_batches false needs a compute_metrics of your own"),
            ({"include_for_metrics": ["inputs"]}, "--include_for_metrics inputs needs padded batches"),
            (
                {"dataloader_drop_last": True, "per_device_train_batch_size": 13},
                "--dataloader_drop_last true leaves nothing of 12 training examples.*--per_device_train_batch_size",
            ),
            (
                {"dataloader_drop_last": True, "per_device_train_batch_size": 13, "max_steps": 2},
                "--dataloader_drop_last true leaves nothing",
            ),
            ({"save_strategy": "best", "eval_strategy": "no"}, "--save_strategy best needs evaluations"),
        ],
    )
    def test_are_named(self, options, message, tmp_path):
        with pytest.raises(ValueError, match=message):
            small(tmp_path, **options)

    @pytest.mark.parametrize(
        ("options", "padding"),
        [
            ({"batch_eval_metrics": True}, False),
            ({"eval_do_concat_batches": False}, False),
            ({"include_for_metrics": ["inputs", "loss"]}, True),
        ],
    )
    def test_fit_metrics_of_one_s_own(self, options, padding, news, tmp_path):
        seen = []

        def compute_metrics(prediction, compute_result=True):
            seen.append(prediction)
            return {"mine": 1.0}

        collator = DataCollatorWithPacking(news[1], padding=padding)
        given = {"compute_metrics": compute_metrics, "data_collator": collator}
        assert small(tmp_path, trainer_options=given, **options).evaluate()["eval_mine"] == 1
        assert len(seen) == 1
        assert not padding or seen[0].inputs.shape == (12, 3)


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

    def test_processes_get_as_much_work_as_each_other_in_each_step(self):
        lengths = [1 + index % 50 for index in range(2000)]
        batches = [list(TokenBatchSampler(lengths, 1000, 32, 1, 8, rank)) for rank in range(8)]
        work = [[sum(lengths[index] for index in batch) for batch in step] for step in zip(*batches, strict=True)]
        # Batches in any order would take twice the time.
        assert sum(max(step) for step in work) < 1.1 * sum(map(sum, work)) / 8
        assert len({tuple(sorted(step)) for step in work[:5]}) == 5

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

    from rnn_hf.sharing.run_record import measure_speed

    monkeypatch.delattr(os, "getloadavg")
    _, tokenizer, topics = news
    speed = measure_speed(classifier(tokenizer, topics), tokenizer, ["one text", "another"])
    assert speed["load_average"] is None
    json.dumps(speed)


class TestObjectives:
    OPTIONS: ClassVar = {"rdrop_loss_weight": 1.0, "lm_loss_weight": 0.1, "class_weights": "balanced"}

    def test_are_those_of_the_options_and_of_the_data(self, tmp_path):
        data = encoded(TAGS, auxiliary_tags=[[4, 2, 0][: len(tags)] for tags in TAGS])
        objectives = small(tmp_path, tagger(), data, **self.OPTIONS).model.objectives
        assert (objectives.rdrop_loss_weight, objectives.lm_loss_weight) == (1.0, 0.1)
        assert objectives.auxiliary_classifier.out_features == 5
        assert len(objectives.class_weights) == 3

    def test_of_taggers_are_not_those_of_classifiers(self, tmp_path):
        objectives = small(tmp_path, **self.OPTIONS).model.objectives
        assert objectives.language_model is None
        assert objectives.auxiliary_classifier is None

    def test_without_any_there_are_none(self, tmp_path):
        assert small(tmp_path).model.objectives is None

    def test_stay_out_of_what_the_trainer_saves_and_in_its_checkpoints(self, tmp_path):
        one = small(tmp_path, tagger(), encoded(TAGS), eval_strategy="no", save_strategy="epoch", **self.OPTIONS)
        one.train()
        one.save_model(str(tmp_path / "model"))
        saved = load_file(tmp_path / "model" / "model.safetensors")
        checkpoint = load_file(tmp_path / "checkpoint-1" / "model.safetensors")
        assert not any(name.startswith("objectives.") for name in saved)
        assert {name for name in checkpoint if name not in saved} == {
            f"objectives.language_model.projections.{direction}.{kind}"
            for direction in range(2)
            for kind in ("weight", "bias")
        }

    def test_the_stock_trainer_adds_none_unless_they_are_attached(self, tmp_path):
        args = TrainingArguments(str(tmp_path), num_train_epochs=1, **QUIET, save_strategy="no")
        for attached in (False, True):
            model = with_objectives(head(), rdrop_loss_weight=1.0) if attached else head()
            one = Trainer(model, args, train_dataset=encoded(), data_collator=DataCollatorWithPacking(None))
            one.train()
            assert (one.model.objectives is not None) == attached


class TestImbalance:
    """Labels of very different frequency: macro F1 chooses the best model."""

    def made(self, counts, folder, kind=Dataset, **options):
        tokenizer = train_tokenizer(["a b c d"] * 2, kind="word")
        labels = [label for label, count in enumerate(counts) for _ in range(count)]
        rows = [{"input_ids": [3, 4 + label % 3], "labels": label} for label in labels]
        data = Dataset.from_list(rows) if kind is Dataset else rows
        model = classifier(tokenizer, [f"topic {number}" for number in range(len(counts))])
        args = RnnTrainingArguments(str(folder), **(QUIET | options))
        return RnnTrainer(model, args, train_dataset=data, eval_dataset=data, processing_class=tokenizer)

    @pytest.mark.parametrize(
        ("counts", "metric"),
        [([33, 3], "eval_f1"), ([30, 3], "eval_accuracy"), ([5, 0, 5], "eval_accuracy"), ([2, 2, 23, 7], "eval_f1")],
    )
    @pytest.mark.parametrize("kind", [Dataset, list])
    def test_begins_at_ten_times_the_rarest(self, counts, metric, kind, tmp_path):
        assert self.made(counts, tmp_path, kind).args.metric_for_best_model == metric

    def test_is_said_with_what_helps(self, tmp_path, caplog):
        self.made([33, 3], tmp_path)
        assert "'topic 0' has 33 and 'topic 1' has 3" in caplog.text
        assert "--metric_for_best_model accuracy" in caplog.text
        assert "--class_weights balanced" in caplog.text
        caplog.clear()
        self.made([33, 3], tmp_path, class_weights="balanced")
        assert "macro F1" in caplog.text
        assert "--class_weights" not in caplog.text

    def test_leaves_a_metric_that_is_named(self, tmp_path, caplog):
        one = self.made([33, 3], tmp_path, metric_for_best_model="accuracy")
        assert one.args.metric_for_best_model == "eval_accuracy"
        assert caplog.text == ""

    def test_is_counted_by_others_of_a_stream(self, news, tmp_path):
        dataset, tokenizer, topics = news
        args = RnnTrainingArguments(str(tmp_path), max_steps=1, **QUIET)
        for counts, metric in ((None, "eval_accuracy"), ([1, 20, 1, 1, 1], "eval_f1")):
            one = RnnTrainer(
                classifier(tokenizer, topics), args, train_dataset=dataset.to_iterable_dataset(), eval_dataset=dataset,
                processing_class=tokenizer, label_counts=counts,
            )  # fmt: skip
            assert one.args.metric_for_best_model == metric
