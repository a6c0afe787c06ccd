"""Batches in which tokens repeat, against the same batches read token by token."""

from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import DIRECTIONS, POOLINGS, VOCAB_SIZE, few, generator, little_config, seeds

from rnn_hf import RnnForSequenceClassification, RnnForTokenClassification
from rnn_hf.models import repeated
from rnn_hf.models.packing import Packing
from rnn_hf.models.recurrence import run_recurrence
from rnn_hf.models.repeated import find_distinct


@few(60)
@given(
    seeds,
    st.lists(st.integers(0, 12), min_size=1, max_size=6).filter(any),
    st.integers(1, 2),
    st.sampled_from(DIRECTIONS),
    st.booleans(),
    st.booleans(),
)
def test_states_are_those_of_torch(seed, lengths, num_layers, bidirectional, has_biases, has_initial_states):
    torch.manual_seed(seed)
    rnn = torch.nn.LSTM(3, 4, num_layers=num_layers, bidirectional=bidirectional, bias=has_biases).eval()
    packing = Packing.from_mask(torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1))
    distinct, rows = torch.randn(5, 3), torch.randint(5, (packing.num_tokens,))
    shape = (num_layers * (1 + bidirectional), len(lengths), 4)
    initial = {name: torch.randn(shape) for name in ("h_0", "c_0")} if has_initial_states else {}
    with torch.no_grad():
        expected = run_recurrence(rnn, distinct[rows], packing, path="packed", **initial)
        found = run_recurrence(rnn, distinct, packing, rows=rows, **initial)
    for one, other in zip((*found.states, *found[1:]), (*expected.states, *expected[1:]), strict=True):
        torch.testing.assert_close(one, other)


@few(30)
@given(
    seeds,
    st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any),
    st.sampled_from(DIRECTIONS),
    st.sampled_from([RnnForSequenceClassification, RnnForTokenClassification]),
    st.sampled_from(POOLINGS),
)
def test_logits_are_the_same(seed, lengths, bidirectional, model_class, pooling):
    torch.manual_seed(seed)
    features = {"num_lexical_features": 40, "characters": "abc", "char_num_filters": 2, "num_labels": 3}
    model = model_class(little_config(bidirectional=bidirectional, pooling=pooling, **features)).eval()
    mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    ids = torch.randint(VOCAB_SIZE, mask.shape)
    with torch.no_grad():
        expected = model(ids, mask.long()).logits
        with mock.patch.multiple(repeated, _LEAST_SEQUENCES=1, _LEAST_TOKENS=1):
            found = model(ids, mask.long()).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16_is_as_near_as_that_of_torch(autocast):
    torch.manual_seed(0)
    rnn = torch.nn.LSTM(8, 16, bidirectional=True).eval()
    packing = Packing.from_mask(torch.ones(20, 20))
    distinct, rows = torch.randn(30, 8), torch.randint(30, (400,), generator=generator(0))
    with torch.no_grad():
        expected = run_recurrence(rnn, distinct[rows], packing)
        kind = torch.float32 if autocast else torch.bfloat16
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found = run_recurrence(rnn.to(kind), distinct.to(kind), packing, rows=rows)
    assert found.states[-1].dtype == found.h_n.dtype == torch.bfloat16
    torch.testing.assert_close(found.states[-1].float(), expected.states[-1], atol=0.05, rtol=0)


def test_little_batches_gradients_and_other_cells_are_read_as_they_are():
    ids, packing = torch.arange(800) % 3, Packing.from_mask(torch.ones(40, 20))
    lstm = torch.nn.LSTM(2, 3).eval()
    assert find_distinct(lstm, ids, packing)[1] is None
    with torch.no_grad():
        assert find_distinct(lstm, ids, packing)[1] is not None
        assert find_distinct(torch.nn.GRU(2, 3).eval(), ids, packing)[1] is None
        assert find_distinct(lstm, ids[:400], Packing.from_mask(torch.ones(2, 200)))[1] is None
        assert find_distinct(lstm.train(), ids, packing)[1] is None
