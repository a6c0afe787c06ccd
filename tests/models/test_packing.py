"""The packed and the padded layout."""

from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import few, random_vectors, seeds, some_lengths
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence

from rnn_hf.models.packing import SEGMENT_COST, Packing, pack_rows


@st.composite
def masks(draw):
    """Any mask: tokens anywhere, rows and columns without a token, no row or no column at all."""
    num_rows, width = draw(st.integers(0, 5)), draw(st.integers(0, 7))
    row = st.lists(st.booleans(), min_size=width, max_size=width)
    return torch.tensor(draw(st.lists(row, min_size=num_rows, max_size=num_rows)), dtype=torch.bool).view(
        num_rows, width
    )


@given(masks())
@few(200)
def test_packing_takes_first_tokens_then_second_ones_longest_sequence_first(mask):
    positions = torch.arange(mask.numel()).view(mask.shape)
    packing = Packing.from_mask(mask)
    rows = sorted((row[real].tolist() for row, real in zip(positions, mask, strict=True)), key=len, reverse=True)
    steps = [[row[step] for row in rows if step < len(row)] for step in range(len(rows[0]) if rows else 0)]
    assert packing.batch_sizes.tolist() == [len(step) for step in steps]
    assert packing.pack(positions).tolist() == [position for step in steps for position in step]


@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=6))
@few(60)
def test_rows_are_packed_as_their_mask_says(lengths):
    rows = list(torch.arange(sum(lengths)).split(lengths))
    values, packing = pack_rows(rows)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    expected = Packing.from_mask(mask)
    padded = torch.zeros(mask.shape, dtype=torch.long)
    padded[mask] = torch.arange(sum(lengths))
    assert torch.equal(values, expected.pack(padded))
    assert torch.equal(packing.batch_sizes, expected.batch_sizes)
    assert torch.equal(packing.sorted_indices, expected.sorted_indices)


@given(masks())
@few(100)
def test_padding_undoes_packing_and_fills_the_rest(mask):
    values = torch.arange(1.0, mask.numel() * 2 + 1).view(*mask.shape, 2)
    packing = Packing.from_mask(mask)
    padded = packing.pad(packing.pack(values), value=-5)
    assert torch.equal(padded, torch.where(mask.unsqueeze(-1), values, -5.0))


@given(masks())
@few(100)
def test_counts_follow_the_mask(mask):
    packing = Packing.from_mask(mask)
    lengths = mask.sum(dim=1)
    assert packing.lengths.tolist() == lengths.tolist()
    assert packing.sorted_lengths.tolist() == sorted(lengths.tolist(), reverse=True)
    assert packing.batch_size == len(mask)
    assert packing.num_sequences == int((lengths > 0).sum())
    assert packing.max_length == max(lengths.tolist(), default=0)
    assert packing.sequence_length == mask.shape[1]
    assert packing.num_tokens == int(mask.sum())
    assert packing.is_full == (len(set(lengths[lengths > 0].tolist())) <= 1)
    assert packing.sorted_indices[packing.unsorted_indices].tolist() == list(range(len(mask)))


@given(masks())
@few(100)
def test_each_token_knows_its_row_and_step(mask):
    packing = Packing.from_mask(mask)
    rows = torch.arange(len(mask)).unsqueeze(1).expand(mask.shape)
    steps = mask.cumsum(dim=1) - 1
    assert torch.equal(packing.sorted_indices[packing.sorted_rows], packing.pack(rows))
    assert torch.equal(packing.steps, packing.pack(steps))


@given(masks(), seeds)
@few(100)
def test_a_group_ends_before_the_next_one_begins_or_its_sequence_ends(mask, seed):
    packing = Packing.from_mask(mask)
    starts = torch.rand(mask.shape, generator=torch.Generator().manual_seed(seed)) < 0.5
    positions = torch.arange(mask.numel()).view(mask.shape)
    ends = positions.clone()
    for row in range(len(mask)):
        tokens = mask[row].nonzero().flatten().tolist()
        for column, following in reversed(list(pairwise(tokens))):
            if not starts[row, following]:
                ends[row, column] = ends[row, following]
    assert packing.pack(positions)[packing.group_ends(packing.pack(starts))].tolist() == packing.pack(ends).tolist()


@given(masks())
@few(100)
def test_reversal_mirrors_each_sequence_by_its_own_length(mask):
    packing = Packing.from_mask(mask)
    positions = torch.arange(mask.numel()).view(mask.shape)
    packed = packing.pack(positions)
    mirrored = positions.clone()
    for row, real in zip(mirrored, mask, strict=True):
        row[real] = row[real].flip(0)
    assert torch.equal(packed[packing.reversal], packing.pack(mirrored))
    assert torch.equal(packed[packing.reversal][packing.reversal], packed)


@given(some_lengths, seeds)
@few(50)
def test_fields_of_a_packed_sequence_give_its_layout(lengths, seed):
    packed = pack_sequence(random_vectors(lengths, 3, seed), enforce_sorted=False)
    packing = Packing.from_batch_sizes(packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
    padded, _ = pad_packed_sequence(packed, batch_first=True)
    assert torch.equal(packing.pad(packed.data), padded)
    assert torch.equal(packing.pack(padded), packed.data)
    assert packing.lengths.tolist() == lengths


@given(some_lengths, seeds)
@few(50)
def test_a_mask_gives_the_fields_of_a_packed_sequence(lengths, seed):
    sequences = random_vectors(lengths, 3, seed)
    packing = Packing.from_mask(torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1))
    padded = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True, padding_value=7.0)
    packed = PackedSequence(packing.pack(padded), packing.batch_sizes, packing.sorted_indices, packing.unsorted_indices)
    restored = torch.nn.utils.rnn.unpack_sequence(packed)
    assert all(torch.equal(one, other) for one, other in zip(restored, sequences, strict=True))


