"""CSV and TSV files as people have them: what is read is what they hold, or the file is refused with the line."""

import csv
import gzip
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_hf.data.corpus import DataArguments, load_corpus
from rnn_hf.formats.rows import read_rows
from rnn_hf.formats.tables import check_table

CLASSIFY = "text-classification"
TWEETS = [
    ('"Great film', "pos"),
    ("Bad film", "neg"),
    ("So so", "neg"),
    ('Loved it"', "pos"),
    ("Never again", "neg"),
]


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def streaming(request) -> bool:
    return request.param


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def load(file: str, **arguments):
    return load_corpus(DataArguments(train_file=file, validation_file=file, **arguments), CLASSIFY)


def pairs(corpus) -> list[tuple[str, str]]:
    column = corpus.label_column
    return [(row[corpus.input_column], row[column]) for row in corpus.splits["train"]]


def refusal(file: str, **arguments) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        load(file, **arguments)
    return str(error.value)


def lines(rows, separator="\t", header=("text", "label")) -> str:
    return "".join(separator.join(row) + "\n" for row in [header, *rows])


class TestQuotes:
    def test_two_stray_quotes_swallow_lines(self, tmp_path, streaming):
        file = write(tmp_path / "a.tsv", lines(TWEETS))
        assert refusal(file, streaming=streaming) == (
            f"{file}, line 2: a quote opens here, and closes in line 5 only: 4 lines would be read as one row. If "
            "quotes are part of the text, say --dataset_kwargs '{\"quoting\": 3}'; else close the quote, or double it "
            "within the text."
        )
        assert pairs(load(file, streaming=streaming, dataset_kwargs='{"quoting": 3}')) == TWEETS

    def test_in_csv(self, tmp_path, streaming):
        file = write(tmp_path / "a.csv", lines([*TWEETS[1:], *TWEETS], ","))
        message = refusal(file, streaming=streaming)
        assert message.startswith(f"{file}, line 6: a quote opens here, and closes in line 9 only: 4 lines would be")

    def test_in_a_regression(self, tmp_path):
        rows = [(text, f"{index}.5") for index, (text, _) in enumerate([*TWEETS, ("x", "a"), *TWEETS[1:3]])]
        assert "4 lines would be read as one row" in refusal(write(tmp_path / "a.csv", lines(rows, ",")))

    @pytest.mark.parametrize("separator", [",", "\t"])
    def test_one_that_never_closes(self, tmp_path, separator, streaming):
        file = write(tmp_path / "a.tsv", lines([("a", "x"), ('"b', "y"), ("c", "x")], separator))
        message = refusal(file, streaming=streaming, dataset_kwargs=json.dumps({"sep": separator}))
        assert message.startswith(f"{file}, line 3: a quote opens here, and never closes. If quotes are part of the te")

    def test_text_behind_a_closing_quote(self, tmp_path, streaming):
        file = write(tmp_path / "a.tsv", lines([("a", "x"), ('"Great" film', "y")]))
        message = refusal(file, streaming=streaming)
        assert message.startswith(f"{file}, line 3: text follows on a closing quote ('\"Great\" film\\ty').")
        rows = pairs(load(file, streaming=streaming, dataset_kwargs='{"quoting": 3}'))
        assert rows == [("a", "x"), ('"Great" film', "y")]

    @pytest.mark.parametrize(
        "text",
        ["Dear team,\nthanks, bye", "one\n\n\ntwo", "a,\nb,\nc,", 'She said: ""yes"",\nand ""no""', "line, pos\nline"],
    )
    def test_texts_of_several_lines_are_no_fault(self, tmp_path, text, streaming):
        rows = [(f'"{text}"', "pos"), ("x", "neg"), ('"a, b"', "pos")]
        corpus = load(write(tmp_path / "a.csv", lines(rows, ",")), streaming=streaming)
        assert pairs(corpus) == [(text.replace('""', '"'), "pos"), ("x", "neg"), ("a, b", "pos")]

    def test_quotes_within_a_text_are_no_fault(self, tmp_path, streaming):
        rows = [('say "hi" now', "a"), ("5' 10\"", "b")]
        assert pairs(load(write(tmp_path / "a.tsv", lines(rows)), streaming=streaming)) == rows


