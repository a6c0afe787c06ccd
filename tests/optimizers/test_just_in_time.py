"""AdamW with rows of tables that are brought up to date when they are read, against torch's AdamW."""

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from strategies import few, generator, in_two_processes, little_config, seeds
from torch import distributed, nn
from transformers import TrainerCallback

from rnn_hf import (
    RnnForCausalLM,
    RnnForSequenceClassification,
    RnnForTokenClassification,
    RnnTrainer,
    RnnTrainingArguments,
)
from rnn_hf.models.lexical import NUM_CLASSES
from rnn_hf.optimizers import sparse_tables
from rnn_hf.optimizers.just_in_time import JustInTimeAdamW
from rnn_hf.optimizers.sparse_tables import SparseTables, find_tables

NUM_ROWS = 40


@pytest.fixture
def all_tables(monkeypatch):
    """Let little tables count, too, and callbacks of tests, which read no weights."""
    monkeypatch.setattr(sparse_tables, "LEAST_SIZE", 0)
    monkeypatch.setattr(sparse_tables, "may_read_weights", lambda callback: False)


@given(
    seeds,
    st.integers(1, 60),
    st.integers(1, 12),
    st.sampled_from([(0.9, 0.999), (0.5, 0.9), (0.0, 0.99)]),
    st.lists(st.integers(1, 60), max_size=3),
)
@few(40)
def test_rows_move_as_with_the_stock_optimizer(seed, num_steps, num_read, betas, flushes):
    """Over steps with other rows, rates and numbers of batches, some without a gradient, and in two tables."""
    first = torch.randn(NUM_ROWS, 3, generator=generator(seed), dtype=torch.float64)
    found = {}
    for is_stock in (True, False):
        source = generator(seed)
        tables = [nn.Parameter(first.clone()), nn.Parameter(-first)]
        weight = nn.Parameter(torch.ones(3, dtype=torch.float64))
        options = {"betas": betas, "weight_decay": 0.0}
        groups = [{"params": [weight, tables[0]]}, {"params": [tables[1]], "lr": 0.1}]
        optimizer = (
            torch.optim.AdamW(groups, **options) if is_stock else JustInTimeAdamW(groups, tables=tables, **options)
        )
        read = []
        for step in range(num_steps):
            for group in optimizer.param_groups:
                group["lr"] = 0.01 * (1 + step % 7)
            for _ in range(1 + step % 2):
                rows = (torch.rand(num_read, generator=source) ** 2 * NUM_ROWS).long()
                used = tables if step % 3 else tables[:1]
                for table in used:
                    if not is_stock:
                        optimizer.bring_up_to_date(table, rows)
                    vectors = nn.functional.embedding(rows, table, sparse=not is_stock)
                    read.append(vectors.detach().clone())
                    slopes = torch.randn(num_read, 3, generator=source, dtype=torch.float64)
                    slopes += 0.01 * slopes.sign()  # of smaller ones, eps is no small part of the root of their square
                    (vectors * weight * slopes).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            if not is_stock and step in flushes:
                optimizer.bring_all_up_to_date()
        state = optimizer.state_dict()
        found[is_stock] = [*read, weight.detach(), *(table.detach() for table in tables), state]
    *stock, stock_state = found[True]
    *ours, our_state = found[False]
    torch.testing.assert_close(ours, stock, rtol=1e-6, atol=1e-6)
    assert our_state["param_groups"] == stock_state["param_groups"]
    for index, values in stock_state["state"].items():
        torch.testing.assert_close(dict(our_state["state"][index]), dict(values), rtol=1e-4, atol=1e-5)


def test_a_state_goes_from_one_optimizer_to_the_other():
    found = []
    for is_stock in (True, False):
        table = nn.Parameter(torch.ones(9, 2))
        make = torch.optim.AdamW if is_stock else lambda params, **options: JustInTimeAdamW(params, params, **options)
        optimizer = make([table], weight_decay=0.0)
        other = nn.Parameter(torch.ones(9, 2))
        earlier = torch.optim.AdamW([other], weight_decay=0.0)
        other.square().sum().backward()
        earlier.step()
        optimizer.load_state_dict(earlier.state_dict())
        nn.functional.embedding(torch.tensor([3, 3]), table, sparse=not is_stock).sum().backward()
        optimizer.step()
        optimizer.state_dict()
        found.append(table.detach())
    torch.testing.assert_close(*found)
    assert (found[0][0] < 1).all()


