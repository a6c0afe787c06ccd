"""Linear-chain conditional random field over packed sequences (https://arxiv.org/abs/1603.01360).

All recursions run step by step over all sequences of a batch at once: in log space, or in training on a CPU by products
of exponentials.
"""

from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .labels import tagging_scheme
from .losses import at_least_float32
from .packing import Packing

# What a forbidden transition costs: more than any path can make good.
_FORBIDDEN = 1e4
# How many steps are taken apart, and joined, at once.
_CHUNK = 1024
# Transitions that spread further are summed in log space: e^-40 times another e^-40 is still a normal float32.
_WIDEST_SPREAD = 40.0
# Labels of a step whose scores are nearer than this may belong to sequences that tie, and how many times the rounding
# of the largest score are added to it.
_NEAR, _ROUNDINGS = 1e-4, 8


def allowed_transitions(label_names: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
    """Find out which label may begin a sequence, follow another, and end a sequence.

    Args:
        label_names (`Sequence[str]`): Labels in the order of their ids.

    Returns:
        Three `torch.BoolTensor`: `[num_labels]`, `[num_labels, num_labels]` (from, to) and `[num_labels]`. All are
        true where labels mark no spans.

    Example:
    ```python
    >>> from rnn_hf.models.crf import allowed_transitions
    >>> allowed_transitions(["O", "B-PER", "I-PER"])[1].int()
    tensor([[1, 1, 0],
            [1, 1, 1],
            [1, 1, 1]], dtype=torch.int32)

    ```
    """
    scheme = tagging_scheme(label_names)
    if scheme is None:
        size = len(label_names)
        one, two = (torch.ones(shape, dtype=torch.bool) for shape in ([size], [size, size]))
        return one, two, one
    marks = [name[0] for name in label_names]
    names = set(label_names)
    # Where a kind of span has no B- label (IOB1), its I- label begins it too.
    begins = torch.tensor(
        [name[0] in "OBS" or (name[0] == "I" and f"B{name[1:]}" not in names) for name in label_names]
    )
    ends = torch.tensor([scheme == "iob2" or mark in "OES" for mark in marks])
    kinds: dict[str, int] = {}
    kind = torch.tensor([kinds.setdefault(name[1:], len(kinds)) for name in label_names])
    is_open, goes_on = (torch.tensor([mark in group for mark in marks]) for group in ("BI", "IE"))
    continues = is_open.unsqueeze(1) & goes_on & (kind.unsqueeze(1) == kind)
    return begins, continues | (ends.unsqueeze(1) & begins), ends


class ConditionalRandomField(nn.Module):
    """Scores of label sequences: emissions for each step, and transitions between them.

    Transitions that the labels' names forbid (`I-LOC` after `O`) are never decoded.

    Args:
        label_names (`Sequence[str]`): Labels in the order of their ids.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.models.crf import ConditionalRandomField
    >>> from rnn_hf.models.packing import Packing
    >>> crf = ConditionalRandomField(["O", "B-PER", "I-PER"])
    >>> packing = Packing.from_mask(torch.tensor([[1, 1, 1]]))
    >>> emissions = torch.tensor([[0.0, 3.0, 5.0], [1.0, 0.0, 2.0], [0.0, 0.0, 3.0]])
    >>> crf.max_marginals(emissions, packing).argmax(dim=1)
    tensor([1, 2, 2])

    ```
    """

    def __init__(self, label_names: Sequence[str]):
        super().__init__()
        size = len(label_names)
        self.label_names = list(label_names)
        # Found out when first needed: within `from_pretrained`, tensors made here would be on the meta device.
        self._allowed: tuple[Tensor, Tensor, Tensor] | None = None
        self.start_transitions = nn.Parameter(torch.zeros(size))
        self.transitions = nn.Parameter(torch.zeros(size, size))  # [from, to]
        self.end_transitions = nn.Parameter(torch.zeros(size))

    def forward(self, emissions: Tensor, labels: Tensor, packing: Packing) -> Tensor:
        """Compute the negative log-likelihood of label sequences, token by token.

        Args:
            emissions (`torch.FloatTensor` of shape `[num_tokens, num_labels]`): Scores in packed layout.
            labels (`torch.LongTensor` of shape `[num_tokens]`): The right labels.
            packing ([`Packing`]): The layout.

        Returns:
            `torch.FloatTensor` of shape `[num_tokens]`: `-log p(label | labels before it, all emissions)`, whose sum
            over a sequence is that of the whole sequence.
        """
        if len(emissions) == 0:
            return at_least_float32(emissions).sum(dim=1)
        emissions = at_least_float32(emissions)
        sizes = packing.step_sizes
        packed_rest = self._sum_to_the_end(emissions, sizes)
        total = (self.start_transitions + emissions[: sizes[0]] + packed_rest[: sizes[0]]).logsumexp(dim=1)

        labels = labels.unsqueeze(1)
        scores = (emissions + packed_rest).gather(1, labels).squeeze(1)
        previous = packing.previous_positions()[sizes[0] :] - sizes[0]
        before = labels[previous].squeeze(1)
        entering = torch.cat(
            [self.start_transitions[labels[: sizes[0], 0]], self.transitions[before, labels[sizes[0] :, 0]]]
        )
        normalizer = torch.cat([total, packed_rest[previous, before]])
        return normalizer - entering - scores

    def _sum_to_the_end(self, emissions: Tensor, sizes: list[int]) -> Tensor:
        """For each label of each step, find the log of the summed scores of all ways from there to the end."""
        if emissions.device.type == "cpu" and not torch.compiler.is_compiling():
            lowest, highest = self.transitions.detach().aminmax()
            if highest - lowest < _WIDEST_SPREAD:
                dtype = torch.promote_types(emissions.dtype, self.transitions.dtype)
                parts = (part.to(dtype) for part in (emissions, self.transitions, self.end_transitions))
                return _SumsToTheEnd.apply(*parts, sizes)
        steps = emissions.split(sizes)
        rests = [self.end_transitions.expand(sizes[-1], -1)]
        for later, size in zip(steps[:0:-1], sizes[-2::-1], strict=True):
            rest = _LogSumExp.apply(rests[-1] + later, self.transitions)
            rests.append(torch.cat([rest, self.end_transitions.expand(size - len(rest), -1)]))
        return torch.cat(rests[::-1])

    def max_marginals(self, emissions: Tensor, packing: Packing) -> Tensor:
        """Score each label of each token by the best allowed sequence that goes through it.

        The best label of each token makes up the best sequence, that of the Viterbi algorithm; where sequences tie,
        one of them is preferred throughout.

        Args:
            emissions (`torch.FloatTensor` of shape `[num_tokens, num_labels]`): Scores in packed layout.
            packing ([`Packing`]): The layout.

        Returns:
            `torch.FloatTensor` of shape `[num_tokens, num_labels]`, up to a constant for each token.
        """
        if len(emissions) == 0:
            return at_least_float32(emissions)
        forward, scores = self._both_ways(at_least_float32(emissions), packing, torch.amax)
        best = scores.amax(dim=1, keepdim=True)
        traced = torch.compiler.is_compiling() or scores.is_meta or _may_tie(forward, scores, best)
        path = self._trace(forward, scores, packing) if traced else scores.argmax(dim=1)
        return scores.scatter(1, path.unsqueeze(1), best.nextafter(torch.full_like(best, torch.inf)))

    def log_marginals(self, emissions: Tensor, packing: Packing) -> Tensor:
        """Compute the log-probability of each label of each token, over all allowed sequences.

        Args:
            emissions (`torch.FloatTensor` of shape `[num_tokens, num_labels]`): Scores in packed layout.
            packing ([`Packing`]): The layout.

        Returns:
            `torch.FloatTensor` of shape `[num_tokens, num_labels]`.
        """
        if len(emissions) == 0:
            return at_least_float32(emissions)
        return self._both_ways(at_least_float32(emissions), packing, torch.logsumexp)[1].log_softmax(dim=1)

    def _both_ways(self, emissions: Tensor, packing: Packing, reduce: Any) -> tuple[Tensor, Tensor]:
        """Run the recursion from the first step and from the last; scores are shifted at each step to stay small.

        Returns:
            The scores from the first step, and the sum of both: `[num_tokens, num_labels]` each.
        """
        start, transitions, end = self._allowed_scores(emissions)
        sizes = packing.step_sizes

        def forwards() -> Iterator[Tensor]:
            steps = _steps(emissions, sizes)
            score = start + next(steps)
            yield score
            for step in steps:
                score = _shifted(reduce(score[: len(step)].unsqueeze(2) + transitions, 1) + step)
                yield score

        def backwards() -> Iterator[Tensor]:
            score = end.expand(sizes[-1], -1)
            yield score
            for later, size in zip(_steps(emissions, sizes, reverse=True), sizes[-2::-1], strict=False):
                reached = reduce((score + later).unsqueeze(1) + transitions, 2)
                score = torch.cat([_shifted(reached), end.expand(size - len(later), -1)])
                yield score

        forward = _joined(forwards())
        return forward, _joined(backwards(), reverse=True).add_(forward)

    def _allowed_scores(self, emissions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the scores of beginning, following (from, to) and ending, with what is forbidden."""
        if self._allowed is None:
            self._allowed = allowed_transitions(self.label_names)
        begins, follows, ends = (
            part.to(emissions.device).logical_not().to(emissions.dtype) * -_FORBIDDEN for part in self._allowed
        )
        return self.start_transitions + begins, self.transitions + follows, self.end_transitions + ends

    def _trace(self, forward: Tensor, scores: Tensor, packing: Packing) -> Tensor:
        """Go back from the best label of each sequence's last step, to the label from which each is reached best."""
        sizes = packing.step_sizes
        arrivals = self._allowed_scores(scores)[1].t().contiguous()  # [to, from]

        def labels() -> Iterator[Tensor]:
            label = scores.new_zeros(0, dtype=torch.long)
            for step, reached in zip(
                _steps(scores, sizes, reverse=True), _steps(forward, sizes, reverse=True), strict=True
            ):
                before = (reached[: len(label)] + arrivals[label]).argmax(dim=1)
                label = torch.cat([before, step[len(label) :].argmax(dim=1)])
                yield label

        return _joined(labels(), reverse=True)


def _steps(packed: Tensor, sizes: list[int], reverse: bool = False) -> Iterator[Tensor]:
    """View packed values step by step, from the first or from the last; not all views are there at once."""
    groups = [sizes[first : first + _CHUNK] for first in range(0, len(sizes), _CHUNK)]
    order = -1 if reverse else 1
    for block, group in list(zip(packed.split([sum(group) for group in groups]), groups, strict=True))[::order]:
        yield from block.split(group)[::order]


def _joined(steps: Iterator[Tensor], reverse: bool = False) -> Tensor:
    """Join what comes step by step, from the first or from the last, some at a time: many small tensors take memory."""
    order = -1 if reverse else 1
    parts = []
    while chunk := list(islice(steps, _CHUNK)):
        parts.append(torch.cat(chunk[::order]))
    return torch.cat(parts[::order])


class _SumsToTheEnd(torch.autograd.Function):
    """The same sums as those of [`_LogSumExp`] step by step, as products of matrices.

    The exponentials of scores are taken relative to the highest of each row, those of transitions relative to the
    highest of all: as long as the transitions spread by less than float32's exponents, no term that counts is lost.
    """

    @staticmethod
    def forward(ctx: Any, emissions: Tensor, transitions: Tensor, end: Tensor, sizes: list[int]) -> Tensor:
        highest = transitions.amax()
        factors = (transitions - highest).exp_()
        rests = torch.empty_like(emissions)
        scores, sums = torch.empty_like(emissions), torch.empty_like(emissions)
        last = len(emissions)
        rest = rests[last - sizes[-1] :].copy_(end)
        with torch.autocast("cpu", enabled=False):
            for size, later_size in zip(sizes[-2::-1], sizes[:0:-1], strict=True):
                middle = last - later_size
                score = torch.add(rest, emissions[middle:last], out=scores[middle:last])
                of_rows = score.amax(dim=1, keepdim=True)
                score.sub_(of_rows).exp_()
                rest = rests[middle - size : middle]
                if size > later_size:
                    rest[later_size:] = end
                torch.mm(score, factors.t(), out=sums[middle:last])
                torch.log(sums[middle:last], out=rest[:later_size]).add_(of_rows.add_(highest))
                last = middle
        ctx.sizes = sizes
        ctx.save_for_backward(factors, scores, sums)
        return rests

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        factors, scores, sums = ctx.saved_tensors
        sizes = ctx.sizes
        shares = torch.zeros_like(scores)  # of a step in the one before it
        of_emissions = torch.zeros_like(scores)
        of_end = gradient.new_zeros(len(factors))
        own = gradient[: sizes[0]]
        start = sizes[0]
        with torch.autocast("cpu", enabled=False):
            for size, later_size in pairwise(sizes):
                end = start + later_size
                if size > later_size:
                    of_end += own[later_size:].sum(dim=0)
                share = torch.div(own[:later_size], sums[start:end], out=shares[start:end])
                passed = torch.mm(share, factors, out=of_emissions[start:end]).mul_(scores[start:end])
                own = gradient[start:end] + passed
                start = end
            of_end += own.sum(dim=0)
            first = sizes[0]
            of_transitions = (shares[first:].t() @ scores[first:]).mul_(factors)
        return of_emissions, of_transitions, of_end, None


class _LogSumExp(torch.autograd.Function):
    """`out[n, i] = log Σ_j exp(transitions[i, j] + scores[n, j])`, which keeps no `[n, i, j]` for the gradient."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, transitions: Tensor) -> Tensor:
        out = (scores.unsqueeze(1) + transitions).logsumexp(dim=2)
        ctx.save_for_backward(scores, transitions, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        scores, transitions, out = ctx.saved_tensors
        shares = (scores.unsqueeze(1) + transitions - out.unsqueeze(2)).exp_().mul_(gradient.unsqueeze(2))
        return shares.sum(dim=1), shares.sum(dim=0)


def _may_tie(forward: Tensor, scores: Tensor, best: Tensor) -> bool:
    """Tell whether some step has two labels whose scores are equal but for rounding."""
    largest = max(_largest(forward), _largest(scores - forward))
    near = _NEAR + _ROUNDINGS * torch.finfo(scores.dtype).eps * largest
    return bool(((scores > best - near).sum(dim=1) > 1).any())


def _largest(scores: Tensor) -> float:
    """Find the largest size of scores, without those of what is forbidden."""
    sizes = scores.detach().abs()
    return float(sizes.masked_fill_(sizes > _FORBIDDEN / 2, 0.0).amax())


def _shifted(scores: Tensor) -> Tensor:
    return scores - scores.amax(dim=1, keepdim=True)


__all__ = ["ConditionalRandomField", "allowed_transitions"]
