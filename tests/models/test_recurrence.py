"""Recurrent layers over packed sequences, against torch's own on a `PackedSequence`."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import CELLS, DIRECTIONS, assert_same, few, generator, project, random_vectors, seeds, some_lengths
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from rnn_hf.models.packed import _in_pieces
from rnn_hf.models.packing import Packing
from rnn_hf.models.recurrence import PATHS, LockedDropout, choose_path, is_cast_to_half, run_recurrence

INPUT_SIZE, HIDDEN_SIZE = 5, 4
VERY_UNEVEN = [200, 1, 1, 3, 57, 1, 120]

# From one sequence of one token to batches that are cut into several segments, some of them padded.
uneven_lengths = st.lists(st.one_of(st.integers(1, 9), st.sampled_from([1, 2, 40, 110])), min_size=1, max_size=6)


CELLS_AND_PATHS = [(cell, path) for cell in CELLS for path in ("packed", "stepwise")] + [("lstm", "padded")]


def stock(cell, num_layers=1, bidirectional=False, seed=0) -> nn.RNNBase:
    torch.manual_seed(seed)
    sizes = {"input_size": INPUT_SIZE, "hidden_size": HIDDEN_SIZE, "num_layers": num_layers}
    if cell == "lstm":
        return nn.LSTM(**sizes, bidirectional=bidirectional)
    if cell == "gru":
        return nn.GRU(**sizes, bidirectional=bidirectional)
    return nn.RNN(**sizes, bidirectional=bidirectional, nonlinearity=cell.removeprefix("rnn_"))


def packing_of(lengths) -> Packing:
    return Packing.from_mask(torch.arange(max(lengths)) < torch.tensor(list(lengths)).unsqueeze(1))


def random_states(rnn, batch_size, seed, dtype=torch.float32) -> tuple[torch.Tensor, ...]:
    shape = (rnn.num_layers * (1 + rnn.bidirectional), batch_size, rnn.hidden_size)
    source = generator(seed + 1)
    return tuple(
        torch.randn(shape, generator=source).to(dtype).requires_grad_() for _ in range(1 + (rnn.mode == "LSTM"))
    )


def by_torch(rnn, packed: PackedSequence, states=()):
    output, final = rnn(packed, (states if rnn.mode == "LSTM" else states[0]) if states else None)
    return output.data, *(final if rnn.mode == "LSTM" else (final,))


def by_path(path):
    def run(rnn, packed: PackedSequence, states=()):
        packing = Packing.from_batch_sizes(packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        layers, h_n, c_n = run_recurrence(rnn, packed.data, packing, *states, path=path)
        assert len(layers) == rnn.num_layers
        return (layers[-1], h_n) if c_n is None else (layers[-1], h_n, c_n)

    return run


def results(run, rnn, sequences, states=()) -> dict[str, torch.Tensor]:
    """Outputs, final states, and the gradients of input, initial states and weights."""
    packed = pack_sequence(sequences, enforce_sorted=False)
    data = packed.data.clone().requires_grad_()
    outputs = run(rnn, packed._replace(data=data), states)
    leaves = {"input": data, **dict(zip(("h_0", "c_0"), states, strict=False)), **dict(rnn.named_parameters())}
    found = torch.autograd.grad(sum(map(project, outputs)), list(leaves.values()))
    return {
        **dict(zip(("states", "h_n", "c_n"), outputs, strict=False)),
        **{f"gradient of {name}": gradient for name, gradient in zip(leaves, found, strict=True)},
    }


def assert_paths_equal_torch(rnn, lengths, with_states, seed):
    # In single precision, a ReLU cell's gradient may jump where rounding moves a sum across 0.
    rnn = rnn.double() if rnn.mode == "RNN_RELU" else rnn
    dtype = rnn.weight_ih_l0.dtype
    tolerances = {"rtol": 1e-9, "atol": 1e-9} if dtype == torch.float64 else {"rtol": 1e-3, "atol": 1e-4}
    sequences = random_vectors(lengths, INPUT_SIZE, seed, dtype)
    states = random_states(rnn, len(lengths), seed, dtype) if with_states else ()
    expected = results(by_torch, rnn, sequences, states)
    for path in PATHS[rnn.mode]:
        assert_same(results(by_path(path), rnn, sequences, states), expected, **tolerances)


@pytest.mark.parametrize("bidirectional", DIRECTIONS)
@pytest.mark.parametrize("cell", CELLS)
@given(uneven_lengths, st.integers(1, 3), st.booleans(), seeds)
@few(25)
def test_all_paths_equal_torch(cell, bidirectional, lengths, num_layers, with_states, seed):
    assert_paths_equal_torch(stock(cell, num_layers, bidirectional, seed), lengths, with_states, seed)


@pytest.mark.parametrize("bidirectional", DIRECTIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_all_paths_equal_torch_on_very_uneven_lengths(cell, bidirectional):
    assert len(packing_of(VERY_UNEVEN).segments) > 3
    assert_paths_equal_torch(stock(cell, 2, bidirectional), VERY_UNEVEN, with_states=True, seed=1)


@pytest.mark.parametrize("bidirectional", DIRECTIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_all_paths_equal_torch_on_more_lengths_than_places_to_cut(cell, bidirectional):
    assert_paths_equal_torch(stock(cell, 1, bidirectional), list(range(1, 90, 2)), with_states=True, seed=2)


@pytest.mark.parametrize("bidirectional", DIRECTIONS)
@pytest.mark.parametrize("cell", CELLS)
@given(uneven_lengths, seeds)
@few(6)
def test_double_precision_agrees_to_more_digits(cell, bidirectional, lengths, seed):
    assert_paths_equal_torch(stock(cell, 2, bidirectional, seed).double(), lengths, with_states=True, seed=seed)


def assert_near(found, precise, tolerance, gradient_tolerance):
    """Compare by relative norm; a ReLU's gradient is not continuous, so it needs more room."""
    for name, value in precise.items():
        room = gradient_tolerance if name.startswith("gradient") else tolerance
        assert (found[name].float() - value).norm() < room * value.norm(), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("cell", "path"), CELLS_AND_PATHS)
