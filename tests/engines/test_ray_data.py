"""Ray Data with two workers, run for real: its own batches, and the command."""

import os
import shutil
import signal
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnn_hf.engines.batch_predictor import BatchPredictor
from rnn_hf.engines.bulk import predict_files

ray = pytest.importorskip("ray", reason='needs pip install "rnn_hf[ray]"')


@pytest.fixture(scope="module", autouse=True)
def _two_cores(tmp_path_factory):
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
    yield
    ray.shutdown()


@pytest.fixture
def source(texts, tmp_path) -> str:
    pq.write_table(pa.table({"id": range(4040), "text": texts * 101}), tmp_path / "a.parquet", row_group_size=300)
    return str(tmp_path / "a.parquet")


@pytest.fixture
def whole(folders, source, tmp_path) -> list[dict]:
    """What the processes of this machine predict."""
    predict_files(BatchPredictor(folders["classifier"]), source, str(tmp_path / "whole"), rows_per_file=100)
    return pq.read_table(tmp_path / "whole").to_pylist()


def test_a_pipeline_of_its_own(folders, source, whole):
    rows = ray.data.read_parquet(source).map_batches(
        BatchPredictor,
        fn_constructor_args=(folders["classifier"],),
        batch_format="pyarrow",
        batch_size=1000,
        compute=ray.data.ActorPoolStrategy(size=2),
        num_cpus=0.5,  # else none is left to read with
    )
    found = sorted(rows.take_all(), key=lambda row: row["id"])
    assert [row["label"] for row in found] == [row["prediction"] for row in whole]
    assert [row["score"] for row in found] == pytest.approx([row["score"] for row in whole], abs=1e-5)


def test_workers_that_are_killed(folders, source, whole, tmp_path):
    psutil = pytest.importorskip("psutil")
    kills, stop = [], threading.Event()

    def kill() -> None:
        while not stop.wait(0.05) and len(kills) < 3:
            if len(list((tmp_path / "out").glob("part-*"))) < 3 * (1 + len(kills)):
                continue
            for process in psutil.process_iter(["name", "cmdline"]):
                if "MapWorker" in " ".join(process.info["cmdline"] or []):
                    kills.append(process.pid)
                    os.kill(process.pid, signal.SIGKILL)
                    break

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        predictor = BatchPredictor(folders["classifier"])
        counts = predict_files(predictor, source, str(tmp_path / "out"), engine="ray", num_workers=2, rows_per_file=100)
    finally:
        stop.set()
        killer.join()
    assert kills
    assert counts.errors == 0
    assert pq.read_table(tmp_path / "out").to_pylist() == whole


def test_a_model_that_cannot_be_loaded(source, tmp_path, folders):
    (tmp_path / "model").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(f"{folders['classifier']}/{name}", tmp_path / "model")
    with pytest.raises(ValueError, match="tokenizer"):
        predict_files(BatchPredictor(tmp_path / "model"), source, str(tmp_path / "out"), engine="ray", num_workers=1)