class TestFields:
    @pytest.mark.parametrize("line", [1, 3, 10_100])
    def test_too_many(self, tmp_path, line, streaming):
        rows = [("text", "a")] * 10_200
        rows[line - 1] = ("Hello, world", "a")
        file = write(tmp_path / "a.csv", lines(rows, ","))
        assert refusal(file, streaming=streaming) == (
            f"{file}, line {line + 1}: 3 fields, but 2 columns ('text', 'label'). Quote a text that holds the "
            "separator ','."
        )

    def test_more_columns_than_names(self, tmp_path):
        file = write(tmp_path / "a.csv", "1,one,a\n2,two,b\n")
        message = refusal(file, dataset_kwargs='{"column_names": ["text", "label"]}')
        assert message.startswith(f"{file}, line 1: 3 fields, but 2 columns")

    def test_too_few(self, tmp_path):
        file = write(tmp_path / "a.csv", "text,label\none,a\ntwo\n")
        message = (
            f"{file}, line 3: the row ends before the column 'label'. Complete it, or remove it; is ',' the separator?"
        )
        assert refusal(file) == refusal(file, label_separator="#") == message

    def test_too_few_of_other_columns(self, tmp_path):
        file = write(tmp_path / "a.csv", "text,label,note\none,a\ntwo,b,x\n")
        assert pairs(load(file)) == [("one", "a"), ("two", "b")]

    def test_missing_header(self, tmp_path, streaming):
        file = write(tmp_path / "a.csv", "Great film,pos\nBad film,neg\nSo so,neg\nLovely,pos\n")
        assert refusal(file, streaming=streaming).endswith(
            "If the first line is a row, as 'pos' in it suggests, name the columns, such as: --dataset_kwargs "
            '\'{"column_names": ["text", "label"]}\'.'
        )

    def test_missing_header_of_several_columns(self, tmp_path):
        file = write(tmp_path / "a.tsv", "".join(f"g{row}\t{row % 2}\t\tA long text {row}\n" for row in range(9)))
        assert refusal(file).endswith('\'{"column_names": ["column_1", "label", "column_3", "text"]}\'.')

    @pytest.mark.parametrize(("name", "separator"), [("a.csv", ";"), ("a.csv", "\t"), ("a.tsv", ","), ("a.csv", "|")])
    def test_the_header_shows_the_separator(self, tmp_path, name, separator, streaming):
        rows = [("one, two", "a"), ("three", "b")]
        written = [(f'"{text}"' if separator == "," else text, label) for text, label in rows]
        file = write(tmp_path / name, "\ufeff" + lines(written, separator, ("Text", "Label")))
        assert pairs(load(file, streaming=streaming)) == rows

    def test_a_header_of_unknown_names_shows_none(self, tmp_path):
        file = write(tmp_path / "a.csv", lines([("one, two", "a")], ";", ("Kommentar", "Note")))
        message = refusal(file)
        assert "the first line, 'Kommentar;Note', is one column, but line 2 has 2." in message
        assert message.endswith("If ';' separates columns, say --dataset_kwargs '{\"sep\": \";\"}'.")

    def test_a_line_for_excel(self, tmp_path):
        file = write(tmp_path / "a.csv", "sep=;\n" + lines([("one", "a")], ";"))
        assert refusal(file).endswith('Remove the line, and say --dataset_kwargs \'{"sep": ";"}\'.')
        assert refusal(file, dataset_kwargs='{"sep": ";"}').endswith("Remove the line.")

    def test_backslashes_before_quotes(self, tmp_path):
        file = write(tmp_path / "a.csv", 'text,label\n"a \\"b\\", c",x\n"d",y\n')
        assert 'say --dataset_kwargs \'{"escapechar": "\\\\"}\'' in refusal(file)
        assert pairs(load(file, dataset_kwargs={"escapechar": "\\"})) == [('a "b", c', "x"), ("d", "y")]

    def test_a_header_that_stands_twice(self, tmp_path):
        table = lines([("one", "a"), ("two", "b")], ",")
        assert refusal(write(tmp_path / "a.csv", table + table)).endswith(
            "a.csv, line 4: the header stands here again. Remove the line."
        )

    def test_columns_of_flags(self, tmp_path):
        file = write(tmp_path / "a.csv", "id,text,toxic,rude\n7,one,0,1\n8,two,1,1\n")
        assert refusal(file).endswith("name the columns with --label_columns toxic rude.")

    @pytest.mark.parametrize("header", ["text,label,text", "label,text,label", "Text,x,Text,label"])
    def test_columns_of_one_name(self, tmp_path, header, streaming):
        file = write(tmp_path / "a.csv", f"{header}\n" + ",".join("a" * len(header.split(","))) + "\n")
        assert "has several columns with the name" in refusal(file, streaming=streaming)

    def test_other_columns_of_one_name_do_not_matter(self, tmp_path):
        file = write(tmp_path / "a.csv", "text,label,x,x,,\none,a,1,2,3,4\ntwo,b,1,2,3,4\n")
        assert pairs(load(file)) == [("one", "a"), ("two", "b")]

    def test_files_of_other_columns(self, tmp_path):
        write(tmp_path / "a.csv", "text,label\none,a\n")
        write(tmp_path / "b.csv", "text,stars\none,a\n")
        assert "its rows differ in their columns" in refusal(str(tmp_path / "*.csv"))

    def test_files_of_columns_in_another_order(self, tmp_path, streaming):
        write(tmp_path / "a.csv", "text,label\none,a\n")
        write(tmp_path / "b.csv", "label,text\nb,two\n")
        assert pairs(load(str(tmp_path / "*.csv"), streaming=streaming)) == [("one", "a"), ("two", "b")]