def test_without_sorted_indices_rows_are_from_the_longest_to_the_shortest():
    packing = Packing.from_batch_sizes(torch.tensor([3, 2, 1]))
    assert packing.lengths.tolist() == [3, 2, 1]
    assert packing.pad(torch.tensor([1, 2, 3, 4, 5, 6])).tolist() == [[1, 4, 6], [2, 5, 0], [3, 0, 0]]


def test_without_unsorted_indices_they_are_found():
    packing = Packing.from_batch_sizes(torch.tensor([3, 1]), torch.tensor([2, 0, 1]))
    assert packing.unsorted_indices.tolist() == [1, 2, 0]
    assert packing.lengths.tolist() == [1, 1, 2]


def test_sorted_indices_may_end_with_sequences_of_length_0():
    packing = Packing.from_batch_sizes(torch.tensor([2, 1]), torch.tensor([3, 1, 0, 2]))
    assert packing.lengths.tolist() == [0, 1, 0, 2]
    assert packing.pad(torch.tensor([5, 6, 7])).tolist() == [[0, 0], [6, 0], [0, 0], [5, 7]]


def test_any_nonzero_value_of_the_mask_marks_a_token():
    for mask in (torch.tensor([[2.5, -1.0, 0.0]]), torch.tensor([[9, -3, 0]]), torch.tensor([[True, True, False]])):
        assert Packing.from_mask(mask).lengths.tolist() == [2]


def test_gradients_flow_through_packing_and_padding():
    padded = torch.randn(2, 3, 4, requires_grad=True)
    mask = torch.tensor([[1, 0, 1], [0, 1, 0]])
    packing = Packing.from_mask(mask)
    packing.pad(packing.pack(padded) * 3).sum().backward()
    assert torch.equal(padded.grad, 3.0 * mask.unsqueeze(-1).expand(2, 3, 4))


def packing_of(lengths) -> Packing:
    return Packing.from_mask(torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1))


@given(some_lengths, st.booleans())
@few(50)
def test_each_token_knows_the_one_before_it_in_either_direction(lengths, reverse):
    packing = packing_of(lengths)
    positions = pack_sequence(
        [torch.full((n,), row) * 100 + torch.arange(n) for row, n in enumerate(lengths)], False
    ).data
    initial = -1 - packing.sorted_indices
    previous = torch.cat([initial, positions])[packing.previous_positions(reverse)]
    for position, before in zip(positions.tolist(), previous.tolist(), strict=True):
        row, step = divmod(position, 100)
        begins = step == (lengths[row] - 1 if reverse else 0)
        assert before == (-1 - row if begins else position + (1 if reverse else -1))


@given(some_lengths)
@few(30)
def test_last_places_are_those_of_the_last_tokens_longest_sequence_first(lengths):
    packing = packing_of(lengths)
    last_steps = packing.steps[packing.last_positions]
    assert last_steps.tolist() == sorted((length - 1 for length in lengths), reverse=True)
    assert packing.sorted_rows[packing.last_positions].tolist() == list(range(len(lengths)))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=9))
@few(50)
def test_runs_are_whole_blocks_of_steps_without_a_sequence_s_end(lengths):
    runs = packing_of(lengths).runs
    assert [rows for steps, rows in runs for _ in range(steps)] == packing_of(lengths).batch_sizes.tolist()
    assert len(runs) == len(set(lengths) - {0})


@given(some_lengths, seeds)
@few(50)
def test_indices_are_refused_where_any_of_them_is_another(lengths, seed):
    packed = pack_sequence(random_vectors(lengths, 1, seed), enforce_sorted=False)
    _, batch_sizes, *indices = packed
    Packing.from_batch_sizes(batch_sizes, *indices)
    for position in (0, 1):
        changed = [field.clone() for field in indices]
        changed[position][seed % len(lengths)] += 1
        with pytest.raises(ValueError, match=f"^{('sorted', 'unsorted')[position]}_indices must"):
            Packing.from_batch_sizes(batch_sizes, *changed)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60))
@few(100)
def test_cuts_increase_from_0_to_the_longest_length_and_are_where_sequences_end(lengths):
    cuts = packing_of(lengths).segments
    assert cuts[0] == 0
    assert cuts[-1] == max(lengths)
    assert cuts == sorted(set(cuts))
    assert set(cuts[1:]) <= set(lengths)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=6))
@few(100)
def test_no_other_cuts_cost_less(lengths):
    def cost(cuts):
        return sum(
            (end - begin) * sum(length > begin for length in lengths) + SEGMENT_COST for begin, end in pairwise(cuts)
        )

    ends = sorted(set(lengths) - {max(lengths)})
    choices = [chosen for size in range(len(ends) + 1) for chosen in combinations(ends, size)]
    least = min(cost([0, *chosen, max(lengths)]) for chosen in choices)
    packing = packing_of(lengths)
    assert cost(packing.segments) == packing.padded_cost == least


def test_a_few_steps_of_padding_are_cheaper_than_a_cut():
    assert packing_of([500, 200, 200, 195]).segments == [0, 200, 500]
