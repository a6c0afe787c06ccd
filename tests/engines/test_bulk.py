"""Files of any size through several processes: the rows and predictions of `predict`, whatever is killed on the way."""

import bz2
import contextlib
import gzip
import json
import lzma
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value, load_dataset

from rnn_hf.commands.predict import main
from rnn_hf.engines.batch_predictor import BatchPredictor
from rnn_hf.engines.bulk import predict_files
from rnn_hf.engines.parts import MANIFEST, OutputFolder
from rnn_hf.engines.processes import MOST_LOSSES
from rnn_hf.inference.bfloat16 import computes_bfloat16
from rnn_hf.inference.loading import load
from rnn_hf.inference.predictor import predict

ROOT = Path(__file__).parents[2]


def run(folder: str, source, output, **options):
    return predict_files(
        BatchPredictor(folder), str(source), str(output), **{"num_workers": 1, "rows_per_file": 7} | options
    )


def output(folder) -> list[dict]:
    """Return the rows of all files in their order."""
    found = []
    for path in sorted(Path(folder).glob("part-*")):
        if path.suffix == ".parquet":
            found += pq.read_table(path).to_pylist()
        else:
            found += [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return found


def without_errors(rows: list[dict]) -> list[dict]:
    assert [row["error"] for row in rows] == [None] * len(rows)
    return rounded([{name: value for name, value in row.items() if name != "error"} for row in rows])


def rounded(value, digits: int = 5):
    """Leave out the digits that depend on how rows stand together in batches."""
    if isinstance(value, list):
        return [rounded(one, digits) for one in value]
    if isinstance(value, dict):
        return {name: rounded(one, digits) for name, one in value.items()}
    if isinstance(value, str) and value.startswith("{"):
        return rounded(json.loads(value), digits)
    return round(value, digits) if isinstance(value, float) else value


def by_command(folder: str, source: Path, tmp_path: Path, ending: str = "jsonl", *options: str) -> list[dict]:
    """Predict with one process and one file, as without a folder for the output."""
    target = tmp_path / f"alone.{ending}"
    main([folder, str(source), "--output_file", str(target), *options])
    if ending == "parquet":
        return rounded(pq.read_table(target).to_pylist())
    return rounded([json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()])


def write_rows(path: Path, texts: list[str], **columns) -> Path:
    """Write rows with an id as the ending tells."""
    rows = {"id": [f"{index:03}" for index in range(len(texts))], "text": texts} | columns
    name = path.name
    if name.endswith(".parquet"):
        pq.write_table(pa.table(rows), path, row_group_size=9)
        return path
    separator = "\t" if ".tsv" in name else ","
    if ".jsonl" in name:
        content = "".join(
            json.dumps(dict(zip(rows, row, strict=True))) + "\n" for row in zip(*rows.values(), strict=True)
        )
    elif ".txt" in name:
        content = "".join(f"{text}\n" for text in texts)
    else:
        lines = [separator.join(rows), *(separator.join(row) for row in zip(*rows.values(), strict=True))]
        content = "".join(f"{line}\n" for line in lines)
    data = content.encode()
    openers = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    path.write_bytes(openers[path.suffix](data) if path.suffix in openers else data)
    return path


class TestEqualsPredict:
    @pytest.mark.parametrize(
        "name", ["a.parquet", "a.jsonl", "a.csv", "a.tsv", "a.jsonl.gz", "a.csv.bz2", "a.jsonl.xz"]
    )
    def test_rows_of_each_format(self, folders, texts, tmp_path, name):
        source = write_rows(tmp_path / name, texts)
        counts = run(folders["classifier"], source, tmp_path / "out")
        assert counts == (40, 0)
        assert len(list((tmp_path / "out").glob("part-*"))) == 6
        ending = "parquet" if name == "a.parquet" else "jsonl"
        assert without_errors(output(tmp_path / "out")) == by_command(folders["classifier"], source, tmp_path, ending)

    @pytest.mark.parametrize("model", ["several labels", "regression"])
    @pytest.mark.parametrize("ending", ["parquet", "jsonl"])
    def test_each_kind_of_classifier(self, folders, texts, tmp_path, model, ending):
        source = write_rows(tmp_path / f"a.{ending}", texts)
        run(folders[model], source, tmp_path / "out")
        assert without_errors(output(tmp_path / "out")) == by_command(folders[model], source, tmp_path, ending)

    @pytest.mark.parametrize("ending", ["parquet", "jsonl"])
    def test_words(self, folders, texts, tmp_path, ending):
        rows = Dataset.from_dict({"tokens": [text.split() for text in texts]})
        source = tmp_path / f"a.{ending}"
        (rows.to_parquet if ending == "parquet" else rows.to_json)(source)
        run(folders["tagger"], source, tmp_path / "out")
        assert without_errors(output(tmp_path / "out")) == by_command(folders["tagger"], source, tmp_path, ending)

    def test_lines(self, folders, texts, tmp_path):
        source = write_rows(tmp_path / "a.txt", texts)
        run(folders["classifier"], source, tmp_path / "out")
        expected = by_command(folders["classifier"], source, tmp_path)
        for row, one in zip(output(tmp_path / "out"), expected, strict=True):
            expected = {"text": one["text"], "prediction": one["label"], "score": one["score"], "error": None}
            assert rounded(row) == expected

    def test_lines_of_fasttext(self, folders, tmp_path):
        (tmp_path / "a.txt").write_text("__label__a to be\n__label__b __label__c or\n")
        run(folders["classifier"], tmp_path / "a.txt", tmp_path / "out")
        assert [row["text"] for row in output(tmp_path / "out")] == ["to be", "or"]

    @pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.parquet"])
    def test_raw_text_for_a_tagger(self, folders, texts, tmp_path, name):
        source = write_rows(tmp_path / name, texts)
        run(folders["tagger"], source, tmp_path / "out")
        sentences = [text.split() for text in texts]
        expected = [one["tags"] for one in predict(*load(folders["tagger"]), sentences)]
        found = output(tmp_path / "out")
        assert [(row["text"], row["tokens"], row["prediction"]) for row in found] == list(
            zip(texts, sentences, expected, strict=True)
        )
        for row in found:
            assert all(row["text"][span["start"] : span["end"]].split() for span in row["spans"])

    def test_from_one_format_to_the_other(self, folders, texts, tmp_path):
        source = write_rows(tmp_path / "a.jsonl", texts, stars=[index / 2 for index in range(40)])
        run(folders["classifier"], source, tmp_path / "parquet", output_format="parquet")
        expected = by_command(folders["classifier"], source, tmp_path)
        assert without_errors(output(tmp_path / "parquet")) == expected
        pq.write_table(pq.read_table(tmp_path / "parquet").select(["id", "text", "stars"]), tmp_path / "b.parquet")
        run(folders["classifier"], tmp_path / "b.parquet", tmp_path / "jsonl", output_format="jsonl")
        assert without_errors(output(tmp_path / "jsonl")) == expected

    def test_times_and_bytes_are_written_to_json_as_texts(self, folders, tmp_path):
        table = pa.table({"text": ["to be"], "when": pa.array([0], pa.timestamp("s")), "data": [b"\x00"]})
        pq.write_table(table, tmp_path / "a.parquet")
        run(folders["classifier"], tmp_path / "a.parquet", tmp_path / "out", output_format="jsonl")
        assert output(tmp_path / "out")[0]["when"] == "1970-01-01 00:00:00"

    def test_names_of_labels_survive(self, folders, tmp_path):
        features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
        Dataset.from_dict({"text": ["to be"], "label": [1]}, features).to_parquet(tmp_path / "a.parquet")
        run(folders["classifier"], tmp_path / "a.parquet", tmp_path / "out")
        found = load_dataset("parquet", data_files=str(tmp_path / "out" / "*.parquet"), split="train")
        assert found.features["label"].names == ["no", "yes"]
        assert found["prediction"][0] in "abc"

    def test_names_that_are_taken(self, folders, tmp_path):
        write_rows(tmp_path / "a.jsonl", ["to be"], error=["none"], score=["1"])
        run(folders["classifier"], tmp_path / "a.jsonl", tmp_path / "out")
        (row,) = output(tmp_path / "out")
        assert list(row) == ["id", "text", "error", "score", "prediction", "score_2", "error_2"]
        assert row["error_2"] is None

    def test_rejected_texts(self, folders, texts, tmp_path):
        source = write_rows(tmp_path / "a.jsonl", texts)
        main(
            [folders["classifier"], str(source), "--output_dir", str(tmp_path / "out"), "--rejection_threshold", "0.6"]
        )
        expected = by_command(folders["classifier"], source, tmp_path, "jsonl", "--rejection_threshold", "0.6")
        assert without_errors(output(tmp_path / "out")) == expected

    @pytest.mark.parametrize("ending", ["parquet", "csv"])
    def test_to_the_last_digit_with_the_usual_number_of_rows(self, folders, texts, tmp_path, ending):
        random.Random(0).shuffle(texts := texts * 500)
        source = write_rows(tmp_path / f"a.{ending}", texts)
        main([folders["classifier"], str(source), "--output_dir", str(tmp_path / "out")])
        main([folders["classifier"], str(source), "--output_file", str(tmp_path / "one.parquet")])
        assert len(list((tmp_path / "out").glob("part-*"))) == 2
        expected = pq.read_table(tmp_path / "one.parquet").to_pylist()
        assert output(tmp_path / "out") == [row | {"error": None} for row in expected]

    def test_an_exported_model(self, folders, texts, tmp_path):
        source = write_rows(tmp_path / "a.jsonl", texts)
        options = ["--backend", "onnx"]
        main([folders["classifier"], str(source), "--output_dir", str(tmp_path / "out"), *options])
        expected = by_command(folders["classifier"], source, tmp_path, "jsonl", *options)
        assert without_errors(output(tmp_path / "out")) == expected


class TestInputs:
    @pytest.mark.parametrize("address", ["", "/*.jsonl", "/**/*.jsonl"])
    def test_folders_and_patterns(self, folders, texts, tmp_path, address):
        folder = tmp_path / ".hidden" / "in"
        (folder / "deep").mkdir(parents=True)
        write_rows(folder / "b.jsonl", texts[:20])
        write_rows(folder / "a.jsonl", texts[20:])
        (folder / "_manifest.json").write_text("{}")
        if "**" in address:
            write_rows(folder / "deep" / "c.jsonl", ["to be"])
        counts = run(folders["classifier"], f"{folder}{address}", tmp_path / "out")
        found = [row["text"] for row in output(tmp_path / "out")]
        assert found[:40] == texts[20:] + texts[:20]
        assert counts.rows == len(found) == 40 + ("**" in address)

    def test_addresses(self, folders, texts, tmp_path):
        write_rows(tmp_path / "a.csv", texts)
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
            file.write(tmp_path / "a.csv", "inside/a.csv")
        for number, address in enumerate([f"file://{tmp_path}/a.csv", f"zip://inside/*.csv::file://{tmp_path}/a.zip"]):
            run(folders["classifier"], address, f"file://{tmp_path}/{number}")
            assert [row["text"] for row in output(tmp_path / str(number))] == texts

    def test_tables_with_another_separator_and_quotes(self, folders, tmp_path):
        (tmp_path / "a.csv").write_bytes('\ufefftext;id\r\n"to ""be""\nor";7\r\n\r\nnot;8\r\n'.encode())
        run(folders["classifier"], tmp_path / "a.csv", tmp_path / "out", rows_per_file=1)
        assert [(row["text"], row["id"]) for row in output(tmp_path / "out")] == [('to "be"\nor', "7"), ("not", "8")]

    def test_other_encodings(self, folders, tmp_path):
        (tmp_path / "a.csv").write_bytes("text\ncafé\n".encode("latin-1"))
        run(folders["classifier"], tmp_path / "a.csv", tmp_path / "out", dataset_kwargs={"encoding": "latin-1"})
        assert output(tmp_path / "out")[0]["text"] == "café"

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("a.jsonl", "[]", "holds an array"),
            ("a.jsonl", "", "there are no rows"),
            ("a.jsonl", "no JSON\n", "holds no rows of JSON lines: row 1: Expecting value"),
            ("a.jsonl", '{"review": "to be"}\n{"review": 1}', None),
            ("a.jsonl", '{"id": 1}', "has no column 'text', only: 'id'.*--text_column"),
            ("a.csv", "text,text\na,b\n", "several columns with the name 'text'"),
            ("a.csv", 'text\n"to be\n', "after 1 rows, a quote that is not closed"),
            ("a.parquet", "PAR1", "could not be read as parquet"),
            ("a.conll", "to\tX\n", None),
        ],
    )
    def test_what_cannot_be_read(self, folders, tmp_path, name, content, said):
        (tmp_path / name).write_text(content)
        if said is None:
            run(folders["classifier"], tmp_path / name, tmp_path / "out")
            return
        with pytest.raises(ValueError, match=said):
            run(folders["classifier"], tmp_path / name, tmp_path / "out")

    def test_files_that_do_not_go_together(self, folders, tmp_path):
        write_rows(tmp_path / "a.jsonl", ["to be"])
        with pytest.raises(ValueError, match="means no file"):
            run(folders["classifier"], tmp_path / "b*", tmp_path / "out")
        write_rows(tmp_path / "b.csv", ["to be"])
        with pytest.raises(ValueError, match="several formats, csv, json"):
            run(folders["classifier"], tmp_path, tmp_path / "out")
        (tmp_path / "c.jsonl").write_text('{"id": 1}')
        with pytest.raises(ValueError, match=r"c.jsonl has no column 'text', only: 'id'"):
            run(folders["classifier"], f"{tmp_path}/*.jsonl", tmp_path / "out")
        with pytest.raises(ValueError, match="nosuch"):
            run(folders["classifier"], "nosuch://a", tmp_path / "out")

    def test_a_model_that_cannot_be_loaded(self, folders, texts, tmp_path):
        shutil.copytree(folders["classifier"], tmp_path / "model")
        (tmp_path / "model" / "tokenizer.json").write_text("{}")
        source = write_rows(tmp_path / "a.jsonl", texts)
        with pytest.raises(ValueError, match="no tokenizer that can be read"):
            run(tmp_path / "model", source, tmp_path / "out")


