"""Making tokenizer and model for a corpus, and loading those to fine-tune."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, BertTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast
from transformers.utils import logging

from rnn_hf import train_tokenizer
from rnn_hf.data.corpus import DataArguments, load_corpus
from rnn_hf.inference.loading import load
from rnn_hf.text.encoding import NO_LIMIT, max_length_of
from rnn_hf.training.arguments import ConfigArguments, TokenizerArguments
from rnn_hf.training.model_setup import build

CLASSIFY, TAG = "text-classification", "token-classification"
# Labels of texts, by what they are; and tags.
KINDS = {
    "single": ["ham", "spam"],
    "regression": [0.5, 1.5],
    "several": [["a", "b"], ["c", "d"]],
    "tags": ["O", "B-LOC", "I-LOC"],
}
LITTLE = {"embedding_size": 6, "hidden_size": 4, "char_embedding_size": 3, "char_num_filters": 2}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Make a corpus of either task anew, since building may reorder its labels."""
    folder = tmp_path_factory.mktemp("corpora")
    rows = [{"text": f"{label} is it", "label": label} for label in ("ham", "spam")] * 3
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [{"tokens": ["in", "Rome", "now"], "tags": ["O", "B-LOC", "O"]}] * 3
    (folder / "words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def make(task):
        file = str(folder / ("texts.jsonl" if task == CLASSIFY else "words.jsonl"))
        return load_corpus(DataArguments(train_file=file, validation_file=file), task)

    return make


@pytest.fixture(scope="module")
def trained(corpora, tmp_path_factory):
    """A folder with a saved model of each task."""
    folders = {}
    for task in (CLASSIFY, TAG):
        folders[task] = tmp_path_factory.mktemp("trained")
        _, model = build(corpora(task), TokenizerArguments(), ConfigArguments(**LITTLE), folders[task])
        model.save_pretrained(folders[task])
    return folders


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of a saved model, to be damaged."""

    def copy(task=CLASSIFY):
        return Path(shutil.copytree(trained[task], tmp_path / "copy", dirs_exist_ok=True))

    return copy


@pytest.fixture
def make(corpora, tmp_path):
    def make(task=CLASSIFY, *, config=None, max_seq_length=None, **arguments):
        config = LITTLE if config is None else config
        tokenizer = TokenizerArguments(**arguments)
        return build(corpora(task), tokenizer, ConfigArguments(**config), tmp_path, max_seq_length=max_seq_length)

    return make


@pytest.fixture
def messages(caplog):
    """Gives what the package's logger has said."""
    logging.enable_propagation()
    yield lambda: list(caplog.messages)
    logging.disable_propagation()


@pytest.fixture
def make_kind(tmp_path):
    """Make a model for one of the kinds of labels; its `folder` is there to save them in."""

    def make_kind(kind, *, config=None, **arguments):
        if kind == "tags":
            rows = [{"tokens": ["in", "Rome", "now"], "tags": KINDS[kind]}] * 4
        else:
            rows = [{"text": f"it is {position}", "label": label} for position, label in enumerate(KINDS[kind] * 3)]
        (tmp_path / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        file = str(tmp_path / f"{kind}.jsonl")
        corpus = load_corpus(DataArguments(train_file=file, validation_file=file), TAG if kind == "tags" else CLASSIFY)
        config = ConfigArguments(**(LITTLE if config is None else config))
        (tmp_path / kind).mkdir(exist_ok=True)
        folder = tmp_path / ("run" if arguments else kind)
        return build(corpus, TokenizerArguments(**arguments), config, folder)

    make_kind.folder = tmp_path
    return make_kind


@pytest.fixture
def refusal(make):
    def refusal(task=CLASSIFY, **arguments) -> str:
        with pytest.raises(ValueError) as error:  # noqa: PT011
            make(task, **arguments)
        assert len(str(error.value)) < 700
        assert "\n" not in str(error.value)
        return str(error.value)

    return refusal


def save_bert(folder: Path, **options) -> str:
    """Save a tokenizer as those on the hub are: with a limit, and two tokens around a text."""
    vocabulary = {
        token: index for index, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "is", "it"])
    }
    BertTokenizer(vocab=vocabulary, model_max_length=512, **options).save_pretrained(folder)
    return str(folder)


