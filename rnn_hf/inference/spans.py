"""Tag files of annotated texts, and write them in their own format with the predicted spans."""

from collections.abc import Iterator
from itertools import tee
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..data.span_files import SpanFile
from .predictor import predict


def predict_spans(
    model: Any, tokenizer: PreTrainedTokenizerBase, file: SpanFile, *, batch_size: int = 128
) -> Iterator[str]:
    r"""Predict the spans of annotated texts.

    Args:
        model ([`RnnForTokenClassification`]): A tagger, of torch or of onnxruntime.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        file ([`SpanFile`]): What [`~rnn_hf.data.span_files.find_span_file`] found. All texts are tagged, also those
            that no one has annotated.
        batch_size (`int`): Most texts in a batch.

    Yields:
        `str`: parts of a file of the same format, as [`SpanFile.write`] does.

    Raises:
        ValueError: A row that is none of the format.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf import RnnConfig, RnnForTokenClassification, train_tokenizer
    >>> from rnn_hf.data.span_files import find_span_file
    >>> from rnn_hf.inference.spans import predict_spans
    >>> tokenizer = train_tokenizer([["Anna"]], kind="word", min_frequency=1, is_split_into_words=True)
    >>> model = RnnForTokenClassification(RnnConfig(vocab_size=len(tokenizer), id2label={0: "B-PER"}))
    >>> with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
    ...     _ = file.write('{"id": 7, "text": "Anna", "label": [[0, 4, "LOC"]]}')
    ...     file.flush()
    ...     list(predict_spans(model, tokenizer, find_span_file(file.name)))
    ['{"id": 7, "text": "Anna", "label": [[0, 4, "PER"]]}\\n']

    ```
    """
    documents, others = tee(file.documents())
    words = (document.words for document in others)
    tags = (one["tags"] for one in predict(model, tokenizer, words, batch_size=batch_size))
    return file.write(zip(documents, tags, strict=True))


__all__ = ["predict_spans"]
