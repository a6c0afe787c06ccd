"""Options of a training run, on the command line, in a file, and in the help."""

import ast
import json
import re
import typing
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from transformers import TrainingArguments

from rnn_hf import RnnConfig
from rnn_hf.formats.arguments import DataArguments
from rnn_hf.training.arguments import ConfigArguments, RnnTrainingArguments, TokenizerArguments
from rnn_hf.training.options import DataclassParser, parse_arguments

ROOT = Path(__file__).parents[2]
TASK = "text-classification"


@pytest.fixture
def parse(tmp_path):
    """Parse options with an output folder."""

    def run(*options: str, task: str = TASK):
        return parse_arguments(task, "", ["--output_dir", str(tmp_path / "out"), *options])

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
    """The help under a description, on wide lines."""
    monkeypatch.setenv("COLUMNS", "400")

    def run(description: str = "", task: str = TASK, option: str = "--help") -> str:
        with pytest.raises(SystemExit) as end:
            parse_arguments(task, description, [option])
        assert end.value.code == 0
        return capsys.readouterr().out

    return run


def options_in(help_text: str) -> set[str]:
    """The names of all options that a help has an entry for."""
    return set(re.findall(r"^  (?:-h, )?--(\w+)", help_text, re.MULTILINE))


def entry_of(option: str, help_text: str) -> str:
    """The help text of one option, with its values, on one line."""
    _, _, rest = help_text.partition(f"\n  --{option} ")
    return " ".join(rest.split("\n  -")[0].split("\n\n")[0].split())


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
        assert f"error: unknown options or values: {option}" in mistake(option, "3")


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
        data, tokenizer, _, training = parse(
            *config, "--vectors", "none", "--auxiliary_tags_column", "none", task="token-classification"
        )
        assert (data.auxiliary_tags_column, tokenizer.vectors, training.num_train_epochs) == ("none", None, 2)

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

    @pytest.mark.parametrize("name", ["config", "help", "help_all", "show_traceback", "debug"])
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


def test_a_plain_no_in_a_file_is_no_strategy(parse, write):
    _, _, _, training = parse(*write("eval_strategy: no\nsave_strategy: no\n"))
    assert training.eval_strategy == training.save_strategy == "no"


OF_TASK = {
    "text-classification": {
        "pooling": "max", "problem_type": "regression", "text_column": "review", "label_column": "stars",
        "max_seq_length": "9", "ngram_buckets": "64", "max_ngram": "3", "ngram_dropout": "0.1",
        "ngram_learning_rate": "0.5", "label_columns": "joy", "label_separator": "#",
    },
    "token-classification": {
        "use_crf": "false", "tokens_column": "words", "tags_column": "ner", "auxiliary_tags_column": "pos",
        "tag_scheme": "bilou", "lm_loss_weight": "0.5", "auxiliary_loss_weight": "0.25",
        "subword_pooling": "none", "crf_tag_scheme": "none", "num_lexical_features": "64", "lexical_dropout": "0.1",
        "lexical_learning_rate": "0.5",
    },
}  # fmt: skip
TASKS = ["text-classification", "token-classification"]
OPTIONS_OF_A_TASK = [(task, name, value) for task in TASKS for name, value in OF_TASK[task].items()]


class TestOptionsOfATask:
    def test_are_those_whose_fields_say_so(self):
        for task in TASKS:
            groups = (DataArguments, TokenizerArguments, ConfigArguments, RnnTrainingArguments)
            marked = {one.name for group in groups for one in fields(group) if one.metadata.get("task") == task}
            assert marked == OF_TASK[task].keys()

    @pytest.mark.parametrize(("task", "name", "value"), OPTIONS_OF_A_TASK)
    def test_are_taken_for_it(self, task, name, value, write):
        words = ["--output_dir", "out"]
        given = parse_arguments(task, "", [*words, f"--{name}", value])
        found = [vars(group)[name] for group in given if name in vars(group)]
        assert [" ".join(one) if isinstance(one, list) else str(one).lower() for one in found] == [value]
        from_file = parse_arguments(task, "", [*words, *write({name: value})])
        assert [vars(one) for one in from_file[:3]] == [vars(one) for one in given[:3]]

    @pytest.mark.parametrize("spelling", ["--{}", "--{}=", "hyphens", "file"])
    @pytest.mark.parametrize(("task", "name", "value"), OPTIONS_OF_A_TASK)
    def test_are_refused_for_the_other(self, task, name, value, spelling, write, capsys):
        words = {"hyphens": [f"--{name.replace('_', '-')}", value], "file": write({name: value})}
        words |= {"--{}": [f"--{name}", value], "--{}=": [f"--{name}={value}"]}
        (other,) = set(TASKS) - {task}
        with pytest.raises(SystemExit, match="2"):
            parse_arguments(other, "", ["--output_dir", "out", *words[spelling]])
        of_whom = {"text-classification": "classifiers", "token-classification": "taggers"}[task]
        assert capsys.readouterr().err == f"error: --{name} is an option of {of_whom}: leave it out.\n"

    def test_are_refused_with_their_default_too(self, mistake):
        assert "--lm_loss_weight is an option of taggers" in mistake("--lm_loss_weight", "0")

    def test_are_no_mistake_in_a_file_that_gives_them_no_value(self, parse, write):
        assert parse(*write({"use_crf": None, "train_file": "a.csv"}))[0].train_file == "a.csv"

    def test_have_their_defaults_where_they_are_not_offered(self, parse):
        data, _, config, training = parse()
        assert (data.tokens_column, config.use_crf, training.auxiliary_loss_weight) == (None, None, 0.5)

    def test_of_both_tasks_are_offered_without_a_task(self, capsys):
        parser = DataclassParser(DataArguments, prog="rnn-hf evaluate")
        words = ["--text_column", "review", "--tags_column", "ner"]
        (data, _) = parser.parse_args_into_dataclasses(words, look_for_args_file=False)
        assert (data.text_column, data.tags_column) == ("review", "ner")
        text = " ".join(parser.format_help().split())
        assert "--text_column TEXT_COLUMN Classifiers: Column of the texts. (default: text)" in text
        assert "--tags_column TAGS_COLUMN Taggers: Column of the tags." in text
        assert "--help_all" not in text


