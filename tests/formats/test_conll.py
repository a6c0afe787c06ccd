"""Files with a line a word, as they are found: the corpus that is read is the right one, or the file is refused."""

import bz2
import gzip
import json
import lzma
import random
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import few
from tagged_files import load, read, refusal, write

from rnn_hf.formats.conll import load_conll

CONLL_2003 = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
German JJ B-NP B-MISC
call NN I-NP O
. . O O

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER

-DOCSTART- -X- -X- O

BRUSSELS NNP B-NP B-LOC
1996-08-22 CD I-NP O
"""
CONLL_2003_READ = [
    [("EU", "B-ORG"), ("rejects", "O"), ("German", "B-MISC"), ("call", "O"), (".", "O")],
    [("Peter", "B-PER"), ("Blackburn", "I-PER")],
    [("BRUSSELS", "B-LOC"), ("1996-08-22", "O")],
]
# The first form of the corpus: IOB1.
CONLL_2003_IOB1 = (
    CONLL_2003.replace(" B-ORG", " I-ORG")
    .replace(" B-MISC", " I-MISC")
    .replace(" B-PER", " I-PER")
    .replace(" B-LOC", " I-LOC")
)
WNUT = (
    "@paulwalk\tO\nIt\tO\n's\tO\nthe\tO\nview\tO\nfrom\tO\nEmpire\tB-location\nState\tI-location\nBuilding\tI-location\n"
    "\t\n#ESB\tB-location\n!\tO\n\t\n#\tO\n1\tO\n"
)
EMPIRE = [("Empire", "B-location"), ("State", "I-location"), ("Building", "I-location")]
WNUT_READ = [
    [*((word, "O") for word in ("@paulwalk", "It", "'s", "the", "view", "from")), *EMPIRE],
    [("#ESB", "B-location"), ("!", "O")],
    [("#", "O"), ("1", "O")],
]
GERMEVAL = (
    "#\thttp://de.wikipedia.org/wiki/Manfred_Korfmann\t[2009-10-17]\n1\tAufgrund\tO\tO\n2\tFC\tB-ORG\tO\n"
    "3\tBayern\tI-ORG\tB-LOC\n4\t.\tO\tO\n\n#\thttp://de.wikipedia.org/wiki/X\t[2009-10-17]\n1\tBerliner\tB-LOCderiv\tO\n"
    "2\tLand\tB-LOC\tO\n\n"
)
GERMEVAL_READ = [
    [("Aufgrund", "O"), ("FC", "B-ORG"), ("Bayern", "I-ORG"), (".", "O")],
    [("Berliner", "B-LOCderiv"), ("Land", "B-LOC")],
]
MULTICONER = """# id 5239d808-f300-46ea-aa3b-5093040213a3\tdomain=en
robert _ _ B-OtherPER
gottschalk _ _ I-OtherPER
1939 _ _ O