class TestEncodings:
    ROWS = [("Müller\u2019s Café", "ä"), ("naïve", "ß")]  # noqa: RUF012

    @pytest.mark.parametrize("compress", [False, True])
    def test_of_windows(self, tmp_path, compress, streaming):
        content = lines(self.ROWS, ",").encode("cp1252")
        name = "a.csv.gz" if compress else "a.csv"
        file = write(tmp_path / name, gzip.compress(content) if compress else content)
        assert refusal(file, streaming=streaming).startswith(
            f"{file}, line 2: the byte 0xfc is not UTF-8. If Windows or Excel wrote the file, say --dataset_kwargs "
            '\'{"encoding": "cp1252"}\''
        )
        assert pairs(load(file, streaming=streaming, dataset_kwargs='{"encoding": "cp1252"}')) == self.ROWS

    def test_utf_16(self, tmp_path, streaming):
        file = write(tmp_path / "a.csv", lines(self.ROWS, ",").encode("utf-16"))
        message = refusal(file, streaming=streaming)
        assert message.startswith(f'{file} is written in UTF-16. Say --dataset_kwargs \'{{"encoding": "utf-16"}}\'')
        assert pairs(load(file, streaming=streaming, dataset_kwargs='{"encoding": "utf-16"}')) == self.ROWS

    def test_another_than_the_options_say(self, tmp_path):
        file = write(tmp_path / "a.csv", lines(self.ROWS, ","))
        message = refusal(file, dataset_kwargs='{"encoding": "ascii"}')
        assert message.startswith(f"{file} is not written in ascii, as --dataset_kwargs says")

    @pytest.mark.parametrize("name", ["a.xlsx", "a.xls", "a.csv", "a.ods"])
    def test_workbooks(self, tmp_path, name):
        file = write(tmp_path / name, b"PK\x03\x04" + bytes(100))
        assert refusal(file).startswith(f"{file} is a workbook of a spreadsheet program, which is not read: save the")


