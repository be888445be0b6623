"""Two hundred runs over four nodes: by as many tasks of an array, and while everything fails."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.slurm_jobs import PROFILE, Job, launch_sweep, slurm, wait_for
from support.tiny_sweep import numbers, start, sweep_file

from paper_repro.records import Record
from slurm.queue import live_jobs, submitted
from slurm.testcluster import PrivateCluster

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

NODES = 4
RUNS, STEPS, SAMPLE = 200, 100, 20
FAULT_SECONDS = 4.0
RELAUNCHES = 40


@pytest.fixture(scope="module", autouse=True)
def cluster(slurm_cluster) -> PrivateCluster:
    return slurm_cluster


@pytest.fixture(autouse=True)
def _mended(cluster) -> Iterator[None]:
    yield
    cluster.mend()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, object]:
    """The numbers of some of the runs, trained without SLURM, by run id."""
    folder = tmp_path_factory.mktemp("undisturbed")
    path = sweep_file(folder, list(range(SAMPLE)), STEPS)
    assert launch_sweep(path, folder / "runs", "--cluster", "debug") == 0
    return {record.directory.name: numbers(record.directory) for record in _records(folder)}


def _records(folder: Path) -> list[Record]:
    return [Record(path.parent) for path in (folder / "runs" / "tiny").glob("*/config.yaml")]


def _profile(folder: Path, concurrency: int, memory: str) -> Path:
    path = folder / "profile.yaml"
    text = re.sub("(?m)^(concurrency|memory):.*\n", "", PROFILE.read_text())
    path.write_text(f"{text}concurrency: {concurrency}\nmemory: {memory}\n")
    return path


def _launch_until_done(path: Path, profile: Path) -> int:
    """Launch as a user does, again and again; how often it took."""
    arguments = ["--cluster", "slurm", "--profile", str(profile)]
    for launches in range(1, RELAUNCHES + 1):
        with start(path, path.parent / "runs", *arguments) as launcher:
            _, error = launcher.communicate()
        if launcher.returncode == 0:
            return launches
        assert launcher.returncode == 1
        assert not error, error
    raise AssertionError(f"not done after {RELAUNCHES} launches")


def _count(folder: Path, undisturbed: dict[str, object]) -> str:
    """Check that every run was done, and none twice; the count in words."""
    records = _records(folder)
    done = {record.directory.name for record in records if record.finished}
    assert len(done) == len(records) == RUNS
    logs = [path.read_text() for path in (folder / "runs" / "tiny" / "jobs").glob("*_log.err")]
    finished = Counter(run for log in logs for run in re.findall(r"run (\w+): done", log))
    twice = [run for run, times in finished.items() if times > 1]
    assert not twice
    for record in records:
        steps = [line["step"] for line in numbers(record.directory)[1]]
        assert steps == sorted(set(steps))
    equal = [run for run, expected in undisturbed.items() if _of(records, run) == expected]
    assert len(equal) == SAMPLE
    return (
        f"{len(done)} of {RUNS} done, {RUNS - len(done)} lost, {len(twice)} done twice "
        f"({len(finished)} tell so in {len(logs)} logs); "
        f"{len(equal)} of a sample of {SAMPLE} equal an undisturbed run"
    )


def _of(records: list[Record], run: str) -> object:
    (directory,) = [record.directory for record in records if record.directory.name == run]
    return numbers(directory)


class Faults:
    """What goes wrong in turn, each to a job drawn at random, and how often it did."""

    def __init__(self, folder: Path, cluster: PrivateCluster) -> None:
        self.folder, self.cluster = folder, cluster
        self.draw = random.Random(0)
        self.count: Counter[str] = Counter()

    def strike(self) -> None:
        jobs = [job for record in _records(self.folder) if (job := _at_work(record))]
        if not jobs:
            return
        job = self.draw.choice(jobs)
        fault = (self.kill, self.cut_power, self.preempt)[self.count.total() % 3]
        fault(job)
        self.count[fault.__name__] += 1

    def kill(self, job: Job) -> None:
        os.kill(job.worker, signal.SIGKILL)

    def cut_power(self, job: Job) -> None:
        self.cluster.cut_power(job.node)
        slurm("scontrol", "update", f"nodename={job.node}", "state=down", "reason=soak")
        time.sleep(1)
        self.cluster.start(job.node)  # which is up as soon as it answers

    def preempt(self, job: Job) -> None:
        where = ["--partition=urgent", f"--nodelist={job.node}", "--exclusive"]
        slurm("sbatch", *where, "--output=/dev/null", "--wrap=sleep 1")


def _at_work(record: Record) -> Job | None:
    """The job that has a run, if its worker lives."""
    if record.finished or not list(record.directory.glob("claims/*.json")):
        return None
    try:
        job = Job.of(record)
    except AssertionError:  # released
        return None
    return job if job.alive else None


def test_faults_every_few_seconds(cluster, undisturbed, tmp_path, capsys):
    path = sweep_file(tmp_path, list(range(RUNS)), STEPS)
    profile = _profile(tmp_path, concurrency=4, memory="200M")
    faults = Faults(tmp_path, cluster)
    started = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        users = [pool.submit(_launch_until_done, path, profile) for _ in range(2)]
        while not all(user.done() for user in users):
            time.sleep(FAULT_SECONDS)
            faults.strike()
        launches = [user.result() for user in users]
    assert all(faults.count[name] for name in ("kill", "cut_power", "preempt"))
    with capsys.disabled():
        print(
            f"\nsoak: {_count(tmp_path, undisturbed)}; {dict(faults.count)}, "
            f"launches of two users {launches}, {time.monotonic() - started:.0f} s"
        )


def test_an_array_of_two_hundred_tasks(undisturbed, tmp_path, capsys):
    """For as many runs; as many tasks at a time as the nodes have memory for."""
    path = sweep_file(tmp_path, list(range(RUNS)), STEPS)
    profile = _profile(tmp_path, concurrency=RUNS, memory="16G")  # 16 at a time
    started = time.monotonic()
    launches = _launch_until_done(path, profile)
    wait_for(lambda: live_jobs("tiny") == frozenset(), seconds=600)  # late ones find nothing to do
    seconds = time.monotonic() - started
    (array,) = submitted(tmp_path / "runs" / "tiny" / "jobs")
    nodes = Counter(slurm("squeue", "-h", "-r", "--states=all", "-j", array, "-o", "%N").split())
    assert launches == 1
    assert len(nodes) == NODES
    assert nodes.total() == RUNS
    with capsys.disabled():
        print(f"\narray: {_count(tmp_path, undisturbed)}; tasks {dict(nodes)}, {seconds:.0f} s")