def edit_json(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


class TestHowMuchIsRead:
    """`model_max_length` of the saved tokenizer is what training read."""

    @pytest.mark.parametrize("from_hub", [False, True], ids=["trained", "loaded"])
    @pytest.mark.parametrize(
        ("task", "max_seq_length", "limit"), [(CLASSIFY, None, None), (CLASSIFY, 7, 7), (TAG, None, None)]
    )
    def test_of_a_new_model(self, make, tmp_path, from_hub, task, max_seq_length, limit):
        arguments = {"tokenizer_name": save_bert(tmp_path / "bert")} if from_hub else {}
        tokenizer, _ = make(task, max_seq_length=max_seq_length, **arguments)
        assert max_length_of(tokenizer) == limit
        assert tokenizer.model_max_length == (limit or NO_LIMIT)
        tokenizer.save_pretrained(tmp_path / "saved")
        assert max_length_of(AutoTokenizer.from_pretrained(tmp_path / "saved")) == limit
        if not from_hub:
            assert max_length_of(AutoTokenizer.from_pretrained(tmp_path)) == limit

    @pytest.mark.parametrize(("own", "given", "limit"), [(7, None, 7), (7, 9, 9), (NO_LIMIT, None, None), (512, 4, 4)])
    def test_of_a_checkpoint_to_fine_tune(self, make, copied, own, given, limit):
        folder = copied()
        edit_json(folder / "tokenizer_config.json", model_max_length=own)
        tokenizer, _ = make(model_name_or_path=str(folder), max_seq_length=given)
        assert max_length_of(tokenizer) == limit

    def test_taggers_read_all_words_whatever_the_checkpoint_says(self, make, copied):
        folder = copied(TAG)
        edit_json(folder / "tokenizer_config.json", model_max_length=7)
        tokenizer, _ = make(TAG, model_name_or_path=str(folder))
        assert max_length_of(tokenizer) is None

    def test_of_a_resumed_run(self, corpora, tmp_path):
        for trained_already in (False, True):
            tokenizer, _ = build(
                corpora(CLASSIFY), TokenizerArguments(), ConfigArguments(**LITTLE), tmp_path, trained_already, 5
            )
            assert max_length_of(tokenizer) == 5

    @pytest.mark.parametrize(("from_hub", "max_seq_length"), [(False, 1), (True, 1), (True, 2)])
    def test_no_room_for_text(self, refusal, tmp_path, from_hub, max_seq_length):
        arguments = {"tokenizer_name": save_bert(tmp_path / "bert")} if from_hub else {}
        assert refusal(max_seq_length=max_seq_length, **arguments) == (
            f"--max_seq_length {max_seq_length} leaves no room for text: {1 + from_hub} tokens are the tokenizer's own."
        )


class TestResuming:
    def test_tokenizer_is_that_of_the_checkpoint(self, corpora, tmp_path):
        arguments, config = TokenizerArguments(tokenizer_kind="word"), ConfigArguments(**LITTLE)
        tokenizer, _ = build(corpora(CLASSIFY), arguments, config, tmp_path / "run")
        tokenizer.save_pretrained(tmp_path / "checkpoint")
        train_tokenizer(["an other text"] * 2, "word").save_pretrained(tmp_path / "run")
        for name in (None, str(tmp_path / "run")):
            arguments = TokenizerArguments(tokenizer_kind="word", tokenizer_name=name)
            resumed, model = build(
                corpora(CLASSIFY), arguments, config, tmp_path / "run", True, tokenizer_folder=tmp_path / "checkpoint"
            )
            assert resumed.get_vocab() == tokenizer.get_vocab()
            assert model.config.vocab_size == len(tokenizer)

    def test_damaged_one_is_named(self, corpora, tmp_path):
        (tmp_path / "checkpoint").mkdir()
        options = {"trained_already": True, "tokenizer_folder": tmp_path / "checkpoint"}
        with pytest.raises(ValueError, match=r"checkpoint holds no tokenizer that can be read: tokenizer.json is miss"):
            build(corpora(CLASSIFY), TokenizerArguments(), ConfigArguments(), tmp_path, **options)


class TestLoadingTokenizers:
    @pytest.mark.parametrize("option", ["tokenizer_name", "model_name_or_path"])
    @pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "is empty: download or copy it again."),
            ("version https://git-lfs.github.com/spec/v1\n", "is only a pointer to the file in Git LFS"),
            ("<!DOCTYPE html><title>Log in</title>", "holds a web page in place of what its name says: a proxy or a"),
        ],
        ids=["empty", "pointer", "web page"],
    )
    def test_file_that_never_arrived(self, refusal, copied, option, name, content, message):
        folder = copied()
        (folder / name).write_text(content)
        assert refusal(**{option: str(folder)}).startswith(f"{folder / name} {message}")

    @pytest.mark.parametrize("content", ["{}", '{"version": "1.0", "truncation": null, "add', "[]", "null", "\0" * 99])
    @pytest.mark.parametrize("option", ["tokenizer_name", "model_name_or_path"])
    def test_damaged(self, refusal, copied, option, content):
        folder = copied()
        (folder / "tokenizer.json").write_text(content)
        assert refusal(**{option: str(folder)}).startswith(
            f"{folder} holds no tokenizer that can be read: tokenizer.json is damaged, or does not fit"
        )

    @pytest.mark.parametrize("content", ["[]", "null", "{", "3"])
    def test_damaged_options(self, refusal, copied, content):
        folder = copied()
        (folder / "tokenizer_config.json").write_text(content)
        assert "does not fit tokenizer_config.json" in refusal(tokenizer_name=str(folder))

    def test_missing(self, refusal, tmp_path):
        (tmp_path / "empty").mkdir()
        message = refusal(tokenizer_name=str(tmp_path / "empty"))
        assert message.startswith(
            f"{tmp_path / 'empty'} holds no tokenizer that can be read: tokenizer.json is missing"
        )

    @pytest.mark.parametrize(
        "files",
        [
            {"vocab.json": "{}"},
            {"spiece.model": "x"},
            {"spiece.model": "x", "tokenizer_config.json": '{"tokenizer_class": "T5Tokenizer"}'},
            {"tokenizer_config.json": '{"tokenizer_class": "T5Tokenizer"}'},
            {"tokenizer_config.json": '{"tokenizer_class": "NoSuchTokenizer"}', "vocab.txt": "a"},
            {"config.json": '{"model_type": "xlm-roberta"}', "sentencepiece.bpe.model": "x"},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("option", ["tokenizer_name", "model_name_or_path"])
    def test_only_files_of_a_slow_one(self, refusal, copied, tmp_path, option, files):
        folder = tmp_path / "slow"
        folder.mkdir()
        if option == "model_name_or_path":
            folder = copied()
            for path in folder.glob("tokenizer*"):
                path.unlink()
        for name, content in files.items():
            if not (folder / name).exists():
                (folder / name).write_text(content)
        message = refusal(**{option: str(folder)})
        assert message.startswith(f"{folder} holds no tokenizer that can be read: tokenizer.json is missing. Save a ")
        assert "tiktoken" not in message

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("nowhere/at-all", "nowhere/at-all is not in the cache, and HF_HUB_OFFLINE forbids to ask the hub"),
            ("./nowhere", "./nowhere holds no tokenizer: there is no such folder, and it is no id on the hub"),
            ("no where", "no where holds no tokenizer: there is no such folder, and it is no id on the hub"),
            ("a\x1b[2J", "a\\x1b[2J holds no tokenizer: there is no such folder, and it is no id on the hub"),
            (" ", "A tokenizer needs a name: its folder, or its id on the hub"),
        ],
    )
    def test_neither_folder_nor_on_the_hub(self, refusal, name, message):
        assert refusal(tokenizer_name=name).startswith(message)

    @pytest.mark.parametrize("task", [CLASSIFY, TAG])
    def test_slow(self, refusal, tmp_path, task):
        ByT5Tokenizer().save_pretrained(tmp_path / "slow")
        message = refusal(task, tokenizer_name=str(tmp_path / "slow"))
        assert message.startswith(f"{tmp_path / 'slow'} holds a ByT5Tokenizer, which is no fast tokenizer")

    @pytest.mark.parametrize("option", ["tokenizer_name", "model_name_or_path"])
    def test_code_is_never_run(self, refusal, copied, option, monkeypatch):
        monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the folder's code was offered"))
        folder = copied()
        (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass Evil: pass\n")
        edit_json(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", None]})
        edit_json(folder / "tokenizer_config.json", tokenizer_class="Evil")
        message = refusal(**{option: str(folder)})
        assert message.startswith(f"{folder} holds a tokenizer with code of its own, which is not run.")
        assert not (folder / "ran").exists()

    def test_ids_that_are_not_consecutive(self, refusal, tmp_path):
        tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "a": 7}, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(tmp_path / "gap")
        message = refusal(tokenizer_name=str(tmp_path / "gap"))
        assert message.startswith(f"The tokenizer in {tmp_path / 'gap'} has 2 entries with ids up to 7: ids must be")

    def test_nothing_to_pad_with(self, refusal, tmp_path):
        tokenizer = Tokenizer(models.WordLevel({"a": 0}))
        PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(tmp_path / "bare")
        assert "has neither a padding nor an end nor an unknown token" in refusal(tokenizer_name=str(tmp_path / "bare"))


class TestFineTuning:
    @pytest.mark.parametrize(
        "changes",
        [
            {"hidden_size": 5},
            {"embedding_size": 7},
            {"num_hidden_layers": 2},
            {"bidirectional": False},
            {"cell_type": "gru"},
            {"vocab_size": 99},
            {"char_num_filters": 3},
            {"char_embedding_size": 4},
            {"characters": "abc"},
            {"characters": None},
        ],
        ids=str,
    )
    def test_weights_of_another_size_are_refused(self, refusal, copied, changes):
        folder = copied()
        edit_json(folder / "config.json", **changes)
        message = refusal(model_name_or_path=str(folder), config={})
        assert str(folder) in message
        assert "do not fit its config.json" in message

    def test_missing_weights_are_refused(self, refusal, copied):
        folder = copied()
        weights = load_file(folder / "model.safetensors")
        del weights["model.rnn.weight_hh_l0"]
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        assert "model.rnn.weight_hh_l0" in refusal(model_name_or_path=str(folder), config={})

    @pytest.mark.parametrize("content", [b"", b"garbage" * 99])
    def test_damaged_weights_are_refused(self, refusal, copied, content):
        folder = copied()
        (folder / "model.safetensors").write_bytes(content)
        assert str(folder / "model.safetensors") in refusal(model_name_or_path=str(folder), config={})

    @pytest.mark.parametrize(
        ("tags", "options"),
        [(["A", "B", "A"], {}), (["O", "B-X", "B-X"], {}), (["O", "B-X", "I-X"], {"use_crf": False})],
    )
    def test_ends_of_spans_that_nothing_tells(self, tmp_path, tags, options):
        (tmp_path / "a.jsonl").write_text(json.dumps({"tokens": ["in", "New", "York"], "tags": tags}) + "\n")
        corpus = load_corpus(DataArguments(train_file=str(tmp_path / "a.jsonl")), TAG, needed=("train",))
        config = ConfigArguments(**LITTLE, crf_tag_scheme="iobes", **options)
        with pytest.raises(ValueError, match=r"--crf_tag_scheme iobes is for labels of spans .* leave it out"):
            build(corpus, TokenizerArguments(), config, tmp_path)

    def test_folder_without_a_model(self, refusal, tmp_path):
        (tmp_path / "empty").mkdir()
        assert str(tmp_path / "empty") in refusal(model_name_or_path=str(tmp_path / "empty"))

    def test_tokenizer_of_another_model_is_refused(self, refusal, copied):
        folder = copied()
        train_tokenizer([f"word{position}" for position in range(200)], "word", min_frequency=1).save_pretrained(folder)
        message = refusal(model_name_or_path=str(folder), config={})
        assert message.startswith(f"The tokenizer in {folder} has 203 entries, but the model ")

    @pytest.mark.parametrize("task", [CLASSIFY, TAG])
    @pytest.mark.parametrize("of", [CLASSIFY, TAG])
    @pytest.mark.parametrize("config", [{}, {"pooling": "attention"}, {"use_crf": False}], ids=str)
    def test_only_the_head_is_new(self, make, trained, task, of, config):
        _, model = make(task, model_name_or_path=str(trained[of]), config=config)
        saved = load_file(trained[of] / "model.safetensors")
        body = {name: weight for name, weight in model.state_dict().items() if name.startswith("model.")}
        assert body.keys() == {name for name in saved if name.startswith("model.")}
        for name, weight in body.items():
            assert torch.equal(weight, saved[name]), name

    @pytest.mark.parametrize("to", KINDS)
    @pytest.mark.parametrize("of", KINDS)
    def test_any_kind_of_labels_becomes_any_other(self, make_kind, of, to, caplog):
        _, model = make_kind(of)
        model.save_pretrained(make_kind.folder / of)
        logging.enable_propagation()
        caplog.clear()
        tuned_tokenizer, tuned = make_kind(to, model_name_or_path=str(make_kind.folder / of), config={})
        logging.disable_propagation()
        fresh = make_kind(to)[1].config
        assert type(tuned).__name__ == ("RnnForTokenClassification" if to == "tags" else "RnnForSequenceClassification")
        assert (tuned.config.problem_type, tuned.config.label_names) == (fresh.problem_type, fresh.label_names)
        assert tuned.classifier.out_features == len(fresh.label_names)
        assert torch.equal(tuned.model.rnn.weight_hh_l0, model.model.rnn.weight_hh_l0)
        assert all(weight.isfinite().all() for weight in tuned.parameters())
        tuned.save_pretrained(make_kind.folder / "tuned")
        tuned_tokenizer.save_pretrained(make_kind.folder / "tuned")
        assert type(load(str(make_kind.folder / "tuned"))[0]) is type(tuned)
        name = make_kind.folder / of
        said = []
        if model.classifier.out_features != tuned.classifier.out_features:
            parts = "classifier is" if "tags" in (of, to) else "classifier and the n-grams are"
            said.append(f"The {parts} new: {name} has none for these labels and options.")
        if of == "tags" != to:
            said.append(
                f"The conditional random field and the lexical features are left out: {name} has weights of a kind "
                "that this model does not use."
            )
        if of != "tags" == to:
            said.append(f"The n-grams are left out: {name} has weights of a kind that this model does not use.")
        assert [message for message in caplog.messages if "the tags are in IOB2" not in message] == said

    @pytest.mark.parametrize(
        ("of", "to", "schemes"),
        [
            (["O", "B-LOC", "I-LOC", "B-PER", "I-PER"], ["O", "B-LOC", "I-LOC"], ("none", "iobes")),
            (["O", "B-LOC", "I-LOC"], ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"], ("iobes", "none")),
            (["O", "B-LOC", "I-LOC"], ["A", "B", "C", "D", "E"], ("iobes", None)),
            (
                ["O", "B-X", "I-X", "B-Y", "I-Y"],
                ["O", "B-X", "I-X", *(f"B-{kind}" for kind in "ABCD")],
                ("iobes", None),
            ),
        ],
    )
    def test_as_many_scores_of_other_labels_are_new(self, tmp_path, messages, of, to, schemes):
        models = []
        for position, (tags, scheme) in enumerate(zip((of, to), schemes, strict=True)):
            rows = [{"tokens": ["a"] * len(tags), "tags": tags}] * 4
            (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            corpus = load_corpus(DataArguments(train_file=str(tmp_path / "a.jsonl")), TAG)
            arguments = TokenizerArguments(model_name_or_path=str(tmp_path / "0") if position else None)
            config = ConfigArguments(**({} if position else LITTLE), crf_tag_scheme=scheme)
            (tmp_path / str(position)).mkdir()
            models.append(build(corpus, arguments, config, tmp_path / str(position))[1])
            with torch.no_grad():
                for parameter in models[-1].crf.parameters():
                    if not position:
                        parameter.normal_()
            models[-1].save_pretrained(tmp_path / str(position))
        old, new = models
        assert old.classifier.weight.shape == new.classifier.weight.shape
        assert not torch.equal(old.classifier.weight, new.classifier.weight)
        assert not any(parameter.any() for parameter in (*new.crf.parameters(), new.lexical.weight))
        assert torch.equal(old.model.rnn.weight_hh_l0, new.model.rnn.weight_hh_l0)
        said = "The classifier and the conditional random field and the lexical features are new"
        assert any(message.startswith(said) for message in messages())

    def test_a_field_that_tells_where_spans_end_becomes_one_of_other_labels(self, tmp_path, caplog):
        def build_for(tags, folder, **arguments):
            rows = [{"tokens": ["in", "New", "York"], "tags": tags}] * 4
            (tmp_path / f"{folder}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            corpus = load_corpus(DataArguments(train_file=str(tmp_path / f"{folder}.jsonl")), TAG)
            config = {**LITTLE, "crf_tag_scheme": "iobes"} if not arguments else {}
            (tmp_path / folder).mkdir()
            model = build(corpus, TokenizerArguments(**arguments), ConfigArguments(**config), tmp_path / folder)[1]
            model.save_pretrained(tmp_path / folder)
            return model

        spans = build_for(["O", "B-LOC", "I-LOC"], "spans")
        same = build_for(["O", "B-LOC", "I-LOC"], "same", model_name_or_path=str(tmp_path / "spans"))
        assert torch.equal(same.classifier.weight, spans.classifier.weight)
        assert same.classifier.out_features == 5
        others = build_for(["O", "B-X", "B-X"], "others", model_name_or_path=str(tmp_path / "spans"))
        plain = build_for(["ADP", "NAME", "NAME"], "plain", model_name_or_path=str(tmp_path / "spans"))
        assert [len(model.crf.label_names) for model in (others, plain)] == [2, 2]

    def test_as_many_other_labels_make_a_new_head(self, tmp_path, messages):
        def build_for(labels, folder, **arguments):
            rows = [{"text": f"a {label} film", "label": label} for label in labels] * 3
            (tmp_path / f"{folder}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            corpus = load_corpus(DataArguments(train_file=str(tmp_path / f"{folder}.jsonl")), CLASSIFY)
            (tmp_path / folder).mkdir()
            config = ConfigArguments(**(LITTLE if not arguments else {}))
            tokenizer, model = build(corpus, TokenizerArguments(**arguments), config, tmp_path / folder)
            if not arguments:
                torch.nn.init.normal_(model.ngrams.weight)
            model.save_pretrained(tmp_path / folder)
            tokenizer.save_pretrained(tmp_path / folder)
            return model

        old = build_for("ab", "old")
        same = build_for("ba", "same", model_name_or_path=str(tmp_path / "old"))
        assert same.config.label_names == old.config.label_names
        assert torch.equal(same.classifier.weight, old.classifier.weight)
        assert torch.equal(same.ngrams.weight, old.ngrams.weight)
        assert not any("new" in message for message in messages())
        new = build_for("xy", "new", model_name_or_path=str(tmp_path / "old"))
        assert torch.equal(new.model.rnn.weight_hh_l0, old.model.rnn.weight_hh_l0)
        assert not torch.equal(new.classifier.weight, old.classifier.weight)
        assert not new.ngrams.weight.any()
        assert any(message.startswith("The classifier and the n-grams are new") for message in messages())

    def test_new_parts_of_a_head_are_said_in_one_line_each(self, make, trained, caplog):
        logging.enable_propagation()
        make(TAG, model_name_or_path=str(trained[CLASSIFY]), config={"use_crf": True})
        logging.disable_propagation()
        assert [message for message in caplog.messages if "the tags are in IOB2" not in message] == [
            "The classifier and the conditional random field are new: "
            f"{trained[CLASSIFY]} has none for these labels and options.",
            f"The n-grams are left out: {trained[CLASSIFY]} has weights of a kind that this model does not use.",
        ]

    def test_the_type_of_the_weights_stays(self, make, copied):
        folder = copied()
        load(str(folder))[0].to(torch.bfloat16).save_pretrained(folder)
        assert make(model_name_or_path=str(folder), config={})[1].dtype == torch.bfloat16

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_weights_without_sense_are_refused(self, refusal, copied, value):
        folder = copied()
        weights = load_file(folder / "model.safetensors")
        weights["model.rnn.weight_hh_l0"][0, 0] = value
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        message = refusal(model_name_or_path=str(folder), config={})
        assert "hold numbers that are not finite, in model.rnn.weight_hh_l0" in message

    def test_the_characters_of_the_vocabulary_stay(self, make, trained):
        _, model = make(TAG, model_name_or_path=str(trained[CLASSIFY]), config={})
        saved = load_file(trained[CLASSIFY] / "model.safetensors")
        assert torch.equal(
            model.model.embeddings.character_cnn.character_ids, saved["model.embeddings.character_cnn.character_ids"]
        )
        tokenizer = AutoTokenizer.from_pretrained(trained[CLASSIFY])
        starts = [not token.startswith("##") for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))]
        assert model.word_starts.tolist()[3:] == starts[3:]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vectors_vocab_size": 0}, "--vectors_vocab_size must be at least 1, got 0."),
        ({"vectors_vocab_size": 5}, "--vectors_vocab_size needs --vectors: name some, or leave it out."),
        ({"mimick_epochs": 3}, "--mimick_epochs needs --vectors to learn from: name some, or leave it out."),
        ({"mimick_epochs": -1, "vectors": "a.txt"}, "--mimick_epochs must be at least 0, got -1."),
        ({"vectors": "a.txt", "vectors_vocab_size": -1}, "--vectors_vocab_size must be at least 1, got -1."),
        ({"vectors": "nowhere.txt"}, "--vectors nowhere.txt is neither a file nor an installed package nor"),
        ({"vectors": "a.txt", "tokenizer_kind": "bpe"}, "--vectors are of whole words, which a tokenizer of the kind"),
        ({"vectors": "a.txt", "model_name_or_path": "x"}, "--vectors is for new models, and so is --mimick_epochs"),
        ({"tokenizer_name": "a", "model_name_or_path": "x"}, "--tokenizer_name is for new models: the checkpoint of"),
        ({"vocab_size": 2}, "--vocab_size must be a whole number from 4 to"),
        ({"min_frequency": 0}, "--min_frequency must be a whole number from 1 to"),
        ({"tokenizer_kind": "word", "min_frequency": 99}, "No word of the corpus occurs 99 times"),
    ],
)  # fmt: skip
def test_refused_options(refusal, arguments, message):
    assert refusal(**arguments).startswith(message)


@pytest.mark.parametrize(
    ("lowercase", "said"),
    [
        (False, "2 vectors serve 6 entries of the vocabulary, with forms in capitals; 20%"),
        (True, "2 vectors serve 2 entries of the vocabulary; 20%"),
    ],
)
def test_what_vectors_serve_is_said(make, tmp_path, caplog, lowercase, said):
    (tmp_path / "vectors.txt").write_text("ham 1 2\nword 3 4\n")
    logging.enable_propagation()
    make(vectors=str(tmp_path / "vectors.txt"), tokenizer_kind="word", lowercase=lowercase)
    logging.disable_propagation()
    assert caplog.messages == [
        f"{tmp_path / 'vectors.txt'}: {said} of the words that it has from the training data have one."
    ]


class TestChoiceOfATokenizer:
    THAI = ("วันนี้อากาศดีมากผมไปตลาดกับเพื่อนและซื้อผลไม้หลายอย่างกลับบ้าน", "เธอรักการอ่านหนังสือและชอบเดินเล่นในสวนสาธารณะทุกเช้าวันหยุด")

    def build(self, folder, texts, **arguments):
        rows = [{"text": text, "label": label} for text, label in zip(texts * 4, "ab" * 4, strict=True)]
        (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        file = str(folder / "texts.jsonl")
        corpus = load_corpus(DataArguments(train_file=file, validation_file=file), CLASSIFY)
        tokenizer, _ = build(corpus, TokenizerArguments(**arguments), ConfigArguments(**LITTLE), folder)
        return json.loads(tokenizer.backend_tokenizer.to_str())["model"]["type"]

    def test_texts_without_spaces(self, tmp_path, messages):
        assert self.build(tmp_path, [text * 20 for text in self.THAI]) == "Unigram"
        assert messages() == ["The texts have no spaces between words: --tokenizer_kind unigram is chosen."]

    def test_others(self, tmp_path, messages):
        assert self.build(tmp_path, ["to be or not", "that is it"]) == "WordPiece"
        assert messages() == []

    def test_what_is_given(self, tmp_path, messages):
        assert self.build(tmp_path, list(self.THAI), tokenizer_kind="wordpiece") == "WordPiece"
        assert messages() == []

    def test_unknown_words_are_noticed(self, tmp_path, messages):
        texts = [f"to be {word}" for word in self.THAI]
        assert self.build(tmp_path, texts, tokenizer_kind="word", min_frequency=8) == "WordLevel"
        assert messages()[0].startswith("33% of the tokens of the training data are unknown to the tokenizer, and tell")
