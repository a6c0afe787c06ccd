"""Loading, checking and encoding corpora from files of every format."""

import csv
import gzip
import json
import time
from pathlib import Path

import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features, IterableDataset, List, Value

from rnn_hf import train_tokenizer
from rnn_hf.data.corpus import DataArguments, load_corpus
from rnn_hf.formats.loading import CONLLU_COLUMNS
from rnn_hf.text.encoding import encode_texts
from rnn_hf.text.raw_text import words_kept_whole

CLASSIFY, TAG = "text-classification", "token-classification"
BINARY = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(256)) * 4

REVIEWS = [
    ("이 영화 정말 재미있어요!", "good"),
    ("시간이 아까운 영화...", "bad"),
    ('She said "great, really", twice.', "good"),
    ("A line\nand another one", "bad"),
    ("NA", "good"),
    ("null", "bad"),
    ("None", "good"),
    ("nan", "bad"),
    ("tab\tand; semicolon, comma", "good"),
    ("café 🙂", "bad"),
    ("Good good GOOD", "good"),
    ("bad bad bad", "bad"),
]
TEXT_ROWS = [{"text": text, "label": label} for text, label in REVIEWS]
TAGGED = [
    (["東京", "に", "行く"], ["PROPN", "ADP", "VERB"]),
    (["犬", "が", "犬", "を", "見た"], ["NOUN", "ADP", "NOUN", "ADP", "VERB"]),
    (["null", "NA", "#", '"'], ["X", "X", "SYM", "PUNCT"]),
    (["New", "York"], ["PROPN", "PROPN"]),
]
WORD_ROWS = [{"tokens": words, "tags": tags} for words, tags in TAGGED * 3]


