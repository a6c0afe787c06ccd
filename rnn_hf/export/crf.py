"""Conditional random fields as ONNX operators: the best sequence of labels, by two recursions and a trace back."""

from typing import Any

import numpy as np
from onnx import GraphProto, TensorProto, ValueInfoProto, helper

from ..models.crf import ConditionalRandomField, allowed_transitions
from ..models.labels import tagging_scheme
from .graph import Graph, to_array

# What a forbidden transition costs, and what cannot be.
_FORBIDDEN = 1e4
_IMPOSSIBLE = -1e30


def max_marginals(graph: Graph, crf: ConditionalRandomField, emissions: str, is_start: str) -> str:
    """Score each label by the best allowed sequence through it, over the first tokens of words.

    A `Scan` runs the recursion from the first step and the one from the last at once, and keeps scores where no word
    begins. A state beside those of the labels, at `num_labels`, stands before the first word, and behind the last.
    """
    num_labels = len(crf.label_names)
    words = graph("CumSum", graph("Cast", is_start, to=TensorProto.INT64), 0)
    num_words = graph("ReduceMax", words, [0])  # [1, B]

    both_emissions = _both_ways(graph, graph("Pad", emissions, [0, 0, 0, 0, 0, 1]))  # [L, 2, B, num_labels + 1]
    both_starts = _both_ways(graph, graph("Unsqueeze", is_start, [2]))  # [L, 2, B, 1]
    first = np.full((2, 1, num_labels + 1), _IMPOSSIBLE, dtype=np.float32)
    first[:, :, num_labels] = 0.0
    shape = graph("Concat", [2], graph("Shape", num_words, start=1), [num_labels + 1], axis=0)
    step = _scan_step(_transition_scores(crf))
    _, scores, reached, pointers = graph.call(
        "Scan",
        graph("Expand", first, shape),
        both_emissions,
        both_starts,
        num_outputs=4,
        body=step,
        num_scan_inputs=2,
    )
    forward = graph("Gather", scores, 0, axis=1)  # [L, B, num_labels + 1]
    backward = _reversed(graph, graph("Gather", reached, 1, axis=1))
    # Scores are up to a constant for each token: that of the model.
    forward = _shifted(graph, forward, graph("Greater", words, 1))
    backward = _shifted(graph, backward, graph("Less", words, num_words))
    sums = graph("Slice", graph("Add", forward, backward), [0], [num_labels], [2])  # [L, B, num_labels]

    last_label = graph("ArgMax", graph("Gather", sums, -1), axis=1)  # [B, 1]
    pointers = graph("Gather", pointers, 0, axis=1)
    _, path = graph.call(
        "Scan",
        last_label,
        pointers,
        graph("Unsqueeze", is_start, [2]),
        num_outputs=2,
        body=_trace_step(),
        num_scan_inputs=2,
        scan_input_directions=[1, 1],
        scan_output_directions=[1],
    )
    # Where sequences tie, the labels of the path are preferred by the least that float32 knows.
    best = graph("ReduceMax", sums, [2])
    above = graph("Add", graph("Add", best, graph("Mul", graph("Abs", best), 2.0**-23)), 1e-37)
    marginals = graph("Where", graph("Equal", path, np.arange(num_labels)), above, sums)
    marginals = graph("Where", graph("Unsqueeze", graph("Greater", words, 0), [2]), marginals, 0.0)
    inside = _continued(graph, marginals, crf.label_names)
    return graph("Where", graph("Unsqueeze", is_start, [2]), marginals, inside)


def _both_ways(graph: Graph, steps: str) -> str:
    """Put beside each step, as a new second dimension, the one that is as far from the end."""
    return graph("Concat", *(graph("Unsqueeze", way, [1]) for way in (steps, _reversed(graph, steps))), axis=1)


def _reversed(graph: Graph, steps: str) -> str:
    return graph("Slice", steps, [-1], [np.iinfo(np.int64).min], [0], [-1])


def _shifted(graph: Graph, scores: str, where: str) -> str:
    highest = graph("Where", graph("Unsqueeze", where, [2]), graph("ReduceMax", scores, [2]), 0.0)
    return graph("Sub", scores, highest)


def _transition_scores(crf: ConditionalRandomField) -> np.ndarray:
    """Return what following costs, `[2, 1, to, from]`: forwards, and backwards, where `from` is the later label."""
    begins, follows, ends = (
        part.logical_not().numpy() * np.float32(-_FORBIDDEN) for part in allowed_transitions(crf.label_names)
    )
    transitions = to_array(crf.transitions) + follows
    num_labels = len(crf.label_names)
    scores = np.full((2, 1, num_labels + 1, num_labels + 1), _IMPOSSIBLE, dtype=np.float32)
    scores[0, 0, :num_labels, :num_labels] = transitions.T
    scores[0, 0, :num_labels, num_labels] = to_array(crf.start_transitions) + begins
    scores[1, 0, :num_labels, :num_labels] = transitions
    scores[1, 0, :num_labels, num_labels] = to_array(crf.end_transitions) + ends
    return scores


def _scan_step(transitions: np.ndarray) -> GraphProto:
    """One step of the recursions: from the scores of a word to those of the next one."""
    step = Graph(prefix="step_")
    shifted = step("Sub", "scores", step("ReduceMax", "scores", [2]))
    ways = step("Add", step("Unsqueeze", shifted, [2]), transitions)  # [2, B, to, from]
    reached = step("ReduceMax", ways, [3], keepdims=0)
    scores = step("Where", "step_starts", step("Add", reached, "step_emissions"), "scores")
    outputs = [scores, step("Identity", scores), reached, step("ArgMax", ways, axis=3, keepdims=0)]
    number, boolean = TensorProto.FLOAT, TensorProto.BOOL
    inputs = {"scores": number, "step_emissions": number, "step_starts": boolean}
    types = [number, number, number, TensorProto.INT64]
    return _subgraph(step, "recursions", inputs, dict(zip(outputs, types, strict=True)))


def _trace_step() -> GraphProto:
    """One step of following the pointers back from the last word's label."""
    step = Graph(prefix="trace_")
    before = step("GatherElements", "trace_pointers", "label", axis=1)
    outputs = [step("Where", "trace_starts", before, "label"), step("Identity", "label")]
    inputs = {"label": TensorProto.INT64, "trace_pointers": TensorProto.INT64, "trace_starts": TensorProto.BOOL}
    return _subgraph(step, "trace", inputs, dict.fromkeys(outputs, TensorProto.INT64))


def _subgraph(graph: Graph, name: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> GraphProto:
    """Make the body of a `Scan` from its nodes, and the types of its inputs and outputs."""

    def infos(values: dict[str, Any]) -> list[ValueInfoProto]:
        return [helper.make_tensor_value_info(value, kind, None) for value, kind in values.items()]

    return helper.make_graph(graph.nodes, name, infos(inputs), infos(outputs), graph.initializers)


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


__all__ = ["max_marginals"]
