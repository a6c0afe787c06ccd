"""What teachers predict: aligned with words, computed once, kept on disk, joined to the training data."""

import json
import math
import os
import re
import signal
import sys
from pathlib import Path

import datasets
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer, pipeline

from rnn_hf import RnnConfig, RnnForTokenClassification, train_tokenizer
from rnn_hf.data.corpus import DataArguments, load_corpus
from rnn_hf.training import soft_labels as soft_labels_module
from rnn_hf.training.options import parse_arguments
from rnn_hf.training.soft_labels import SoftLabels, soft_labels, teach
from rnn_hf.training.teacher import Teacher, load_teacher
from rnn_hf.training.train import train

CPU = torch.device("cpu")


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def label_of(words: list[str]) -> str:
    return "positive" if "good" in words else "negative"


@pytest.fixture
def texts(tmp_path, sentences) -> dict[str, str]:
    """80 texts with a label, and 40 without."""
    rows = [{"text": " ".join(words), "label": label_of(words)} for words in sentences[:80]]
    others = [{"text": " ".join(words)} for words in sentences[80:]]
    return {"train": write(tmp_path / "train.jsonl", rows), "unlabelled": write(tmp_path / "others.jsonl", others)}


@pytest.fixture
def tagged(tmp_path, sentences) -> dict[str, str]:
    """80 sentences with tags, and 40 without."""
    rows = [{"tokens": words, "tags": ["NOUN" if word in ("film", "plot") else "X" for word in words]}
            for words in sentences[:80]]  # fmt: skip
    others = [{"tokens": words} for words in sentences[80:]]
    return {"train": write(tmp_path / "train.jsonl", rows), "unlabelled": write(tmp_path / "others.jsonl", others)}


def corpus_of(files: dict[str, str], task="text-classification", **options):
    named = {f"{name}_file": file for name, file in files.items()}
    return load_corpus(DataArguments(**named, **options), task)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch, tmp_path):
    """Chunks of 16 texts, in a cache of each test's own."""
    monkeypatch.setattr(soft_labels_module, "CHUNK", 16)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def cached(tmp_path: Path) -> list[Path]:
    return sorted(tmp_path.glob("cache/rnn_hf_soft_labels/*/*"))


def test_texts_are_scored_as_pipelines_do(make_teacher, texts):
    folder = make_teacher(["negative", "positive"])
    corpus = corpus_of(texts)
    inputs = [*corpus.inputs("train"), ""]
    scores = torch.stack(load_teacher(folder, corpus, CPU).score(inputs)).softmax(-1)
    classify = pipeline("text-classification", model=folder, top_k=None)
    for one, found in zip(scores, classify(inputs), strict=True):
        expected = {label["label"]: label["score"] for label in found}
        assert one.tolist() == pytest.approx([expected["negative"], expected["positive"]], abs=1e-5)


def test_a_text_that_is_too_long_is_cut(make_teacher, texts):
    teacher = load_teacher(make_teacher(["negative", "positive"], longest=8), corpus_of(texts), CPU)
    assert torch.stack(teacher.score(["good " * 50, "good " * 100])).unique(dim=0).shape == (1, 2)


@pytest.mark.parametrize("longest", [64, 9])
def test_words_have_the_scores_of_their_first_subword(make_teacher, tagged, longest, sentences):
    folder = make_teacher(["X", "NOUN"], is_tagger=True, longest=longest)
    teacher = load_teacher(folder, corpus_of(tagged, "token-classification"), CPU)
    model = AutoModelForTokenClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    num_cut = num_parted = 0
    for words, scores in zip(sentences, teacher.score(sentences), strict=True):
        encoding = tokenizer(words, is_split_into_words=True, truncation=True, max_length=longest, return_tensors="pt")
        with torch.no_grad():
            logits = model(**encoding).logits[0]
        word_ids = encoding.word_ids(0)
        num_parted += len([one for one in word_ids if one is not None]) > len(words)
        assert scores.shape == (len(words), 2)
        for index in range(len(words)):
            if index in word_ids:
                torch.testing.assert_close(scores[index], logits[word_ids.index(index)], rtol=1e-4, atol=1e-5)
            else:
                num_cut += 1
                assert scores[index].isnan().all()
    assert num_parted > 10
    assert (num_cut > 10) == (longest == 9)