# id 53cef30a-a1ac-4d33-a8c3-6a5f4ab6a53f\tdomain=en
# _ _ O
the _ _ O
"""
MULTICONER_READ = [
    [("robert", "B-OtherPER"), ("gottschalk", "I-OtherPER"), ("1939", "O")],
    [("#", "O"), ("the", "O")],
]
LABEL_STUDIO = "-DOCSTART- -X- O\nAnna -X- _ B-PER\nlives -X- _ O\nin -X- _ O\nOslo -X- _ B-LOC\n\nBye -X- _ O\n"
LABEL_STUDIO_READ = [[("Anna", "B-PER"), ("lives", "O"), ("in", "O"), ("Oslo", "B-LOC")], [("Bye", "O")]]
KAGGLE = (
    'Sentence #,Word,POS,Tag\nSentence: 1,Thousands,NNS,O\n,of,IN,O\n,London,NNP,B-geo\n,"""",``,O\n,"1,000",CD,O\n'
    "Sentence: 2,NA,NNP,B-gpe\n,null,NN,O\n"
)
KAGGLE_READ = [
    [("Thousands", "O"), ("of", "O"), ("London", "B-geo"), ('"', "O"), ("1,000", "O")],
    [("NA", "B-gpe"), ("null", "O")],
]
SHAPES = {
    "conll2003.conll": (CONLL_2003, CONLL_2003_READ),
    "iob1.conll": (CONLL_2003_IOB1, CONLL_2003_READ),
    "conll2003-crlf.conll": (CONLL_2003.replace("\n", "\r\n"), CONLL_2003_READ),
    "bom.conll": ("\ufeff" + CONLL_2003, CONLL_2003_READ),
    "wnut.conll": (WNUT, WNUT_READ),
    "wnut.tsv": (WNUT, WNUT_READ),
    "germeval.tsv": (GERMEVAL, GERMEVAL_READ),
    "germeval.conll": (GERMEVAL, GERMEVAL_READ),
    "multiconer.conll": (MULTICONER, MULTICONER_READ),
    "label-studio.conll": (LABEL_STUDIO, LABEL_STUDIO_READ),
    "kaggle.csv": (KAGGLE, KAGGLE_READ),
    "kaggle-ids.csv": ("sentence_id,word,tag\n1,a,X\n1,b,Y\n2,c,X\n", [[("a", "X"), ("b", "Y")], [("c", "X")]]),
    "ids.tsv": ("sentence_id\tword\ttag\n1\ta\tX\n1\tb\tY\n2\tc\tX\n", [[("a", "X"), ("b", "Y")], [("c", "X")]]),
    "documents.csv": (
        "doc_idx,sent_idx,token,label\n0,0,a,X\n0,0,b,Y\n1,0,c,X\n1,1,d,Y\n",
        [[("a", "X"), ("b", "Y")], [("c", "X")], [("d", "Y")]],
    ),
    "empty-rows.csv": ("Word,Tag\na,X\nb,Y\n,\nc,X\n", [[("a", "X"), ("b", "Y")], [("c", "X")]]),
    "empty-lines.csv": ("Word,Tag\na,X\nb,Y\n\nc,X\n", [[("a", "X"), ("b", "Y")], [("c", "X")]]),
    "header.conll": ("word tag\na X\nb Y\n\nc X\n", [[("a", "X"), ("b", "Y")], [("c", "X")]]),
    "header.tsv": ("token\tlabel\na\tX\nb\tY\n\nc\tX\n", [[("a", "X"), ("b", "Y")], [("c", "X")]]),
    "header-order.tsv": ("ner\tpos\ttoken\nX\tN\ta\nY\tN\tb\n\nX\tN\tc\n", [[("a", "X"), ("b", "Y")], [("c", "X")]]),
    "index.conll": ("1 Anna B-PER\n2 lives O\n\n1 Bye O\n", [[("Anna", "B-PER"), ("lives", "O")], [("Bye", "O")]]),
    "no-break.conll": (
        "New\u00a0York\tB-LOC\n\u3000\tO\n5\u00a0000 km\tO\n\u2028\x85x\tO\n",
        [[("New\u00a0York", "B-LOC"), ("\u3000", "O"), ("5\u00a0000 km", "O"), ("\u2028\x85x", "O")]],
    ),
    "no-break-spaces.conll": ("5\u00a0000 X\nkm Y\n", [[("5\u00a0000", "X"), ("km", "Y")]]),
    "mixed.conll": (
        "Anna\tB-PER\nlives O\nin  O\n \t \nOslo \t B-LOC\n",
        [[("Anna", "B-PER"), ("lives", "O"), ("in", "O")], [("Oslo", "B-LOC")]],
    ),
    "klue.tsv": (
        "## klue-ner-v1_train_00000-nsmc\t<또:PS> 갔\n또\tB-PS\n \tO\n갔\tO\n\n"
        "## klue-ner-v1_train_00001\t<a:PS>\na\tB-PS\n",
        [[("또", "B-PS"), (" ", "O"), ("갔", "O")], [("a", "B-PS")]],
    ),
    "aligned.conll": ("Anna\t\t\tB-PER\nlives\t\tO\nin\tO\n", [[("Anna", "B-PER"), ("lives", "O"), ("in", "O")]]),
    "mixed-columns.conll": (
        "Anna NNP\tB-PER\nlives\tVBZ O\nin IN O\n",
        [[("Anna", "B-PER"), ("lives", "O"), ("in", "O")]],
    ),
    "trailing.conll": (
        "Anna\tB-PER\t\nlives\tO \n \nin\tO\n",
        [[("Anna", "B-PER"), ("lives", "O")], [("in", "O")]],
    ),
    "newdoc.conll": (
        "# newdoc\na X\n# O\n\n#tag O\nb X\n\n# X\n",
        [[("a", "X"), ("#", "O")], [("#tag", "O"), ("b", "X")], [("#", "X")]],
    ),
}


