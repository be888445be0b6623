"""What goes wrong on a cluster, on a real one: no run is lost, done twice or damaged."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.slurm_jobs import ON_SLURM, Job, launch_sweep, slurm, submit_tiny, wait_for
from support.tiny_sweep import STEPS, numbers, sweep_file

from paper_repro.records import Record
from slurm.testcluster import PrivateCluster
from sweeps import status
from sweeps.expand import read_sweep

pytestmark = pytest.mark.slurm

NODES = 4


@pytest.fixture(scope="module", autouse=True)
def cluster(slurm_cluster) -> PrivateCluster:
    return slurm_cluster


@pytest.fixture(autouse=True)
def _mended(cluster) -> Iterator[None]:
    """Whatever a test does to the cluster, the next finds it whole and empty."""
    yield
    cluster.mend()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> list[object]:
    """The numbers of the runs with seeds 0 and 1, trained without SLURM."""
    folder = tmp_path_factory.mktemp("undisturbed")
    path = sweep_file(folder, [0, 1], STEPS)
    assert launch_sweep(path, folder / "runs", "--cluster", "debug") == 0
    return [numbers(record) for record in _records(folder)]


def _records(folder: Path) -> list[Path]:
    """Of the sweep's runs, by seed."""
    directories = [path.parent for path in (folder / "runs" / "tiny").glob("*/config.yaml")]
    return sorted(directories, key=lambda directory: Record(directory).config().seed)


@pytest.fixture
def job(tmp_path) -> Job:
    (job,) = submit_tiny(tmp_path, [0])
    return job


def _launch(folder: Path) -> int:
    return launch_sweep(folder / "tiny.yaml", folder / "runs", *ON_SLURM)


def _children(process: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True)
    return [int(child) for child in listed.stdout.split()]


@pytest.mark.slow  # it waits for SLURM to notice
def test_the_batch_step_is_killed(job, undisturbed, tmp_path):
    """Its slurmstepd, the script and srun; the worker is in a step of its own and goes on."""
    found = subprocess.check_output(["pgrep", "-f", rf"slurmstepd: \[{job.id}\.batch\]"])
    processes = [int(found)]
    for process in processes:
        processes += _children(process)
    assert len(processes) >= 3
    for process in processes:
        os.kill(process, signal.SIGKILL)
    job.thaw()
    assert _launch(tmp_path) == 0
    assert numbers(job.record) == undisturbed[0]


@pytest.mark.slow  # it waits for SLURM to notice
def test_a_worker_that_outlives_its_slurmd_leaves_the_run_to_the_requeued_job(
    job, undisturbed, tmp_path, cluster
):
    cluster.kill(job.node)
    wait_for(lambda: Job.of(Record(job.record)).node != job.node, 120)
    again = Job.of(Record(job.record))
    assert again.id == job.id
    assert job.alive
    job.thaw()
    wait_for(lambda: not job.alive)
    wait_for(lambda: job.done)
    assert numbers(job.record) == undisturbed[0]
    assert job.restarts == 1
    assert "taken over" in job.log


def test_a_drained_node_finishes_its_run(job, undisturbed):
    slurm("scontrol", "update", f"nodename={job.node}", "state=drain", "reason=test")
    job.thaw()
    wait_for(lambda: job.gone)
    assert numbers(job.record) == undisturbed[0]
    assert job.restarts == 0
    assert slurm("sinfo", "-h", "-n", job.node, "-p", "main", "-o", "%t") == "drain"


@pytest.mark.parametrize("power", [True, False])
def test_a_node_goes_down(job, undisturbed, cluster, power):
    if not power:
        cluster.cut_power(job.node)
        wait_for(lambda: not job.alive)
    slurm("scontrol", "update", f"nodename={job.node}", "state=down", "reason=test")
    wait_for(lambda: job.done)
    assert numbers(job.record) == undisturbed[0]
    assert not job.alive
    assert job.restarts == 1


def test_one_task_of_an_array_is_cancelled(tmp_path, undisturbed):
    first, second = submit_tiny(tmp_path, [0, 1])
    listed = slurm("squeue", "-h", "-n", "tiny", "-o", "%A %F_%K").splitlines()
    (task,) = [names for job, names in map(str.split, listed) if job == first.id]
    slurm("scancel", task)
    wait_for(lambda: first.gone)
    assert not first.done
    assert not second.gone
    second.thaw()
    wait_for(lambda: second.gone)
    assert [numbers(record) for record in _records(tmp_path)] == undisturbed