def test_states_can_be_changed_in_place(cell, path, dtype):
    rnn = stock(cell).to(dtype)
    states = run_recurrence(rnn, torch.ones(3, INPUT_SIZE, dtype=dtype), packing_of([2, 1]), path=path).states[0]
    assert states.mul_(2).isfinite().all()


@pytest.mark.parametrize("bidirectional", DIRECTIONS)
@pytest.mark.parametrize(("cell", "path"), CELLS_AND_PATHS)
def test_bfloat16_is_near_single_precision(cell, bidirectional, path):
    lengths = [30, 1, 7, 7, 2]
    rnn = stock(cell, 2, bidirectional).bfloat16()
    sequences = random_vectors(lengths, INPUT_SIZE, seed=2, dtype=torch.bfloat16)
    states = random_states(rnn, len(lengths), seed=2, dtype=torch.bfloat16)
    found = results(by_path(path), rnn, sequences, states)
    assert {value.dtype for value in found.values()} == {torch.bfloat16}
    precise = results(
        by_torch,
        rnn.float(),
        [one.float() for one in sequences],
        [one.detach().float().requires_grad_() for one in states],
    )
    assert_near(found, precise, 0.05, 0.3 if cell == "rnn_relu" else 0.05)


@pytest.mark.parametrize("bidirectional", DIRECTIONS)
@pytest.mark.parametrize(("cell", "path"), CELLS_AND_PATHS)
def test_autocast_to_bfloat16_is_near_single_precision(cell, bidirectional, path):
    rnn = stock(cell, 2, bidirectional)
    sequences = random_vectors(VERY_UNEVEN, INPUT_SIZE, seed=3)
    states = random_states(rnn, len(sequences), seed=3)
    precise = results(by_torch, rnn, sequences, states)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = results(by_path(path), rnn, sequences, states)
    assert_near(found, precise, 0.1, 0.5 if cell == "rnn_relu" else 0.1)


@pytest.mark.parametrize("bidirectional", DIRECTIONS)
@pytest.mark.parametrize("path", ["packed", "stepwise"])
def test_relu_cells_have_finite_gradients_on_very_uneven_lengths(path, bidirectional):
    rnn = stock("rnn_relu", 3, bidirectional)
    found = results(by_path(path), rnn, random_vectors([900, 1, 1, 333, 2], INPUT_SIZE, seed=4))
    assert all(value.isfinite().all() for value in found.values())