class TestBadRows:
    """One row in a hundred is bad, in one of ten ways; all others are predicted on."""

    LINES = (
        b'{"id": %d, "text": null}', b'{"id": %d}', b'{"id": %d, "text": 7}', b'{"id": %d, "text": ["to"]}',
        b'{"id": %d, "text": {"to": "be"}}', b'{"id": %d, "text": "\\ud800"}', b'{"id": %d, "text": "caf\xe9"}',
        b'{"id": %d, "text": "to be', b"[%d]", b'{"id": %d, "text": true}',
    )  # fmt: skip

    @pytest.mark.parametrize("output_format", ["jsonl", "parquet"])
    def test_json_lines(self, folders, tmp_path, output_format):
        bad = {50 + 100 * number: line % (50 + 100 * number) for number, line in enumerate(self.LINES)}
        good = b'{"id": %d, "text": "to be or not"}'
        lines = [bad.get(number, good % number if number not in bad else b"") for number in range(1000)]
        (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
        counts = run(
            folders["classifier"], tmp_path / "a.jsonl", tmp_path / "out", output_format=output_format, rows_per_file=99
        )
        rows = output(tmp_path / "out")
        assert (counts.rows, counts.errors) == (1000, 10)
        assert [number for number, row in enumerate(rows) if row["error"]] == list(bad)
        assert {row["prediction"] is None for number, row in enumerate(rows) if number in bad} == {True}
        assert len({row["score"] for number, row in enumerate(rows) if number not in bad}) == 1
        said = [rows[number]["error"] for number in bad]
        assert "got None (NoneType)" in said[0]
        assert "lone surrogate" in said[5]
        assert "row 651: the byte 0xe9 is not utf-8" in said[6]
        assert "row 751: Invalid control character" in said[7]
        assert "row 851: a row must be an object, got [850]" in said[8]

    def test_tables(self, folders, tmp_path):
        (tmp_path / "a.csv").write_bytes(b"id,text\n1,to be\n2\n3,to,be\n4,caf\xe9\n5,or\n")
        run(folders["classifier"], tmp_path / "a.csv", tmp_path / "out")
        rows = output(tmp_path / "out")
        assert [row["id"] for row in rows] == list("12345")
        assert [row["error"] is not None for row in rows] == [False, False, True, True, False]
        assert "row 3: 3 fields, but 2 columns" in rows[2]["error"]
        assert rows[3]["text"] == "caf\ufffd"

    def test_lines(self, folders, tmp_path):
        (tmp_path / "a.txt").write_bytes(b"to be\ncaf\xe9\nor\n")
        run(folders["classifier"], tmp_path / "a.txt", tmp_path / "out")
        assert ["row 2: the byte 0xe9" in (row["error"] or "") for row in output(tmp_path / "out")] == [
            False,
            True,
            False,
        ]

    def test_parquet(self, folders, tmp_path):
        binary = pa.array([b"to be", b"caf\xe9", None], pa.binary())
        texts = pa.Array.from_buffers(pa.string(), 3, binary.buffers())
        pq.write_table(pa.table({"text": texts, "id": [1, 2, 3]}), tmp_path / "a.parquet")
        run(folders["classifier"], tmp_path / "a.parquet", tmp_path / "out")
        found = pq.read_table(tmp_path / "out", columns=["id", "prediction", "error"]).to_pylist()
        assert [row["prediction"] is None for row in found] == [False, True, True]
        assert "(bytes)" in found[1]["error"]

    def test_words(self, folders, tmp_path):
        rows = [{"tokens": ["to", "be"]}, {"tokens": "to be"}, {"tokens": ["to", None]}, {}]
        (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        run(folders["tagger"], tmp_path / "a.jsonl", tmp_path / "out")
        assert [row["error"] is None for row in output(tmp_path / "out")] == [True, False, False, False]

    def test_values_that_parquet_cannot_hold(self, folders, tmp_path):
        rows = [{"text": "to be", "stars": 4}] * 7 + [{"text": "or", "stars": "many"}, {"text": "not", "note": "new"}]
        rows.append({"text": "that", "prediction": "mine"})
        (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        run(folders["classifier"], tmp_path / "a.jsonl", tmp_path / "out", output_format="parquet")
        found = output(tmp_path / "out")
        assert all(row["prediction"] in ("a", "b", "c") for row in found)
        assert found[7]["error"] == "column 'stars' is no int64: 'many', and left out."
        assert found[8]["error"] == "column 'note' is left out: Parquet has the columns of the first rows."
        assert "its own column 'prediction' is replaced" in found[9]["error"]


class TestResuming:
    @pytest.fixture
    def source(self, texts, tmp_path) -> Path:
        return write_rows(tmp_path / "a.parquet", texts * 100)

    @pytest.fixture
    def whole(self, folders, source, tmp_path) -> list[dict]:
        run(folders["classifier"], source, tmp_path / "whole", rows_per_file=100)
        return output(tmp_path / "whole")

    def test_workers_that_are_killed(self, folders, source, whole, tmp_path):
        number, kills, stop = random.Random(0), [], threading.Event()

        def kill() -> None:
            while not stop.wait(number.uniform(0.05, 0.2)) and len(kills) < MOST_LOSSES - 1:
                workers = multiprocessing.active_children()
                if workers and list((tmp_path / "out").glob("part-*")):
                    kills.append(number.choice(workers).pid)
                    os.kill(kills[-1], signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            counts = run(folders["classifier"], source, tmp_path / "out", rows_per_file=100, num_workers=2)
        finally:
            stop.set()
            killer.join()
        assert kills
        assert counts == (4000, 0)
        assert output(tmp_path / "out") == whole
        assert {path.name.split("-")[0] for path in (tmp_path / "out").iterdir()} == {"part", MANIFEST}

    @pytest.mark.parametrize("engine", ["processes", "ray"])
    def test_a_command_that_is_killed(self, folders, source, whole, tmp_path, engine):
        if engine == "ray":
            pytest.importorskip("ray", reason='needs pip install "rnn_hf[ray]"')
        target = tmp_path / "out"
        command = [sys.executable, "-m", "rnn_hf", "predict", folders["classifier"], str(source)]
        command += ["--output_dir", str(target), "--rows_per_file", "100", "--num_workers", "2", "--engine", engine]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and len(list(target.glob("part-*"))) < 3:
                time.sleep(0.005)
            process.kill()
        assert process.returncode == -signal.SIGKILL
        time.sleep(1)  # workers end what they were at
        before = {path.name: path.stat().st_mtime_ns for path in target.glob("part-*")}
        assert 3 <= len(before) < 40
        assert json.loads((target / MANIFEST).read_text())["finished"] is False
        counts = run(folders["classifier"], source, target, rows_per_file=100)
        assert counts.rows == 4000 - 100 * len(before)
        assert {name: (target / name).stat().st_mtime_ns for name in before} == before
        assert output(target) == whole
        assert json.loads((target / MANIFEST).read_text())["finished"] is True
        assert run(folders["classifier"], source, target, rows_per_file=100) == (0, 0)

    def test_a_row_that_kills_each_worker_is_named(self, folders, source, tmp_path, monkeypatch):
        stop = threading.Event()

        def kill() -> None:
            while not stop.wait(0.001):
                for worker in multiprocessing.active_children():
                    with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                        os.kill(worker.pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            with pytest.raises(ValueError, match=r"a.parquet, rows 1 to 100: 3 workers were killed there"):
                run(folders["classifier"], source, tmp_path / "out", rows_per_file=100)
        finally:
            stop.set()
            killer.join()

    @pytest.mark.skipif(not computes_bfloat16(torch.device("cpu")), reason="no instructions for bfloat16")
    def test_a_run_keeps_the_precision_that_was_chosen(self, folders, texts, tmp_path, gain):
        source, target = write_rows(tmp_path / "a.jsonl", texts), tmp_path / "out"
        command = [folders["classifier"], str(source), "--output_dir", str(target), "--num_workers", "1"]
        for least in (0.0, 1e9):  # as if it had been timed anew
            gain(least)
            main(command)
            assert json.loads((target / MANIFEST).read_text())["settings"]["precision"] == "bfloat16"
            (target / "part-000000.jsonl").rename(tmp_path / f"{least}.jsonl")
        assert (tmp_path / "0.0.jsonl").read_bytes() == (tmp_path / "1000000000.0.jsonl").read_bytes()
        with pytest.raises(SystemExit):
            main([*command, "--precision", "float32"])
        shutil.rmtree(target)
        main([*command, "--precision", "float32"])
        assert (target / "part-000000.jsonl").read_bytes() != (tmp_path / "0.0.jsonl").read_bytes()

    def test_another_run_is_refused(self, folders, texts, tmp_path):
        source, target = write_rows(tmp_path / "a.jsonl", texts), tmp_path / "out"
        run(folders["classifier"], source, target)
        with pytest.raises(ValueError, match=r"another run, which differs in 'rows_per_file'"):
            run(folders["classifier"], source, target, rows_per_file=8)
        with pytest.raises(ValueError, match=r"another run, which differs in 'model'"):
            run(folders["several labels"], source, target)
        write_rows(source, texts[1:])
        with pytest.raises(ValueError, match=r"another run, which differs in 'input'"):
            run(folders["classifier"], source, target)
        (target / MANIFEST).write_text("[]")
        with pytest.raises(ValueError, match="cannot be read"):
            run(folders["classifier"], source, target)
        (target / MANIFEST).unlink()
        with pytest.raises(ValueError, match="is not empty"):
            run(folders["classifier"], source, target)
        with pytest.raises(ValueError, match="cannot be made"):
            run(folders["classifier"], source, source)


def test_files_at_an_address_are_whole_or_not_there():
    folder = OutputFolder("memory://out", "jsonl")
    with folder.replacing(folder.name_of(1), "w") as file:
        file.write("one")
        assert folder.finished() == set()
    with pytest.raises(KeyError), folder.replacing(folder.name_of(2), "w"):
        raise KeyError
    assert folder.finished() == {1}
    assert folder.read(folder.name_of(1)) == "one"
    assert folder.read(MANIFEST) is None
    folder.system.pipe_file(f"{folder.path}/.part-000002.jsonl.x", b"")
    folder.remove_leftovers()
    assert folder.names() == ["part-000001.jsonl"]


class TestCommand:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--engine", "ray"], "--engine is for numbered files: name a folder for them with --output_dir"),
            (["--num_workers", "2"], "--num_workers is for numbered files"),
            (["--rows_per_file", "2"], "--rows_per_file is for numbered files"),
            (["--output_dir", "out", "--output_file", "a.csv"], "either --output_file or --output_dir"),
            (["--output_dir", "out", "--output_format", "csv"], "parquet or jsonl is written"),
            (["--output_dir", "out", "--input_format", "conll"], "JSON lines and lines of text are read"),
            (["--output_dir", "out", "--label_separator", ";"], "--label_separator is for CSV"),
            (["--output_dir", "out", "--backend", "onnx", "--file_name", "a.onnx"], "takes onnx/model.onnx or onnx/"),
        ],
    )
    def test_what_makes_no_sense(self, folders, texts, tmp_path, monkeypatch, capsys, options, said):
        monkeypatch.chdir(tmp_path)
        write_rows(tmp_path / "a.jsonl", texts)
        with pytest.raises(SystemExit):
            main([folders["classifier"], "a.jsonl", *options])
        assert said in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    def test_standard_input(self, folders, capsys):
        with pytest.raises(SystemExit):
            main([folders["classifier"], "--output_dir", "out"])
        assert "standard input cannot be read again" in capsys.readouterr().err

    def test_says_what_was_done(self, folders, tmp_path, capsys):
        (tmp_path / "a.jsonl").write_text('{"text": "to be"}\n{"text": null}\n')
        main([folders["classifier"], str(tmp_path / "a.jsonl"), "--output_dir", str(tmp_path / "out")])
        said = capsys.readouterr()
        assert "2 rows are predicted on, 1 of them with an error, which the output names" in said.out
        assert "2/2" in said.err