@pytest.mark.parametrize(
    "option", [{"weight_decay": 0.1}, {"amsgrad": True}, {"betas": (0.9, 0.8)}, {"betas": (0.98, 0.999)}, {"eps": 1e-6}]
)
def test_options_without_a_closed_form_are_refused(option):
    table = nn.Parameter(torch.ones(9, 2))
    with pytest.raises(ValueError, match="Rows are brought up to date without weight_decay"):
        JustInTimeAdamW([table], [table], **({"weight_decay": 0.0} | option))


def make_model(task):
    torch.manual_seed(0)
    options = {"vocab_size": NUM_ROWS, "num_labels": 3, "characters": "ab", "char_num_filters": 2}
    options |= {"static_embedding_size": 3, "static_vocab_size": 6, "embedding_dropout": 0.3, "word_dropout": 0.2}
    if task == "text-classification":
        model = RnnForSequenceClassification(little_config(ngram_buckets=64, **options))
        model.ngrams.hashes.copy_(torch.arange(1, 65))
        model.ngrams.scales.fill_(1.0)
        nn.init.normal_(model.ngrams.weight)
        model.ngrams.spellings[:, 0] = 1
        model.ngrams.spellings[:, 1] = torch.arange(NUM_ROWS) % 7 + 4
        model.ngrams.spellings[:, 2] = 3
    else:
        model = RnnForTokenClassification(little_config(num_lexical_features=300, lexical_dropout=0.2, **options))
        codes = torch.arange(NUM_ROWS).unsqueeze(1) % torch.tensor([5, 7, 11]) * NUM_CLASSES + 1
        model.lexical.set_characters(nn.functional.pad(codes, (0, 15)).int())
    model.model.embeddings.static_embeddings.vector_ids.copy_(torch.arange(NUM_ROWS) % 7)
    return model


def make_rows(task, number=24):
    source = generator(0)
    lengths = torch.randint(1, 9, (number,), generator=source).tolist()
    ids = [torch.randint(NUM_ROWS, (length,), generator=source).tolist() for length in lengths]
    labels = [one[0] % 3 if task == "text-classification" else [index % 3 for index in one] for one in ids]
    return Dataset.from_dict({"input_ids": ids, "labels": labels})


class Norms(TrainerCallback):
    """Note what the trainer logs."""

    def __init__(self):
        self.logged = []

    def on_log(self, args, state, control, logs=None, **_):
        self.logged += [float(logs[name]) for name in ("loss", "grad_norm", "eval_loss") if name in logs]


def train(task, folder, **options):
    norms, rows = Norms(), make_rows(task)
    options = {"num_train_epochs": 3, "logging_steps": 1, "eval_strategy": "epoch", "save_strategy": "no"} | options
    args = RnnTrainingArguments(
        str(folder),
        use_cpu=True,
        disable_tqdm=True,
        per_device_train_batch_size=4,
        learning_rate=0.01,
        vectors_learning_rate=0.02,
        precision="float32",
        early_stopping_patience=0,
        **options,
    )
    trainer = RnnTrainer(make_model(task), args, train_dataset=rows, eval_dataset=rows, callbacks=[norms])
    trainer.train()
    return trainer, norms.logged


@pytest.mark.parametrize("task", ["text-classification", "token-classification"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient_accumulation_steps": 2, "max_grad_norm": 0.01},
        {"max_grad_norm": 0.0},
        {"rdrop_loss_weight": 1.0, "eval_strategy": "steps", "eval_steps": 2},
        {"gradual_unfreezing": 0.5},
    ],
)
def test_training_gives_the_weights_of_the_stock_optimizer(task, options, tmp_path, monkeypatch):
    stock, stock_logs = train(task, tmp_path / "stock", **options)
    assert not stock._tables.modules
    monkeypatch.setattr(sparse_tables, "LEAST_SIZE", 0)
    monkeypatch.setattr(sparse_tables, "may_read_weights", lambda callback: False)
    ours, logs = train(task, tmp_path / "ours", **options)
    assert len(ours._tables.modules) == 3
    torch.testing.assert_close(logs, stock_logs, rtol=2e-3, atol=2e-3)
    weights = stock.model.state_dict()
    for name, weight in ours.model.state_dict().items():
        torch.testing.assert_close(weight, weights[name], rtol=1e-3, atol=1e-4, msg=lambda text, name=name: name + text)


