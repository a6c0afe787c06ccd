"""A static Space: its folder, and its page in headless Chromium, which shows what Python predicts."""

import csv
import io
import json
from pathlib import Path

import onnxruntime
import pytest
import torch
import yaml
from hub_client import Client
from hub_server import HubServer
from javascript import MODULES, can_browse, run_script, serve_files
from strategies import generator, little_config, set_random_ngrams

from rnn_hf import RnnForSequenceClassification, RnnForTokenClassification, train_tokenizer
from rnn_hf.commands.space import main
from rnn_hf.inference.loading import load
from rnn_hf.inference.predictor import predict
from rnn_hf.sharing.space import LIBRARIES, make_space, space_files
from rnn_hf.text.characters import set_vocabulary
from rnn_hf.text.encoding import encode_texts, encode_words
from rnn_hf.text.raw_text import split_raw_text

# What the page imports.
PACKAGES = [package for package, _, _ in LIBRARIES.values()]

TEXTS = [
    "The striker scored twice, in the cup final.",
    "이 영화는 정말 재미있었다!",
    "Dr. Lee (old) didn't win...",
    "shares <unk> fell 🙂 today\nand a second line",
    "",
]
SENTENCES = [
    [("東京", "B-LOC"), ("で", "O"), ("本", "O"), ("を", "O"), ("読み", "O"), ("まし", "O"), ("た", "O"), ("。", "O")],
    [("Ann", "B-PER"), ("Lee", "I-PER"), ("left", "O"), (",", "O"), ("서울", "B-LOC"), (".", "O")],
] * 3
TAGGED = ["東京 で 本 を 読み まし た 。", "Ann Lee left, 서울.", "Lee", "", "Ann\tleft\n東京 ."]

CARD = """---
language: ja
license: mit
widget:
- text: 東京 で 本 を 読み まし た 。
---

# A *small* tagger\\_1

<!-- Written by rnn_hf. Remove this line, and the section is yours: it will be left alone. -->

It finds [places](https://example.org) and
people.

## Intended use and limits

- Of `B-LOC` it knows little.
- It is random.
"""


