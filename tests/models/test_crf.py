"""Conditional random field, against the enumeration of all label sequences."""

from itertools import pairwise, product
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import assert_same, few, generator, seeds
from torch import Tensor

from rnn_hf.models import crf as crf_module
from rnn_hf.models.crf import ConditionalRandomField, allowed_transitions
from rnn_hf.models.labels import tagging_scheme
from rnn_hf.models.packing import Packing

IOB2 = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
IOBES = ["O", "B-X", "I-X", "E-X", "S-X"]
PLAIN = ["NOUN", "VERB", "DET"]

short_lengths = st.lists(st.integers(0, 4), min_size=1, max_size=4).filter(any)
label_sets = st.sampled_from([IOB2, IOBES, PLAIN])


def packing_of(lengths) -> Packing:
    return Packing.from_mask(torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1))


def random_crf(label_names, seed) -> ConditionalRandomField:
    crf = ConditionalRandomField(label_names)
    source = generator(seed)
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=source))
    return crf


def random_emissions(lengths, num_labels, seed, scale=1.0) -> list[Tensor]:
    source = generator(seed + 1)
    return [scale * torch.randn(length, num_labels, generator=source) for length in lengths]


def pack(rows, packing) -> Tensor:
    return packing.pack(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True))


def score(crf, emissions, labels) -> Tensor:
    """Score one sequence of labels."""
    total = crf.start_transitions[labels[0]] + crf.end_transitions[labels[-1]]
    total = total + sum(emissions[step, label] for step, label in enumerate(labels))
    return total + sum(crf.transitions[before, after] for before, after in pairwise(labels))


def is_valid(label_names, labels) -> bool:
    """Read the rules of IOB2 and IOBES off as sentences, not as a matrix."""
    scheme = tagging_scheme(label_names)
    open_span = None  # the type of a span that may go on
    for label in (label_names[index] for index in labels):
        mark, kind = label[0], label[2:]
        if scheme is None:
            continue
        if mark in "IE" and open_span != kind:
            return False
        if scheme == "iobes" and open_span is not None and mark not in "IE":
            return False
        open_span = kind if mark in "BI" else None
    return scheme != "iobes" or open_span is None


def paths(label_names, length, only_valid=True):
    for labels in product(range(len(label_names)), repeat=length):
        if not only_valid or is_valid(label_names, labels):
            yield labels


@given(short_lengths, label_sets, seeds)
@few(40)
def test_the_likelihood_and_its_gradients_are_those_of_all_sequences(lengths, label_names, seed):
    crf, packing = random_crf(label_names, seed), packing_of(lengths)
    rows = [row.requires_grad_() for row in random_emissions(lengths, len(label_names), seed)]
    labels = [torch.randint(len(label_names), (length,), generator=generator(seed)) for length in lengths]
    leaves = [row for row in rows if len(row)] + list(crf.parameters())

    fast = crf(pack(rows, packing), pack(labels, packing), packing)
    likelihoods = packing.pad(fast.unsqueeze(1)).sum(dim=(1, 2))
    slow = []
    for row, right in zip(rows, labels, strict=True):
        if len(row) == 0:
            slow.append(torch.tensor(0.0))
            continue
        every = torch.stack([score(crf, row, path) for path in paths(label_names, len(row), only_valid=False)])
        slow.append(every.logsumexp(0) - score(crf, row, right.tolist()))
    torch.testing.assert_close(likelihoods, torch.stack(slow), rtol=1e-4, atol=1e-4)
    found = torch.autograd.grad(fast.sum(), leaves, allow_unused=True, materialize_grads=True)
    expected = torch.autograd.grad(torch.stack(slow).sum(), leaves, allow_unused=True, materialize_grads=True)
    assert_same(dict(enumerate(found)), dict(enumerate(expected)), atol=1e-4)


