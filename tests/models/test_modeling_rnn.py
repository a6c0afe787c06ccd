"""The encoder and its heads: input forms, losses, loading, pipelines."""

import math
from functools import cache
from itertools import pairwise
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    CELLS,
    DIRECTIONS,
    POOLINGS,
    VOCAB_SIZE,
    assert_same,
    few,
    generator,
    gradients,
    little_config,
    project,
    random_ids,
    seeds,
    some_lengths,
    with_objectives,
)
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    pipeline,
)

from rnn_hf import (
    DataCollatorWithPacking,
    RnnConfig,
    RnnForSequenceClassification,
    RnnForTokenClassification,
    RnnModel,
    RnnModelOutput,
    train_tokenizer,
)

HEADS = (RnnForSequenceClassification, RnnForTokenClassification)
MODELS = (RnnModel, *HEADS)


@cache
def tokenizer():
    texts = ["the cat sat on the mat", "a dog, a cat and a bird!", "colourless green ideas sleep furiously"]
    return train_tokenizer(texts, kind="wordpiece", min_frequency=1)


def make(model_class, seed=0, **options):
    torch.manual_seed(seed)
    model = model_class(little_config(**options))
    # In single precision, a ReLU cell's gradient may jump where rounding moves a sum across 0.
    return model.double() if model.config.cell_type == "rnn_relu" else model


def random_tags(lengths, num_labels, seed):
    source = generator(seed)
    return [torch.randint(num_labels, (length,), generator=source) for length in lengths]


# Forms of input. Each is (arguments, mask of the padded output).


def spread(sequences, columns, width, filler):
    """Lay sequences out padded, each on columns of its own."""
    padded = torch.full((len(sequences), width, *sequences[0].shape[1:]), filler, dtype=sequences[0].dtype)
    for row, sequence, positions in zip(padded, sequences, columns, strict=True):
        row[positions] = sequence
    return padded


def layouts(lengths, extra, seed):
    """Name ways to lay sequences out padded: `{name: (columns of each sequence, width)}`."""
    source, width = generator(seed), max(lengths)
    anywhere = [torch.randperm(width + extra, generator=source)[:length].sort().values for length in lengths]
    right = [torch.arange(length) for length in lengths]
    return {
        "right": (right, width),
        "left": ([torch.arange(width - length, width) for length in lengths], width),
        "too wide": (right, width + extra),
        "too wide, left": ([torch.arange(width - length, width) + extra for length in lengths], width + extra),
        "holes": (anywhere, width + extra),
    }


def padded_forms(sequences, embedded, extra, seed):
    lengths = [len(sequence) for sequence in sequences]
    ones = [torch.ones_like(sequence) for sequence in sequences]
    found = {}
    for name, (columns, width) in layouts(lengths, extra, seed).items():
        mask = spread(ones, columns, width, 0)
        for wild in (0, -1, VOCAB_SIZE + 10**12):
            found[f"{name}, {wild} on padding"] = (
                {"input_ids": spread(sequences, columns, width, wild), "attention_mask": mask},
                mask.bool(),
            )
        embeds = torch.full((*mask.shape, embedded[0].shape[1]), torch.nan, dtype=embedded[0].dtype)
        embeds = embeds.masked_scatter(mask.bool().unsqueeze(-1), torch.cat(embedded))
        found[f"{name}, embeddings"] = ({"inputs_embeds": embeds, "attention_mask": mask}, mask.bool())
    return found


def packed_forms(sequences, embedded):
    features = [{"input_ids": sequence.tolist()} for sequence in sequences]
    collated = DataCollatorWithPacking(tokenizer())(features)
    padded = DataCollatorWithPacking(tokenizer(), padding=True)(features)
    mask = padded["attention_mask"].bool()
    packed_embeds = pack_sequence(embedded, enforce_sorted=False)
    embeds = {
        "inputs_embeds": packed_embeds.data,
        "batch_sizes": packed_embeds.batch_sizes,
        "sorted_indices": packed_embeds.sorted_indices,
    }
    return {
        "collated": (collated, mask),
        "collated, padded": (padded, mask),
        "packed sequence": ({"input_ids": pack_sequence(sequences, enforce_sorted=False)}, mask),
        "packed embeddings": (embeds, mask),
    }


def forms(model, sequences, extra, seed):
    embedded = [model.get_input_embeddings()(sequence) for sequence in sequences]
    return {**padded_forms(sequences, embedded, extra, seed), **packed_forms(sequences, embedded)}


def lay_out(tags, mask):
    """Lay tags out on the tokens of a padded batch, -100 elsewhere."""
    return torch.full(mask.shape, -100).masked_scatter(mask, torch.cat(tags))


def encoder_results(model, batches):
    rows, finals = [], []
    for arguments, mask in batches:
        output = model(**arguments)
        rows.extend(states[real] for states, real in zip(output.last_hidden_state, mask, strict=True))
        assert not output.last_hidden_state[~mask].any()
        finals.append([output.h_n] if output.c_n is None else [output.h_n, output.c_n])
    h_n, *c_n = (torch.cat(parts, dim=1) for parts in zip(*finals, strict=True))
    loss = sum(project(states) for states in rows) + sum(project(state) for state in (h_n, *c_n))
    loss.backward(retain_graph=True)
    return {"states": torch.cat(rows), "h_n": h_n, **dict.fromkeys(["c_n"][: len(c_n)], *c_n), **gradients(model)}


def head_results(model, batches, num_items):
    """Results of `(arguments, mask, labels)` batches that count as one."""
    loss, logits = 0.0, []
    for arguments, mask, labels in batches:
        output = model(**arguments, labels=labels, num_items_in_batch=num_items)
        loss = loss + output.loss
        is_tagger = isinstance(model, RnnForTokenClassification)
        if is_tagger:
            assert not output.logits[~mask].any()
        logits.append(output.logits[mask] if is_tagger else output.logits)
    loss.backward(retain_graph=True)
    return {"loss": loss, "logits": torch.cat(logits), **gradients(model)}


def assert_same_form(name, actual, expected):
    try:
        assert_same(actual, expected)
    except AssertionError as error:
        raise AssertionError(f"{name}: {error}") from None


def alone(sequences):
    return [({"input_ids": sequence.unsqueeze(0)}, torch.ones(1, len(sequence)).bool()) for sequence in sequences]


@pytest.mark.parametrize("bidirectional", DIRECTIONS)
@pytest.mark.parametrize("cell_type", CELLS)
@given(some_lengths, st.integers(0, 4), st.integers(1, 3), seeds)
@few(5)
def test_the_encoder_gives_the_same_for_every_form_of_input(
    cell_type, bidirectional, lengths, extra, num_hidden_layers, seed
):
    model = make(RnnModel, seed, cell_type=cell_type, bidirectional=bidirectional, num_hidden_layers=num_hidden_layers)
    sequences = random_ids(lengths, seed)
    expected = encoder_results(model, alone(sequences))
    for name, form in forms(model, sequences, extra, seed).items():
        assert_same_form(name, encoder_results(model, [form]), expected)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("cell_type", CELLS)
@given(some_lengths, st.integers(0, 4), st.integers(1, 3), st.booleans(), seeds)
@few(4)
def test_the_classifier_gives_the_same_for_every_form_of_input(
    cell_type, pooling, lengths, extra, num_hidden_layers, bidirectional, seed
):
    model = make(
        RnnForSequenceClassification,
        seed,
        cell_type=cell_type,
        pooling=pooling,
        num_hidden_layers=num_hidden_layers,
        bidirectional=bidirectional,
        num_labels=3,
    )
    sequences = random_ids(lengths, seed)
    labels = torch.randint(3, (len(lengths),), generator=generator(seed))
    batches = [(*form, label) for form, label in zip(alone(sequences), labels.split(1), strict=True)]
    expected = head_results(model, batches, len(lengths))
    for name, form in forms(model, sequences, extra, seed).items():
        assert_same_form(name, head_results(model, [(*form, labels)], None), expected)


@pytest.mark.parametrize("bidirectional", DIRECTIONS)
@pytest.mark.parametrize("cell_type", CELLS)
@given(some_lengths, st.integers(0, 4), st.integers(1, 3), seeds)
@few(4)
def test_the_tagger_gives_the_same_for_every_form_of_input(
    cell_type, bidirectional, lengths, extra, num_hidden_layers, seed
):
    model = make(
        RnnForTokenClassification,
        seed,
        cell_type=cell_type,
        num_hidden_layers=num_hidden_layers,
        bidirectional=bidirectional,
        num_labels=3,
    )
    sequences, tags = random_ids(lengths, seed), random_tags(lengths, 3, seed)
    batches = [(*form, row.unsqueeze(0)) for form, row in zip(alone(sequences), tags, strict=True)]
    expected = head_results(model, batches, sum(lengths))
    for name, (arguments, mask) in forms(model, sequences, extra, seed).items():
        found = head_results(model, [(arguments, mask, lay_out(tags, mask))], None)
        assert_same_form(name, found, expected)


