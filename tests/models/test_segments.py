"""Long batches that are read in segments, against the same batches read whole."""

from contextlib import contextmanager
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import CELLS, DIRECTIONS, POOLINGS, VOCAB_SIZE, few, generator, little_config, seeds, set_random_ngrams

from rnn_hf import RnnForSequenceClassification, RnnForTokenClassification
from rnn_hf.models import lexical, segments
from rnn_hf.models.packing import Packing
from rnn_hf.models.recurrence import RECURRENT_MODULES, run_recurrence
from rnn_hf.models.segments import SegmentedStates, is_long

some_lengths = st.lists(st.integers(0, 40), min_size=1, max_size=4).filter(any)
layers = st.integers(1, 3)
NAMES = ["O", "B-X", "I-X", "B-Y", "I-Y"]


@contextmanager
def in_segments(size):
    """Read every batch in segments of so many tokens."""
    with mock.patch.multiple(segments, MOST_TOKENS=0, SEGMENT_TOKENS=size), mock.patch.object(lexical, "_CHUNK", size):
        yield


def make(model_class, seed, **options):
    """Make a model whose weights all count."""
    model = model_class(little_config(**options)).eval()
    source = generator(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=source) * 0.5)
    return model


def padded(lengths, seed):
    """Draw ids, and the mask of padding on the right."""
    mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    return torch.randint(VOCAB_SIZE, mask.shape, generator=generator(seed)), mask.long()


def initial_states(model, batch_size, seed):
    """Draw initial states, or none."""
    rnn = model.model.rnn
    shape = (rnn.num_layers * (2 if rnn.bidirectional else 1), batch_size, rnn.hidden_size)
    names = () if seed % 2 else ("h_0", "c_0")[: 2 if rnn.mode == "LSTM" else 1]
    return {name: torch.randn(shape, generator=generator(seed)) for name in names}


def assert_same(model, size, *inputs, **others):
    with torch.no_grad():
        whole = model(*inputs, **others).logits
        with in_segments(size):
            read = model(*inputs, **others).logits
            assert model.model(*inputs, return_packed=True, in_segments=True, **others).segments is not None
    torch.testing.assert_close(read, whole, atol=2e-5, rtol=1e-4)


@few(40)
@given(
    seeds,
    some_lengths,
    st.integers(1, 50),
    layers,
    st.sampled_from(CELLS),
    st.sampled_from(DIRECTIONS),
    st.sampled_from(POOLINGS),
    st.booleans(),
)
def test_classifiers_give_the_same_logits(seed, lengths, size, num_layers, cell, bidirectional, pooling, has_ngrams):
    sizes = {"num_hidden_layers": num_layers, "cell_type": cell, "bidirectional": bidirectional}
    ngrams = {"ngram_buckets": 64} if has_ngrams else {}
    model = make(RnnForSequenceClassification, seed, pooling=pooling, num_labels=3, **sizes, **ngrams)
    if has_ngrams:
        set_random_ngrams(model.ngrams, seed)
    assert_same(model, size, *padded(lengths, seed), **initial_states(model, len(lengths), seed))


@few(40)
@given(
    seeds,
    some_lengths,
    st.integers(1, 50),
    layers,
    st.sampled_from(CELLS),
    st.sampled_from(DIRECTIONS),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["none", "mean"]),
)
def test_taggers_give_the_same_logits(
    seed, lengths, size, num_layers, cell, bidirectional, use_crf, has_pieces, pooling
):
    sizes = {"num_hidden_layers": num_layers, "cell_type": cell, "bidirectional": bidirectional}
    sizes |= {"subword_pooling": pooling, "eos_token_id": 2}
    features = {"num_lexical_features": 40, "characters": "abc", "char_num_filters": 2}
    model = make(RnnForTokenClassification, seed, id2label=dict(enumerate(NAMES)), use_crf=use_crf, **sizes, **features)
    codes = torch.randint(1, 99, model.lexical.character_codes.shape, generator=generator(seed), dtype=torch.int32)
    model.lexical.set_characters(codes)
    if has_pieces:
        model.word_starts[::2] = False
    assert_same(model, size, *padded(lengths, seed), **initial_states(model, len(lengths), seed))


