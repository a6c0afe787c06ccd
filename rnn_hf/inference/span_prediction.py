"""Spans in raw text, and in files of annotated texts, which are written in their own format with those predicted."""

from collections.abc import Iterable, Iterator
from itertools import tee
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..formats.span_files import SpanFile
from ..formats.spans import tag_spans
from ..text.words import split_words
from ..utils.files import replace_file
from .predictor import predict


def predict_spans(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    file: SpanFile,
    *,
    output_dir: str | Path | None = None,
    **options: Any,
) -> Iterator[str]:
    r"""Predict the spans of annotated texts.

    Args:
        model ([`RnnForTokenClassification`]): A tagger, of torch or of onnxruntime.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        file ([`SpanFile`]): What [`~rnn_hf.formats.span_files.find_span_file`] found. All texts are tagged, also those
            that no one has annotated.
        output_dir (`str` or `Path`, *optional*): Of brat's files, the folder to write texts and annotations to.
        options: See [`~predictor.predict`].

    Yields:
        `str`: parts of a file of the same format, as [`SpanFile.write`] does; nothing where there is a folder.

    Raises:
        ValueError: A row that is none of the format; several texts of brat without a folder, or another format with
            one, or the folder that they are in.

    Example:
    ```python
    >>> import tempfile
    >>> from rnn_hf import RnnConfig, RnnForTokenClassification, train_tokenizer
    >>> from rnn_hf.formats.span_files import find_span_file
    >>> from rnn_hf.inference.span_prediction import predict_spans
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
    tags = (one["tags"] for one in predict(model, tokenizer, words, **options))
    parts = file.write(zip(documents, tags, strict=True))
    _check_output(file, output_dir)
    if output_dir is None:
        return parts
    folder = Path(output_dir)
    for path, part in zip(map(Path, file.paths), parts, strict=True):
        target = folder / path.relative_to(file.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        replace_file(target, path.read_bytes())
        replace_file(target.with_suffix(".ann"), part)
    return iter(())


def _check_output(file: SpanFile, output_dir: str | Path | None) -> None:
    if output_dir is None:
        if file.row_format is None and len(file.paths) > 1:
            raise ValueError(f"{file.name} means {len(file.paths)} texts of brat: name a folder with --output_dir.")
    elif file.row_format is not None:
        raise ValueError("--output_dir is for texts that were annotated with brat. Leave it out.")
    elif Path(output_dir).is_file():
        raise ValueError(f"--output_dir {output_dir} is a file: name a folder.")
    elif Path(output_dir).resolve() == file.folder.resolve():
        raise ValueError(f"--output_dir {output_dir} holds the texts themselves: name another folder.")


def tag_texts(
    model: Any, tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], **options: Any
) -> Iterator[dict[str, Any]]:
    """Tag raw text, whose words are those of [`~rnn_hf.text.words.split_words`].

    Args:
        model ([`RnnForTokenClassification`]): A tagger, of torch or of onnxruntime.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        texts (`Iterable[str]`): The texts.
        options: See [`~predictor.predict`].

    Yields:
        `{"text", "tokens", "tags", "spans"}` for each text; a span has `start` and `end`, in characters, and `label`.

    Raises:
        ValueError: A text with a lone surrogate.

    Example:
    ```python
    >>> from rnn_hf import RnnConfig, RnnForTokenClassification, train_tokenizer
    >>> from rnn_hf.inference.span_prediction import tag_texts
    >>> tokenizer = train_tokenizer([["Anna"]], kind="word", min_frequency=1, is_split_into_words=True)
    >>> model = RnnForTokenClassification(RnnConfig(vocab_size=len(tokenizer), id2label={0: "B-PER"}))
    >>> list(tag_texts(model, tokenizer, ["(Anna"]))[0]["spans"]
    [{'start': 0, 'end': 1, 'label': 'PER'}, {'start': 1, 'end': 5, 'label': 'PER'}]

    ```
    """
    located, others = tee((text, split_words(text)) for text in texts)
    words = ([text[start:end] for start, end in offsets] for text, offsets in others)
    results = predict(model, tokenizer, words, **options)
    for (text, offsets), one in zip(located, results, strict=True):
        spans = [
            {"start": span.start, "end": span.end, "label": span.label} for span in tag_spans(offsets, one["tags"])
        ]
        yield {"text": text} | one | {"spans": spans}


__all__ = ["predict_spans", "tag_texts"]