@pytest.mark.parametrize("cell_type", CELLS)
def test_embeddings_on_padding_receive_no_gradient(cell_type):
    model = make(RnnForTokenClassification, cell_type=cell_type)
    mask = example_batch()["attention_mask"]
    embeds = torch.randn(3, 5, 5, dtype=model.dtype).masked_fill(mask.unsqueeze(-1) == 0, torch.nan).requires_grad_()
    model(inputs_embeds=embeds, attention_mask=mask).logits.sum().backward()
    assert torch.equal(embeds.grad.abs().sum(dim=-1) > 0, mask.bool())


@pytest.mark.parametrize("model_class", MODELS)
@given(some_lengths, seeds)
@few(5)
def test_packed_sequences_that_are_sorted_already_need_no_indices(model_class, lengths, seed):
    model = make(model_class, seed)
    sequences = random_ids(sorted(lengths, reverse=True), seed)
    packed = pack_sequence(sequences)
    whole = model(input_ids=packed)
    assert packed.sorted_indices is None
    flat = model(input_ids=packed.data, batch_sizes=packed.batch_sizes)
    columns, width = layouts([len(one) for one in sequences], 0, seed)["right"]
    mask = spread([torch.ones_like(one) for one in sequences], columns, width, 0)
    padded = model(input_ids=spread(sequences, columns, width, 0), attention_mask=mask)
    assert_same(dict(whole), dict(padded))
    assert_same(dict(flat), dict(padded))


@pytest.mark.parametrize("cell_type", CELLS)
@given(some_lengths, st.lists(st.integers(1, 4), max_size=3), st.integers(1, 3), seeds)
@few(6)
def test_chunks_with_the_states_of_the_chunk_before_give_the_states_of_one_go(
    cell_type, lengths, chunks, num_hidden_layers, seed
):
    model = make(RnnModel, seed, cell_type=cell_type, bidirectional=False, num_hidden_layers=num_hidden_layers)
    sequences = random_ids(lengths, seed)
    columns, width = layouts(lengths, 0, seed)["right"]
    ids = spread(sequences, columns, width, -1)
    mask = spread([torch.ones_like(one) for one in sequences], columns, width, 0)
    whole = model(input_ids=ids, attention_mask=mask)
    states, pieces = {}, []
    begins = [0, *torch.tensor([0, *chunks]).cumsum(0)[1:].clamp(max=width).tolist(), width]
    for begin, end in pairwise(begins):
        piece = model(input_ids=ids[:, begin:end], attention_mask=mask[:, begin:end], **states)
        states = {"h_0": piece.h_n} if piece.c_n is None else {"h_0": piece.h_n, "c_0": piece.c_n}
        pieces.append(piece.last_hidden_state)
    assert_same({**dict(piece), "last_hidden_state": torch.cat(pieces, dim=1)}, dict(whole))


# What comes out.


def example_batch():
    """Three sequences with padding right, left and in between."""
    mask = torch.tensor([[1, 1, 1, 0, 0], [0, 1, 0, 1, 1], [0, 0, 0, 0, 1]])
    return {"input_ids": torch.randint(VOCAB_SIZE, (3, 5), generator=generator(0)), "attention_mask": mask}


@pytest.mark.parametrize("num_hidden_layers", [1, 3])
@pytest.mark.parametrize("bidirectional", DIRECTIONS)
@pytest.mark.parametrize("cell_type", CELLS)
def test_shapes(cell_type, bidirectional, num_hidden_layers):
    model = make(RnnModel, cell_type=cell_type, bidirectional=bidirectional, num_hidden_layers=num_hidden_layers)
    output = model(**example_batch(), output_hidden_states=True)
    directions = 2 if bidirectional else 1
    assert isinstance(output, RnnModelOutput)
    assert output.last_hidden_state.shape == (3, 5, directions * 4)
    assert output.h_n.shape == (num_hidden_layers * directions, 3, 4)
    assert (output.c_n is None) == (cell_type != "lstm")
    assert cell_type != "lstm" or output.c_n.shape == output.h_n.shape
    assert [states.shape for states in output.hidden_states] == [(3, 5, 5)] + [
        (3, 5, directions * 4)
    ] * num_hidden_layers


@pytest.mark.parametrize("model_class", MODELS)
def test_hidden_states_are_the_embeddings_and_the_states_of_each_layer(model_class):
    model = make(model_class, num_hidden_layers=2)
    batch = example_batch()
    assert model(**batch).hidden_states is None
    embeddings, first, last = model(**batch, output_hidden_states=True).hidden_states
    mask = batch["attention_mask"].bool()
    assert torch.equal(embeddings[mask], model.get_input_embeddings()(batch["input_ids"][mask]))
    assert not embeddings[~mask].any()
    encoder = getattr(model, "model", model)
    assert torch.equal(last, encoder(**batch).last_hidden_state)
    assert first.shape == last.shape
    assert not torch.equal(first, last)
    model.config.output_hidden_states = True
    assert len(model(**batch).hidden_states) == 3


@pytest.mark.parametrize("model_class", MODELS)
def test_without_return_dict_a_tuple_comes_out(model_class):
    model = make(model_class)
    as_dict = model(**example_batch())
    as_tuple = model(**example_batch(), return_dict=False)
    assert isinstance(as_tuple, tuple)
    assert len(as_tuple) == len(as_dict)
    assert all(torch.equal(one, other) for one, other in zip(as_tuple, as_dict.values(), strict=True))
    model.config.return_dict = False
    assert isinstance(model(**example_batch()), tuple)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("bidirectional", DIRECTIONS)
@pytest.mark.parametrize("cell_type", CELLS)
def test_pooling_makes_one_vector_of_the_real_states(cell_type, bidirectional, pooling):
    model = make(RnnForSequenceClassification, cell_type=cell_type, bidirectional=bidirectional, pooling=pooling)
    batch = example_batch()
    states = model.model(**batch).last_hidden_state

    def pool(row):  # [length, size]
        if pooling == "last":
            return torch.cat([row[-1, :4], row[0, 4:]])
        if pooling == "mean":
            return row.mean(dim=0)
        if pooling == "max":
            return row.max(dim=0).values
        return row.t() @ model.attention(row).squeeze(1).softmax(dim=0)

    vectors = [pool(row[real]) for row, real in zip(states, batch["attention_mask"].bool(), strict=True)]
    torch.testing.assert_close(model(**batch).logits, model.classifier(torch.stack(vectors)), rtol=1e-5, atol=1e-6)


def test_the_tagger_classifies_each_real_state_and_gives_0_on_padding():
    model = make(RnnForTokenClassification, num_labels=3)
    batch = example_batch()
    mask = batch["attention_mask"].bool()
    logits = model(**batch).logits
    torch.testing.assert_close(logits[mask], model.classifier(model.model(**batch).last_hidden_state[mask]))
    assert not logits[~mask].any()


@given(some_lengths, seeds)
@few(25)
def test_a_word_of_several_tokens_is_read_to_its_last_forwards_and_to_its_first_backwards(lengths, seed):
    model = make(RnnForTokenClassification, seed % 100, num_labels=3).eval()
    model.word_starts.copy_(torch.rand(VOCAB_SIZE, generator=generator(seed)) < 0.5)
    ids = random_ids(lengths, seed)
    mask = nn.utils.rnn.pad_sequence([torch.ones(length) for length in lengths], batch_first=True)
    logits = model(input_ids=nn.utils.rnn.pad_sequence(ids, batch_first=True), attention_mask=mask).logits
    for row, tagged in zip(ids, logits, strict=True):
        states = model.model(input_ids=row.unsqueeze(0)).last_hidden_state[0]
        for step in range(len(row)):
            end = step
            while end + 1 < len(row) and not model.word_starts[row[end + 1]]:
                end += 1
            expected = model.classifier(torch.cat([states[end, :4], states[step, 4:]]))
            torch.testing.assert_close(tagged[step], expected, rtol=1e-4, atol=1e-5)