def test_a_trained_model_is_as_any_other(all_tables, tmp_path):
    """Its gradients are dense again, also where the training was interrupted, and a second one goes on."""
    trainer, _ = train("token-classification", tmp_path)
    model, rows = trainer.model, torch.tensor([[3, 4]])
    assert set(model._ddp_params_and_buffers_to_ignore) == {name for name, _ in model.named_buffers()}
    for _ in range(2):
        model(input_ids=rows, labels=rows % 3).loss.backward()
        assert not any(one.grad.is_sparse for one in model.parameters() if one.grad is not None)
        model.zero_grad()
        before = model.lexical.weight.detach().clone()
        trainer.add_callback(Interrupted())
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
        assert not torch.equal(model.lexical.weight, before)


class Interrupted(TrainerCallback):
    """End a training after two steps."""

    def on_step_end(self, args, state, control, **_):
        if state.global_step == 2:
            raise KeyboardInterrupt


def test_weights_that_a_callback_saves_are_up_to_date(all_tables, tmp_path, monkeypatch):
    """In the middle of an epoch, too."""
    saved = {}

    class Saver(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **_):
            if state.global_step == 5:
                saved.setdefault(sparse_tables.LEAST_SIZE, {k: v.clone() for k, v in model.state_dict().items()})

    for least in (0, 2**16):
        monkeypatch.setattr(sparse_tables, "LEAST_SIZE", least)
        norms = RnnTrainingArguments(
            str(tmp_path), use_cpu=True, disable_tqdm=True, per_device_train_batch_size=4, learning_rate=0.01,
            eval_strategy="no", save_strategy="no", num_train_epochs=1, precision="float32",
        )  # fmt: skip
        task = "token-classification"
        RnnTrainer(make_model(task), norms, train_dataset=make_rows(task), callbacks=[Saver()]).train()
    torch.testing.assert_close(saved[0], saved[2**16], rtol=1e-3, atol=1e-4)


def test_tables_that_are_read_whole_stay_dense(all_tables, tmp_path):
    model = make_model("token-classification")
    args = RnnTrainingArguments(str(tmp_path), use_cpu=True, disable_tqdm=True, lm_loss_weight=0.1, eval_strategy="no")
    RnnTrainer(model, args, train_dataset=make_rows("token-classification")).create_optimizer()
    assert list(find_tables(model)) == [model.lexical]
    model.objectives = None
    assert list(find_tables(model)) == [model.model.embeddings.word_embeddings, model.lexical]


@pytest.mark.parametrize("options", [{"optim": "sgd"}, {"optim_args": "eps=1e-6"}, {"torch_compile": True}])
def test_other_optimizers_have_dense_gradients(all_tables, options, tmp_path):
    args = RnnTrainingArguments(str(tmp_path), use_cpu=True, eval_strategy="no", **options)
    assert SparseTables(make_model("text-classification"), args).modules == []


def test_an_optimizer_that_is_given_is_taken(all_tables, tmp_path):
    args = RnnTrainingArguments(str(tmp_path), use_cpu=True, eval_strategy="no")
    rows, given = make_rows("text-classification"), (torch.optim.SGD, {"lr": 0.5})
    model = make_model("text-classification")
    optimizer = RnnTrainer(model, args, train_dataset=rows, optimizer_cls_and_kwargs=given).create_optimizer()
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert not model.model.embeddings.word_embeddings.sparse


def trainer_of(folder, task="token-classification", kind=RnnTrainer, model=None, **options):
    args = RnnTrainingArguments(
        str(folder), use_cpu=True, disable_tqdm=True, eval_strategy="no", save_strategy="no", num_train_epochs=2,
        per_device_train_batch_size=4, learning_rate=0.01, precision="float32", **options,
    )  # fmt: skip
    return kind(model or make_model(task), args, train_dataset=make_rows(task))


class Penalty(RnnTrainer):
    """A loss that reads a whole table."""

    def compute_loss(self, model, inputs, *args, **kwargs):
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        return loss + 0.01 * model.model.embeddings.word_embeddings.weight.square().sum()