class TestShapes:
    @pytest.mark.parametrize("name", SHAPES)
    def test_words_and_tags(self, tmp_path, name, streaming):
        content, expected = SHAPES[name]
        file = write(tmp_path / name, content)
        corpus = load(file, streaming=streaming)
        assert read(corpus) == read(corpus, "validation") == expected
        assert corpus.num_rows == {"train": len(expected), "validation": len(expected)}
        assert corpus.label_names == sorted({tag for sentence in expected for _, tag in sentence})
        # A trained model is evaluated alike.
        labels = corpus.label_names
        tested = load(file, ("test",), labels, test_file=file, streaming=streaming)
        assert read(tested, "test") == expected

    def test_which_columns_are_read_is_said(self, tmp_path, messages, streaming):
        file = write(tmp_path / "a.conll", CONLL_2003)
        load(file, streaming=streaming)
        (said,) = [message for message in messages() if "4 columns" in message]
        assert said.startswith(
            f"{file} has 4 columns. Column 1 is taken for the words, such as 'EU', and column 4, the last, for the "
            "tags, such as 'B-ORG'. For others, name all columns with --dataset_kwargs"
        )
        file = write(tmp_path / "b.tsv", GERMEVAL)
        load(file, streaming=streaming)
        assert "Column 2 is taken for the words, such as 'Aufgrund', and column 3, the outer of nested spans, for" in (
            "".join(messages())
        )
        file = write(tmp_path / "c.conll", "word tag\na X\nb Y\n")
        load(file, streaming=streaming)
        assert f"{file}: the first line, 'word', 'tag', names the columns, and is no word." in messages()

    def test_other_columns_can_be_chosen(self, tmp_path, streaming):
        file = write(tmp_path / "a.conll", CONLL_2003)
        corpus = load(file, tags_column="column_2", streaming=streaming)
        assert corpus.label_names == [".", "CD", "JJ", "NN", "NNP", "VBZ"]
        corpus = load(file, auxiliary_tags_column="column_3", streaming=streaming)
        assert corpus.auxiliary_names == ["B-NP", "B-VP", "I-NP", "O"]
        file = write(tmp_path / "a.csv", KAGGLE)
        corpus = load(file, tags_column="POS", tokens_column="Word", streaming=streaming)
        assert "NNS" in corpus.label_names
        assert [[word for word, _ in one] for one in read(corpus)] == [[word for word, _ in one] for one in KAGGLE_READ]
        names = ["tokens", "pos", "tags", "ner"]
        corpus = load(
            write(tmp_path / "b.conll", CONLL_2003),
            dataset_kwargs=json.dumps({"column_names": names}),
            streaming=streaming,
        )
        assert corpus.label_names == ["B-NP", "B-VP", "I-NP", "O"]

    def test_validation_is_read_as_training(self, tmp_path, streaming):
        """Its own last column would be refused, or another one taken."""
        train, dev = write(tmp_path / "a.tsv", GERMEVAL), "1\tBerlin\tB-LOC\tO\n\n"
        corpus = load(train, validation_file=write(tmp_path / "b.tsv", dev), streaming=streaming)
        assert read(corpus, "validation") == [[("Berlin", "B-LOC")]]

    @pytest.mark.parametrize(("ending", "compress"), [("gz", gzip), ("bz2", bz2), ("xz", lzma)])
    def test_compressed(self, tmp_path, streaming, ending, compress):
        file = write(tmp_path / f"a.conll.{ending}", compress.compress(CONLL_2003.encode()))
        assert read(load(file, streaming=streaming)) == CONLL_2003_READ

    def test_archive(self, tmp_path, streaming):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("a.conll", CONLL_2003)
            archive.writestr("b.conll", "x NN O O\n")
        corpus = load(str(tmp_path / "a.zip"), dataset_format="conll", streaming=streaming)
        assert read(corpus) == [*CONLL_2003_READ, [("x", "O")]]

    def test_pattern(self, tmp_path, streaming):
        for name in "ab":
            write(tmp_path / f"{name}.conll", f"word tag\n{name} X\n{name}{name} Y")
        corpus = load(str(tmp_path / "*.conll"), streaming=streaming)
        assert read(corpus) == [[("a", "X"), ("aa", "Y")], [("b", "X"), ("bb", "Y")]]
        write(tmp_path / "b.conll", "b X\nc\n")
        message = refusal(str(tmp_path / "*.conll"), streaming=streaming)
        assert message == f"{tmp_path / 'b.conll'}, line 2: the word 'c' has no tag. Give it one."

    def test_address(self, tmp_path, streaming):
        write(tmp_path / "a.conll", CONLL_2003)
        assert read(load(f"file://{tmp_path}/a.conll", streaming=streaming)) == CONLL_2003_READ

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8"])
    def test_conllu_with_a_byte_order_mark(self, tmp_path, streaming, encoding):
        rows = [f"{index}\t{form}\t_\t{tag}" + "\t_" * 6 for index, form, tag in [(1, "a\u2028b", "X"), (2, "#", "Y")]]
        file = write(tmp_path / "a.conllu", "\ufeff" + "\n".join(rows) + "\n\n")
        corpus = load(file, dataset_kwargs={"encoding": encoding}, streaming=streaming)
        assert read(corpus) == [[("a\u2028b", "X"), ("#", "Y")]]

    def test_encodings(self, tmp_path, streaming):
        file = write(tmp_path / "a.conll", "café X\nthé Y\n".encode("latin-1"))
        message = refusal(file, streaming=streaming)
        assert "a.conll, line 1: the byte 0xe9 is not UTF-8" in message
        assert '{"encoding": "cp1252"}' in message
        corpus = load(file, dataset_kwargs={"encoding": "latin-1"}, streaming=streaming)
        assert read(corpus) == [[("café", "X"), ("thé", "Y")]]
        file = write(tmp_path / "b.conll", "café X\nthé Y\n".encode("utf-16"))
        assert "b.conll is written in UTF-16. Say" in refusal(file, streaming=streaming)
        assert read(load(file, dataset_kwargs={"encoding": "utf-16"}, streaming=streaming)) == read(corpus)

    def test_a_changed_file_is_read_anew(self, tmp_path):
        for tag in ("X", "Y", "Z"):
            file = write(tmp_path / "a.conll", f"a {tag}\nb W\n")
            assert read(load(file)) == [[("a", tag), ("b", "W")]]

    def test_delimiter(self, tmp_path, streaming):
        file = write(tmp_path / "a.conll", "New\u00a0York,X\nis,Y\n")
        assert "If ',' separates columns, say --dataset_kwargs '{\"delimiter\": \",\"}'" in refusal(file)
        corpus = load(file, dataset_kwargs={"delimiter": ","}, streaming=streaming)
        assert read(corpus) == [[("New\u00a0York", "X"), ("is", "Y")]]

    def test_a_stream_takes_little_memory(self, tmp_path):
        rows, _ = load_conll(write(tmp_path / "a.conll", "a X\nb Y\n\n" * 100_000), "a.conll", {}, streaming=True)
        assert next(iter(rows)) == {"tokens": ["a", "b"], "tags": ["X", "Y"]}
        assert sum(1 for _ in rows) == 100_000


