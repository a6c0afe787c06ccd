"""A predictor that engines such as Ray Data, Spark and DuckDB send to their workers."""

import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import torch
from transformers import PreTrainedTokenizerBase

from ..formats.spans import tag_spans
from ..inference.bfloat16 import Precision, choose_precision
from ..inference.loading import is_tagger, load
from ..inference.predictor import check_rejection, default_batch_size, predict, text_fault, words_fault
from ..models.configuration_rnn import RnnConfig
from ..text.raw_text import word_finder
from ..text.words import has_word_splitter, split_words
from ..utils.messages import listed, shown

Backend = Literal["torch", "onnx", "int8"]
GRAPHS = {"onnx": "onnx/model.onnx", "int8": "onnx/model_int8.onnx"}


@dataclass(frozen=True)
class BatchPredictor:
    """Predict on batches of any engine; the batches may hold rows that cannot be predicted on.

    It holds settings only, so that it is small to send. The model is loaded in the process that first predicts, once
    for all predictors with the same settings.

    | Batch | Result |
    |---|---|
    | a mapping of columns, a `pandas.DataFrame`, a `pyarrow.Table` or `RecordBatch` | the same, with columns added |
    | a column: a list, an array of numpy | a dictionary of columns |
    | a `pandas.Series` | a `pandas.DataFrame` |
    | a `pyarrow.Array` or `ChunkedArray` | a `pyarrow.StructArray` |

    | Model | Columns of the result |
    |---|---|
    | classifier | `label`, `score` |
    | classifier of several labels per text | `labels`, `scores`, and `all_scores` if they are wanted |
    | regression | `scores` |
    | tagger of words | `tags` |
    | tagger of raw text | `tokens`, `tags`, and `spans` with `start` and `end` in characters, and `label` |

    The column `error` is null, or says what is wrong with a row: that it is null, no text, or no valid Unicode. Such
    a row has nothing else. Batches are sorted by length inside, and keep their order.

    Args:
        model (`str` or `Path`): Folder or hub id. Each worker must reach it.
        revision (`str`, *optional*): Branch, tag or commit on the hub; `main` without it.
        backend (`str`): `"torch"`, or for a model of `rnn-hf export` `"onnx"` or `"int8"`.
        num_threads (`int`, *optional*): Threads of each process, for all models of torch in it. `None` leaves them.
        column (`str`, *optional*): Of a table, the column to read; `text` without it, or `tokens` for lists of words.
        is_split_into_words (`bool`): Whether a tagger reads lists of words. Otherwise it splits raw text itself.
        prefix (`str`): What the names of the added columns begin with.
        batch_size (`int`, *optional*): Most sequences that the model reads at once; without it, 128 in torch and 32 in
            onnxruntime.
        max_tokens_per_batch (`int`): Most tokens that the model reads at once.
        rejection_threshold (`float`, *optional*): See [`~rnn_hf.inference.predictor.predict`].
        all_scores (`bool`): Whether a classifier of several labels gives the probability of each.
        device (`str`): Where torch runs the model.
        precision (`str`): `"float32"`, `"bfloat16"`, or `"auto"`, which each process decides for itself: see
            [`~rnn_hf.inference.bfloat16.choose_precision`].

    Raises:
        ValueError: There is no such backend or precision. In predicting: a model that cannot be loaded, a batch without
            the column, or one that has a column of the result already.

    Example:
    ```python
    >>> import pickle, tempfile
    >>> from rnn_hf import RnnConfig, RnnForSequenceClassification, train_tokenizer
    >>> from rnn_hf.engines.batch_predictor import BatchPredictor
    >>> tokenizer = train_tokenizer(["good", "bad"], kind="word", min_frequency=1)
    >>> folder = tempfile.mkdtemp()
    >>> model = RnnForSequenceClassification(RnnConfig(vocab_size=len(tokenizer), id2label={0: "review"}))
    >>> model.save_pretrained(folder), tokenizer.save_pretrained(folder)  # doctest: +ELLIPSIS
    (...)
    >>> predictor = pickle.loads(pickle.dumps(BatchPredictor(folder, num_threads=None)))
    >>> predictor({"id": [7, 8], "text": ["good", None]})  # doctest: +NORMALIZE_WHITESPACE
    {'id': [7, 8], 'text': ['good', None], 'label': ['review', None], 'score': [1.0, None],
     'error': [None, 'The input must be a text, as the model is a classifier; got None (NoneType).']}

    ```
    """

    model: str
    revision: str | None = None
    backend: Backend = "torch"
    num_threads: int | None = 1
    column: str | None = None
    is_split_into_words: bool = False
    prefix: str = ""
    batch_size: int | None = None
    max_tokens_per_batch: int = 16384
    rejection_threshold: float | None = None
    all_scores: bool = False
    device: str = "cpu"
    precision: Precision | Literal["auto"] = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", str(self.model))
        if self.backend not in ("torch", *GRAPHS):
            raise ValueError(f"backend must be torch, onnx or int8, got {shown(self.backend)}.")
        if self.batch_size is None:
            object.__setattr__(self, "batch_size", default_batch_size(self.backend == "torch"))
        if self.backend != "torch" and self.device != "cpu":
            raise ValueError(f"device={self.device!r} is for the backend torch: {self.backend} runs on the cpu.")
        if self.precision not in (*get_args(Precision), "auto"):
            raise ValueError(f"precision must be float32, bfloat16 or auto, got {shown(self.precision)}.")
        if self.backend != "torch" and self.precision != "float32":
            raise ValueError(f"precision={self.precision!r} is for the backend torch: a graph has its own.")

    def __call__(self, batch: Any) -> Any:
        """Predict on a batch: see the class.

        Args:
            batch: A table or a column.

        Returns:
            The table with columns added, or the columns of a column's predictions.
        """
        pandas, pyarrow = sys.modules.get("pandas"), sys.modules.get("pyarrow")
        if pandas is not None and isinstance(batch, pandas.Series):
            return _frame(pandas, self.predict(_series(batch)), self.output_kinds(), batch.index)
        if pandas is not None and isinstance(batch, pandas.DataFrame):
            found = self.predict(_series(self._column_of(batch, list(batch.columns))))
            return pandas.concat([batch, _frame(pandas, found, self.output_kinds(), batch.index)], axis=1)
        if pyarrow is not None and isinstance(batch, pyarrow.Array | pyarrow.ChunkedArray):
            arrays, fields = self._arrow(pyarrow, batch)
            return pyarrow.StructArray.from_arrays(arrays, fields=fields)
        if pyarrow is not None and isinstance(batch, pyarrow.Table | pyarrow.RecordBatch):
            arrays, fields = self._arrow(pyarrow, self._column_of(batch, batch.column_names))
            schema = batch.schema
            for field in fields:
                schema = schema.append(field)
            return type(batch).from_arrays([*batch.columns, *arrays], schema=schema)
        if isinstance(batch, Mapping):
            column = self._column_of(batch, list(batch))
            found = self.predict(column)
            return dict(batch) | ({key: _array(one) for key, one in found.items()} if _is_array(column) else found)
        return self.predict(batch)

    def predict(self, inputs: Iterable[Any]) -> dict[str, list[Any]]:
        """Predict on texts or lists of words.

        Args:
            inputs (`Iterable`): Texts, or lists of words with `is_split_into_words`; or anything else.

        Returns:
            `dict[str, list]`: The columns of the result, each as long as the inputs.
        """
        loaded = _load(self)
        values = [_plain(one) for one in inputs]
        faults = [loaded.find_fault(one) for one in values]
        columns: dict[str, list[Any]] = {name: [None] * len(values) for name in self.output_kinds()}
        columns[f"{self.prefix}error"] = [fault and f"The input{fault}" for fault in faults]
        right = [position for position, fault in enumerate(faults) if fault is None]
        offsets = [loaded.find_words(values[position]) for position in right] if loaded.find_words else None
        texts = [values[position] for position in right]
        if offsets is not None:
            texts = [[text[start:end] for start, end in one] for text, one in zip(texts, offsets, strict=True)]
        with loaded.lock:
            results = list(
                predict(
                    loaded.model,
                    loaded.tokenizer,
                    texts,
                    batch_size=self.batch_size,
                    max_tokens_per_batch=self.max_tokens_per_batch,
                    rejection_threshold=self.rejection_threshold,
                    all_scores=self.all_scores,
                    precision=loaded.precision,
                )
            )
        for number, (position, result) in enumerate(zip(right, results, strict=True)):
            if offsets is not None:
                spans = tag_spans(offsets[number], result["tags"])
                result["spans"] = [{"start": one.start, "end": one.end, "label": one.label} for one in spans]
            for name in loaded.kinds:
                columns[self.prefix + name][position] = result[name]
        return columns

    def output_kinds(self) -> dict[str, str]:
        """Name the columns of the result, and what each holds: see `ARROW_TYPES`."""
        kinds = _load(self).kinds | {"error": "text"}
        return {self.prefix + name: kind for name, kind in kinds.items()}

    def _column_of(self, batch: Any, columns: list[str]) -> Any:
        column = self.column or ("tokens" if self.is_split_into_words else "text")
        if column not in columns:
            raise ValueError(
                f"The batch has no column {shown(column)}, only: {listed(columns)}. Name the right one with "
                "BatchPredictor(..., column=...)."
            )
        if taken := [name for name in self.output_kinds() if name in columns]:
            raise ValueError(
                f"The batch has a column {shown(taken[0])} already: rename it, or let those that are added begin with "
                "BatchPredictor(..., prefix='predicted_')."
            )
        return batch[column]

    def _arrow(self, pyarrow: Any, column: Any) -> tuple[list[Any], list[Any]]:
        found = self.predict(values_of(column))
        fields = [pyarrow.field(name, arrow_type(kind)) for name, kind in self.output_kinds().items()]
        return [pyarrow.array(found[field.name], field.type) for field in fields], fields