def _preempt(job: Job) -> None:
    """Start a job that needs the whole node; SLURM wakes the worker to tell it."""
    where = ["--partition=urgent", f"--nodelist={job.node}", "--exclusive"]
    slurm("sbatch", *where, "--output=/dev/null", "--wrap=sleep 1")
    wait_for(lambda: job.restarts == 1)


def test_a_preempted_job_is_queued_again(job, undisturbed):
    _preempt(job)
    assert "Calling checkpoint method" in job.log
    wait_for(lambda: job.done)
    assert numbers(job.record) == undisturbed[0]


@pytest.mark.slow  # it waits for SLURM's GraceTime
def test_a_job_preempted_without_the_signal_it_asked_for_is_queued_again(job, undisturbed, cluster):
    """Sites without `preempt_send_user_signal` send SIGTERM, and SIGKILL after `GraceTime`."""
    configuration = Path(cluster.environment["SLURM_CONF"])
    text = configuration.read_text()
    configuration.write_text(text.replace("SlurmctldParameters=preempt_send_user_signal\n", ""))
    slurm("scontrol", "reconfigure")
    try:
        _preempt(job)
        assert "Calling checkpoint method" not in job.log
        wait_for(lambda: job.done)
        assert numbers(job.record) == undisturbed[0]
    finally:
        configuration.write_text(text)
        slurm("scontrol", "reconfigure")


def test_the_time_limit_queues_the_job_again(job, undisturbed):
    slurm("scontrol", "update", f"jobid={job.id}", "TimeLimit=1")  # so it is warned, and woken
    wait_for(lambda: job.restarts == 1)
    slurm("scontrol", "update", f"jobid={job.id}", "TimeLimit=60")
    wait_for(lambda: job.done)
    assert numbers(job.record) == undisturbed[0]
    assert "Calling checkpoint method" in job.log


def test_damaged_files_cost_time_and_no_numbers(job, undisturbed, tmp_path, capsys):
    os.kill(job.worker, signal.SIGKILL)
    wait_for(lambda: job.gone)
    record = Record(job.record)
    _cut(record.checkpoint_path)
    _cut(record.metrics_path)
    assert _launch(tmp_path) == 0
    assert numbers(job.record) == undisturbed[0]

    _cut(record.status_path)
    capsys.readouterr()
    status.main([str(tmp_path / "tiny.yaml"), "--runs-dir", str(tmp_path / "runs")])
    assert "0 of 1 runs done" in capsys.readouterr().out
    assert _launch(tmp_path) == 0
    assert numbers(job.record) == undisturbed[0]


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A folder with a disk of 1 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not _mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)):
        pytest.skip("a small disk cannot be mounted: no root here, or not enough of one")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


def _fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(512))
    return filler


@pytest.mark.parametrize("disk", ["full", pytest.param("read-only", marks=pytest.mark.slow)])
def test_a_run_that_cannot_be_written_waits_and_others_go_on(
    disk, small_disk, tmp_path, undisturbed, capsys
):
    """The first run's record lies on a disk of its own."""
    sweep = read_sweep(sweep_file(tmp_path, [0, 1], STEPS))
    runs = tmp_path / "runs" / "tiny"
    runs.mkdir(parents=True)
    for run_id, config in sweep.runs.items():
        if config.seed == 0:
            (runs / run_id).symlink_to(small_disk)
        Record(runs / run_id).create(config)
    filler = _fill(small_disk)
    if disk == "read-only":
        assert _mount("-o", "remount,ro", str(small_disk))
    assert _launch(tmp_path) == 1
    assert "1 of 2 runs done" in capsys.readouterr().out
    assert numbers(_records(tmp_path)[1]) == undisturbed[1]
    reason = {"full": "No space left on device", "read-only": "Read-only file system"}[disk]
    logs = [log.read_text() for log in runs.glob("jobs/*_log.err")]
    assert any(reason in log for log in logs)

    if disk == "read-only":
        assert _mount("-o", "remount,rw", str(small_disk))
    filler.unlink()
    assert _launch(tmp_path) == 0
    assert [numbers(record) for record in _records(tmp_path)] == undisturbed


@pytest.mark.parametrize("disk", ["full", "read-only"])
def test_a_launch_that_cannot_write_is_one_line(disk, small_disk, tmp_path, capsys):
    path = sweep_file(tmp_path, [0], STEPS)
    _fill(small_disk)
    if disk == "read-only":
        assert _mount("-o", "remount,ro", str(small_disk))
    assert launch_sweep(path, small_disk, *ON_SLURM) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{small_disk}/tiny" in error
    assert "cannot be written" in error
    assert not slurm("squeue", "-h")