@pytest.mark.parametrize(("cell", "path"), CELLS_AND_PATHS)
def test_states_of_every_layer_are_returned(cell, path):
    rnn = stock(cell, 3, bidirectional=True)
    packed = pack_sequence(random_vectors([4, 2, 7], INPUT_SIZE, seed=5), enforce_sorted=False)
    packing = Packing.from_batch_sizes(packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
    layers = run_recurrence(rnn, packed.data, packing, path=path).states
    for depth in (1, 2, 3):
        shallow = stock(cell, depth, bidirectional=True)
        shallow.load_state_dict({name: rnn.state_dict()[name] for name in shallow.state_dict()})
        torch.testing.assert_close(layers[depth - 1], shallow(packed)[0].data)


@pytest.mark.parametrize("cell", CELLS)
@given(some_lengths, st.lists(st.integers(0, 5), min_size=1, max_size=3), seeds)
@few(6)
def test_sequences_without_a_token_keep_their_initial_state(cell, lengths, positions, seed):
    rnn = stock(cell, 2, bidirectional=True, seed=seed)
    with_empty = list(lengths)
    for position in positions:
        with_empty.insert(position, 0)
    real = torch.tensor(with_empty) > 0
    packing = packing_of(with_empty)
    states = random_states(rnn, len(with_empty), seed)
    packed = pack_sequence(random_vectors(lengths, INPUT_SIZE, seed), enforce_sorted=False)
    without = packing_of(lengths)
    data = without.pack(torch.nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)[0])
    for path in PATHS[rnn.mode]:
        layers, *final = run_recurrence(rnn, data, packing, *states, path=path)
        expected_layers, *expected = run_recurrence(rnn, data, without, *(one[:, real] for one in states), path=path)
        torch.testing.assert_close(layers[-1], expected_layers[-1])
        for one, alone, initial in zip(final, expected, (*states, None), strict=False):
            if one is not None:
                torch.testing.assert_close(one[:, real], alone)
                torch.testing.assert_close(one[:, ~real], initial[:, ~real])


@pytest.mark.parametrize("cell", CELLS)
def test_a_batch_without_any_token_returns_its_initial_states(cell):
    rnn = stock(cell, 2, bidirectional=True)
    packing = Packing.from_mask(torch.zeros(3, 4))
    states = random_states(rnn, 3, seed=6)
    for path in PATHS[rnn.mode]:
        layers, *final = run_recurrence(rnn, torch.empty(0, INPUT_SIZE), packing, *states, path=path)
        assert [layer.shape for layer in layers] == [(0, 2 * HIDDEN_SIZE)] * 2
        assert all(torch.equal(one, initial) for one, initial in zip(final, states, strict=False))


def test_input_may_lie_in_memory_in_any_order():
    packing = Packing.from_mask(torch.ones(2, 3))
    for cell in CELLS:
        rnn = stock(cell, bidirectional=True)
        data = torch.randn(INPUT_SIZE, 6, generator=generator(0)).t()
        for path in PATHS[rnn.mode]:
            strided = run_recurrence(rnn, data, packing, path=path)
            torch.testing.assert_close(strided.h_n, run_recurrence(rnn, data.contiguous(), packing, path=path).h_n)


@pytest.mark.parametrize("bidirectional", DIRECTIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_the_chosen_path_equals_torch_in_training_and_inference(cell, bidirectional):
    rnn = stock(cell, 2, bidirectional)
    packed = pack_sequence(random_vectors(VERY_UNEVEN, INPUT_SIZE, seed=7), enforce_sorted=False)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            expected = by_torch(rnn, packed)
            for one, other in zip(by_path(None)(rnn, packed), expected, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frozen", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"])
@pytest.mark.parametrize(("cell", "path"), CELLS_AND_PATHS)
def test_gradients_of_some_weights_do_not_need_those_of_others(cell, path, frozen):
    rnn = stock(cell)
    getattr(rnn, frozen).requires_grad_(False)
    packed = pack_sequence(random_vectors([3, 2], INPUT_SIZE, seed=8), enforce_sorted=False)
    for run in (by_path(path), by_torch):
        rnn.zero_grad()
        project(run(rnn, packed)[0]).backward()
        assert {name for name, weight in rnn.named_parameters() if weight.grad is None} == {frozen}