class TestFolders:
    """A folder with a file for each split is read as the files are."""

    @pytest.mark.parametrize(("ending", "separator"), [("csv", ","), ("tsv", "\t")])
    def test_as_they_are_written(self, tmp_path, ending, separator, streaming):
        rows = [("007", "0110"), ("NA", "110"), ("1.50", "0110")]
        for name in ("train", "validation"):
            write(tmp_path / f"{name}.{ending}", lines(rows, separator))
        corpus = load_corpus(DataArguments(dataset_name=str(tmp_path), streaming=streaming), CLASSIFY)
        assert pairs(corpus) == rows
        assert corpus.label_names == ["0110", "110"]

    def test_faults_are_named(self, tmp_path, streaming):
        write(tmp_path / "validation.csv", lines([("a", "x")], ","))
        write(tmp_path / "train.csv", lines([("a", "b", "x")], ","))
        with pytest.raises(ValueError) as error:  # noqa: PT011
            load_corpus(DataArguments(dataset_name=str(tmp_path), streaming=streaming), CLASSIFY)
        assert str(error.value).startswith(f"{tmp_path}/train.csv, line 2: 3 fields, but 2 columns")


class TestFastText:
    def test_one_label(self, tmp_path, streaming):
        file = write(tmp_path / "train.txt", "__label__pos Great film !\n\n__label__neg So so\n")
        corpus = load(file, streaming=streaming)
        assert pairs(corpus) == [("Great film !", "pos"), ("So so", "neg")]
        assert corpus.problem_type == "single_label_classification"

    def test_several_labels(self, tmp_path, streaming):
        content = "\ufeff__label__baking __label__food-safety How hot ?\n__label__baking Why\nwithout one\n"
        file = write(tmp_path / "cooking.train", content)
        corpus = load(file, streaming=streaming)
        assert pairs(corpus) == [("How hot ?", ["baking", "food-safety"]), ("Why", ["baking"]), ("without one", [])]
        assert corpus.problem_type == "multi_label_classification"

    def test_the_format_can_be_said(self, tmp_path):
        file = write(tmp_path / "a.txt", "a b __label__x\n__label__y c\n")
        assert pairs(load(file, dataset_format="fasttext")) == [("a b", "x"), ("c", "y")]
        assert "does not tell its format" in refusal(file)

    def test_a_line_without_a_label_is_named(self, tmp_path, streaming):
        file = write(tmp_path / "a.txt", "__label__x a\nb\n__label__y c\n")
        assert refusal(file, streaming=streaming).startswith(f"{file}, row 2: column 'label' holds no label: ''.")


class TestUsualColumns:
    @pytest.mark.parametrize(
        ("header", "found"),
        [
            ("sentence,label", ("sentence", "label")),
            ("review,sentiment", ("review", "sentiment")),
            ("id,Text,Label", ("Text", "Label")),
            ("content,category", ("content", "category")),
            ("text,sentence,label,class", ("text", "label")),
            ("labels,id,utterance", ("utterance", "labels")),
            ("TEXT,sentence,LABEL,target", ("TEXT", "LABEL")),
        ],
    )
    def test_are_found(self, tmp_path, header, found, streaming):
        width = len(header.split(","))
        rows = "".join(",".join([cell] * width) + "\n" for cell in "xy")
        file = write(tmp_path / "a.csv", f"{header}\n{rows}")
        corpus = load(file, streaming=streaming)
        assert (corpus.input_column, corpus.label_column) == found

    @pytest.mark.parametrize(
        ("header", "found", "option"),
        [
            ("sentence,review,label", "'sentence', 'review'", "text"),
            ("text,class,target", "'class', 'target'", "label"),
        ],
    )
    def test_several_are_refused(self, tmp_path, header, found, option):
        file = write(tmp_path / "a.csv", f"{header}\na,b,c\n")
        assert refusal(file) == (
            f"{file} has no column '{option}', and several that could be meant: {found}. Name the right one with "
            f"--{option}_column."
        )

    def test_an_option_wins(self, tmp_path):
        file = write(tmp_path / "a.csv", "sentence,review,label,class\na,b,c,d\ne,f,g,h\n")
        corpus = load(file, text_column="review", label_column="class")
        assert pairs(corpus) == [("b", "d"), ("f", "h")]
        assert refusal(file, text_column="x").startswith("The train data has no column 'x'")


CLEAN = st.lists(
    st.tuples(
        st.text(st.characters(codec="utf-8", exclude_characters="\0\r\ufeff"), min_size=1, max_size=30).filter(
            str.strip
        ),
        st.sampled_from(["pos", "neg", "0110", "1.10"]),
    ),
    min_size=2,
    max_size=12,
)


