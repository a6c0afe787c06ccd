"""Where the words of a batch are, and the vectors of words, as parts of an ONNX graph."""

from typing import Any

from onnx import TensorProto

from .graph import Graph, subgraph


class Words:
    """Where the words of a batch are; `W` is the largest number of words, 1 at least.

    Args:
        graph ([`Graph`]): The graph to add to.
        is_start (`str`): Where words begin, bool `[L, B]`, of one step or more.

    Attributes:
        batch_size (`str`): `B`, int64 `[1]`.
        numbers (`str`): `0 … W - 1`, int64 `[W, 1]`.
        from_end (`str`): How many words follow each word, int64 `[W, B]`, 0 behind the last.
        is_last (`str`): Whether a word is its sequence's last, or stands behind it, bool `[W, B]`.
        of_tokens (`str`): Rows of the tokens' words among `W * B`, int64 `[L, B]`.
        has_begun (`str`): Whether a token's word or an earlier one has begun, bool `[L, B]`.
    """

    def __init__(self, graph: Graph, is_start: str):
        self._graph = graph
        self.batch_size = graph("Shape", is_start, start=1)
        self._columns = graph("Range", 0, graph("Squeeze", self.batch_size), 1)  # [B]
        self._counts = graph("CumSum", graph("Cast", is_start, to=TensorProto.INT64), 0)  # [L, B]
        self.num_words = graph("ReduceMax", self._counts, [0])  # [1, B]
        self._longest = graph("Max", graph("ReduceMax", self.num_words, keepdims=0), 1)
        self.numbers = graph("Unsqueeze", graph("Range", 0, self._longest, 1), [1])
        to_last = graph("Sub", graph("Sub", self.num_words, 1), self.numbers)
        self.from_end = graph("Max", to_last, 0)
        self.is_last = graph("LessOrEqual", to_last, 0)
        self.has_begun = graph("Greater", self._counts, 0)
        self.of_tokens = self._flat(graph("Max", graph("Sub", self._counts, 1), 0))
        # The step at which each word begins, of no word the last one, which is padding.
        steps = graph("CumSum", graph("Add", graph("Mul", self._counts, 0), 1), 0, exclusive=1)
        last = graph("Sub", graph("Shape", is_start, end=1), 1)
        self._begins = self._scatter(is_start, steps, "none", last)  # [W, B]

    def gather(self, values: str) -> str:
        """Gather what words' first tokens have: `[L, B, size]` to `[W, B, size]`."""
        return self._graph("Gather", self._as_rows(values), self._flat(self._begins))

    def both_ways(self, values: str) -> str:
        """Put what words have, `[W, B, size]`, beside the same from last words on: `[W, 2, B, size]`."""
        graph = self._graph
        backwards = graph("Gather", self._as_rows(values), self._flat(self.from_end))
        return graph("Concat", graph("Unsqueeze", values, [1]), graph("Unsqueeze", backwards, [1]), axis=1)

    def rows(self, numbers: str, direction: int) -> str:
        """Find the rows of words, counted in a direction, among those of words, directions and sequences."""
        return self._flat(self._graph("Add", self._graph("Mul", numbers, 2), direction))

    def pool(self, parts: list[str], has_maxima: bool, are_tokens: str) -> list[str]:
        """Pool the features that the tokens of each word have, which are averaged.

        Args:
            parts (`list[str]`): Features, float32 `[L, B, size]` each.
            has_maxima (`bool`): Whether of the last part the maximum counts.
            are_tokens (`str`): Where tokens are, bool `[L, B]`; each belongs to the word that began last.

        Returns:
            `list[str]`: names of the pooled features, `[W, B, size]`; those of no word mean nothing.
        """
        graph = self._graph
        ones = graph("Add", graph("Mul", self._counts, 0), 1)
        sizes = self._scatter(are_tokens, ones, "add")  # [W, B]
        of_words, begins = graph("Reshape", sizes, [-1]), graph("Reshape", self._flat(self._begins), [-1])
        of_tokens = [self._as_rows(part) for part in parts]
        firsts = [graph("Gather", part, begins) for part in of_tokens]  # [W * B, size]
        operators = ["Add"] * (len(parts) - has_maxima) + ["Max"] * has_maxima
        several = graph("NonZero", graph("Greater", of_words, 1))  # [1, number of words of several tokens]
        rows = graph("Squeeze", several, [0])
        own_sizes, own_begins = graph("Gather", of_words, rows), graph("Gather", begins, rows)
        # Once for their second tokens, once for the third, and so on.
        body = Graph(prefix="pool_")
        offset = body("Add", "pool_number", 1)
        goes_on = body("Less", offset, own_sizes)
        tokens = body("Add", own_begins, body("Mul", body("Where", goes_on, offset, 0), self.batch_size))
        inputs: dict[str, Any] = {"pool_number": TensorProto.INT64, "pool_goes_on": TensorProto.BOOL}
        outputs = [body("Identity", "pool_goes_on")]
        for position, (operator, part) in enumerate(zip(operators, of_tokens, strict=True)):
            carried = f"pool_part_{position}"
            inputs[carried] = TensorProto.FLOAT
            more = body("Gather", part, tokens)  # of a word that has ended, its first token
            if operator == "Add":
                more = body("Where", body("Unsqueeze", goes_on, [1]), more, 0.0)
            outputs.append(body(operator, carried, more))
        kinds = dict(zip(outputs, list(inputs.values())[1:], strict=True))
        loop = subgraph(body, "pool", inputs, kinds, ("pool_number", "pool_goes_on", outputs[0]))
        times = graph("Sub", graph("ReduceMax", graph("Concat", of_words, [1], axis=0), keepdims=0), 1)
        begun = [graph("Gather", part, rows) for part in firsts]
        pooled = graph.call("Loop", times, "", *begun, num_outputs=len(parts), body=loop)
        targets = graph("Transpose", several)
        pooled = [graph("ScatterND", part, targets, own) for part, own in zip(firsts, pooled, strict=True)]
        counts = graph("Unsqueeze", graph("Cast", graph("Max", of_words, 1), to=TensorProto.FLOAT), [1])
        pooled = [
            graph("Div", part, counts) if operator == "Add" else part
            for operator, part in zip(operators, pooled, strict=True)
        ]
        shape = graph("Concat", graph("Shape", sizes), [-1], axis=0)
        return [graph("Reshape", part, shape) for part in pooled]

    def _scatter(self, chosen: str, values: str, reduction: str, default: Any = 0) -> str:
        """Bring values of chosen tokens to their words: `[L, B]` to `[W, B]`, the default where there is none."""
        graph = self._graph
        target = graph("Where", chosen, graph("Sub", self._counts, 1), self._longest)
        shape = graph("Concat", graph("Add", graph("Reshape", self._longest, [1]), 1), self.batch_size, axis=0)
        room = graph("Expand", default, shape)
        scattered = graph("ScatterElements", room, target, values, axis=0, reduction=reduction)
        return graph("Slice", scattered, [0], [-1], [0])

    def _as_rows(self, values: str) -> str:
        """Bring `[steps, B, size]` to `[steps * B, size]`."""
        size = self._graph("Shape", values, start=2)
        return self._graph("Reshape", values, self._graph("Concat", [-1], size, axis=0))

    def _flat(self, steps: str) -> str:
        return self._graph("Add", self._graph("Mul", steps, self.batch_size), self._columns)


__all__ = ["Words"]
