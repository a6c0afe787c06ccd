"""`handler.py` of an exported repository answers as Inference Endpoints ask, in a process without the package."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from strategies import generator, little_config
from transformers import pipeline

from rnn_hf import RnnForSequenceClassification, RnnForTokenClassification, train_tokenizer
from rnn_hf.export.folder import export
from rnn_hf.export.handler import EndpointHandler
from rnn_hf.inference.loading import load
from rnn_hf.text.characters import set_vocabulary

SENTENCES = [["Ann", "Lee", "left", "Oslo", ",", "in", "May", "."], ["서울", "에서", "Ann", "met", "Lee", "."]] * 3
TEXTS = ["Ann Lee left Oslo, in May.", " 서울 에서  Ann met Lee.", "Lee", "", "   "]
IOB2 = ["O", "B-PER", "I-PER", "B-L-x", "I-L-x"]


def save(folder, model_class, names, **options):
    """Save a random model, and export it into its folder."""
    is_tagger = model_class is RnnForTokenClassification
    corpus = SENTENCES if is_tagger else [" ".join(words) for words in SENTENCES]
    tokenizer = train_tokenizer(corpus, vocab_size=60, min_frequency=1, is_split_into_words=is_tagger)
    if not is_tagger:
        tokenizer.model_max_length = 6
    model = model_class(little_config(vocab_size=len(tokenizer), id2label=dict(enumerate(names)), **options)).eval()
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=generator(number)) * 0.6)
    set_vocabulary(model, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    export(str(folder), folder, int8=True)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = tmp_path_factory.mktemp("handlers")
    classifier, tagger = RnnForSequenceClassification, RnnForTokenClassification
    return {
        "classifier": save(made / "classifier", classifier, "ABC", temperature=1.5),
        "several": save(made / "several", classifier, "ABC", problem_type="multi_label_classification"),
        "regression": save(made / "regression", classifier, "AB", problem_type="regression"),
        "tagger": save(made / "tagger", tagger, IOB2, use_crf=True),
    }


@pytest.fixture(scope="module")
def handlers(folders):
    return {name: EndpointHandler(str(folder)) for name, folder in folders.items()}


# What the container of an endpoint does: imports the file by its path, and calls the class.
IN_A_CONTAINER = """
import importlib.util, json, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("rnn_hf", "torch", "transformers"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
spec = importlib.util.spec_from_file_location("handler", sys.argv[1] + "/handler.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
handler = module.EndpointHandler(sys.argv[1])
print(json.dumps([handler(json.loads(line)) for line in sys.stdin]))
"""


@pytest.mark.parametrize("name", ["classifier", "several", "regression", "tagger"])
def test_it_answers_in_a_process_without_the_package(folders, handlers, name, tmp_path):
    requests = [{"inputs": text} for text in TEXTS] + [{"inputs": TEXTS, "parameters": {}}]
    result = subprocess.run(
        [sys.executable, "-c", IN_A_CONTAINER, str(folders[name])],
        input="\n".join(map(json.dumps, requests)),
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == [handlers[name](request) for request in requests]
    assert (folders[name] / "requirements.txt").read_text().split() == ["numpy", "onnxruntime", "tokenizers"]


@pytest.mark.parametrize("name", ["classifier", "several", "regression"])
@pytest.mark.parametrize("top_k", [1, 2, None])
def test_a_classifier_answers_as_the_pipeline(folders, handlers, name, top_k):
    model, tokenizer = load(str(folders[name]))
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer)
    handler = handlers[name]
    for inputs in [*TEXTS, TEXTS]:
        expected = classify(inputs, top_k=top_k, truncation=True)
        answer = handler({"inputs": inputs, "parameters": {"top_k": top_k}})
        for one, other in zip(flat(answer), flat(expected), strict=True):
            assert one == {**other, "score": pytest.approx(other["score"], abs=1e-5)}


def flat(answer):
    return [one for part in answer for one in (part if isinstance(part, list) else [part])]


def test_without_parameters_a_classifier_gives_the_best_label_or_all_of_several(handlers):
    assert [
        len(one) for one in (handlers["classifier"]({"inputs": "Ann"}), handlers["several"]({"inputs": "Ann"}))
    ] == [
        1,
        3,
    ]


def test_a_tagger_gives_words_and_spans_with_their_positions(folders, handlers):
    model, tokenizer = load(str(folders["tagger"]))
    for text in TEXTS:
        encoding = tokenizer(text, return_offsets_mapping=True)
        with torch.no_grad():
            logits = model(torch.tensor([encoding["input_ids"]])).logits[0]
        firsts = {word: index for index, word in reversed(list(enumerate(encoding.word_ids()))) if word is not None}
        names = [model.config.id2label[int(logits[firsts[word]].argmax())] for word in sorted(firsts)]
        words = handlers["tagger"]({"inputs": text, "parameters": {"ignore_labels": []}})
        assert [one["entity"] for one in words] == names
        assert [one["word"] for one in words] == [text[one["start"] : one["end"]] for one in words]
        assert "".join(one["word"] for one in words) == "".join(text.split())
        kept = handlers["tagger"]({"inputs": text})
        assert kept == [one for one in words if one["entity"] != "O"]
        spans = handlers["tagger"]({"inputs": text, "parameters": {"aggregation_strategy": "simple"}})
        assert [one["word"] for one in spans] == [text[one["start"] : one["end"]] for one in spans]
        assert len(spans) == sum(one["entity"].startswith("B-") for one in words)  # the CRF allows no other beginning
        assert {one["entity_group"] for one in spans} <= {"PER", "L-x"}


def test_long_lists_are_cut_into_batches(handlers):
    texts = ["Ann Lee left " * 50, "Lee"] * 400
    handler = handlers["tagger"]
    long, short = handler({"inputs": texts[0]}), handler({"inputs": "Lee"})
    answer = handler({"inputs": texts})
    assert [len(one) for one in answer] == [len(long), len(short)] * 400
    scores = np.array([one["score"] for one in answer[-2]])
    np.testing.assert_allclose(scores, [one["score"] for one in long], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "request_", "said"),
    [
        ("classifier", {}, '"inputs"'),
        ("classifier", ["a"], '"inputs"'),
        ("classifier", {"inputs": 3}, "a text or a list of texts"),
        ("tagger", {"inputs": [["a"]]}, "a text or a list of texts"),
        ("classifier", {"inputs": "a", "parameters": {"top_k": 0}}, "top_k"),
        ("classifier", {"inputs": "a", "parameters": {"top_k": True}}, "top_k"),
        ("classifier", {"inputs": "a", "parameters": {"ignore_labels": []}}, "top_k alone"),
        ("tagger", {"inputs": "a", "parameters": {"aggregation_strategy": "first"}}, '"none" or "simple"'),
        ("tagger", {"inputs": "a", "parameters": {"ignore_labels": "O"}}, "list of labels"),
        ("tagger", {"inputs": ["a", "\ud800"]}, "Text 1 holds a lone surrogate"),
    ],
)
def test_a_bad_request_gets_a_clear_error(handlers, name, request_, said):
    with pytest.raises(ValueError, match=said):
        handlers[name](request_)


def test_a_missing_graph_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds no tokenizer.json: export"):
        EndpointHandler(str(tmp_path))


def test_a_handler_of_the_user_s_own_stays(folders, tmp_path):
    (tmp_path / "handler.py").write_text("# mine\n")
    export(str(folders["tagger"]), tmp_path)
    assert (tmp_path / "handler.py").read_text() == "# mine\n"
    assert not (tmp_path / "requirements.txt").exists()


def test_a_classifier_names_the_tokens_that_text_embeddings_inference_reads(folders, tmp_path):
    folder = folders["classifier"]
    config = json.loads((folder / "config.json").read_text())
    assert config["max_position_embeddings"] == 6
    assert config["architectures"][0].endswith("Classification")
    assert config["id2label"] == {"0": "A", "1": "B", "2": "C"}
    assert "auto_map" in config
    load(str(folder))
    export(str(folder), tmp_path)
    other = json.loads((tmp_path / "config.json").read_text())
    assert other["max_position_embeddings"] == 6
    assert "auto_map" not in other
    assert "max_position_embeddings" not in json.loads((folders["tagger"] / "config.json").read_text())
