"""Starting workers on this machine (`local`) or in this process (`debug`).

On SLURM, `slurm.submit` does it.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import submitit

from paper_repro.errors import ConfigError
from slurm.hardware import gpus
from slurm.worker import Worker

MINUTES = 365 * 24 * 60
"""Time limit of workers here: a year, since submitit wants one."""


@dataclass(frozen=True)
class WorkersHere:
    """Workers on this machine, or in this process."""

    jobs: list[submitit.Job[None]]
    waiting: Counter[str] = field(default_factory=Counter)
    """How many have not started, by the reason: none, here all start at once."""

    def gone(self) -> bool:
        """Whether all have ended. Workers in this process do all their work in this call."""
        return all(job.done() for job in self.jobs)

    def stop(self) -> None:
        """Ask the workers of this machine to save their runs and end. Harmless to repeat."""
        for job in self.jobs:
            if not job.done():
                os.kill(int(job.job_id), signal.SIGTERM)  # to its controller, which hands it on


def submit(
    worker: Worker, workers: int, cluster: Literal["local", "debug"], folder: Path
) -> WorkersHere:
    """Start `workers` workers; `folder` gets their logs and submitit's own files.

    Raises:
        ConfigError: they need a GPU and there is none.
    """
    if worker.execution.device == "cuda" and not gpus("cuda"):
        raise ConfigError("--device cuda: this machine shows no GPU (CUDA_VISIBLE_DEVICES, /dev)")
    # Children inherit an ignored Ctrl-C: submitit's local controller would kill its worker a second
    # after one, in the middle of a checkpoint. The launcher stops its workers itself (`stop`).
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    # submitit hides all GPUs from local jobs that ask for none: each worker gets its own.
    shown = gpus(worker.execution.device) if cluster == "local" else []
    try:
        executor = submitit.AutoExecutor(folder, cluster)
        executor.update_parameters(name="sweep", timeout_min=MINUTES)
        with executor.batch():
            jobs = [
                executor.submit(replace(worker, gpu=shown[index % len(shown)] if shown else None))
                for index in range(workers)
            ]
        return WorkersHere(jobs)
    finally:
        signal.signal(signal.SIGINT, handler)
