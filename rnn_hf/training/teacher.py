"""Load teachers: trained classifiers and taggers, of transformers or of this package, that score texts."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from ..data.augmentation import fill_masks
from ..data.collator import cut_batches
from ..data.corpus import Corpus
from ..evaluation.task_metrics import score_names
from ..formats.arguments import MODELS_OF
from ..inference.loading import load
from ..inference.model_files import read_json
from ..models.configuration_rnn import RnnConfig
from ..text.encoding import encode_texts, encode_words
from ..utils.display import one_line
from ..utils.messages import listed
from .checkpoints import RESULTS
from .teacher_training import AUTO_CLASSES, cut_tokens, longest_input

# What a batch holds at most.
_MOST_EXAMPLES, _MOST_TOKENS = 64, 8192
_LEAST_PROBABILITY = 1e-10


class Teacher:
    """A trained model that scores texts, or the words of sentences.

    Args:
        name (`str`): What it is called.
        model (`PreTrainedModel`): The model, in evaluation mode.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer; a fast one for words.
        is_tagger (`bool`): Whether words are scored.

    Attributes:
        digest (`str`): Of weights, labels and tokenizer: what else changes, scores do not.

    Example:
    ```python
    >>> from rnn_hf import RnnConfig, RnnForSequenceClassification, train_tokenizer
    >>> from rnn_hf.training.teacher import Teacher
    >>> tokenizer = train_tokenizer(["a b"], kind="word", min_frequency=1)
    >>> model = RnnForSequenceClassification(RnnConfig(vocab_size=len(tokenizer), id2label={0: "x", 1: "y"}))
    >>> teacher = Teacher("mine", model.eval(), tokenizer, is_tagger=False)
    >>> [tuple(scores.shape) for scores in teacher.score(["a", "b a"])]
    [(2,), (2,)]
    >>> teacher.order(["y", "x"])
    [1, 0]

    ```
    """

    def __init__(self, name: str, model: Any, tokenizer: PreTrainedTokenizerBase, is_tagger: bool):
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        self.is_tagger = is_tagger
        self.digest = _digest(model, tokenizer)

    def order(self, label_names: Sequence[str]) -> list[int]:
        """Return the model's ids of labels, by their names; of a regression its one number."""
        ids = {label: index for index, label in self.model.config.id2label.items()}
        return [ids[label] for label in label_names] if self.model.config.num_labels > 1 else [0]

    @torch.no_grad()
    def score(self, inputs: Sequence[Any], bf16: bool = False) -> list[Tensor]:
        """Score texts, or sentences of words, in batches of similar length.

        Args:
            inputs (`Sequence[str]` or `Sequence[list[str]]`): Texts of a classifier, words of a tagger. What is longer
                than the model reads is cut off.
            bf16 (`bool`): Whether layers run in bfloat16, under autocast.

        Returns:
            `list[torch.FloatTensor]`: logits of each text, `[num_labels]`, or of the words of each sentence,
            `[num_words, num_labels]`: those of a word's first subword, NaN where it was cut off; of a conditional
            random field the logarithms of marginal probabilities.
        """
        inputs = fill_masks(list(inputs), self.tokenizer)
        longest = longest_input(self.tokenizer, self.model.config)
        all_positions: list[list[int]] = []
        if self.is_tagger:
            all_ids, all_positions = encode_words(self.tokenizer, inputs)
            if longest is not None:
                # The token that ends a sentence stands where it was cut.
                ends = [longest - 1 if len(ids) > longest else len(ids) for ids in all_ids]
                all_ids = [cut_tokens(ids, longest) for ids in all_ids]
                all_positions = [
                    [first if first < end else -1 for first in firsts]
                    for firsts, end in zip(all_positions, ends, strict=True)
                ]
        else:
            all_ids = encode_texts(self.tokenizer, inputs, longest)
        lengths = [len(ids) for ids in all_ids]
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        scores: list[Any] = [None] * len(lengths)
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=bf16):
            for rows in cut_batches(order, lengths, _MOST_EXAMPLES, _MOST_TOKENS):
                logits = self._logits([all_ids[row] for row in rows])
                for row, one in zip(rows, logits.float().cpu(), strict=True):
                    scores[row] = _of_words(one, all_positions[row]) if self.is_tagger else one
        return scores

    def _logits(self, batch: list[list[int]]) -> Tensor:
        rows = [torch.tensor(ids) for ids in batch]
        inputs = {
            "input_ids": pad_sequence(rows, batch_first=True, padding_value=self.tokenizer.pad_token_id or 0),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in rows], batch_first=True),
        }
        inputs = {name: value.to(self.model.device) for name, value in inputs.items()}
        if getattr(self.model, "crf", None) is not None:
            return self.model.marginals(**inputs).clamp(min=_LEAST_PROBABILITY).log()
        return self.model(**inputs).logits


