"""Pretraining from the command line, and fine-tuning what it saves."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from rnn_hf import RnnForCausalLM, RnnForPreTraining, RnnForSequenceClassification, RnnModel
from rnn_hf.cli import main
from rnn_hf.data.corpus import DataArguments, load_corpus
from rnn_hf.models.configuration_rnn import RnnConfig
from rnn_hf.sharing.hub import _check_folder
from rnn_hf.sharing.model_card import write_model_card
from rnn_hf.training.arguments import ConfigArguments, TokenizerArguments
from rnn_hf.training.model_setup import build

LITTLE = ["--hidden_size", "6", "--embedding_size", "4", "--char_num_filters", "2", "--vocab_size", "150"]
OPTIONS = [*LITTLE, "--disable_tqdm", "true", "--num_train_epochs", "1", "--per_device_train_batch_size", "4"]
NAMES = ["salt", "pepper", "rice", "water"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Texts, labelled texts, tagged sentences; and encoders that were pretrained on the texts."""
    folder = tmp_path_factory.mktemp("pretraining")
    texts = [f"please put more {one} into the {other}" for one in NAMES for other in NAMES] * 2
    (folder / "texts.txt").write_text("\n".join(texts) + "\n")
    rows = [{"text": text, "label": text.split()[3]} for text in texts]
    (folder / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [{"tokens": text.split(), "tags": ["O"] * 3 + ["B-X"] + ["O"] * 3} for text in texts]
    (folder / "tagged.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pretrain(folder, "encoder", "--num_hidden_layers", "2")
    pretrain(folder, "generator", "--bidirectional", "false", "--tokenizer_name", str(folder / "encoder"))
    return folder


def pretrain(folder, name, *options, file="texts.txt"):
    if "--tokenizer_name" in options:
        options = (*options, "--vocab_size", "30000")
    main(["pretrain", "--train_file", str(folder / file), "--output_dir", str(folder / name), *OPTIONS, *options])


def said(capsys, *words) -> str:
    """What a command says that ends in a mistake."""
    with pytest.raises(SystemExit) as error:
        main(list(words))
    assert error.value.code in (1, 2)
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_results_table_and_card_report_perplexities(folder, capsys):
    results = json.loads((folder / "encoder/all_results.json").read_text())
    assert 1 < results["eval_perplexity"] < 200
    assert results["eval_perplexity_per_word"] >= results["eval_perplexity"]
    assert (results["train_samples"], results["eval_samples"]) == (29, 3)
    assert "eval_perplexity_backward" not in json.loads((folder / "generator/all_results.json").read_text())
    card = (folder / "encoder/README.md").read_text()
    assert f"| perplexity per word | {results['eval_perplexity_per_word']:.4f} |" in card
    assert "pipeline_tag: feature-extraction" in card
    assert "pipeline_tag: text-generation" in (folder / "generator/README.md").read_text()
    assert "## Labels" not in card
    main(["card", str(folder / "encoder")])
    assert (folder / "encoder/README.md").read_text() == card
    assert write_model_card(folder / "encoder").read_text() == card


def test_what_is_saved_loads_as_an_encoder(folder):
    weights = load_file(folder / "encoder/model.safetensors")
    encoder = AutoModel.from_pretrained(folder / "encoder")
    assert type(encoder) is RnnModel
    for name, weight in encoder.state_dict().items():
        assert torch.equal(weight, weights[f"model.{name}"])
    # Fine-tuning has its own dropouts by default.
    assert encoder.config.embedding_dropout == RnnConfig.embedding_dropout
    model = AutoModelForCausalLM.from_pretrained(folder / "generator").eval()
    assert type(model) is RnnForCausalLM
    tokenizer = AutoTokenizer.from_pretrained(folder / "generator")
    prompt = tokenizer("please put", add_special_tokens=False, return_tensors="pt")
    assert model.generate(**prompt, max_new_tokens=3).shape[1] > prompt["input_ids"].shape[1]


@pytest.mark.parametrize("name", ["encoder", "generator"])
@pytest.mark.parametrize(("task", "file"), [("text-classification", "labelled"), ("token-classification", "tagged")])
def test_fine_tuning_takes_the_weights_and_makes_a_new_head(folder, tmp_path, name, task, file):
    corpus = load_corpus(DataArguments(train_file=str(folder / f"{file}.jsonl")), task)
    arguments = TokenizerArguments(model_name_or_path=str(folder / name))
    tokenizer, model = build(corpus, arguments, ConfigArguments(), tmp_path)
    weights = load_file(folder / name / "model.safetensors")
    for key, weight in model.model.state_dict().items():
        assert torch.equal(weight, weights[f"model.{key}"]), key
    assert model.config.label_names == corpus.label_names
    _, new = build(corpus, TokenizerArguments(), ConfigArguments(), tmp_path)
    for field in ("use_crf", "ngram_buckets"):
        assert getattr(model.config, field) == getattr(new.config, field)
    assert (model.config.num_lexical_features > 0) == (task == "token-classification")
    assert (
        tokenizer("put more salt")["input_ids"]
        == AutoTokenizer.from_pretrained(folder / name)("put more salt")["input_ids"]
    )


@pytest.mark.parametrize("command", ["train-classifier", "train-tagger"])
def test_training_commands_take_it(folder, tmp_path, caplog, command):
    file = "labelled" if command == "train-classifier" else "tagged"
    options = ["--model_name_or_path", str(folder / "encoder"), "--train_file", str(folder / f"{file}.jsonl")]
    main([command, *options, "--output_dir", str(tmp_path / "out"), *OPTIONS[len(LITTLE) :]])
    assert "By the data, --preset auto chooses" in caplog.text
    assert "hidden_size" not in caplog.text
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert (config["hidden_size"], config["num_hidden_layers"]) == (6, 2)
    assert ("ngrams" in str(load_file(tmp_path / "out/model.safetensors").keys())) == (file == "labelled")


def test_words_are_predicted_as_a_tagger_reads_them(folder):
    pretrain(folder, "words", "--tokens_column", "tokens", "--tokenizer_kind", "word", file="tagged.jsonl")
    results = json.loads((folder / "words/all_results.json").read_text())
    # Of n words and an end, all but the first are predicted.
    assert results["eval_perplexity_per_word"] == pytest.approx(results["eval_perplexity"])


def test_pretraining_goes_on_from_what_it_saved(folder):
    pretrain(folder, "further", "--model_name_or_path", str(folder / "encoder"), "--vocab_size", "30000")
    results = [json.loads((folder / name / "all_results.json").read_text()) for name in ("encoder", "further")]
    assert results[1]["eval_loss"] < results[0]["eval_loss"]
    assert type(AutoModel.from_pretrained(folder / "further")) is RnnModel


def test_without_validation_data_there_is_no_perplexity(folder):
    pretrain(folder, "all", "--eval_strategy", "no")
    results = json.loads((folder / "all/all_results.json").read_text())
    assert results["train_samples"] == 32
    assert not any("perplexity" in name for name in results)
    assert "Nothing was measured." in (folder / "all/README.md").read_text()


def test_wrong_checkpoints_take_one_line(folder, tmp_path, capsys):
    mixed = RnnForSequenceClassification(RnnConfig(vocab_size=99, hidden_size=4, embedding_size=4, num_hidden_layers=2))
    mixed.save_pretrained(tmp_path / "mixed")
    AutoTokenizer.from_pretrained(folder / "encoder").save_pretrained(tmp_path / "small")
    tokenizer = AutoTokenizer.from_pretrained(folder / "encoder")
    mixed.resize_token_embeddings(len(tokenizer))
    mixed.save_pretrained(tmp_path / "mixed")
    tokenizer.save_pretrained(tmp_path / "mixed")
    texts = ["--train_file", str(folder / "texts.txt"), "--output_dir", str(tmp_path / "out")]
    assert "would see the tokens that it has to predict" in said(
        capsys, "pretrain", *texts, "--model_name_or_path", str(tmp_path / "mixed")
    )
    encoder = ["--model_name_or_path", str(folder / "encoder")]
    labelled = ["--train_file", str(folder / "labelled.jsonl"), "--output_dir", str(tmp_path / "other")]
    message = said(capsys, "train-classifier", *labelled, *encoder, "--hidden_size", "8")
    assert "--hidden_size 8 does not fit" in message
    message = said(capsys, "predict", str(folder / "encoder"), str(folder / "texts.txt"))
    assert "an encoder without labels" in message
    message = said(capsys, "train-classifier", *labelled, "--model_name_or_path", str(tmp_path / "small"))
    assert "config.json is missing" in message or "holds no" in message


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--class_weights", "balanced"], "--class_weights is for labels, which pretraining does not read"),
        (["--rdrop_loss_weight", "1"], "--rdrop_loss_weight is for labels"),
        (["--metric_for_best_model", "accuracy"], "the best language model is that of the least loss"),
        (["--pooling", "max"], "--pooling is an option of classifiers: leave it out"),
        (["--use_crf", "true"], "--use_crf is an option of taggers: leave it out"),
        (["--label_column", "x"], "unknown options or values: --label_column"),
        (["--chunk_length", "0"], "--chunk_length must be at least 1, got 0"),
        (["--layer_lr_decay", "0"], "--layer_lr_decay must be above 0"),
    ],
)
def test_options_that_make_no_sense(folder, tmp_path, capsys, options, fault):
    words = ["pretrain", "--train_file", str(folder / "texts.txt"), "--output_dir", str(tmp_path / "out")]
    assert fault in said(capsys, *words, *options)


@pytest.mark.parametrize("name", ["encoder", "generator"])
def test_a_whole_folder_may_be_pushed(folder, tmp_path, name):
    copy = Path(shutil.copytree(folder / name, tmp_path / name))
    files = _check_folder(copy)
    assert {"model.safetensors", "modeling_lm.py", "README.md", "tokenizer.json"} <= files.keys()
    (copy / "modeling_lm.py").unlink()
    with pytest.raises(ValueError, match="without the code that others need"):
        _check_folder(copy)


def test_a_bidirectional_encoder_is_saved_as_what_it_is(folder):
    assert json.loads((folder / "encoder/config.json").read_text())["architectures"] == [RnnForPreTraining.__name__]
