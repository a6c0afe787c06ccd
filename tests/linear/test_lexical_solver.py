"""Lexical features solved before training: linear models over the features of words and their neighbours."""

import copy
import json

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC
from strategies import little_config

from rnn_hf import RnnForTokenClassification, RnnTrainer, RnnTrainingArguments, train_tokenizer
from rnn_hf.linear import lexical_solver as module
from rnn_hf.linear.lexical_solver import join_solution, solve_lexical
from rnn_hf.models.lexical import LARGEST_SIZE, WINDOW
from rnn_hf.text.characters import count_lexical_features, set_vocabulary
from rnn_hf.text.encoding import encode_words
from rnn_hf.training import presets
from rnn_hf.training.options import parse_arguments
from rnn_hf.training.train import train

WORDS = ["Anna", "Oslo", "lives", "in", "saw", "Anton", "Ottawa", "the", "3rd"]
LABELS = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC"}
TOKENIZER = train_tokenizer([WORDS] * 3, "wordpiece", is_split_into_words=True)


def sentences(count, seed=0):
    """Sentences whose names are what they are by their words, mostly."""
    random, made = np.random.default_rng(seed), []
    for _ in range(count):
        words = [WORDS[index] for index in random.integers(len(WORDS), size=random.integers(1, 7))]
        tags = []
        for word in words:
            inside = bool(tags) and tags[-1].endswith("PER")
            name = {"A": "I-PER" if inside else "B-PER", "O": "B-LOC"}.get(word[0], "O")
            tags.append(name if random.random() < 0.9 else "O")
        made.append({"tokens": words, "tags": tags})
    return made


def make(use_crf, count=80, **options):
    torch.manual_seed(0)
    number = count_lexical_features(TOKENIZER, 24)
    sizes = {"vocab_size": len(TOKENIZER), "num_lexical_features": number, "use_crf": use_crf, "id2label": LABELS}
    model = RnnForTokenClassification(little_config(**{**sizes, "max_characters_per_token": 24, **options})).eval()
    set_vocabulary(model, TOKENIZER)
    rows = sentences(count)
    ids, firsts = encode_words(TOKENIZER, [row["tokens"] for row in rows])
    names = {name: index for index, name in LABELS.items()}
    examples = []
    for one, starts, row in zip(ids, firsts, rows, strict=True):
        labels = [-100] * len(one)
        for position, tag in zip(starts, row["tags"], strict=True):
            labels[position] = names[tag] % len(model.config.id2label)
        examples.append({"input_ids": one, "labels": labels})
    return model, examples


def without_states(model):
    """Let the model score by lexical features alone."""
    with torch.no_grad():
        for parameter in model.classifier.parameters():
            parameter.zero_()
    return model


def test_scores_are_those_of_a_machine_for_each_label():
    model, examples = make(use_crf=False)
    assert solve_lexical(model, examples)
    rows, labels, scores = [], [], []
    for example in examples:
        ids = torch.tensor([example["input_ids"]])
        scores.append(without_states(model)(input_ids=ids).logits[0])
        lexical = model.lexical
        texts = TOKENIZER.convert_ids_to_tokens(example["input_ids"])
        starts = [position for position, label in enumerate(example["labels"]) if label != -100]
        features = []
        for begin, end in zip(starts, [*starts[1:], len(texts)], strict=True):
            codes = [code for entry in ids[0, begin:end] for code in lexical.character_codes[entry].tolist() if code]
            features.append(lexical.find_features(torch.tensor([codes]), torch.tensor([len(codes)]))[0].tolist())
        for position in range(len(starts)):
            row = np.zeros((2 * WINDOW + 1, len(lexical.weight)))
            for offset in range(-WINDOW, WINDOW + 1):
                if 0 <= position + offset < len(starts):
                    row[offset + WINDOW, features[position + offset]] = 1
            row[:, 0] = 0
            rows.append(row.ravel())
        labels += [example["labels"][position] for position in starts]
        scores[-1] = scores[-1][starts]
    actual = torch.cat(scores).detach().numpy()
    for label in range(len(LABELS)):
        machine = LinearSVC(C=0.1, tol=1e-5, fit_intercept=False, dual=True, max_iter=10_000)
        machine.fit(np.stack(rows), np.array(labels) == label)
        expected = 3.5 * machine.decision_function(np.stack(rows))
        np.testing.assert_allclose(actual[:, label], expected, atol=0.2)


@pytest.mark.parametrize("scheme", ["none", "iobes"])
def test_a_chain_is_solved_where_its_gradient_vanishes(scheme):
    model, examples = make(use_crf=True, crf_tag_scheme=scheme)
    assert solve_lexical(model, examples)
    without_states(model).lexical.requires_grad_(True)
    with torch.no_grad():
        for parameter, solved in zip(model.crf.parameters(), model.lexical.solved_transitions, strict=True):
            parameter.copy_(solved)
    total = torch.zeros(())
    for example in examples:
        batch = {name: torch.tensor([values]) for name, values in example.items()}
        total = total + model(**batch, num_items_in_batch=1).loss
    parameters = [model.lexical.weight, *model.crf.parameters()]
    penalty = module._DECAY * sum(one.square().sum() for one in parameters)
    gradients = torch.autograd.grad(total + penalty, parameters)
    assert total > 0
    for gradient in gradients:
        assert gradient.abs().max() < 0.2
    assert model.crf.transitions.abs().max() > 0.1