def _of_words(logits: Tensor, positions: list[int]) -> Tensor:
    """Take `[num_tokens, num_labels]` to `[num_words, num_labels]`, NaN where a position is negative."""
    firsts = torch.tensor(positions, dtype=torch.long)
    return torch.where((firsts >= 0).unsqueeze(1), logits[firsts], torch.nan)


def load_teacher(name_or_path: str, corpus: Corpus, device: torch.device) -> Teacher:
    """Load a teacher, and check that it has the task and the labels of a corpus.

    Args:
        name_or_path (`str`): Folder or hub id.
        corpus ([`Corpus`]): What the student learns.
        device (`torch.device`): Where the teacher goes.

    Returns:
        [`Teacher`]

    Raises:
        ValueError: It cannot be loaded, is of another task, or has other labels: with those that differ.
    """
    kind = "ForTokenClassification" if corpus.task == "token-classification" else "ForSequenceClassification"
    with _loading(name_or_path):
        config: Any = AutoConfig.from_pretrained(name_or_path, trust_remote_code=False)
    architecture = (getattr(config, "architectures", None) or ["model without a head"])[0]
    if not architecture.endswith(kind):
        raise ValueError(
            f"The teacher {name_or_path} is a {architecture}, but {MODELS_OF[corpus.task]} learn from a …{kind}: train "
            "one with rnn-hf train-teacher."
        )
    with _loading(name_or_path):
        if config.model_type == RnnConfig.model_type:
            model, tokenizer = load(name_or_path, device=device)
        else:
            tokenizer = AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False)
            options = {"use_safetensors": True, "trust_remote_code": False}
            model = AUTO_CLASSES[corpus.task].from_pretrained(name_or_path, **options).eval().to(device)
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    _check_labels(name_or_path, model.config, corpus)
    return Teacher(name_or_path, model, tokenizer, corpus.task == "token-classification")


@contextlib.contextmanager
def _loading(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"The teacher {name} could not be loaded: {one_line(str(error))}") from error


def _check_labels(name: str, config: Any, corpus: Corpus) -> None:
    own = config.problem_type if corpus.task == "text-classification" else None
    if own is None and config.num_labels == 1:
        own = "regression"
    if own is not None and own != corpus.problem_type:
        raise ValueError(f"The teacher {name} is for {own}, but the data is for {corpus.problem_type}: name another.")
    if corpus.problem_type == "regression":
        if config.num_labels != 1:
            raise ValueError(f"The teacher {name} has {config.num_labels} labels, but the data numbers: name another.")
        return
    known = set(config.id2label.values())
    missing = [label for label in corpus.label_names if label not in known]
    others = [label for label in sorted(known, key=str) if label not in corpus.label_names]
    if missing or others:
        differences = [f"lacks {listed(missing)}"] if missing else []
        differences += [f"knows {listed(others)}, which the data lacks"] if others else []
        raise ValueError(
            f"The teacher {name} has other labels than the data: it {' and '.join(differences)}. Name one that was "
            "trained on the same labels, as rnn-hf train-teacher does."
        )


def _digest(model: Any, tokenizer: PreTrainedTokenizerBase) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for name, values in sorted(model.state_dict().items()):
        digest.update(f"{name} {values.dtype} {list(values.shape)}".encode())
        digest.update(values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    limits = (longest_input(tokenizer, model.config), getattr(model.config, "temperature", 1.0))
    digest.update(f"{state} {limits}".encode())
    return digest.hexdigest()


def describe_teachers(teachers: Sequence[Teacher], corpus: Corpus) -> list[dict[str, Any]]:
    """Name teachers, with the scores that their folders tell, for the record of a run.

    Args:
        teachers (`Sequence[Teacher]`): The teachers.
        corpus ([`Corpus`]): Says which score matters.

    Returns:
        `list[dict]`: of each its `name`, without the folders before it, and `scores`: at most one, by its name with
        the prefix `test_` or `eval_`.
    """
    score = score_names(corpus.task, corpus.problem_type, corpus.label_names)[0]
    found = []
    for teacher in teachers:
        path = Path(teacher.name, RESULTS)
        results: dict[str, Any] = read_json(path) if path.is_file() else {}
        name = next((f"{prefix}_{score}" for prefix in ("test", "eval") if f"{prefix}_{score}" in results), None)
        scores = {} if name is None else {name: results[name]}
        is_folder = Path(teacher.name).is_dir()
        found.append({"name": Path(teacher.name).resolve().name if is_folder else teacher.name, "scores": scores})
    return found


__all__ = ["Teacher", "describe_teachers", "load_teacher"]
