"""Conditional random fields as ONNX operators: scores of labels, by recursions over words from both ends at once."""

from itertools import cycle, islice

import numpy as np
from onnx import GraphProto, TensorProto

from ..models.crf import ConditionalRandomField, allowed_transitions
from ..models.labels import SpanLabels, tagging_scheme
from .graph import Graph, subgraph, to_array
from .words import Words

# What a forbidden transition costs.
_FORBIDDEN = 1e4
# How many words one iteration of the recursions takes: an even number, since each word turns scores by one dimension.
_UNROLLED = 4
# Labels of a word whose scores are nearer than this may belong to sequences that tie, and how many times the rounding
# of the largest score are added to it.
_NEAR, _ROUNDINGS = 1e-4, 8


def max_marginals(graph: Graph, crf: ConditionalRandomField, emissions: str, words: Words) -> str:
    """Score each label by the best allowed sequence through it.

    Args:
        graph ([`Graph`]): The graph to add to.
        crf ([`ConditionalRandomField`]): The transitions.
        emissions (`str`): Scores of the labels of words, float32 `[W, B, num_labels]`.
        words ([`Words`]): The words.

    Returns:
        `str`: Scores of words, float32 `[W, B, num_labels]`.
    """
    num_labels = len(crf.label_names)
    start, transitions, end = _transition_scores(crf)
    both_emissions = words.both_ways(emissions)  # [W, 2, B, num_labels]
    first = graph("Expand", np.stack([start, end])[:, None], graph("Concat", [2], words.batch_size, [1], axis=0))
    reached = _run_recursions(graph, both_emissions, first, transitions)  # [(W + 1) * 2 * B, num_labels]
    forward = graph("Gather", reached, words.rows(words.numbers, direction=0))
    forward = graph("Add", forward, emissions)
    backward = graph("Gather", reached, words.rows(words.from_end, direction=1))
    # Scores are up to a constant for each token: that of the model.
    forward = _shifted(graph, forward, graph("Greater", words.numbers, 0))
    backward = _shifted(graph, backward, graph("Greater", words.from_end, 0))
    sums = graph("Add", forward, backward)  # [W, B, num_labels]

    near = _rounding(graph, forward, backward)
    path = graph("Unsqueeze", _best_path(graph, words, transitions, forward, sums, near), [2])  # [W, B, 1]
    # Where sequences tie, the labels of the path are preferred by the least that float32 knows.
    best = graph("ReduceMax", sums, [2])
    above = graph("Add", graph("Add", best, graph("Mul", graph("Abs", best), 2.0**-23)), 1e-37)
    return graph("Where", graph("Equal", path, np.arange(num_labels)), above, sums)


def label_scores(graph: Graph, span_labels: SpanLabels | None, scores: str) -> str:
    """Bring scores of labels that tell where spans end to the labels that they refine.

    Args:
        graph ([`Graph`]): The graph to add to.
        span_labels ([`~labels.SpanLabels`], *optional*): Those labels; without it there are none.
        scores (`str`): Their scores, float32 `[W, B, num_scored_labels]`.

    Returns:
        `str`: Scores of labels, float32 `[W, B, num_labels]`.
    """
    if span_labels is None:
        return scores
    parts = (graph("Gather", scores, ids, axis=2) for ids in (span_labels.open_ids, span_labels.closed_ids))
    return graph("Max", *parts)


def spread(graph: Graph, scores: str, words: Words, is_start: str, label_names: list[str]) -> str:
    """Give each token the scores of its word; the label of a first token goes on: `B-LOC` as `I-LOC`.

    Args:
        graph ([`Graph`]): The graph to add to.
        scores (`str`): Scores of words, float32 `[W, B, num_labels]`.
        words ([`Words`]): The words.
        is_start (`str`): Where they begin, bool `[L, B]`.
        label_names (`list[str]`): The labels.

    Returns:
        `str`: Scores of tokens, float32 `[L, B, num_labels]`.
    """
    of_tokens = graph("Gather", graph("Reshape", scores, [-1, len(label_names)]), words.of_tokens)
    of_tokens = graph("Where", graph("Unsqueeze", words.has_begun, [2]), of_tokens, 0.0)
    inside = _continued(graph, of_tokens, label_names)
    if inside == of_tokens:
        return of_tokens
    return graph("Where", graph("Unsqueeze", is_start, [2]), of_tokens, inside)


