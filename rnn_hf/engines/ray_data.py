"""Predict on blocks with Ray Data: on the cores of this machine or on a cluster."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from ..utils.command_line import describe
from .parts import BlockWorker, Counts, Job


class _Actor:
    """What Ray keeps in each of its workers."""

    def __init__(self, job: Job):
        self.worker = BlockWorker(job)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        number = int(row["block"])
        try:
            counts = self.worker.run(number)
        except Exception as error:
            return {"block": number, "rows": 0, "errors": 0, "fault": describe(error)}
        return {"block": number, "rows": counts.rows, "errors": counts.errors, "fault": ""}


def run_ray(job: Job, numbers: Iterable[int], num_workers: int | None = None) -> Iterator[tuple[int, Counts]]:
    """Predict on blocks, each in one of Ray's actors, with one core each. Ray replaces actors that are lost.

    Args:
        job ([`Job`]): What to do. Each machine of a cluster must reach the model, the input and the output.
        numbers (`Iterable[int]`): Which blocks.
        num_workers (`int`, *optional*): How many actors; one for each core of the cluster without it.

    Yields:
        `tuple[int, Counts]`: A block that is done, and its counts; in any order.

    Raises:
        ValueError: A worker could not do its work.
    """
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    if not ray.is_initialized():
        # That of RAY_ADDRESS, if it is set.
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    size = num_workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    actor: Any = _Actor
    wanted = [{"block": number} for number in numbers]
    # A task for each block, as far as Ray likes so many.
    blocks = ray.data.from_items(wanted, override_num_blocks=min(len(wanted), 10_000))
    done = blocks.map(actor, fn_constructor_args=(job,), compute=ActorPoolStrategy(size=size), num_cpus=1)
    for row in done.iter_rows():
        if row["fault"]:
            raise ValueError(row["fault"])
        yield row["block"], Counts(row["rows"], row["errors"])


__all__ = ["run_ray"]
