"""Starting workers: one code path for this machine (`local`), this process (`debug`) and SLURM."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import submitit
from submitit.core.utils import FailedJobError

from paper_repro.config import Execution
from paper_repro.errors import ConfigError
from slurm.worker import Worker

Cluster = Literal["local", "slurm", "debug"]
Job = submitit.Job[None]

MINUTES = {"local": 365 * 24 * 60, "debug": 365 * 24 * 60, "slurm": 24 * 60}
"""Time limits. On SLURM a job that reaches it checkpoints and is requeued."""
REQUEUES = 100


def default_workers(cluster: Cluster, device: str) -> int:
    """One worker a GPU where there are some and they may be used, else one a core."""
    if cluster == "debug":
        return 1
    return len(_gpus(device)) or _cores()


def submit(worker: Worker, workers: int, cluster: Cluster, folder: Path) -> list[Job]:
    """Start that many workers; `folder` gets their logs and submitit's own files.

    Raises:
        ConfigError: the cluster is not there or refuses the jobs.
    """
    # Children inherit an ignored Ctrl-C: submitit's local controller would kill its worker a second
    # after one, in the middle of a checkpoint. The launcher stops its workers itself (`stop`).
    if worker.execution.device == "cuda" and cluster != "slurm" and not _gpus("cuda"):
        raise ConfigError("--device cuda: this machine shows no GPU (CUDA_VISIBLE_DEVICES, /dev)")
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    # submitit hides all GPUs from local jobs that ask for none: each worker is told its own.
    gpus = _gpus(worker.execution.device) if cluster == "local" else []
    try:
        executor = _executor(cluster, folder, workers, worker.execution)
        with executor.batch():
            return [
                executor.submit(replace(worker, gpu=gpus[index % len(gpus)] if gpus else None))
                for index in range(workers)
            ]
    except (RuntimeError, FailedJobError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"--cluster {cluster}: cannot submit: {reason}") from None
    finally:
        signal.signal(signal.SIGINT, handler)


def stop(jobs: Sequence[Job]) -> None:
    """Ask local workers to save their runs and end. Harmless to repeat."""
    for job in jobs:
        if not job.done():
            os.kill(int(job.job_id), signal.SIGTERM)  # to its controller, which hands it on


def _executor(
    cluster: Cluster, folder: Path, workers: int, execution: Execution
) -> submitit.AutoExecutor:
    parameters: dict[str, Any] = {"timeout_min": MINUTES[cluster]}
    if cluster == "slurm":
        parameters["cpus_per_task"] = execution.threads
        parameters["gpus_per_node"] = 1 if execution.device == "cuda" else None
        parameters["slurm_array_parallelism"] = workers
    executor = submitit.AutoExecutor(folder, cluster, slurm_max_num_timeout=REQUEUES)
    executor.update_parameters(name="sweep", **parameters)
    return executor


def _gpus(device: str) -> list[str]:
    """The GPUs of this machine that workers may use, found without importing torch."""
    if device == "cpu":
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu for gpu in visible.split(",") if gpu]
    devices = Path("/dev").glob("nvidia[0-9]*")
    return sorted(path.name.removeprefix("nvidia") for path in devices)


def _cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