@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=5).filter(any),
    label_names=label_sets,
    seed=seeds,
    scale=st.sampled_from([0.1, 3.0, 30.0]),
    spread=st.sampled_from([0.0, 2.0, 39.0, 300.0]),
    double=st.booleans(),
)
@few(60)
def test_sums_by_products_of_matrices_are_those_in_log_space(lengths, label_names, seed, scale, spread, double):
    crf, packing = random_crf(label_names, seed), packing_of(lengths)
    with torch.no_grad():
        crf.transitions.sub_(crf.transitions.min()).mul_(spread / crf.transitions.max())
    emissions = pack(random_emissions(lengths, len(label_names), seed, scale), packing)
    weights = torch.randn(emissions.shape, generator=generator(seed + 2))
    if double:
        crf, emissions, weights = crf.double(), emissions.double(), weights.double()
    leaves = [emissions.requires_grad_(), crf.transitions, crf.end_transitions]
    found = {}
    for name, widest in {"fast": crf_module._WIDEST_SPREAD, "slow": -1.0}.items():
        with mock.patch.object(crf_module, "_WIDEST_SPREAD", widest), torch.autocast("cpu", enabled=not double):
            rests = crf._sum_to_the_end(emissions, packing.step_sizes)
        assert rests.dtype == emissions.dtype
        gradients = torch.autograd.grad((rests * weights).sum(), leaves, allow_unused=True, materialize_grads=True)
        found[name] = dict(zip(["rests", "emissions", "transitions", "end"], [rests, *gradients], strict=True))
    # In float32, log space loses digits to the size of its sums.
    tolerance = 1e-9 if double else 1e-5 * (10 + float(found["slow"]["rests"].detach().abs().max()))
    assert_same(found["fast"], found["slow"], rtol=tolerance, atol=tolerance)


@given(short_lengths, label_sets, seeds)
@few(40)
def test_each_token_s_loss_is_that_of_its_label_after_the_labels_before(lengths, label_names, seed):
    crf, packing = random_crf(label_names, seed), packing_of(lengths)
    rows = random_emissions(lengths, len(label_names), seed)
    labels = [torch.randint(len(label_names), (length,), generator=generator(seed)) for length in lengths]
    with torch.no_grad():
        fast = packing.pad(crf(pack(rows, packing), pack(labels, packing), packing).unsqueeze(1)).squeeze(2)
        for losses, row, right in zip(fast, rows, (one.tolist() for one in labels), strict=True):
            if len(row) == 0:
                continue
            scored = {path: score(crf, row, path).exp() for path in paths(label_names, len(row), only_valid=False)}
            for step in range(len(row)):
                given_before = sum(value for path, value in scored.items() if list(path[:step]) == right[:step])
                with_this = sum(value for path, value in scored.items() if list(path[: step + 1]) == right[: step + 1])
                assert float(losses[step]) == pytest.approx(-float((with_this / given_before).log()), abs=1e-3)


@given(short_lengths, label_sets, seeds)
@few(60)
def test_max_marginals_are_the_best_allowed_sequence_through_each_label(lengths, label_names, seed):
    crf, packing = random_crf(label_names, seed), packing_of(lengths)
    rows = random_emissions(lengths, len(label_names), seed)
    with torch.no_grad():
        padded = packing.pad(crf.max_marginals(pack(rows, packing), packing))
        for found, row in zip(padded, rows, strict=True):
            scored = {path: float(score(crf, row, path)) for path in paths(label_names, len(row))} if len(row) else {}
            for step in range(len(row)):
                through = [
                    max((value for path, value in scored.items() if path[step] == label), default=-1e9)
                    for label in range(len(label_names))
                ]
                differences = found[step] - found[step].max()
                expected = torch.tensor(through) - max(through)
                possible = expected > -1e6
                torch.testing.assert_close(differences[possible], expected[possible], atol=1e-3, rtol=1e-3)
                assert (differences[~possible] < -1000).all()
            if len(row):
                best = max(scored, key=scored.get)
                assert found[: len(row)].argmax(-1).tolist() == list(best)


@given(short_lengths, label_sets, seeds)
@few(40)
def test_marginals_are_the_probabilities_over_all_allowed_sequences(lengths, label_names, seed):
    crf, packing = random_crf(label_names, seed), packing_of(lengths)
    rows = random_emissions(lengths, len(label_names), seed)
    with torch.no_grad():
        padded = packing.pad(crf.log_marginals(pack(rows, packing), packing)).exp()
        for found, row in zip(padded, rows, strict=True):
            if len(row) == 0:
                continue
            scored = {path: float(score(crf, row, path).exp()) for path in paths(label_names, len(row))}
            for step, label in product(range(len(row)), range(len(label_names))):
                share = sum(value for path, value in scored.items() if path[step] == label) / sum(scored.values())
                assert float(found[step, label]) == pytest.approx(share, abs=1e-4)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.sampled_from([IOB2, IOBES]), seeds)
