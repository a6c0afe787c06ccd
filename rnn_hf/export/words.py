"""Where the words of a batch are, and the vectors of words, as parts of an ONNX graph."""

from onnx import TensorProto

from .graph import Graph, subgraph


class Words:
    """Where the words of a batch are; `W` is the largest number of words, 1 at least, rounded up to a multiple.

    Args:
        graph ([`Graph`]): The graph to add to.
        is_start (`str`): Where words begin, bool `[L, B]`, of one step or more.
        multiple (`int`): What `W` is a multiple of.

    Attributes:
        batch_size (`str`): `B`, int64 `[1]`.
        numbers (`str`): `0 … W - 1`, int64 `[W, 1]`.
        are_words (`str`): Whether there is a word, bool `[W, B]`.
        from_end (`str`): How many words follow each word, int64 `[W, B]`, 0 behind the last.
        is_last (`str`): Whether a word is its sequence's last, or stands behind it, bool `[W, B]`.
        of_tokens (`str`): Rows of the tokens' words among `W * B`, int64 `[L, B]`.
        has_begun (`str`): Whether a token's word or an earlier one has begun, bool `[L, B]`.
    """

    def __init__(self, graph: Graph, is_start: str, multiple: int = 1):
        self._graph = graph
        self.batch_size = graph("Shape", is_start, start=1)
        self._columns = graph("Range", 0, graph("Squeeze", self.batch_size), 1)  # [B]
        self._counts = graph("CumSum", graph("Cast", is_start, to=TensorProto.INT64), 0)  # [L, B]
        self.num_words = graph("ReduceMax", self._counts, [0])  # [1, B]
        self._longest = graph("Max", graph("ReduceMax", self.num_words, keepdims=0), 1)
        if multiple > 1:
            rounded = graph("Div", graph("Add", self._longest, multiple - 1), multiple)
            self._longest = graph("Mul", rounded, multiple)
        self.numbers = graph("Unsqueeze", graph("Range", 0, self._longest, 1), [1])
        to_last = graph("Sub", graph("Sub", self.num_words, 1), self.numbers)
        self.are_words = graph("GreaterOrEqual", to_last, 0)
        self.from_end = graph("Max", to_last, 0)
        self.is_last = graph("LessOrEqual", to_last, 0)
        self.has_begun = graph("Greater", self._counts, 0)
        self.of_tokens = self._flat(graph("Max", graph("Sub", self._counts, 1), 0))
        # The step at which each word begins; what begins none goes behind the last.
        steps = graph("CumSum", graph("Add", graph("Mul", self._counts, 0), 1), 0, exclusive=1)
        self._begins = self._scatter(is_start, steps, "none")  # [W, B]

    def gather(self, rows: str) -> str:
        """Gather what words' first tokens have: `[L * B, …]` to `[W, B, …]`."""
        return self._graph("Gather", rows, self._flat(self._begins))

    def gather_both_ways(self, rows: str) -> str:
        """Gather the rows `[L * B, …]` of words, forwards and backwards: `[W, 2, B, …]`."""
        graph = self._graph
        forwards = self._flat(self._begins)
        backwards = graph("GatherElements", forwards, self.from_end, axis=0)
        both = graph("Concat", *(graph("Unsqueeze", way, [1]) for way in (forwards, backwards)), axis=1)
        return graph("Gather", rows, both)

    def rows(self, numbers: str, direction: int) -> str:
        """Find the rows of words, counted in a direction, among those of words, directions and sequences."""
        return self._flat(self._graph("Add", self._graph("Mul", numbers, 2), direction))

    def pool(self, parts: list[str], has_maxima: bool, are_tokens: str) -> list[str]:
        """Pool the features that the tokens of each word have, which are averaged.

        Args:
            parts (`list[str]`): Features, float32 `[L, B, size]` each.
            has_maxima (`bool`): Whether of the last part, which is not negative, the maximum counts.
            are_tokens (`str`): Where tokens are, bool `[L, B]`; each belongs to the word that began last.

        Returns:
            `list[str]`: names of the pooled features, `[W, B, size]`; those of no word mean nothing.
        """
        graph = self._graph
        ones = graph("Add", graph("Mul", self._counts, 0), 1)
        sizes = self._scatter(are_tokens, ones, "add")  # [W, B]
        flat = [graph("Reshape", one, graph("Concat", [-1], graph("Shape", one, start=2), axis=0)) for one in parts]
        operators = ["Add"] * (len(parts) - has_maxima) + ["Max"] * has_maxima
        firsts = [self.gather(one) for one in flat]
        most = graph("ReduceMax", sizes, keepdims=0)
        body = Graph(prefix="pool_")
        offset = body("Add", "pool_number", 1)
        exists = body("Less", offset, sizes)
        rows = self._flat(body("Where", exists, body("Add", self._begins, offset), self._begins), body)
        factors = body("Unsqueeze", body("Cast", exists, to=TensorProto.FLOAT), [2])
        names = [f"pool_part_{position}" for position in range(len(flat))]
        outputs = [
            body(operator, name, body("Mul", body("Gather", one, rows), factors))
            for operator, name, one in zip(operators, names, flat, strict=True)
        ]
        boolean, number = TensorProto.BOOL, TensorProto.FLOAT
        goes_on = body("Identity", "pool_goes_on")
        inputs = {"pool_number": TensorProto.INT64, "pool_goes_on": boolean} | dict.fromkeys(names, number)
        scalars = ("pool_number", "pool_goes_on", goes_on)
        loop = subgraph(body, "pool", inputs, {goes_on: boolean} | dict.fromkeys(outputs, number), scalars)
        pooled = graph.call("Loop", graph("Sub", most, 1), "", *firsts, num_outputs=len(flat), body=loop)
        counts = graph("Unsqueeze", graph("Cast", graph("Max", sizes, 1), to=TensorProto.FLOAT), [2])
        return [
            graph("Div", part, counts) if operator == "Add" else part
            for operator, part in zip(operators, pooled, strict=True)
        ]

    def _scatter(self, chosen: str, values: str, reduction: str) -> str:
        """Bring values of chosen tokens to their words: `[L, B]` to `[W, B]`, 0 where there is none."""
        graph = self._graph
        target = graph("Where", chosen, graph("Sub", self._counts, 1), self._longest)
        shape = graph("Concat", graph("Add", graph("Reshape", self._longest, [1]), 1), self.batch_size, axis=0)
        room = graph("Expand", 0, shape)
        scattered = graph("ScatterElements", room, target, values, axis=0, reduction=reduction)
        return graph("Slice", scattered, [0], [-1], [0])

    def _flat(self, steps: str, graph: Graph | None = None) -> str:
        graph = self._graph if graph is None else graph
        return graph("Add", graph("Mul", steps, self.batch_size), self._columns)


__all__ = ["Words"]
