"""The predictor that engines send to their workers: any batch, any backend, any bad row."""

import math
import pickle
import shutil
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from datasets import Dataset

from rnn_hf.engines.batch_predictor import BatchPredictor, _load
from rnn_hf.inference.loading import load
from rnn_hf.inference.predictor import predict

# What no classifier can read, and what is said of it.
BAD_TEXTS = {
    "None": (None, "must be a text, as the model is a classifier; got None (NoneType)."),
    "a number": (7, "got 7 (int)"),
    "no number": (math.nan, "got nan (float)"),
    "a truth value": (True, "got True (bool)"),
    "bytes": (b"to be", "got b'to be' (bytes)"),
    "words": (["to", "be"], "got ['to', 'be'] (list)"),
    "a dictionary": ({"text": "to be"}, "(dict)"),
    "an array": (np.array([1, 2]), "got [1, 2] (list)"),
    "a missing value": (pd.NA, "got <NA> (NAType)"),
    "a lone surrogate": ("to \ud800", "holds the lone surrogate '\\ud800', which is no character"),
}
BAD_WORDS = {
    "None": (None, "must be a list of words, as the model is a tagger; got None (NoneType)"),
    "a text": ("to be", "got 'to be' (str)"),
    "a missing word": (["to", None], ", word 1 must be a text, got None (NoneType)"),
    "a number": (["to", 7], ", word 1 must be a text, got 7 (int)"),
    "a lone surrogate": (["\udfff"], "holds the lone surrogate '\\udfff'"),
}


@pytest.fixture
def rows(texts) -> dict:
    """A table, whose last row is bad."""
    return {"id": list(range(len(texts) + 1)), "text": [*texts, None]}


@pytest.fixture
def expected(folders, rows) -> dict:
    """What is predicted on the rows."""
    return predictor(folders["classifier"])(rows["text"])


def predictor(folder: str, **options) -> BatchPredictor:
    return BatchPredictor(folder, num_threads=None, **options)


class TestEqualsPredict:
    def test_a_classifier(self, folders, texts):
        found = predictor(folders["classifier"])(texts)
        expected = list(predict(*load(folders["classifier"]), texts))
        assert found["label"] == [one["label"] for one in expected]
        assert found["score"] == [one["score"] for one in expected]
        assert found["error"] == [None] * len(texts)

    def test_several_labels(self, folders, texts):
        found = predictor(folders["several labels"], all_scores=True)(texts)
        expected = list(predict(*load(folders["several labels"]), texts, all_scores=True))
        for name in ("labels", "scores", "all_scores"):
            assert found[name] == [one[name] for one in expected]

    def test_a_regression(self, folders, texts):
        found = predictor(folders["regression"])(texts)
        assert found["scores"] == [one["scores"] for one in predict(*load(folders["regression"]), texts)]

    def test_rejected_texts(self, folders, texts):
        found = predictor(folders["classifier"], rejection_threshold=0.6)(texts)
        expected = list(predict(*load(folders["classifier"]), texts, rejection_threshold=0.6))
        assert found["label"] == [one["label"] for one in expected]
        assert None in found["label"]

    def test_a_tagger_of_words(self, folders, texts):
        sentences = [text.split() for text in texts]
        found = predictor(folders["tagger"], is_split_into_words=True)(sentences)
        assert found["tags"] == [one["tags"] for one in predict(*load(folders["tagger"]), sentences)]

    def test_a_tagger_of_raw_text(self, folders, texts):
        spaced = [text.replace(" ", "  ") for text in texts]
        found = predictor(folders["tagger"])(spaced)
        assert found["tokens"] == [text.split() for text in texts]
        expected = [one["tags"] for one in predict(*load(folders["tagger"]), found["tokens"])]
        assert found["tags"] == expected
        for text, tags, spans in zip(spaced, expected, found["spans"], strict=True):
            assert len(spans) >= tags.count("B-X")
            for span in spans:
                assert text[span["start"] : span["end"]].strip() == text[span["start"] : span["end"]] != ""

    @pytest.mark.parametrize(("backend", "tolerance"), [("onnx", 1e-5), ("int8", 0.1)])
    def test_exported(self, folders, texts, backend, tolerance):
        found = predictor(folders["classifier"], backend=backend)(texts)
        assert found["score"] == pytest.approx(predictor(folders["classifier"])(texts)["score"], abs=tolerance)