class TestHelp:
    def test_every_field_of_our_own_is_shown_unless_it_is_of_the_other_task(self, help_text):
        for task, other in (TASKS, TASKS[::-1]):
            shown = options_in(help_text(task=task))
            groups = (DataArguments, TokenizerArguments, ConfigArguments)
            own = {one.name for group in groups for one in fields(group)} | RnnTrainingArguments.__annotations__.keys()
            assert own - shown == OF_TASK[other].keys()

    def test_of_the_trainer_only_what_people_use_is_shown(self, help_text):
        trainer = {one.name for one in fields(TrainingArguments)} - RnnTrainingArguments.__annotations__.keys()
        trainer -= {"label_names"}  # of the data
        assert options_in(help_text()) & trainer == {
            "output_dir", "max_steps", "gradient_accumulation_steps", "seed", "save_steps", "eval_steps",
            "logging_steps", "resume_from_checkpoint", "push_to_hub", "hub_model_id", "hub_private_repo",
            "dataloader_num_workers",
        } | {"debug"}  # ours: it shows tracebacks  # fmt: skip

    @pytest.mark.parametrize("spelling", ["--help_all", "--help-all"])
    def test_help_all_shows_the_rest(self, help_text, spelling):
        shown = options_in(help_text(option=spelling))
        assert {one.name for one in fields(TrainingArguments) if one.init} <= shown
        assert options_in(help_text()) < shown
        assert {"adam_beta1", "no_char_cnn"} <= shown

    def test_is_grouped(self, help_text):
        sections = help_text().split("\n\n")
        groups = {section.partition(":")[0]: options_in(section) for section in sections[1:]}
        assert list(groups) == ["options", "data", "model", "training"]
        assert groups["options"] == {"help", "debug", "help_all", "config"}
        assert {"train_file", "text_column"} <= groups["data"]
        assert {"vectors", "tokenizer_kind", "cell_type", "pooling"} <= groups["model"]
        assert {"output_dir", "learning_rate", "seed", "keep_checkpoints"} <= groups["training"]

    @pytest.mark.parametrize(
        ("task", "command"), [("text-classification", "train-classifier"), ("token-classification", "train-tagger")]
    )
    @pytest.mark.parametrize("option", ["--help", "--help_all"])
    def test_the_usage_is_short(self, help_text, task, command, option):
        usage, _, _ = help_text(task=task, option=option).partition("\n\n")
        assert usage == f"usage: rnn-hf {command} [options] --output_dir DIR"

    @pytest.mark.parametrize("option", ["--help", "--help_all"])
    def test_each_option_is_named_once(self, help_text, option):
        entries = re.findall(r"^  (--\w.*?)(?:  |$)", help_text(option=option), re.MULTILINE)
        assert len(entries) > 50
        assert all(re.fullmatch(r"--\w+( [^-]*)?", entry) for entry in entries)

    @pytest.mark.parametrize(
        ("name", "end"),
        [
            ("min_frequency", "(default: 2)"),
            ("char_cnn", "(default: true)"),
            ("lowercase", "(default: false)"),
            ("lr_scheduler_type", "(default: cosine)"),
            ("save_steps", "(default: 500)"),
            ("cell_type", "(default: lstm, or the checkpoint's)"),
            ("char_kernel_sizes", f"(default: {' '.join(map(str, RnnConfig.char_kernel_sizes))}, or the checkpoint's)"),
            ("tokens_column", "(default: tokens, in CoNLL-U form)"),
            ("max_train_samples", "for a quick try."),
        ],
    )
    def test_defaults_are_shown(self, help_text, name, end):
        assert entry_of(name, help_text(task="token-classification")).endswith(end)

    @pytest.mark.parametrize("option", ["--help", "--help_all"])
    def test_where_there_is_no_default_none_is_shown(self, help_text, option):
        assert "default: None" not in help_text(option=option)

    @pytest.mark.parametrize(
        ("name", "value"), [("hidden_size", "N"), ("hidden_dropout", "X"), ("lowercase", "[BOOL]"), ("use_crf", "BOOL")]
    )
    def test_says_what_kind_of_value_an_option_takes(self, help_text, name, value):
        assert f"\n  --{name} {value} " in help_text(task="token-classification").replace("\n  ", " \n  ")

    @pytest.mark.parametrize("name", ["train_classifier", "train_tagger"])
    def test_description_keeps_its_lines(self, help_text, name):
        source = (ROOT / "rnn_hf" / "commands" / f"{name}.py").read_text(encoding="utf-8")
        description = ast.get_docstring(ast.parse(source))
        assert f"    rnn-hf {name.replace('_', '-')} --train_file " in description
        assert " \\\n        --" in description
        assert f"\n{description}\n" in help_text(description)

    def test_names_the_file_of_options(self, help_text):
        assert "--config CONFIG" in help_text()