@few(30)
@given(seeds, st.lists(st.integers(1, 30), min_size=1, max_size=4), st.integers(1, 40), layers, st.sampled_from(CELLS))
def test_states_and_last_states_are_those_of_the_whole(seed, lengths, size, num_layers, cell):
    module, options = RECURRENT_MODULES[cell]
    torch.manual_seed(seed)
    rnn = module(3, 4, num_layers=num_layers, bidirectional=True, **options)
    packing = Packing.from_mask(padded(lengths, seed)[1])
    packed = torch.randn(packing.num_tokens, 3)
    found = torch.zeros(packing.num_tokens, 8)
    times = torch.zeros(packing.num_tokens, 8)

    def receive(states, columns, segment):
        found[segment.tokens, columns] = states
        times[segment.tokens, columns] += 1

    with torch.no_grad(), in_segments(size):
        whole = run_recurrence(rnn, packed, packing)
        for jointly in (False, True):
            h_n = SegmentedStates(rnn, torch.nn.Identity(), packed, packing).run(receive, jointly)
            torch.testing.assert_close(found, whole.states[-1])
            torch.testing.assert_close(h_n, whole.h_n)
    assert (times == 2).all()


@pytest.mark.parametrize("pooling", [*POOLINGS, None], ids=lambda pooling: pooling or "tagger")
def test_a_text_above_the_bound_is_read_in_segments(pooling):
    if pooling is None:
        model = make(RnnForTokenClassification, 0, id2label=dict(enumerate(NAMES)), use_crf=True)
        model.word_starts[1:] = False  # the conditional random field takes a while for each word
    else:
        model = make(RnnForSequenceClassification, 0, pooling=pooling, num_labels=3)
    inputs = padded([segments.MOST_TOKENS + 1, 9], 0)
    with torch.no_grad():
        assert model.model(*inputs, return_packed=True, in_segments=True).segments is not None
        read = model(*inputs).logits
        with mock.patch.object(segments, "MOST_TOKENS", inputs[0].numel()):
            torch.testing.assert_close(read, model(*inputs).logits, atol=2e-5, rtol=1e-4)


def test_vectors_in_place_of_ids_are_read_in_segments_too():
    model = make(RnnForSequenceClassification, 0, num_labels=3)
    assert_same(model, 7, inputs_embeds=torch.randn(1, 40, model.config.input_size))


def test_short_batches_training_and_gradients_are_read_whole():
    rnn = make(RnnForSequenceClassification, 0, num_labels=3).model.rnn
    packing = Packing.from_mask(torch.ones(1, 50))
    with in_segments(7):
        assert not is_long(rnn, packing)
        with torch.no_grad():
            assert is_long(rnn, packing)
            assert not is_long(torch.nn.Identity(), packing)
            assert not is_long(rnn.train(), packing)
    with torch.no_grad():
        assert not is_long(rnn.eval(), packing)


def test_hidden_states_are_given_where_they_are_wanted():
    model = make(RnnForTokenClassification, 0, num_labels=3)
    with torch.no_grad(), in_segments(7):
        assert model(*padded([20], 0), output_hidden_states=True).hidden_states[-1].shape == (1, 20, 8)


@pytest.mark.parametrize("name", ["h_0", "c_0"])
def test_initial_states_that_do_not_fit_are_refused(name):
    model = make(RnnForSequenceClassification, 0, num_labels=3)
    with torch.no_grad(), in_segments(7), pytest.raises(ValueError, match=f"{name} must have the shape"):
        model(*padded([20], 0), **{name: torch.zeros(1, 1, 1)})
