"""The head of a language model: each vocabulary entry is scored by its own word embedding."""

import torch
from torch import Tensor, nn

from .configuration_rnn import RnnConfig
from .losses import at_least_float32
from .packing import Packing

# Entries, beside those of the batch, that the right one has to be told from.
_NUM_SAMPLED = 1000
# Logits that are computed at once without gradients.
_MOST_LOGITS = 1 << 24


class LanguageModelHead(nn.Module):
    """Predict, of each token, the next one from the forward state and the one before from the backward state.

    Entries are scored by their own vectors: input and output embeddings are tied
    (https://arxiv.org/abs/1611.01462).

    Args:
        config ([`RnnConfig`]): The architecture.
        has_bias (`bool`): Whether each entry has a bias beside.

    Example:
    ```python
    >>> import torch
    >>> from rnn_hf import RnnConfig
    >>> from rnn_hf.models.language_model import LanguageModelHead
    >>> from rnn_hf.models.packing import Packing
    >>> config = RnnConfig(vocab_size=100, embedding_size=8, hidden_size=16)
    >>> packing = Packing.from_mask(torch.ones(2, 3))
    >>> ids, vectors = torch.randint(100, (6,)), torch.nn.Embedding(100, 8)
    >>> LanguageModelHead(config)(torch.randn(6, 32), ids, vectors.weight, packing).shape
    torch.Size([])

    ```
    """

    def __init__(self, config: RnnConfig, has_bias: bool = False):
        super().__init__()
        self.projections = nn.ModuleList(
            nn.Linear(config.hidden_size, config.embedding_size) for _ in range(config.num_directions)
        )
        num_entries = config.num_word_embeddings or config.vocab_size
        self.bias = nn.Parameter(torch.zeros(num_entries)) if has_bias else None

    def forward(self, states: Tensor, input_ids: Tensor, vectors: Tensor, packing: Packing) -> Tensor:
        """Tell the neighbours of each token from the other entries of the batch and a random sample.

        Args:
            states (`torch.FloatTensor` of shape `[num_tokens, directions * hidden_size]`): States of the first layer:
                deeper ones have seen the neighbours.
            input_ids (`torch.LongTensor` of shape `[num_tokens]`): Entries, each with a word embedding.
            vectors (`torch.FloatTensor` of shape `[num_entries, embedding_size]`): The vectors.
            packing ([`Packing`]): The layout.

        Returns:
            `torch.FloatTensor`: negative logarithm of the probability of the right neighbours, summed over all tokens
            and halved where there are two directions.
        """
        befores = packing.previous_positions() - packing.num_sequences  # [num_tokens], negative for first tokens
        afters = (befores >= 0).nonzero().flatten()
        befores = befores[afters]
        sampled = torch.randint(len(vectors), (_NUM_SAMPLED,), device=input_ids.device)
        candidates, positions = torch.cat([input_ids, sampled]).unique(return_inverse=True)
        scored = nn.functional.embedding(candidates, vectors)  # [num_candidates, embedding_size]
        losses = []
        directions = states.chunk(len(self.projections), dim=1)
        for index, (seen, wanted) in enumerate([(befores, afters), (afters, befores)][: len(directions)]):
            logits = self.projections[index](directions[index][seen]) @ scored.T
            losses.append(nn.functional.cross_entropy(at_least_float32(logits), positions[wanted], reduction="sum"))
        return torch.stack(losses).mean()

    def logits(self, direction: int, states: Tensor, vectors: Tensor) -> Tensor:
        """Score all entries.

        Args:
            direction (`int`): 0 for the next token, 1 for the one before.
            states (`torch.FloatTensor` of shape `[num_tokens, hidden_size]`): States of that direction.
            vectors (`torch.FloatTensor` of shape `[num_entries, embedding_size]`): The vectors.

        Returns:
            `torch.FloatTensor` of shape `[num_tokens, num_entries]`.
        """
        logits = self.projections[direction](states) @ vectors.T
        return logits if self.bias is None else logits + self.bias

    def losses(
        self, direction: int, states: Tensor, targets: Tensor, vectors: Tensor, *, is_exact: bool = False
    ) -> Tensor:
        """Compute the negative logarithm of the probability of each token among all entries.

        The sum over a large vocabulary is estimated in training: entries of the batch count as they are, a uniform
        sample of the others for all of these (sampled softmax, https://arxiv.org/abs/1412.2007).

        Args:
            direction (`int`): 0 for the next token, 1 for the one before.
            states (`torch.FloatTensor` of shape `[num_tokens, hidden_size]`): States of that direction.
            targets (`torch.LongTensor` of shape `[num_tokens]`): The right entries.
            vectors (`torch.FloatTensor` of shape `[num_entries, embedding_size]`): The vectors.
            is_exact (`bool`): Whether to compute the whole sum.

        Returns:
            `torch.FloatTensor` of shape `[num_tokens]`.
        """
        if is_exact or len(vectors) <= 4 * _NUM_SAMPLED:
            num_rows = max(len(targets), 1) if torch.is_grad_enabled() else max(_MOST_LOGITS // len(vectors), 1)
            losses = []
            for part, wanted in zip(states.split(num_rows), targets.split(num_rows), strict=True):
                logits = at_least_float32(self.logits(direction, part, vectors))
                losses.append(nn.functional.cross_entropy(logits, wanted, reduction="none"))
            return torch.cat(losses)
        is_other = torch.ones(len(vectors), dtype=torch.bool, device=targets.device)
        present, positions = targets.unique(return_inverse=True)
        is_other[present] = False
        others = is_other.nonzero().flatten()
        sampled = others[torch.randint(len(others), (_NUM_SAMPLED,), device=targets.device)]
        candidates = torch.cat([present, sampled])
        logits = self.projections[direction](states) @ nn.functional.embedding(candidates, vectors).T
        if self.bias is not None:
            logits = logits + self.bias[candidates]
        counts = logits.new_zeros(len(candidates), dtype=torch.float32)  # logarithm of how many each stands for
        counts[len(present) :] = torch.log(torch.tensor(len(others) / _NUM_SAMPLED))
        return nn.functional.cross_entropy(at_least_float32(logits) + counts, positions, reduction="none")


__all__ = ["LanguageModelHead"]
