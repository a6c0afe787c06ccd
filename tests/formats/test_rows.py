"""Rows that are read to predict on them, and written with predictions: nothing else about them changes."""

import csv
import gzip
import io
import json
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, Value, load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_hf.formats.arguments import DataArguments
from rnn_hf.formats.row_writers import RowWriter
from rnn_hf.formats.rows import input_column, read_rows, row_format

CLASSIFY, TAG = "text-classification", "token-classification"
ADDED = {"prediction": str, "score": float}


def arguments(**given) -> DataArguments:
    return DataArguments(test_file="a", **given)


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def read(path: str, **given):
    rows = read_rows(path, row_format(path), arguments(**given))
    return rows, [row for _, row in rows.rows]


def rewritten(path: str, output_format: str, predictions, added=ADDED, separator=None, **given) -> str:
    rows = read_rows(path, row_format(path), arguments(**given))
    file = io.StringIO(newline="")
    with RowWriter(file, output_format, rows, added, separator) as writer:
        for (_, row), prediction in zip(rows.rows, predictions, strict=True):
            writer.write(row, prediction)
    return file.getvalue()


def refusal(path: str, **given) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        read(path, **given)
    return str(error.value)


def one_each(count: int) -> list[dict]:
    return [{"prediction": "ab"[index % 2], "score": 0.25} for index in range(count)]


class TestTables:
    def test_all_columns_are_kept_as_they_are_written(self, tmp_path):
        content = 'id,text,note\n007,"one\ntwo, three",1.50\n08,"a ""b""",\n'
        written = rewritten(write(tmp_path / "a.csv", content), "csv", one_each(2))
        assert written == ('id,text,note,prediction,score\n007,"one\ntwo, three",1.50,a,0.25\n08,"a ""b""",,b,0.25\n')

    def test_as_another_format(self, tmp_path):
        file = write(tmp_path / "a.csv", "\ufeffid;text\r\n007;one\r\n")
        given = {"dataset_kwargs": '{"sep": ";"}'}
        assert rewritten(file, "csv", one_each(1), **given) == "id;text;prediction;score\n007;one;a;0.25\n"
        assert rewritten(file, "tsv", one_each(1), **given) == "id\ttext\tprediction\tscore\n007\tone\ta\t0.25\n"
        row = {"id": "007", "text": "one", "prediction": "a", "score": 0.25}
        assert json.loads(rewritten(file, "jsonl", one_each(1), **given)) == row

    def test_without_a_header_there_is_none(self, tmp_path):
        file = write(tmp_path / "a.csv", "one,a\n")
        written = rewritten(file, "csv", one_each(1), dataset_kwargs='{"column_names": ["text", "label"]}')
        assert written == "one,a,a,0.25\n"

    def test_stray_quotes(self, tmp_path):
        file = write(tmp_path / "a.tsv", 'text\tid\n"a b\t1\nc"\t2\n')
        assert "line 2: a quote opens here, and closes in line 3 only" in refusal(file)
        written = rewritten(file, "tsv", one_each(2), dataset_kwargs='{"quoting": 3}')
        assert written == 'text\tid\tprediction\tscore\n"a b\t1\ta\t0.25\nc"\t2\tb\t0.25\n'

    def test_several_labels(self, tmp_path):
        file = write(tmp_path / "a.csv", "text\none\ntwo\n")
        added = {"prediction": list, "score": dict}
        predictions = [
            {"prediction": ["a", "b"], "score": {"a": 0.987654321, "b": 0.75}},
            {"prediction": [], "score": {"a": 0.5, "b": 0.25}},
        ]
        rows = list(csv.DictReader(io.StringIO(rewritten(file, "csv", predictions, added))))
        assert [json.loads(row["prediction"]) for row in rows] == [["a", "b"], []]
        assert json.loads(rows[0]["score"]) == {"a": 0.987654, "b": 0.75}
        rows = list(csv.DictReader(io.StringIO(rewritten(file, "csv", predictions, added, separator="|"))))
        assert [row["prediction"] for row in rows] == ["a|b", ""]
        with pytest.raises(ValueError, match="holds the separator 'a'"):
            rewritten(file, "csv", predictions, added, separator="a")

    @pytest.mark.parametrize(
        ("content", "fault"),
        [
            ("", "has no rows"),
            ("text,text\na,b\n", "several columns with the name 'text'"),
            ("text,id\na,b,c\n", "line 2: 3 fields, but 2 columns"),
            ('text,id\n"a,b\n', "line 2: a quote opens here, and never closes"),
            ("text\ncaf\xe9\n".encode("latin-1"), "line 2: the byte 0xe9 is not UTF-8"),
        ],
    )
    def test_refused(self, tmp_path, content, fault):
        message = refusal(write(tmp_path / "a.csv", content))
        assert message.startswith(str(tmp_path / "a.csv"))
        assert fault in message

    def test_options_that_are_not_for_reading_row_by_row(self, tmp_path):
        assert "prediction reads CSV with sep" in refusal(
            write(tmp_path / "a.csv", "text\n"), dataset_kwargs='{"skiprows": 2}'
        )

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.tuples(st.text(min_size=1), st.text(st.characters(exclude_characters="\0"))), min_size=1, max_size=8
        ),
        st.sampled_from([",", ";", "\t", "|"]),
        st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
        st.booleans(),
    )
    def test_of_any_content(self, tmp_path_factory, pairs, separator, quoting, mark):
        pairs = [tuple(one.encode("utf-8", "ignore").decode().replace("\0", "") for one in pair) for pair in pairs]
        file = io.StringIO(newline="")
        writer = csv.writer(file, delimiter=separator, quoting=quoting)
        writer.writerows([("text", "other"), *pairs])
        path = write(tmp_path_factory.mktemp("any") / "a.csv", ("\ufeff" if mark else "") + file.getvalue())
        given = {"dataset_kwargs": json.dumps({"sep": separator})}
        try:
            written = rewritten(path, "csv", one_each(len(pairs)), **given)
        except ValueError as error:
            assert "lines would be read as one row" in str(error)  # noqa: PT017
            return
        rows = list(csv.reader(io.StringIO(written, newline=""), delimiter=separator))
        assert rows == [
            ["text", "other", "prediction", "score"],
            *([*pair, "ab"[index % 2], "0.25"] for index, pair in enumerate(pairs)),
        ]