class TestMutations:
    """A file that was changed in a way that people's files are is read as before, or refused by name."""

    def check(self, folder: Path, content: str | bytes, rows, options: dict, streaming: bool, name="a.csv") -> None:
        file = write(folder / name, content)
        try:
            corpus = load(file, dataset_kwargs=json.dumps(options), streaming=streaming)
        except ValueError as error:
            assert str(error).startswith((file, "The train data has no column"))  # noqa: PT017
            return
        assert pairs(corpus) == rows
        # Evaluation and prediction read the same.
        arguments = DataArguments(test_file=file, dataset_kwargs=json.dumps(options), streaming=streaming)
        tested = load_corpus(arguments, CLASSIFY, "single_label_classification", corpus.label_names, ("test",))
        assert list(tested.inputs("test")) == [text for text, _ in rows]
        to_predict = read_rows(file, "csv", arguments)
        assert [row["text"] for _, row in to_predict.rows] == [text for text, _ in rows]

    @settings(max_examples=50, deadline=None)
    @given(
        rows=CLEAN,
        separator=st.sampled_from([",", ";", "\t"]),
        said=st.booleans(),
        quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE]),
        mark=st.booleans(),
        line_end=st.sampled_from(["\n", "\r\n"]),
        columns=st.integers(0, 2),
        blank=st.booleans(),
        streaming=st.booleans(),
    )
    def test_of_tables(
        self, tmp_path_factory, rows, separator, said, quoting, mark, line_end, columns, blank, streaming
    ):
        rows = [(text.replace("\n", " ") if quoting == csv.QUOTE_NONE else text, label) for text, label in rows]
        rows = [row for row in rows if row[0].strip()] or [("a", "pos")]
        if len({label for _, label in rows}) < 2:
            rows = [*rows, ("x", "pos"), ("y", "neg")]
        file = io.StringIO(newline="")
        if quoting == csv.QUOTE_NONE:
            file.write(
                "".join(separator.join([*"abc"[:columns], *row]) + line_end for row in [("text", "label"), *rows])
            )
        else:
            writer = csv.writer(file, delimiter=separator, quoting=quoting, lineterminator=line_end)
            writer.writerows([*"abc"[:columns], *row] for row in [("text", "label"), *rows])
        content = ("\ufeff" if mark else "") + file.getvalue() + (line_end * 2 if blank else "")
        options = {"sep": separator} if said or separator == "\t" else {}
        if quoting == csv.QUOTE_NONE and any('"' in text for text, _ in rows):
            options["quoting"] = 3
        self.check(tmp_path_factory.mktemp("table"), content, rows, options, streaming)

    @settings(max_examples=30, deadline=None)
    @given(
        rows=st.lists(
            st.tuples(st.text("ab \"'", min_size=1, max_size=6).filter(str.strip), st.sampled_from(["pos", "neg"])),
            min_size=3,
            max_size=12,
        ),
        streaming=st.booleans(),
    )
    def test_of_raw_quotes_in_tsv(self, tmp_path_factory, rows, streaming):
        """What is in quotes as a whole may lose them, as CSV says; nothing else may change."""
        rows = [*rows, ("x", "pos"), ("y", "neg")]
        folder = tmp_path_factory.mktemp("quotes")
        file = write(folder / "a.tsv", lines(rows))
        try:
            found = pairs(load(file, streaming=streaming))
        except ValueError as error:
            assert str(error).startswith(file)  # noqa: PT017
            return
        assert len(found) == len(rows)
        for (text, label), (read, read_label) in zip(rows, found, strict=True):
            is_quoted = len(text) > 1 and text[0] == text[-1] == '"'
            assert (read, read_label) == (text[1:-1].replace('""', '"') if is_quoted else text, label)


def test_a_check_costs_no_memory_for_the_rows(tmp_path):
    import tracemalloc

    file = write(tmp_path / "a.csv", "text,label\n" + f"{'word ' * 20},{1}\n" * 50_000)
    tracemalloc.start()
    check_table(file, "a.csv", {})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
