"""Spans in raw text, and in files of annotated texts, which are written in their own format with those predicted."""

from collections.abc import Iterable, Iterator
from itertools import tee
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..data.span_files import SpanFile
from ..data.spans import tag_spans
from ..text.words import split_words
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
    ['{"id": 7, "text": "Anna", "label": [[0, 4, "PER"]]}\n']

    ```
    """
    documents, others = tee(file.documents())
    words = (document.words for document in others)
    tags = (one["tags"] for one in predict(model, tokenizer, words, batch_size=batch_size))
    return file.write(zip(documents, tags, strict=True))


def tag_texts(
    model: Any, tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], *, batch_size: int = 128
) -> Iterator[dict[str, Any]]:
    """Tag raw text, whose words are those of [`~rnn_hf.text.words.split_words`].

    Args:
        model ([`RnnForTokenClassification`]): A tagger, of torch or of onnxruntime.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        texts (`Iterable[str]`): The texts.
        batch_size (`int`): Most texts in a batch.

    Yields:
        `{"text", "tokens", "tags", "spans"}` for each text; a span has `start` and `end`, in characters, and `label`.

    Raises:
        ValueError: A text with a lone surrogate.

    Example:
    ```python
    >>> from rnn_hf import RnnConfig, RnnForTokenClassification, train_tokenizer
    >>> from rnn_hf.inference.spans import tag_texts
    >>> tokenizer = train_tokenizer([["Anna"]], kind="word", min_frequency=1, is_split_into_words=True)
    >>> model = RnnForTokenClassification(RnnConfig(vocab_size=len(tokenizer), id2label={0: "B-PER"}))
    >>> list(tag_texts(model, tokenizer, ["(Anna"]))[0]["spans"]
    [{'start': 0, 'end': 1, 'label': 'PER'}, {'start': 1, 'end': 5, 'label': 'PER'}]

    ```
    """
    located, others = tee((text, split_words(text)) for text in texts)
    words = ([text[start:end] for start, end in offsets] for text, offsets in others)
    results = predict(model, tokenizer, words, batch_size=batch_size)
    for (text, offsets), one in zip(located, results, strict=True):
        spans = [{"start": span.start, "end": span.end, "label": span.label} for span in tag_spans(offsets, one["tags"])]
        yield {"text": text} | one | {"spans": spans}


__all__ = ["predict_spans", "tag_texts"]
