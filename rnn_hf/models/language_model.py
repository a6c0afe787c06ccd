"""A language model beside a tagger, for training only: states predict the neighbours of their tokens.

Words around a word say much about its label. Learning to predict them makes the states better where labelled text is
scarce (https://arxiv.org/abs/1704.07156).
"""

import torch
from torch import Tensor, nn

from .configuration_rnn import RnnConfig
from .losses import at_least_float32
from .packing import Packing

# Entries, beside those of the batch, that the right one has to be told from.
_NUM_SAMPLED = 1000


class LanguageModelHead(nn.Module):
    """Predict, of each token, the next one from the forward state and the one before from the backward state.

    The states are those of the first layer: deeper ones have seen the neighbours. Entries are scored by their own
    vectors, against those of the batch and a random sample of the others.

    Args:
        config ([`RnnConfig`]): The architecture.

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

    def __init__(self, config: RnnConfig):
        super().__init__()
        self.projections = nn.ModuleList(
            nn.Linear(config.hidden_size, config.embedding_size) for _ in range(config.num_directions)
        )

    def forward(self, states: Tensor, input_ids: Tensor, vectors: Tensor, packing: Packing) -> Tensor:
        """Compute the loss.

        Args:
            states (`torch.FloatTensor` of shape `[num_tokens, directions * hidden_size]`): States of the first layer.
            input_ids (`torch.LongTensor` of shape `[num_tokens]`): Entries, each with a vector of its own.
            vectors (`torch.FloatTensor` of shape `[num_entries, embedding_size]`): The vectors.
            packing ([`Packing`]): The layout.

        Returns:
            `torch.FloatTensor`: negative logarithm of the probability of the right neighbours, summed over all tokens
            and halved where there are two directions.
        """
        befores = packing.previous_places() - packing.num_sequences  # [num_tokens], negative for first tokens
        afters = (befores >= 0).nonzero().flatten()
        befores = befores[afters]
        sampled = torch.randint(len(vectors), (_NUM_SAMPLED,), device=input_ids.device)
        candidates, places = torch.cat([input_ids, sampled]).unique(return_inverse=True)
        scored = nn.functional.embedding(candidates, vectors)  # [num_candidates, embedding_size]
        losses = []
        directions = states.chunk(len(self.projections), dim=1)
        for index, (seen, wanted) in enumerate([(befores, afters), (afters, befores)][: len(directions)]):
            logits = self.projections[index](directions[index][seen]) @ scored.T
            losses.append(nn.functional.cross_entropy(at_least_float32(logits), places[wanted], reduction="sum"))
        return torch.stack(losses).mean()


__all__ = ["LanguageModelHead"]
