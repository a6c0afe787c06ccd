"""Linear-chain conditional random field over packed sequences (https://arxiv.org/abs/1603.01360).

All recursions run step by step over all sequences of a batch at once, in log space.
"""

import re
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .packing_rnn import Packing

# What a forbidden transition costs: more than any path can make good.
_FORBIDDEN = 1e4


def tagging_scheme(label_names: Sequence[str]) -> Literal["iob2", "iobes"] | None:
    """Tell how labels mark spans.

    Args:
        label_names (`Sequence[str]`): Labels in the order of their ids.

    Returns:
        `"iob2"` where labels are `O`, `B-…` and `I-…`; `"iobes"` where there are `S-…` or `E-…` too; `None` where
        labels stand for themselves.

    Example:
    ```python
    >>> from rnn_hf.crf_rnn import tagging_scheme
    >>> tagging_scheme(["B-PER", "I-PER", "O"]), tagging_scheme(["B-PER", "S-PER", "O"]), tagging_scheme(["NOUN"])
    ('iob2', 'iobes', None)

    ```
    """
    if not all(name == "O" or re.match(r"[BIES]-.", name) for name in label_names):
        return None
    marks = {name[0] for name in label_names if name != "O"}
    if marks & {"S", "E"}:
        return "iobes"
    return "iob2" if "B" in marks else None


def allowed_transitions(label_names: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
    """Find out which label may begin a sequence, follow another, and end a sequence.

    Args:
        label_names (`Sequence[str]`): Labels in the order of their ids.

    Returns:
        Three `torch.BoolTensor`: `[num_labels]`, `[num_labels, num_labels]` (from, to) and `[num_labels]`. All are
        true where labels mark no spans.

    Example:
    ```python
    >>> from rnn_hf.crf_rnn import allowed_transitions
    >>> allowed_transitions(["O", "B-PER", "I-PER"])[1].int()
    tensor([[1, 1, 0],
            [1, 1, 1],
            [1, 1, 1]], dtype=torch.int32)

    ```
    """
    scheme = tagging_scheme(label_names)
    if scheme is None:
        size = len(label_names)
        return torch.ones(size).bool(), torch.ones(size, size).bool(), torch.ones(size).bool()

    def opens(label: str) -> bool:
        # Where a kind of span has no B- label (IOB1), its I- label begins it too.
        return label[0] in "OBS" or (label[0] == "I" and f"B{label[1:]}" not in label_names)

    def closed(label: str) -> bool:
        return scheme == "iob2" or label[0] in "OES"

    def follows(before: str, label: str) -> bool:
        continues = label[0] in "IE" and before[0] in "BI" and before[1:] == label[1:]
        return continues or (opens(label) and closed(before))

    return (
        torch.tensor([opens(label) for label in label_names]),
        torch.tensor([[follows(before, label) for label in label_names] for before in label_names]),
        torch.tensor([closed(label) for label in label_names]),
    )


class ConditionalRandomField(nn.Module):
    """Scores of label sequences: emissions for each step, and transitions between them.

    Transitions that the labels' names forbid (`I-LOC` after `O`) are never decoded.

    Args:
        label_names (`Sequence[str]`): Labels in the order of their ids.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf.crf_rnn import ConditionalRandomField
    >>> from rnn_hf.packing_rnn import Packing
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
            return emissions.float().sum(dim=1)
        emissions = emissions.float()
        sizes = packing.step_sizes
        # For each label of a step, the log of the summed scores of all ways from there to the end.
        steps = emissions.split(sizes)
        rests = [self.end_transitions.expand(sizes[-1], -1)]
        for later, size in zip(steps[:0:-1], sizes[-2::-1], strict=True):
            rest = _LogSumExp.apply(rests[-1] + later, self.transitions)
            rests.append(torch.cat([rest, self.end_transitions.expand(size - len(rest), -1)]))
        packed_rest = torch.cat(rests[::-1])
        total = (self.start_transitions + emissions[: sizes[0]] + packed_rest[: sizes[0]]).logsumexp(dim=1)

        labels = labels.unsqueeze(1)
        scores = (emissions + packed_rest).gather(1, labels).squeeze(1)
        previous = packing.previous_places()[sizes[0] :] - sizes[0]
        before = labels[previous].squeeze(1)
        entering = torch.cat(
            [self.start_transitions[labels[: sizes[0], 0]], self.transitions[before, labels[sizes[0] :, 0]]]
        )
        normalizer = torch.cat([total, packed_rest[previous, before]])
        return normalizer - entering - scores

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
            return emissions.float()
        forward, backward, pointers = self._both_ways(emissions.float(), packing, _max)
        scores = forward + backward
        path = self._trace(scores, pointers, packing)
        best = scores.amax(dim=1, keepdim=True)
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
            return emissions.float()
        forward, backward, _ = self._both_ways(emissions.float(), packing, _log_sum)
        return (forward + backward).log_softmax(dim=1)

    def _both_ways(self, emissions: Tensor, packing: Packing, reduce: Any) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Run the recursion from the first step and from the last; scores are shifted at each step to stay small."""
        begins, follows, ends = (
            part.to(emissions.device).logical_not() * -_FORBIDDEN for part in allowed_transitions(self.label_names)
        )
        start, transitions, end = (
            self.start_transitions + begins,
            self.transitions + follows,
            self.end_transitions + ends,
        )
        steps = emissions.split(packing.step_sizes)
        score = start + steps[0]
        forward, pointers = [score], []
        for step in steps[1:]:
            reached, pointer = reduce(score[: len(step)].unsqueeze(2) + transitions, 1)
            score = _shifted(reached + step)
            forward.append(score)
            pointers.append(pointer)
        score = end.expand(len(steps[-1]), -1)
        backward = [score]
        for step, before in zip(reversed(steps[1:]), reversed(steps[:-1]), strict=True):
            reached = reduce((score + step).unsqueeze(1) + transitions, 2)[0]
            score = torch.cat([_shifted(reached), end.expand(len(before) - len(step), -1)])
            backward.append(score)
        return torch.cat(forward), torch.cat(backward[::-1]), pointers

    def _trace(self, scores: Tensor, pointers: list[Tensor], packing: Packing) -> Tensor:
        """Follow the pointers back from the best label of each sequence's last step."""
        steps = scores.split(packing.step_sizes)
        label = steps[-1].argmax(dim=1)
        path = [label]
        for step, pointer in zip(reversed(steps[:-1]), reversed(pointers), strict=True):
            label = pointer.gather(1, label.unsqueeze(1)).squeeze(1)
            label = torch.cat([label, step[len(label) :].argmax(dim=1)])
            path.append(label)
        return torch.cat(path[::-1])


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


def _max(scores: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    values, places = scores.max(dim=dim)
    return values, places


def _log_sum(scores: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    return scores.logsumexp(dim=dim), scores.new_empty(0)


def _shifted(scores: Tensor) -> Tensor:
    return scores - scores.amax(dim=1, keepdim=True)


__all__ = ["ConditionalRandomField", "allowed_transitions", "tagging_scheme"]