class TestJson:
    def test_lines(self, tmp_path):
        lines = [
            '{"text": "one\\ntwo", "n": 12345678901234567890, "f": 1.0}',
            '{"text": "x", "more": [1, {"a": null}]}',
        ]
        written = rewritten(write(tmp_path / "a.jsonl", "\ufeff" + "\n\n".join(lines)), "jsonl", one_each(2))
        expected = [json.loads(line) | added for line, added in zip(lines, one_each(2), strict=True)]
        assert [json.loads(line) for line in written.splitlines()] == expected

    def test_an_array_stays_one(self, tmp_path):
        rows = [{"text": "one"}, {"text": "two", "x": 1}]
        written = rewritten(write(tmp_path / "a.json", json.dumps(rows, indent=2)), "json", one_each(2))
        assert json.loads(written) == [row | added for row, added in zip(rows, one_each(2), strict=True)]

    @pytest.mark.parametrize(
        ("content", "fault"),
        [
            ('{"text": "a"}\n{"text": 1,}\n', "line 2, column 12: "),
            ('{"text": "a"}\n3\n', "line 2: a row must be an object, got 3."),
            ("[1]", "row 1: a row must be an object, got 1."),
            ("[", "holds no array of rows"),
            ("[]", "has no rows"),
            ("\n", "has no rows"),
        ],
    )
    def test_refused(self, tmp_path, content, fault):
        assert fault in refusal(write(tmp_path / "a.jsonl", content))

    def test_a_late_column_does_not_fit_into_a_table(self, tmp_path):
        file = write(tmp_path / "a.jsonl", '{"text": "a"}\n{"text": "b", "late": 1}\n')
        with pytest.raises(ValueError, match="the column 'late' is not in the first row"):
            rewritten(file, "csv", one_each(2))


class TestParquet:
    @pytest.mark.parametrize(("kind", "value"), [(str, "a"), (float, 0.5), (list, ["a", "b"])])
    def test_types_and_names_of_labels_are_kept(self, tmp_path, kind, value):
        features = Features({"text": Value("string"), "label": ClassLabel(names=["n", "p"]), "n": Value("int8")})
        split = Dataset.from_dict({"text": ["a", "b"], "label": [1, 0], "n": [3, None]}, features=features)
        split.to_parquet(tmp_path / "a.parquet")
        rows = read_rows(str(tmp_path / "a.parquet"), "parquet", arguments())
        with (tmp_path / "b.parquet").open("wb") as file, RowWriter(file, "parquet", rows, {"new": kind}) as writer:
            for _, row in rows.rows:
                writer.write(row, {"new": value})
        loaded = load_dataset("parquet", data_files=str(tmp_path / "b.parquet"), split="train")
        assert {name: loaded.features[name] for name in features} == features
        assert loaded["new"][:] == [value, value]
        assert loaded.remove_columns("new").to_list() == split.to_list()

    def test_refused(self, tmp_path):
        assert "could not be read as parquet" in refusal(write(tmp_path / "a.parquet", "text\n"))