@pytest.mark.parametrize("use_crf", [False, True])
def test_what_is_solved_is_frozen_repeatable_and_left_out_in_training(use_crf):
    (model, examples), (other, _) = make(use_crf), make(use_crf)
    batch = {"input_ids": torch.tensor([examples[0]["input_ids"]])}
    before = model.train()(**batch).logits
    solve_lexical(model.eval(), examples)
    solve_lexical(other, examples)
    assert torch.equal(model.lexical.weight, other.lexical.weight)
    assert not model.lexical.weight.requires_grad
    assert torch.equal(model.train()(**batch).logits, before)
    assert not torch.equal(model.eval()(**batch).logits, before)


def test_many_labels_are_left_to_training():
    model, examples = make(use_crf=False, id2label={index: f"L{index}" for index in range(LARGEST_SIZE + 1)})
    assert not solve_lexical(model, examples)
    assert model.lexical.weight.requires_grad


def test_of_too_many_sentences_it_takes_chunks_at_equal_distances(monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 10)
    model, examples = make(use_crf=True)
    whole = module._read(model, model.lexical, examples, 4)
    monkeypatch.setattr(module, "_MOST_VALUES", whole.matrix.nnz // 3)
    part = module._read(model, model.lexical, examples, 4)
    assert set(part.sentences.tolist()) == {row for row in range(80) if row // 10 % 4 == 0}
    kept = np.isin(whole.sentences, part.sentences)
    assert (part.matrix != whole.matrix[kept]).nnz == 0
    assert part.labels.tolist() == whole.labels[kept].tolist()


@pytest.mark.parametrize("use_crf", ["true", "false"])
def test_a_trained_tagger_holds_them_weighed(tmp_path, use_crf, capsys):
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in sentences(400)))
    options = ["--train_file", str(file), "--output_dir", str(tmp_path / "model"), "--disable_tqdm", "true"]
    options += ["--hidden_size", "4", "--embedding_size", "4", "--num_train_epochs", "1", "--save_strategy", "epoch"]
    results = train(
        "token-classification", *parse_arguments("token-classification", "", [*options, "--use_crf", use_crf])
    )
    assert "Lexical features count" in capsys.readouterr().out
    model = RnnForTokenClassification.from_pretrained(tmp_path / "model")
    checkpoint = RnnForTokenClassification.from_pretrained(next((tmp_path / "model").glob("checkpoint-*")))
    for layer, before in ((model.lexical, checkpoint.lexical), (model.classifier, checkpoint.classifier)):
        ratios = (layer.weight / before.weight)[before.weight.abs() > 1e-3]
        assert ratios.std() < 1e-4
        assert 0 < ratios.mean() <= 1
    assert results["eval_loss"] <= results_of(tmp_path)["eval_loss"]
    assert results["test_accuracy"] > 0.8


def test_labels_that_training_lacks_count_as_errors(tmp_path):
    for name, rows in (("train", sentences(100)), ("validation", sentences(20))):
        if name == "validation":
            rows[3]["tags"][0] = "B-NEW"
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["--train_file", f"{tmp_path}/train.jsonl", "--validation_file", f"{tmp_path}/validation.jsonl"]
    options += ["--unseen_labels", "count", "--output_dir", str(tmp_path / "model"), "--disable_tqdm", "true"]
    options += ["--hidden_size", "4", "--embedding_size", "4", "--num_train_epochs", "1"]
    results = train("token-classification", *parse_arguments("token-classification", "", options))
    assert 0 < results["eval_f1"] < 1


def test_the_ratio_is_that_of_the_best_score_and_good_neighbours(tmp_path):
    model, _ = make(use_crf=True)
    trainer = RnnTrainer(model, RnnTrainingArguments(str(tmp_path), eval_strategy="no"), processing_class=TOKENIZER)
    names = {name: index for index, name in LABELS.items()}
    references = torch.full((20, 3), names["O"])
    references[:, 0], references[:, 2] = names["B-LOC"], -100

    def predicted(num_right):
        rows = references.clone()
        rows[num_right:, 0] = names["O"]
        return rows

    numbers = [0, 0, 20, 0, 0, 17, 18, 17, 0]
    losses = torch.arange(9.0)
    assert module._best_row(trainer, [predicted(number) for number in numbers], references, losses) == 6


@pytest.mark.parametrize("use_crf", [True, False])
def test_where_no_score_is_better_the_loss_decides(tmp_path, use_crf):
    model, examples = make(use_crf)
    assert solve_lexical(model, examples)
    training = RnnTrainingArguments(str(tmp_path), eval_strategy="no", use_cpu=True)
    trainer = RnnTrainer(model, training, processing_class=TOKENIZER)
    outside = [one for one in examples if set(one["labels"]) <= {0, -100}]
    assert outside  # without a span, F1 is the same for every ratio
    # The states of an untrained model say nothing.
    assert module.weigh_lexical(trainer, outside).startswith("Lexical features count 16 times")