class TestBadRows:
    @pytest.mark.parametrize("kind", BAD_TEXTS)
    def test_texts(self, folders, kind):
        value, said = BAD_TEXTS[kind]
        found = predictor(folders["classifier"])(["to be", value, "or not"])
        assert said in found["error"][1]
        assert found["error"][::2] == [None, None]
        assert (found["label"][1], found["score"][1]) == (None, None)
        assert found["label"][::2] == predictor(folders["classifier"])(["to be", "or not"])["label"]

    @pytest.mark.parametrize("kind", BAD_WORDS)
    def test_words(self, folders, kind):
        value, said = BAD_WORDS[kind]
        found = predictor(folders["tagger"], is_split_into_words=True)([["to"], value])
        assert said in found["error"][1]
        assert found["tags"][1] is None
        assert len(found["tags"][0]) == 1

    def test_words_where_texts_are_meant(self, folders):
        found = predictor(folders["tagger"])([["to", "be"]])
        assert "must be a text unless is_split_into_words=True" in found["error"][0]

    def test_all_are_bad(self, folders):
        table = predictor(folders["classifier"])(pa.table({"text": pa.array([None, None], pa.string())}))
        assert table.schema.field("label").type == pa.string()
        assert table["score"].null_count == 2

    def test_bytes_that_are_no_text_in_arrow(self, folders):
        binary = pa.array([b"to be", b"caf\xe9"], pa.binary())
        texts = pa.Array.from_buffers(pa.string(), 2, binary.buffers())
        found = predictor(folders["classifier"])(texts).to_pylist()
        assert found[0]["error"] is None
        assert "got b'caf\\xe9' (bytes)" in found[1]["error"]

    def test_no_rows(self, folders):
        assert predictor(folders["classifier"])([]) == {"label": [], "score": [], "error": []}


class TestBatches:
    """Each kind of batch has the predictions of a list."""

    def test_lists(self, folders, rows, expected):
        assert predictor(folders["classifier"])(rows) == rows | expected

    def test_arrays(self, folders, rows, expected):
        found = predictor(folders["classifier"])({name: np.array(one, object) for name, one in rows.items()})
        assert {name: one.tolist() for name, one in found.items()} == rows | expected

    def test_arrays_of_arrays(self, folders, texts):
        sentences = np.empty(len(texts), object)
        sentences[:] = [np.array(text.split(), object) for text in texts]
        found = predictor(folders["tagger"], is_split_into_words=True)({"tokens": sentences})
        assert found["tags"].tolist() == [
            one["tags"] for one in predict(*load(folders["tagger"]), [text.split() for text in texts])
        ]

    def test_pandas(self, folders, rows, expected):
        frame = pd.DataFrame(rows, index=range(100, 100 + len(rows["id"])))
        found = predictor(folders["classifier"])(frame)
        assert found.index.equals(frame.index)
        assert list(found.columns) == ["id", "text", "label", "score", "error"]
        assert found["label"].tolist() == expected["label"]
        assert found["score"].tolist()[:-1] == expected["score"][:-1]
        assert found["error"].tolist() == expected["error"]
        assert predictor(folders["classifier"])(frame["text"]).equals(found[["label", "score", "error"]])

    @pytest.mark.parametrize("kind", [pa.table, pa.record_batch])
    def test_arrow(self, folders, rows, expected, kind):
        found = predictor(folders["classifier"])(kind(rows))
        assert isinstance(found, type(kind(rows)))
        assert found.to_pydict() == rows | expected

    @pytest.mark.parametrize("kind", [pa.array, lambda values: pa.chunked_array([values[:9], values[9:]])])
    def test_a_column_of_arrow(self, folders, rows, expected, kind):
        found = predictor(folders["classifier"])(kind(rows["text"]))
        assert found.to_pylist() == [
            dict(zip(expected, one, strict=True)) for one in zip(*expected.values(), strict=True)
        ]

    @pytest.mark.parametrize("model", ["several labels", "regression", "tagger"])
    def test_every_kind_of_column_goes_into_arrow(self, folders, texts, model):
        one = predictor(folders[model], all_scores=True)
        expected = one(texts)
        found = one(pa.table({"text": texts})).to_pydict()
        if "all_scores" in found:
            found["all_scores"] = [dict(scores) for scores in found["all_scores"]]
        assert found == {"text": texts} | expected

    def test_another_column_and_a_prefix(self, folders):
        one = predictor(folders["classifier"], column="review", prefix="my_")
        found = one({"review": ["to be"], "label": ["a"]})
        assert list(found) == ["review", "label", "my_label", "my_score", "my_error"]

    def test_columns_that_do_not_fit(self, folders):
        one = predictor(folders["classifier"])
        with pytest.raises(ValueError, match=r"no column 'text', only: 'review'.*column=\.\.\."):
            one({"review": ["to be"]})
        with pytest.raises(ValueError, match=r"a column 'label' already.*prefix='predicted_'"):
            one({"text": ["to be"], "label": ["a"]})


