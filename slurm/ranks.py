"""The tasks of a SLURM job that train each run together: task 0 is the worker, others follow it.

SLURM's task layout says who is who. The tasks meet at the address of the job's first node, at a
port that no other job has at the same time. Where a site needs another, the profile's `environment`
sets MASTER_ADDR or MASTER_PORT.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from paper_repro.config import Execution, Parallel
from paper_repro.records import Record
from paper_repro.records.lease import LeasedRun
from paper_repro.training import Trainer
from paper_repro.training.processes import Processes, SeveralProcesses

PORTS = range(10_000, 32_768)
"""Below those that Linux gives to connections."""


class Announcement(NamedTuple):
    """What task 0 announces to the others before each run; an empty list ends the work."""

    bundle: str
    """The same for runs that share a trainer."""
    execution: dict[str, Any]
    """How they execute, as JSON holds it."""
    run_id: str


def join(count: int, parallel: Parallel) -> SeveralProcesses:
    """Meet the other tasks of this job.

    Raises:
        RuntimeError: SLURM started another number of tasks.
    """
    tasks = int(os.environ["SLURM_NTASKS"])
    if tasks != count:
        raise RuntimeError(f"SLURM started {tasks} tasks, expected {count}")
    # Not a name of a node: those need not resolve everywhere.
    host = os.environ.get("MASTER_ADDR") or os.environ["SLURM_LAUNCH_NODE_IPADDR"]
    port = os.environ.get("MASTER_PORT") or PORTS[int(os.environ["SLURM_JOB_ID"]) % len(PORTS)]
    rank, local_rank = int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_LOCALID"])
    return SeveralProcesses(parallel, rank, count, local_rank, (host, int(port)))


def announced(
    runs: Iterable[LeasedRun], execution: Execution, processes: Processes, bundle: str
) -> Iterator[LeasedRun]:
    """The runs of a bundle, each announced to the followers before it is trained.

    Args:
        bundle: a name that runs share if they share a trainer.
    """
    for run in runs:
        how = execution.model_dump(mode="json")
        processes.share(Announcement(bundle, how, run.record.directory.name))
        yield run


def dismiss(processes: Processes) -> None:
    """Tell the followers that there are no more runs."""
    processes.share([])


def follow(sweep_dir: Path, should_stop: Callable[[], bool], processes: Processes) -> None:
    """Train what task 0 announces, until it has no more or training is stopped.

    An error, here or in another task, ends this process (`Processes.abort`).
    """
    shared: Iterator[list[Any]] = iter(lambda: processes.share([]), [])
    announcements = (Announcement(*words) for words in shared)
    for (_, how), bundle in groupby(announcements, key=lambda a: (a.bundle, a.execution)):
        execution = Execution.model_validate(how)
        trainer: Trainer | None = None
        for announcement in bundle:
            try:
                config = Record(sweep_dir / announcement.run_id).config()
                trainer = trainer or Trainer(config, execution, processes)
                outcomes = trainer.fit([config], should_stop=should_stop)
            except Exception as error:
                raise processes.abort(error) from None
            if None in outcomes:
                return
