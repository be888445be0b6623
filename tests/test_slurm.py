"""Sweeps on a real SLURM cluster: the same numbers as here, whatever happens to the jobs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue

import pytest
from support.slurm_jobs import ON_SLURM, Job, launch_sweep, submit_tiny, wait_for
from support.tiny_search import TRIALS, rounds, search_file
from support.tiny_sweep import (
    ROOT,
    STEPS,
    numbers,
    only_record,
    start,
    sweep_file,
    wait_until_training,
)

from paper_repro.records.lease import is_leased, owner_of
from slurm.queue import QueuedWorkers, live_arrays, live_jobs, note_submission, waiting
from sweeps import cancel, status
from sweeps.expand import read_sweep

pytestmark = pytest.mark.slurm

NOBODY = 65534


@pytest.fixture(scope="module", autouse=True)
def _cluster(slurm_cluster):
    return slurm_cluster


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The numbers of the run that the tests below disturb, trained without SLURM."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert launch_sweep(sweep_file(folder, [0], STEPS), folder / "runs", "--cluster", "debug") == 0
    return numbers(only_record(folder / "runs"))


@pytest.fixture
def job(tmp_path) -> Job:
    (job,) = submit_tiny(tmp_path, [0])
    return job


def test_smoke_gives_the_numbers_of_this_machine(tmp_path, capfd):
    smoke, (here, there) = ROOT / "sweeps" / "smoke.yaml", (tmp_path / "here", tmp_path / "there")
    assert launch_sweep(smoke, here, "--workers", "2") == 0
    assert launch_sweep(smoke, there, *ON_SLURM, "--dry-run") == 0
    _, _, script = capfd.readouterr().out.partition("\n\n#!")
    assert launch_sweep(smoke, there, *ON_SLURM) == 0
    assert "6 of 6 runs done" in capfd.readouterr().out

    run_ids = read_sweep(smoke).runs.keys()
    assert len(run_ids) == 6
    for run_id in run_ids:
        records = [runs / "smoke" / run_id for runs in (here, there)]
        assert numbers(records[0]) == numbers(records[1])
        configs = [(record / "config.yaml").read_bytes() for record in records]
        assert configs[0] == configs[1]
    (submitted,) = (there / "smoke" / "jobs").glob("*_submission.sh")
    assert submitted.read_text() == f"#!{script}"

    assert launch_sweep(smoke, there, *ON_SLURM) == 0
    assert "Nothing to do" in capfd.readouterr().out


def test_a_search_makes_the_rounds_of_this_machine(tmp_path):
    """Two jobs, which ask for the rounds themselves: no launcher need stay."""
    folders = tmp_path / "here", tmp_path / "there"
    for folder, how in zip(folders, (["--cluster", "debug"], ON_SLURM), strict=True):
        folder.mkdir()
        assert launch_sweep(search_file(folder), folder / "runs", *how) == 0
    assert rounds(folders[0]) == rounds(folders[1])
    records = [sorted((folder / "runs/tiny").glob("*/status.json")) for folder in folders]
    assert len(records[0]) > TRIALS
    for here, there in zip(*records, strict=True):
        assert numbers(here.parent) == numbers(there.parent)


def test_a_killed_worker_then_a_relaunch_gives_equal_numbers(job, undisturbed, tmp_path):
    os.kill(job.worker, signal.SIGKILL)
    wait_for(lambda: job.gone)
    assert (job.record / "checkpoint.pt").exists()
    assert not (job.record / "status.json").exists()
    assert launch_sweep(tmp_path / "tiny.yaml", tmp_path / "runs", *ON_SLURM) == 0
    assert numbers(job.record) == undisturbed


def test_a_job_that_vanished_with_its_node_is_lost_and_then_taken_up(
    job, undisturbed, tmp_path, capsys
):
    """The claim is made to come from another machine, so that SLURM is asked."""
    path, runs_dir = tmp_path / "tiny.yaml", tmp_path / "runs"
    claim = max((job.record / "claims").glob("*.json"))
    assert status.main([str(path), "--runs-dir", str(runs_dir)]) == 0
    assert "1 running, 0 lost" in capsys.readouterr().out
    os.kill(job.worker, signal.SIGKILL)
    wait_for(lambda: job.gone)
    claim.write_text(json.dumps(json.loads(claim.read_text()) | {"host": "elsewhere"}))
    assert is_leased(job.record)
    assert status.main([str(path), "--runs-dir", str(runs_dir)]) == 0
    out = capsys.readouterr().out
    assert "0 running, 1 lost" in out
    assert f"{job.record}: its job {job.id} is gone" in out
    assert f"SLURM said: {job.node}: task 0: Killed" in out
    assert f"log: {job.record.parent}/jobs/{job.id}_0_log.err" in out
    assert launch_sweep(path, runs_dir, *ON_SLURM) == 0
    assert numbers(job.record) == undisturbed


def test_cancel_saves_the_runs_and_the_next_launch_goes_on(job, undisturbed, tmp_path, capsys):
    path, runs_dir = tmp_path / "tiny.yaml", tmp_path / "runs"
    other = ["sbatch", "--parsable", "--hold", "--job-name=other", "--wrap=true"]
    held = subprocess.check_output(other, text=True, cwd=tmp_path).strip()
    # Of an id that another job now has:
    note_submission(job.record.parent / "jobs", held, 1, gpu=False)
    job.thaw()
    assert cancel.main([str(path), "--runs-dir", str(runs_dir)]) == 0
    assert capsys.readouterr().out == f"Cancelled: {job.id}\n"
    wait_for(lambda: job.gone)
    assert held in live_jobs("other")
    assert (job.record / "checkpoint.pt").exists()
    assert owner_of(job.record) is None
    assert cancel.main([str(path), "--runs-dir", str(runs_dir)]) == 0
    assert "Nothing to cancel" in capsys.readouterr().out
    assert launch_sweep(path, runs_dir, *ON_SLURM) == 0
    assert numbers(job.record) == undisturbed


def test_one_task_of_an_array_may_be_gone_while_the_array_lives(tmp_path):
    """Also the task whose own id is the array's: its run is lost, not running."""
    command = ["sbatch", "--parsable", "--job-name=pair", "--array=0-1", "--wrap=sleep 60"]
    array = subprocess.check_output(command, text=True, cwd=tmp_path).strip()
    wait_for(lambda: len(live_jobs("pair")) == 2)
    own = live_jobs("pair")
    assert array in own
    shown = ["squeue", "--noheader", f"--jobs={array}", "--format=%A %K"]
    tasks = dict(line.split() for line in subprocess.check_output(shown, text=True).splitlines())
    subprocess.run(["scancel", f"{array}_{tasks[array]}"], check=True)
    wait_for(lambda: live_jobs("pair") == own - {array})
    assert live_arrays("pair") == {array}
    subprocess.run(["scancel", array], check=True)


