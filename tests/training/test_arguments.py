"""Options of the training scripts, on the command line and in a file."""

import ast
import json
import typing
from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml

from rnn_hf import RnnConfig
from rnn_hf.data.corpus import DataArguments
from rnn_hf.training.arguments import (
    ConfigArguments,
    DefaultMetric,
    RnnTrainingArguments,
    TokenizerArguments,
    parse_arguments,
)

ROOT = Path(__file__).parents[2]
TASK = "text-classification"
# Fields that follow from tokenizer, vectors and data.
NOT_OPTIONS = (
    "vocab_size", "num_word_embeddings", "static_embedding_size", "static_vocab_size", "characters", "class_weights",
    "num_auxiliary_tags", "id2label", "label2id",
)  # fmt: skip
CONFIG_FIELDS = [
    name
    for name, annotation in RnnConfig.__annotations__.items()
    if typing.get_origin(annotation) is not typing.ClassVar
    and not name.endswith("_token_id")
    and name not in NOT_OPTIONS
]


@pytest.fixture
def parse(tmp_path):
    """Parse options with an output folder."""

    def run(*options: str):
        return parse_arguments(TASK, "", ["--output_dir", str(tmp_path / "out"), *options])

    return run


@pytest.fixture
def write(tmp_path):
    """Write a file of options and give the option that names it."""

    def run(options, name="options.yaml") -> tuple[str, str]:
        dump = json.dumps if name.endswith(".json") else yaml.safe_dump
        content = options if isinstance(options, str | bytes) else dump(options)
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return "--config", str(tmp_path / name)

    return run


@pytest.fixture
def mistake(capsys, parse):
    """Parse options that end the program, and give what it says."""

    def run(*options: str) -> str:
        with pytest.raises(SystemExit) as error:
            parse(*options)
        assert error.value.code == 2
        return capsys.readouterr().err

    return run


@pytest.fixture
def help_text(capsys, monkeypatch):
    """The help under a script's description, on wide lines."""
    monkeypatch.setenv("COLUMNS", "400")

    def run(description: str = "") -> str:
        with pytest.raises(SystemExit) as error:
            parse_arguments(TASK, description, ["--help"])
        assert error.value.code == 0
        return capsys.readouterr().out

    return run


def entry_of(option: str, help_text: str) -> str:
    """The help text of one option, on one line."""
    _, _, rest = help_text.partition(f"\n  --{option} ")
    # The text begins below the option's names and ends where the next option begins.
    return " ".join(rest.split("\n  -")[0].partition("\n")[2].split())