class TestRefused:
    NAMES = 'name all columns with --dataset_kwargs \'{"column_names": ['

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (
                "a X\nb Y Z\nc Z\n",
                ", line 2: 3 columns in place of 2: 'b', 'Y', 'Z'. Correct it, or say what separates",
            ),
            ("a X\n\tY\n", ", line 2: there is no word, but '', 'Y'."),
            ("Anna\tX\nNew York\t\nlives\tX\nNew\tY\n", ", line 2: the word 'New York' has no tag."),
            ("New York\tX\nSan Juan\nlives\tY\n", ", line 2: no tab, as in other lines, but 'San Juan'. Give the word"),
            ("a\tX\nb\tY\n" * 9 + "San Juan\nc\tX\n", ", line 19: no tab, as in other lines, but 'San Juan'."),
            ("a\nb\n", " has no column of tags: its lines have one column, such as 'a'."),
            ("a X\nb Y\nhashtag\n", ", line 3: the word 'hashtag' has no tag."),
            ("a X\n\n#hashtag\nb Y\n", ", line 3: the word '#hashtag' has no tag. If it is a comment, say so with"),
            ("a X\nb Y\n# a comment here\nc X\n", ", line 3: 4 columns in place of 2"),
            ("a X\n\n# Y\nc X\n", ", line 3 may be a comment, or a word with the tag 'Y': say with --dataset_kwargs"),
            ("a N X\nb V X\nc V X\n", " has 3 columns; the last holds 'X' alone. Name all columns with"),
            ("a B-PER N\nb I-PER V\nc O V\n", " has 3 columns; the last marks no spans, but another does. Name all"),
            ("1 a X\n1 b Y\n\n2 c X\n", " has 3 columns, and the first holds no words but '1', '2'. Name all columns"),
            ("f a X\nf b Y\n\nf c X\n", " has 3 columns, and the first holds no words but 'f'. Name all columns"),
            ("a N\tX\nb V\tY\nc V\tX\n", " has 2 columns if tabs alone separate them, but 3 if spaces do too."),
            ("1\ta\ta\tN\t_\t_\t0\t_\t_\t_\n", "say --dataset_format conllu if it is CoNLL-U, or name all columns"),
            ("\u00a0\t\nb\tX\nc\tX\n", ", line 1: the word '\\xa0' has no tag."),
        ],
    )
    def test_layouts(self, tmp_path, content, said, streaming):
        file = write(tmp_path / "a.conll", content)
        message = refusal(file, streaming=streaming)
        assert message.startswith(file)
        assert said in message

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ("word,tag\na,X\nb,Y\nc,X\n", "nothing that says which rows make a sentence. Add a column sentence_id, or"),
            ("w,t\na,X\nb,Y\n", "the first line, 'w', 't', names no columns of words and tags. Name them with"),
            (
                "sentence_id,word,tag\n1,a,X\n2,b,Y\n1,c,X\n2,d,Y\n",
                "the words of a sentence do not follow each other: ",
            ),
            ("sentence_id,word,tag\n1,a,X\n1,b\n", ", line 3: 2 columns in place of 3"),
            ('sentence_id,word,tag\n1,a,X\n1,"b,Y\n', ", line 3: unexpected end of data"),
            ("sentence_id,word,tag\n1,a,X\n1,b,\n", ", row 1: the word 'b' has no tag"),
        ],
    )
    def test_tables(self, tmp_path, content, said, streaming):
        file = write(tmp_path / "a.csv", content)
        message = refusal(file, streaming=streaming)
        assert message.startswith(file)
        assert said in message

    def test_columns_of_a_table_can_be_named(self, tmp_path, streaming):
        expected = [[("a", "X"), ("b", "Y")], [("c", "X")]]
        file = write(tmp_path / "a.csv", "sent_id;w;t\n1;a;X\n1;b;Y\n2;c;X\n")
        options = {"dataset_kwargs": {"sep": ";"}, "streaming": streaming}
        assert read(load(file, tokens_column="w", tags_column="t", **options)) == expected
        file = write(tmp_path / "b.csv", "1,a,X\n1,b,Y\n2,c,X\n")
        options["dataset_kwargs"] = {"column_names": ["sentence_id", "tokens", "tags"]}
        assert read(load(file, **options)) == expected

    def test_columns_that_are_named_must_be_there(self, tmp_path, streaming):
        options = {"dataset_kwargs": {"column_names": ["tokens", "pos", "tags"]}, "streaming": streaming}
        file = write(tmp_path / "a.conll", CONLL_2003)
        assert refusal(file, **options).startswith(
            f"{file}, line 3: 4 columns in place of 3: 'EU', 'NNP', 'B-NP', 'B-ORG'"
        )
        file = write(tmp_path / "b.conll", "a X\n")
        assert refusal(file, **options).startswith(f"{file}, line 1: 2 columns in place of 3: 'a', 'X'.")

    def test_comments_can_be_said(self, tmp_path, streaming):
        file = write(tmp_path / "a.conll", "a X\nb Y\n\n# Y\nc X\n# this too\nd X\n")
        corpus = load(file, dataset_kwargs={"comment_prefix": "#"}, streaming=streaming)
        assert read(corpus) == [[("a", "X"), ("b", "Y")], [("c", "X"), ("d", "X")]]

    def test_no_comments_can_be_said(self, tmp_path, streaming):
        file = write(tmp_path / "a.conll", "a X\n\n# Y\nc X\n")
        corpus = load(file, dataset_kwargs={"comment_prefix": None}, streaming=streaming)
        assert read(corpus) == [[("a", "X")], [("#", "Y"), ("c", "X")]]

    def test_unknown_options(self, tmp_path):
        file = write(tmp_path / "a.conll", "a X\n")
        assert refusal(file, dataset_kwargs={"sep": ","}) == (
            "--dataset_kwargs: reading conll has no option 'sep'. It has 'column_names', 'delimiter', 'encoding', "
            "'encoding_errors', 'skip_docstart', 'comment_prefix'."
        )


