"""Predict on blocks with the cores of this machine: processes, of which any may be killed."""

import multiprocessing
import os
import signal
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from ..utils.command_line import describe
from .parts import BlockWorker, Counts, Job

# How often a worker may be lost on one block, before the block is to blame.
MOST_LOSSES = 3
# How long a worker may take to end.
_MOST_SECONDS = 10


def run_processes(job: Job, numbers: Iterable[int], num_workers: int) -> Iterator[tuple[int, Counts]]:
    """Predict on blocks, each in one of some processes. Where one is lost, another takes its block.

    Args:
        job ([`Job`]): What to do.
        numbers (`Iterable[int]`): Which blocks.
        num_workers (`int`): How many processes.

    Yields:
        `tuple[int, Counts]`: A block that is done, and its counts; in any order.

    Raises:
        ValueError: A worker could not do its work, or one block costs worker after worker.
    """
    waiting, lost = deque(numbers), Counter[int]()
    context = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
    if os.name == "posix":
        context.set_forkserver_preload([__name__])  # so that a worker that is lost is soon replaced
    workers: list[_Worker] = []
    try:
        while waiting or workers:
            while waiting and len(workers) < num_workers:
                workers.append(_Worker(context, job))
                workers[-1].give(waiting.popleft())
            ready = wait([worker.connection for worker in workers])
            for worker in [one for one in workers if one.connection in ready]:
                try:
                    fault, counts = worker.connection.recv()
                except (EOFError, OSError):
                    workers.remove(worker)
                    worker.end()
                    lost[worker.block] += 1
                    if lost[worker.block] == MOST_LOSSES:
                        raise ValueError(_loss(job, worker.block)) from None
                    waiting.appendleft(worker.block)
                    continue
                if fault is not None:
                    raise ValueError(fault)
                done = worker.block
                if waiting:
                    worker.give(waiting.popleft())
                else:
                    workers.remove(worker)
                    worker.end(wait_for=_MOST_SECONDS)
                yield done, counts
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A process that predicts on one block after the other."""

    def __init__(self, context: Any, job: Job):
        self.connection, theirs = context.Pipe()
        self.block = -1
        self.process = context.Process(target=_work, args=(theirs, job), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, block: int) -> None:
        self.block = block
        with suppress(OSError):  # a process that is lost is seen when its result is read
            self.connection.send(block)

    def end(self, wait_for: float = 0) -> None:
        self.connection.close()  # at which a process without a block ends
        self.process.join(wait_for)
        self.process.kill()
        self.process.join()


def _work(connection: Connection, job: Job) -> None:
    """Predict on the blocks that come, until none does, or the process that sends them is lost."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that sends them ends this one
    worker = None
    with suppress(EOFError, OSError):
        while True:
            block = connection.recv()
            result: tuple[str | None, Counts]
            try:
                worker = worker or BlockWorker(job)
                result = None, worker.run(block)
            except Exception as error:
                result = describe(error), Counts()
            connection.send(result)


def _loss(job: Job, number: int) -> str:
    block = job.blocks[number]
    return (
        f"{job.sources[block.source].name}, rows {block.first_row + 1:,} to {block.first_row + block.num_rows:,}: "
        f"{MOST_LOSSES} workers were killed there, one after the other. Is there too little memory? Take fewer workers "
        "or smaller batches."
    )


__all__ = ["MOST_LOSSES", "run_processes"]