@few(60)
def test_the_best_labels_are_always_a_valid_sequence(lengths, label_names, seed):
    crf, packing = random_crf(label_names, seed), packing_of(lengths)
    # Whole numbers tie often; large ones would outweigh a soft constraint.
    rows = [(20 * row).round() for row in random_emissions(lengths, len(label_names), seed)]
    with torch.no_grad():
        crf.transitions.zero_(), crf.start_transitions.zero_(), crf.end_transitions.zero_()
        padded = packing.pad(crf.max_marginals(pack(rows, packing), packing)).argmax(-1)
    for labels, length in zip(padded, lengths, strict=True):
        assert is_valid(label_names, labels[:length].tolist())


def test_where_all_sequences_tie_one_valid_one_is_decoded():
    crf, packing = ConditionalRandomField(IOBES), packing_of([9, 4, 1])
    padded = packing.pad(crf.max_marginals(torch.zeros(14, 5), packing)).argmax(-1)
    for labels, length in zip(padded, (9, 4, 1), strict=True):
        assert is_valid(IOBES, labels[:length].tolist())


def test_long_sequences_stay_finite_and_exact_enough_to_be_valid():
    crf, packing = random_crf(IOB2, 0), packing_of([20_000])
    emissions = 30 * torch.randn(20_000, 5, generator=generator(0))
    with torch.no_grad():
        scores = crf.max_marginals(emissions, packing)
        losses = crf(emissions, scores.argmax(-1), packing)
    assert scores.isfinite().all()
    assert is_valid(IOB2, scores.argmax(-1).tolist())
    assert losses.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_emissions_are_scored_in_single_precision(dtype):
    crf, packing = random_crf(IOB2, 1), packing_of([5, 3])
    emissions = torch.randn(8, 5, generator=generator(1)).to(dtype)
    labels = torch.zeros(8, dtype=torch.long)
    for found, expected in (
        (crf(emissions, labels, packing), crf(emissions.float(), labels, packing)),
        (crf.max_marginals(emissions, packing), crf.max_marginals(emissions.float(), packing)),
    ):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("method", ["max_marginals", "log_marginals"])
def test_nothing_scores_nothing(method):
    crf, packing = ConditionalRandomField(PLAIN), Packing.from_mask(torch.zeros(2, 3))
    assert getattr(crf, method)(torch.empty(0, 3), packing).shape == (0, 3)
    assert crf(torch.empty(0, 3), torch.empty(0, dtype=torch.long), packing).shape == (0,)


@pytest.mark.parametrize("method", ["max_marginals", "log_marginals"])
@given(short_lengths, seeds)
@few(15)
def test_steps_joined_some_at_a_time_give_what_all_at_once_do(method, lengths, seed):
    crf, packing = random_crf(IOB2, seed), packing_of(lengths)
    emissions = pack(random_emissions(lengths, 5, seed), packing).requires_grad_()
    found = []
    for chunk in (1000, 1, 2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("rnn_hf.models.crf._CHUNK", chunk)
            scores = getattr(crf, method)(emissions, packing)
        found.append({"scores": scores, "gradient": torch.autograd.grad(scores.sum(), emissions)[0]})
    assert_same(found[1], found[0])
    assert_same(found[2], found[0])


@pytest.mark.parametrize("method", ["max_marginals", "log_marginals"])
def test_double_precision_stays(method):
    crf, packing = random_crf(IOB2, 0), packing_of([4, 2])
    emissions = pack(random_emissions([4, 2], 5, 0), packing)
    expected = getattr(crf, method)(emissions, packing)
    found = getattr(crf.double(), method)(emissions.double(), packing)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.float(), expected, rtol=1e-4, atol=1e-4)
    labels = torch.tensor([0, 1, 2, 0, 1, 3])
    assert torch.autograd.gradcheck(
        lambda e, *_: crf(e, labels, packing), (emissions.double().requires_grad_(), *crf.parameters())
    )