def write(path: Path, content: str | bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def json_lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def conllu(sentences: list[list[tuple[str, str, str]]]) -> str:
    """Each word is its id, form and part of speech."""
    lines = []
    for words in sentences:
        lines += ["# text = a comment", *("\t".join([i, form, "_", tag, *"______"]) for i, form, tag in words), ""]
    return "\n".join(lines) + "\n"


def save(rows: list[dict], path: Path) -> str:
    """Write rows in the format that the file's name tells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = path.suffix.lower()
    if ending in (".csv", ".tsv"):
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if ending == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    elif ending in (".jsonl", ".ndjson"):
        write(path, json_lines(rows))
    elif ending == ".json":
        write(path, json.dumps(rows, indent=1))
    elif ending == ".parquet":
        Dataset.from_list(rows).to_parquet(path)
    elif ending == ".arrow":
        table = pa.Table.from_pylist(rows)
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)
    elif ending in (".conll", ".iob2"):
        sentences = ["".join(f"{w} {t}\n" for w, t in zip(r["tokens"], r["tags"], strict=True)) for r in rows]
        write(path, "\n".join(sentences))
    elif ending == ".conllu":
        write(path, conllu([[(str(i), *pair) for i, pair in enumerate(zip(*r.values()), 1)] for r in rows]))  # noqa: B905
    return str(path)


def load(task=CLASSIFY, *, problem_type=None, label_names=None, needed=("train", "validation"), **arguments):
    return load_corpus(DataArguments(**arguments), task, problem_type, label_names, needed)


def load_with_validation(file: str, task=CLASSIFY, **arguments):
    """Load a file for training and validation, so that no row moves from one to the other."""
    return load(task, train_file=file, validation_file=file, **arguments)


def numbered(count: int, labels=("a", "b")) -> list[dict]:
    return [{"text": f"text {position}", "label": labels[position % len(labels)]} for position in range(count)]


def texts(corpus) -> dict[str, list[str]]:
    return {name: list(corpus.inputs(name)) for name in corpus.splits}


def all_texts(corpus) -> list[str]:
    return [text for part in texts(corpus).values() for text in part]


def refusal(task=CLASSIFY, **arguments) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        load(task, **arguments)
    return str(error.value)


def refusal_of(file: str, **arguments) -> str:
    return refusal(train_file=file, validation_file=file, **arguments)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([text for text, _ in REVIEWS], "bpe", vocab_size=400)


@pytest.fixture(scope="module", params=["wordpiece", "bpe"])
def japanese_tokenizer(request, japanese_sentences):
    words = [[word[0] for word in sentence] for sentence in japanese_sentences[:100]]
    return train_tokenizer(words, request.param, vocab_size=600, is_split_into_words=True)


class TestFormats:
    TEXT_FILES = ("a.csv", "a.CSV", "a.tsv", "a.json", "a.jsonl", "a.ndjson", "a.parquet", "a.arrow")
    WORD_FILES = ("a.json", "a.jsonl", "a.parquet", "a.arrow", "a.conll", "a.iob2", "a.conllu")

    @pytest.mark.parametrize("name", TEXT_FILES)
    def test_texts(self, tmp_path, tokenizer, name, streaming):
        corpus = load_with_validation(save(TEXT_ROWS, tmp_path / name), streaming=streaming)
        assert corpus.task == CLASSIFY
        assert corpus.label_names == ["bad", "good"]
        assert corpus.problem_type == "single_label_classification"
        assert corpus.num_rows == {"train": 12, "validation": 12}
        assert texts(corpus) == {name: [text for text, _ in REVIEWS] for name in ("train", "validation")}
        encoded = corpus.encode(tokenizer)
        assert isinstance(encoded["train"], IterableDataset if streaming else Dataset)
        assert isinstance(encoded["validation"], Dataset)
        for split in encoded.values():
            assert list(split) == [
                {"input_ids": tokenizer(text)["input_ids"], "labels": int(label == "good")} for text, label in REVIEWS
            ]

    @pytest.mark.parametrize("name", WORD_FILES)
    def test_words(self, tmp_path, tokenizer, name, streaming):
        corpus = load_with_validation(save(WORD_ROWS, tmp_path / name), TAG, streaming=streaming)
        assert corpus.task == TAG
        assert corpus.label_names == ["ADP", "NOUN", "PROPN", "PUNCT", "SYM", "VERB", "X"]
        assert corpus.num_rows == {"train": 12, "validation": 12}
        assert texts(corpus)["train"] == [row["tokens"] for row in WORD_ROWS]
        encoded = corpus.encode(tokenizer)
        for row, source in zip(encoded["train"], WORD_ROWS, strict=True):
            assert [corpus.label_names[label] for label in row["labels"] if label != -100] == source["tags"]
        assert list(encoded["validation"]) == list(encoded["train"])

    @pytest.mark.parametrize("name", [*TEXT_FILES[:1], *WORD_FILES])
    def test_format_can_be_said_where_the_name_does_not_tell(self, tmp_path, name):
        task, rows = (CLASSIFY, TEXT_ROWS) if name == "a.csv" else (TAG, WORD_ROWS)
        file = Path(save(rows, tmp_path / name)).rename(tmp_path / "corpus.txt")
        dataset_format = {"jsonl": "json", "iob2": "conll"}.get(name[2:], name[2:])
        corpus = load_with_validation(str(file), task, dataset_format=dataset_format)
        assert texts(corpus)["train"] == [row["text" if task == CLASSIFY else "tokens"] for row in rows]

    def test_columns_can_be_named(self, tmp_path, streaming):
        rows = [
            {"id": position, "stars": row["label"], "review": row["text"]} for position, row in enumerate(TEXT_ROWS)
        ]
        file = save(rows, tmp_path / "a.jsonl")
        corpus = load(train_file=file, text_column="review", label_column="stars", streaming=streaming)
        assert (corpus.input_column, corpus.label_column) == ("review", "stars")
        words = [{"words": row["tokens"], "ner": row["tags"]} for row in WORD_ROWS]
        file = save(words, tmp_path / "b.jsonl")
        corpus = load(TAG, train_file=file, tokens_column="words", tags_column="ner", streaming=streaming)
        assert (corpus.input_column, corpus.label_column) == ("words", "ner")

    def test_pattern_names_several_files(self, tmp_path, streaming):
        save(numbered(20)[:8], tmp_path / "part-1.jsonl")
        save(numbered(20)[8:], tmp_path / "part-2.jsonl")
        corpus = load_with_validation(str(tmp_path / "part-*.jsonl"), streaming=streaming)
        assert texts(corpus)["train"] == [row["text"] for row in numbered(20)]

    def test_file_name_with_a_pattern_mark(self, tmp_path, streaming):
        corpus = load_with_validation(save(numbered(4), tmp_path / "fold[1].csv"), streaming=streaming)
        assert corpus.num_rows["train"] == 4

    def test_compressed_file(self, tmp_path, streaming):
        file = write(tmp_path / "a.csv.gz", gzip.compress(b"text,label\none,a\ntwo,b\n"))
        corpus = load_with_validation(file, dataset_format="csv", streaming=streaming)
        assert texts(corpus)["train"] == ["one", "two"]

    def test_byte_order_mark_is_no_part_of_a_column_name(self, tmp_path):
        file = write(tmp_path / "a.csv", "\ufefftext,label\none,a\ntwo,b\n")
        assert load_with_validation(file).label_names == ["a", "b"]

    def test_csv_with_another_separator(self, tmp_path):
        file = write(tmp_path / "a.csv", "text;label\none, two;a\nthree;b\n")
        assert texts(load_with_validation(file, dataset_kwargs='{"sep": ";"}'))["train"] == ["one, two", "three"]

    def test_options_may_be_a_mapping(self, tmp_path):
        file = write(tmp_path / "a.csv", "text;label\none, two;a\nthree;b\n")
        assert texts(load_with_validation(file, dataset_kwargs={"sep": ";"}))["train"] == ["one, two", "three"]

    def test_csv_without_a_header(self, tmp_path):
        file = write(tmp_path / "a.csv", "one,a\ntwo,b\n")
        corpus = load_with_validation(file, dataset_kwargs='{"column_names": ["text", "label"]}')
        assert texts(corpus)["train"] == ["one", "two"]

    def test_stray_quotes_are_text_under_quoting_3(self, tmp_path, streaming):
        rows = [("1", '"아 더빙.. 진짜', "0"), ("2", '재밌"다', "1"), ("3", '""너무"', "1"), ("4", "NA", "0")]
        content = "id\tdocument\tlabel\n" + "".join("\t".join(row) + "\n" for row in rows)
        corpus = load_with_validation(
            write(tmp_path / "ratings.txt", content),
            dataset_format="tsv",
            text_column="document",
            dataset_kwargs='{"quoting": 3}',
            streaming=streaming,
        )
        assert texts(corpus)["train"] == [text for _, text, _ in rows]
        assert corpus.label_names == ["0", "1"]

    def test_json_rows_inside_a_field(self, tmp_path):
        file = write(tmp_path / "a.json", json.dumps({"version": 1, "data": numbered(4)}))
        assert load_with_validation(file, dataset_kwargs='{"field": "data"}').num_rows["train"] == 4

    def test_conll_columns(self, tmp_path, streaming):
        file = write(tmp_path / "a.conll", "EU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\n\nGerman JJ B-NP B-MISC\n")
        corpus = load_with_validation(
            file, TAG, dataset_kwargs='{"column_names": ["tokens", "pos", "chunk", "tags"]}', streaming=streaming
        )
        assert texts(corpus)["train"] == [["EU", "rejects"], ["German"]]
        assert corpus.label_names == ["B-MISC", "B-ORG", "O"]

    def test_tags_of_a_second_kind(self, tmp_path, streaming):
        file = write(tmp_path / "a.conll", "EU NNP B-ORG\nrejects VBZ O\n\n\nGerman JJ B-MISC\n")
        options = {"dataset_kwargs": '{"column_names": ["tokens", "pos", "tags"]}', "streaming": streaming}
        corpus = load_with_validation(file, TAG, auxiliary_tags_column="pos", **options)
        assert corpus.auxiliary_names == ["JJ", "NNP", "VBZ"]
        tokenizer = train_tokenizer(corpus.inputs("train"), "word", min_frequency=1, is_split_into_words=True)
        encoded = corpus.encode(tokenizer)
        assert [row["auxiliary_tags"] for row in encoded["train"]] == [[1, 2, -100], [0, -100]]
        assert "auxiliary_tags" not in next(iter(encoded["validation"]))
        with pytest.raises(ValueError, match=r"no column 'xpos'.*--auxiliary_tags_column"):
            load_with_validation(file, TAG, auxiliary_tags_column="xpos", **options)

    @pytest.mark.parametrize("line_end", ["\n", "\r\n"])
    def test_conllu_leaves_out_comments_multiword_tokens_and_empty_nodes(self, tmp_path, streaming, line_end):
        words = [
            ("1-2", "vámonos", "_"),
            ("1", "vamos", "VERB"),
            ("2", "nos", "PRON"),
            ("2.1", "nosotros", "PRON"),
            ("3", "a  New York", "PROPN"),
        ]
        content = conllu([words, [("1", "#", "SYM")]]).replace("\n", line_end)
        corpus = load_with_validation(write(tmp_path / "a.conllu", content), TAG, streaming=streaming)
        assert texts(corpus)["train"] == [["vamos", "nos", "a  New York"], ["#"]]
        assert corpus.label_names == ["PRON", "PROPN", "SYM", "VERB"]

    def test_conllu_column_can_be_chosen(self, tmp_path):
        lines = [
            ["1", "dogs", "dog", "NOUN", "NNS", "_", "0", "root", "_", "_"],
            ["2", "run", "run", "VERB", "VBP", "_", "1", "x", "_", "_"],
        ]
        file = write(tmp_path / "a.conllu", "\n".join("\t".join(line) for line in lines) + "\n\n")
        for column in ("lemma", "upos", "xpos", "deprel"):
            corpus = load_with_validation(file, TAG, tags_column=column)
            assert corpus.label_names == [line[CONLLU_COLUMNS.index(column)] for line in lines]

    def test_folder_is_a_dataset(self, tmp_path, tokenizer, streaming):
        rows = numbered(12)
        for name, part in {"train": rows[:6], "dev": rows[6:8], "test": rows[8:]}.items():
            save(part, tmp_path / f"{name}.jsonl")
        corpus = load(dataset_name=str(tmp_path), streaming=streaming)
        assert corpus.num_rows == {"train": 6, "validation": 2, "test": 4}
        assert all_texts(corpus) == [row["text"] for row in rows]
        assert [row["labels"] for row in corpus.encode(tokenizer)["test"]] == [0, 1, 0, 1]


class TestLabels:
    def labels(self, tmp_path, tokenizer, values, name="a.jsonl", **arguments):
        file = save(
            [{"text": f"text {position}", "label": value} for position, value in enumerate(values)], tmp_path / name
        )
        corpus = load_with_validation(file, **arguments)
        assert list(corpus.encode(tokenizer)["train"]) == list(corpus.encode(tokenizer)["validation"])
        return corpus, [row["labels"] for row in corpus.encode(tokenizer)["train"]]

    @pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
    @pytest.mark.parametrize(
        ("values", "names"),
        [
            (["b", "a", "c", "a"], ["a", "b", "c"]),
            ([10, 9, 2, -1, 10], ["-1", "2", "9", "10"]),
            ([True, False, True], ["False", "True"]),
            (["NA", "null", "None"], ["NA", "None", "null"]),
            (["2 stars", "10 stars"], ["10 stars", "2 stars"]),
        ],
    )
    def test_one_label(self, tmp_path, tokenizer, name, values, names, streaming):
        corpus, ids = self.labels(tmp_path, tokenizer, values, name, streaming=streaming)
        assert corpus.problem_type == "single_label_classification"
        assert corpus.label_names == names
        assert ids == [names.index(str(value)) for value in values]

    def test_labels_are_collected_from_every_row(self, tmp_path, streaming):
        file = save([*numbered(2500), {"text": "last", "label": "z"}], tmp_path / "a.csv")
        assert load_with_validation(file, streaming=streaming).label_names == ["a", "b", "z"]

    @pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
    def test_floats_are_a_regression(self, tmp_path, tokenizer, name, streaming):
        corpus, values = self.labels(tmp_path, tokenizer, [1, 2.5, -3.25, 0], name, streaming=streaming)
        assert corpus.problem_type == "regression"
        assert corpus.label_names == ["LABEL_0"]
        assert values == [1.0, 2.5, -3.25, 0.0]

    def test_lists_are_several_labels(self, tmp_path, tokenizer, streaming):
        values = [["joy", "fear"], [], ["anger"], ["joy"]]
        corpus, rows = self.labels(tmp_path, tokenizer, values, streaming=streaming)
        assert corpus.problem_type == "multi_label_classification"
        assert corpus.label_names == ["anger", "fear", "joy"]
        assert rows == [[0.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
        assert all(isinstance(value, float) for row in rows for value in row)

    def test_whole_numbers_can_be_a_regression(self, tmp_path, tokenizer):
        corpus, values = self.labels(tmp_path, tokenizer, [3, 1, 2], problem_type="regression")
        assert (corpus.problem_type, corpus.label_names) == ("regression", ["LABEL_0"])
        assert values == [3.0, 1.0, 2.0]
        assert all(isinstance(value, float) for value in values)

    def test_floats_can_be_classes(self, tmp_path, tokenizer):
        corpus, ids = self.labels(tmp_path, tokenizer, [2.5, 1.0, 2.5], problem_type="single_label_classification")
        assert (corpus.label_names, ids) == (["1.0", "2.5"], [1, 0, 1])

    def test_tags_may_be_numbers(self, tmp_path, tokenizer):
        file = save([{"tokens": ["a", "b"], "tags": [10, 2]}], tmp_path / "a.jsonl")
        corpus = load_with_validation(file, TAG)
        assert corpus.label_names == ["2", "10"]
        assert [label for label in corpus.encode(tokenizer)["train"][0]["labels"] if label != -100] == [1, 0]

    def test_names_of_a_trained_model_keep_their_order(self, tmp_path, tokenizer):
        file = save(numbered(4), tmp_path / "a.csv")
        corpus = load(test_file=file, label_names=["z", "b", "a"], needed=("test",))
        assert corpus.label_names == ["z", "b", "a"]
        assert [row["labels"] for row in corpus.encode(tokenizer)["test"]] == [2, 1, 2, 1]

    def test_those_that_training_data_lacks_can_be_declared(self, tmp_path):
        train = write(tmp_path / "train.jsonl", json_lines([{"text": "x", "label": label} for label in "bdbdbdbd"]))
        test = write(tmp_path / "test.jsonl", json_lines([{"text": "x", "label": "c"}]))
        corpus = load(train_file=train, validation_file=train, test_file=test, additional_labels=["c", "d"])
        assert corpus.label_names == ["b", "c", "d"]


class TestClassLabels:
    """Columns whose labels are numbers with names."""

    def save(self, path, names, values, **columns):
        feature = ClassLabel(names=names)
        if columns:
            features = Features({"tokens": List(Value("string")), "tags": List(feature)})
            rows = {**columns, "tags": values}
        else:
            kind = List(feature) if isinstance(values[0], list) else feature
            features = Features({"text": Value("string"), "label": kind})
            rows = {"text": [f"text {position}" for position in range(len(values))], "label": values}
        Dataset.from_dict(rows, features=features).to_parquet(path)
        return str(path)

    def test_names_are_kept_in_their_order(self, tmp_path, tokenizer, streaming):
        file = self.save(tmp_path / "a.parquet", ["zero", "never seen", "and"], [0, 2, 2])
        corpus = load_with_validation(file, streaming=streaming)
        assert corpus.label_names == ["zero", "never seen", "and"]
        assert [row["labels"] for row in corpus.encode(tokenizer)["train"]] == [0, 2, 2]

    def test_names_of_tags(self, tmp_path, tokenizer, streaming):
        words = [["東京", "に"], ["犬"]]
        file = self.save(tmp_path / "a.parquet", ["O", "B-LOC"], [[1, 0], [0]], tokens=words)
        corpus = load_with_validation(file, TAG, streaming=streaming)
        assert corpus.label_names == ["O", "B-LOC"]
        labels = [row["labels"] for row in corpus.encode(tokenizer)["train"]]
        assert [[label for label in row if label != -100] for row in labels] == [[1, 0], [0]]

    def test_names_of_several_labels(self, tmp_path, tokenizer, streaming):
        file = self.save(tmp_path / "a.parquet", ["joy", "fear"], [[0], [1, 0], []])
        corpus = load_with_validation(file, streaming=streaming)
        assert (corpus.problem_type, corpus.label_names) == ("multi_label_classification", ["joy", "fear"])
        assert [row["labels"] for row in corpus.encode(tokenizer)["train"]] == [[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]

    def test_numbers_can_be_a_regression(self, tmp_path, tokenizer):
        file = self.save(tmp_path / "a.parquet", ["one star", "two stars", "three stars"], [2, 0])
        corpus = load_with_validation(file, problem_type="regression")
        assert corpus.label_names == ["LABEL_0"]
        assert [row["labels"] for row in corpus.encode(tokenizer)["train"]] == [2.0, 0.0]

    def test_another_order_in_validation_and_test_is_mapped_by_name(self, tmp_path, tokenizer, streaming):
        files = {
            "train_file": self.save(tmp_path / "train.parquet", ["neg", "neu", "pos"], [0, 1, 2]),
            "validation_file": self.save(tmp_path / "validation.parquet", ["pos", "neg"], [0, 1]),
            "test_file": save([{"text": "a", "label": "pos"}, {"text": "b", "label": "neu"}], tmp_path / "test.csv"),
        }
        corpus = load(**files, streaming=streaming)
        assert corpus.label_names == ["neg", "neu", "pos"]
        ids = {name: [row["labels"] for row in split] for name, split in corpus.encode(tokenizer).items()}
        assert ids == {"train": [0, 1, 2], "validation": [2, 0], "test": [2, 1]}

    def test_names_survive_holding_out(self, tmp_path, tokenizer, streaming):
        file = self.save(tmp_path / "a.parquet", ["neg", "pos"], [0, 1, 1] * 10)
        encoded = load(train_file=file, streaming=streaming).encode(tokenizer)
        assert sorted(row["labels"] for split in encoded.values() for row in split) == [0] * 10 + [1] * 20

    def test_test_data_without_labels_is_left_out(self, tmp_path, messages, streaming):
        train = self.save(tmp_path / "train.parquet", ["neg", "pos"], [0, 1] * 10)
        test = self.save(tmp_path / "test.parquet", ["neg", "pos"], [-1] * 5)
        corpus = load(train_file=train, validation_file=train, test_file=test, streaming=streaming)
        assert corpus.num_rows == {"train": 20, "validation": 20}
        assert f"{test} has no labels; it is left out." in messages()

    def test_only_withheld_labels_are_left_out(self, tmp_path):
        train = self.save(tmp_path / "train.parquet", ["neg", "pos"], [0, 1] * 10)
        test = self.save(tmp_path / "test.parquet", ["neg", "pos"], [0, -1])
        message = refusal(train_file=train, validation_file=train, test_file=test)
        assert message.startswith(f"{test}, row 2: column 'label' holds no label: -1.")

    @pytest.mark.parametrize("value", [-1, None])
    def test_missing_label(self, tmp_path, value, streaming):
        file = self.save(tmp_path / "a.parquet", ["neg", "pos"], [0, value])
        message = refusal(train_file=file, streaming=streaming)
        assert message == f"{file}, row 2: column 'label' holds no label: {value}. Give it one, or remove the row."

    def test_missing_label_among_several(self, tmp_path):
        file = self.save(tmp_path / "a.parquet", ["neg", "pos"], [[0], [1, None]])
        assert refusal(train_file=file).startswith(f"{file}, row 2: column 'label' holds no label: None.")

    def test_missing_tag(self, tmp_path):
        file = self.save(tmp_path / "a.parquet", ["O", "B-LOC"], [[0, -1]], tokens=[["to", "Rome"]])
        assert refusal(TAG, train_file=file).startswith(f"{file}, row 1: column 'tags' holds no label: -1.")


class TestSplits:
    def test_validation_and_test_are_held_out(self, tmp_path, messages, streaming):
        file = save(numbered(50), tmp_path / "a.csv")
        corpus = load(train_file=file, streaming=streaming)
        assert corpus.num_rows == {"train": 40, "validation": 5, "test": 5}
        assert list(corpus.splits) == ["train", "validation", "test"]
        for name in ("validation", "test"):
            (said,) = [message for message in messages() if message.startswith(f"No {name} data given")]
            assert f"5 rows of {file} are held out for it" in said

    def test_only_validation_is_held_out_where_there_is_a_test(self, tmp_path, messages, streaming):
        file, test = save(numbered(50), tmp_path / "a.csv"), save(numbered(7), tmp_path / "test.csv")
        corpus = load(train_file=file, test_file=test, streaming=streaming)
        assert corpus.num_rows == {"train": 45, "validation": 5, "test": 7}
        assert texts(corpus)["test"] == [row["text"] for row in numbered(7)]
        assert len([message for message in messages() if "held out" in message]) == 1

    def test_nothing_is_held_out_where_there_is_validation(self, tmp_path, messages, streaming):
        corpus = load_with_validation(save(numbered(50), tmp_path / "a.csv"), streaming=streaming)
        assert corpus.num_rows == {"train": 50, "validation": 50}
        assert messages() == []

    def test_nothing_is_held_out_where_validation_is_not_needed(self, tmp_path):
        file = save(numbered(50), tmp_path / "a.csv")
        assert load(train_file=file, needed=("train",)).num_rows == {"train": 50}
        assert load(test_file=file, needed=("test",)).num_rows == {"test": 50}

    @pytest.mark.parametrize("count", [3, 4, 11, 19, 20, 57])
    def test_splits_are_disjoint_and_whole(self, tmp_path, tokenizer, count, streaming):
        corpus = load(train_file=save(numbered(count), tmp_path / "a.csv"), streaming=streaming)
        parts = texts(corpus)
        assert {name: len(part) for name, part in parts.items()} == corpus.num_rows
        assert sorted(all_texts(corpus)) == sorted(row["text"] for row in numbered(count))
        assert min(corpus.num_rows.values()) > 0
        encoded = {name: [row["input_ids"] for row in split] for name, split in corpus.encode(tokenizer).items()}
        assert encoded == {name: tokenizer(part)["input_ids"] for name, part in parts.items()}

    def test_splits_are_the_same_twice(self, tmp_path, streaming):
        file = save(numbered(57), tmp_path / "a.csv")
        first, second = (load(train_file=file, streaming=streaming) for _ in range(2))
        assert texts(first) == texts(second)
        assert texts(first) == texts(first)

    def test_a_sorted_corpus_gives_every_split_every_label(self, tmp_path, tokenizer, streaming):
        rows = sorted(numbered(200), key=lambda row: row["label"])
        corpus = load(train_file=save(rows, tmp_path / "a.csv"), streaming=streaming)
        assert corpus.num_rows == {"train": 160, "validation": 20, "test": 20}
        for split in corpus.encode(tokenizer).values():
            assert {row["labels"] for row in split} == {0, 1}

    def test_first_examples_only(self, tmp_path, streaming):
        file = save(numbered(50), tmp_path / "a.csv")
        corpus = load(train_file=file, max_train_samples=20, streaming=streaming)
        assert corpus.num_rows == {"train": 16, "validation": 2, "test": 2}
        assert set(all_texts(corpus)) == {row["text"] for row in numbered(20)}
        corpus = load_with_validation(file, max_train_samples=20, streaming=streaming)
        assert corpus.num_rows == {"train": 20, "validation": 50}
        assert load_with_validation(file, max_train_samples=99, streaming=streaming).num_rows["train"] == 50

    def test_labels_behind_the_first_examples_do_not_count(self, tmp_path):
        file = save([*numbered(20), {"text": "late", "label": "z"}], tmp_path / "a.csv")
        assert load(train_file=file, max_train_samples=20).label_names == ["a", "b"]


class TestEncoding:
    def test_texts_are_cut_only_where_asked(self, tmp_path, tokenizer, streaming):
        corpus = load_with_validation(save(TEXT_ROWS, tmp_path / "a.jsonl"), streaming=streaming)
        whole, cut = corpus.encode(tokenizer)["train"], corpus.encode(tokenizer, max_length=4)["train"]
        for long, short in zip(whole, cut, strict=True):
            expected = long["input_ids"]
            assert short["input_ids"] == [*expected[:-1][:3], tokenizer.eos_token_id]
        assert max(len(row["input_ids"]) for row in whole) > 20

    def test_texts_are_cut_where_the_tokenizer_says(self, tmp_path, streaming):
        """So that the evaluation of a saved model reads what training read."""
        tokenizer = train_tokenizer([text for text, _ in REVIEWS], "bpe", vocab_size=400)
        tokenizer.model_max_length = 4
        corpus = load_with_validation(save(TEXT_ROWS, tmp_path / "a.jsonl"), streaming=streaming)
        rows = {limit: list(corpus.encode(tokenizer, limit)["validation"]) for limit in (None, 4, 6)}
        assert [row["input_ids"] for row in rows[None]] == encode_texts(tokenizer, [text for text, _ in REVIEWS], 4)
        assert rows[None] == rows[4]
        assert max(len(row["input_ids"]) for row in rows[6]) == 6
        tagged = load_with_validation(save(WORD_ROWS, tmp_path / "b.jsonl"), TAG)
        assert max(len(row["input_ids"]) for row in tagged.encode(tokenizer)["train"]) > 6

    def test_sentences_are_never_cut(self, tmp_path, tokenizer):
        corpus = load_with_validation(save(WORD_ROWS, tmp_path / "a.jsonl"), TAG)
        assert list(corpus.encode(tokenizer, max_length=2)["train"]) == list(corpus.encode(tokenizer)["train"])

    def test_only_ids_and_labels_remain(self, tmp_path, tokenizer):
        rows = [{"id": position, **row, "source": "web"} for position, row in enumerate(TEXT_ROWS)]
        encoded = load_with_validation(save(rows, tmp_path / "a.jsonl")).encode(tokenizer)
        assert encoded["train"].column_names == ["input_ids", "labels"]

    def test_empty_texts_have_a_token(self, tmp_path, tokenizer, streaming):
        rows = [{"text": "", "label": "a"}, {"text": " ", "label": "b"}]
        file = save(rows, tmp_path / "a.jsonl")
        encoded = load_with_validation(file, allow_empty_text=True, streaming=streaming).encode(tokenizer)
        assert [len(row["input_ids"]) > 0 for row in encoded["train"]] == [True, True]

    def test_sentences_without_words_have_a_token(self, tmp_path, tokenizer, streaming):
        rows = [{"tokens": ["a", "b"], "tags": ["X", "Y"]}, {"tokens": [], "tags": []}]
        file = save(rows, tmp_path / "a.jsonl")
        encoded = load_with_validation(file, TAG, allow_empty_text=True, streaming=streaming).encode(tokenizer)
        assert list(encoded["train"])[1] == {"input_ids": [tokenizer.eos_token_id], "labels": [-100]}

    def test_first_token_of_each_word_has_its_tag(self, tmp_path, japanese_sentences, japanese_tokenizer, streaming):
        sentences = japanese_sentences[100:160]
        rows = [{"tokens": [w[0] for w in words], "tags": [w[-1] for w in words]} for words in sentences]
        corpus = load_with_validation(save(rows, tmp_path / "a.jsonl"), TAG, streaming=streaming)
        split_words = 0
        for row, encoded in zip(rows, corpus.encode(japanese_tokenizer)["train"], strict=True):
            ids, labels = encoded["input_ids"], encoded["labels"]
            assert len(ids) == len(labels)
            firsts = [position for position, label in enumerate(labels) if label != -100]
            assert [corpus.label_names[labels[position]] for position in firsts] == row["tags"]
            for word, start, end in zip(row["tokens"], firsts, [*firsts[1:], len(ids) - 1], strict=True):
                with words_kept_whole(japanese_tokenizer):
                    assert japanese_tokenizer(word, add_special_tokens=False)["input_ids"] in ([], ids[start:end])
                split_words += end - start > 1
        assert split_words > 20

    def test_odd_words_keep_their_tags(self, tmp_path, japanese_tokenizer):
        words = ["東京", "", " ", "New York", "\u200b", "\x07", "に"]
        file = save([{"tokens": words, "tags": list("abcdefg")}], tmp_path / "a.jsonl")
        labels = load_with_validation(file, TAG).encode(japanese_tokenizer)["train"][0]["labels"]
        assert [label for label in labels if label != -100] == list(range(7))


class TestRefusedFiles:
    """What cannot be read is named, with what to do."""

    def test_missing_file(self, tmp_path, streaming):
        file = str(tmp_path / "nowhere.csv")
        assert refusal(train_file=file, streaming=streaming) == f"There is no file {file}."

    def test_pattern_that_matches_nothing(self, tmp_path, streaming):
        file = str(tmp_path / "*.csv")
        assert refusal(train_file=file, streaming=streaming) == f"There is no file {file}."

    def test_missing_validation_file(self, tmp_path):
        file, missing = save(numbered(20), tmp_path / "a.csv"), str(tmp_path / "b.csv")
        assert refusal(train_file=file, validation_file=missing) == f"There is no file {missing}."

    def test_folder_in_place_of_a_file(self, tmp_path):
        message = refusal(train_file=str(tmp_path))
        assert message.startswith(f"{tmp_path} is a folder: name a file in it, or a pattern such as {tmp_path}/*.csv")
        assert message.endswith("as --dataset_name.")

    @pytest.mark.parametrize("name", ["corpus", "corpus.txt", "corpus.dat"])
    def test_unknown_ending(self, tmp_path, name):
        message = refusal(train_file=write(tmp_path / name, "one,a\ntwo,b\n"))
        assert message.startswith(f"The name of {tmp_path / name} does not tell its format.")
        assert "--dataset_format: 'csv', 'tsv', 'json', 'parquet', 'arrow', 'fasttext', 'conll', 'conllu'" in message

    @pytest.mark.parametrize(
        ("name", "content", "cause"),
        [
            ("a.parquet", "text,label\none,a\n", "not a parquet file"),
            ("a.arrow", "text,label\none,a\n", "Not an Arrow file"),
            (
                "a.jsonl",
                '{"text": "a", "label": "b"}\n{"text": "a", "lab\n',
                "json: line 2, column 19: Invalid control",
            ),
            ("a.jsonl", '{"text": "a", "label": "b"}\n\n{"text": 1,}\n', "json: line 3, column 12: Expecting property"),
            ("a.jsonl", "text,label\none,a\n", "json: line 1, column 1: Expecting value: 'text,label'."),
            (
                "a.jsonl",
                '\ufeff{"text": "a", "label": "b"}\n3\n',
                "json: line 2: a row must be an object with the columns",
            ),
            ("a.jsonl", "[" * 100_000, "could not be read as json"),
            ("a.json", '[{"text": "a", "label": "b"},', "position 28"),
            ("a.conll", BINARY, "can't decode byte 0x89"),
            ("a.conllu", BINARY, "can't decode byte 0x89"),
        ],
        ids=lambda value: value if isinstance(value, str) and "\n" not in value else "",
    )
    def test_content_of_another_format_than_the_name_says(self, tmp_path, name, content, cause, streaming):
        file = write(tmp_path / name, content)
        message = refusal(train_file=file, streaming=streaming)
        kind = "json" if "json" in name else name.split(".")[1]
        assert message.startswith(f"{file} could not be read as {kind}: ")
        assert cause in message
        assert "--dataset_format" in message
        assert "--dataset_kwargs" in message

    @pytest.mark.parametrize("header", ["review,label", "review,title,label"])
    def test_files_with_different_columns(self, tmp_path, header):
        save(numbered(4), tmp_path / "train.csv")
        write(tmp_path / "train-2.csv", header + "\n" + header.upper() + "\n")
        for arguments in ({"train_file": str(tmp_path / "*.csv")}, {"dataset_name": str(tmp_path)}):
            message = refusal(**arguments)
            assert "its rows differ in their columns" in message
            assert "'review'" in message

    def test_stream_that_breaks_off(self, tmp_path):
        file = write(tmp_path / "a.csv", "text,label\n" + "one,a\n" * 10_500 + "1,2,3,4\n")
        message = refusal(train_file=file, streaming=True)
        assert message.startswith(f"{file}, line 10502: 4 fields, but 2 columns ('text', 'label').")

    @pytest.mark.parametrize("content", ["", "\n\n", " \n"], ids=["empty", "lines", "white"])
    @pytest.mark.parametrize(
        "name", ["a.csv", "a.tsv", "a.json", "a.jsonl", "a.parquet", "a.arrow", "a.conll", "a.conllu"]
    )
    def test_blank_file(self, tmp_path, name, content, streaming):
        file = write(tmp_path / name, content)
        assert refusal(train_file=file, streaming=streaming) == f"{file} has no rows."

    @pytest.mark.parametrize(
        ("name", "content"), [("a.csv", "text,label\n"), ("a.json", "[]"), ("a.conllu", "# a comment\n\n")]
    )
    def test_file_without_rows(self, tmp_path, name, content, streaming):
        file = write(tmp_path / name, content)
        task = TAG if name == "a.conllu" else CLASSIFY
        assert refusal(task, train_file=file, streaming=streaming) == f"{file} has no rows."

    def test_typed_file_without_rows(self, tmp_path, streaming):
        Dataset.from_dict({"text": [], "label": []}).to_parquet(tmp_path / "a.parquet")
        file = str(tmp_path / "a.parquet")
        assert refusal(train_file=file, streaming=streaming) == f"{file} has no rows."

    @pytest.mark.parametrize("count", [1, 2])
    def test_too_few_rows_to_hold_some_out(self, tmp_path, count, streaming):
        file = save(numbered(count), tmp_path / "a.csv")
        message = refusal(train_file=file, streaming=streaming)
        assert message == f"{file} has too few rows to hold some out: {count}."

    @pytest.mark.parametrize(("option", "given"), [("text", "opinion,label"), ("label", "text,points")])
    def test_missing_column(self, tmp_path, option, given, streaming):
        message = refusal(train_file=write(tmp_path / "a.csv", f"{given}\none,a\n"), streaming=streaming)
        listed = ", ".join(repr(name) for name in given.split(","))
        assert message == (
            f"The train data has no column {option!r}, only: {listed}. Name the right one with --{option}_column."
        )

    def test_missing_column_of_words(self, tmp_path):
        file = save([{"syllables": ["a"], "tones": ["O"]}], tmp_path / "a.jsonl")
        assert refusal(TAG, train_file=file) == (
            "The train data has no column 'tokens', only: 'syllables', 'tones'. Name the right one with "
            "--tokens_column."
        )
        assert refusal(TAG, train_file=file, tokens_column="syllables").endswith("right one with --tags_column.")

    @pytest.mark.parametrize(("separator", "written"), [(";", ";"), ("\t", "\\t"), ("|", "|")])
    def test_columns_that_another_separator_parts(self, tmp_path, separator, written, streaming):
        file = write(tmp_path / "a.csv", f"words{separator}score\none{separator}a\n")
        message = refusal(train_file=file, streaming=streaming)
        assert message.endswith(f"""--text_column. Or the separator, with --dataset_kwargs '{{"sep": "{written}"}}'.""")

    def test_column_of_words_and_tags_at_once(self, tmp_path):
        file = write(tmp_path / "a.conllu", conllu([[("1", "a", "X")]]))
        message = refusal(TAG, train_file=file, tokens_column="upos")
        assert message == "--tokens_column and --tags_column both mean the column 'upos'."

    def test_column_missing_in_validation_only(self, tmp_path):
        validation = write(tmp_path / "b.csv", "text,stars\none,a\n")
        message = refusal(train_file=save(numbered(20), tmp_path / "a.csv"), validation_file=validation)
        assert message.startswith("The validation data has no column 'label', only: 'text', 'stars'.")

    def test_long_lists_of_columns_are_shortened(self, tmp_path):
        message = refusal(train_file=save([{f"c{position}": 1 for position in range(30)}], tmp_path / "a.jsonl"))
        assert "'c19', … (30 in all)" in message
        assert "'c20'" not in message

    def test_no_training_data(self, tmp_path):
        file = save(numbered(4), tmp_path / "a.csv")
        for arguments in ({"test_file": file}, {"validation_file": file}):
            message = refusal(**arguments)
            assert message == "There is no train data: give --train_file, or a dataset with a 'train' split."

    def test_no_test_data(self, tmp_path):
        message = refusal(train_file=save(numbered(4), tmp_path / "a.csv"), needed=("test",))
        assert message == "There is no test data: give --test_file, or a dataset with a 'test' split."


class TestRefusedDatasets:
    @pytest.mark.parametrize("name", ["imdb", "someone/some_corpus"])
    def test_hub_dataset_without_network(self, name, streaming):
        start = time.monotonic()
        message = refusal(dataset_name=name, streaming=streaming)
        assert time.monotonic() - start < 60  # retries take minutes
        assert message.startswith(f"The dataset {name!r} could not be loaded: ")
        assert message.endswith("Check its id and the network, or read local files with --train_file.")

    def test_broken_folder(self, tmp_path, streaming):
        write(tmp_path / "train.jsonl", '{"text": "a"\n')
        message = refusal(dataset_name=str(tmp_path), streaming=streaming)
        assert message.startswith(f"The dataset {str(tmp_path)!r} could not be loaded: JSON parse error")

    def test_folder_without_known_splits(self, tmp_path):
        write(tmp_path / "data" / "extra.jsonl", json_lines(numbered(4)))
        (tmp_path / "README.md").write_text(
            "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: extra\n    path: data/extra.jsonl\n---\n"
        )
        message = refusal(dataset_name=str(tmp_path))
        assert message == f"The dataset {str(tmp_path)!r} has no split named train, only: 'extra'."

    def test_rows_of_a_folder_are_named_by_their_split(self, tmp_path):
        save([*numbered(3), {"text": "", "label": "a"}], tmp_path / "train.jsonl")
        assert refusal(dataset_name=str(tmp_path)).startswith(f"{tmp_path}, split 'train', row 4: the text")


class TestRefusedRows:
    """What is wrong in a row is named with file, row and value, in memory or as a stream."""

    GOOD = {"text": "good", "label": "a"}  # noqa: RUF012

    @pytest.mark.parametrize(
        ("row", "fault"),
        [
            ({"text": "", "label": "a"}, "the text in column 'text' is empty: ''. Remove the row, or accept empty "
             "texts with --allow_empty_text."),
            ({"text": " \n", "label": "a"}, r"the text in column 'text' is empty: ' \n'."),
            ({"text": None, "label": "a"}, "column 'text' must hold a text, got None."),
            ({"text": 7, "label": "a"}, "column 'text' must hold a text, got 7."),
            ({"text": ["a", "b"], "label": "a"}, "column 'text' must hold a text, got ['a', 'b']."),
            ({"text": "a", "label": None}, "column 'label' holds no label: None. Give it one, or remove the row."),
            ({"text": "a", "label": ""}, "column 'label' holds no label: ''. Give it one, or remove the row."),
            ({"text": "a", "label": ["a"]}, "column 'label' must hold one label, got ['a']."),
        ],
    )  # fmt: skip
    def test_text_or_label(self, tmp_path, row, fault, streaming):
        file = write(tmp_path / "a.jsonl", json_lines([self.GOOD, self.GOOD, row]))
        assert refusal(train_file=file, streaming=streaming).startswith(f"{file}, row 3: {fault}")

    @pytest.mark.parametrize(
        ("row", "fault"),
        [
            ({"label": "a"}, "column 'label' must hold a list of labels, got 'a'."),
            ({"label": None}, "column 'label' holds no label: None."),
            ({"label": ["a", None]}, "column 'label' holds no label: None."),
            ({"label": ["a", ""]}, "column 'label' holds no label: ''."),
            ({"label": [["a"]]}, "a label in column 'label' must be a text or a number, got ['a']."),
        ],
    )
    def test_several_labels(self, tmp_path, row, fault, streaming):
        file = write(tmp_path / "a.jsonl", json_lines([{"text": "good", "label": ["a", "b"]}, {"text": "bad", **row}]))
        assert refusal(train_file=file, streaming=streaming).startswith(f"{file}, row 2: {fault}")

    @pytest.mark.parametrize(
        ("value", "fault"),
        [
            (None, "column 'label' holds no label: None."),
            ("high", "column 'label' must hold a number, got 'high'."),
            (True, "column 'label' must hold a number, got True."),
        ],
    )
    def test_number(self, tmp_path, value, fault):
        rows = [{"text": "good", "label": value}, {"text": "good", "label": value}]
        file = write(tmp_path / "a.jsonl", json_lines(rows))
        assert refusal(train_file=file, problem_type="regression").startswith(f"{file}, row 1: {fault}")

    def test_missing_number(self, tmp_path, streaming):
        rows = [{"text": "good", "label": 1.5}, {"text": "bad", "label": None}]
        file = write(tmp_path / "a.jsonl", json_lines(rows))
        message = refusal(train_file=file, streaming=streaming)
        assert message.startswith(f"{file}, row 2: column 'label' holds no label: ")

    def test_label_of_another_kind_than_announced(self, tmp_path):
        file = save(numbered(4), tmp_path / "a.csv")
        message = refusal(train_file=file, problem_type="multi_label_classification")
        assert message.startswith(f"{file}, row 1: column 'label' must hold a list of labels, got 'a'. Say with --lab")

    @pytest.mark.parametrize("several", [["a", "b"], []])
    def test_lists_where_a_text_has_one_label(self, several, tmp_path):
        rows = [{"text": "good", "label": ["a"]}, {"text": "bad", "label": ["b"]}, {"text": "both", "label": several}]
        file = write(tmp_path / "a.jsonl", json_lines(rows))
        message = refusal(train_file=file, problem_type="single_label_classification")
        assert message.startswith(f"{file}, row 3: column 'label' must hold one label for each text, got {several}")

    @pytest.mark.parametrize("label", [{"name": "a"}, [{"name": "a"}]])
    def test_label_that_is_an_object(self, tmp_path, label):
        file = save([{"text": "a", "label": label}], tmp_path / "a.jsonl")
        assert refusal(train_file=file).endswith("must be a text or a number, got {'name': 'a'}.")

    def test_one_label_only(self, tmp_path, streaming):
        file = save(numbered(20, labels="a"), tmp_path / "a.csv")
        message = f"{file} knows one label only, 'a'; a classifier needs at least two."
        assert refusal(train_file=file, streaming=streaming) == message
        assert refusal(test_file=file, needed=("test",), streaming=streaming) == message

    def test_no_label_in_any_row(self, tmp_path, streaming):
        file = save([{"text": "a", "label": []}] * 4, tmp_path / "a.jsonl")
        message = refusal(train_file=file, streaming=streaming)
        assert message == f"{file} has no label in any row of column 'label'."

    @pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
    def test_empty_cells(self, tmp_path, name):
        file = save([self.GOOD, {"text": "", "label": "a"}], tmp_path / name)
        assert refusal(train_file=file).startswith(f"{file}, row 2: the text in column 'text' is empty: ''.")
        file = save([self.GOOD, {"text": "one", "label": ""}], tmp_path / name)
        assert refusal(train_file=file).startswith(f"{file}, row 2: column 'label' holds no label: ''.")

    def test_row_numbers_go_on_after_the_first_thousand(self, tmp_path, streaming):
        file = save([*numbered(1501), {"text": " ", "label": "a"}], tmp_path / "a.csv")
        assert refusal(train_file=file, streaming=streaming).startswith(f"{file}, row 1502: ")

    @pytest.mark.parametrize("split", ["validation", "test"])
    def test_unknown_label(self, tmp_path, split, streaming):
        train = save(numbered(20), tmp_path / "train.csv")
        other = save([*numbered(2), {"text": "x", "label": "new"}], tmp_path / "other.csv")
        files = {"train_file": train, "validation_file": train} | {f"{split}_file": other}
        assert refusal(**files, streaming=streaming) == (
            f"{other}, row 3: the label 'new' in column 'label' is not among those of the training data: 'a', 'b'. "
            "Correct it, or declare it in training with --additional_labels 'new', or count such rows as errors with "
            "--unseen_labels count."
        )

    @pytest.mark.parametrize(
        ("known", "labels"),
        [
            (["ham", "spam"], [3.5, 1.25]),
            (["ham", "spam"], ["3.5", "1.25"]),
            (["ham", "spam"], [4, 2]),
            (["ham", "spam"], ["4", "2"]),
            (["1", "2", "3"], [3.5, 2.5]),
        ],
    )
    def test_numbers_are_no_labels_of_a_trained_classifier(self, tmp_path, known, labels, streaming):
        file = save(numbered(2, labels), tmp_path / "a.jsonl")
        options = {"label_names": known, "problem_type": "single_label_classification", "streaming": streaming}
        assert refusal(test_file=file, needed=("test",), **options) == (
            f"{file}, row 1: column 'label' holds numbers, as '{labels[0]}', but the model is a classifier with the "
            f"labels {str(known).strip('[]')}. Name the right column with --label_column."
        )

    def test_numbers_are_no_tags_of_a_trained_tagger(self, tmp_path):
        file = save([{"tokens": ["x", "y"], "tags": ["A", "7"]}], tmp_path / "a.jsonl")
        message = refusal(TAG, test_file=file, needed=("test",), label_names=["A", "B"])
        assert message.endswith(
            "holds numbers, as '7', but the model is a tagger with the labels 'A', 'B'. Name the right column with "
            "--tags_column."
        )

    @pytest.mark.parametrize("known", [["1", "2"], ["0.5", "1.5", "x"]])
    def test_numbers_may_be_labels_where_others_are(self, tmp_path, known):
        label = "3" if known == ["1", "2"] else "2.5"
        file = save(numbered(1, [label]), tmp_path / "a.jsonl")
        options = {"label_names": known, "problem_type": "single_label_classification"}
        assert f"declare it in training with --additional_labels '{label}'" in refusal(
            test_file=file, needed=("test",), **options
        )

    @pytest.mark.parametrize(
        ("label", "cure"),
        [
            ("ham", "Name the right column with --label_column."),
            (["ham"], "Name the right column with --label_column."),
            (True, "Name the right column with --label_column."),
        ],
    )
    def test_labels_are_no_numbers_of_a_trained_regression(self, tmp_path, label, cure):
        file = save(numbered(2, [label]), tmp_path / "a.jsonl")
        options = {"label_names": ["LABEL_0"], "problem_type": "regression"}
        assert refusal(test_file=file, needed=("test",), **options) == (
            f"{file}, row 1: column 'label' must hold a number, got {label!r}. A regression has no labels but numbers. "
            f"{cure}"
        )

    @pytest.mark.parametrize("task", [CLASSIFY, TAG])
    def test_label_that_a_trained_model_does_not_have(self, tmp_path, task):
        rows = numbered(2) if task == CLASSIFY else [{"tokens": ["x"], "tags": [label]} for label in "ab"]
        file = save(rows, tmp_path / "a.jsonl")
        message = refusal(task, test_file=file, needed=("test",), label_names=["a", "z"])
        assert message.startswith(f"{file}, row 2: the label 'b' in column ")
        assert "is not among those of the training data: 'a', 'z'." in message

    @pytest.mark.parametrize(
        ("row", "fault"),
        [
            ({"tokens": ["a", "b"], "tags": ["X"]}, "2 words in column 'tokens', but 1 tags in column 'tags': "
             "['a', 'b'], ['X']."),
            ({"tokens": ["a"], "tags": ["X", "Y"]}, "1 words in column 'tokens', but 2 tags in column 'tags': "),
            ({"tokens": [], "tags": []}, "column 'tokens' holds no word. Remove the row, or accept it with "
             "--allow_empty_text."),
            ({"tokens": None, "tags": ["X"]}, "column 'tokens' must hold a list of words, got None."),
            ({"tokens": ["a", None], "tags": ["X", "X"]}, "column 'tokens' must hold a list of words, got ['a', None]"),
            ({"tokens": ["a"], "tags": None}, "column 'tags' must hold a list of tags, got None."),
            ({"tokens": ["a", "b"], "tags": ["X", None]}, "the word 'b' has no tag in column 'tags'."),
            ({"tokens": ["a", "b"], "tags": ["X", ""]}, "the word 'b' has no tag in column 'tags'."),
        ],
    )  # fmt: skip
    def test_words_and_tags(self, tmp_path, row, fault, streaming):
        file = write(tmp_path / "a.jsonl", json_lines([{"tokens": ["good"], "tags": ["X"]}, row]))
        assert refusal(TAG, train_file=file, streaming=streaming).startswith(f"{file}, row 2: {fault}")

    @pytest.mark.parametrize(
        ("row", "fault"),
        [
            ({"tokens": "a b", "tags": ["X", "Y"]}, "column 'tokens' must hold a list of words, got 'a b'."),
            ({"tokens": [1, 2], "tags": ["X", "Y"]}, "column 'tokens' must hold a list of words, got [1, 2]."),
            ({"tokens": ["a"], "tags": "X"}, "column 'tags' must hold a list of tags, got 'X'."),
            ({"tokens": ["a"], "tags": [["X"]]}, "a label in column 'tags' must be a text or a number, got ['X']."),
        ],
    )
    def test_columns_of_the_wrong_type(self, tmp_path, row, fault):
        file = write(tmp_path / "a.jsonl", json_lines([row]))
        assert refusal(TAG, train_file=file) == f"{file}, row 1: {fault}"

    def test_unknown_tag(self, tmp_path, streaming):
        train = save(WORD_ROWS, tmp_path / "train.jsonl")
        other = save([{"tokens": ["犬"], "tags": ["DOG"]}], tmp_path / "other.jsonl")
        message = refusal(TAG, train_file=train, validation_file=other, streaming=streaming)
        assert message.startswith(f"{other}, row 1: the label 'DOG' in column 'tags' is not among those")

    def test_conll_line_without_a_tag(self, tmp_path, streaming):
        file = write(tmp_path / "a.conll", "one A\ntwo B\n\nthree\nfour D\n")
        message = refusal(TAG, train_file=file, streaming=streaming)
        assert message == f"{file}, line 4: the word 'three' has no tag. Give it one."

    def test_conllu_without_tags(self, tmp_path, streaming):
        file = write(tmp_path / "a.conllu", "1\tdogs\tdog\n2\tbark\tbark\n\n")
        message = refusal(TAG, train_file=file, streaming=streaming)
        assert message.startswith(f"{file}, line 1: 3 columns in place of 10: '1', 'dogs', 'dog'.")

    def test_conllu_sentence_of_multiword_tokens_only(self, tmp_path, streaming):
        file = write(tmp_path / "a.conllu", conllu([[("1", "a", "X")], [("1-2", "ab", "_")]]))
        message = refusal(TAG, train_file=file, streaming=streaming)
        assert message.startswith(f"{file}, row 2: column 'form' holds no word.")


class TestRefusedLabels:
    """What is no label is refused before training, whatever it would train."""

    BIG = "must hold a number up to 1e+15, got "
    CASES = (
        ("a.csv", ["1.5", "2", "nan"], "holds 'nan', but numbers in the other rows ('1.5', '2'). Give it a number"),
        ("a.csv", ["1", "2", "NaN"], "holds 'NaN', but numbers in the other rows"),
        ("a.csv", ["1", "2", "N/A"], "if it is a label, declare it with --additional_labels 'N/A'."),
        ("a.csv", ["0.5", "2", "null"], "holds 'null', but numbers"),
        ("a.csv", ["-3", "2", "?"], "holds '?', but numbers"),
        ("a.csv", ["1.5", "2", "inf"], "must hold a finite number, got inf."),
        ("a.csv", ["1.5", "2", "-inf"], "must hold a finite number, got -inf."),
        ("a.csv", ["1.5", "2", "1e400"], "must hold a finite number, got inf."),
        ("a.csv", ["1.5", "2", "1e308"], BIG + "1e+308, whose error could not be squared. Scale all labels"),
        ("a.csv", ["1.5", "2", " "], "holds no label: ' '."),
        ("a.jsonl", [1, 2, float("nan")], "holds no label: nan."),
        ("a.jsonl", [1.5, 2, float("inf")], "must hold a finite number, got inf."),
        ("a.jsonl", [1.5, 2, -1.5e15], BIG + "-1500000000000000.0"),
        ("a.jsonl", [1, 2, 10**30], BIG + "1e+30"),
        ("a.jsonl", ["1", "2", "nan"], "holds 'nan', but numbers"),
        ("a.jsonl", [1, "2", "None"], "holds 'None', but numbers"),
        ("a.jsonl", ["a", "b", "x" * 1001], "has 1,001 characters, and is a text rather than a label. Name the right"),
        ("a.jsonl", ["a", "b", "\t "], r"holds no label: '\t '."),
        ("a.jsonl", [["a"], ["b"], ["a", None]], "holds no label: None."),
        ("a.jsonl", [["a"], ["b"], ["a", " "]], "holds no label: ' '."),
        ("a.jsonl", [["a"], ["b"], ["a", "b", "a"]], "names the label 'a' twice: ['a', 'b', 'a']. List each label"),
        ("a.jsonl", [["1"], ["2"], ["nan"]], "holds 'nan', but numbers"),
        ("a.jsonl", [[0], [1], [0, 1, 1]], "names the label '1' twice"),
    )

    @pytest.mark.parametrize(("name", "labels", "fault"), CASES)
    def test_the_row_is_named(self, tmp_path, name, labels, fault, streaming):
        file = save(
            [{"text": f"text {position}", "label": label} for position, label in enumerate(labels)], tmp_path / name
        )
        message = refusal(train_file=file, streaming=streaming)
        assert message.startswith(f"{file}, row 3: ")
        assert "column 'label'" in message
        assert fault in message
        assert len(message) < 700

    @pytest.mark.parametrize(
        ("labels", "fault"),
        [
            ([10**18, 1], BIG + "1000000000000000000"),
            ([[1.5], [2.5]], "must hold a number, got [1.5]."),
        ],
    )
    def test_numbers_of_a_regression(self, tmp_path, labels, fault, streaming):
        file = save([{"text": "a", "label": label} for label in labels], tmp_path / "a.jsonl")
        assert fault in refusal_of(file, problem_type="regression", streaming=streaming)

    @pytest.mark.parametrize(
        ("labels", "fault"),
        [
            (
                [[0.0, 0.5], [1.0, 0.0]],
                "must be a text or a whole number, got 0.0. List the labels that a text has, or in every row a 0",
            ),
            ([["a"], "b"], "must hold a list of labels, got 'b'."),
            ([b"ham", b"spam"], "must be a text or a number, got b'ham'."),
        ],
    )
    def test_labels_of_a_wrong_type(self, tmp_path, labels, fault, streaming):
        path = tmp_path / ("a.jsonl" if "b" in labels else "a.parquet")
        assert fault in refusal_of(save([{"text": "a", "label": label} for label in labels], path), streaming=streaming)

    @pytest.mark.parametrize(
        ("tags", "fault"),
        [
            (["X", None], "the word 'b' has no tag in column 'tags'."),
            (["X", " "], "the word 'b' has no tag in column 'tags', but ' '."),
            ([1.0, float("nan")], "a label in column 'tags' must be a text or a whole number, got 1.0."),
            ([float("nan"), 1.0], "the word 'a' has no tag in column 'tags', but nan."),
            (["1", "NaN"], "column 'tags' holds 'NaN', but numbers in the other rows ('1')."),
            (["X", "x" * 2000], "has 2,000 characters, and is a text rather than a label. Name the right column with "
             "--tags_column."),
            ([True, [1]], "a label in column 'tags' must be a text or a number, got [1]."),
        ],
    )  # fmt: skip
    def test_tags(self, tmp_path, tags, fault, streaming):
        file = save([{"tokens": ["a", "b"], "tags": tags}], tmp_path / "a.jsonl")
        message = refusal(TAG, train_file=file, streaming=streaming)
        assert message.startswith(f"{file}, row 1: ")
        assert fault in message

    def test_numbers_of_a_class_label_without_a_name(self, tmp_path, streaming):
        table = pa.table({"text": ["a", "b"], "label": pa.array([0, 7])})
        features = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos"])})
        Dataset(table).to_parquet(tmp_path / "a.parquet")
        split = Dataset(table.replace_schema_metadata(features.arrow_schema.metadata))
        split.to_parquet(tmp_path / "a.parquet")
        message = refusal(train_file=str(tmp_path / "a.parquet"), streaming=streaming)
        assert message.endswith("column 'label' holds 7, but has names for the labels 0 to 1 only: 'neg', 'pos'.")

    @pytest.mark.parametrize(
        ("labels", "names"),
        [
            (["nan", "null", "a"], ["a", "nan", "null"]),
            ([True, False], ["False", "True"]),
            (["\x1b[2J", "b"], ["\x1b[2J", "b"]),
            (["²", "--5", "3"], ["--5", "3", "²"]),
            (["x" * 1000, "b"], ["b", "x" * 1000]),
        ],
    )
    def test_odd_labels_that_are_labels(self, tmp_path, labels, names, streaming):
        file = save([{"text": "a", "label": label} for label in labels], tmp_path / "a.jsonl")
        assert load_with_validation(file, streaming=streaming).label_names == names

    def test_what_looks_like_no_number_can_be_declared(self, tmp_path):
        file = save([{"text": "a", "label": label} for label in ("1", "2", "none")], tmp_path / "a.csv")
        assert load_with_validation(file, additional_labels=["none"]).label_names == ["1", "2", "none"]

    def test_messages_obey_nobody_and_stay_short(self, tmp_path, streaming):
        file = save([{"text": "a", "label": ["\x1b[2J" * 50_000, "\x1b]0;owned"]}] * 2, tmp_path / "a.jsonl")
        for message in (
            refusal(train_file=file, streaming=streaming),
            refusal(train_file=file, text_column="label", label_column="text", streaming=streaming),
            refusal(train_file=file, text_column="\x1b[2J" * 999, streaming=streaming),
        ):
            assert "\x1b" not in message
            assert len(message) < 700


class TestWarnings:
    """What may be right, but looks wrong, is said."""

    @pytest.mark.parametrize(
        ("labels", "said"),
        [
            ([1.5, 1.5, 1.5], "column 'label' holds the same number in all rows, 1.5: there is nothing to learn."),
            (["1.5", "2.5", "1.5"], "column 'label' holds numbers with a decimal point: a regression. For classes say"),
            (
                ["1.10", "1.2", "1.10"],
                "holds numbers as texts ('1.10', '1.2'), which are taken for the names of labels.",
            ),
            (list(range(30)), "holds 30 different labels in 30 rows. Is it the right column? For a regression say"),
            (["a", "b", "A"], "labels 'a' (row 1) and 'A' (row 3) in column 'label' differ in capitals alone, but are"),
            (["caf\u00e9", "b", "cafe\u0301"], "look the same, but are two."),
            ([[0, 1], [1, 0]], "column 'label' holds a 0 or 1 for each of 2 labels, named by their number: --label_na"),
            ([["b", "a"], ["a", "b"]], "all rows have all labels in column 'label', 'b', 'a': there is nothing to"),
            (
                ["a,b", "a", "b"],
                "look like several in one, as 'a,b': each combination would be a class. Part them with",
            ),
        ],
    )
    def test_labels(self, tmp_path, messages, labels, said, streaming):
        file = save([{"text": "a", "label": label} for label in labels], tmp_path / "a.jsonl")
        load_with_validation(file, streaming=streaming)
        (message,) = messages()
        assert message.startswith(f"{file}: ")
        assert said in message

    def test_one_tag_only(self, tmp_path):
        file = save([{"tokens": ["a", "b"], "tags": ["O", "O"]}], tmp_path / "a.jsonl")
        message = refusal(TAG, train_file=file)
        assert message.startswith(f"{file}: column 'tags' holds one tag only, 'O': there is nothing to learn. Name the")
        corpus = load_with_validation(file, TAG, additional_labels=["B-X"])
        assert corpus.label_names == ["B-X", "O"]

    def test_as_many_tags_as_words(self, tmp_path, streaming):
        rows = [{"tokens": [f"w{i}", "the"], "lemmas": [f"v{i}", "the"], "tags": ["X", "Y"]} for i in range(50)]
        file = save(rows, tmp_path / "a.jsonl")
        message = refusal(TAG, train_file=file, tags_column="lemmas", streaming=streaming)
        assert message.startswith(
            f"{file}: column 'lemmas' holds 51 different tags for 51 different words, and is none of tags. Name"
        )
        load_with_validation(file, TAG, streaming=streaming)


class TestUnseenLabels:
    """Labels of validation and test that training data lacks can be counted as errors."""

    def files(self, tmp_path, rows) -> dict[str, str]:
        train = save(numbered(6), tmp_path / "train.jsonl")
        return {
            "train_file": train,
            "validation_file": save(rows, tmp_path / "validation.jsonl"),
            "test_file": save([{"text": "x", "label": "new"}, {"text": "y", "label": "a"}], tmp_path / "test.jsonl"),
        }

    def test_of_a_classifier(self, tmp_path, tokenizer, messages, streaming):
        rows = [{"text": "x", "label": label} for label in ("a", "late", "b", "new", "late")]
        files = self.files(tmp_path, rows)
        corpus = load(**files, unseen_labels="count", streaming=streaming)
        assert (corpus.label_names, corpus.unseen_names) == (["a", "b"], ["late", "new"])
        assert corpus.num_rows == {"train": 6, "validation": 5, "test": 2}
        labels = {name: [row["labels"] for row in split] for name, split in corpus.encode(tokenizer).items()}
        assert labels == {"train": [0, 1] * 3, "validation": [0, 2, 1, 3, 2], "test": [3, 0]}
        assert messages() == [
            f"{files['validation_file']}: 3 of 5 rows have labels that the training data lacks ('late', 'new'); each "
            "counts as an error.",
            f"{files['test_file']}: 1 of 2 rows have labels that the training data lacks ('new'); each counts as an "
            "error.",
        ]

    def test_of_a_tagger(self, tmp_path, tokenizer, messages, streaming):
        train = save([{"tokens": ["a", "b"], "tags": ["X", "Y"]}], tmp_path / "train.jsonl")
        other = save([{"tokens": ["a", "b", "c"], "tags": ["Z", "Y", "Z"]}], tmp_path / "b.jsonl")
        corpus = load(TAG, train_file=train, validation_file=other, unseen_labels="count", streaming=streaming)
        assert (corpus.label_names, corpus.unseen_names) == (["X", "Y"], ["Z"])
        (row,) = corpus.encode(tokenizer)["validation"]
        assert [label for label in row["labels"] if label != -100] == [2, 1, 2]
        assert messages()[0].startswith(f"{other}: 2 words have labels that the training data lacks ('Z')")

    def test_of_a_trained_model(self, tmp_path, tokenizer, streaming):
        options = {"test_file": save(numbered(4), tmp_path / "a.csv"), "streaming": streaming}
        corpus = load(**options, unseen_labels="count", label_names=["z", "b"], needed=("test",))
        assert (corpus.label_names, corpus.unseen_names) == (["z", "b"], ["a"])
        assert [row["labels"] for row in corpus.encode(tokenizer)["test"]] == [2, 1, 2, 1]

    def test_of_columns_with_named_numbers(self, tmp_path, tokenizer):
        save_as = TestClassLabels().save
        train = save_as(tmp_path / "a.parquet", ["neg", "pos"], [0, 1])
        test = save_as(tmp_path / "b.parquet", ["neu", "pos"], [0, 1])
        corpus = load(train_file=train, validation_file=test, unseen_labels="count")
        assert [row["labels"] for row in corpus.encode(tokenizer)["validation"]] == [2, 1]

    def test_there_are_none(self, tmp_path, messages):
        file = save(numbered(4), tmp_path / "a.csv")
        assert load_with_validation(file, unseen_labels="count").unseen_names == []
        assert messages() == []

    @pytest.mark.parametrize("labels", [[["a"], ["b"]], [1.5, 2.5]], ids=["several", "numbers"])
    def test_only_of_one_label_each(self, tmp_path, labels, streaming):
        file = save([{"text": "x", "label": label} for label in labels], tmp_path / "a.jsonl")
        message = refusal_of(file, unseen_labels="count", streaming=streaming)
        assert message == "--unseen_labels count is for one label a text or word. Leave it out."

    def test_several_labels_at_once_are_refused_with_the_one_cure(self, tmp_path):
        train = save([{"text": "x", "label": ["a", "b"]}], tmp_path / "a.jsonl")
        other = save([{"text": "x", "label": ["c"]}], tmp_path / "b.jsonl")
        message = refusal(train_file=train, validation_file=other)
        assert message.endswith("Correct it, or declare it in training with --additional_labels 'c'.")