WORDS = ["Anna", "lives", "in", "New", "York", "#", "#tag", ".", "1", "5\u00a0km", "-", "_", "O", "B-PER", '"', "the"]
clean_corpora = st.integers(0, 10**9)


def test_tags_may_stand_first(tmp_path, messages):
    file = write(tmp_path / "a.conll", "B-PER\tAnna\nO\tlives\n\nO\tin\nB-LOC\tOslo\n")
    assert read(load(file)) == [[("Anna", "B-PER"), ("lives", "O")], [("in", "O"), ("Oslo", "B-LOC")]]
    assert any("the first column marks spans" in one for one in messages())


def test_words_that_look_like_tags_stay_words(tmp_path):
    file = write(tmp_path / "a.conll", "O O\nB O\n\nI B-LOC\n")
    assert read(load(file)) == [[("O", "O"), ("B", "O")], [("I", "B-LOC")]]


def test_lines_with_marks_of_documents_as_in_jnlpba_are_comments(tmp_path):
    file = write(tmp_path / "a.iob2", "###MEDLINE:95369245\n\nIL-2\tB-DNA\ngene\tI-DNA\n\n###MEDLINE:1\n\na\tO\n")
    assert read(load(file)) == [[("IL-2", "B-DNA"), ("gene", "I-DNA")], [("a", "O")]]