class TestConll:
    def test_the_tag_is_the_last_column(self, tmp_path):
        content = "-DOCSTART- -X- O\n\n# sent_id = 1\nto V X\n#be N Y\n\n\nor C X"
        rows, read_back = read(write(tmp_path / "a.conll", content))
        assert [row["tokens"] for row in read_back if row["tokens"]] == [["to", "#be"], ["or"]]
        predictions = [{"prediction": ["T"] * len(row["tokens"])} for row in read_back]
        written = rewritten(str(tmp_path / "a.conll"), "conll", predictions, {"prediction": list})
        assert written == "-DOCSTART- -X- O O\n\n# sent_id = 1\nto V X T\n#be N Y T\n\n\nor C X T\n"
        assert rows.columns == ["tokens"]

    def test_conllu(self, tmp_path):
        rest = "\t_" * 7
        content = "# text = vámonos\r\n" + "".join(
            f"{index}\t{word}\t_{rest}\r\n" for index, word in (("1-2", "vámonos"), ("1", "va mos"), ("2", "nos"))
        )
        file = write(tmp_path / "a.conllu", content + "\r\n")
        assert read(file)[1][0]["tokens"] == ["va mos", "nos"]
        written = rewritten(file, "conll", [{"prediction": ["V", "P"]}], {"prediction": list})
        assert [line.split("\t")[-1] for line in written.split("\r\n")] == ["# text = vámonos", "_", "V", "P", "", ""]
        assert [line.rpartition("\t")[0] for line in written.split("\r\n")[1:4]] == content.split("\r\n")[1:4]

    def test_words_of_another_column(self, tmp_path):
        file = write(tmp_path / "a.conll", "1\tto\n2\tbe\n")
        given = {"dataset_kwargs": '{"column_names": ["id", "tokens"]}'}
        assert read(file, **given)[1][0]["tokens"] == ["to", "be"]

    def test_words_are_those_that_training_reads(self, tmp_path):
        content = "1 Anna NNP B-PER\n2 lives VBZ O\n3 here RB O\n\n1 Oslo NNP B-LOC\n2 sleeps VBZ O\n"
        file = write(tmp_path / "a.conll", content)
        assert [row["tokens"] for row in read(file)[1]] == [["Anna", "lives", "here"], ["Oslo", "sleeps"]]
        added = [{"prediction": ["T"] * len(row["tokens"])} for row in read(file)[1]]
        assert rewritten(file, "conll", added, {"prediction": list}) == content.replace("\n", " T\n").replace(
            "\n T\n", "\n\n"
        )

    def test_a_header_names_the_new_column(self, tmp_path):
        file = write(tmp_path / "a.conll", "word tag\nAnna B-PER\nlives O\n\nOslo B-LOC\n")
        rows = read(file)[1]
        assert [row["tokens"] for row in rows] == [["Anna", "lives"], ["Oslo"]]
        added = [{"prediction": ["T"] * len(row["tokens"])} for row in rows]
        assert rewritten(file, "conll", added, {"prediction": list}) == (
            "word tag prediction\nAnna B-PER T\nlives O T\n\nOslo B-LOC T\n"
        )

    def test_words_alone(self, tmp_path):
        file = write(tmp_path / "a.conll", "to\nbe\n")
        assert rewritten(file, "conll", [{"prediction": ["A", "B"]}], {"prediction": list}) == "to A\nbe B\n"
        assert json.loads(rewritten(file, "jsonl", [{"prediction": ["A", "B"]}], {"prediction": list})) == {
            "tokens": ["to", "be"],
            "prediction": ["A", "B"],
        }

    def test_other_formats_cannot_hold_sentences(self, tmp_path):
        with pytest.raises(ValueError, match="What is read as conll cannot be written as csv: take jsonl"):
            rewritten(write(tmp_path / "a.conll", "to\n"), "csv", [])


def test_compressed(tmp_path):
    file = write(tmp_path / "a.csv.gz", gzip.compress(b"text\none\n"))
    assert read(file)[1] == [{"text": "one"}]


@pytest.mark.parametrize("content", ["text\none\n", "Review\none\n"])
def test_the_column_of_texts(tmp_path, content):
    rows, _ = read(write(tmp_path / "a.csv", content))
    assert input_column(rows, CLASSIFY, arguments()) == content.split("\n")[0]


def test_a_column_that_is_missing(tmp_path):
    rows, _ = read(write(tmp_path / "a.csv", "x,y\n1,2\n"))
    for task, option in ((CLASSIFY, "text"), (TAG, "tokens")):
        with pytest.raises(
            ValueError, match=f"has no column '{option}', only: 'x', 'y'. Name .* with --{option}_column"
        ):
            input_column(rows, task, arguments())
