"""Memory that is kept for the next tensors."""

import subprocess
import sys

import pytest

# Counts the page faults of making the same tensor again and again.
PROGRAM = """
import resource, sys, torch
from rnn_hf.utils.memory import keep_freed_memory
kept = sys.argv[1] == "kept" and keep_freed_memory()
torch.zeros(4_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.zeros(4_000_000)
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_memory_that_was_freed_serves_the_next_tensor():
    def run(name: str) -> list[int]:
        done = subprocess.run([sys.executable, "-c", PROGRAM, name], capture_output=True, text=True, check=True)
        return list(map(int, done.stdout.split()))

    (is_set, faults), (_, without) = run("kept"), run("returned")
    if is_set:
        assert faults <= without