def test_auxiliary_labels_count_in_training_only_and_are_those_of_the_first_layer():
    model = make(RnnForTokenClassification, num_labels=3, num_hidden_layers=2)
    with_objectives(model, num_auxiliary_tags=4)
    batch = {"input_ids": torch.tensor([[3, 4, 5]]), "labels": torch.tensor([[0, 2, -100]])}
    tags = torch.tensor([[3, -100, 1]])
    alone = model.train()(**batch).loss
    states = model.model(input_ids=batch["input_ids"], output_hidden_states=True).hidden_states[1]
    auxiliary = nn.functional.cross_entropy(model.objectives.auxiliary_classifier(states)[0], tags[0])
    torch.testing.assert_close(model(**batch, auxiliary_tags=tags).loss, alone + 0.5 * auxiliary)
    torch.testing.assert_close(model.eval()(**batch, auxiliary_tags=tags).loss, alone)


@pytest.mark.parametrize(
    ("model_class", "problem_type", "labels"),
    [
        (RnnForSequenceClassification, "single_label_classification", [2, 0]),
        (RnnForSequenceClassification, "multi_label_classification", [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]),
        (RnnForSequenceClassification, "regression", [[0.5, 1.0, -3.0], [1.0, 0.0, 2.0]]),
        (RnnForTokenClassification, None, [[0, 2, -100], [1, -100, 2]]),
    ],
)
@pytest.mark.parametrize("use_crf", [False, True])
def test_two_readings_with_different_dropout_must_agree_in_training(model_class, problem_type, labels, use_crf):
    model = make(model_class, num_labels=3, problem_type=problem_type, use_crf=use_crf, classifier_dropout=0.5)
    nn.init.normal_(model.classifier.weight)
    ids, labels = torch.tensor([[3, 4, 5], [6, 7, 0]]), torch.tensor(labels)
    batch = {"input_ids": ids, "attention_mask": ids != 0, "labels": labels, "h_0": torch.randn(2, 2, 4)}
    twice = {name: torch.cat([part, part], dim=int(name == "h_0")) for name, part in batch.items()}
    torch.manual_seed(0)
    expected = model.train()(**twice)
    with_objectives(model, rdrop_loss_weight=0.7)
    torch.manual_seed(0)
    output = model(**batch, output_hidden_states=True)

    one, other = expected.logits.chunk(2)
    if problem_type == "regression":
        apart = (one - other) ** 2
    else:
        several = problem_type == "multi_label_classification"
        predict = torch.distributions.Bernoulli if several else torch.distributions.Categorical
        p, q = predict(logits=one), predict(logits=other)
        apart = (torch.distributions.kl_divergence(p, q) + torch.distributions.kl_divergence(q, p)) / 2
    if model_class is RnnForTokenClassification:
        apart = apart[labels != -100]
    assert apart.mean() > 0.001
    torch.testing.assert_close(output.loss, expected.loss + 0.7 * apart.mean())
    assert torch.equal(output.logits, one)
    assert all(len(states) == 2 for states in output.hidden_states)


@pytest.mark.parametrize("model_class", [RnnForSequenceClassification, RnnForTokenClassification])
def test_two_passes_without_dropout_agree(model_class):
    options = {} if model_class is RnnForSequenceClassification else {"lm_loss_weight": 0.5, "num_auxiliary_tags": 4}
    model = make(model_class, num_labels=3, problem_type="single_label_classification").train()
    with_objectives(model, **options)
    ids = torch.tensor([[3, 4, 5], [6, 7, 8]])
    batch = {"input_ids": ids, "labels": ids[:, 0] % 2 if not options else ids % 3, "num_items_in_batch": 9}
    if options:
        batch["auxiliary_tags"] = ids % 4
    once = model(**batch)
    model.objectives.rdrop_loss_weight = 0.7
    twice = model(**batch)
    torch.testing.assert_close(twice.loss, once.loss)
    torch.testing.assert_close(twice.logits, once.logits)


def test_without_a_mask_every_id_is_a_token():
    model = make(RnnModel, pad_token_id=0)
    ids = torch.tensor([[5, 0, 0], [0, 0, 7]])
    assert_same(dict(model(input_ids=ids)), dict(model(input_ids=ids, attention_mask=torch.ones(2, 3))))


@pytest.mark.parametrize("model_class", MODELS)
def test_evaluation_is_deterministic_and_training_drops(model_class):
    for name in ("embedding_dropout", "hidden_dropout", "classifier_dropout"):
        model = make(model_class, num_hidden_layers=2, **{name: 0.5}).eval()
        batch = example_batch()
        assert torch.equal(model(**batch)[0], model(**batch)[0])
        model.train()
        has_effect = model_class is not RnnModel or name != "classifier_dropout"
        assert torch.equal(model(**batch)[0], model(**batch)[0]) != has_effect


def test_the_tagger_drops_the_same_features_at_every_step():
    model = make(RnnForTokenClassification, num_labels=8, classifier_dropout=0.5)
    with torch.no_grad():
        model.classifier.weight.copy_(torch.eye(8))
    batch = example_batch()
    mask = batch["attention_mask"].bool()
    dropped = model(**batch).logits == 0
    for row, real in zip(dropped, mask, strict=True):
        assert torch.equal(row[real], row[real][:1].expand(int(real.sum()), -1))
    assert 0 < dropped[mask].float().mean() < 1


# Extremes.


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("cell_type", CELLS)
def test_sequences_without_a_token_are_classified_by_the_bias_and_leave_others_alone(cell_type, pooling):
    model = make(RnnForSequenceClassification, cell_type=cell_type, pooling=pooling, num_hidden_layers=2)
    torch.nn.init.normal_(model.classifier.bias)
    batch = example_batch()
    with_empty = {name: value[[0, 0, 1, 2, 0]] for name, value in batch.items()}
    with_empty["attention_mask"][[0, 4]] = 0
    output = model(**with_empty, labels=torch.tensor([1, 0, 1, 0, 1]))
    torch.testing.assert_close(output.logits[[0, 4]], model.classifier.bias.expand(2, -1))
    torch.testing.assert_close(output.logits[1:4], model(**batch).logits)
    output.loss.backward()
    assert all(gradient.isfinite().all() for gradient in gradients(model).values())


@pytest.mark.parametrize("cell_type", CELLS)
def test_sequences_without_a_token_are_tagged_with_0_and_leave_others_alone(cell_type):
    model = make(RnnForTokenClassification, cell_type=cell_type, num_hidden_layers=2)
    batch = example_batch()
    with_empty = {name: value[[0, 0, 1, 2, 0]] for name, value in batch.items()}
    with_empty["attention_mask"][[0, 4]] = 0
    labels = torch.where(with_empty["attention_mask"].bool(), 1, -100)
    output = model(**with_empty, labels=labels)
    assert not output.logits[[0, 4]].any()
    torch.testing.assert_close(output.logits[1:4], model(**batch).logits)
    torch.testing.assert_close(output.loss, model(**batch, labels=labels[1:4]).loss)


@pytest.mark.parametrize("shape", [(3, 4), (3, 0), (0, 4), (0, 0)])
@pytest.mark.parametrize("cell_type", CELLS)
def test_a_batch_without_any_token(cell_type, shape):
    arguments = {"input_ids": torch.full(shape, -1), "attention_mask": torch.zeros(shape)}
    output = make(RnnModel, cell_type=cell_type, num_hidden_layers=2)(**arguments)
    assert output.last_hidden_state.shape == (*shape, 8)
    assert output.h_n.shape == (4, shape[0], 4)
    assert not output.h_n.any()
    tagger = make(RnnForTokenClassification, cell_type=cell_type)
    tagged = tagger(**arguments, labels=torch.full(shape, -100))
    assert tagged.logits.shape == (*shape, 2)
    assert tagged.loss == 0
    for pooling in POOLINGS:
        classifier = make(RnnForSequenceClassification, cell_type=cell_type, pooling=pooling)
        classified = classifier(**arguments, labels=torch.ones(shape[0], dtype=torch.long))
        assert classified.logits.shape == (shape[0], 2)
        assert classified.loss.isfinite()
        classified.loss.backward()
        assert all(one.grad is None or one.grad.isfinite().all() for one in classifier.parameters())


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("cell_type", CELLS)
def test_of_a_single_token_every_pooling_takes_its_state(cell_type, pooling):
    model = make(RnnForSequenceClassification, cell_type=cell_type, pooling=pooling)
    state = model.model(input_ids=torch.tensor([[7]])).last_hidden_state[:, 0]
    torch.testing.assert_close(model(input_ids=torch.tensor([[7]])).logits, model.classifier(state))


def test_training_on_a_hundred_thousand_tokens():
    ids = torch.randint(VOCAB_SIZE, (1, 100_000), generator=generator(0))
    model = make(RnnForTokenClassification)
    output = model(input_ids=ids, labels=ids % 2)
    output.loss.backward()
    assert output.logits.shape == (1, 100_000, 2)
    assert all(gradient.isfinite().all() for gradient in gradients(model).values())


