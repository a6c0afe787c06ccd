"""Texts without labels and without a teacher: losses beside plain references, batches, runs."""

import json
import math

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from strategies import few, gradients, little_config, random_ids, seeds, some_lengths, with_objectives

from rnn_hf import RnnForSequenceClassification, RnnForTokenClassification, RnnTrainer, RnnTrainingArguments
from rnn_hf.cli import main
from rnn_hf.models.packing import pack_rows
from rnn_hf.objectives import semi_supervised
from rnn_hf.objectives.semi_supervised import CrossViewHeads, entropies, is_unlabelled, virtual_adversarial_losses
from rnn_hf.training.batching import MixedBatchSampler

PROBLEMS = {"single_label_classification": 3, "multi_label_classification": 3, "regression": 1}


def classifier(problem_type="single_label_classification", **options):
    torch.manual_seed(0)
    config = little_config(num_labels=PROBLEMS[problem_type], problem_type=problem_type, **options)
    return RnnForSequenceClassification(config).train()


def tagger(**options):
    torch.manual_seed(0)
    return RnnForTokenClassification(little_config(num_labels=3, **options)).train()


def encoded(model, rows):
    ids, packing = pack_rows(rows)
    inputs = {"batch_sizes": packing.batch_sizes, "sorted_indices": packing.sorted_indices}
    return model.model(ids, return_packed=True, output_hidden_states=True, **inputs)


class TestEntropies:
    def test_of_one_label_and_of_several(self):
        logits = torch.tensor([[1.0, 2.0, -1.0]])
        one = logits.softmax(-1)
        assert entropies(logits, "single_label_classification") == pytest.approx(-(one * one.log()).sum().item())
        several = logits.sigmoid()
        expected = -(several * several.log() + (1 - several) * (1 - several).log()).sum()
        assert entropies(logits, "multi_label_classification") == pytest.approx(expected.item())
        assert entropies(logits, "regression") == 0

    def test_minimising_them_makes_predictions_certain(self):
        logits = torch.tensor([[0.1, 0.0]], requires_grad=True)
        for _ in range(50):
            (gradient,) = torch.autograd.grad(entropies(logits, "single_label_classification").sum(), logits)
            logits = (logits - 5 * gradient).detach().requires_grad_()
        assert logits.softmax(-1)[0, 0] > 0.9


def divergence(predicted, others, problem_type):
    if problem_type == "regression":
        return (predicted - others).square().sum()
    if problem_type == "multi_label_classification":
        pairs = [
            (torch.stack([p, 1 - p]), torch.stack([q, 1 - q]))
            for p, q in zip(predicted.sigmoid(), others.sigmoid(), strict=True)
        ]
    else:
        pairs = [(predicted.softmax(-1), others.softmax(-1))]
    return sum((p * (p / q).log()).sum() for p, q in pairs)


class TestVirtualAdversarialTraining:
    @pytest.mark.parametrize("problem_type", PROBLEMS)
    @pytest.mark.parametrize("options", [{}, {"ngram_buckets": 8}])
    def test_is_the_divergence_under_the_worst_small_perturbation(self, problem_type, options):
        model, rows = classifier(problem_type, **options), random_ids([5, 2, 7], 1)
        batch = encoded(model, rows)
        torch.manual_seed(3)
        losses = virtual_adversarial_losses(model, batch, problem_type)
        # The same, text by text.
        packing = batch.packing
        torch.manual_seed(3)
        noise = packing.pad(torch.randn(packing.num_tokens, model.config.input_size))
        for row, ids in enumerate(rows):
            embeds = model.model.embeddings(ids).detach()
            mask = noise[row, : len(ids)]
            probe = (mask / mask.norm() * semi_supervised._PROBE * embeds.norm()).requires_grad_()
            predicted = model(ids[None], inputs_embeds=embeds[None]).logits[0].detach()
            moved = divergence(
                predicted, model(ids[None], inputs_embeds=(embeds + probe)[None]).logits[0], problem_type
            )
            (direction,) = torch.autograd.grad(moved, probe)
            worst = direction / direction.norm() * semi_supervised._RADIUS * embeds.norm()
            others = model(ids[None], inputs_embeds=(embeds + worst)[None]).logits[0]
            torch.testing.assert_close(losses[row], divergence(predicted, others, problem_type), rtol=0.05, atol=1e-6)

    def test_the_direction_is_worse_than_random_ones(self):
        model, rows = classifier(), random_ids([6], 1)
        batch = encoded(model, rows)
        worst = virtual_adversarial_losses(model, batch, "single_label_classification").item()
        embeds = model.model.embeddings(rows[0])
        predicted, random = model(rows[0][None]).logits[0], []
        for _ in range(20):
            noise = torch.randn_like(embeds)
            noise *= semi_supervised._RADIUS * embeds.norm() / noise.norm()
            others = model(rows[0][None], inputs_embeds=(embeds + noise)[None]).logits[0]
            random.append(divergence(predicted, others, "single_label_classification").item())
        assert worst > max(random)

    def test_every_parameter_learns_and_the_model_stays_in_training(self):
        model = classifier(embedding_dropout=0.5, classifier_dropout=0.5)
        virtual_adversarial_losses(
            model, encoded(model, random_ids([5, 2], 1)), "single_label_classification"
        ).sum().backward()
        assert model.training
        assert model.model.embedding_dropout.training
        gradients(model)