def test_both_directions_without_biases_equal_torch_on_full_batches():
    rnn = nn.LSTM(INPUT_SIZE, HIDDEN_SIZE, bias=False, bidirectional=True)
    sequences = random_vectors([4, 4], INPUT_SIZE, seed=8)
    assert_same(results(by_path("padded"), rnn, sequences), results(by_torch, rnn, sequences))


@pytest.mark.parametrize("cell", CELLS)
def test_a_module_without_biases_equals_torch(cell):
    rnn = stock(cell)
    bare = type(rnn)(
        INPUT_SIZE,
        HIDDEN_SIZE,
        2,
        bias=False,
        **({} if cell in ("lstm", "gru") else {"nonlinearity": rnn.nonlinearity}),
    )
    sequences = random_vectors([30, 1, 4], INPUT_SIZE, seed=8)
    expected = results(by_torch, bare, sequences)
    for path in PATHS[rnn.mode]:
        assert_same(results(by_path(path), bare, sequences), expected)


def bare_packing(batch_size, length) -> tuple[torch.Tensor, Packing]:
    return torch.empty(batch_size * length, INPUT_SIZE), packing_of([length] * batch_size)


class TestChoiceOfPath:
    @pytest.mark.parametrize("cell", ["gru", "rnn_tanh", "rnn_relu"])
    def test_cells_without_onednn_step_in_training_and_are_packed_in_inference(self, cell):
        rnn, (data, packing) = stock(cell), bare_packing(8, 20)
        assert choose_path(rnn, data, packing) == "stepwise"
        with torch.no_grad():
            assert choose_path(rnn, data, packing) == "packed"

    def test_an_lstm_is_padded_where_sequences_are_long_and_alike(self):
        rnn, (data, packing) = nn.LSTM(256, 256), bare_packing(32, 100)
        assert choose_path(rnn, data, packing) == "padded"
        with torch.no_grad():
            assert choose_path(rnn, data, packing) == "padded"

    def test_an_lstm_is_not_padded_where_sequences_are_short_and_uneven(self):
        rnn, packing = nn.LSTM(256, 256), packing_of(range(1, 26))
        data = torch.empty(packing.num_tokens, 256)
        assert choose_path(rnn, data, packing) == "stepwise"
        with torch.no_grad():
            assert choose_path(rnn, data, packing) == "packed"

    @pytest.mark.parametrize("cell", CELLS)
    def test_a_single_step_is_packed(self, cell):
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                assert choose_path(stock(cell), *bare_packing(8, 1)) == "packed"

    def test_one_sentence_is_packed_in_inference(self):
        with torch.no_grad():
            assert choose_path(nn.LSTM(256, 256), *bare_packing(1, 500)) == "packed"

    def test_only_an_lstm_can_be_padded(self):
        data, packing = bare_packing(2, 3)
        with pytest.raises(ValueError, match=r"A GRU has the paths 'packed', 'stepwise'; got 'padded'"):
            run_recurrence(stock("gru"), data, packing, path="padded")


@pytest.mark.parametrize("cell", CELLS)
def test_initial_states_of_the_wrong_shape_are_refused(cell):
    rnn = stock(cell, 2, bidirectional=True)
    packing = Packing.from_mask(torch.ones(3, 2))
    data = torch.zeros(6, INPUT_SIZE)
    with pytest.raises(ValueError, match=r"h_0 must have the shape .* = \[4, 3, 4\], got \[4, 1, 4\]"):
        run_recurrence(rnn, data, packing, torch.zeros(4, 1, 4))
    if cell == "lstm":
        with pytest.raises(ValueError, match=r"c_0 must have the shape .* = \[4, 3, 4\], got \[2, 3, 4\]"):
            run_recurrence(rnn, data, packing, torch.zeros(4, 3, 4), torch.zeros(2, 3, 4))
    else:
        with pytest.raises(ValueError, match=f"c_0 was given, but only an LSTM has a cell state; this is a {rnn.mode}"):
            run_recurrence(rnn, data, packing, torch.zeros(4, 3, 4), torch.zeros(4, 3, 4))


