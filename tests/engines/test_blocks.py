"""Blocks hold each row once, in whatever order they are read."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_hf.engines import blocks as module
from rnn_hf.engines.blocks import BlockReader, plan_blocks
from rnn_hf.engines.sources import find_sources

TEXTS = [f"text {number}\nof two lines" if number % 7 == 0 else f"text {number}" for number in range(50)]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    """The same rows in each format."""
    folder = tmp_path_factory.mktemp("blocks")
    lines = "\n\n".join(json.dumps({"text": text}) for text in TEXTS)
    (folder / "a.jsonl").write_text("\ufeff" + lines)
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (folder / "a.csv").write_text("text\n" + "\n".join(f'"{text}"' for text in TEXTS))
    pq.write_table(pa.table({"text": TEXTS}), folder / "a.parquet", row_group_size=9)
    return {path.name: str(path) for path in folder.iterdir()}


def read(reader, block) -> list[str]:
    found = []
    for window in reader.read(block):
        rows = window.rows if isinstance(window.rows, list) else window.rows.to_pylist()
        assert window.faults == [None] * len(rows)
        found += [row["text"] for row in rows]
    return found


@pytest.mark.parametrize("name", ["a.jsonl", "b.jsonl.gz", "a.csv", "a.parquet"])
@settings(max_examples=20, deadline=None)
@given(size=st.integers(1, 60), window=st.integers(1, 9), data=st.data())
def test_every_row_once_in_any_order(files, name, size, window, data):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "WINDOW", window)
        sources = find_sources(files[name])
        blocks = plan_blocks(sources, size)
        assert [block.num_rows for block in blocks[:-1]] == [size] * (len(blocks) - 1)
        reader = BlockReader(sources)
        for number in data.draw(st.lists(st.integers(0, len(blocks) - 1), max_size=9)):
            block = blocks[number]
            assert read(reader, block) == TEXTS[block.first_row :][: block.num_rows]
        assert [text for block in blocks for text in read(reader, block)] == TEXTS


def test_a_file_that_became_shorter(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "to be"}\n' * 3)
    sources = find_sources(str(tmp_path))
    (block,) = plan_blocks(sources, 10)
    (tmp_path / "a.jsonl").write_text('{"text": "to be"}\n' * 2)
    with pytest.raises(ValueError, match="has fewer rows than when it was first read"):
        list(BlockReader(sources).read(block))