def test_without_validation_data_both_count_alike(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in sentences(200)))
    options = ["--train_file", str(file), "--output_dir", str(tmp_path / "model"), "--disable_tqdm", "true"]
    options += ["--hidden_size", "4", "--embedding_size", "4", "--max_steps", "1", "--eval_strategy", "no"]
    train("token-classification", *parse_arguments("token-classification", "", options))
    model = RnnForTokenClassification.from_pretrained(tmp_path / "model")
    # One step leaves the layers' own transitions near zero: these are those of the solved chain.
    assert model.crf.transitions.abs().max() > 0.1


@pytest.mark.parametrize("scheme", ["none", "iobes"])
@pytest.mark.parametrize("num_validation", [0, 20])
def test_a_solution_is_added_to_features_that_are_trained(tmp_path, num_validation, scheme):
    model, examples = make(use_crf=True, crf_tag_scheme=scheme)
    torch.nn.init.normal_(model.lexical.weight)
    torch.nn.init.normal_(model.crf.transitions)
    before, solved = copy.deepcopy(model), copy.deepcopy(model)
    assert solve_lexical(solved, examples)
    trainer = RnnTrainer(model, RnnTrainingArguments(str(tmp_path), eval_strategy="no"), processing_class=TOKENIZER)
    assert "that are solved count" in join_solution(trainer, examples, examples[:num_validation])
    scale = (model.classifier.weight / before.classifier.weight).mean().item()
    added = model.lexical.weight - scale * before.lexical.weight
    factor = ((added * solved.lexical.weight).sum() / solved.lexical.weight.square().sum()).item()
    torch.testing.assert_close(added, factor * solved.lexical.weight, atol=1e-5, rtol=0)
    for after, own, other in zip(
        model.crf.parameters(), before.crf.parameters(), solved.lexical.solved_transitions, strict=True
    ):
        torch.testing.assert_close(after, scale * own + factor * other, atol=1e-5, rtol=0)
    if num_validation == 0:
        assert (scale, factor) == pytest.approx((1, 1))
    else:
        assert loss_on(model, examples[:num_validation]) < loss_on(before, examples[:num_validation])


def loss_on(model, examples):
    with torch.no_grad():
        batches = [{name: torch.tensor([values]) for name, values in example.items()} for example in examples]
        return sum(float(model(**batch, num_items_in_batch=1).loss) for batch in batches)


def test_there_may_be_nothing_to_add(tmp_path):
    model, examples = make(use_crf=True, id2label={0: "O", **{index: f"B-{index}" for index in range(1, 70)}})
    before = copy.deepcopy(model.state_dict())
    trainer = RnnTrainer(model, RnnTrainingArguments(str(tmp_path), eval_strategy="no"), processing_class=TOKENIZER)
    assert join_solution(trainer, examples, examples) is None
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())


def train_on_many(tmp_path, monkeypatch, *options):
    """Train a tagger of spans on what counts as many sentences; return what it is, and its last checkpoint."""
    monkeypatch.setattr(presets, "_FEW", 100)
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in sentences(400)))
    folder = tmp_path / "model"
    sizes = ["--hidden_size", "4", "--embedding_size", "4", "--num_train_epochs", "1", "--disable_tqdm", "true"]
    arguments = ["--train_file", str(file), "--output_dir", str(folder), *sizes, *options]
    results = train("token-classification", *parse_arguments("token-classification", "", arguments))
    model = RnnForTokenClassification.from_pretrained(folder)
    return results, model, RnnForTokenClassification.from_pretrained(next(folder.glob("checkpoint-*")))


def test_it_is_added_on_many_sentences(tmp_path, monkeypatch, capsys):
    results, model, checkpoint = train_on_many(tmp_path, monkeypatch)
    assert "Lexical features that are solved count" in capsys.readouterr().out
    assert not torch.equal(model.lexical.weight, checkpoint.lexical.weight)
    assert results["eval_loss"] <= results_of(tmp_path)["eval_loss"]


@pytest.mark.parametrize(
    "options", [["--lexical_learning_rate", "0.002"], ["--preset", "none", "--lexical_learning_rate", "0.002"]]
)
def test_features_with_a_rate_that_is_given_are_trained_alone(tmp_path, monkeypatch, options):
    _, model, checkpoint = train_on_many(tmp_path, monkeypatch, *options)
    assert torch.equal(model.lexical.weight, checkpoint.lexical.weight)
    assert torch.equal(model.classifier.weight, checkpoint.classifier.weight)


def results_of(folder):
    """The last evaluation before weighing."""
    history = json.loads((folder / "model" / "trainer_state.json").read_text())["log_history"]
    return next(entry for entry in reversed(history) if "eval_loss" in entry)
