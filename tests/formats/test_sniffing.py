"""Files whose names do not tell their format."""

import pytest
from tagged_files import TAG, write

from rnn_hf.data.corpus import DataArguments, load_corpus
from rnn_hf.formats.sniffing import content_format

WORDS = "Anna NNP B-PER\nlives VBZ O\n\nBye UH O\nnow RB O\n"
CONLLU = "# text = a b\n" + "".join(f"{row}\ta\t_\tX\t_\t_\t_\t_\t_\t_\n" for row in ("1-2", 1, 2)) + "\n"


@pytest.mark.parametrize(
    ("content", "tagger", "classifier"),
    [
        (WORDS, "conll", None),
        ("-DOCSTART- -X- O\n\n" + WORDS, "conll", None),
        (WORDS.replace(" ", "\t").replace("\n", "\r\n"), "conll", None),
        (CONLLU * 2, "conllu", None),
        ("word NN\nother JJ\nlast NN\n", None, None),  # no sentences
        ("a text\n\na line\n\nso far\n", None, None),  # each of one line
        ("A line of a text.\nAnother one.\n\nThe end.\nOr not so.\n", None, None),
        ('{"text": "a", "label": "b"}\n', "json", "json"),
        ('[\n{"text": "a"}]', "json", "json"),
        ("[Anna](PER) lives\n", None, None),
        ("text\tlabel\none\ta\n", None, "tsv"),
        ("Text;Label\none;a\n", None, "csv"),
        ("ham\tSee you\nspam\tWin\n", None, None),
        ("", None, None),
        ("\x89PNG\r\n\x1a\n\0\0 a\n", None, None),
    ],
)
def test_formats(tmp_path, content, tagger, classifier):
    file = write(tmp_path / "a.txt", content)
    assert content_format(file, TAG) == tagger
    assert content_format(file, "text-classification") == classifier


@pytest.mark.parametrize(("content", "found"), [(WORDS, "conll"), (WORDS.replace("B-PER", "O"), None)])
def test_prediction_wants_spans(tmp_path, content, found):
    assert content_format(write(tmp_path / "a.txt", content), TAG, needs_spans=True) == found


def test_a_file_is_read_and_the_run_says_how(tmp_path, messages):
    file = write(tmp_path / "eng.train", WORDS.encode("latin-1"))
    corpus = load_corpus(DataArguments(train_file=file, validation_file=file), TAG)
    assert corpus.num_rows["train"] == 2
    assert any("is read as conll, as its first lines show" in one for one in messages())
    file = write(tmp_path / "a.txt", "text\tlabel\none\ta\ntwo\tb\n")
    corpus = load_corpus(DataArguments(train_file=file, validation_file=file), "text-classification")
    assert corpus.label_names == ["a", "b"]


def test_a_hint_where_it_cannot_be_told(tmp_path):
    file = write(tmp_path / "SMSSpamCollection", "ham\tSee you\nspam\tWin\n")
    with pytest.raises(ValueError, match="Its first line has tabs: if they separate columns, it is tsv"):
        load_corpus(DataArguments(train_file=file), "text-classification")