def test_an_lstm_takes_either_initial_state_alone():
    rnn = stock("lstm")
    packed = pack_sequence(random_vectors([3, 2], INPUT_SIZE, seed=9))
    h_0, c_0 = random_states(rnn, 2, seed=9)
    run = by_path("padded")
    for given_states, all_states in (((h_0, None), (h_0, 0 * c_0)), ((None, c_0), (0 * h_0, c_0))):
        for one, other in zip(run(rnn, packed, given_states), by_torch(rnn, packed, all_states), strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("wrong", [torch.float64, torch.bfloat16, torch.long, torch.bool, "meta"], ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_initial_states_of_the_wrong_type_or_device_are_refused(cell, wrong):
    rnn, packing = stock(cell), packing_of([2])
    with pytest.raises(
        ValueError, match=f"h_0 must be of torch.float32 on cpu, .* got {str(wrong).replace('meta', '')}"
    ):
        run_recurrence(rnn, torch.randn(2, INPUT_SIZE), packing, torch.zeros(1, 1, HIDDEN_SIZE).to(wrong))


@pytest.mark.parametrize("cell", CELLS)
def test_states_that_autocast_returned_may_be_given_to_it(cell):
    rnn, packing = stock(cell, bidirectional=True), packing_of([2, 3])
    with torch.autocast("cpu", torch.bfloat16):
        first = run_recurrence(rnn, torch.randn(5, INPUT_SIZE), packing)
        states = [first.h_n] if first.c_n is None else [first.h_n, first.c_n]
        assert run_recurrence(rnn, torch.randn(5, INPUT_SIZE), packing, *states).h_n.isfinite().all()


@pytest.mark.parametrize("bidirectional", DIRECTIONS)
@pytest.mark.parametrize("cell", CELLS)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=12).filter(any), st.integers(1, 2), seeds)
@few(8)
def test_pieces_of_the_time_axis_give_what_one_go_does(cell, bidirectional, lengths, num_layers, seed):
    rnn, packing = stock(cell, num_layers, bidirectional, seed % 100), packing_of(lengths)
    data = torch.randn(packing.num_tokens, INPUT_SIZE, generator=generator(seed))
    states = [state.detach() for state in random_states(rnn, len(lengths), seed)]
    whole = run_recurrence(rnn, data, packing, *states, path="packed")
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr("rnn_hf.models.packed._MOST_TOKENS", 7)
        pieces = run_recurrence(rnn, data, packing, *states, path="packed")
    for one, other in zip([*whole.states, *whole[1:]], [*pieces.states, *pieces[1:]], strict=True):
        if other is not None:
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_the_states_of_the_last_layer_alone_are_those_of_the_last_layer(cell):
    rnn, packing = stock(cell, 3), packing_of([4, 2])
    data = torch.randn(6, INPUT_SIZE)
    whole, last = (run_recurrence(rnn, data, packing, all_layers=all_layers) for all_layers in (True, False))
    assert (len(whole.states), len(last.states)) == (3, 1)
    assert torch.equal(whole.states[-1], last.states[0])
    assert torch.equal(whole.h_n, last.h_n)


@given(some_lengths, seeds)
@few(30)
def test_locked_dropout_drops_the_same_features_at_every_step_of_a_sequence(lengths, seed):
    torch.manual_seed(seed)
    packing = packing_of(lengths)
    dropped = packing.pad(LockedDropout(0.5)(torch.ones(packing.num_tokens, 64), packing))
    for row, length in zip(dropped, lengths, strict=True):
        assert torch.equal(row[:length], row[:1].expand(length, -1))
        assert set(row[0].tolist()) == {0.0, 2.0}
    assert len({tuple(row[0].tolist()) for row in dropped}) == len(lengths)