class TestCommandLine:
    def test_options_go_to_their_groups(self, parse):
        data, tokenizer, config, training = parse(
            *("--train_file", "a.csv", "--tokenizer_kind", "bpe", "--cell_type", "gru", "--learning_rate", "0.1")
        )
        assert isinstance(data, DataArguments)
        assert data.train_file == "a.csv"
        assert isinstance(tokenizer, TokenizerArguments)
        assert tokenizer.tokenizer_kind == "bpe"
        assert isinstance(config, ConfigArguments)
        assert config.cell_type == "gru"
        assert isinstance(training, RnnTrainingArguments)
        assert training.learning_rate == 0.1

    def test_hyphens_will_do(self, parse):
        assert parse("--train-file", "a.csv", "--hidden-size", "7")[2].hidden_size == 7

    def test_nothing_is_said_of_the_configuration_unless_given(self, parse):
        assert set(vars(parse()[2]).values()) == {None}

    @pytest.mark.parametrize(
        ("name", "text", "value"),
        [
            ("embedding_size", "12", 12),
            ("hidden_size", "12", 12),
            ("num_hidden_layers", "3", 3),
            ("cell_type", "rnn_relu", "rnn_relu"),
            ("bidirectional", "false", False),
            ("bidirectional", "True", True),
            ("bidirectional", "no", False),
            ("embedding_dropout", "0", 0.0),
            ("hidden_dropout", "0.25", 0.25),
            ("classifier_dropout", "1e-1", 0.1),
            ("pooling", "attention", "attention"),
            ("initializer_range", "0.5", 0.5),
            ("problem_type", "regression", "regression"),
        ],
    )
    def test_fields_of_the_configuration(self, parse, name, text, value):
        config = parse(f"--{name}", text)[2]
        assert getattr(config, name) == value
        assert type(getattr(config, name)) is type(value)
        assert getattr(RnnConfig(**{name: value}), name) == value

    @pytest.mark.parametrize("options", [(), ("--output_dir", "trainer_output")])
    def test_the_output_folder_must_be_said(self, capsys, options):
        with pytest.raises(SystemExit):
            parse_arguments(TASK, "", ["--train_file", "a.csv", *options])
        assert "say with --output_dir where the model shall be saved" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("options", "fault"),
        [
            (("--hidden_size", "many"), "invalid int value: 'many'"),
            (("--cell_type", "mlp"), "invalid choice: 'mlp' (choose from "),
            (("--bidirectional", "perhaps"), "Truthy value expected: got perhaps"),
            (("--dataset_format", "xlsx"), "invalid choice: 'xlsx'"),
            (("--bidirectional",), "expected one argument"),
        ],
    )
    def test_value_that_does_not_fit(self, mistake, options, fault):
        said = mistake(*options)
        assert f"argument {options[0]}" in said
        assert fault in said

    @pytest.mark.parametrize("option", ["--hiden_size", "--hidden", "--hub_tok", "--hub-tok"])
    def test_unknown_and_abbreviated_options(self, mistake, option):
        assert f"error: unknown options or values: {option}. See" in mistake(option, "3")


class TestFile:
    OPTIONS: typing.ClassVar = {
        "train_file": "a.csv",
        "streaming": True,
        "lowercase": True,
        "hidden_size": 12,
        "bidirectional": False,
        "embedding_dropout": 0.5,
        "cell_type": "gru",
        "learning_rate": 0.01,
        "max_train_samples": None,
    }

    @pytest.mark.parametrize("name", ["options.yaml", "options.yml", "options.json", "options"])
    def test_is_read_as_if_given_on_the_command_line(self, parse, write, name):
        from_file = parse(*write(self.OPTIONS, name))
        given = [f"--{key}={value}" for key, value in self.OPTIONS.items() if value is not None]
        for one, other in zip(from_file[:3], parse(*given)[:3], strict=True):
            assert vars(one) == vars(other)
        assert from_file[3].learning_rate == 0.01

    def test_may_name_the_output_folder(self, write, tmp_path):
        options = write({"output_dir": str(tmp_path / "here")})
        assert parse_arguments(TASK, "", list(options))[3].output_dir == str(tmp_path / "here")

    @pytest.mark.parametrize("options_first", [True, False])
    def test_command_line_wins(self, parse, write, options_first):
        config, options = write(self.OPTIONS), ("--hidden_size", "7", "--bidirectional", "true", "--lowercase", "no")
        data, tokenizer, chosen, _ = parse(*(options + config if options_first else config + options))
        assert (chosen.hidden_size, chosen.bidirectional, tokenizer.lowercase) == (7, True, False)
        assert (chosen.cell_type, data.train_file) == ("gru", "a.csv")

    def test_the_command_line_takes_vectors_and_columns_back_with_none(self, parse, write):
        config = write({"vectors": "glove.txt", "auxiliary_tags_column": "pos", "num_train_epochs": 2})
        data, tokenizer, _, training = parse(*config, "--vectors", "none", "--auxiliary_tags_column", "none")
        assert (data.auxiliary_tags_column, tokenizer.vectors, training.num_train_epochs) == (None, None, 2)

    def test_command_line_wins_with_a_default_value(self, parse, write):
        options = write({"tokenizer_kind": "bpe", "vocab_size": 10})
        tokenizer = parse(*options, "--tokenizer_kind", "wordpiece", "--vocab_size", "30000")[1]
        assert (tokenizer.tokenizer_kind, tokenizer.vocab_size) == ("wordpiece", 30000)

    def test_scientific_notation(self, parse, write):
        training = parse(*write("learning_rate: 2e-3\nweight_decay: 1.0e-4\n"))[3]
        assert (training.learning_rate, training.weight_decay) == (0.002, 0.0001)

    def test_comments_and_other_scripts(self, parse, write):
        assert parse(*write("# 데이터\ntrain_file: 영화평.csv  # 리뷰\n"))[0].train_file == "영화평.csv"

    def test_unknown_options(self, mistake, write):
        option, file = write({"hiden_size": 3, "train_file": "a.csv", "epochs": 4})
        assert f"error: --config {file} has unknown options: epochs, hiden_size\n" in mistake(option, file)

    @pytest.mark.parametrize("name", ["config", "help"])
    def test_options_that_make_no_sense_in_a_file(self, mistake, write, name):
        assert f"has unknown options: {name}\n" in mistake(*write({name: "x"}))

    @pytest.mark.parametrize(
        "content", ["train_file: [", '{"train_file": ', b"\x89PNG\xff\x00", "train_file: 'a", "a: b: c"]
    )
    def test_broken_file(self, mistake, write, content):
        option, file = write(content)
        assert f"error: --config {file} could not be read: " in mistake(option, file)

    @pytest.mark.parametrize(("content", "shown"), [("", "None"), ("- a\n", "['a']"), ("train", "'train'"), ("7", "7")])
    def test_file_without_a_mapping(self, mistake, write, content, shown):
        option, file = write(content)
        assert f"error: --config {file} must hold a mapping of options, got {shown}\n" in mistake(option, file)

    def test_missing_file(self, mistake, tmp_path):
        said = mistake("--config", str(tmp_path / "nowhere.yaml"))
        assert f"error: --config {tmp_path / 'nowhere.yaml'} could not be read: " in said
        assert "No such file" in said

    def test_folder(self, mistake, tmp_path):
        assert f"error: --config {tmp_path} could not be read: " in mistake("--config", str(tmp_path))

    def test_text_that_is_no_number(self, mistake, write):
        assert "argument --hidden_size" in mistake(*write({"hidden_size": "many"}))


