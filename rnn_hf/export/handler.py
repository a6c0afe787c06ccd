"""Answer the requests of Inference Endpoints with an exported model: onnxruntime and tokenizers are all it needs.

Written by rnn_hf, as the other files of this repository.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime import InferenceSession, SessionOptions
from tokenizers import Tokenizer

_LARGEST_LIMIT = 10**9
_MOST_TOKENS = 16384
_PARAMETERS = {
    "text-classification": ("top_k",),
    "token-classification": ("aggregation_strategy", "ignore_labels"),
}


class EndpointHandler:
    """A classifier or tagger of this repository, called as Inference Endpoints call it.

    Args:
        path (`str`): Folder of the repository, with `config.json`, `tokenizer.json` and `onnx/model.onnx`.
        file_name (`str`): The graph; `"onnx/model_int8.onnx"` is the quantised one.
        num_threads (`int`): Threads of onnxruntime; 0 for one a core.

    Raises:
        ValueError: A file is missing.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf import RnnConfig, RnnForTokenClassification, train_tokenizer
    >>> from rnn_hf.export.folder import export
    >>> from rnn_hf.export.handler import EndpointHandler
    >>> tokenizer = train_tokenizer([["a", "b"]], kind="word", min_frequency=1, is_split_into_words=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     RnnForTokenClassification(RnnConfig(vocab_size=5, id2label={0: "X"})).save_pretrained(folder)
    ...     _ = tokenizer.save_pretrained(folder)
    ...     _ = export(folder, folder)
    ...     EndpointHandler(folder)({"inputs": "a b", "parameters": {"aggregation_strategy": "simple"}})
    [{'entity_group': 'X', 'score': 1.0, 'word': 'a b', 'start': 0, 'end': 3}]

    ```
    """

    def __init__(self, path: str = "", file_name: str = "onnx/model.onnx", num_threads: int = 0):
        folder = Path(path)
        for name in ("config.json", "tokenizer.json", file_name):
            if not (folder / name).is_file():
                raise ValueError(f"{folder} holds no {name}: export the model with `rnn-hf export`.")
        options = SessionOptions()
        options.intra_op_num_threads = num_threads
        self.session = InferenceSession(str(folder / file_name), options, providers=["CPUExecutionProvider"])
        about = self.session.get_modelmeta().custom_metadata_map
        self.task, self.labels = about["task"], json.loads(about["labels"])
        self.problem_type = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("problem_type")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        settings = folder / "tokenizer_config.json"
        limit = json.loads(settings.read_text(encoding="utf-8"))["model_max_length"] if settings.is_file() else None
        if self.task == "text-classification" and limit is not None and limit < _LARGEST_LIMIT:
            self.tokenizer.enable_truncation(int(limit))

    def __call__(self, data: dict[str, Any]) -> list[Any]:
        """Classify or tag a text, or a list of them.

        Args:
            data (`dict[str, Any]`): `inputs`, a text or a list of texts. `parameters`, which may be missing, of a
                classifier: `top_k`, how many labels to give, `null` for all (1, or all where several labels may apply
                at once). Of a tagger: `aggregation_strategy`, `"none"` or `"simple"`; `ignore_labels`, `["O"]`
                without it.

        Returns:
            `list`: As the pipelines of transformers: of a classifier, for each text the best label and its score, or
            with `top_k` a list of those; of a tagger for each text a list of words, or with `"simple"` of spans, with
            their positions in the text. Of a single text only what belongs to it.

        Raises:
            ValueError: The request is not of this form; the message says what is wrong.
        """
        texts = self.check(data)
        return self.finish(data, self.run(texts))

    def run(self, texts: list[str]) -> list[tuple[str, Any, np.ndarray]]:
        """Run the graph.

        Args:
            texts (`list[str]`): Texts, of one request or of several.

        Returns:
            `list[tuple[str, tokenizers.Encoding, np.ndarray]]`: each text with its tokens and its logits.
        """
        if len(texts) == 1:
            encoding = self.tokenizer.encode(texts[0])
            return [(texts[0], encoding, self._run([encoding.ids])[0])]
        encodings = self.tokenizer.encode_batch(texts)
        logits: list[Any] = [None] * len(texts)
        for batch in _batches([len(one.ids) for one in encodings]):
            for position, row in zip(batch, self._run([encodings[position].ids for position in batch]), strict=True):
                logits[position] = row[: len(encodings[position].ids)] if self.task == "token-classification" else row
        return list(zip(texts, encodings, logits, strict=True))

    def finish(self, data: dict[str, Any], outputs: list[tuple[str, Any, np.ndarray]]) -> list[Any]:
        """Make the results of a request.

        Args:
            data (`dict[str, Any]`): The request.
            outputs (`list[tuple[str, tokenizers.Encoding, np.ndarray]]`): What [`EndpointHandler.run`] gave its texts.

        Returns:
            `list`: as of a call.
        """
        parameters, single = data.get("parameters") or {}, isinstance(data["inputs"], str)
        if self.task == "text-classification":
            top_k = parameters.get("top_k", None if self.problem_type == "multi_label_classification" else 1)
            results = [self._classified(row, top_k) for _, _, row in outputs]
            if single or top_k != 1:
                return results[0] if single else results
            return [one for (one,) in results]
        spans = [self._words(*one) for one in outputs]
        ignored = set(parameters.get("ignore_labels", ["O"]))
        grouped = parameters.get("aggregation_strategy", "none") == "simple"
        tagged = [
            [one for one in _grouped(words, text) if one["entity_group"] not in ignored]
            if grouped
            else [one for one in words if one["entity"] not in ignored]
            for (text, _, _), words in zip(outputs, spans, strict=True)
        ]
        return tagged[0] if single else tagged

    def check(self, data: Any) -> list[str]:
        """Check a request.

        Args:
            data (`Any`): The request.

        Returns:
            `list[str]`: its texts.

        Raises:
            ValueError: It is not of the form that a call takes.
        """
        if not isinstance(data, dict) or "inputs" not in data:
            raise ValueError('A request is an object with "inputs", a text or a list of texts.')
        inputs, parameters = data["inputs"], data.get("parameters") or {}
        texts = [inputs] if isinstance(inputs, str) else inputs
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError('"inputs" must be a text or a list of texts.')
        known = _PARAMETERS[self.task]
        if not isinstance(parameters, dict) or not parameters.keys() <= set(known):
            raise ValueError(f'"parameters" must be an object with {" and ".join(known)} alone.')
        top_k = parameters.get("top_k", 1)
        if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1):
            raise ValueError(f"top_k must be a whole number of at least 1, or null for all labels; got {top_k!r}.")
        if parameters.get("aggregation_strategy", "none") not in ("none", "simple"):
            raise ValueError(f'aggregation_strategy must be "none" or "simple", got {parameters!r}.')
        ignored = parameters.get("ignore_labels", [])
        if not isinstance(ignored, list) or not all(isinstance(label, str) for label in ignored):
            raise ValueError(f"ignore_labels must be a list of labels, got {ignored!r}.")
        for position, text in enumerate(texts):
            if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
                raise ValueError(f"Text {position} holds a lone surrogate, which is no character.")
        return texts

    def _run(self, rows: list[list[int]]) -> np.ndarray:
        longest = max(map(len, rows), default=0)
        input_ids = np.zeros((len(rows), longest), dtype=np.int64)
        attention_mask = np.zeros_like(input_ids)
        for position, row in enumerate(rows):
            input_ids[position, : len(row)] = row
            attention_mask[position, : len(row)] = 1
        return self.session.run(["logits"], {"input_ids": input_ids, "attention_mask": attention_mask})[0]

    def _classified(self, logits: np.ndarray, top_k: int | None) -> list[dict[str, Any]]:
        scores = logits
        if self.problem_type == "multi_label_classification":
            scores = 1 / (1 + np.exp(-logits.astype(np.float64)))
        elif self.problem_type != "regression":
            powers = np.exp(logits.astype(np.float64) - logits.max())
            scores = powers / powers.sum()
        best = (-scores).argsort(kind="stable")[:top_k].tolist()
        return [{"label": self.labels[index], "score": float(scores[index])} for index in best]

    def _words(self, text: str, encoding: Any, logits: np.ndarray) -> list[dict[str, Any]]:
        """Give each word the label of its first token."""
        labels = logits.argmax(axis=-1).tolist()
        powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
        scores = (1 / powers.sum(axis=-1)).tolist()  # of the best label, whose power is 1
        words: list[dict[str, Any]] = []
        last = None
        tokens = zip(encoding.word_ids, encoding.offsets, labels, scores, strict=True)
        for index, (start, end), label, score in tokens:
            if index is None:
                continue
            if index == last:
                words[-1]["end"] = end
                continue
            last = index
            words.append(
                {"entity": self.labels[label], "score": score, "index": len(words), "start": start, "end": end}
            )
        for word in words:
            found = text[word["start"] : word["end"]]
            stripped = found.lstrip()
            word["start"] += len(found) - len(stripped)
            word["word"] = stripped.rstrip()
        return words


def _batches(lengths: list[int]) -> list[list[int]]:
    """Put texts of similar length together."""
    batches: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda position: -lengths[position]):
        if not batches or (len(batches[-1]) + 1) * lengths[batches[-1][0]] > _MOST_TOKENS:
            batches.append([])
        batches[-1].append(position)
    return batches


def _grouped(words: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """Join words of the same entity, `B-` begins another one."""
    groups: list[dict[str, Any]] = []
    last_index, last_prefix = -2, ""
    for word in words:
        is_marked = word["entity"][:2] in ("B-", "I-", "E-", "S-")
        prefix, name = (word["entity"][0], word["entity"][2:]) if is_marked else ("I", word["entity"])
        goes_on = groups and groups[-1]["entity_group"] == name and last_index == word["index"] - 1
        if goes_on and prefix not in ("B", "S") and last_prefix not in ("E", "S"):
            groups[-1]["scores"].append(word["score"])
            groups[-1]["end"] = word["end"]
        else:
            groups.append({"entity_group": name, "scores": [word["score"]], "start": word["start"], "end": word["end"]})
        last_index, last_prefix = word["index"], prefix
    return [
        {
            "entity_group": group["entity_group"],
            "score": sum(group["scores"]) / len(group["scores"]),
            "word": text[group["start"] : group["end"]],
            "start": group["start"],
            "end": group["end"],
        }
        for group in groups
    ]


__all__ = ["EndpointHandler"]