def test_a_teacher_with_a_random_field_gives_marginals(sentences, tmp_path, tagged):
    torch.manual_seed(0)
    tokenizer = train_tokenizer(sentences, kind="wordpiece", vocab_size=60, is_split_into_words=True)
    config = RnnConfig(vocab_size=len(tokenizer), hidden_size=8, use_crf=True, id2label={0: "X", 1: "NOUN"})
    model = RnnForTokenClassification(config).eval()
    model.save_pretrained(tmp_path / "own")
    tokenizer.save_pretrained(tmp_path / "own")
    teacher = load_teacher(str(tmp_path / "own"), corpus_of(tagged, "token-classification"), CPU)
    encoding = tokenizer(sentences[0], is_split_into_words=True, return_tensors="pt")
    firsts = [encoding.word_ids(0).index(index) for index in range(len(sentences[0]))]
    expected = teacher.model.marginals(**encoding)[0, firsts]
    torch.testing.assert_close(teacher.score(sentences[:3])[0].exp(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(teacher.score(sentences[:3], bf16=True)[0].exp(), expected, rtol=0, atol=0.02)


def test_scores_are_kept_and_found_again(make_teacher, texts, tmp_path, monkeypatch):
    corpus = corpus_of(texts)
    teacher = load_teacher(make_teacher(["negative", "positive"]), corpus, CPU)
    inputs = list(corpus.inputs("train"))
    first = soft_labels([teacher], corpus.label_names, inputs, len(inputs), show_progress=False)
    assert len(cached(tmp_path)) == 4
    expected = teacher.score(inputs)
    monkeypatch.setattr(Teacher, "score", None)  # it would fail
    again = soft_labels([teacher], corpus.label_names, inputs, len(inputs), show_progress=False)
    for row, score in enumerate(expected):
        assert torch.equal(first[row], again[row])
        torch.testing.assert_close(first[row], score, rtol=1e-4, atol=1e-5)


def test_what_changed_is_scored_anew(make_teacher, texts, tmp_path):
    corpus = corpus_of(texts)
    folder = make_teacher(["negative", "positive"])
    inputs = list(corpus.inputs("train"))

    def run(texts):
        teacher = load_teacher(folder, corpus, CPU)
        soft_labels([teacher], corpus.label_names, texts, len(texts), show_progress=False)
        return len(cached(tmp_path))

    assert run(inputs) == 4
    assert run([*inputs[:-1], "another text"]) == 5
    assert run([*inputs, "a text more"]) == 6
    (damaged, *_) = cached(tmp_path)
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert run(inputs) == 6
    assert damaged.stat().st_size > 100
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        model.classifier.bias += 1
    model.save_pretrained(folder)
    assert run(inputs) == 10


def test_bfloat16_gives_about_the_same_scores(make_teacher, texts):
    corpus = corpus_of(texts)
    teacher = load_teacher(make_teacher(["negative", "positive"]), corpus, CPU)
    inputs = list(corpus.inputs("train"))
    scores, others = (torch.stack(teacher.score(inputs, bf16)) for bf16 in (False, True))
    assert others.dtype == torch.float32
    assert not torch.equal(scores, others)
    torch.testing.assert_close(others.softmax(-1), scores.softmax(-1), rtol=0, atol=0.05)


def test_the_scores_of_each_precision_are_kept(make_teacher, texts, tmp_path):
    corpus = corpus_of(texts)
    teacher = load_teacher(make_teacher(["negative", "positive"]), corpus, CPU)
    inputs = list(corpus.inputs("train"))[:16]
    for bf16 in (False, True, True):
        labels = soft_labels([teacher], corpus.label_names, inputs, bf16=bf16, show_progress=False)
        assert torch.equal(labels[3], teacher.score(inputs, bf16)[3])
    assert len(cached(tmp_path)) == 2


def test_a_teacher_computes_in_the_precision_of_the_run(make_teacher, texts, tmp_path):
    options = ["--teacher", make_teacher(["positive", "negative"])]
    for precision in ("float32", "bfloat16"):
        run("text-classification", texts, tmp_path / precision, *options, "--precision", precision)
        assert {path.parent.name.endswith("-bfloat16") for path in cached(tmp_path)} == (
            {False} if precision == "float32" else {False, True}
        )


def test_a_labelling_that_was_killed_goes_on(make_teacher, texts, tmp_path):
    corpus = corpus_of(texts)
    teacher = load_teacher(make_teacher(["negative", "positive"]), corpus, CPU)
    inputs = list(corpus.inputs("train"))
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        score, calls = Teacher.score, []

        def kill_at_the_third(self, chunk, bf16):
            calls.append(chunk)
            if len(calls) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return score(self, chunk, bf16)

        Teacher.score = kill_at_the_third
        soft_labels([teacher], corpus.label_names, inputs, len(inputs), show_progress=False)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in cached(tmp_path)}
    assert len(before) == 2
    labels = soft_labels([teacher], corpus.label_names, inputs, len(inputs), show_progress=False)
    assert len(cached(tmp_path)) == 4
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    for row, score in enumerate(teacher.score(inputs)):
        torch.testing.assert_close(labels[row], score, rtol=1e-4, atol=1e-5)


def test_an_ensemble_is_the_mean_of_labels_by_name(make_teacher, texts):
    corpus = corpus_of(texts)
    teachers = [
        load_teacher(make_teacher(["negative", "positive"]), corpus, CPU),
        load_teacher(make_teacher(["positive", "negative"], seed=1), corpus, CPU),
    ]
    inputs = list(corpus.inputs("train"))[:20]
    labels = soft_labels(teachers, ["negative", "positive"], inputs, 20, show_progress=False)
    one, other = (torch.stack(teacher.score(inputs)) for teacher in teachers)
    found = torch.stack([labels[row] for row in range(20)])
    torch.testing.assert_close(found, (one + other.flip(1)) / 2, rtol=1e-4, atol=1e-5)


def test_an_ensemble_of_taggers_is_the_mean_of_probabilities(make_teacher, tagged, sentences):
    corpus = corpus_of(tagged, "token-classification")
    folders = make_teacher(["X", "NOUN"], is_tagger=True), make_teacher(["X", "NOUN"], is_tagger=True, seed=1)
    teachers = [load_teacher(folder, corpus, CPU) for folder in folders]
    labels = soft_labels(teachers, ["X", "NOUN"], sentences[:3], 3, show_progress=False)
    one, other = (teacher.score(sentences[:3])[1].softmax(-1) for teacher in teachers)
    torch.testing.assert_close(labels[1].exp(), (one + other) / 2, rtol=1e-4, atol=1e-5)


def test_texts_without_labels_join_the_training_data(make_teacher, texts, streaming):
    corpus = corpus_of(texts, streaming=streaming)
    teacher = load_teacher(make_teacher(["positive", "negative"]), corpus, CPU)
    tokenizer = train_tokenizer(corpus.training_inputs(), kind="word", min_frequency=1)
    encoded = corpus.encode(tokenizer)["train"]
    lesson = teach([teacher], corpus, encoded, tokenizer, augment=1, show_progress=False)
    assert lesson.num_rows == len(list(lesson.rows)) > 64 + 40
    solved = {tuple(row["input_ids"]): row for row in lesson.for_solving}
    split, num_rows, *_ = teach([teacher], corpus, encoded, tokenizer, show_progress=False)
    rows = list(split)
    assert len(rows) == num_rows == 64 + 40
    for row in rows:
        best = row["labels"] if row["labels"] >= 0 else row["teacher_logits"].index(max(row["teacher_logits"]))
        assert solved[tuple(row["input_ids"])]["labels"] == best
    assert sum(row["labels"] == -100 for row in rows) == 40
    expected = dict(
        zip(
            (tuple(tokenizer(text).input_ids) for text in corpus.training_inputs()),
            torch.stack(teacher.score(list(corpus.training_inputs()))).flip(1).tolist(),
            strict=True,
        )
    )
    for row in rows:
        assert row["teacher_logits"] == pytest.approx(expected[tuple(row["input_ids"])], abs=1e-4)
    if streaming:
        first = [row["labels"] == -100 for row in rows[:40]]
        assert 5 < sum(first) < 35, "they come mixed"


def test_sentences_without_labels_join_the_training_data(make_teacher, tagged, streaming):
    corpus = corpus_of(tagged, "token-classification", streaming=streaming)
    teacher = load_teacher(make_teacher(["X", "NOUN"], is_tagger=True), corpus, CPU)
    tokenizer = train_tokenizer(corpus.training_inputs(), kind="wordpiece", vocab_size=50, is_split_into_words=True)
    lesson = teach([teacher], corpus, corpus.encode(tokenizer)["train"], tokenizer, show_progress=False)
    rows, num_rows = list(lesson.rows), lesson.num_rows
    for row, solved in zip(rows, lesson.for_solving, strict=True):
        best = [-100 if math.isnan(one[0]) else one.index(max(one)) for one in row["teacher_logits"]]
        assert solved["labels"] == (best if set(row["labels"]) == {-100} else row["labels"])
    assert len(rows) == num_rows == 104
    by_ids = {tuple(tokenizer(words, is_split_into_words=True).input_ids): words for words in corpus.training_inputs()}
    order = [corpus.label_names.index(label) for label in ("X", "NOUN")]
    for row in rows:
        words = by_ids[tuple(row["input_ids"])]
        word_ids = tokenizer(words, is_split_into_words=True).word_ids()
        scores = teacher.score([words])[0]
        for position, word in enumerate(word_ids):
            found = row["teacher_logits"][position]
            if word is None or word_ids.index(word) < position:
                assert all(map(math.isnan, found))
            else:
                assert [found[index] for index in order] == pytest.approx(scores[word].tolist(), abs=1e-4)


def test_missing_labels_are_filled_for_what_is_solved(make_teacher, tmp_path, sentences):
    """Of several labels a text, those above one half."""
    rows = [{"text": " ".join(words), "label": [w for w in ("good", "bad") if w in words]} for words in sentences[:60]]
    others = [{"text": " ".join(words)} for words in sentences[60:]]
    files = {"train": write(tmp_path / "a.jsonl", rows), "unlabelled": write(tmp_path / "b.jsonl", others)}
    corpus = corpus_of(files)
    teacher = load_teacher(make_teacher(["good", "bad"], problem_type="multi_label_classification"), corpus, CPU)
    tokenizer = train_tokenizer(corpus.training_inputs(), kind="word", min_frequency=1)
    lesson = teach([teacher], corpus, corpus.encode(tokenizer)["train"], tokenizer, show_progress=False)
    for row, solved in zip(lesson.rows, lesson.for_solving, strict=True):
        best = [float(score > 0) for score in row["teacher_logits"]]
        assert solved["labels"] == (best if math.isnan(row["labels"][0]) else row["labels"])


@pytest.mark.parametrize("is_tagger", [False, True])
def test_further_texts_are_made_with_a_seed(make_teacher, texts, tmp_path, is_tagger, streaming, sentences):
    task, others = "text-classification", []
    if is_tagger:
        task = "token-classification"
        texts = {"train": write(tmp_path / "train.jsonl", [{"tokens": s, "tags": ["X", *["Y"] * (len(s) - 1)]}
                                                           for s in sentences[:80]])}  # fmt: skip
        others = ["Y", "X"]
    corpus = corpus_of(texts, task, streaming=streaming)
    teacher = load_teacher(make_teacher(others or ["positive", "negative"], is_tagger=is_tagger), corpus, CPU)
    tokenizer = train_tokenizer(corpus.training_inputs(), kind="word", min_frequency=1, is_split_into_words=is_tagger)
    encoded = corpus.encode(tokenizer)["train"]

    def rows(seed):
        split, num_rows, *_ = teach([teacher], corpus, encoded, tokenizer, augment=2, seed=seed, show_progress=False)
        found = sorted((row["input_ids"], str(row["labels"]), str(row["teacher_logits"])) for row in split)
        assert len(found) == num_rows
        assert 2.5 * corpus.num_training_rows < num_rows <= 3 * corpus.num_training_rows
        return found

    first = rows(0)
    assert rows(0) == first
    assert rows(1) != first
    assert sum(tokenizer.unk_token_id in ids for ids, *_ in first) > 20


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (["negative", "neutral"], {}, "lacks 'positive' and knows 'neutral', which the data lacks"),
        (["negative", "positive", "neutral"], {}, "it knows 'neutral', which the data lacks"),
        (["negative", "positive"], {"problem_type": "multi_label_classification"}, "is for multi_label_classification"),
        (["LABEL_0"], {}, "is for regression, but the data is for single_label_classification"),
        (["negative", "positive"], {"is_tagger": True}, "is a BertForTokenClassification, but classifiers learn from"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(make_teacher, texts, labels, options, message):
    with pytest.raises(ValueError, match=message):
        load_teacher(make_teacher(labels, **options), corpus_of(texts), CPU)


@pytest.mark.parametrize("name", ["nowhere/at_all", "."])
def test_a_teacher_that_cannot_be_loaded_is_named(texts, name, tmp_path, monkeypatch):
    corpus = corpus_of(texts)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=rf"^The teacher {name} could not be loaded: [^\n]*$"):
        load_teacher(name, corpus, CPU)


TINY = ["--hidden_size", "8", "--embedding_size", "8", "--max_steps", "3", "--disable_tqdm", "true"]


def run(task, files, output_dir, *options):
    words = [f"--{name}_file={file}" for name, file in files.items()]
    return train(task, *parse_arguments(task, "", [*words, "--output_dir", str(output_dir), *TINY, *options]))


@pytest.mark.parametrize(
    "options", [[], ["--streaming", "--distillation_temperature", "3"], ["--ngram_buckets", "0", "--augment", "1"]]
)
def test_a_classifier_is_trained(make_teacher, texts, tmp_path, options):
    teacher = make_teacher(["positive", "negative"])
    Path(teacher, "all_results.json").write_text(json.dumps({"test_accuracy": 0.875, "test_loss": 1}))
    metrics = run("text-classification", texts, tmp_path / "out", "--teacher", teacher, *options)
    assert metrics["test_accuracy"] > 0
    card = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert f"| Teacher | `{Path(teacher).name}` (accuracy 0.8750 on test data, by its own results) |" in card
    made = r"40 texts of `others\.jsonl`" + (r", \d+ that were made of the texts" if "--augment" in options else "")
    assert re.search(rf"\| Labelled by the teacher alone \| {made} \|", card)
    assert "| Training loss | with that of the logits of the teacher (weight 1); validation and test without |" in card
    assert "What the training data or its teacher gets wrong" in card
    assert teacher not in (tmp_path / "out/run.json").read_text(encoding="utf-8").replace(" ".join(sys.argv), "")
    assert not any("objectives" in path.read_text(errors="ignore") for path in (tmp_path / "out").glob("*.safetensors"))


@pytest.mark.parametrize("options", [["--use_crf", "true"], ["--streaming"], ["--max_tokens_per_batch", "60"]])
def test_a_tagger_is_trained(make_teacher, tagged, tmp_path, options):
    teacher = make_teacher(["NOUN", "X"], is_tagger=True)
    metrics = run("token-classification", tagged, tmp_path / "out", "--teacher", teacher, *options)
    assert metrics["test_accuracy"] > 0


def test_another_teacher_is_noticed_when_a_run_is_resumed(make_teacher, texts, tmp_path, messages):
    options = ["--max_steps", "4", "--save_strategy", "steps", "--save_steps", "2", "--eval_strategy", "no"]
    one, other = make_teacher(["positive", "negative"]), make_teacher(["positive", "negative"], seed=1)
    run("text-classification", texts, tmp_path / "out", "--teacher", one, *options)
    options += ["--max_steps", "6", "--resume_from_checkpoint", "true"]
    run("text-classification", texts, tmp_path / "out", "--teacher", other, *options)
    assert any("began with other options or data" in one and "teacher" in one for one in messages())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--augment", "2"], "--augment has no effect without --teacher or --self_training"),
        (["--self_training", "2"], "--self_training has no effect without --unlabelled_file"),
        (["--self_training", "2", "--teacher", "a"], "--self_training makes the teachers, and --teacher names some"),
        (["--distillation_temperature", "3"], "--distillation_temperature has no effect without --teacher"),
        (["--teacher", "a", "--distillation_loss_weight", "0"], "leaves nothing of the --teacher"),
        (["--teacher", "a", "--distillation_temperature", "0"], "--distillation_temperature must be above 0"),
        (["--teacher", "a", "--label_smoothing_factor", "0.1"], "--label_smoothing_factor replaces .* of --teacher"),
    ],
)
def test_options_that_make_no_sense(texts, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run("text-classification", {"train": texts["train"]}, tmp_path / "out", *options)


def test_scores_that_vanish_are_named():
    labels = SoftLabels([["/nowhere/1.safetensors"]], [[0, 1]], False)
    with pytest.raises(ValueError, match=r"1\.safetensors was removed or damaged"):
        labels[0]