class TestSettings:
    def test_only_settings_are_sent(self, folders):
        one = predictor(folders["classifier"])
        one(["to be"])
        assert len(pickle.dumps(one)) < 1000
        assert pickle.loads(pickle.dumps(one)) == one

    def test_a_process_loads_once(self, folders):
        one, other = (predictor(folders["classifier"], batch_size=77) for _ in range(2))
        misses = _load.cache_info().misses
        one(["to be"])
        other(["to be"])
        assert _load.cache_info().misses == misses + 1

    def test_nothing_is_loaded_before_it_is_used(self, tmp_path):
        one = BatchPredictor(tmp_path / "nowhere")
        with pytest.raises(ValueError, match="nowhere"):
            one(["to be"])

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"backend": "tensorrt"}, "must be torch, onnx or int8, got 'tensorrt'"),
            ({"backend": "onnx", "device": "cuda"}, "onnx runs on the cpu"),
            ({"backend": "onnx", "precision": "auto"}, "a graph has its own"),
            ({"precision": "bf16"}, "must be float32, bfloat16 or auto, got 'bf16'"),
        ],
    )
    def test_what_makes_no_sense(self, folders, options, said):
        with pytest.raises(ValueError, match=said):
            predictor(folders["classifier"], **options)

    def test_words_are_for_taggers(self, folders):
        with pytest.raises(ValueError, match="is for taggers"):
            predictor(folders["classifier"], is_split_into_words=True)(["to"])


class TestEngines:
    """The recipes of the guide, run by the engines themselves."""

    def test_datasets(self, folders, texts):
        rows = Dataset.from_dict({"text": [None, *texts]}).with_format("arrow")
        found = rows.map(predictor(folders["classifier"]), batched=True, batch_size=7).with_format(None)
        expected = predictor(folders["classifier"])([None, *texts])
        assert found["label"][:] == expected["label"]
        assert found["score"][:] == pytest.approx(expected["score"], abs=1e-6)
        assert found["error"][:] == expected["error"]

    def test_duckdb(self, folders, texts):
        duckdb = pytest.importorskip("duckdb", reason="needs pip install duckdb")
        kinds = {"label": "VARCHAR", "score": "DOUBLE", "error": "VARCHAR"}
        connection = duckdb.connect()
        connection.create_function(
            "classify", predictor(folders["classifier"]), ["VARCHAR"], duckdb.struct_type(kinds),
            type="arrow", null_handling="special",
        )  # fmt: skip
        rows = pa.table({"id": range(len(texts) + 1), "text": [*texts, None]})  # noqa: F841
        found = connection.sql("SELECT id, unnest(classify(text)) FROM rows ORDER BY id").fetchall()
        expected = predictor(folders["classifier"])([*texts, None])
        assert [row[1] for row in found] == expected["label"]
        assert [row[2] for row in found] == pytest.approx(expected["score"], abs=1e-6)
        assert [row[3] for row in found] == expected["error"]

    def test_spark(self, folders, texts, monkeypatch):
        """A session of Spark with two workers, which takes half a minute."""
        pytest.importorskip("pyspark", reason="needs pip install pyspark, and Java")
        if shutil.which("java") is None:
            pytest.skip("Spark needs Java")
        from pyspark.sql import SparkSession
        from pyspark.sql.functions import pandas_udf

        monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
        monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        session = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
        try:
            one = BatchPredictor(folders["classifier"])

            @pandas_udf("label string, score double, error string")
            def classify(texts: pd.Series) -> pd.DataFrame:
                return one(texts)

            rows = session.createDataFrame([*enumerate(texts), (len(texts), None)], "id int, text string")
            found = rows.repartition(4).select("id", classify("text").alias("found")).orderBy("id").collect()
        finally:
            session.stop()
        expected = predictor(folders["classifier"])([*texts, None])
        for name in ("label", "error"):
            assert [row.found[name] for row in found] == expected[name]
        scores = [row.found.score for row in found]
        assert scores[:-1] == pytest.approx(expected["score"][:-1], abs=1e-6)
