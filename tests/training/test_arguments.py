"""Fields of the dataclasses of options: help texts, defaults, tasks."""

import typing
from dataclasses import fields, replace

import pytest

from rnn_hf import RnnConfig
from rnn_hf.formats.arguments import DataArguments
from rnn_hf.training.arguments import ConfigArguments, DefaultMetric, RnnTrainingArguments, TokenizerArguments
from rnn_hf.training.options import parse_arguments

# Fields that follow from tokenizer, vectors and data, validation data among them.
NOT_OPTIONS = (
    "vocab_size", "num_word_embeddings", "static_embedding_size", "static_vocab_size", "characters", "class_weights",
    "num_auxiliary_tags", "id2label", "label2id", "temperature", "label_thresholds",
)  # fmt: skip
CONFIG_FIELDS = [
    name
    for name, annotation in RnnConfig.__annotations__.items()
    if typing.get_origin(annotation) is not typing.ClassVar
    and not name.endswith("_token_id")
    and name not in NOT_OPTIONS
]


def test_every_field_of_the_configuration_is_an_option():
    assert {field.name for field in fields(ConfigArguments)} == set(CONFIG_FIELDS) | {"problem_type"}


@pytest.mark.parametrize("group", [DataArguments, TokenizerArguments, ConfigArguments])
def test_every_option_has_a_help_text(group):
    assert all(field.metadata.get("help") for field in fields(group))


def test_own_training_options_have_a_help_text():
    own = [RnnTrainingArguments.__dataclass_fields__[name] for name in RnnTrainingArguments.__annotations__]
    assert {"early_stopping_patience", "max_tokens_per_batch"} <= {field.name for field in own}
    assert all(field.metadata.get("help") for field in own)


@pytest.mark.parametrize("name", CONFIG_FIELDS)
def test_the_help_of_a_field_of_the_configuration_says_its_default(name):
    text = ConfigArguments.__dataclass_fields__[name].metadata["help"]
    if name == "use_crf":
        assert "(default: true for up to 64 labels" in text
    elif name == "crf_tag_scheme":
        assert "(default: iobes; by --preset none, none, or the checkpoint's)" in text
    elif name == "subword_pooling":
        assert "(default: mean; by --preset none, and after pretraining, none, or the checkpoint's)" in text
    elif name == "ngram_buckets":
        assert "(default: 1.2 or more for each n-gram" in text
    elif name == "num_lexical_features":
        assert "(default: all that the vocabulary has, at most 65536, or the checkpoint's)" in text
    elif name != "problem_type":
        default = RnnConfig.__dataclass_fields__[name].default
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
        assert text.endswith(f"(default: {shown.lower()}, or the checkpoint's)")


@pytest.fixture
def parse(tmp_path):
    """Parse options with an output folder."""

    def run(*options: str):
        return parse_arguments("text-classification", "", ["--output_dir", str(tmp_path / "out"), *options])

    return run


class TestTrainingDefaults:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("learning_rate", 2e-3),
            ("num_train_epochs", 10.0),
            ("per_device_train_batch_size", 32),
            ("early_stopping_patience", 3),
            ("max_tokens_per_batch", None),
            ("load_best_model_at_end", True),
            ("report_to", []),
        ],
    )
    def test_suit_recurrent_models(self, parse, name, value):
        assert getattr(parse()[3], name) == value

    def test_measure_of_the_best_model_is_open_unless_given(self, parse):
        training = parse()[3]
        assert isinstance(training.metric_for_best_model, DefaultMetric)
        assert training.greater_is_better is None
        assert training.to_dict()["metric_for_best_model"] is None

    def test_an_open_measure_stays_open_in_a_copy(self, parse):
        copied = replace(parse()[3], learning_rate=0.1)
        assert isinstance(copied.metric_for_best_model, DefaultMetric)
        assert copied.greater_is_better is None
        assert RnnTrainingArguments(**copied.to_dict()).to_dict() == copied.to_dict()

    @pytest.mark.parametrize(
        ("options", "is_needed"),
        [
            (("--load_best_model_at_end", "false"), False),
            (("--eval_strategy", "no"), False),
            (("--load_best_model_at_end", "false", "--save_strategy", "best"), True),
            (("--load_best_model_at_end", "false", "--lr_scheduler_type", "reduce_lr_on_plateau"), True),
        ],
    )
    def test_there_is_a_measure_where_one_is_needed(self, parse, options, is_needed):
        assert parse(*options)[3].metric_for_best_model == ("loss" if is_needed else None)

    def test_losses_are_logged_as_they_are(self, parse):
        assert parse()[3].logging_nan_inf_filter is False

    @pytest.mark.parametrize(
        ("measure", "greater_is_better"), [("f1", True), ("loss", False), ("eval_loss", False), ("mse", False)]
    )
    def test_measure_of_the_best_model_can_be_given(self, parse, measure, greater_is_better):
        training = parse("--metric_for_best_model", measure)[3]
        assert training.metric_for_best_model == measure
        assert training.greater_is_better is greater_is_better

    def test_without_evaluation_there_is_no_best_model(self, parse):
        assert parse("--eval_strategy", "no")[3].load_best_model_at_end is False
        assert parse("--save_strategy", "no")[3].load_best_model_at_end is False
