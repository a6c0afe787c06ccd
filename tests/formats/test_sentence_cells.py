"""Tables and JSON with a row a sentence."""

import json

import pytest
from tagged_files import load as load_words
from tagged_files import read, refusal, write

SENTENCES = [["Anna", "lives", "in", "Oslo"], ["Bye", "now"], ["Hi"]]
TAGS = [["B-PER", "O", "O", "B-LOC"], ["O", "O"], ["O"]]
RIGHT = [list(zip(*pair, strict=True)) for pair in zip(SENTENCES, TAGS, strict=True)]


def table(header, rows) -> str:
    return "".join(";".join(f'"{cell}"' for cell in row) + "\n" for row in [header, *rows])


@pytest.mark.parametrize("words", [str, " ".join])
@pytest.mark.parametrize("tags", [str, " ".join])
def test_tables(tmp_path, words, tags, streaming, messages):
    rows = [(number, words(one), "x", tags(two)) for number, (one, two) in enumerate(zip(SENTENCES, TAGS, strict=True))]
    file = write(tmp_path / "a.csv", table(("Sentence #", "Sentence", "POS", "Tag"), rows))
    assert read(load_words(file, streaming=streaming)) == RIGHT
    assert any("has a row a sentence: words are read from column 'Sentence'" in one for one in messages())


def test_other_columns_can_be_named(tmp_path):
    rows = [
        (" ".join(one), " ".join("XY"[len(word) % 2] for word in one), str(two))
        for one, two in zip(SENTENCES, TAGS, strict=True)
    ]
    file = write(tmp_path / "a.csv", table(("wording", "pos", "marks"), rows))
    corpus = load_words(file, tokens_column="wording", tags_column="marks", auxiliary_tags_column="pos")
    assert read(corpus) == RIGHT
    assert corpus.auxiliary_names == ["X", "Y"]


def test_json(tmp_path, streaming):
    rows = [{"text": " ".join(one), "slots": " ".join(two)} for one, two in zip(SENTENCES, TAGS, strict=True)]
    file = write(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert read(load_words(file, streaming=streaming)) == RIGHT


def test_a_late_row_of_another_length_is_named(tmp_path):
    rows = [("a b", "X Y")] * 120 + [("a b", "X")]
    file = write(tmp_path / "a.csv", table(("text", "labels"), rows))
    assert "row 121: 2 words in column 'tokens', but 1 tags in column 'tags'" in refusal(file)


def test_a_row_a_word_stays_so(tmp_path):
    file = write(tmp_path / "a.csv", "sentence_id,word,tag\n1,Anna,X\n1,lives,Y\n2,so,X\n")
    assert [len(one) for one in read(load_words(file))] == [2, 1]
