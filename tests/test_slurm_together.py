"""One run on two nodes of a real SLURM cluster, whatever happens to one of them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny_sweep import numbers, sweep_file, wait_until_training

from paper_repro.config import Execution
from paper_repro.files import read_json
from paper_repro.records import Record
from slurm import arrays
from slurm.jobs import live_jobs
from slurm.profiles import read_profile
from slurm.worker import Worker
from sweeps import launch
from sweeps.plan import make_plan
from sweeps.spec import read_sweep

pytestmark = pytest.mark.slurm

STEPS = 150
PROFILE = "partition: main\nnodes: 2\nmemory: 1G\nconcurrency: 1\n"


@pytest.fixture(scope="module", autouse=True)
def _cluster(slurm_cluster):
    return slurm_cluster


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The numbers of the same run on one process."""
    folder = tmp_path_factory.mktemp("alone")
    path = sweep_file(folder, [0], STEPS)
    arguments = ["--runs-dir", str(folder / "runs"), "--device", "cpu", "--cluster", "debug"]
    assert launch.main([str(path), *arguments]) == 0
    (status,) = (folder / "runs").glob("tiny/*/status.json")
    return numbers(status.parent)


def _equal_but_for_rounding(record: Path, expected: tuple[str, list[dict]]) -> None:
    val_loss, lines = numbers(record)
    assert val_loss == pytest.approx(expected[0], rel=1e-4)
    for line, other in zip(lines, expected[1], strict=True):
        assert line == pytest.approx(other, rel=1e-4)


def _wait(until: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@dataclass(frozen=True)
class Job:
    """A job of two tasks."""

    id: str
    records: list[Record]

    @property
    def follower(self) -> int:
        """The process id of the second task."""
        wanted = {f"SLURM_JOB_ID={self.id}", "SLURM_PROCID=1", "SUBMITIT_EXECUTOR=slurm"}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                variables = (process / "environ").read_bytes().decode(errors="replace").split("\0")
                name = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if wanted <= set(variables) and b"submitit" in name:
                return int(process.name)
        raise AssertionError("the second task does not run")

    @property
    def gone(self) -> bool:
        live = live_jobs("tiny")
        return live is not None and self.id not in live

    @property
    def restarts(self) -> int:
        shown = subprocess.check_output(["scontrol", "show", "job", self.id], text=True)
        return int(re.search(r"Restarts=(\d+)", shown)[1])


def _submit(folder: Path, parallel: str, text: Callable[[str], str] = str) -> Job:
    path = sweep_file(folder, [0], STEPS)
    path.write_text(text(path.read_text()))
    (folder / "two.yaml").write_text(PROFILE)
    plan = make_plan(read_sweep(path), folder / "runs")
    for run_id in plan.missing:
        plan.records[run_id].create(plan.sweep.runs[run_id])
    execution = Execution(device="cpu", checkpoint_seconds=0.5, parallel=parallel)
    bundles = tuple(bundle.runs for bundle in plan.bundles)
    worker = Worker(plan.directory, bundles, execution, processes=2)
    profile = read_profile(folder / "two.yaml")
    (job_id,) = arrays.submit(worker, 1, profile, "tiny", plan.jobs).ids
    return Job(job_id, [plan.records[run_id] for run_id in plan.missing])


def test_one_task_is_warned_and_the_job_is_queued_again(tmp_path, alone):
    job = _submit(tmp_path, "fsdp")
    (record,) = job.records
    wait_until_training(record.directory)
    os.kill(job.follower, signal.SIGUSR2)
    _wait(lambda: job.restarts == 1)
    _wait(record.status_path.exists)
    _equal_but_for_rounding(record.directory, alone)
    assert read_json(record.run_path)["processes"] == 2
    _wait(lambda: job.gone)
    assert job.restarts == 1
    log = "".join(path.read_text() for path in record.directory.parent.glob("jobs/*_log.out"))
    assert log.count("Requeued job") == 1


def test_a_killed_task_ends_the_job_and_a_relaunch_goes_on(tmp_path, alone):
    job = _submit(tmp_path, "ddp")
    (record,) = job.records
    wait_until_training(record.directory)
    _wait(record.checkpoint_path.exists)
    os.kill(job.follower, signal.SIGKILL)
    _wait(lambda: job.gone)
    assert record.status() is None
    assert record.checkpoint_path.exists()
    arguments = ["--runs-dir", str(tmp_path / "runs"), "--device", "cpu", "--parallel", "fsdp"]
    arguments += ["--cluster", "slurm", "--profile", str(tmp_path / "two.yaml")]
    assert launch.main([str(tmp_path / "tiny.yaml"), *arguments]) == 0
    _equal_but_for_rounding(record.directory, alone)


def test_after_a_failed_run_new_processes_do_the_others(tmp_path):
    """The first run wants more validation sequences than there are."""
    grid = "grid:\n  train.eval_sequences: [9_999_999, 8]\n  seed"
    job = _submit(tmp_path, "ddp", lambda text: text.replace("grid:\n  seed", grid))
    failed, done = job.records
    _wait(lambda: job.gone)
    assert failed.status()["status"] == "failed"
    assert "eval_sequences 9999999" in failed.status()["error"]
    assert done.status()["status"] == "done"
    assert job.restarts == 1