@pytest.mark.parametrize("cell_type", CELLS)
def test_inference_on_a_hundred_thousand_tokens(cell_type):
    ids = torch.randint(VOCAB_SIZE, (1, 100_000), generator=generator(0))
    model = make(RnnForSequenceClassification, cell_type=cell_type, bidirectional=False)
    with torch.no_grad():
        assert model(input_ids=ids).logits.isfinite().all()


# Sequences of known lengths, with every shape written out.

LENGTHS = (20, 5, 8, 10, 15, 18, 17, 6, 6, 18)


def ten_sequences():
    source = generator(0)
    ids = [torch.randint(100, (length,), generator=source).tolist() for length in LENGTHS]
    return DataCollatorWithPacking(tokenizer())([{"input_ids": one} for one in ids])


def of_known_size(model_class, **options):
    torch.manual_seed(0)
    sizes = {"vocab_size": 100, "embedding_size": 256, "hidden_size": 512, "cell_type": "rnn_tanh"}
    return model_class(RnnConfig(**sizes, **options)).eval()


def test_ten_sequences_in_one_direction():
    batch = ten_sequences()
    assert batch["input_ids"].shape == (123,)
    batch_sizes = batch["batch_sizes"].tolist()
    assert batch_sizes[0] == 10
    assert batch_sizes[-1] == 1
    assert len(batch_sizes) == 20
    assert sum(batch_sizes) == 123

    model = of_known_size(RnnModel, bidirectional=False)
    _, embeddings, packing, packed, *_ = model(**batch, return_packed=True, output_hidden_states=True)
    assert embeddings.shape == (123, 256)
    assert packing.lengths.tolist() == list(LENGTHS)
    assert packed.states[-1].shape == (123, 512)

    output = model(**batch)
    assert output.last_hidden_state.shape == (10, 20, 512)
    assert output.h_n.shape == (1, 10, 512)
    assert output.c_n is None
    for row, length in enumerate(LENGTHS):
        assert torch.equal(output.h_n[0, row], output.last_hidden_state[row, length - 1])
        assert not output.last_hidden_state[row, length:].any()


def test_ten_sequences_in_both_directions():
    output = of_known_size(RnnModel, bidirectional=True)(**ten_sequences())
    assert output.last_hidden_state.shape == (10, 20, 1024)
    assert output.h_n.shape == (2, 10, 512)
    for row, length in enumerate(LENGTHS):
        assert torch.equal(output.h_n[0, row], output.last_hidden_state[row, length - 1, :512])
        assert torch.equal(output.h_n[1, row], output.last_hidden_state[row, 0, 512:])


@pytest.mark.parametrize("bidirectional", DIRECTIONS)
def test_ten_sequences_classified_and_tagged(bidirectional):
    batch = ten_sequences()
    classifier = of_known_size(RnnForSequenceClassification, bidirectional=bidirectional)
    assert classifier(**batch).logits.shape == (10, 2)
    tagger = of_known_size(RnnForTokenClassification, bidirectional=bidirectional, num_labels=5)
    assert tagger(**batch).logits.shape == (10, 20, 5)


# Losses.

TASKS = {
    "single label": (3, torch.tensor([2, 0, 1]), nn.functional.cross_entropy),
    "single label, one ignored": (3, torch.tensor([2, -100, 1]), nn.functional.cross_entropy),
    "several labels": (
        3,
        torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1]]),
        nn.functional.binary_cross_entropy_with_logits,
    ),
    "regression": (1, torch.tensor([0.5, -3.0, 2.0]), lambda logits, labels: ((logits[:, 0] - labels) ** 2).mean()),
    "regression of several values": (3, torch.arange(9.0).view(3, 3), nn.functional.mse_loss),
}
PROBLEM_TYPES = {
    "single label": "single_label_classification",
    "single label, one ignored": "single_label_classification",
    "several labels": "multi_label_classification",
    "regression": "regression",
    "regression of several values": "regression",
}


def task_model(task, **options):
    problem_type = "regression" if task == "regression of several values" else None
    return make(RnnForSequenceClassification, num_labels=TASKS[task][0], problem_type=problem_type, **options)


@pytest.mark.parametrize("task", TASKS)
def test_the_classifier_averages_its_loss_over_the_labels(task):
    _, labels, loss = TASKS[task]
    output = task_model(task)(**example_batch(), labels=labels)
    torch.testing.assert_close(output.loss, loss(output.logits, labels))


@pytest.mark.parametrize("task", TASKS)
def test_the_problem_type_is_inferred_from_the_labels(task):
    model = task_model(task)
    model(**example_batch(), labels=TASKS[task][1])
    assert model.config.problem_type == PROBLEM_TYPES[task]


def test_a_given_problem_type_stays():
    model = make(RnnForSequenceClassification, num_labels=3, problem_type="regression")
    labels = torch.eye(3)
    output = model(**example_batch(), labels=labels)
    assert model.config.problem_type == "regression"
    torch.testing.assert_close(output.loss, nn.functional.mse_loss(output.logits, labels))


def test_a_single_value_may_be_given_with_or_without_a_dimension_of_its_own():
    model = make(RnnForSequenceClassification, num_labels=1)
    labels = torch.tensor([0.5, -3.0, 2.0])
    flat, column = (model(**example_batch(), labels=one).loss for one in (labels, labels.unsqueeze(1)))
    assert torch.equal(flat, column)


def test_the_tagger_averages_its_loss_over_the_tags_that_count():
    model = make(RnnForTokenClassification, num_labels=3)
    batch = example_batch()
    mask = batch["attention_mask"].bool()
    labels = torch.where(mask, torch.arange(15).view(3, 5) % 3, -100)
    labels[1, 3] = -100
    output = model(**batch, labels=labels)
    torch.testing.assert_close(
        output.loss, nn.functional.cross_entropy(output.logits[labels != -100], labels[labels != -100])
    )


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_losses_of_small_classifier_batches_sum_to_that_of_the_big_one(task, as_tensor):
    model, labels = task_model(task), TASKS[task][1]
    count = int((labels != -100).sum())
    assert_small_batches_sum_to_the_big_one(model, labels, torch.tensor(count) if as_tensor else count)


def test_losses_of_small_tagger_batches_sum_to_that_of_the_big_one():
    model = make(RnnForTokenClassification, num_labels=3)
    labels = torch.where(example_batch()["attention_mask"].bool(), torch.arange(15).view(3, 5) % 3, -100)
    assert_small_batches_sum_to_the_big_one(model, labels, int((labels != -100).sum()))