class TestCrossViews:
    def test_views_see_only_their_part(self):
        model = tagger()
        rows = random_ids([6], 2)
        ids, packing = pack_rows(rows)
        embeds = model.model.embeddings(ids).detach().requires_grad_()
        states = model.model(
            inputs_embeds=embeds, batch_sizes=packing.batch_sizes, output_hidden_states=True, return_packed=True
        ).output.states[0]
        views = list(semi_supervised._views(states, torch.arange(6), packing, 2))
        for step in range(6):
            unseen = [slice(step + 1, 6), slice(step, 6), slice(0, step), slice(0, step + 1)]
            for view, blind in zip(views, unseen, strict=True):
                (seen,) = torch.autograd.grad(view[step].sum(), embeds, retain_graph=True, allow_unused=True)
                assert not seen[blind].any()
                rest = torch.ones(6, dtype=torch.bool)
                rest[blind] = False
                assert seen[rest].abs().sum(1).gt(0).all()

    @pytest.mark.parametrize("use_crf", [False, True])
    @pytest.mark.parametrize("bidirectional", [False, True])
    def test_losses_are_cross_entropies_with_the_whole_model(self, use_crf, bidirectional):
        model = tagger(use_crf=use_crf, bidirectional=bidirectional, eos_token_id=2)
        model.word_starts[20:] = False
        heads, rows = CrossViewHeads(model.config), [torch.tensor([5, 25, 6, 2]), torch.tensor([7, 2])]
        batch = encoded(model, rows)
        chosen = batch.packing.pack(torch.tensor([[True] * 4, [False] * 4]))
        losses = heads(model, batch, chosen)
        assert len(losses) == 2  # the words 5 25 and 6; the other sentence is not chosen
        probabilities = model.eval().marginals(rows[0][None])[0]
        states = model.model(rows[0][None]).last_hidden_state[0]
        size, zeros = model.config.hidden_size, torch.zeros(model.config.hidden_size)
        expected = {0: [states[1, :size], zeros], 2: [states[2, :size], states[1, :size]]}
        if bidirectional:
            expected[0] += [states[0, size:], states[2, size:]]
            expected[2] += [states[2, size:], states[3, size:]]
        found = [
            sum(
                -(probabilities[place] * head(view).log_softmax(-1)).sum()
                for head, view in zip(heads.classifiers, views, strict=True)
            )
            for place, views in expected.items()
        ]
        torch.testing.assert_close(losses.sort().values, torch.stack(found).sort().values)


class TestObjective:
    def batch(self, model, is_labelled):
        rows = random_ids([4, 3, 5, 2], 1)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        labels = torch.tensor([0, 1, 2, 0])
        if isinstance(model, RnnForTokenClassification):
            labels = torch.where(mask > 0, ids % 3, -100)
        labels[~torch.tensor(is_labelled)] = -100
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    @pytest.mark.parametrize("task", ["classifier", "tagger"])
    def test_adds_to_the_loss_in_training_only_and_rises(self, task):
        model = classifier() if task == "classifier" else tagger(use_crf=True)
        batch = self.batch(model, [True, False, True, False])
        without = model(**batch).loss
        with_objectives(model, unlabelled_loss_weight=1.0, is_tagger=task == "tagger")
        losses = []
        for progress in (0.0, 0.25, 1.0):
            model.objectives.progress = progress
            torch.manual_seed(0)
            losses.append(model(**batch).loss.item())
        assert without.item() < losses[0] < losses[1] < losses[2]
        assert losses[0] == pytest.approx(without.item(), rel=0.05)
        torch.testing.assert_close(model.eval()(**batch).loss, without)

    @pytest.mark.parametrize("task", ["classifier", "tagger"])
    def test_small_batches_sum_to_the_big_one(self, task, monkeypatch):
        model = classifier() if task == "classifier" else tagger()
        with_objectives(model, unlabelled_loss_weight=0.7, is_tagger=task == "tagger")
        # The direction of random noise would be another one in a batch of another size.
        monkeypatch.setattr(torch, "randn_like", torch.ones_like)
        whole = self.batch(model, [True, False, True, False])
        count = int((whole["labels"] != -100).sum())
        expected = model(**whole, num_items_in_batch=count).loss
        parts = [{name: value[rows] for name, value in whole.items()} for rows in ([0, 1], [2, 3])]
        torch.testing.assert_close(sum(model(**part, num_items_in_batch=count).loss for part in parts), expected)

    def test_every_parameter_learns(self):
        model = with_objectives(tagger(num_hidden_layers=2), unlabelled_loss_weight=1.0, is_tagger=True)
        model(**self.batch(model, [True, False, True, False])).loss.backward()
        gradients(model)

    def test_what_has_no_label(self):
        assert is_unlabelled(torch.tensor([0, -100])).tolist() == [False, True]
        assert is_unlabelled(torch.tensor([0.5, math.nan])).tolist() == [False, True]
        assert is_unlabelled(torch.tensor([[1.0, 0.0], [math.nan, math.nan]])).tolist() == [False, True]


