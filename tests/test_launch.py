"""Launches with real training: every run once, nothing twice, and nothing lost when killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from multiprocessing import get_context
from pathlib import Path

import pytest
from support.tiny_sweep import (
    ROOT,
    STEPS,
    launch_here,
    numbers,
    only_record,
    start,
    sweep_file,
    wait_until_training,
)

from paper_repro.config import Execution
from paper_repro.errors import ConfigError
from paper_repro.records import Record, Status
from paper_repro.records.lease import is_leased, owner_of
from slurm.worker import Work, Worker
from sweeps import launch, status
from sweeps.expand import read_sweep
from sweeps.options import LaunchOptions
from sweeps.plan import make_plan


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The numbers of the run that the tests below disturb."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert launch_here(sweep_file(folder, [0], STEPS), folder / "runs") == 0
    return numbers(only_record(folder / "runs"))


def test_launch_trains_all_and_a_relaunch_nothing(tmp_path):
    path, runs_dir = sweep_file(tmp_path, [0, 1, 2], 20), tmp_path / "runs"
    process = start(path, runs_dir, "--workers", "2")
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "workers (local): 2" in out
    assert "3 of 3 runs done" in out
    records = sorted((runs_dir / "tiny").glob("*/status.json"))
    before = {record: record.stat().st_mtime_ns for record in records}
    assert len(before) == 3
    assert len(list((runs_dir / "tiny" / "jobs").glob("*_result.pkl"))) == 2

    relaunch = (
        "import sys; from sweeps.launch import main; code = main(sys.argv[1:]); "
        "assert not {'torch', 'submitit'} & sys.modules.keys(); sys.exit(code)"
    )
    result = subprocess.run(
        [sys.executable, "-c", relaunch, str(path), "--runs-dir", str(runs_dir)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "Nothing to do" in result.stdout
    assert {record: record.stat().st_mtime_ns for record in records} == before


@pytest.mark.parametrize(("arguments", "compiled"), [([], False), (["--compile=always"], True)])
def test_compilation_as_asked_for(arguments, compiled, tmp_path, monkeypatch, caplog):
    """Short bundles are compiled only if one insists (here: on what is not there)."""
    monkeypatch.setattr("paper_repro.training.devices.COMPILER", "no-such-compiler")
    path, runs_dir = sweep_file(tmp_path, [0], 5), tmp_path / "runs"
    assert launch_here(path, runs_dir, "--cluster", "debug", *arguments) == 0
    assert ("not compiled" in caplog.text) is compiled


def test_what_another_sweep_has_finished_is_copied_and_not_trained_again(tmp_path, capsys):
    """Of the same precision only, and never where a record has begun already."""
    runs_dir = tmp_path / "runs"
    assert launch_here(sweep_file(tmp_path, [0, 1], 10), runs_dir) == 0
    path = sweep_file(tmp_path, [0, 1, 2], 10)
    path.write_text(path.read_text().replace("name: tiny", "name: other"))
    begun, *_ = read_sweep(path).runs
    Record(runs_dir / "other" / begun).create(read_sweep(path).runs[begun])
    capsys.readouterr()

    assert launch_here(path, runs_dir, "--dtype", "bfloat16", "--dry-run") == 0
    assert "finished in" not in capsys.readouterr().out
    assert launch_here(path, runs_dir, "--dry-run") == 0
    assert "of these, finished in tiny: 1 (a launch copies the records)" in capsys.readouterr().out
    assert len(list((runs_dir / "other").iterdir())) == 1

    assert launch_here(path, runs_dir) == 0
    out = capsys.readouterr().out
    assert "records copied" in out
    assert "3 of 3 runs done" in out
    finished = [
        {record.name: (record / "status.json").read_text() for record in directory.glob("d1-*")}
        for directory in (runs_dir / "tiny", runs_dir / "other")
    ]
    same = [run_id for run_id in finished[0] if finished[0][run_id] == finished[1][run_id]]
    assert len(same) == 1
    assert begun not in same
    assert numbers(runs_dir / "other" / begun) == numbers(runs_dir / "tiny" / begun)


def test_a_larger_sweep_trains_only_what_is_new(tmp_path, capsys):
    runs_dir = tmp_path / "runs"
    assert launch_here(sweep_file(tmp_path, [0], 10), runs_dir) == 0
    old = only_record(runs_dir) / "status.json"
    written = old.stat().st_mtime_ns
    assert launch_here(sweep_file(tmp_path, [0, 1], 10), runs_dir) == 0
    assert "2 of 2 runs done" in capsys.readouterr().out
    assert old.stat().st_mtime_ns == written
    assert len(list((runs_dir / "tiny").glob("*/status.json"))) == 2


def test_two_launchers_at_once_train_each_run_once(tmp_path):
    path, runs_dir = sweep_file(tmp_path, list(range(6)), 50), tmp_path / "runs"
    launchers = [start(path, runs_dir, "--cluster", "debug") for _ in range(2)]
    for launcher in launchers:
        out, _ = launcher.communicate(timeout=120)
        assert launcher.returncode == 0
        assert "6 of 6 runs done" in out
    logs = "".join(log.read_text() for log in (runs_dir / "tiny" / "jobs").glob("*_log.out"))
    # What a training says when it starts:
    starts = Counter(re.findall(r"run (d1-[0-9a-f]{12})\n", logs))
    assert starts == Counter(read_sweep(path).runs.keys())


def test_killed_worker_then_relaunch_gives_equal_numbers(tmp_path, undisturbed):
    """Killed in the middle, after a checkpoint; `kill -9` leaves no chance to clean up."""
    path, runs_dir = sweep_file(tmp_path, [0], STEPS), tmp_path / "runs"
    plan = make_plan(read_sweep(path), runs_dir)
    (run_id,) = plan.missing
    plan.records[run_id].create(plan.sweep.runs[run_id])
    execution = Execution(device="cpu", checkpoint_seconds=0.05)
    target = Worker(plan.directory, (Work((run_id,)),), execution)
    worker = get_context("fork").Process(target=target)
    worker.start()
    record = plan.records[run_id].directory
    wait_until_training(record)
    while not (record / "checkpoint.pt").exists():
        assert worker.is_alive()
        time.sleep(0.01)
    worker.kill()
    worker.join()
    assert (record / "checkpoint.pt").exists()
    assert not (record / "status.json").exists()
    assert list((record / "claims").glob("*.json"))

    assert launch_here(path, runs_dir) == 0
    assert numbers(record) == undisturbed


def test_ctrl_c_leaves_everything_resumable(tmp_path, undisturbed):
    path, runs_dir = sweep_file(tmp_path, [0], STEPS), tmp_path / "runs"
    launcher = start(path, runs_dir, "--workers", "1")
    while not list((runs_dir / "tiny").glob("*/metrics.jsonl")):
        assert launcher.poll() is None
        time.sleep(0.01)
    record = only_record(runs_dir)
    wait_until_training(record)
    os.killpg(launcher.pid, signal.SIGINT)  # what a terminal does: to the workers too
    out, err = launcher.communicate(timeout=60)
    assert launcher.returncode == 130
    assert "The same command resumes" in out
    assert "Traceback" not in err
    assert (record / "checkpoint.pt").exists()
    assert not (record / "status.json").exists()
    assert not is_leased(record)

    assert launch_here(path, runs_dir) == 0
    assert numbers(record) == undisturbed


def test_ctrl_c_in_process(tmp_path, undisturbed, capsys):
    """On the debug cluster the signal meets the worker, which hands it on when all is safe."""
    path, runs_dir = sweep_file(tmp_path, [0], STEPS), tmp_path / "runs"
    (run_id,) = read_sweep(path).runs
    record = runs_dir / "tiny" / run_id

    def press_ctrl_c() -> None:
        wait_until_training(record)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press_ctrl_c)
    presser.start()
    assert launch_here(path, runs_dir) == 130
    presser.join()
    assert "The same command resumes" in capsys.readouterr().out
    assert (record / "checkpoint.pt").exists()
    assert not is_leased(record)

    assert launch_here(path, runs_dir) == 0
    assert numbers(record) == undisturbed


def test_a_dead_worker_is_noticed_and_status_names_its_log(tmp_path, capsys):
    path, runs_dir = sweep_file(tmp_path, [0], 20_000), tmp_path / "runs"
    launcher = start(path, runs_dir, "--workers", "1")
    while not list((runs_dir / "tiny").glob("*/metrics.jsonl")):
        assert launcher.poll() is None
        time.sleep(0.01)
    record = only_record(runs_dir)
    wait_until_training(record)
    (claim,) = (record / "claims").glob("*.json")
    os.kill(json.loads(claim.read_text())["pid"], signal.SIGKILL)
    out, _ = launcher.communicate(timeout=60)
    assert launcher.returncode == 1
    assert "1 runs have no result" in out
    assert "Launch again" in out
    log = owner_of(record).log
    assert f"run {record.name}" in Path(log).read_text()
    assert status.main([str(path), "--runs-dir", str(runs_dir)]) == 0
    assert f"  log: {log}\n" in capsys.readouterr().out


def test_a_failed_run_is_reported_and_tried_again(tmp_path, capsys):
    path, runs_dir = sweep_file(tmp_path, [0, 1], 10), tmp_path / "runs"
    plan = make_plan(read_sweep(path), runs_dir)
    obstacle = plan.records[plan.missing[0]].checkpoint_path
    obstacle.mkdir(parents=True)  # where the run looks for a file
    assert launch_here(path, runs_dir) == 1
    out = capsys.readouterr().out
    assert "1 of 2 runs done, 0 diverged, 1 failed" in out
    assert f"failed: {obstacle.parent}: IsADirectoryError" in out
    assert "log:" not in out  # it was in this terminal

    assert launch_here(path, runs_dir) == 1  # tried again, failed again
    obstacle.rmdir()
    assert launch_here(path, runs_dir) == 0
    assert "2 of 2 runs done, 0 diverged, 0 failed" in capsys.readouterr().out


def test_a_run_that_another_launch_finished_meanwhile_keeps_its_result(
    tmp_path, capsys, monkeypatch
):
    """Checking a corpus may take minutes, between the reading of the states and the training."""
    path, runs_dir = sweep_file(tmp_path, [0], 10), tmp_path / "runs"
    plan = make_plan(read_sweep(path), runs_dir)
    (run_id,) = plan.missing
    record = plan.records[run_id]
    record.create(plan.sweep.runs[run_id])
    record.finish(Status(status="failed", error="OSError: no space left"))
    theirs = Status(status="done", val_loss=1.25, tokens=320)
    monkeypatch.setattr(
        "sweeps.launch.check_corpora", lambda plan, dry_run: record.finish(theirs) or ({}, [])
    )
    assert launch_here(path, runs_dir) == 0
    assert record.status() == theirs
    assert "1 of 1 runs done" in capsys.readouterr().out


def test_a_launch_from_python(tmp_path, capsys):
    path, runs_dir = sweep_file(tmp_path, [0, 1], 20), tmp_path / "runs"
    execution = Execution(device="cpu", checkpoint_seconds=0.0)
    options = LaunchOptions(
        file=path,
        runs_dir=runs_dir,
        cluster="debug",
        overrides=("hyperparameters.lr=0.25",),
        execution=execution,
    )
    assert launch.launch(options) == 0
    assert "2 of 2 runs done" in capsys.readouterr().out
    for run_id, config in read_sweep(path, options.overrides).runs.items():
        record = Record(runs_dir / "tiny" / run_id)
        assert record.finished
        assert config.hyperparameters.lr == 0.25
        assert record.run_info().execution["checkpoint_seconds"] == 0.0
    assert launch.launch(options.model_copy(update={"dry_run": True})) == 0
    with pytest.raises(ConfigError, match=r"tiny\.yaml: --size gpu: expected a file with"):
        launch.launch(options.model_copy(update={"size": "gpu"}))


def test_what_is_not_given_is_left_to_the_options(tmp_path, monkeypatch):
    """The command line and a launch from Python have one set of defaults."""
    got = []
    monkeypatch.setattr("sweeps.launch.launch", _noting(got))
    path = tmp_path / "x.yaml"
    assert launch.main([str(path)]) == 0
    assert launch.main([str(path), "--cluster", "slurm", "--parallel", "ddp", "--dry-run"]) == 0
    arguments = ["--set", "a=1", "--set", "b=2", "--size", "gpu", "--runs-dir", "r"]
    arguments += ["--profile", "p", "--workers", "3", "--compile", "never"]
    arguments += ["--device", "cpu", "--dtype", "bfloat16", "--accumulate", "2", "--recompute"]
    assert launch.main([str(path), *arguments]) == 0
    plain, parallel, rich = got
    assert plain == LaunchOptions(file=path)
    assert "parallel" not in plain.execution.model_fields_set
    assert "parallel" in parallel.execution.model_fields_set
    assert (parallel.cluster, parallel.dry_run) == ("slurm", True)
    assert rich == LaunchOptions(
        file=path,
        overrides=("a=1", "b=2"),
        size="gpu",
        runs_dir=Path("r"),
        profile=Path("p"),
        workers=3,
        compile="never",
        dtype="bfloat16",
        execution=Execution(device="cpu", accumulate=2, recompute=True),
    )


def _noting(got: list[LaunchOptions]):
    def launch(options: LaunchOptions) -> int:
        got.append(options)
        return 0

    return launch


def test_help_says_what_the_fields_say(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        launch.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name in ("device", "parallel", "accumulate", "recompute"):
        field = Execution.model_fields[name]
        assert f"--{name}" in text
        assert " ".join(field.description.split()).removesuffix(".") in text
    assert "{auto,float32,bfloat16}" in text
    assert "(default: ddp)" in text
    for absent in ("--threads", "--runs-at-once", "--checkpoint-seconds", "--execution"):
        assert absent not in text


def test_a_diverged_run_is_a_result(tmp_path, capsys):
    path, runs_dir = sweep_file(tmp_path, [0], 100), tmp_path / "runs"
    overrides = ["--set", "hyperparameters.lr=1e6"]
    assert launch_here(path, runs_dir, *overrides) == 0
    assert "0 of 1 runs done, 1 diverged" in capsys.readouterr().out
    assert launch_here(path, runs_dir, *overrides) == 0
    assert "Nothing to do" in capsys.readouterr().out


def test_a_figure_is_drawn_beside_the_records(tmp_path, capfd, monkeypatch):
    """Where committed results are, a launch of one seed would take the place of several."""
    monkeypatch.chdir(tmp_path)
    kept = Path("analysis", "results", "tiny.parquet")
    kept.parent.mkdir(parents=True)
    kept.write_text("of more seeds")
    path = sweep_file(tmp_path, [0, 1], 10)
    path.write_text(path.read_text() + "figure: lr_width\n")
    assert launch_here(path, Path("runs")) == 0
    assert "Drift of the optimum" in capfd.readouterr().out
    for name in ("tiny.parquet", "tiny.png", "tiny.svg"):
        assert Path("runs", "tiny", name).stat().st_size > 0
    assert kept.read_text() == "of more seeds"
    assert not Path("figures").exists()
    assert launch_here(path, Path("runs")) == 0  # they are no records
    assert "Nothing to do" in capfd.readouterr().out


def test_a_figure_that_fails_does_not_change_the_result(tmp_path, capfd):
    path = sweep_file(tmp_path, [0], 10)
    path.write_text(path.read_text() + "figure: speedup\n")  # which needs two arms
    assert launch_here(path, tmp_path / "runs") == 0
    assert "The figure speedup could not be drawn" in capfd.readouterr().out


def test_a_run_whose_failure_cannot_be_written_down_is_tried_once(tmp_path, capsys):
    path, runs_dir = sweep_file(tmp_path, [0, 1], 10), tmp_path / "runs"
    plan = make_plan(read_sweep(path), runs_dir)
    first = plan.records[plan.missing[0]]
    first.error_path.mkdir(parents=True)
    assert launch_here(path, runs_dir, "--cluster", "debug") == 1
    assert "1 of 2 runs done" in capsys.readouterr().out
    first.error_path.rmdir()
    assert launch_here(path, runs_dir, "--cluster", "debug") == 0
