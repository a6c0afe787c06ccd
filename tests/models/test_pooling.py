"""Pooling over packed tokens, against the plain way: pad, mask, reduce."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import few, generator, seeds

from rnn_hf.models.packing import Packing
from rnn_hf.models.pooling import attention_pool, max_pool, mean_pool

lengths_with_empty = st.lists(st.integers(0, 9), min_size=1, max_size=7)
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def padded_max(states, _, packing):
    pooled = packing.pad(states, value=torch.finfo(states.dtype).min).amax(dim=1)
    return torch.where(packing.lengths.unsqueeze(1) > 0, pooled, 0.0)


def padded_mean(states, _, packing):
    return packing.pad(states).sum(dim=1) / packing.lengths.unsqueeze(1).clamp(min=1)


def padded_attention(states, scores, packing):
    weights = packing.pad(scores, value=torch.finfo(scores.dtype).min).softmax(dim=1)
    return (weights.transpose(1, 2) @ packing.pad(states).to(weights.dtype)).squeeze(1)


POOLINGS = {
    "max": (lambda states, _, packing: max_pool(states, packing), padded_max),
    "mean": (lambda states, _, packing: mean_pool(states, packing), padded_mean),
    "attention": (attention_pool, padded_attention),
}


def packing_of(lengths) -> Packing:
    return Packing.from_mask(torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1))


def results(pool, states, scores, packing):
    """Outputs and gradients, of an uneven sum."""
    states, scores = states.clone().requires_grad_(), scores.clone().requires_grad_()
    pooled = pool(states, scores, packing)
    weights = torch.arange(1.0, pooled.numel() + 1).sin().view_as(pooled).to(pooled.dtype)
    (pooled * weights).sum().backward()
    gradient = torch.zeros_like(scores) if scores.grad is None else scores.grad
    return {"pooled": pooled.detach(), "of states": states.grad, "of scores": gradient}


def assert_as_padded(name, states, scores, packing, **tolerance):
    """Compare with the padded way, which runs in single precision at least."""
    packed, padded = POOLINGS[name]
    found = results(packed, states, scores, packing)
    wide = torch.promote_types(states.dtype, torch.float32)
    expected = results(padded, states.to(wide), scores.to(wide), packing)
    for what, value in expected.items():
        assert found[what].dtype == states.dtype
        torch.testing.assert_close(found[what], value.to(states.dtype), msg=lambda m, w=what: f"{w}: {m}", **tolerance)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", POOLINGS)
@given(lengths_with_empty.filter(any), st.integers(1, 5), st.booleans(), seeds)
@few(15)
def test_pooling_packed_tokens_gives_what_pooling_padded_ones_does(name, dtype, lengths, size, with_ties, seed):
    packing = packing_of(lengths)
    states = torch.randn(packing.num_tokens, size, generator=generator(seed))
    if with_ties:
        states = states.round()
    scores = 3 * torch.randn(packing.num_tokens, 1, generator=generator(seed + 1))
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype.itemsize >= 4 else {"rtol": 0.03, "atol": 0.02}
    assert_as_padded(name, states.to(dtype), scores.to(dtype), packing, **tolerance)


@pytest.mark.parametrize("name", POOLINGS)
@given(st.integers(1, 4), st.integers(0, 6), seeds)
@few(10)
def test_padding_anywhere_changes_nothing(name, batch_size, width, seed):
    mask = torch.rand(batch_size, width, generator=generator(seed)) < 0.5
    packing = Packing.from_mask(mask)
    states = torch.randn(packing.num_tokens, 3, generator=generator(seed))
    pooled = POOLINGS[name][0](states, states[:, :1], packing)
    assert pooled.shape == (batch_size, 3)
    if width:
        torch.testing.assert_close(pooled, POOLINGS[name][1](states, states[:, :1], packing), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", POOLINGS)
def test_gradients_are_those_of_differences(name):
    packing = packing_of([3, 0, 1, 5, 3])
    states = torch.randn(packing.num_tokens, 2, dtype=torch.float64, generator=generator(0)).requires_grad_()
    scores = torch.randn(packing.num_tokens, 1, dtype=torch.float64, generator=generator(1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda *tensors: POOLINGS[name][0](*tensors, packing), (states, scores))


def test_tokens_that_share_the_maximum_share_its_gradient_evenly_wherever_they_are():
    packing = packing_of([2, 5])
    states = torch.zeros(7, 1, requires_grad=True)
    max_pool(states, packing).sum().backward()
    assert packing.pad(states.grad)[..., 0].tolist() == [[0.5, 0.5, 0, 0, 0], [pytest.approx(0.2)] * 5]


def test_many_tokens_that_share_the_maximum_share_its_gradient_in_bfloat16_too():
    states = torch.zeros(1000, 1, dtype=torch.bfloat16, requires_grad=True)
    max_pool(states, packing_of([1000])).sum().backward()
    torch.testing.assert_close(states.grad.float(), torch.full((1000, 1), 0.001), rtol=0.01, atol=0)


@pytest.mark.parametrize("name", POOLINGS)
def test_long_sums_in_half_precision_stay_near_those_in_single_precision(name):
    packing = packing_of([5000, 3])
    states = 1 + torch.rand(5003, 2, generator=generator(0))
    scores = torch.rand(5003, 1, generator=generator(1))
    expected = POOLINGS[name][0](states, scores, packing)
    found = POOLINGS[name][0](states.bfloat16(), scores.bfloat16(), packing)
    torch.testing.assert_close(found.float(), expected, rtol=0.01, atol=0)


def test_scores_of_any_size_give_finite_weights():
    packing, states = packing_of([3, 1]), torch.arange(4.0).unsqueeze(1)
    for size in (1e4, -1e4, 1e30):
        scores = torch.tensor([[size], [0.0], [0.5 * size], [size]])
        assert_as_padded("attention", states, scores, packing)


@pytest.mark.parametrize("name", POOLINGS)
def test_under_autocast_pooling_stays_in_the_type_of_the_states(name):
    packing = packing_of([4, 2])
    states, scores = torch.randn(6, 3, generator=generator(0)), torch.randn(6, 1, generator=generator(1))
    expected = POOLINGS[name][0](states, scores, packing)
    with torch.autocast("cpu", torch.bfloat16):
        found = POOLINGS[name][0](states, scores, packing)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", POOLINGS)
def test_without_a_token_there_is_nothing_to_pool(name):
    for shape in ((3, 0), (3, 2), (0, 2)):
        packing = Packing.from_mask(torch.zeros(shape))
        states = torch.zeros(0, 4, requires_grad=True)
        pooled = POOLINGS[name][0](states, torch.zeros(0, 1), packing)
        assert pooled.shape == (shape[0], 4)
        assert not pooled.any()
        pooled.sum().backward()
