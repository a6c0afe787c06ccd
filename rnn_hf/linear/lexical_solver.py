"""The weights of lexical features as the solution of a convex problem.

A linear model over the features of a word and its neighbours is solved in seconds. On little data it is solved before
training, and the recurrent layers are trained without it. On more, features are trained with the recurrent layers, and
a solved conditional random field joins them afterwards. Validation data says how much each counts.
"""

import copy
import warnings
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_matrix, vstack
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC
from torch import Tensor, nn
from transformers import EvalPrediction
from transformers.trainer_pt_utils import nested_concat

from ..data.examples import iterate_examples
from ..evaluation.calibration import RATIOS
from ..evaluation.task_metrics import score_names
from ..models.crf import ConditionalRandomField
from ..models.lexical import WINDOW, LexicalFeatures, join_characters
from ..models.modeling_rnn import RnnForTokenClassification
from ..models.packing import Packing, pack_rows
from ..models.pooled_words import Words, without_ends

# Sentences whose features are looked up together.
_CHUNK = 64
# Values that are kept at most, 800 MB, and the same times the number of labels, some minutes. Of more sentences, chunks
# at equal distances are taken.
_MOST_VALUES, _MOST_WORK = 2**26, 2**32
_PENALTY, _TOLERANCE = 0.1, 0.01
# Of a conditional random field: weight of squares, most steps, and the least fall of a word's loss that is a step.
_DECAY, _MOST_ITERATIONS, _TOLERANCE_OF_CHAIN = 0.1, 100, 1e-6
# Scores for each unit of distance from the plane between labels.
_SCALE = 3.5
# Words of validation data by which parts are weighed.
_MOST_WORDS = 50_000
_FACTORS = [2.0 ** (-power / 2) for power in range(7)]


def solve_lexical(model: RnnForTokenClassification, dataset: Iterable[Any]) -> bool:
    """Set the weights of a tagger's lexical features, each label against all others.

    They are frozen, and left out of the scores in training.

    Args:
        model ([`RnnForTokenClassification`]): The model, which knows the characters of its vocabulary.
        dataset (`Iterable`): Encoded examples, with `input_ids` and `labels`.

    Returns:
        `bool`: whether there was a problem to solve: no more labels than have weights of their own, and two of them in
        the data.

    Example:
    ```python
    >>> from rnn_hf import RnnConfig, RnnForTokenClassification, train_tokenizer
    >>> from rnn_hf.text.characters import set_vocabulary
    >>> from rnn_hf.linear.lexical_solver import solve_lexical
    >>> tokenizer = train_tokenizer(["a cat", "a dog"] * 2, kind="word")
    >>> config = RnnConfig(vocab_size=len(tokenizer), num_lexical_features=64, num_labels=2)
    >>> model = RnnForTokenClassification(config)
    >>> set_vocabulary(model, tokenizer)
    >>> ids = tokenizer("a cat", add_special_tokens=False)["input_ids"]
    >>> solve_lexical(model, [{"input_ids": ids, "labels": [0, 1]}])
    True
    >>> model.eval()(input_ids=torch.tensor([ids])).logits.argmax(-1).tolist()
    [[0, 1]]

    ```
    """
    lexical = model.lexical
    assert lexical is not None
    if not _solve(model, lexical, dataset):
        return False
    lexical.requires_grad_(False)
    lexical.is_solved = True
    return True


def _solve(model: RnnForTokenClassification, lexical: LexicalFeatures, dataset: Iterable[Any]) -> bool:
    """Write the solution into lexical features, and tell whether there is one."""
    num_labels = len(model.config.scored_label_names)
    if lexical.projection is not None or num_labels < 2:
        return False
    words = _read(model, lexical, dataset, num_labels)
    found = np.unique(words.labels)
    if len(found) < 2:
        return False
    weight = _solve_words(words, found, num_labels) if model.crf is None else _solve_chain(words, model.crf, lexical)
    shape = (2 * WINDOW + 1, len(lexical.weight), num_labels)
    weight = weight.reshape(shape).transpose(1, 0, 2).reshape(lexical.weight.shape)
    with torch.no_grad():
        lexical.weight.copy_(torch.from_numpy(weight))
    return True