def test_lines_without_sentences_are_refused(tmp_path):
    message = refusal(write(tmp_path / "a.conll", "Anna B-PER\nlives O\n" * 600))
    assert message.endswith(
        "1,200 words, but nothing that says which make a sentence. Put an empty line after each sentence."
    )
    load(write(tmp_path / "b.conll", "Anna B-PER\nlives O\n" * 300))


def test_types_without_marks(tmp_path, messages):
    file = write(tmp_path / "a.conll", "in O\nNew LOC\nYork LOC\n\nI O\nsaw O\nAnna PER\n\nso O\n")
    assert load(file).label_names == ["LOC", "O", "PER"]
    assert any("say --tag_scheme io" in one for one in messages())
    corpus = load(file, tag_scheme="io")
    assert read(corpus)[0] == [("in", "O"), ("New", "B-LOC"), ("York", "I-LOC")]
    assert corpus.tag_scheme == "IO, written as TYPE"
    test = load(test_file=file, file="", needed=("test",), label_names=corpus.label_names)  # a model says what it is
    assert read(test, "test") == read(corpus)


def test_words_joined_to_their_tags_are_refused(tmp_path):
    message = refusal(write(tmp_path / "a.conll", "Anna/NNP lives/VBZ\n\nBye/UH now/RB ./.\n"))
    assert "'/' joins each word to its tag, as in" in message
    assert 'delimiter": "/"' in refusal(write(tmp_path / "b.conll", "Anna/NNP\nlives/VBZ\n"))


