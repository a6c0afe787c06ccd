"""Mistakes made with the scripts that train and evaluate: each ends in one line that says what to do."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TINY = ["--hidden_size", "4", "--embedding_size", "4", "--char_num_filters", "2", "--disable_tqdm", "true"]


def main_of(script: str):
    """Import a script and return its `main`."""
    spec = importlib.util.spec_from_file_location(f"script_{script}", ROOT / "scripts" / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


MAINS = {
    name: main_of(name)
    for name in ("train_classifier", "train_tagger", "evaluate_checkpoint", "reproduce", "benchmark", "quickstart")
}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Path:
    """A trained classifier."""
    folder = tmp_path_factory.mktemp("classifier")
    write_corpora(folder)
    options = [*TINY, "--vocab_size", "50", "--num_train_epochs", "1", "--train_file", str(folder / "texts.jsonl")]
    MAINS["train_classifier"]([*options, "--output_dir", str(folder / "model")])
    return folder / "model"


def write_corpora(folder: Path) -> None:
    texts = [{"text": f"this is {label} {i}", "label": label} for i in range(10) for label in ("ham", "spam")]
    words = [{"tokens": ["a", "b", str(i)], "tags": ["X", "Y", "X"]} for i in range(20)]
    for name, rows in (("texts", texts), ("words", words)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """The working directory: corpora, files that are no corpora, and folders that are not free."""
    monkeypatch.chdir(tmp_path)
    for variable in ("HF_TOKEN", "RNN_HF_DEBUG"):
        monkeypatch.delenv(variable, raising=False)
    write_corpora(tmp_path)
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for name, file in (("theirs", "config.json"), ("card", "README.md"), ("finished", "all_results.json")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("{}", encoding="utf-8")
    (tmp_path / "earlier" / "checkpoint-3").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def fails(capsys, here):
    """Run a script that must fail, and return its only line on standard error."""

    def run(script: str, *arguments: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            MAINS[script]([*arguments])
        assert stop.value.code not in (0, None)
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
        assert "Traceback" not in lines[0]
        assert "looks like a fault of rnn_hf" not in lines[0]
        return lines[0]

    return run


OF_CLASSIFIERS = [
    # Fields of the configuration
    ("--hidden_size 0", "--hidden_size must be at least 1, got 0"),
    ("--hidden_size -3", "--hidden_size must be at least 1, got -3"),
    ("--hidden_size 99999999999", "--hidden_size must be at most"),
    ("--hidden_size abc", "invalid int value: 'abc'"),
    ("--hidden-size 0", "--hidden_size must be at least 1, got 0"),
    ("--embedding_size 0", "--embedding_size must be at least 1, got 0"),
    ("--num_hidden_layers 0", "--num_hidden_layers must be at least 1, got 0"),
    ("--char_num_filters 0", "--char_num_filters must be at least 1, got 0"),
    ("--max_characters_per_token 0", "--max_characters_per_token must be at least 1, got 0"),
    ("--char_kernel_sizes 0", "--char_kernel_sizes must hold sizes of at least 1, got [0]"),
    ("--word_dropout 1", "--word_dropout must be at least 0 and below 1, got 1.0"),
    ("--embedding_dropout nan", "--embedding_dropout must be at least 0 and below 1, got nan"),
    ("--classifier_dropout -0.1", "--classifier_dropout must be at least 0 and below 1, got -0.1"),
    ("--initializer_range -1", "--initializer_range must not be negative"),
    ("--initializer_range inf", "--initializer_range"),
    ("--rdrop_loss_weight nan", "--rdrop_loss_weight"),
    ("--cell_type foo", "invalid choice: 'foo' (choose from 'lstm'"),
    ("--pooling median", "invalid choice: 'median'"),
    # Ranges of the other options
    ("--min_frequency -1", "--min_frequency must be at least 1, got -1"),
    ("--vocab_size 0", "--vocab_size must be at least 4, got 0"),
    ("--max_seq_length -1", "--max_seq_length must be from 1"),
    ("--max_seq_length 0", "--max_seq_length must be from 1"),
    ("--max_train_samples 0", "--max_train_samples"),
    ("--gradient_accumulation_steps 0", "--gradient_accumulation_steps must be at least 1, got 0"),
    ("--label_smoothing_factor 2", "--label_smoothing_factor must be below 1, got 2.0"),
    ("--label_smoothing_factor -0.1", "--label_smoothing_factor must be at least 0, got -0.1"),
    ("--num_train_epochs 0", "--num_train_epochs must be above 0, got 0.0"),
    ("--num_train_epochs -1", "--num_train_epochs must be above 0, got -1.0"),
    ("--num_train_epochs nan", "--num_train_epochs must be above 0, got nan"),
    ("--max_steps 0", "--max_steps must be at least 1, got 0"),
    ("--learning_rate inf", "--learning_rate must be at least 0, got inf"),
    ("--learning_rate -1", "--learning_rate must be at least 0, got -1.0"),
    ("--weight_decay -1", "--weight_decay must be at least 0, got -1.0"),
    ("--warmup_steps -1", "warmup_steps"),
    ("--adam_beta1 1", "--adam_beta1 must be below 1, got 1.0"),
    ("--max_grad_norm -1", "--max_grad_norm must be at least 0, got -1.0"),
    ("--per_device_train_batch_size 0", "--per_device_train_batch_size must be at least 1, got 0"),
    ("--per_device_eval_batch_size 0", "--per_device_eval_batch_size must be at least 1, got 0"),
    ("--max_tokens_per_batch 0", "--max_tokens_per_batch must be at least 1, got 0"),
    ("--dataloader_num_workers -1", "--dataloader_num_workers must be at least 0, got -1"),
    ("--early_stopping_patience -1", "--early_stopping_patience must be at least 0, got -1"),
    ("--save_total_limit 0", "--save_total_limit must be at least 1, got 0"),
    ("--logging_steps 0", "--logging_steps must be above 0"),
    ("--seed -1", "--seed must be at least 0, got -1"),
    ("--seed 99999999999999999999", "--seed must be below"),
    ("--char_cnn maybe", "maybe"),
    # Names
    ("--no_such 1", "unknown options or values: --no_such"),
    ("--hub_tok x", "unknown options or values: --hub_tok"),
    ("extra", "unknown options or values: extra"),
    ("--optim foo", "invalid choice: 'foo'"),
    ("--lr_scheduler_type foo", "invalid choice: 'foo'"),
    ("--save_strategy foo", "invalid choice: 'foo'"),
    ("--train_sampling_strategy foo", "invalid choice: 'foo'"),
    ("--class_weights foo", "invalid choice: 'foo'"),
    ("--metric_for_best_model foo", "--metric_for_best_model foo is no score of this task: accuracy"),
    ("--report_to wandb", "--report_to wandb: its package is not installed. Install it with pip install wandb"),
    ("--report_to nonsense", "--report_to nonsense: transformers cannot report to it"),
    ("--deepspeed nowhere.json", "--deepspeed nowhere.json is neither a JSON object nor a file with one"),
    ("--accelerator_config {", "--accelerator_config { is neither a JSON object nor a file with one"),
    ("--lr_scheduler_kwargs [1]", "--lr_scheduler_kwargs [1] is neither a JSON object nor a file with one"),
    ('--accelerator_config {"nosuch":1}', "--accelerator_config has no option nosuch, only: split_batches"),
    ("--optim_args alpha=1", "--optim_args alpha=1 has no effect on --optim adamw_torch"),
    ("--optim sgd --optim_args momentum=0.9,nosuch=1", "--optim_args nosuch=1 has no effect on --optim sgd"),
    ("--optim sgd --optim_args momentum=x", "--optim_args momentum=x does not fit --optim sgd: could not convert"),
    ("--optim_args foo", "--optim_args foo must be written as name=value"),
    ("--lr_scheduler_type warmup_stable_decay", "warmup_stable_decay with --lr_scheduler_kwargs {}"),
    ('--lr_scheduler_kwargs {"nosuch":1}', "--lr_scheduler_type cosine with --lr_scheduler_kwargs"),
    ("--lr_scheduler_type reduce_lr_on_plateau --eval_strategy no", "reduce_lr_on_plateau requires an eval strategy"),
    ("--neftune_noise_alpha 5", "--neftune_noise_alpha is for embeddings of transformers"),
    ("--prediction_loss_only true", "--prediction_loss_only leaves no scores"),
    ("--label_names ham spam", "column 'label' holds 'ham', but --label_names names the whole numbers"),
    ("--ngram_buckets 0 --max_ngram 3", "--max_ngram has no effect with --ngram_buckets 0: leave one of them out"),
    ("--ngram_buckets 0 --ngram_learning_rate 0.01", "--ngram_learning_rate has no effect with --ngram_buckets 0"),
    ("--vectors nowhere.txt", "--vectors nowhere.txt is neither a file nor an installed package"),
    ("--model_name_or_path ./nowhere", "./nowhere holds no model"),
    ("--tokenizer_name ./nowhere", "./nowhere holds no tokenizer"),
    ("--config nowhere.yaml", "--config nowhere.yaml could not be read"),
    ("--config", "expected one argument"),
    ("--resume_from_checkpoint nowhere", "--resume_from_checkpoint nowhere is no complete checkpoint"),
    ("--resume_from_checkpoint", "expected one argument"),
    # Options of the other task
    ("--use_crf true", "--use_crf is an option of taggers"),
    ("--lm_loss_weight 3", "--lm_loss_weight is an option of taggers"),
    ("--auxiliary_loss_weight 2", "--auxiliary_loss_weight is an option of taggers"),
    ("--tokens_column words", "--tokens_column is an option of taggers"),
    ("--tags_column ner", "--tags_column is an option of taggers"),
    ("--auxiliary_tags_column pos", "--auxiliary_tags_column is an option of taggers"),
    # Options that others override
    ("--tokenizer_kind word --tokenizer_name x", "--tokenizer_kind is for a new tokenizer, but --tokenizer_name gives"),
    ("--vocab_size 90 --model_name_or_path x", "--vocab_size is for a new tokenizer, but --model_name_or_path gives"),
    ("--char_cnn false --model_name_or_path x", "--char_cnn is for new models"),
    ("--tokenizer_name y --model_name_or_path x", "--tokenizer_name is for new models"),
    ("--max_steps 5 --num_train_epochs 2", "--num_train_epochs has no effect beside --max_steps"),
    ("--vectors_vocab_size 5", "--vectors_vocab_size needs --vectors"),
    ("--mimick_epochs 2", "--mimick_epochs needs --vectors"),
    ("--vectors_learning_rate 0.1", "--vectors_learning_rate has no effect without --vectors"),
    ("--greater_is_better true", "--greater_is_better follows from --metric_for_best_model"),
    ("--eval_strategy no --metric_for_best_model f1", "--metric_for_best_model needs evaluations"),
    ("--eval_strategy no --early_stopping_patience 5", "--early_stopping_patience needs evaluations"),
    ("--eval_strategy steps", "strategy to match"),
    ("--eval_accumulation_steps 0", "--eval_accumulation_steps must be at least 1, got 0"),
    ("--max_tokens_per_batch 9 --train_sampling_strategy group_by_length", "has no effect beside"),
    ("--train_sampling_strategy batch_rebalance", "batch_rebalance is made for padded batches"),
    ("--streaming --max_tokens_per_batch 9", "--max_tokens_per_batch needs to know all lengths"),
    ("--streaming --train_sampling_strategy group_by_length", "needs to know all rows"),
    ("--class_weights balanced --label_smoothing_factor 0.1", "for one label a text or word, and without"),
    ("--rdrop_loss_weight 1 --label_smoothing_factor 0.1", "replaces the model's own loss"),
    ("--bf16 true --fp16 true", "fp16 and bf16"),
    ("--dataset_config_name plus", "--dataset_config_name"),
    ("--dataset_name x", "either with --dataset_name, or with --train_file"),
    # Data
    ("--validation_file nowhere.jsonl", "There is no file nowhere.jsonl"),
    ("--validation_file file", "does not tell its format"),
    ("--text_column nope", "has no column 'nope'"),
    ("--problem_type regression", "texts.jsonl, row 1: column 'label' must hold a number, got 'ham'"),
    ("--dataset_kwargs {", "--dataset_kwargs is not valid JSON"),
    # Folders
    ("--output_dir hf_SECRETSECRETSECRET", "The name of --output_dir is or holds a token"),
    ("--output_dir file", "--output_dir file is a file"),
    ("--output_dir file/below", "--output_dir file/below cannot be written to: Not a directory"),
    ("--output_dir /proc/nowhere", "--output_dir /proc/nowhere cannot be written to"),
    (f"--output_dir {'x' * 300}", "cannot be written to: File name too long"),
    ("--output_dir nul\0l", "is no name of a folder"),
    ("--output_dir theirs", "theirs holds files that training would overwrite: config.json"),
    ("--output_dir theirs --resume_from_checkpoint true", "theirs holds files that training would overwrite"),
    ("--output_dir card", "card holds files that training would overwrite: README.md"),
    ("--output_dir finished", "finished holds a trained model"),
    ("--output_dir finished --resume_from_checkpoint true", "finished holds a trained model"),
    ("--output_dir earlier", "earlier holds checkpoints of an earlier run"),
    # The hub
    ("--push_to_hub true", "There is no access token"),
    ("--push_to_hub true --hub_strategy checkpoint", "would upload pickled states"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), OF_CLASSIFIERS, ids=[options for options, _ in OF_CLASSIFIERS])
def test_options_of_classifiers(options, message, fails):
    assert message in fails(
        "train_classifier", "--train_file", "texts.jsonl", "--output_dir", "out", *options.split(" ")
    )


OF_TAGGERS = [
    ("--pooling mean", "--pooling is an option of classifiers"),
    ("--problem_type regression", "--problem_type is an option of classifiers"),
    ("--text_column x", "--text_column is an option of classifiers"),
    ("--label_column x", "--label_column is an option of classifiers"),
    ("--max_seq_length 5", "--max_seq_length is an option of classifiers"),
    ("--tags_column nope", "has no column 'nope'"),
    ("--tag_scheme nope", "invalid choice: 'nope'"),
    ("--label_names nope", "--label_names: nope is no file. Name two labels or more."),
    ("--auxiliary_tags_column nope", "has no column 'nope'"),
    ("--auxiliary_loss_weight 1", "--auxiliary_loss_weight has no effect: no column of auxiliary labels was found"),
    (
        "--auxiliary_loss_weight 1 --auxiliary_tags_column none",
        "--auxiliary_loss_weight has no effect without --auxiliary_tags_column",
    ),
    ("--auxiliary_tags_column tags --label_smoothing_factor 0.1", "replaces the model's own loss"),
    ("--lm_loss_weight 1 --label_smoothing_factor 0.1", "replaces the model's own loss"),
    ("--metric_for_best_model mse", "--metric_for_best_model mse is no score of this task"),
    ("--train_file texts.jsonl", "has no column 'tokens'"),
]


@pytest.mark.parametrize(("options", "message"), OF_TAGGERS, ids=[options for options, _ in OF_TAGGERS])
def test_options_of_taggers(options, message, fails):
    assert message in fails("train_tagger", "--train_file", "words.jsonl", "--output_dir", "out", *options.split(" "))


FILES_OF_OPTIONS = [
    ("cell_type: foo", "invalid choice: 'foo'"),
    ("hidden_size: abc", "invalid int value: 'abc'"),
    ("hidden_size: [1, 2]", "unknown options or values: 2"),
    ("hidden_size: 2.5", "invalid int value: '2.5'"),
    ("num_train_epochs: ten", "invalid float value: 'ten'"),
    ("learning_rate: {a: 1}", "invalid float value"),
    ("char_kernel_sizes: []", "expected at least one argument"),
    ("use_crf: true", "--use_crf is an option of taggers"),
    ("nosuch: 1", "unknown options: nosuch"),
    ("- a", "must hold a mapping of options"),
    ("null", "must hold a mapping of options"),
    ("{", "could not be read"),
    ("hub_token: hf_S: x", "hub_token: …"),
    ("dataset_kwargs: {token: hf_SECRETSECRETSECRET, nosuch: 1}", "nosuch"),
]


@pytest.mark.parametrize(("content", "message"), FILES_OF_OPTIONS, ids=[content for content, _ in FILES_OF_OPTIONS])
def test_files_of_options(content, message, fails, here):
    (here / "options.yaml").write_text(content, encoding="utf-8")
    options = ["--train_file", "texts.jsonl", "--output_dir", "out", "--config=options.yaml"]
    line = fails("train_classifier", *options)
    assert message in line
    assert "SECRET" not in line


@pytest.mark.parametrize(
    ("number", "message"),
    [
        ("NaN", "row 6: column 'label' holds no label: nan"),
        ("Infinity", "row 6: column 'label' must hold a finite number, got inf"),
        ("1e308", "row 6: column 'label' must hold a number up to 1e+15, got 1e+308"),
        (f"1{'0' * 30}", "row 6: column 'label' must hold a number up to 1e+15, got 1e+30"),
    ],
)
def test_numbers_that_cannot_be_learnt(number, message, fails, here):
    rows = [f'{{"text": "t", "label": {number if row == 5 else "0.5"}}}\n' for row in range(12)]
    (here / "numbers.jsonl").write_text("".join(rows), encoding="utf-8")
    assert message in fails("train_classifier", "--train_file", "numbers.jsonl", "--output_dir", "out")


def test_no_option_at_all(fails):
    assert "say with --output_dir where the model shall be saved" in fails("train_tagger")
    assert "Name the data" in fails("train_tagger", "--output_dir", "out")
    assert "the following arguments are required: model" in fails("evaluate_checkpoint")


EVALUATIONS = [
    ("./nowhere --test_file texts.jsonl", "./nowhere holds no model"),
    ("theirs --test_file texts.jsonl", "theirs holds no"),
    ("MODEL --test_file words.jsonl", "has no column 'text'"),
    ("MODEL --test_file nowhere.jsonl", "There is no file nowhere.jsonl"),
    ("MODEL --test_file eggs.jsonl", "row 1: the label 'eggs'"),
    ("MODEL --train_file texts.jsonl", "There is no test data"),
    ("MODEL --test_file texts.jsonl --split foo", "invalid choice: 'foo'"),
    ("MODEL --test_file texts.jsonl --batch_size 0", "--batch_size must be at least 1, got 0"),
    ("MODEL --test_file texts.jsonl --output_dir file", "--output_dir file cannot be written to"),
    ("MODEL --test_file texts.jsonl --onnx_file_name onnx/no.onnx", "holds no onnx/no.onnx"),
    ("MODEL --test_file texts.jsonl --revision v1", "is a folder, which has no revision 'v1'"),
    ("MODEL --test_file texts.jsonl --tokens_column x", "--tokens_column"),
]


@pytest.mark.parametrize(("arguments", "message"), EVALUATIONS, ids=[arguments for arguments, _ in EVALUATIONS])
def test_evaluations(arguments, message, fails, here, classifier):
    (here / "eggs.jsonl").write_text('{"text": "t", "label": "eggs"}\n', encoding="utf-8")
    assert message in fails("evaluate_checkpoint", *arguments.replace("MODEL", str(classifier)).split(" "))


OTHERS = [
    ("reproduce", "", "the following arguments are required: row, data_dir"),
    ("reproduce", "nosuch .", "invalid choice: 'nosuch'"),
    ("reproduce", "sst2 .", ". lacks train_phrases.jsonl"),
    ("reproduce", "sst2 nowhere", "nowhere lacks train_phrases.jsonl"),
    ("reproduce", "sst2 . --seeds a", "invalid int value: 'a'"),
    ("benchmark", "foo", "invalid choice: 'foo'"),
    ("benchmark", "layer --cells foo", "invalid choice: 'foo'"),
    ("benchmark", "layer --lengths 0", "must be a whole number of at least 1, got '0'"),
    ("benchmark", "layer --threads 0", "must be a whole number of at least 1, got '0'"),
    ("benchmark", "latency --length -1", "at least 1"),
    ("benchmark", "layer --fills 2", "must be a number from 0.5 to 1, got 2"),
    ("benchmark", "layer --fills x", "must be a number from 0.5 to 1, got x"),
    ("benchmark", "layer --json nowhere/a.json", "--json nowhere/a.json: there is no folder nowhere"),
    ("benchmark", "layer --plot nowhere/a.png", "--plot nowhere/a.png: there is no folder nowhere"),
    ("benchmark", "accuracy --output_dir out", "models of a benchmark are not kept: leave --output_dir out"),
    ("benchmark", "crf --plot a.png", "--plot is for layer: leave it out"),
    ("quickstart", "--nosuch", "unknown options or values: --nosuch. See"),
]


@pytest.mark.parametrize(("script", "arguments", "message"), OTHERS, ids=[" ".join(row[:2]) for row in OTHERS])
def test_other_scripts(script, arguments, message, fails):
    assert message in fails(script, *filter(None, arguments.split(" ")))


def test_debug_brings_the_traceback_back(here, capsys, monkeypatch):
    words = ["--train_file", "nowhere.csv", "--output_dir", "out"]
    for options, variable in ((["--debug"], "0"), ([], "1")):
        monkeypatch.setenv("RNN_HF_DEBUG", variable)
        capsys.readouterr()
        with pytest.raises(SystemExit):
            MAINS["train_classifier"]([*words, *options])
        lines = capsys.readouterr().err.splitlines()
        assert lines[0] == "Traceback (most recent call last):"
        assert lines[-1] == "error: There is no file nowhere.csv."


def test_a_full_disk_ends_training_with_one_line(here, capfd):
    """Files may grow to so many bytes only, as on a full disk."""
    import os

    child = os.fork()
    if child == 0:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            options = [*TINY, "--hidden_size", "64", "--vocab_size", "50", "--num_train_epochs", "1"]
            MAINS["train_classifier"]([*options, "--train_file", "texts.jsonl", "--output_dir", "out"])
        except SystemExit as stop:
            os._exit(int(stop.code or 0))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    error = capfd.readouterr().err
    assert "Traceback" not in error
    assert error.splitlines()[-1].startswith("error: ")
    assert "could not be written" in error or "File too large" in error


def test_an_interruption_says_how_to_resume(here, capsys, monkeypatch):
    from rnn_hf.training import train as training

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "load_corpus", interrupted)
    (here / "out").mkdir()
    for checkpoints, hint in ((False, "error: interrupted."), (True, "error: interrupted. Resume with")):
        if checkpoints:
            (here / "out" / "checkpoint-3").mkdir()
        options = ["--train_file", "texts.jsonl", "--output_dir", "out", "--resume_from_checkpoint", "true"]
        with monkeypatch.context() as patch:
            patch.setattr(training, "find_checkpoint", lambda *_, **__: None)
            with pytest.raises(SystemExit) as stop:
                MAINS["train_classifier"](options)
        assert stop.value.code == 130
        assert capsys.readouterr().err.splitlines()[-1].startswith(hint)


def test_a_run_that_diverges_saves_no_model(here, capsys):
    options = [*TINY, "--vocab_size", "50", "--num_train_epochs", "9", "--train_file", "texts.jsonl"]
    with pytest.raises(SystemExit):
        MAINS["train_classifier"]([*options, "--output_dir", "out", "--learning_rate", "1e30", "--eval_strategy", "no"])
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: Training diverged")
    assert not (here / "out" / "model.safetensors").exists()


def test_names_are_never_taken_for_markup(here, capsys):
    options = [*TINY, "--vocab_size", "50", "--num_train_epochs", "1", "--train_file", "texts.jsonl"]
    MAINS["train_classifier"]([*options, "--output_dir", "x[/b][red]"])
    assert "saved in x[/b][red]" in capsys.readouterr().out
    assert (here / "x[/b][red]" / "README.md").is_file()