def _transition_scores(crf: ConditionalRandomField) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the scores of beginning, following (from, to) and ending, with what is forbidden."""
    penalties = (part.logical_not().numpy() * np.float32(-_FORBIDDEN) for part in allowed_transitions(crf.label_names))
    parameters = (crf.start_transitions, crf.transitions, crf.end_transitions)
    start, transitions, end = (to_array(own) + part for own, part in zip(parameters, penalties, strict=True))
    return start, transitions, end


def _run_recursions(graph: Graph, emissions: str, first: str, transitions: np.ndarray) -> str:
    """Find the best score with which each label is reached, before its emission.

    Args:
        graph ([`Graph`]): The graph to add to.
        emissions (`str`): `[W, 2, B, num_labels]`, forwards and backwards.
        first (`str`): Scores of the first labels, `[2, B, num_labels]`.
        transitions (`np.ndarray` of shape `[num_labels, num_labels]`): From, to.

    Returns:
        `str`: `[rows, num_labels]`, up to a constant for each word: those of the first word in both directions and all
        sequences, then those of the second, and so on.
    """
    num_labels = len(transitions)
    missing = graph("Mod", graph("Sub", 0, graph("Shape", emissions, end=1)), _UNROLLED)
    emissions = graph("Pad", emissions, graph("Concat", [0, 0, 0, 0], missing, [0, 0, 0], axis=0))
    # A label is a column, then a row, and so on: `[2, B, num_labels, 1]` and `[2, B, 1, num_labels]`.
    inputs = []
    for position, axis in enumerate(islice(cycle([4, 3]), _UNROLLED)):
        every = graph("Slice", emissions, [position], [np.iinfo(np.int64).max], [0], [_UNROLLED])
        inputs.append(graph("Unsqueeze", every, [axis]))
    _, *reached = graph.call(
        "Scan",
        graph("Unsqueeze", first, [3]),
        *inputs,
        num_outputs=1 + _UNROLLED,
        body=_recursion_step(transitions),
        num_scan_inputs=_UNROLLED,
    )
    together = graph("Concat", *(graph("Reshape", part, [0, -1]) for part in reached), axis=1)
    return graph("Concat", *(graph("Reshape", part, [-1, num_labels]) for part in (first, together)), axis=0)


def _recursion_step(transitions: np.ndarray) -> GraphProto:
    """Take some words in a row: from the scores that reach the labels of the first to those after the last."""
    step = Graph(prefix="step_")
    onwards = np.stack([transitions, transitions.T])[:, None]  # [2, 1, from, to]
    inputs = ["reached", *(f"emissions_{position}" for position in range(_UNROLLED))]
    outputs = []
    reached = inputs[0]
    for own, axis in zip(inputs[1:], cycle([2, 3])):
        ways = onwards if axis == 2 else onwards.swapaxes(2, 3)
        reached = step("ReduceMax", step("Add", step("Add", reached, own), ways), [axis])
        outputs.append(reached)
    shifted = step("Sub", reached, step("ReduceMax", reached, [2]))
    number = TensorProto.FLOAT
    return subgraph(step, "recursions", dict.fromkeys(inputs, number), dict.fromkeys([shifted, *outputs], number))


def _shifted(graph: Graph, scores: str, where: str) -> str:
    highest = graph("Where", graph("Unsqueeze", where, [2]), graph("ReduceMax", scores, [2]), 0.0)
    return graph("Sub", scores, highest)


def _rounding(graph: Graph, forward: str, backward: str) -> str:
    """Say how near scores may be that are equal but for rounding."""
    largest = graph("Max", graph("Abs", forward), graph("Abs", backward))
    largest = graph("Where", graph("Less", largest, _FORBIDDEN / 2), largest, 0.0)
    largest = graph("ReduceMax", largest, keepdims=0)
    return graph("Add", graph("Mul", largest, _ROUNDINGS * float(np.finfo(np.float32).eps)), _NEAR)


def _best_path(graph: Graph, words: Words, transitions: np.ndarray, forward: str, sums: str, near: str) -> str:
    """Find the labels of the best sequence, int64 `[W, B]`: the best of each word, unless sequences may tie."""
    best = graph("ArgMax", sums, axis=2, keepdims=0)
    is_near = graph("Greater", sums, graph("Sub", graph("ReduceMax", sums, [2]), near))
    num_near = graph("ReduceSum", graph("Cast", is_near, to=TensorProto.INT64), [2], keepdims=0)
    may_tie = graph("Greater", graph("ReduceMax", num_near, keepdims=0), 1)

    tie = Graph(prefix="tie_")
    _, path = tie.call(
        "Scan",
        tie("Gather", best, -1, axis=0),
        *(forward, best, words.is_last),
        num_outputs=2,
        body=_trace_step(transitions),
        num_scan_inputs=3,
        scan_input_directions=[1, 1, 1],
        scan_output_directions=[1],
    )
    clear = Graph(prefix="clear_")
    kind = TensorProto.INT64
    then_branch = subgraph(tie, "trace", {}, {path: kind})
    else_branch = subgraph(clear, "no_trace", {}, {clear("Identity", best): kind})
    return graph("If", may_tie, then_branch=then_branch, else_branch=else_branch)


def _trace_step(transitions: np.ndarray) -> GraphProto:
    """One step back from the last word: to the label from which the next word's label is reached best."""
    step = Graph(prefix="trace_")
    before = step("Add", "trace_forward", step("Gather", transitions.T, "next_label"))  # [B, num_labels]
    label = step("Where", "trace_is_last", "trace_best", step("ArgMax", before, axis=1, keepdims=0))
    number, integer, boolean = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
    inputs = {"next_label": integer, "trace_forward": number, "trace_best": integer, "trace_is_last": boolean}
    return subgraph(step, "step_back", inputs, dict.fromkeys([label, step("Identity", label)], integer))


def _continued(graph: Graph, scores: str, label_names: list[str]) -> str:
    """Let the label of a word's first token go on: `B-LOC` as `I-LOC`."""
    if tagging_scheme(label_names) is None:
        return scores
    partners = list(range(len(label_names)))
    begins = np.zeros(len(label_names), dtype=bool)
    for begin, name in enumerate(label_names):
        if name.startswith("B-") and f"I{name[1:]}" in label_names:
            inside = label_names.index(f"I{name[1:]}")
            partners[begin], partners[inside], begins[begin] = inside, begin, True
    of_partners = graph("Gather", scores, partners, axis=2)
    return graph("Where", begins, graph("Min", scores, of_partners), graph("Max", scores, of_partners))


__all__ = ["label_scores", "max_marginals", "spread"]