@dataclass
class _Loaded:
    """What a process keeps of a predictor."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    precision: Precision
    kinds: dict[str, str]
    find_fault: Callable[[Any], Exception | None]
    find_words: Callable[[str], list[tuple[int, int]]] | None
    lock: Any  # engines may call from several threads, and a tokenizer is changed while it reads words


@lru_cache(maxsize=4)
def _load(predictor: BatchPredictor) -> _Loaded:
    if predictor.num_threads is not None:
        torch.set_num_threads(predictor.num_threads)
        if predictor.num_threads == 1:
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    model: Any
    if predictor.backend == "torch":
        model, tokenizer = load(predictor.model, predictor.revision, device=predictor.device)
    else:
        import onnxruntime

        from ..export import runtime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = predictor.num_threads or 0
        model, tokenizer = runtime.load(
            predictor.model, predictor.revision, file_name=GRAPHS[predictor.backend], session_options=options
        )
    if predictor.rejection_threshold is not None:
        check_rejection(model, predictor.rejection_threshold)
    tags = is_tagger(model)
    if predictor.is_split_into_words and not tags:
        raise ValueError("is_split_into_words is for taggers: a classifier reads texts.")
    reads_words = tags and predictor.is_split_into_words
    find_words = None
    if tags and not reads_words:
        find_words = split_words if has_word_splitter(tokenizer) else word_finder(tokenizer)
    kinds = output_kinds(model.config, tags, reads_words, predictor.all_scores)
    precision = choose_precision(predictor.precision, model.config, predictor.device)
    return _Loaded(model, tokenizer, precision, kinds, _fault_finder(tags, reads_words), find_words, threading.Lock())


def _fault_finder(tags: bool, reads_words: bool) -> Callable[[Any], Exception | None]:
    if reads_words:
        return words_fault
    if tags:
        return lambda text: text_fault(text, " unless is_split_into_words=True says that words are given;")
    return text_fault


def output_kinds(config: RnnConfig, tags: bool, reads_words: bool, all_scores: bool = False) -> dict[str, str]:
    """Name the columns of predictions, and what each holds: a key of `ARROW_TYPES`.

    Args:
        config ([`RnnConfig`]): The model's configuration.
        tags (`bool`): Whether it is a tagger.
        reads_words (`bool`): Whether the tagger reads lists of words.
        all_scores (`bool`): Whether a classifier of several labels gives the probability of each.

    Example:
    ```python
    >>> from rnn_hf import RnnConfig
    >>> from rnn_hf.engines.batch_predictor import output_kinds
    >>> output_kinds(RnnConfig(), tags=False, reads_words=False)
    {'label': 'text', 'score': 'number'}

    ```
    """
    if tags:
        return {"tags": "texts"} if reads_words else {"tokens": "texts", "tags": "texts", "spans": "spans"}
    if config.problem_type == "regression":
        return {"scores": "numbers"}
    if config.problem_type == "multi_label_classification":
        return {"labels": "texts", "scores": "numbers"} | ({"all_scores": "named numbers"} if all_scores else {})
    return {"label": "text", "score": "number"}


def arrow_type(kind: str) -> Any:
    """Return the type of Arrow of a column of predictions.

    Args:
        kind (`str`): `"text"`, `"number"`, `"texts"`, `"numbers"`, `"named numbers"` or `"spans"`.

    Returns:
        `pyarrow.DataType`

    Example:
    ```python
    >>> from rnn_hf.engines.batch_predictor import arrow_type
    >>> str(arrow_type("named numbers"))
    'map<string, double>'

    ```
    """
    import pyarrow as pa

    span = pa.struct([("start", pa.int64()), ("end", pa.int64()), ("label", pa.string())])
    types = {"text": pa.string(), "number": pa.float64(), "texts": pa.list_(pa.string()), "spans": pa.list_(span)}
    return (types | {"numbers": pa.list_(pa.float64()), "named numbers": pa.map_(pa.string(), pa.float64())})[kind]


def values_of(column: Any) -> list[Any]:
    """Return the values of a column of Arrow; texts that are no UTF-8 as bytes.

    Args:
        column (`pyarrow.Array` or `pyarrow.ChunkedArray`): A column.

    Example:
    ```python
    >>> import pyarrow as pa
    >>> from rnn_hf.engines.batch_predictor import values_of
    >>> values_of(pa.array(["a", None]))
    ['a', None]

    ```
    """
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [_decoded(one) for one in column]


def _decoded(value: Any) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return value.as_buffer().to_pybytes() if hasattr(value, "as_buffer") else repr(value).encode()


def _frame(pandas: Any, columns: dict[str, list[Any]], kinds: dict[str, str], index: Any) -> Any:
    types = {name: "float64" if kind == "number" else object for name, kind in kinds.items()}
    return pandas.DataFrame(
        {name: pandas.Series(values, index=index, dtype=types[name]) for name, values in columns.items()}
    )


def _series(column: Any) -> list[Any]:
    """Return the values of a column of pandas, whose missing values have many forms."""
    return [None if is_missing else value for value, is_missing in zip(column, column.isna(), strict=True)]


def _is_array(value: Any) -> bool:
    """Tell whether a column is an array of numpy, without an import."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def _array(values: list[Any]) -> Any:
    """Make an array with a value for each row, also where the values are lists."""
    import numpy

    array = numpy.empty(len(values), dtype=object)
    array[:] = values
    return array


def _plain(value: Any) -> Any:
    return value.tolist() if _is_array(value) else value


__all__ = ["GRAPHS", "Backend", "BatchPredictor", "arrow_type", "output_kinds", "values_of"]