class TestScheme:
    @pytest.mark.parametrize(
        ("label_names", "scheme"),
        [
            (IOB2, "iob2"),
            (IOBES, "iobes"),
            (PLAIN, None),
            (["O"], None),
            (["O", "B-X", "PUNCT"], None),
            (["B-X", "I-X"], "iob2"),
            (["O", "I-X"], None),
        ],
    )
    def test_is_read_off_the_names(self, label_names, scheme):
        assert tagging_scheme(label_names) == scheme

    def test_lets_inner_labels_begin_spans_that_have_no_other_beginning(self):
        crf = ConditionalRandomField(["O", "B-ORG", "I-ORG", "I-PER"])
        emissions = torch.tensor([[0.0, 0, 0, 20], [0, 0, 0, 20], [0, 0, 20, 0]])
        assert crf.max_marginals(emissions, packing_of([3])).argmax(-1).tolist()[:2] == [3, 3]

    def test_of_thousands_of_labels_is_read_at_once(self):
        label_names = ["O", *(f"{mark}-{kind}" for kind in range(1000) for mark in "BI")]
        _, follows, _ = allowed_transitions(label_names)
        assert int(follows.sum()) == 2001 * 1001 + 2 * 1000
        assert follows[[1, 2], [2, 2]].all()
        assert not follows[1, 4]

    @given(st.lists(st.sampled_from([*IOBES, "B-Y", "I-Y", "E-Y", "S-Y"]), unique=True, min_size=1))
    @few(30)
    def test_lets_labels_follow_by_their_marks_and_kinds(self, label_names):
        scheme = tagging_scheme(label_names)
        starts, follows, ends = allowed_transitions(label_names)
        for after, label in enumerate(label_names):
            opens = label[0] in "OBS" or (label[0] == "I" and f"B{label[1:]}" not in label_names)
            assert bool(starts[after]) == (scheme is None or opens)
            for before, earlier in enumerate(label_names):
                closed = scheme == "iob2" or earlier[0] in "OES"
                assert bool(ends[before]) == (scheme is None or closed)
                continues = label[0] in "IE" and earlier[0] in "BI" and earlier[1:] == label[1:]
                assert bool(follows[before, after]) == (scheme is None or continues or (opens and closed))

    @pytest.mark.parametrize("label_names", [IOB2, IOBES, PLAIN])
    def test_allows_what_the_rules_allow(self, label_names):
        starts, follows, ends = allowed_transitions(label_names)
        for length in (1, 2, 3):
            for labels in paths(label_names, length, only_valid=False):
                allowed = starts[labels[0]] and ends[labels[-1]]
                allowed = allowed and all(follows[a, b] for a, b in pairwise(labels))
                assert bool(allowed) == is_valid(label_names, labels), labels


@pytest.mark.parametrize("size", [1.0, 100.0, 1000.0])
def test_of_sequences_that_tie_but_for_rounding_one_is_decoded(size):
    crf = ConditionalRandomField(["A", "B"])
    with torch.no_grad():
        crf.transitions.copy_(torch.tensor([[0.0, -9.0], [-9.0, 0.0]]) * size)
    packing = packing_of([6])
    for seed in range(200):
        one = torch.randn(6, generator=generator(seed)) * size
        other = one[torch.randperm(6, generator=generator(seed))]
        path = crf.max_marginals(torch.stack([one, other], dim=1), packing).argmax(dim=1)
        assert len(set(path.tolist())) == 1


@pytest.mark.parametrize("of_emissions", [torch.float32, torch.float64])
@pytest.mark.parametrize("of_parameters", [torch.bfloat16, torch.float32, torch.float64])
def test_emissions_may_have_another_type_than_the_parameters(of_emissions, of_parameters):
    crf, packing = random_crf(IOB2, 0).to(of_parameters), packing_of([4, 2])
    emissions = pack(random_emissions([4, 2], 5, 0), packing).to(of_emissions).requires_grad_()
    losses = crf(emissions, torch.tensor([0, 1, 2, 0, 3, 4]), packing)
    losses.sum().backward()
    expected = random_crf(IOB2, 0)(emissions.detach().float(), torch.tensor([0, 1, 2, 0, 3, 4]), packing)
    torch.testing.assert_close(losses.float(), expected, rtol=0.02, atol=0.02)
    assert (emissions.grad.dtype, crf.transitions.grad.dtype) == (of_emissions, of_parameters)


def test_it_compiles_whole():
    crf, packing = random_crf(IOB2, 0), packing_of([4, 2])
    emissions, labels = pack(random_emissions([4, 2], 5, 0), packing), torch.tensor([0, 1, 2, 0, 3, 4])
    for method, inputs in ((crf.forward, (emissions, labels, packing)), (crf.max_marginals, (emissions, packing))):
        expected = method(*inputs)  # after which the packing knows its positions
        compiled = torch.compile(method, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(*inputs), expected, rtol=1e-5, atol=1e-5)
