"""transformers.js runs exported models under Node, and gives what Python gives."""

import json
import math
import random
from pathlib import Path

import pytest
import torch
from javascript import MODULES, run_script, serve_files
from strategies import CELLS, POOLINGS, generator, little_config, set_random_ngrams

from rnn_hf import RnnForSequenceClassification, RnnForTokenClassification, train_tokenizer
from rnn_hf.commands.export import main
from rnn_hf.export.browser import BROWSER_FILES, export_for_browser
from rnn_hf.export.runtime import load_session
from rnn_hf.text.characters import collect_characters, set_vocabulary
from rnn_hf.text.encoding import encode_texts, max_length_of

TEXTS = {
    "en": [
        "The striker scored twice in the cup final.",
        "Dr. Lee's (old) U.S. team didn't win -- sorry ...",
        "shares fell today, the bank raised interest rates",
        "ΟΔΟΣ ΣΟΦΟΣ and ΜΈΓΑΣ Σ, İstanbul İ",
        "a\u0301 cafe\u0301\u00a0café\u0085new\u2028line\ttab\r\nend",
        "<unk> in a text </s> and <pad>, 🙂 👩‍👩‍👧 \ufeffmark",
        "",
        "   ",
    ],
    "ko": [
        "이 영화는 정말 재미있었다. 배우들의 연기도 좋았다!",
        "지루하고 길기만 한 영화, 다시는 안 본다.",
        "서울에서 부산까지 KTX로 2시간 30분",
        "ㅋㅋㅋ 최고의 영화 ~ 강추!!",
    ],
    "ja": [
        "東京 で 本 を 読み まし た 。",
        "「 吾輩 は 猫 で ある 」 と 言っ た 。",
        "東京で本を読みました。",
        "カナ ｶﾅ が か\u3099",
    ],
}
TAGS = {
    "plain": ["NOUN", "VERB", "X"],
    "iob2": ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"],
    "iobes": ["O", "B-X", "I-X", "E-X", "S-X"],
}
CRF = {"use_crf": True}
WORDS = {"subword_pooling": "mean"}
CASES = [
    ("classifier", "word", "en", {"ngram_buckets": 700, "max_length": 8}),
    ("classifier", "wordpiece", "en", {"ngram_buckets": 700, "temperature": 1.7, "char_cnn": True}),
    ("classifier", "wordpiece", "ko", {"ngram_buckets": 700, "lowercase": True, "max_length": 5}),
    ("classifier", "bpe", "ko", {"char_cnn": True, "problem_type": "multi_label_classification"}),
    ("classifier", "bpe", "en", {"max_length": 20, "temperature": 0.6}),
    ("classifier", "unigram", "ko", {"ngram_buckets": 700}),
    ("classifier", "unigram", "ja", {"max_length": 4}),
    ("classifier", "word", "ja", {"lowercase": True, "problem_type": "multi_label_classification"}),
    ("tagger", "word", "en", {"tags": "plain", "num_lexical_features": 300}),
    ("tagger", "wordpiece", "en", {"tags": "iob2", **CRF, **WORDS, "num_lexical_features": 300, "char_cnn": True}),
    ("tagger", "wordpiece", "ko", {"tags": "iobes", **CRF, "lowercase": True}),
    ("tagger", "wordpiece", "ja", {"tags": "plain", **CRF, "char_cnn": True}),
    ("tagger", "bpe", "en", {"tags": "iob2", **CRF, **WORDS, "lowercase": True}),
    ("tagger", "bpe", "ja", {"tags": "plain", "num_lexical_features": 300}),
    ("tagger", "unigram", "en", {"tags": "plain", "char_cnn": True}),
    ("tagger", "unigram", "ko", {"tags": "iob2", **CRF}),
]


def split(text):
    """Split a text so that punctuation stands apart."""
    return [part for word in text.split() for part in (word[:-1], word[-1]) if part] if text.strip() else []


