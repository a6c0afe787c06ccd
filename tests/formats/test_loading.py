"""Corpora from wherever `datasets` reads them: addresses, archives, shards, compressed files."""

import bz2
import gzip
import lzma
import zipfile

import pytest
from datasets import Dataset

from rnn_hf.data.corpus import load_corpus
from rnn_hf.formats.arguments import DataArguments

ROWS = [{"text": f"text {index}", "label": "ab"[index % 2]} for index in range(40)]
CSV = "text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in ROWS)


@pytest.fixture
def folder(tmp_path):
    """The same rows in files of each kind."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    Dataset.from_list(ROWS[:15]).to_parquet(tmp_path / "in" / "0.parquet")
    Dataset.from_list(ROWS[15:]).to_parquet(tmp_path / "in" / "deep" / "1.parquet")
    for ending, library in (("gz", gzip), ("bz2", bz2), ("xz", lzma)):
        (tmp_path / f"a.csv.{ending}").write_bytes(library.compress(CSV.encode()))
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        file.writestr("inside/a.csv", CSV)
    return tmp_path


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    "address",
    ["{}/in/**/*.parquet", "file://{}/in/**/*.parquet", "{}/a.csv.gz", "{}/a.csv.bz2", "{}/a.csv.xz"],
)
def test_files_and_addresses(folder, address, streaming):
    corpus = load_corpus(DataArguments(train_file=address.format(folder), streaming=streaming), "text-classification")
    assert sum(corpus.num_rows.values()) == 40
    assert corpus.label_names == ["a", "b"]


def test_a_file_in_an_archive_is_streamed(folder):
    address = f"zip://inside/*.csv::{folder}/b.zip"
    corpus = load_corpus(DataArguments(train_file=address, streaming=True), "text-classification")
    assert sum(corpus.num_rows.values()) == 40


def test_a_folder_of_shards(folder):
    corpus = load_corpus(DataArguments(dataset_name=str(folder / "in")), "text-classification")
    assert sum(corpus.num_rows.values()) == 40