def save(folder, model, tokenizer):
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=generator(number)) * 0.5)
    set_vocabulary(model, tokenizer)
    if getattr(model, "ngrams", None) is not None:
        set_random_ngrams(model.ngrams, 0, random_entries=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of a classifier and a tagger; the tagger has a model card."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = train_tokenizer(TEXTS * 2, vocab_size=150, min_frequency=1)
    tokenizer.model_max_length = 12
    options = {"vocab_size": len(tokenizer), "ngram_buckets": 500, "temperature": 1.3, "pooling": "max"}
    classifier = RnnForSequenceClassification(little_config(id2label=dict(enumerate("ABCD")), **options))
    words = [[word for word, _ in sentence] for sentence in SENTENCES]
    names = sorted({tag for sentence in SENTENCES for _, tag in sentence})
    of_words = train_tokenizer(words, vocab_size=60, min_frequency=1, is_split_into_words=True)
    options = {"vocab_size": len(of_words), "use_crf": True, "num_lexical_features": 200}
    tagger = RnnForTokenClassification(little_config(id2label=dict(enumerate(names)), **options))
    folders = [save(folder / "topics", classifier, tokenizer), save(folder / "places", tagger, of_words)]
    (folder / "places" / "README.md").write_text(CARD, encoding="utf-8")
    return folders


@pytest.fixture(scope="module")
def space(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("space") / "demo"
    make_space(models, folder, title="Two: models", libraries=MODULES if can_browse(*PACKAGES) else None)
    return folder


def test_the_folder_holds_a_static_space(space):
    text = (space / "README.md").read_text(encoding="utf-8")
    data = yaml.safe_load(text.split("---")[1])
    assert (data["sdk"], data["title"]) == ("static", "Two: models")
    assert "license" not in data  # that of one model is not known
    files = space_files(space)
    on_disk = {path.relative_to(space).as_posix() for path in space.rglob("*") if path.is_file()}
    assert set(files) == on_disk
    assert {"index.html", "models/topics/onnx/model_quantized.onnx", "models/places/tokenizer.json"} <= on_disk


def test_the_page_says_what_the_card_says(space):
    topics, places = json.loads((space / "space.json").read_text(encoding="utf-8"))["models"]
    assert places["title"] == "A small tagger_1"
    assert places["summary"] == "It finds places and people."
    assert places["limits"] == ["Of B-LOC it knows little.", "It is random."]
    assert (places["examples"], places["language"]) == ([TAGGED[0]], "ja")
    assert places["segments"]
    assert topics["title"] == "topics"
    assert topics["limits"]


def test_without_a_copy_the_libraries_come_from_their_usual_host(models, tmp_path, capsys):
    main([models[1], str(tmp_path / "space")])
    assert "models/places/config.json" in capsys.readouterr().out
    settings = json.loads((tmp_path / "space" / "space.json").read_text(encoding="utf-8"))
    assert set(settings["libraries"]) == set(LIBRARIES)
    assert all(url.startswith("https://cdn.jsdelivr.net/npm/") for url in settings["libraries"].values())
    assert yaml.safe_load((tmp_path / "space" / "README.md").read_text().split("---")[1])["license"] == "mit"
    (tmp_path / "space" / "libraries").mkdir()  # of an earlier one, say
    main([models[0], str(tmp_path / "space")])  # once more, with another model
    assert not any(name.startswith(("libraries/", "models/places")) for name in space_files(tmp_path / "space"))


def test_an_attempt_that_failed_can_be_repeated(models, tmp_path):
    with pytest.raises(ValueError, match="holds no model"):
        make_space([models[0], str(tmp_path / "missing")], tmp_path / "space")
    assert make_space(models[:1], tmp_path / "space")


def test_other_folders_and_missing_libraries_are_refused(models, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="something else than a Space"):
        make_space(models[:1], tmp_path)
    with pytest.raises(ValueError, match=r"tokenizers.min.mjs is missing: install it with `npm install"):
        make_space(models[:1], tmp_path / "space", libraries=tmp_path)
    with pytest.raises(ValueError, match="different names, got topics, topics"):
        make_space([models[0], models[0]], tmp_path / "space")
    with pytest.raises(ValueError, match="holds no Space"):
        space_files(tmp_path)
    assert not (tmp_path / "space").exists()


@pytest.fixture(scope="module")
def page(space, tmp_path_factory):
    """What the page shows of the texts."""
    with serve_files(space) as url:
        request = {
            "profile": str(tmp_path_factory.mktemp("profile")),
            "url": url,
            "models": [
                {"folder": "models/topics", "texts": TEXTS, "explained": TEXTS[0]},
                {"folder": "models/places", "texts": TAGGED, "explained": TAGGED[1]},
            ],
            "lines": ["=1+1, a", "東京 で", 'Ann "Lee"'],
        }
        script = Path(__file__).with_name("space_page.mjs")
        return run_script(script, request, "playwright-core", *PACKAGES, browse=True)


def logits_of(space, name, ids):
    """Run the int8 graph of a Space in Python."""
    session = onnxruntime.InferenceSession(str(space / "models" / name / "onnx" / "model_quantized.onnx"))
    feeds = {"input_ids": torch.tensor([ids]).numpy(), "attention_mask": torch.ones(1, len(ids)).long().numpy()}
    return torch.from_numpy(session.run(["logits"], feeds)[0])[0]


def test_the_page_asks_no_other_host_and_reports_no_error(page, space):
    assert len(set(page["hosts"])) == 1
    assert page["errors"] == []


def test_a_classifier_s_bars_are_python_s_probabilities(page, space, models):
    model, tokenizer = load(models[0])
    expected = list(predict(model, tokenizer, TEXTS))
    for text, shown, best in zip(TEXTS, page["models"][0]["predictions"], expected, strict=True):
        (ids,) = encode_texts(tokenizer, [text], tokenizer.model_max_length)
        scores = logits_of(space, "topics", ids).softmax(dim=-1)
        order = scores.argsort(descending=True, stable=True).tolist()
        assert shown["bars"] == [model.config.label_names[index] for index in order]
        assert shown["bars"][0] == best["label"]
        given = [float(value.removesuffix(" %")) / 100 for value in shown["values"]]
        assert given == pytest.approx([float(scores[index]) for index in order], abs=2e-3)


def test_a_tagger_s_words_have_python_s_labels(page, models):
    model, tokenizer = load(models[1])
    words = [split_raw_text(tokenizer, text) for text in TAGGED]
    for shown, expected in zip(page["models"][1]["predictions"], predict(model, tokenizer, words), strict=True):
        assert [word for word, _, _ in shown["words"]] == expected["tokens"]
        assert [label for _, label, _ in shown["words"]] == expected["tags"]


def log_odds(logits, label):
    others = torch.cat([logits[:label], logits[label + 1 :]])
    return float(logits[label] - others.logsumexp(dim=-1))


def test_a_text_is_explained_by_leaving_its_words_out(page, space, models):
    _, tokenizer = load(models[0])

    def logits(text):
        return logits_of(space, "topics", encode_texts(tokenizer, [text], tokenizer.model_max_length)[0])

    text, whole = TEXTS[0], logits(TEXTS[0])
    best, position = int(whole.argmax()), 0
    for word, moved in page["models"][0]["moved"]:
        start = text.index(word, position)
        position = start + len(word)
        expected = log_odds(whole, best) - log_odds(logits(text[:start] + text[position:]), best)
        assert float(moved.replace("−", "-")) == pytest.approx(expected, abs=0.05)  # noqa: RUF001
    assert [word for word, _ in page["models"][0]["moved"]] == [*text[:-1].replace(",", " ,").split(), "."]


def test_a_word_s_label_is_explained_by_the_other_words(page, space, models):
    _, tokenizer = load(models[1])
    words = split_raw_text(tokenizer, TAGGED[1])

    def logits(sentence, word):
        (ids,), (firsts,) = encode_words(tokenizer, [sentence])
        return logits_of(space, "places", ids)[firsts[word]]

    whole = logits(words, 0)
    moved = page["models"][1]["moved"]
    assert [word for word, _ in moved] == words
    for position, (_, change) in enumerate(moved[1:], start=1):
        without = logits(words[:position] + words[position + 1 :], 0)
        label = int(whole.argmax())
        expected = log_odds(whole, label) - log_odds(without, label)
        assert float(change.replace("−", "-")) == pytest.approx(expected, abs=0.05)  # noqa: RUF001
    assert moved[0][1] == "+0.00"


def test_many_lines_give_a_table(page):
    for found, width in zip(page["models"], (3, 2), strict=True):
        rows = list(csv.reader(io.StringIO(found["batch"]["csv"].removeprefix("\ufeff"))))
        assert len(rows) == 4
        assert {len(row) for row in rows} == {width}
        assert rows[1][0] == "'=1+1, a"  # no formula
        escaped = [[f"'{cell}" if cell.startswith("=") else cell for cell in row] for row in found["batch"]["rows"]]
        assert rows[1:] == escaped
        assert rows[3][0] == 'Ann "Lee"'


def test_the_page_works_with_the_keyboard_on_a_phone_and_in_the_dark(page):
    assert page["reached"][-1] == "text"
    assert page["models"][1]["chosen"] == page["models"][1]["focused"] == 1
    assert page["overflow"] <= 0
    assert page["light"] != page["dark"]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with HubServer(tmp_path_factory.mktemp("hub")) as hub:
        hub.add_user("alice")
        yield hub


def test_a_space_is_pushed_as_one_commit(hub, models, tmp_path):
    folder = tmp_path / "space"
    make_space(models[1:], folder)
    (folder / "notes.txt").write_text("stays here")
    client = Client(tmp_path / "home", HF_ENDPOINT=hub.url, HF_HUB_DISABLE_XET="1")
    push = f"run_script('push_space.py', {str(folder)!r}, 'alice/demo'"
    outcome = client.attempt(f"{push}, '--dry_run')", "hf_alice_write")
    assert "models/places/onnx/model_quantized.onnx" in outcome.output
    assert "alice/demo" not in hub.repos
    outcome = client.attempt(f"{push})", "hf_alice_write")
    assert outcome.error is None
    assert hub.titles("alice/demo") == ["Upload space", "initial commit"]
    assert set(hub.files("alice/demo")) == {*space_files(folder), ".gitattributes"}
    assert "POST /api/spaces/alice/demo/commit/main" in hub.requests
    assert "Nothing has changed" in client.attempt(f"{push})", "hf_alice_write").output
    (folder / "style.css").write_text(f"/* hf_{'a' * 30} */")
    assert "holds a token" in client.attempt(f"{push})", "hf_alice_write").error
    (folder / "index.js").unlink()
    assert "lacks index.js" in client.attempt(f"{push})", "hf_alice_write").error
    client.close()
