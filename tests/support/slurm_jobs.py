"""Jobs on a private SLURM cluster in the middle of tiny runs, for tests that disturb them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from paper_repro.config import Execution
from paper_repro.files import read_json
from paper_repro.records import Record, lease
from slurm import submit as arrays
from slurm.profiles import read_profile
from slurm.queue import last_words, live_jobs
from slurm.worker import Work, Worker
from support.tiny_sweep import ROOT, STEPS, sweep_file
from sweeps import launch
from sweeps.expand import read_sweep
from sweeps.plan import make_plan

PROFILE = ROOT / "slurm" / "testcluster.yaml"
ON_SLURM = ["--cluster", "slurm", "--profile", str(PROFILE)]


def launch_sweep(path: Path, runs_dir: Path, *arguments: str) -> int:
    """A launch in this process; its exit code."""
    return launch.main([str(path), "--runs-dir", str(runs_dir), "--device", "cpu", *arguments])


def wait_for(until: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, f"not so within {seconds:.0f} s"
        time.sleep(0.1)


def slurm(*command: str) -> str:
    """What a command of SLURM prints."""
    return subprocess.check_output(command, text=True).strip()


@dataclass(frozen=True)
class Job:
    """A job that was frozen in the middle of a run, after a checkpoint."""

    id: str
    node: str
    worker: int
    """The process id of its worker."""
    record: Path

    @classmethod
    def of(cls, record: Record) -> Job:
        """The job that has a run now."""
        claim = read_json(max((record.directory / "claims").glob("*.json")))
        assert claim is not None
        return cls(claim["job"], claim["host"], claim["pid"], record.directory)

    def thaw(self) -> None:
        os.kill(self.worker, signal.SIGCONT)

    @property
    def alive(self) -> bool:
        """Whether its worker is there, if only frozen."""
        return lease._created(self.worker) is not None

    @property
    def gone(self) -> bool:
        live = live_jobs("tiny")
        return live is not None and self.id not in live

    @property
    def done(self) -> bool:
        """The outcome is written, and what a finished run needs no more is dropped after it."""
        record = Record(self.record)
        return record.finished and not record.checkpoint_path.exists()

    @property
    def restarts(self) -> int:
        shown = slurm("scontrol", "show", "job", self.id)
        return int(shown.partition("Restarts=")[2].split()[0])

    @property
    def log(self) -> str:
        """What the job said, in all its lives."""
        return "".join(p.read_text() for p in self.record.parent.glob("jobs/*_log.*"))


def submit_tiny(folder: Path, seeds: list[int]) -> list[Job]:
    """An array of as many jobs as there are seeds, each frozen in the middle of a run."""
    path = sweep_file(folder, seeds, STEPS)
    plan = make_plan(read_sweep(path), folder / "runs")
    for run_id in plan.missing:
        plan.records[run_id].create(plan.sweep.runs[run_id])
    execution = Execution(device="cpu", checkpoint_seconds=0.05)
    worker = Worker(plan.directory, (Work(tuple(plan.missing)),), execution)
    arrays.submit(worker, len(seeds), read_profile(PROFILE), "tiny", plan.jobs)
    waiting = [plan.records[run_id] for run_id in plan.missing]
    jobs: list[Job] = []
    deadline = time.monotonic() + 60
    while waiting:
        assert time.monotonic() < deadline, f"no start; log: {last_words(plan.jobs)}"
        for record in waiting:
            if record.checkpoint_path.exists() and len(record.metrics()) >= 3:
                job = Job.of(record)
                os.kill(job.worker, signal.SIGSTOP)
                assert not record.finished
                jobs.append(job)
                waiting.remove(record)
                break
        time.sleep(0.01)
    return jobs
