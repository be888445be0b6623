"""One run on two nodes of a real SLURM cluster, whatever happens to one of them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.slurm_jobs import Job, launch_sweep, wait_for
from support.tiny_sweep import numbers, only_record, sweep_file

from paper_repro.config import Execution, Parallel
from paper_repro.files import read_json
from paper_repro.records import Record
from slurm import submit as arrays
from slurm.profiles import read_profile
from slurm.queue import last_words
from slurm.worker import Work, Worker
from sweeps.expand import read_sweep
from sweeps.plan import make_plan

pytestmark = pytest.mark.slurm

STEPS = 100
PROFILE = "partition: main\nnodes: 2\nmemory: 1G\nconcurrency: 1\n"


@pytest.fixture(scope="module", autouse=True)
def _cluster(slurm_cluster):
    return slurm_cluster


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The numbers of the same run on one process."""
    folder = tmp_path_factory.mktemp("alone")
    path = sweep_file(folder, [0], STEPS)
    assert launch_sweep(path, folder / "runs", "--cluster", "debug") == 0
    return numbers(only_record(folder / "runs"))


def _equal_but_for_rounding(record: Record, expected: tuple[str, list[dict]]) -> None:
    val_loss, lines = numbers(record.directory)
    assert val_loss == pytest.approx(expected[0], rel=1e-4)
    for line, other in zip(lines, expected[1], strict=True):
        assert line == pytest.approx(other, rel=1e-4)


def _submit(folder: Path, parallel: Parallel, edit: Callable[[str], str] = str) -> list[Record]:
    """A job of two tasks, one a node; the records of its runs."""
    path = sweep_file(folder, [0], STEPS)
    path.write_text(edit(path.read_text()))
    (folder / "two.yaml").write_text(PROFILE)
    plan = make_plan(read_sweep(path), folder / "runs")
    for run_id in plan.missing:
        plan.records[run_id].create(plan.sweep.runs[run_id])
    execution = Execution(device="cpu", checkpoint_seconds=0.2, parallel=parallel)
    bundles = tuple(Work(bundle.runs) for bundle in plan.bundles)
    worker = Worker(plan.directory, bundles, execution, processes=2)
    arrays.submit(worker, 1, read_profile(folder / "two.yaml"), "tiny", plan.jobs)
    return [plan.records[run_id] for run_id in plan.missing]


def _frozen(record: Record) -> Job:
    """The job of a run, its leader stopped in the middle of it, after a checkpoint."""
    deadline = time.monotonic() + 60
    while not (record.checkpoint_path.exists() and len(record.metrics()) >= 3):
        assert time.monotonic() < deadline, (
            f"no start; log: {last_words(record.directory.parent / 'jobs')}"
        )
        time.sleep(0.01)
    job = Job.of(record)
    os.kill(job.worker, signal.SIGSTOP)
    assert not record.finished
    return job


def _follower(job: Job) -> int:
    """The process id of the second task."""
    wanted = {f"SLURM_JOB_ID={job.id}", "SLURM_PROCID=1"}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            variables = (process / "environ").read_bytes().decode(errors="replace").split("\0")
            command = (process / "cmdline").read_bytes()
        except OSError:  # gone, or another user's
            continue
        if wanted <= set(variables) and b"submitit" in command:
            return int(process.name)
    raise AssertionError("the second task does not run")


@pytest.mark.slow  # two tasks start twice
def test_one_task_is_warned_and_the_job_is_queued_again(tmp_path, alone):
    (record,) = _submit(tmp_path, "fsdp")
    job = _frozen(record)
    os.kill(_follower(job), signal.SIGUSR2)
    job.thaw()
    wait_for(record.status_path.exists, seconds=120)
    _equal_but_for_rounding(record, alone)
    assert read_json(record.run_path)["processes"] == 2
    wait_for(lambda: job.gone)
    assert job.restarts == 1
    logs = [path.read_text() for path in record.directory.parent.glob("jobs/*_log.out")]
    assert "".join(logs).count("Requeued job") == 1


def test_a_killed_task_ends_the_job_and_a_relaunch_goes_on(tmp_path, alone):
    """Also where the other does not notice: the leader stays frozen."""
    (record,) = _submit(tmp_path, "ddp")
    job = _frozen(record)
    os.kill(_follower(job), signal.SIGKILL)
    wait_for(lambda: job.gone)
    assert record.status() is None
    assert record.checkpoint_path.exists()
    arguments = ["--cluster", "slurm", "--profile", str(tmp_path / "two.yaml")]
    arguments += ["--parallel", "fsdp"]
    assert launch_sweep(tmp_path / "tiny.yaml", tmp_path / "runs", *arguments) == 0
    _equal_but_for_rounding(record, alone)


def test_after_a_failed_run_new_processes_do_the_others(tmp_path):
    """The first run wants more validation sequences than there are."""
    grid = "grid:\n  train.eval_sequences: [9_999_999, 8]\n  seed"
    failed, done = _submit(tmp_path, "ddp", lambda text: text.replace("grid:\n  seed", grid))
    wait_for(done.status_path.exists, seconds=120)
    assert failed.status().status == "failed"
    assert "eval_sequences 9999999" in failed.status().error
    assert done.status().status == "done"