def test_a_table_that_a_loss_reads_whole_is_as_other_parameters(tmp_path, request):
    found = []
    for is_stock in (True, False):
        if not is_stock:
            request.getfixturevalue("all_tables")
        trainer = trainer_of(tmp_path, kind=Penalty)
        trainer.train()
        found.append(trainer.model.state_dict())
    assert [module is trainer.model.lexical for module in trainer._tables.modules] == [True]
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-4)


def test_embeddings_with_options_of_their_own_stay_dense(all_tables, tmp_path):
    model = make_model("token-classification")
    own = nn.Embedding(NUM_ROWS, model.config.embedding_size, scale_grad_by_freq=True)
    model.set_input_embeddings(own)
    trainer_of(tmp_path, model=model).train()
    assert not own.sparse
    assert list(find_tables(model)) == [model.lexical]


def test_tables_with_weight_decay_stay_dense(all_tables):
    model = make_model("token-classification")
    tables = SparseTables(model, RnnTrainingArguments("out", use_cpu=True, eval_strategy="no"))
    groups = [
        {"params": [model.lexical.weight], "weight_decay": 0.1},
        {"params": [one for one in model.parameters() if one is not model.lexical.weight], "weight_decay": 0.0},
    ]
    tables.make_optimizer(groups, lr=0.1)
    assert model.lexical not in tables.modules
    assert model.model.embeddings.word_embeddings in tables.modules
    tables.detach()


@pytest.mark.parametrize("options", [{"adam_beta1": 0.99}, {"adam_beta2": 0.8}, {"adam_epsilon": 1e-4}])
def test_other_moments_have_dense_gradients(all_tables, options, tmp_path):
    trainer = trainer_of(tmp_path, **options)
    trainer.train()
    assert trainer._tables.modules == []


def test_weights_that_a_callback_may_read_are_up_to_date(tmp_path, monkeypatch):
    monkeypatch.setattr(sparse_tables, "LEAST_SIZE", 0)
    trainer = trainer_of(tmp_path)
    trainer.add_callback(Norms())
    trainer.train()
    assert trainer._tables.modules == []


def test_an_optimizer_for_a_loop_of_ones_own_is_the_stock_one(all_tables, tmp_path):
    trainer = trainer_of(tmp_path)
    assert type(trainer.create_optimizer()) is torch.optim.AdamW
    assert not trainer.model.model.embeddings.word_embeddings.sparse


def test_language_models_have_dense_gradients(all_tables):
    model = RnnForCausalLM(little_config(bidirectional=False))
    assert list(find_tables(model)) == []


def share(rank, folder) -> None:
    """Clip gradients of one of two processes, of which one reads no row of a table; and write them."""
    model, ids = make_model("token-classification").eval(), torch.tensor([[rank, rank + 1, 7]])
    with torch.no_grad():
        model.lexical.weight += rank  # the weights of the first process count
    sparse_tables.LEAST_SIZE = 0
    tables = SparseTables(model, RnnTrainingArguments(str(folder), use_cpu=True))
    tables.make_optimizer([{"params": list(model.parameters()), "weight_decay": 0.0}], lr=0.01)
    wrapped = nn.parallel.DistributedDataParallel(model)
    wrapped(input_ids=ids, labels=ids % 3).loss.backward()
    if rank == 1:
        model.model.embeddings.word_embeddings.weight.grad = None
    norm = tables.clip(model.parameters(), 0.5)
    found = {name: one.grad.to_dense() for name, one in model.named_parameters() if one.grad is not None}
    save_file(found | {"norm": norm}, folder / f"{rank}.safetensors")


@pytest.mark.skipif(not distributed.is_gloo_available(), reason="this build of torch has no gloo")
def test_processes_share_sparse_gradients(tmp_path):
    in_two_processes(share, tmp_path)
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    torch.testing.assert_close(first, second)
    model = make_model("token-classification").eval()
    for rank in range(2):
        ids = torch.tensor([[rank, rank + 1, 7]])
        loss = model(input_ids=ids, labels=ids % 3).loss / 2
        loss.backward()
        if rank == 0:
            own = model.model.embeddings.word_embeddings.weight.grad.clone()
    model.model.embeddings.word_embeddings.weight.grad = own
    norm = nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    torch.testing.assert_close(first.pop("norm"), norm)
    wanted = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    torch.testing.assert_close(first, wanted)