class _LabelledWords(NamedTuple):
    """Words with labels, sentence by sentence.

    Args:
        matrix (`csr_matrix` of shape `[num_words, num_features]`): Which features each has, neighbours' included.
        labels (`np.ndarray` of shape `[num_words]`): Class ids.
        sentences (`np.ndarray` of shape `[num_words]`): Numbers of sentences, which do not fall.
    """

    matrix: csr_matrix
    labels: np.ndarray
    sentences: np.ndarray


def _solve_words(words: _LabelledWords, found: np.ndarray, num_labels: int) -> np.ndarray:
    """Solve a linear support vector machine for each label against all others; `[num_features, num_labels]`."""
    weight = np.zeros((words.matrix.shape[1], num_labels), dtype=np.float32)
    matrix = words.matrix.astype(np.float64)  # once, rather than for each label
    for label in found:
        machine = LinearSVC(C=_PENALTY, tol=_TOLERANCE, fit_intercept=False, dual=True, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            machine.fit(matrix, words.labels == label)
        weight[:, label] = machine.coef_[0] * _SCALE
    # Features of the words themselves: each has some.
    of_words = slice(WINDOW * len(weight) // (2 * WINDOW + 1), (WINDOW + 1) * len(weight) // (2 * WINDOW + 1))
    weight[of_words, [label for label in range(num_labels) if label not in found]] = -_SCALE
    return weight


def _solve_chain(words: _LabelledWords, crf: ConditionalRandomField, lexical: LexicalFeatures) -> np.ndarray:
    """Solve a linear-chain conditional random field (https://doi.org/10.1007/BF01589116); its transitions are kept."""
    lengths = np.unique(words.sentences, return_counts=True)[1]
    order, packing = pack_rows(torch.arange(len(words.labels)).split(lengths.tolist()))
    labels = torch.from_numpy(words.labels)[order]
    chain = ConditionalRandomField(crf.label_names)
    weight = nn.Parameter(torch.zeros(words.matrix.shape[1], len(crf.label_names)))
    transitions = list(chain.parameters())
    parameters = [weight, *transitions]
    transposed = words.matrix.T.tocsr()
    num_words = len(words.labels)

    def measure() -> Tensor:
        """Return the negative log-likelihood of a word with its share of the penalty, and set the gradients."""
        scores = torch.from_numpy(words.matrix @ weight.detach().numpy())  # [num_words, num_labels]
        emissions = scores[order].requires_grad_()
        loss = chain(emissions, labels, packing).double().sum()
        of_emissions, *gradients = torch.autograd.grad(loss, [emissions, *transitions])
        of_scores = torch.zeros_like(of_emissions)
        of_scores[order] = of_emissions
        of_weight = torch.from_numpy(transposed @ of_scores.numpy())
        with torch.no_grad():
            for parameter, gradient in zip(parameters, [of_weight, *gradients], strict=True):
                parameter.grad = (gradient + 2 * _DECAY * parameter) / num_words
                loss += _DECAY * parameter.double().square().sum()
        return loss.detach() / num_words

    options: dict[str, Any] = {"max_iter": _MOST_ITERATIONS, "history_size": 10, "line_search_fn": "strong_wolfe"}
    torch.optim.LBFGS(parameters, tolerance_grad=0, tolerance_change=_TOLERANCE_OF_CHAIN, **options).step(measure)
    lexical.solved_transitions = [parameter.detach().clone() for parameter in transitions]
    return weight.detach().numpy()


def _read(
    model: RnnForTokenClassification, lexical: LexicalFeatures, dataset: Iterable[Any], num_labels: int
) -> _LabelledWords:
    parts: list[_LabelledWords] = []
    distance, most = 1, min(_MOST_VALUES, _MOST_WORK // num_labels)
    examples = iterate_examples(dataset)
    for number, chunk in enumerate(iter(lambda: list(islice(examples, _CHUNK)), [])):
        if number % distance == 0:
            part = _read_chunk(model, lexical, chunk)
            parts.append(part._replace(sentences=part.sentences + number * _CHUNK))
        if sum(part.matrix.nnz for part in parts) > most and len(parts) > 1:
            parts, distance = parts[::2], 2 * distance
    matrices, labels, sentences = zip(*parts, strict=True)
    return _LabelledWords(vstack(matrices, format="csr"), np.concatenate(labels), np.concatenate(sentences))


def _read_chunk(model: RnnForTokenClassification, lexical: LexicalFeatures, examples: list[Any]) -> _LabelledWords:
    ids, labels = (
        [torch.as_tensor(example[name], dtype=torch.long) for example in examples] for name in ("input_ids", "labels")
    )
    packed, packing = pack_rows(ids)
    given = [packed, pack_rows(labels)[0]]
    if model.config.subword_pooling != "none":
        given, packing = without_ends(given, packed, packing, model.config.end_token_ids)
    packed, packed_labels = given
    words = Words.find(model.word_starts[packed], packing)
    features = lexical.find_features(*join_characters(lexical.character_codes, packed, words)).numpy()
    positions, sequences = np.arange(len(features)), words.sequences.numpy()
    rows, columns = [], []
    for offset in range(-WINDOW, WINDOW + 1):
        neighbours = positions + offset
        exists = (neighbours >= 0) & (neighbours < len(features))
        exists[exists] = sequences[neighbours[exists]] == sequences[exists]
        of_neighbours = features[neighbours[exists]]
        row, column = of_neighbours.nonzero()
        rows.append(positions[exists][row])
        columns.append(of_neighbours[row, column] + (offset + WINDOW) * len(lexical.weight))
    indices = (np.concatenate(rows), np.concatenate(columns))
    shape = (len(features), (2 * WINDOW + 1) * len(lexical.weight))
    matrix = csr_matrix((np.ones(len(indices[0]), dtype=np.float32), indices), shape=shape)
    of_words = packed_labels[words.order[words.firsts]].numpy()
    known = of_words >= 0
    return _LabelledWords(matrix[known], _scored_labels(model, of_words[known], sequences[known]), sequences[known])


def _scored_labels(model: RnnForTokenClassification, labels: np.ndarray, sentences: np.ndarray) -> np.ndarray:
    """Tell which of the labels that the conditional random field scores words have, sentence by sentence."""
    if model.span_labels is None:
        return labels
    open_ids, closed_ids, next_ids = (np.array(ids) for ids in model.span_labels[1:])
    following = np.full(len(labels), -2)
    following[:-1] = np.where(sentences[1:] == sentences[:-1], labels[1:], -2)
    return np.where(next_ids[labels] == following, open_ids[labels], closed_ids[labels])


def join_solution(trainer: Any, train_dataset: Iterable[Any], dataset: Any) -> str | None:
    """Solve lexical features that were trained with the recurrent layers, and add the solution to their weights.

    Two models that were found in different ways err in different places: together they are better than each.

    Args:
        trainer ([`RnnTrainer`]): With the trained tagger.
        train_dataset (`Iterable`): Encoded examples, with `input_ids` and `labels`.
        dataset: Encoded validation data with labels, which says how much the solution counts; of none, both count
            alike.

    Returns:
        `str`, *optional*: what was done, for people; `None` where there was no problem to solve.
    """
    model = copy.deepcopy(trainer.model).to("cpu")
    solved = model.lexical
    if not _solve(model, solved, train_dataset):
        return None
    return weigh_lexical(trainer, dataset, solved.to(trainer.model.device).eval())


def weigh_lexical(trainer: Any, dataset: Any, solved: LexicalFeatures | None = None) -> str:
    """Let solved lexical features count as validation data says, beside the recurrent layers.

    Among the powers of the square root of 2 from 1/16 to 16, the ratio of both is that of the best score: span F1, or
    the accuracy of labels that mark no spans, each the mean of its own and its neighbours', so that chance counts less.
    Of equal scores the least loss decides, as where validation data has no span or every prediction is right.
    The factor for all scores, which changes no label, is that of the least loss.

    Args:
        trainer ([`RnnTrainer`]): With the trained tagger.
        dataset: Encoded validation data with labels; of none, both count alike.
        solved ([`LexicalFeatures`], *optional*): Those that are added to the tagger's own; without it, the tagger's own
            are solved.

    Returns:
        `str`: what was done, for people.
    """
    model = trainer.model
    joins = solved is not None
    part: LexicalFeatures = model.lexical if solved is None else solved
    chains = list(zip(model.crf.parameters(), part.solved_transitions, strict=True)) if model.crf else []
    trained = [parameter.detach().clone() for parameter, _ in chains]

    def weigh(ratio: float, factor: float) -> tuple[float, float]:
        """Set the transitions of both, and return by how much scores of states and of features are multiplied."""
        of_states, of_features = factor / max(ratio, 1.0), factor * min(ratio, 1.0)
        for (parameter, solution), before in zip(chains, trained, strict=True):
            parameter.copy_(of_states * before + of_features * solution.to(before))
        return of_states, of_features

    losses = torch.zeros(len(RATIOS), len(_FACTORS), dtype=torch.float64)
    predictions: list[Any] = [None] * len(RATIOS)
    references: Any = None
    num_words = 0
    with torch.no_grad():
        for states, lexical, labels, packing in _parts(trainer, dataset, part):
            words = packing.select(labels != -100)
            known = words.pack(packing.pad(labels))
            references = _appended(references, words.pad(known, -100))
            labels = labels.masked_fill(labels >= len(model.config.label_names), -100)  # those that training lacks
            for row, ratio in enumerate(RATIOS):
                for column, factor in enumerate(_FACTORS):
                    of_states, of_features = weigh(ratio, factor)
                    scores = of_states * states + of_features * lexical
                    losses[row, column] += float(model._loss(scores, labels, packing, None)) * len(known)
                scores = words.pack(packing.pad(scores))
                if model.crf is not None:
                    scores = model.label_scores(model.crf.max_marginals(scores, words))
                predictions[row] = _appended(predictions[row], words.pad(scores.argmax(dim=1), -100))
            num_words += len(known)
            if num_words >= _MOST_WORDS:
                break
        row = _best_row(trainer, predictions, references, losses.amin(dim=1)) if num_words else RATIOS.index(1.0)
        ratio, factor = RATIOS[row], _FACTORS[int(losses[row].argmin())]
        of_states, of_features = weigh(ratio, factor)
        if joins:
            model.lexical.weight.mul_(of_states).add_(part.weight, alpha=of_features)
        else:
            model.lexical.weight.mul_(of_features)
        for parameter in model.classifier.parameters():
            parameter.mul_(of_states)
    scaled = f"by {num_words:,} validation words; all scores are multiplied by {factor:.3g}."
    if num_words == 0:
        scaled = "as no validation data says how much they should."
    if joins:
        return f"Lexical features that are solved count {ratio:.3g} times as much as the trained model, {scaled}"
    return f"Lexical features count {ratio:.3g} times as much as before, beside the recurrent layers, {scaled}"


def _appended(rows: Tensor | None, more: Tensor) -> Tensor:
    """Put rows of labels below others: `[num_rows, length]`, padded with -100."""
    return more if rows is None else nested_concat(rows, more)


def _best_row(trainer: Any, predictions: list[Tensor], references: Tensor, losses: Tensor) -> int:
    """Find the predictions of the best score, where neighbours count as well; of equal ones that of the least loss."""
    name = score_names("token-classification", "single_label_classification", trainer.model.config.label_names)[0]
    pairs = [EvalPrediction(one.numpy(force=True), references.numpy(force=True)) for one in predictions]
    scores = np.array([trainer._score(pair)[name] for pair in pairs])
    around = np.pad(scores, 1, mode="edge")
    sums = around[:-2] + around[1:-1] + around[2:]
    return int(np.where(np.isclose(sums, sums.max(), rtol=0), losses.numpy(), np.inf).argmin())


@torch.no_grad()
def _parts(trainer: Any, dataset: Any, solved: LexicalFeatures) -> Iterator[tuple[Tensor, Tensor, Tensor, Packing]]:
    """Yield, batch by batch, the scores of the rest and of solved features, labels, and their layout; all packed.

    Each process reads all the data, so that all find the same.
    """
    model = trainer.model.eval()
    examples = iterate_examples(dataset)
    for batch in iter(lambda: list(islice(examples, trainer.args.per_device_eval_batch_size)), []):
        inputs = trainer._prepare_inputs(trainer.data_collator(batch))
        labels = inputs.pop("labels")
        encoded = model._encode(**inputs, output_hidden_states=False)
        own = model.lexical
        model.lexical = None if own is solved else own
        states = model._classify(encoded)
        model.lexical = own
        yield states, model.lexical_scores(encoded, solved), encoded.packing.pack(labels), encoded.packing


__all__ = ["join_solution", "solve_lexical", "weigh_lexical"]