class TestBatches:
    @pytest.mark.parametrize(("labelled", "unlabelled", "size"), [(7, 20, 3), (7, 2, 3), (4, 4, 4), (1, 9, 5)])
    def test_half_of_each_batch_has_labels_and_all_come_in_their_turn(self, labelled, unlabelled, size):
        sampler = MixedBatchSampler(labelled, unlabelled, size)
        others = []
        for epoch in range(6):
            sampler.set_epoch(epoch)
            batches = list(sampler)
            assert len(batches) == len(sampler)
            assert sorted(index for batch in batches for index in batch if index < labelled) == list(range(labelled))
            for batch in batches:
                assert sum(index < labelled for index in batch) * 2 == len(batch) <= 2 * size
                others += [index - labelled for index in batch if index >= labelled]
        for start in range(0, len(others) - unlabelled + 1, unlabelled):
            assert sorted(others[start : start + unlabelled]) == list(range(unlabelled))

    def test_order_depends_on_seed_and_epoch_alone(self):
        sampler = MixedBatchSampler(9, 30, 2, seed=1)
        sampler.set_epoch(1)
        assert list(sampler) == list(sampler)
        assert list(sampler) != list(MixedBatchSampler(9, 30, 2, seed=1))
        assert list(sampler) != list(MixedBatchSampler(9, 30, 2, seed=2))

    @given(some_lengths, seeds)
    @few(20)
    def test_processes_share_the_batches(self, lengths, seed):
        parts = [list(MixedBatchSampler(sum(lengths), 11, 2, seed, 3, rank)) for rank in range(3)]
        assert len({len(part) for part in parts}) == 1
        whole = list(MixedBatchSampler(sum(lengths), 11, 2, seed))
        assert all(batch in [one for part in parts for one in part] for batch in whole)


def rows_of(number, is_labelled=True, task="classifier"):
    ids = [row.tolist() for row in random_ids([3 + index % 4 for index in range(number)], 1)]
    labels = [row[0] % 3 if is_labelled else -100 for row in ids]
    if task == "tagger":
        labels = [[token % 3 if is_labelled else -100 for token in row] for row in ids]
    return Dataset.from_dict({"input_ids": ids, "labels": labels})


def train(tmp_path, task, unlabelled, **options):
    model = classifier() if task == "classifier" else tagger()
    settings = {"per_device_train_batch_size": 4, "num_train_epochs": 2, "eval_strategy": "no", "save_strategy": "no"}
    args = RnnTrainingArguments(str(tmp_path), disable_tqdm=True, report_to="none", **(settings | options))
    trainer = RnnTrainer(model, args, train_dataset=rows_of(10, task=task), unlabelled_dataset=unlabelled)
    trainer.train()
    return trainer