@pytest.mark.parametrize("bidirectional", DIRECTIONS)
@pytest.mark.parametrize("cell", CELLS)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(1, 5), seeds)
@few(10)
def test_pieces_have_the_gradients_of_torch(cell, bidirectional, lengths, num_steps, seed):
    # On CUDA, sequences of more steps than cuDNN takes are run so.
    def by_pieces(rnn, packed, states):
        packing = Packing.from_batch_sizes(packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        ordered = tuple(part[:, packing.sorted_indices] for part in states)
        found, final = _in_pieces(rnn, list(rnn._flat_weights), packed.data, packing, ordered, num_steps)
        return found, *(part[:, packing.unsorted_indices] for part in final)

    rnn = stock(cell, 1, bidirectional, seed).double()
    sequences = random_vectors(lengths, INPUT_SIZE, seed, torch.float64)
    states = random_states(rnn, len(lengths), seed, torch.float64)
    assert_same(results(by_pieces, rnn, sequences, states), results(by_torch, rnn, sequences, states))


@pytest.mark.parametrize(("dtype", "expected"), [(torch.bfloat16, True), (torch.float16, False)])
def test_autocast_to_bfloat16_is_kept_from_half_precision_on_cuda(dtype, expected):
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    try:
        assert not is_cast_to_half("cuda")
        torch.set_autocast_enabled("cuda", True)
        torch.set_autocast_dtype("cuda", dtype)
        assert is_cast_to_half("cuda") is expected
        assert not is_cast_to_half("cpu")
    finally:
        torch.set_autocast_enabled("cuda", before[0])
        torch.set_autocast_dtype("cuda", before[1])


def test_locked_dropout_keeps_the_expected_value():
    torch.manual_seed(0)
    packing = Packing.from_mask(torch.ones(2000, 1))
    dropped = LockedDropout(0.3)(torch.ones(2000, 20), packing)
    assert abs(dropped.mean() - 1) < 0.02
    assert abs((dropped == 0).float().mean() - 0.3) < 0.02


def test_locked_dropout_does_nothing_in_evaluation_or_at_probability_0():
    packing = Packing.from_mask(torch.ones(2, 3))
    states = torch.randn(6, 4)
    assert LockedDropout(0.5).eval()(states, packing) is states
    assert LockedDropout(0.0)(states, packing) is states


@pytest.mark.parametrize("path", ["packed", "stepwise"])
def test_dropout_acts_between_layers(path):
    rnn, packing, dropout = stock("gru", 2), packing_of([3, 2]), LockedDropout(0.5)
    data = torch.randn(5, INPUT_SIZE, generator=generator(1))
    torch.manual_seed(1)
    first, second = run_recurrence(rnn, data, packing, dropout=dropout, path=path).states
    torch.manual_seed(1)
    dropped = dropout(first, packing)
    torch.testing.assert_close(first, run_recurrence(rnn, data, packing, path=path).states[0])
    upper = nn.GRU(HIDDEN_SIZE, HIDDEN_SIZE)
    upper.load_state_dict({name: getattr(rnn, name.replace("l0", "l1")) for name, _ in upper.named_parameters()})
    torch.testing.assert_close(second, run_recurrence(upper, dropped, packing, path=path).states[0])
    assert (dropped == 0).any()


def test_dropout_has_no_effect_on_a_single_layer():
    rnn, packing = stock("gru"), packing_of([3, 2])
    data = torch.randn(5, INPUT_SIZE, generator=generator(1))
    dropped = run_recurrence(rnn, data, packing, dropout=LockedDropout(0.9))
    assert torch.equal(dropped.states[0], run_recurrence(rnn, data, packing).states[0])


@pytest.mark.parametrize("path", PATHS["LSTM"])
def test_weight_dropout_drops_the_same_recurrent_weights_at_every_step(path):
    torch.manual_seed(0)
    rnn = nn.LSTM(5, 4, num_layers=2, bidirectional=True)
    packing = Packing.from_mask(torch.ones(2, 6))
    inputs = torch.randn(12, 5)
    torch.manual_seed(1)
    dropped = run_recurrence(rnn, inputs, packing, weight_dropout=0.5, path=path)
    torch.manual_seed(1)
    thinned = nn.LSTM(5, 4, num_layers=2, bidirectional=True)
    thinned.load_state_dict(rnn.state_dict())
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in thinned.named_parameters():
            if "weight_hh" in name:
                weight.copy_(nn.functional.dropout(weight, 0.5))
    expected = run_recurrence(thinned, inputs, packing, path=path)
    torch.testing.assert_close(dropped.states[-1], expected.states[-1])
    whole = run_recurrence(rnn.eval(), inputs, packing, weight_dropout=0.5, path=path)
    torch.testing.assert_close(whole.states[-1], run_recurrence(rnn, inputs, packing, path=path).states[-1])
    assert not torch.allclose(dropped.states[-1], whole.states[-1])