def test_an_underscore_that_says_there_is_no_tag(tmp_path, messages):
    load(write(tmp_path / "a.conll", "Anna NN\nlives _\n\nBye UH\n"))
    assert any("row 1: column 'tags' holds '_', which is a label as the others are" in one for one in messages())


def test_brackets_of_conll_2012_are_refused(tmp_path):
    message = refusal(write(tmp_path / "a.conll", "New (GPE*\nYork *)\n\nAnna (PERSON)\nlives *\n"))
    assert "row 1: the tag '(GPE*' marks a span with brackets" in message


def clean(seed: int) -> list[list[tuple[str, str]]]:
    source = random.Random(seed)
    sentences = []
    for _ in range(12):
        sentence = []
        for _ in range(source.randint(1, 5)):
            kind, size = source.choice([None, None, "PER", "LOC"]), source.randint(1, 3)
            for position in range(size if kind else 1):
                tag = "O" if kind is None else f"{'I' if position else 'B'}-{kind}"
                sentence.append((source.choice(WORDS), tag))
        sentences.append(sentence)
    telling = [
        ("Ann", "B-PER"),
        ("Lee", "I-PER"),
        ("#", "O"),
        ("#a", "B-LOC"),
        ("#", "B-PER"),
        ("#", "I-PER"),
        ("b", "I-PER"),
    ]
    return [telling, *sentences, [("in", "O"), ("#", "B-LOC"), ("x", "I-LOC"), ("y", "B-PER")]]


def mutate(sentences: list[list[tuple[str, str]]], source: random.Random) -> str:
    """Write a corpus in one of the many ways that files are written in."""
    separator = source.choice(["\t", " ", "  ", "\t\t", " \t"])
    columns = source.choice(["two", "pos", "label-studio", "conll2003", "index", "germeval"])
    mark = source.choice(
        [lambda tag: tag, lambda tag: tag.replace("-", "_"), lambda tag: "-".join(tag.split("-")[::-1])]
    )
    comment = source.choice(
        [None, None, "# sent_id = 1 of 9 in all", "# id 1\tdomain=en and more", "#\thttp://a.b/c d e f g"]
    )
    header = source.choice([None, None, True])
    end = source.choice(["\n", "\r\n"])
    blank = source.choice(["", " ", "\t", " \t "])
    tags = ["N", "V", "A"]

    def row(position: int, word: str, tag: str) -> list[str]:
        return {
            "two": [word, mark(tag)],
            "pos": [word, source.choice(tags), mark(tag)],
            "label-studio": [word, "-X-", "_", mark(tag)],
            "conll2003": [word, source.choice(tags), source.choice(["B-NP", "O"]), mark(tag)],
            "index": [str(position), word, mark(tag)],
            "germeval": [str(position), word, mark(tag), source.choice(["O", mark("B-LOC")])],
        }[columns]

    lines = []
    if header and columns == "two":
        lines.append(separator.join(source.choice([["word", "tag"], ["Token", "Label"]])))
    for sentence in sentences:
        if source.random() < 0.1:
            lines += ["-DOCSTART-" + source.choice(["", " -X- O O"]), blank]
        if comment is not None:
            lines.append(comment)
        lines += [separator.join(row(position, *one)) for position, one in enumerate(sentence, 1)]
        lines += [blank] * source.choice([1, 1, 2])
    return source.choice(["", "\ufeff"]) + end.join(lines) + source.choice(["", end])


class TestMutations:
    @given(clean_corpora, st.integers(0, 10**9))
    @few(120)
    def test_what_is_written_is_read(self, tmp_path_factory, seed, way):
        sentences = clean(seed)
        file = write(tmp_path_factory.mktemp("m") / "a.conll", mutate(sentences, random.Random(way)))
        try:
            corpus = load(file, streaming=True)
        except ValueError as error:
            assert str(error).startswith(file)  # noqa: PT017
            return
        assert read(corpus) == sentences