@pytest.mark.parametrize("task", ["classifier", "tagger"])
def test_trainer_learns_from_both(tmp_path, task):
    trainer = train(tmp_path, task, rows_of(30, False, task))
    batch = next(iter(trainer.get_train_dataloader()))
    labels = batch["labels"] if task == "classifier" else batch["labels"].amax(dim=1)
    assert ((labels >= 0).sum(), len(labels)) == (4, 8)
    assert trainer.model.objectives.progress > 0
    trainer.model.save_pretrained(tmp_path / "saved")
    assert "objectives" not in (tmp_path / "saved/config.json").read_text()
    plain = train(tmp_path, task, None)
    assert plain.model.objectives is None
    other = train(tmp_path, task, rows_of(30, False, task), unlabelled_loss_weight=0.0)
    for one, same in zip(plain.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(one, same)  # what is off costs nothing


@pytest.mark.parametrize("problem_type", PROBLEMS)
def test_accumulated_batches_have_the_loss_and_the_gradients_of_one(tmp_path, problem_type, monkeypatch):
    # The direction of random noise would be another one in a batch of another size.
    monkeypatch.setattr(torch, "randn_like", torch.ones_like)
    number = PROBLEMS[problem_type]

    def rows(labels):
        ids = [row.tolist() for row in random_ids([3, 4, 2, 5], len(labels))]
        return Dataset.from_dict({"input_ids": ids, "labels": labels})

    known, missing = [[1.0, 0.0, 1.0], [math.nan] * number]
    if problem_type == "regression":
        known, missing = 0.5, math.nan
    elif problem_type == "single_label_classification":
        known, missing = 2, -100
    losses, found = [], []
    for batch_size, steps in ((4, 1), (2, 2)):
        model = classifier(problem_type)
        args = RnnTrainingArguments(
            str(tmp_path),
            disable_tqdm=True,
            eval_strategy="no",
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=steps,
        )
        data = {"train_dataset": rows([known] * 4), "unlabelled_dataset": rows([missing] * 4)}
        trainer = RnnTrainer(model, args, **data)
        model.train()
        batches, num_items = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), steps, args.device)
        assert num_items == 4 * (number if problem_type == "multi_label_classification" else 1)
        trainer.create_optimizer()
        losses.append(sum(trainer.training_step(model, batch, num_items) for batch in batches))
        found.append(gradients(model))
    torch.testing.assert_close(losses[0], losses[1])
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-3, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--unlabelled_loss_weight", "2"], "--unlabelled_loss_weight has no effect without --unlabelled_file"),
        (["--unlabelled_file", "b.txt", "--label_smoothing_factor", "0.1"], "and with it that of --unlabelled_file"),
        (["--unlabelled_file", "b.txt", "--unlabelled_loss_weight", "-1"], "must be at least 0, got -1"),
        (
            ["--unlabelled_file", "b.txt", "--unlabelled_loss_weight", "1", "--augment", "2"],
            "--augment has no effect without --teacher or --self_training",
        ),
        (["--unlabelled_file", "nowhere.txt", "--unlabelled_loss_weight", "1"], "There is no file nowhere.txt"),
    ],
)
def test_options_that_make_no_sense(tmp_path, capsys, options, fault):
    (tmp_path / "a.csv").write_text("text,label\n" + "a,x\nb,y\n" * 9)
    words = ["train-classifier", "--train_file", str(tmp_path / "a.csv"), "--output_dir", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        main([*words, *options])
    assert fault in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "unlabelled", "fault"),
    [
        ({"max_tokens_per_batch": 9}, rows_of(4, False), "leave --max_tokens_per_batch"),
        ({"train_sampling_strategy": "group_by_length"}, rows_of(4, False), "--train_sampling_strategy out"),
        ({}, rows_of(4, False).to_iterable_dataset(), "leave --streaming out"),
    ],
)
def test_options_that_do_not_go_with_it(tmp_path, options, unlabelled, fault):
    with pytest.raises(ValueError, match=fault):
        train(tmp_path, "classifier", unlabelled, **options)


@pytest.mark.parametrize("task", ["train-classifier", "train-tagger"])
def test_commands_read_the_file(tmp_path, task):
    names = ["salt", "pepper", "rice", "water"] * 4
    if task == "train-classifier":
        rows = [{"text": f"more {one} please", "label": one} for one in names]
    else:
        rows = [{"tokens": ["more", one], "tags": ["O", "B-X" if one < "r" else "O"]} for one in names]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "more.txt").write_text("\n".join(f"some {one} now" for one in names))
    options = ["--hidden_size", "4", "--embedding_size", "4", "--char_num_filters", "2", "--num_train_epochs", "1"]
    options += ["--unlabelled_loss_weight", "1"]
    files = ["--train_file", str(tmp_path / "train.jsonl"), "--unlabelled_file", str(tmp_path / "more.txt")]
    main([task, *files, *options, "--output_dir", str(tmp_path / "out"), "--disable_tqdm", "true"])
    assert (tmp_path / "out/model.safetensors").is_file()
    assert "some" in json.loads((tmp_path / "out/tokenizer.json").read_text())["model"]["vocab"]