def make(number, head, kind, language, options):
    """Make a random model with its tokenizer."""
    options, source = dict(options), random.Random(number)
    corpus = [text for text in TEXTS[language] if text.strip()] * 3
    lowercase, max_length = options.pop("lowercase", False), options.pop("max_length", None)
    char_cnn, names = options.pop("char_cnn", False), TAGS.get(options.pop("tags", ""), ["A", "B", "C", "D"])
    is_tagger = head == "tagger"
    tokenizer = train_tokenizer(
        map(split, corpus) if is_tagger else corpus,
        kind,
        vocab_size=320 if kind == "bpe" else 150,
        min_frequency=1,
        lowercase=lowercase,
        is_split_into_words=is_tagger,
    )
    if max_length is not None:
        tokenizer.model_max_length = max_length
    config = little_config(
        vocab_size=len(tokenizer),
        id2label=dict(enumerate(names)),
        cell_type=CELLS[number % len(CELLS)],
        pooling=POOLINGS[number // 2 % len(POOLINGS)],
        bidirectional=source.random() < 0.7,
        num_hidden_layers=source.randint(1, 2),
        characters=collect_characters(tokenizer) if char_cnn else None,
        char_embedding_size=4,
        char_num_filters=3,
        unk_token_id=tokenizer.unk_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **options,
    )
    model = (RnnForTokenClassification if is_tagger else RnnForSequenceClassification)(config).eval()
    numbers = generator(number)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=numbers) * 0.5)
    set_vocabulary(model, tokenizer)
    if getattr(model, "ngrams", None) is not None:
        set_random_ngrams(model.ngrams, number, random_entries=False)
    return model, tokenizer


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Models, their tokenizers, and the folders for browsers."""
    models = []
    for number, case in enumerate(CASES):
        model, tokenizer = make(number, *case)
        folder = tmp_path_factory.mktemp(f"{case[1]}_{case[0]}")
        model.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
        files = export_for_browser(str(folder / "model"), folder / "browser")
        assert list(files) == list(BROWSER_FILES)
        models.append((model, tokenizer, folder / "browser"))
    return models


def options_of(model):
    return {"top_k": None} if type(model) is RnnForSequenceClassification else {"ignore_labels": []}


def runs_of(exported, dtype=None):
    return [
        {
            "folder": str(folder),
            "task": json.loads((folder / "config.json").read_text())["rnn_hf"]["task"],
            "dtype": dtype,
            "texts": TEXTS[language],
            "options": options_of(model),
        }
        for (model, _, folder), (_, _, language, _) in zip(exported, CASES, strict=True)
    ]


def run_in_node(runs):
    """Let the pipelines of transformers.js run."""
    return run_script(Path(__file__).with_name("browser_pipeline.mjs"), {"runs": runs}, "@huggingface/transformers")


@pytest.fixture(scope="module")
def in_node(exported):
    return run_in_node(runs_of(exported))


def assert_same_output(model, tokenizer, ids, logits, output):
    """Compare what a pipeline gave with logits."""
    names = model.config.label_names
    if type(model) is RnnForSequenceClassification:
        several = model.config.problem_type == "multi_label_classification"
        scores = logits.sigmoid() if several else logits.softmax(dim=-1)
        assert {one["label"]: one["score"] for one in output} == pytest.approx(
            dict(zip(names, scores.tolist(), strict=True)), abs=1e-4
        )
        assert [one["score"] for one in output] == sorted((one["score"] for one in output), reverse=True)
        return
    scores, best = logits.softmax(dim=-1).max(dim=-1)
    for one in output:
        assert one["entity"] == names[best[one["index"]]]
        assert math.isclose(one["score"], float(scores[one["index"]]), abs_tol=1e-4)
    shown = [index for index, token in enumerate(ids) if tokenizer.decode([token], skip_special_tokens=True).strip()]
    assert set(shown) <= {one["index"] for one in output}


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: "-".join(CASES[number][:3]))
def test_ids_labels_and_scores_are_those_of_python(exported, in_node, number):
    (model, tokenizer, _), found = exported[number], in_node[number]
    texts = TEXTS[CASES[number][2]]
    ids = encode_texts(tokenizer, texts, max_length_of(tokenizer) or 10**6)
    last = tokenizer.eos_token_id
    for text, expected, given, output in zip(texts, ids, found["ids"], found["outputs"], strict=True):
        # Of a text that is cut, the graph reads the end.
        assert [*given[:-1], last] == expected, text
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([expected])).logits[0]
        assert_same_output(model, tokenizer, expected, logits, output)


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: "-".join(CASES[number][:3]))
def test_a_batch_gives_what_its_texts_give(exported, in_node, number):
    for alone, together in zip(in_node[number]["outputs"], in_node[number]["batched"], strict=True):
        assert len(alone) == len(together)
        for one, other in zip(alone, together, strict=True):
            assert one == {**other, "score": pytest.approx(other["score"], abs=1e-5)}


def assert_same_as_int8(exported, number, outputs):
    """Compare what pipelines gave with the int8 graph in Python."""
    (model, tokenizer, folder), texts = exported[number], TEXTS[CASES[number][2]]
    session = load_session(folder, file_name="onnx/model_quantized.onnx")
    for row, output in zip(encode_texts(tokenizer, texts, max_length_of(tokenizer) or 10**6), outputs, strict=True):
        feeds = {"input_ids": [row], "attention_mask": [[1] * len(row)]}
        arrays = {name: torch.tensor(values).numpy() for name, values in feeds.items()}
        logits = torch.from_numpy(session.run(["logits"], arrays)[0])[0]
        assert_same_output(model, tokenizer, row, logits, output)


def test_int8_graphs_give_what_onnxruntime_gives_in_python(exported):
    for number, found in enumerate(run_in_node(runs_of(exported, dtype="q8"))):
        assert_same_as_int8(exported, number, found["outputs"])


def test_a_browser_runs_the_int8_graphs_by_default(exported, tmp_path):
    (tmp_path / "index.html").write_text("<!doctype html>")
    (tmp_path / "modules").symlink_to(MODULES or tmp_path)
    (tmp_path / "models").mkdir()
    numbers, runs = (1, 9, 10), runs_of(exported)
    for number in numbers:
        (tmp_path / "models" / str(number)).symlink_to(exported[number][2])
    with serve_files(tmp_path) as url:
        request = {
            "url": url,
            "profile": str(tmp_path / "profile"),
            "runs": [{**runs[number], "name": str(number)} for number in numbers],
        }
        packages = ("@huggingface/transformers", "playwright-core")
        found = run_script(Path(__file__).with_name("browser_page.mjs"), request, *packages, browse=True)
    assert all(one.startswith(url) for one in found["requests"] if not one.startswith(("blob:", "data:")))
    assert sum(one.endswith("onnx/model_quantized.onnx") for one in found["requests"]) == len(numbers)
    outputs = iter(found["outputs"])
    for number in numbers:
        assert_same_as_int8(exported, number, [next(outputs) for _ in TEXTS[CASES[number][2]]])


def test_the_graph_ends_a_text_that_is_cut(exported):
    model, tokenizer, folder = exported[0]
    session = load_session(folder)
    assert max_length_of(tokenizer) == 8
    uncut = tokenizer("scored twice in the cup final scored twice in the cup", add_special_tokens=False)["input_ids"]
    assert len(uncut) > 8
    mask = torch.ones(1, 8, dtype=torch.long)
    (logits,) = session.run(["logits"], {"input_ids": [uncut[:8]], "attention_mask": mask.numpy()})
    with torch.no_grad():
        expected = model(torch.tensor([[*uncut[:7], tokenizer.eos_token_id]])).logits
    torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=1e-5, atol=1e-5)


def test_the_model_s_own_folder_and_that_of_another_model_are_refused(exported, tmp_path):
    model = exported[0][2].with_name("model")
    with pytest.raises(ValueError, match=r"own folder.*name another"):
        export_for_browser(str(model), model)
    with pytest.raises(ValueError, match="another model"):
        export_for_browser(str(model), exported[1][2].with_name("model"))
    export_for_browser(str(model), tmp_path)
    assert list(export_for_browser(str(model), tmp_path)) == list(BROWSER_FILES)  # once more


def test_the_command_writes_the_folder(exported, tmp_path, capsys):
    main([str(exported[8][2].with_name("model")), str(tmp_path / "web"), "--browser"])
    assert "onnx/model_quantized.onnx" in capsys.readouterr().out
    config = json.loads((tmp_path / "web" / "config.json").read_text())
    assert config["architectures"] == ["BertForTokenClassification"]
    assert config["id2label"] == {"0": "NOUN", "1": "VERB", "2": "X"}