class TestHelp:
    @pytest.mark.parametrize("name", CONFIG_FIELDS)
    def test_every_field_of_the_configuration_is_an_option(self, help_text, name):
        entry = entry_of(name, help_text())
        assert len(entry.split()) > 5
        if name == "use_crf":
            assert "Without it true where labels mark spans" in entry
        elif name != "problem_type":
            assert f"Without it {RnnConfig.__dataclass_fields__[name].default}, or the checkpoint's." in entry

    def test_configuration_has_no_other_options(self):
        assert {field.name for field in fields(ConfigArguments)} == set(CONFIG_FIELDS) | {"problem_type"}

    @pytest.mark.parametrize("group", [DataArguments, TokenizerArguments, ConfigArguments])
    def test_every_option_has_a_help_text(self, group):
        assert all(field.metadata.get("help") for field in fields(group))

    def test_own_training_options_have_a_help_text(self):
        own = [RnnTrainingArguments.__dataclass_fields__[name] for name in RnnTrainingArguments.__annotations__]
        assert {"early_stopping_patience", "max_tokens_per_batch"} <= {field.name for field in own}
        assert all(field.metadata.get("help") for field in own)

    @pytest.mark.parametrize("name", ["train_classifier.py", "train_tagger.py"])
    def test_description_keeps_its_lines(self, help_text, name):
        description = ast.get_docstring(ast.parse((ROOT / "scripts" / name).read_text(encoding="utf-8")))
        assert f"    python scripts/{name} --train_file " in description
        assert f"\n{description}\n" in help_text(description)

    def test_defaults_are_shown(self, help_text):
        assert entry_of("min_frequency", help_text()).endswith("(default: 2)")

    def test_names_the_file_of_options(self, help_text):
        assert "--config CONFIG" in help_text()


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


def test_a_plain_no_in_a_file_is_no_strategy(parse, write):
    _, _, _, training = parse(*write("eval_strategy: no\nsave_strategy: no\n"))
    assert training.eval_strategy == training.save_strategy == "no"
