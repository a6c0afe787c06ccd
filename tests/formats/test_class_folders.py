"""Folders of texts: one for each label."""

import pytest

from rnn_hf.data.corpus import DataArguments, load_corpus
from rnn_hf.formats.class_folders import class_folders

CLASSIFY = "text-classification"


@pytest.fixture
def folder(tmp_path):
    for label in ("pos", "neg"):
        (tmp_path / "films" / label).mkdir(parents=True)
        for number in range(12):
            text = f"film {number}\n\nis {label}\n"
            (tmp_path / "films" / label / f"{number}.txt").write_text(text, "utf-8")
    return tmp_path / "films"


@pytest.mark.parametrize("streaming", [False, True])
def test_each_file_is_a_row(folder, messages, streaming):
    (folder / "unsup").mkdir()
    (folder / "unsup" / "0.txt").write_text("film", "utf-8")
    (folder / "README").write_text("films", "utf-8")
    files = {"train_file": str(folder), "validation_file": str(folder)}
    corpus = load_corpus(DataArguments(**files, streaming=streaming), CLASSIFY)
    assert (corpus.label_names, corpus.num_rows["train"]) == (["neg", "pos"], 24)
    assert next(corpus.inputs("train")) == "film 0\n\nis neg"
    assert any("neg 12, pos 12. 'unsup' is left out: texts without labels." in one for one in messages())


def test_names_without_an_ending(folder):
    for path in folder.glob("*/*.txt"):
        path.rename(path.with_suffix(""))
    assert [path.name for path in class_folders(str(folder))] == ["neg", "pos"]


def test_other_folders_are_none(folder, tmp_path):
    assert class_folders(str(folder.parent)) == []  # of folders
    assert class_folders(str(folder / "pos")) == []
    assert class_folders(str(tmp_path / "missing")) == []
    (folder / "pos" / "a.csv").write_text("text,label\n", "utf-8")
    assert class_folders(str(folder)) == []


def test_folders_of_splits_are_none(folder):
    (folder / "pos").rename(folder / "train")
    (folder / "neg").rename(folder / "test")
    assert class_folders(str(folder)) == []


def test_another_encoding_is_named(folder):
    path = folder / "pos" / "3.txt"
    path.write_bytes("schön".encode("latin-1"))
    with pytest.raises(ValueError, match=r"3\.txt, line 1: the byte 0xf6 is not UTF-8"):
        load_corpus(DataArguments(train_file=str(folder)), CLASSIFY)
    load_corpus(DataArguments(train_file=str(folder), dataset_kwargs='{"encoding": "latin-1"}'), CLASSIFY)


def test_a_dataset_of_folders_is_named(folder):
    with pytest.raises(ValueError, match=r"has a folder for each label: say --train_file .*films in place of"):
        load_corpus(DataArguments(dataset_name=str(folder)), CLASSIFY)
    folder.rename(folder.parent / "train")
    with pytest.raises(ValueError, match="and --test_file for the folder of the test"):
        load_corpus(DataArguments(dataset_name=str(folder.parent)), CLASSIFY)