def test_a_requeued_job_ends_with_equal_numbers(job, undisturbed):
    """USR2 is what SLURM sends before a time limit and, where set so, at a preemption."""
    subprocess.run(["scancel", "--signal=USR2", job.id], check=True)
    job.thaw()
    wait_for((job.record / "status.json").exists)
    assert numbers(job.record) == undisturbed
    shown = subprocess.check_output(["scontrol", "show", "job", job.id], text=True)
    assert re.search(r"Restarts=1\b", shown)
    log = "".join(path.read_text() for path in job.record.parent.glob("jobs/*_log.out"))
    assert log.count("Requeued job") == 1


def test_the_launcher_notices_that_its_jobs_are_gone(tmp_path):
    path, runs_dir = sweep_file(tmp_path, [0], 100_000), tmp_path / "runs"
    launcher = start(path, runs_dir, *ON_SLURM)
    wait_for(lambda: list((runs_dir / "tiny").glob("*/metrics.jsonl")))
    wait_until_training(only_record(runs_dir))
    (claim,) = (only_record(runs_dir) / "claims").glob("*.json")
    os.kill(json.loads(claim.read_text())["pid"], signal.SIGKILL)
    out, _ = launcher.communicate(timeout=60)
    assert launcher.returncode == 1
    assert "Launch again" in out


