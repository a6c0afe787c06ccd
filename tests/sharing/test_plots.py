"""Plots are written whole, or not at all."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from rnn_hf.sharing.plots import draw_confusion_matrix, draw_training_curve

ROOT = Path(__file__).parents[1]
HISTORY = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.3}]
DRAW = {
    "curve": lambda path: draw_training_curve(HISTORY, path),
    "matrix": lambda path: draw_confusion_matrix([[8, 2], [1, 9]], ["ham", "spam"], path),
}


@pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW)
def test_the_same_numbers_give_the_same_picture(draw, tmp_path):
    for name in ("a.png", "b.png"):
        draw(tmp_path / name)
    assert (tmp_path / "a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW)
def test_a_full_disk_leaves_the_old_picture_whole(draw, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"old" * 99)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(ValueError, match=r"a\.png cannot be written: "):
            draw(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"old" * 99
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_said_where_matplotlib_has_no_cache_folder():
    environment = os.environ | {"MPLCONFIGDIR": "/proc/nowhere", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", "import rnn_hf.sharing.plots"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout + result.stderr == ""