def assert_small_batches_sum_to_the_big_one(model, labels, num_items):
    batch = {**example_batch(), "labels": labels}
    big = model(**batch).loss
    big.backward()
    expected = {"loss": big, **gradients(model)}
    losses = []
    for rows in ([0, 1], [2]):
        small = {name: value[rows] for name, value in batch.items()}
        losses.append(model(**small, num_items_in_batch=num_items).loss)
        losses[-1].backward()
    assert_same({"loss": sum(losses), **gradients(model)}, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("num_items_in_batch", [None, 0, torch.tensor(0)])
@pytest.mark.parametrize("model_class", HEADS)
def test_where_no_label_counts_the_loss_and_its_gradients_are_0(model_class, num_items_in_batch):
    model = make(model_class)
    labels = torch.full((3, 5) if model_class is RnnForTokenClassification else (3,), -100)
    loss = model(**example_batch(), labels=labels, num_items_in_batch=num_items_in_batch).loss
    assert loss == 0
    loss.backward()
    assert not any(gradient.any() for gradient in gradients(model).values())


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("bidirectional", DIRECTIONS)
@pytest.mark.parametrize("cell_type", CELLS)
def test_every_parameter_receives_a_gradient(cell_type, bidirectional, pooling):
    options = {"cell_type": cell_type, "bidirectional": bidirectional, "num_hidden_layers": 2}
    ids = torch.randint(VOCAB_SIZE, (20, 9), generator=generator(0))
    for model, labels in (
        (make(RnnForSequenceClassification, **options, pooling=pooling), ids[:, 0] % 2),
        (make(RnnForTokenClassification, **options), ids % 2),
    ):
        model(input_ids=ids, labels=labels).loss.backward()
        for name, gradient in gradients(model).items():
            assert gradient.isfinite().all(), name
            assert gradient.any(), name


# Weights.


def assert_initialised(name, values, config):
    """Check a parameter for the initial distribution that its name calls for."""
    values = values.float()
    assert values.isfinite().all(), name
    if "rnn.bias" in name:
        expected = torch.zeros_like(values)
        if config.cell_type == "lstm" and "bias_ih" in name:
            expected[config.hidden_size : 2 * config.hidden_size] = 1
        assert torch.equal(values, expected), name
    elif "rnn.weight_hh" in name:
        for gate in values.split(config.hidden_size):
            torch.testing.assert_close(gate @ gate.t(), torch.eye(config.hidden_size))
    elif name.endswith("bias"):
        assert not values.any(), name
    elif name == "word_starts":
        assert values.all(), name
    elif "embeddings" in name:
        assert 0.8 < values.std() / config.initializer_range < 1.2, name
    else:
        gates = values.split(config.hidden_size) if "rnn.weight_ih" in name else [values]
        for gate in gates:
            bound = math.sqrt(6 / sum(gate.shape))
            assert bound / 2 < gate.abs().max() <= bound, name
            assert gate.unique().numel() > 1, name


def disturbed(model):
    """Give all parameters values that no initialisation gives."""
    for parameter in model.parameters():
        nn.init.uniform_(parameter, 2, 3)
    return model


@pytest.mark.parametrize("model_class", MODELS)
@pytest.mark.parametrize("cell_type", CELLS)
def test_initial_weights(cell_type, model_class):
    model = make(model_class, cell_type=cell_type, num_hidden_layers=3, pooling="attention", hidden_size=8)
    for name, parameter in model.named_parameters():
        assert_initialised(name, parameter, model.config)


def test_the_initializer_range_sets_the_deviation_of_embeddings():
    for initializer_range in (0, 0.02, 1.0):
        model = make(RnnModel, initializer_range=initializer_range, vocab_size=1000)
        assert model.get_input_embeddings().weight.std().item() == pytest.approx(initializer_range, rel=0.1)


def test_the_same_seed_gives_the_same_weights():
    first, second, other = (make(RnnForTokenClassification, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["model.rnn.weight_hh_l0"], other["model.rnn.weight_hh_l0"])


@pytest.mark.parametrize("bidirectional", DIRECTIONS)
@pytest.mark.parametrize("cell_type", CELLS)
def test_stock_modules_take_the_weights(cell_type, bidirectional):
    model = make(RnnModel, cell_type=cell_type, bidirectional=bidirectional, num_hidden_layers=2).float()
    module = {"lstm": nn.LSTM, "gru": nn.GRU}.get(cell_type, nn.RNN)
    options = {"nonlinearity": cell_type.removeprefix("rnn_")} if module is nn.RNN else {}
    stock = module(5, 4, num_layers=2, bidirectional=bidirectional, **options)
    stock.load_state_dict(model.rnn.state_dict())
    packed = pack_sequence(random_ids([6, 2, 9], 0), enforce_sorted=False)
    states, final = stock(packed._replace(data=model.embeddings(packed.data)))
    output = model(input_ids=packed)
    torch.testing.assert_close(pad_packed_sequence(states, batch_first=True)[0], output.last_hidden_state)
    torch.testing.assert_close(final, (output.h_n, output.c_n) if cell_type == "lstm" else output.h_n)


# Saving and loading.


@pytest.mark.parametrize("model_class", MODELS)
@pytest.mark.parametrize("cell_type", CELLS)
def test_a_saved_model_predicts_the_same_after_loading(cell_type, model_class, tmp_path):
    model = make(model_class, cell_type=cell_type, pooling="attention", num_hidden_layers=2).eval()
    model.save_pretrained(tmp_path)
    beside_code = {path.name for path in tmp_path.iterdir() if path.suffix != ".py"}
    assert beside_code == {"config.json", "model.safetensors"}
    loaded = model_class.from_pretrained(tmp_path)
    assert not loaded.training
    assert_same(dict(loaded(**example_batch())), dict(model(**example_batch())), rtol=1e-5, atol=1e-6)
    assert_same(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)


def test_auto_classes_load_every_model(tmp_path):
    autos = (AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification)
    for model_class in MODELS:
        model = disturbed(make(model_class))
        model.save_pretrained(tmp_path)
        assert type(AutoConfig.from_pretrained(tmp_path)) is RnnConfig
        for auto, loaded_class in zip(autos, MODELS, strict=True):
            loaded = auto.from_pretrained(tmp_path)
            assert type(loaded) is loaded_class
            assert torch.equal(loaded.get_input_embeddings().weight, model.get_input_embeddings().weight)


@pytest.mark.parametrize("loaded_class", MODELS)
@pytest.mark.parametrize("saved_class", MODELS)
@pytest.mark.parametrize("cell_type", CELLS)
def test_each_model_loads_what_it_shares_with_another_and_initialises_the_rest(
    cell_type, saved_class, loaded_class, tmp_path
):
    saved = disturbed(make(saved_class, cell_type=cell_type, pooling="attention"))
    saved.save_pretrained(tmp_path)
    loaded = loaded_class.from_pretrained(tmp_path)
    weights = {name.removeprefix("model."): value for name, value in saved.state_dict().items()}
    for name, value in loaded.state_dict().items():
        if name.removeprefix("model.") in weights:
            assert torch.equal(value, weights[name.removeprefix("model.")]), name
        else:
            assert_initialised(name, value, loaded.config)


@pytest.mark.parametrize("cell_type", CELLS)
def test_a_weight_missing_from_a_checkpoint_is_initialised_and_no_other(cell_type, tmp_path):
    weights = disturbed(make(RnnForSequenceClassification, cell_type=cell_type, pooling="attention")).state_dict()
    model = make(RnnForSequenceClassification, cell_type=cell_type, pooling="attention")
    for missing in weights:
        model.save_pretrained(tmp_path, state_dict={name: weights[name] for name in weights if name != missing})
        loaded = RnnForSequenceClassification.from_pretrained(tmp_path)
        assert_initialised(missing, loaded.state_dict()[missing], loaded.config)
        kept = {name: value for name, value in loaded.state_dict().items() if name != missing}
        assert_same(kept, {name: weights[name] for name in kept}, rtol=0, atol=0)


def test_another_number_of_labels_replaces_the_classifier_only(tmp_path):
    for model_class in HEADS:
        saved = disturbed(make(model_class, num_labels=2))
        saved.save_pretrained(tmp_path)
        with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
            model_class.from_pretrained(tmp_path, num_labels=5)
        names = {index: f"class {index}" for index in range(5)}
        loaded = model_class.from_pretrained(tmp_path, id2label=names, ignore_mismatched_sizes=True)
        assert loaded.config.label2id == {name: index for index, name in names.items()}
        assert loaded(**example_batch()).logits.shape[-1] == 5
        assert_same(loaded.model.state_dict(), saved.model.state_dict(), rtol=0, atol=0)
        for name, parameter in loaded.classifier.named_parameters(prefix="classifier"):
            assert_initialised(name, parameter, loaded.config)


@pytest.mark.parametrize("model_class", MODELS)
def test_the_vocabulary_grows_and_shrinks(model_class):
    model = make(model_class)
    before = model.get_input_embeddings().weight.detach().clone()
    model.resize_token_embeddings(VOCAB_SIZE + 3)
    assert model.config.vocab_size == VOCAB_SIZE + 3
    assert torch.equal(model.get_input_embeddings().weight[:VOCAB_SIZE], before)
    assert model(input_ids=torch.tensor([[VOCAB_SIZE + 2]]))[0].isfinite().all()
    model.resize_token_embeddings(10)
    assert model.config.vocab_size == 10
    assert torch.equal(model.get_input_embeddings().weight, before[:10])


@pytest.mark.parametrize("model_class", MODELS)
def test_input_embeddings_can_be_replaced(model_class):
    model, embeddings = make(model_class), nn.Embedding(VOCAB_SIZE, 5)
    model.set_input_embeddings(embeddings)
    assert model.get_input_embeddings() is embeddings
    by_ids = model(**example_batch())
    mask = example_batch()["attention_mask"]
    by_vectors = model(inputs_embeds=embeddings(example_batch()["input_ids"]), attention_mask=mask)
    assert_same(dict(by_ids), dict(by_vectors), rtol=0, atol=0)


@pytest.mark.parametrize("new_size", [VOCAB_SIZE + 3, 10])
@pytest.mark.parametrize("resize", ["model", "encoder", "table of the model", "table of the encoder"])
@pytest.mark.parametrize("model_class", MODELS)
def test_however_the_vocabulary_is_resized_all_tables_fit_and_survive_saving(model_class, resize, new_size, tmp_path):
    options = {"characters": "ab", "max_characters_per_token": 4, "char_num_filters": 2}
    model = make(model_class, static_embedding_size=2, static_vocab_size=3, **options).eval()
    model.base_model.embeddings.character_cnn.character_ids[:] = 5
    model.base_model.embeddings.static_embeddings.vector_ids[:] = 1
    if model_class is RnnForTokenClassification:
        model.word_starts[[1, 8]] = False
    ids = torch.tensor([[3, 8, 9]])
    before = model(input_ids=ids)[0]
    resized = model if resize.endswith("the model") or resize == "model" else model.base_model
    if "table" in resize:
        table = nn.Embedding(new_size, 5)
        table.weight.data[:10] = model.get_input_embeddings().weight.data[:10]
        resized.set_input_embeddings(table)
    else:
        resized.resize_token_embeddings(new_size)
    model.save_pretrained(tmp_path)
    loaded = model_class.from_pretrained(tmp_path)
    for one in (model, loaded):
        assert one.config.vocab_size == new_size
        torch.testing.assert_close(one(input_ids=ids)[0], before)
        assert one(input_ids=torch.tensor([[new_size - 1]]))[0].isfinite().all()
        with pytest.raises(ValueError, match=f"below the vocabulary's size, {new_size}"):
            one(input_ids=torch.tensor([[new_size]]))
        assert {len(table) for table in one.buffers()} == {new_size}
    if model_class is RnnForTokenClassification:
        assert (~loaded.word_starts).nonzero().flatten().tolist() == [1, 8]


@pytest.mark.parametrize("model_class", MODELS)
def test_tables_that_do_not_fit_are_refused(model_class):
    model = make(model_class, pad_token_id=0, eos_token_id=9)
    with pytest.raises(ValueError, match="embedding_size=5, got 6"):
        model.set_input_embeddings(nn.Embedding(VOCAB_SIZE, 6))
    with pytest.raises(ValueError, match=r"must be an nn.Embedding, got Linear"):
        model.set_input_embeddings(nn.Linear(5, VOCAB_SIZE))
    for cut in (lambda: model.set_input_embeddings(nn.Embedding(9, 5)), lambda: model.resize_token_embeddings(9)):
        with pytest.raises(ValueError, match="eos_token_id=9 is outside a vocabulary of 9 entries"):
            cut()
    assert model.config.vocab_size == VOCAB_SIZE
    mixed = make(model_class, num_word_embeddings=20)
    mixed.set_input_embeddings(nn.Embedding(20, 5))
    with pytest.raises(ValueError, match="num_word_embeddings=20 rows, got 30"):
        mixed.set_input_embeddings(nn.Embedding(30, 5))


@pytest.mark.parametrize("cell_type", CELLS)
def test_models_load_in_bfloat16(cell_type, tmp_path):
    model = make(RnnForSequenceClassification, cell_type=cell_type).float().eval()
    model.save_pretrained(tmp_path / "single")
    half = RnnForSequenceClassification.from_pretrained(tmp_path / "single", dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    half.save_pretrained(tmp_path / "half")
    again = RnnForSequenceClassification.from_pretrained(tmp_path / "half")
    assert {parameter.dtype for parameter in again.parameters()} == {torch.bfloat16}
    labels = torch.tensor([0, 1, 0])
    expected = model(**example_batch(), labels=labels)
    for loaded in (half, again):
        output = loaded(**example_batch(), labels=labels)
        torch.testing.assert_close(output.logits.float(), expected.logits, rtol=0.05, atol=0.02)
        torch.testing.assert_close(output.loss, expected.loss, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("cell_type", CELLS)
def test_autocast_is_near_single_precision(cell_type, pooling):
    labels = torch.tensor([0, 1, 0])
    for model, one in (
        (make(RnnForSequenceClassification, cell_type=cell_type, pooling=pooling).float(), labels),
        (make(RnnForTokenClassification, cell_type=cell_type).float(), example_batch()["input_ids"] % 2),
    ):
        expected = model(**example_batch(), labels=one)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = model(**example_batch(), labels=one)
        torch.testing.assert_close(output.logits.float(), expected.logits, rtol=0.05, atol=0.02)
        torch.testing.assert_close(output.loss, expected.loss, rtol=0.05, atol=0.02)
        output.loss.backward()
        assert all(gradient.isfinite().all() for gradient in gradients(model).values())


# Pipelines.

TEXTS = [
    "the cat sat on the mat",
    "",
    "a bird!",
    "ideas sleep furiously " * 9,
    " ",
    "unheard 言葉 🙂",
    "cat",
    "a, a, a",
]


@cache
def pipe(task):
    model_class = {"text-classification": RnnForSequenceClassification}.get(task, RnnForTokenClassification)
    names = {0: "red", 1: "green", 2: "blue"}
    model = make(model_class, vocab_size=len(tokenizer()), id2label=names, pad_token_id=tokenizer().pad_token_id)
    return pipeline(task, model=model.eval(), tokenizer=tokenizer(), device="cpu")


def rounded(found):
    """Round all scores, for comparison."""
    if isinstance(found, list):
        return [rounded(one) for one in found]
    return {name: pytest.approx(value, abs=1e-5) if name == "score" else value for name, value in found.items()}


@given(st.lists(st.text(max_size=20) | st.sampled_from(TEXTS), min_size=1, max_size=9))
@few(15)
def test_batches_of_texts_are_classified_as_each_alone(texts):
    classify = pipe("text-classification")
    one_by_one = classify(texts, batch_size=1, top_k=None)
    assert classify(texts, batch_size=8, top_k=None) == rounded(one_by_one)
    assert [{one["label"] for one in scores} for scores in one_by_one] == [{"red", "green", "blue"}] * len(texts)
    assert all(sum(one["score"] for one in scores) == pytest.approx(1) for scores in one_by_one)


@given(st.lists(st.text(max_size=20) | st.sampled_from(TEXTS), min_size=1, max_size=9))
@few(15)
def test_batches_of_texts_are_tagged_as_each_alone(texts):
    tag = pipe("token-classification")
    one_by_one = tag(texts, batch_size=1)
    assert tag(texts, batch_size=8) == rounded(one_by_one)
    for text, tags in zip(texts, one_by_one, strict=True):
        assert [one["index"] for one in tags] == list(range(len(tokenizer()(text)["input_ids"]) - 1))


def test_the_empty_text_gets_one_prediction():
    assert len(pipe("text-classification")("")) == 1
    assert len(pipe("text-classification")(["", "", ""])) == 3
    assert pipe("token-classification")("") == []


@pytest.mark.parametrize("batch_size", [1, 8])
def test_sentences_that_are_split_into_words_are_tagged_by_word(batch_size):
    sentences = [["the", "cat", "sat"], ["bird"], ["a", "colourless", "dog", "sleep"]]
    tag = pipe("token-classification")
    found = tag(sentences, is_split_into_words=True, aggregation_strategy="first", batch_size=batch_size)
    alone_found = [tag([one], is_split_into_words=True, aggregation_strategy="first")[0] for one in sentences]
    assert found == rounded(alone_found)
    assert {entity["entity_group"] for entities in found for entity in entities} <= {"red", "green", "blue"}
    for entities, words in zip(found, sentences, strict=True):
        assert " ".join(entity["word"] for entity in entities) == " ".join(words)


def test_a_folder_with_model_and_tokenizer_makes_a_pipeline(tmp_path):
    classify = pipe("text-classification")
    classify.model.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    loaded = pipeline("text-classification", model=str(tmp_path), device="cpu")
    assert loaded(TEXTS) == rounded(classify(TEXTS))


# Refusals.

PACKED = {"input_ids": torch.arange(5), "batch_sizes": torch.tensor([2, 2, 1])}


@pytest.mark.parametrize("model_class", MODELS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Give input_ids or inputs_embeds"),
        ({"input_ids": torch.ones(1, 2).long(), "inputs_embeds": torch.ones(1, 3, 5)}, "must have the same"),
        ({"input_ids": torch.ones(1, 2)}, "input_ids must be integers, the ids of tokens; got torch.float32"),
        ({"input_ids": torch.ones(1, 2).bool()}, "input_ids must be integers"),
        ({"inputs_embeds": torch.ones(1, 2, 5).long()}, "inputs_embeds must be floating point numbers"),
        ({**PACKED, "attention_mask": torch.ones(2, 3)}, "batch_sizes or attention_mask, not both"),
        (
            {"input_ids": pack_sequence([torch.arange(3)]), "attention_mask": torch.ones(1, 3)},
            "batch_sizes or attention_mask, not both",
        ),
        ({**PACKED, "input_ids": torch.arange(6)}, r"as many tokens as batch_sizes sums to, 5, .* shape \[6\]"),
        ({**PACKED, "input_ids": torch.ones(5, 2).long()}, r"as many tokens as batch_sizes sums to.* shape \[5, 2\]"),
        ({"inputs_embeds": torch.ones(4, 5), "batch_sizes": PACKED["batch_sizes"]}, "nn.DataParallel splits"),
        ({"input_ids": torch.arange(5)}, r"\[batch_size, sequence_length\], got the shape|Packed input comes with"),
        ({"inputs_embeds": torch.ones(4, 5)}, r"\[batch_size, sequence_length, input_size\]"),
        ({"inputs_embeds": torch.ones(1, 2, 3)}, "input_size=5 features, got 3"),
        (
            {"input_ids": torch.ones(2, 3).long(), "attention_mask": torch.ones(2, 4)},
            r"attention_mask must have the shape .* = \[2, 3\], got \[2, 4\]",
        ),
        (
            {"input_ids": torch.ones(2, 3).long(), "attention_mask": torch.tensor([[1.0, torch.nan, 0]] * 2)},
            "attention_mask must be 0 for padding .* NaN",
        ),
        ({"input_ids": torch.ones(2, 3).long(), "h_0": torch.zeros(1, 2, 4)}, r"h_0 must have .* = \[2, 2, 4\]"),
        *(
            ({"input_ids": torch.ones(2, 3).long(), name: torch.zeros(2, 2, 4).to(wrong)}, f"{name} must be of")
            for name in ("h_0", "c_0")
            for wrong in (torch.float64, torch.long, torch.float16, "meta")
        ),
    ],
)
def test_contradicting_input_is_refused(model_class, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(model_class)(**arguments)


@pytest.mark.parametrize("outside", [-1, VOCAB_SIZE, 10**12])
@pytest.mark.parametrize("model_class", MODELS)
def test_ids_outside_the_vocabulary_are_refused(model_class, outside):
    with pytest.raises(ValueError, match="vocabulary"):
        make(model_class)(input_ids=torch.tensor([[1, outside]]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch_sizes": torch.tensor([2, 2, 1, 0])}, "batch_sizes must be at least 1 and never increase"),
        ({"batch_sizes": torch.tensor([2, 1, 2])}, "batch_sizes must be at least 1 and never increase"),
        ({"batch_sizes": torch.tensor([3, 3, -1])}, "batch_sizes must be at least 1 and never increase"),
        ({"batch_sizes": torch.tensor([2.0, 2.0, 1.0])}, "batch_sizes must be a tensor of integers of one dimension"),
        ({"batch_sizes": torch.tensor([[2, 2, 1]])}, "batch_sizes must be a tensor of integers of one dimension"),
        ({"batch_sizes": torch.tensor([2, 2, 2])}, "as many tokens as batch_sizes sums to, 6"),
        ({"sorted_indices": torch.tensor([0, 0])}, r"sorted_indices must hold each row from 0 to 1 once; got \[0, 0\]"),
        ({"sorted_indices": torch.tensor([1, 2])}, "sorted_indices must hold each row from 0 to 1 once"),
        ({"sorted_indices": torch.tensor([-1, 0])}, "sorted_indices must hold each row from 0 to 1 once"),
        ({"sorted_indices": torch.tensor([0, 10**15])}, "sorted_indices must hold each row from 0 to 1 once"),
        ({"sorted_indices": torch.tensor([0])}, "sorted_indices must hold each row of the batch, which has 2"),
        ({"sorted_indices": torch.tensor([1.0, 0.0])}, "sorted_indices must be a tensor of integers"),
        ({"unsorted_indices": torch.tensor([1, 0])}, r"the inverse of sorted_indices, \[0, 1\]; got \[1, 0\]"),
        ({"unsorted_indices": torch.tensor([0, 5])}, "must be the inverse of sorted_indices"),
        ({"unsorted_indices": torch.tensor([0, 1, 2])}, "as many rows as sorted_indices, 2; got 3"),
    ],
    ids=str,
)
@pytest.mark.parametrize("model_class", MODELS)
def test_a_layout_that_no_packed_sequence_has_is_refused(model_class, fields, message):
    model = make(model_class).train()
    whole = {**PACKED, "sorted_indices": torch.tensor([0, 1]), "unsorted_indices": torch.tensor([0, 1]), **fields}
    with pytest.raises(ValueError, match=message):
        model(**whole)
    layout = (whole[name] for name in ("batch_sizes", "sorted_indices", "unsorted_indices"))
    with pytest.raises(ValueError, match=message):
        model(input_ids=PackedSequence(whole["input_ids"], *layout))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_integers_of_any_size_do_as_ids_and_layout(dtype):
    model = make(RnnForTokenClassification)
    small = {name: value.to(dtype) for name, value in PACKED.items()}
    labels = torch.tensor([[0, 1, 0], [1, 0, -100]])
    expected = model(**PACKED, labels=labels)
    assert_same(dict(model(**small, labels=labels.to(torch.int16))), dict(expected))


class TestLabelsAreRefused:
    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (torch.zeros(3, 4).long(), r"labels must have the shape \[3, 5\], got \[3, 4\]"),
            (torch.zeros(15).long(), r"labels must have the shape \[3, 5\], got \[15\]"),
            (torch.zeros(3, 5), "labels must be integers, the ids of classes; got torch.float32"),
            (torch.full((3, 5), 2), "labels must be from 0 to 1, or -100 where there is none; got 2"),
            (torch.full((3, 5), -1), "labels must be from 0 to 1, or -100 where there is none; got -1"),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("use_crf", [False, True])
    def test_by_the_tagger(self, use_crf, labels, message):
        with pytest.raises(ValueError, match=message):
            make(RnnForTokenClassification, use_crf=use_crf)(**example_batch(), labels=labels)

    @pytest.mark.parametrize("tags", [torch.full((3, 5), 4), torch.zeros(3, 4).long(), torch.zeros(3, 5)], ids=str)
    def test_by_the_tagger_for_auxiliary_labels(self, tags):
        model = with_objectives(make(RnnForTokenClassification), num_auxiliary_tags=4).train()
        with pytest.raises(ValueError, match="auxiliary_tags must"):
            model(**example_batch(), labels=torch.zeros(3, 5).long(), auxiliary_tags=tags)

    @pytest.mark.parametrize(
        ("problem_type", "num_labels", "labels", "message"),
        [
            ("single_label_classification", 3, torch.zeros(3, 3), "one class id for each sequence, .* Several labels"),
            ("single_label_classification", 3, torch.zeros(3), "labels must be integers"),
            ("single_label_classification", 3, torch.zeros(2).long(), r"the shape \[3\], got \[2\]"),
            ("single_label_classification", 3, torch.tensor([0, 1, 3]), "labels must be from 0 to 2.* got 3"),
            ("single_label_classification", 3, torch.tensor([0, 1, -7]), "labels must be from 0 to 2.* got -7"),
            (None, 3, torch.tensor([0, 1, 3]), "labels must be from 0 to 2"),
            (None, 3, torch.ones(3, 3).long(), "one class id for each sequence"),
            (None, 3, torch.ones(3), r"\[batch_size, num_labels\] = \[3, 3\], 0 or 1 for each label; got \[3\]"),
            ("multi_label_classification", 3, torch.ones(3, 2), r"= \[3, 3\], 0 or 1 for each label; got \[3, 2\]"),
            ("multi_label_classification", 3, torch.ones(3).long(), r"= \[3, 3\], 0 or 1 for each label; got \[3\]"),
            ("multi_label_classification", 3, torch.ones(9), r"= \[3, 3\], 0 or 1 for each label; got \[9\]"),
            ("regression", 1, torch.ones(2), r"= \[3, 1\], a value for each label; got \[2\]"),
            ("regression", 1, torch.ones(1, 3), r"= \[3, 1\], a value for each label; got \[1, 3\]"),
            ("regression", 3, torch.ones(3), r"= \[3, 3\], a value for each label; got \[3\]"),
            ("regression", 2, torch.ones(2, 3), r"= \[3, 2\], a value for each label; got \[2, 3\]"),
        ],
        ids=str,
    )
    def test_by_the_classifier_which_then_still_takes_right_ones(self, problem_type, num_labels, labels, message):
        model = make(RnnForSequenceClassification, num_labels=num_labels, problem_type=problem_type)
        with pytest.raises(ValueError, match=message):
            model(**example_batch(), labels=labels)
        assert model.config.problem_type == problem_type


# Vectors beside ids.


@pytest.mark.parametrize("model_class", MODELS)
def test_vectors_beside_ids_take_their_place_in_every_form_of_input(model_class):
    model = make(model_class).eval()
    if model_class is RnnForTokenClassification:
        model.word_starts[::2] = False
    sequences = random_ids([4, 1, 6], 0)
    embedded = [model.get_input_embeddings()(sequence) for sequence in sequences]
    by_ids = forms(model, sequences, 2, 0)
    padded = by_ids["holes, 0 on padding"][0]
    packed = by_ids["collated"][0]
    expected = dict(model(**packed))
    vectors = by_ids["packed embeddings"][0]["inputs_embeds"]
    assert_same(dict(model(**packed, inputs_embeds=vectors)), expected)
    assert_same(dict(model(**by_ids["packed sequence"][0], inputs_embeds=vectors)), expected)
    whole = pack_sequence(embedded, enforce_sorted=False)
    assert_same(dict(model(**by_ids["packed sequence"][0], inputs_embeds=whole)), expected)
    in_holes = dict(model(**padded, inputs_embeds=by_ids["holes, embeddings"][0]["inputs_embeds"]))
    assert_same(in_holes, dict(model(**padded)))
    other = dict(model(**packed, inputs_embeds=-vectors))
    assert not torch.equal(next(iter(other.values())), next(iter(expected.values())))


@pytest.mark.parametrize(("bidirectional", "use_crf"), [(True, False), (False, True), (True, True)])
def test_vectors_alone_do_not_tell_which_tokens_begin_a_word(bidirectional, use_crf):
    model = make(RnnForTokenClassification, bidirectional=bidirectional, use_crf=use_crf).eval()
    ids = torch.tensor([[3, 4, 5]])
    vectors = model.get_input_embeddings()(ids)
    expected = model(input_ids=ids)
    torch.testing.assert_close(model(inputs_embeds=vectors).logits, expected.logits)
    model.word_starts[4] = False
    for call in (model, model.marginals):
        with pytest.raises(ValueError, match="give input_ids beside inputs_embeds"):
            call(inputs_embeds=vectors)
    torch.testing.assert_close(model(input_ids=ids, inputs_embeds=vectors).logits, model(input_ids=ids).logits)


def test_a_tagger_that_reads_each_token_by_itself_takes_vectors_alone():
    model = make(RnnForTokenClassification, bidirectional=False).eval()
    model.word_starts[4] = False
    ids = torch.tensor([[3, 4, 5]])
    vectors = model.get_input_embeddings()(ids)
    torch.testing.assert_close(model(inputs_embeds=vectors).logits, model(input_ids=ids).logits)


def test_ids_outside_the_vocabulary_are_refused_beside_vectors_too():
    with pytest.raises(ValueError, match="vocabulary"):
        make(RnnForTokenClassification)(input_ids=torch.tensor([[1, VOCAB_SIZE]]), inputs_embeds=torch.ones(1, 2, 5))


# Hooks and modes.


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("cell_type", CELLS)
@pytest.mark.parametrize("model_class", MODELS)
def test_hooks_of_the_encoder_and_of_its_recurrence_run(model_class, cell_type, training):
    model = make(model_class, cell_type=cell_type).train(training)
    if model_class is not RnnModel:
        with_objectives(model, rdrop_loss_weight=0.5)
    encoder = getattr(model, "model", model)
    seen = []
    for name, module in (("encoder", encoder), ("rnn", encoder.rnn)):
        module.register_forward_pre_hook(lambda *_, name=name: seen.append(f"before {name}"))
        module.register_forward_hook(lambda *_, name=name: seen.append(f"after {name}"))
    labels = {RnnForSequenceClassification: torch.ones(3).long(), RnnForTokenClassification: torch.ones(3, 5).long()}
    model(**example_batch(), **({"labels": labels[model_class]} if model_class in labels else {}))
    once = ["before encoder", "before rnn", "after rnn", "after encoder"]
    assert seen == once
    if model_class is RnnForTokenClassification:
        model.marginals(**example_batch())
        assert seen == once * 2


def test_a_hook_may_replace_what_the_recurrence_returns():
    model = make(RnnForTokenClassification).eval()
    model.model.rnn.register_forward_hook(lambda _, __, out: out._replace(states=[0 * states for states in out.states]))
    assert torch.equal(model(**example_batch()).logits[0, 0], model.classifier.bias)


@pytest.mark.parametrize("cell_type", CELLS)
def test_the_recurrence_still_is_the_stock_module(cell_type):
    rnn = make(RnnModel, cell_type=cell_type).rnn
    stock = {"lstm": nn.LSTM, "gru": nn.GRU}.get(cell_type, nn.RNN)
    assert isinstance(rnn, stock)
    for sequence in (
        torch.randn(3, 2, 5, dtype=rnn.weight_hh_l0.dtype),
        pack_sequence([torch.randn(3, 5).to(rnn.weight_hh_l0)]),
    ):
        states, final = rnn(sequence)
        expected, of_stock = stock.forward(rnn, sequence)
        assert torch.equal(getattr(states, "data", states), getattr(expected, "data", expected))
        torch.testing.assert_close(final, of_stock)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("use_crf", [False, True])
def test_marginals_leave_the_mode_of_every_module_as_it_is(use_crf, training):
    model = make(RnnForTokenClassification, use_crf=use_crf).train(training)
    model.dropout.train(not training)
    before = [module.training for module in model.modules()]
    model.marginals(**example_batch())
    assert [module.training for module in model.modules()] == before


# Double precision.


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("task", TASKS)
def test_classifiers_work_in_double_precision(task, pooling):
    num_labels, labels, _ = TASKS[task]
    weights = {} if num_labels == 1 else {"class_weights": [1.0, 2.0, 0.5]}
    model = with_objectives(task_model(task, pooling=pooling), rdrop_loss_weight=0.5, **weights).double()
    output = model(**example_batch(), labels=labels)
    assert output.loss.dtype == output.logits.dtype == torch.float64
    output.loss.backward()
    single = model.float()(**example_batch(), labels=labels)
    torch.testing.assert_close(single.loss.double(), output.loss, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("use_crf", [False, True])
def test_gradients_of_taggers_in_double_precision_are_those_of_differences(use_crf):
    options = {
        "lm_loss_weight": 0.5,
        "num_auxiliary_tags": 3,
        "rdrop_loss_weight": 0.5,
        "class_weights": [1.0, 2.0, 0.5],
    }
    model = make(RnnForTokenClassification, num_labels=3, use_crf=use_crf, hidden_size=2)
    model = with_objectives(model, **options).double().train()
    ids = torch.tensor([[3, 4, 5], [6, 7, 0]])
    batch = {"input_ids": ids, "labels": ids % 3, "auxiliary_tags": ids % 3}

    def loss(_):
        torch.manual_seed(0)  # which entries the language model tells from the right ones
        found = model(**batch).loss
        assert found.dtype == torch.float64
        return found

    for weights in (model.model.rnn.weight_hh_l0, model.classifier.bias, model.objectives.auxiliary_classifier.bias):
        assert torch.autograd.gradcheck(loss, weights)
    assert model.eval()(**batch).logits.dtype == torch.float64
    assert model.marginals(input_ids=ids).dtype == torch.float64


# Memory.


@pytest.mark.parametrize("model_class", HEADS)
def test_only_states_that_are_asked_for_are_kept(model_class):
    model = make(model_class, num_hidden_layers=3).eval()
    kept = []
    model.model.register_forward_hook(lambda _, __, encoded: kept.append(encoded))
    model(**example_batch())
    model(**example_batch(), output_hidden_states=True)
    assert [len(encoded.output.states) for encoded in kept] == [1, 3]
    assert kept[0].embeds is None
    assert torch.equal(kept[0].output.states[-1], kept[1].output.states[-1])


class TestTemperature:
    IDS: ClassVar[torch.Tensor] = torch.tensor([[5, 6, 7], [8, 9, 3]])

    def models(self, **fields):
        made = []
        for temperature in (1.0, 2.5):
            torch.manual_seed(0)
            config = RnnConfig(vocab_size=20, hidden_size=4, num_labels=3, temperature=temperature, **fields)
            made.append(RnnForSequenceClassification(config))
        return made

    def test_divides_logits_and_enters_the_loss_in_evaluation(self):
        plain, scaled = (model.eval() for model in self.models())
        labels = torch.tensor([0, 2])
        expected = plain(input_ids=self.IDS).logits / 2.5
        found = scaled(input_ids=self.IDS, labels=labels)
        torch.testing.assert_close(found.logits, expected, rtol=0, atol=0)
        torch.testing.assert_close(found.loss, torch.nn.functional.cross_entropy(expected, labels))

    def test_means_nothing_in_training(self):
        results = []
        for model in self.models():
            torch.manual_seed(1)
            output = model.train()(input_ids=self.IDS, labels=torch.tensor([0, 2]))
            results.append((output.loss, output.logits))
        torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)

    def test_means_nothing_for_a_regression(self):
        plain, scaled = (model.eval()(input_ids=self.IDS).logits for model in self.models(problem_type="regression"))
        torch.testing.assert_close(plain, scaled, rtol=0, atol=0)