def test_a_job_that_no_node_can_run_is_refused(tmp_path, capsys):
    profile = tmp_path / "large.yaml"
    profile.write_text("partition: main\nmemory: 9T\n")
    arguments = ["--cluster", "slurm", "--profile", str(profile)]
    assert launch_sweep(sweep_file(tmp_path, [0], 10), tmp_path / "runs", *arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("error: --cluster slurm: cannot submit: ")


def test_what_was_queued_before_a_refusal_is_named(tmp_path, capsys, monkeypatch):
    """The partition closes after the first of two arrays."""
    drain = "scontrol update PartitionName=main State"
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(f'#!/bin/sh\n{shutil.which("sbatch")} --hold "$@"\n{drain}=DRAIN\n')
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    profile = tmp_path / "split.yaml"
    profile.write_text("partition: main\narray_limit: 1\nconcurrency: 2\n")
    arguments = ["--cluster", "slurm", "--profile", str(profile)]
    path, runs_dir = sweep_file(tmp_path, [0, 1], 10), tmp_path / "runs"
    try:
        assert launch_sweep(path, runs_dir, *arguments) == 2
    finally:
        subprocess.run(f"{drain}=UP", shell=True, check=True)
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    (queued,) = re.findall(r"\(queued before that, and left so: (\d+)\)", error)
    assert queued in live_jobs("tiny")
    assert cancel.main([str(path), "--runs-dir", str(runs_dir)]) == 0
    assert f"Cancelled: {queued}\n" in capsys.readouterr().out


def test_the_environment_of_the_caller_stays_the_callers(tmp_path, monkeypatch, capsys):
    """Of one who launches within an allocation, has defaults for SLURM, and is called otherwise."""
    allocation = {"SLURM_MEM_PER_CPU": "500", "SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "4"}
    allocation |= {"SLURM_CPU_BIND": "map_cpu:99", "SLURM_TRES_PER_TASK": "cpu=7"}
    defaults = {"SBATCH_JOB_NAME": "mine", "SBATCH_PARTITION": "urgent", "SBATCH_ARRAY_INX": "0-1"}
    names = {"LOGNAME": "someone", "USER": "someone", "SQUEUE_PARTITION": "urgent"}
    for name, value in {**allocation, **defaults, **names}.items():
        monkeypatch.setenv(name, value)
    path, runs_dir = sweep_file(tmp_path, [0], STEPS), tmp_path / "runs"
    assert launch_sweep(path, runs_dir, *ON_SLURM) == 0
    assert "1 of 1 runs done" in capsys.readouterr().out
    (note,) = (runs_dir / "tiny" / "jobs").glob("[0-9]*.json")
    shown = subprocess.check_output(["scontrol", "show", "job", note.stem], text=True)
    assert "JobName=tiny" in shown
    assert "Partition=main" in shown
    assert "ArrayTaskId" not in shown


def _ask_as_nobody(name: str, answers: SimpleQueue[frozenset[str] | None]) -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    answers.put(live_jobs(name))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user: this is not root")
def test_a_colleague_sees_the_jobs_too(tmp_path):
    command = ["sbatch", "--parsable", "--hold", "--job-name=shared", "--wrap=true"]
    held = subprocess.check_output(command, text=True, cwd=tmp_path).strip()
    fork = get_context("fork")
    answers = fork.SimpleQueue()
    colleague = fork.Process(target=_ask_as_nobody, args=("shared", answers))
    colleague.start()
    colleague.join(60)
    assert colleague.exitcode == 0
    assert answers.get() == {held}
    subprocess.run(["scancel", held], check=True)


def test_why_jobs_wait_is_told(tmp_path, capsys):
    path, runs_dir = sweep_file(tmp_path, [0], 10), tmp_path / "runs"
    jobs = runs_dir / "tiny" / "jobs"
    subprocess.run(["scontrol", "update", "PartitionName=main", "State=DOWN"], check=True)
    try:
        command = ["sbatch", "--parsable", "--job-name=tiny", "--array=0-1", "--wrap=true"]
        held = subprocess.check_output(command, text=True, cwd=tmp_path).strip()
        jobs.mkdir(parents=True)
        note_submission(jobs, held, 2, gpu=False)
        wait_for(lambda: waiting("tiny", [held]) == {"PartitionDown": 2})
        assert status.main([str(path), "--runs-dir", str(runs_dir)]) == 0
        assert "jobs: 2 queued (PartitionDown)" in capsys.readouterr().out
        workers = QueuedWorkers([held], "tiny")
        wait_for(lambda: not workers.gone() and workers.waiting == {"PartitionDown": 2})
    finally:
        subprocess.run(["scontrol", "update", "PartitionName=main", "State=UP"], check=True)
        subprocess.run(["scancel", "--name=tiny"], check=True)


def test_jobs_that_end_before_they_train_are_not_launched_again_blindly(tmp_path, capsys):
    """A module that the site does not have, say: the log tells."""
    profile = tmp_path / "broken.yaml"
    line = "srun sh -c 'echo no such module >&2; exit 3' || exit 3"  # srun has the last word
    profile.write_text(f"partition: main\nsetup:\n- {line}\n")
    arguments = ["--cluster", "slurm", "--profile", str(profile)]
    assert launch_sweep(sweep_file(tmp_path, [0], 10), tmp_path / "runs", *arguments) == 1
    out = capsys.readouterr().out
    assert "launching again may end the same way. The last log ends: no such module" in out


def test_a_site_that_wants_memory_by_cpu_gets_it(tmp_path):
    profile = tmp_path / "site.yaml"
    profile.write_text("partition: main\noptions: {mem-per-cpu: 900M}\n")
    arguments = ["--cluster", "slurm", "--profile", str(profile)]
    assert launch_sweep(sweep_file(tmp_path, [0], 10), tmp_path / "runs", *arguments) == 0
