"""Whole searches, launched as users do it: one sequence of rounds, however it is disturbed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import psutil
import pytest
from support.tiny_search import TRIALS, rounds, search_file
from support.tiny_sweep import start

from analysis.load import load_results, load_sweep
from analysis.restore import main as restore_command
from analysis.restore import restore
from analysis.save import main as save
from paper_repro.config import Execution, RunConfig
from paper_repro.files import read_yaml
from paper_repro.records import Record
from slurm.worker import Work, Worker
from sweeps import launch, status
from sweeps.expand import read_sweep
from sweeps.plan import make_plan


def search(path: Path, *arguments: str) -> int:
    """In this process, training included."""
    runs_dir = str(path.parent / "runs")
    return launch.main(
        [str(path), "--runs-dir", runs_dir, "--cluster", "debug", "--device", "cpu", *arguments]
    )


def losses(folder: Path) -> dict[str, float | None]:
    """The final loss of every run, by id."""
    records = [Record(path.parent) for path in (folder / "runs/tiny").glob("*/config.yaml")]
    found = {record.directory.name: record.status() for record in records}
    assert all(found.values())
    return {run_id: s.val_loss for run_id, s in found.items() if s}


def leases(folder: Path) -> Counter[str]:
    """How often each run was taken."""
    return Counter(path.parent.parent.name for path in (folder / "runs/tiny").glob("*/claims/*"))


def starts(folder: Path) -> Counter[str]:
    """How often the training of each run began, as the logs of the workers say."""
    logs = [path.read_text() for path in (folder / "runs/tiny/jobs").glob("*_log.err")]
    return Counter(re.findall(r"run (d1-[0-9a-f]{12})\n", "".join(logs)))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """The folder of a search by one worker."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert search(search_file(folder)) == 0
    return folder


def test_a_search_trains_its_trials_and_confirms_its_incumbents(undisturbed, capsys):
    asked = rounds(undisturbed)
    (first,) = asked[0]
    assert first["octaves"] == {}
    assert len(first["runs"]) == 2
    assert [len(trials) for trials in asked] == [1, 3, 3, 3, 3]
    repeated = [trial for trials in asked for trial in trials if trial["repeat"]]
    assert repeated  # a point that won was tried again
    (state,) = make_plan(read_sweep(undisturbed / "tiny.yaml"), undisturbed / "runs").searches
    assert state.finished
    assert len(state.trials) == TRIALS
    # 1 - β1 = 0.4 · 2^2 leaves (0, 1): such trials have no runs, and an infinite loss.
    impossible = [trial for trial in state.trials if trial.problem]
    assert impossible
    assert all("beta1" in str(trial.problem) for trial in impossible)
    assert [trial.number for trial in state.confirmations] == [7, TRIALS]
    assert all(trial.ended for trial in state.confirmations)
    seeds = {config.seed for trial in state.confirmations for config in trial.runs.values()}
    assert seeds == {10, 11}
    assert state.incumbent[1] < state.trials[0].loss("mean")
    capsys.readouterr()
    assert status.main([str(undisturbed / "tiny.yaml"), "--runs-dir", f"{undisturbed}/runs"]) == 0
    out = capsys.readouterr().out
    (row,) = re.findall(r"trust_region-0 +(\d+) +(\d+) +(\d+) ", out)
    assert row == (str(TRIALS), str(TRIALS), str(len(impossible)))


def test_what_it_found_is_a_part_of_a_run(undisturbed):
    (state,) = make_plan(read_sweep(undisturbed / "tiny.yaml"), undisturbed / "runs").searches
    path = undisturbed / "runs/tiny/search/trust_region-0/found.yaml"
    found = RunConfig.model_validate(read_yaml(path))
    incumbent = state.search.space.config(state.incumbent[0], seed=0)
    assert found.hyperparameters == incumbent.hyperparameters
    assert found.scaling == incumbent.scaling
    assert f"{state.incumbent[1]:.4f} nats" in path.read_text()


def test_a_finished_search_has_nothing_to_do_and_may_be_given_more_trials(undisturbed, tmp_path):
    shutil.copytree(undisturbed / "runs", tmp_path / "runs")
    before = leases(tmp_path)
    assert search(search_file(tmp_path)) == 0
    assert leases(tmp_path) == before
    assert search(search_file(tmp_path, TRIALS + 3)) == 0
    assert rounds(tmp_path)[:-1] == rounds(undisturbed)
    assert all(count == 1 for count in leases(tmp_path).values())


def test_a_search_goes_on_from_its_committed_results(undisturbed, tmp_path, capsys):
    results = tmp_path / "tiny.parquet"
    kept = ["--results-dir", str(tmp_path)]
    assert save(["tiny", "--runs-dir", str(undisturbed / "runs"), *kept]) == 0
    assert restore_command(["tiny", "--runs-dir", str(tmp_path / "runs"), *kept]) == 0
    assert f"tiny: {len(losses(undisturbed))} records restored" in capsys.readouterr().out
    assert search(search_file(tmp_path)) == 0
    assert not leases(tmp_path)  # nothing was trained
    assert rounds(tmp_path) == rounds(undisturbed)
    assert losses(tmp_path) == losses(undisturbed)
    again = load_sweep(tmp_path / "runs", "tiny")
    pd.testing.assert_frame_equal(again.trials, load_results(results).trials)
    assert restore(load_results(results), tmp_path / "runs/tiny") == 0  # they are there
    assert search(search_file(tmp_path, TRIALS + 3)) == 0
    assert rounds(tmp_path)[:-1] == rounds(undisturbed)


def test_two_launches_at_once_share_a_search(undisturbed, tmp_path):
    path = search_file(tmp_path)
    launchers = [start(path, tmp_path / "runs", "--workers", "1") for _ in range(2)]
    for launcher in launchers:
        out, error = launcher.communicate()
        assert launcher.returncode == 0, error
        assert "found: " in out
    assert rounds(tmp_path) == rounds(undisturbed)
    assert losses(tmp_path) == losses(undisturbed)
    assert starts(tmp_path) == Counter(losses(undisturbed).keys())


def test_the_runs_of_a_round_train_at_once_where_they_can(tmp_path):
    """As on a GPU: stacks within a round, and none waits for runs of the next."""
    sweep = read_sweep(search_file(tmp_path, trials=7))
    directory = tmp_path / "runs/tiny"
    execution = Execution(device="cpu", runs_at_once=8)
    Worker(directory, (Work(()),), execution, searches=sweep.searches)()
    records = [Record(path.parent) for path in directory.glob("*/status.json")]
    assert {record.status().status for record in records} == {"done"}
    assert len(rounds(tmp_path)) == 3
    for trials in rounds(tmp_path):
        runs = {run_id for trial in trials for run_id in trial["runs"]}
        at_once = {Record(directory / run_id).run_info().runs_at_once for run_id in runs}
        assert at_once == {len(runs)}


def test_killed_in_the_middle_no_trial_is_lost_and_none_is_done_twice(undisturbed, tmp_path):
    path = search_file(tmp_path)
    launcher = start(path, tmp_path / "runs", "--workers", "2")
    third = tmp_path / "runs/tiny/search/trust_region-0/0003.json"
    deadline = time.monotonic() + 120
    while not third.exists() or not _in_training(tmp_path):
        assert time.monotonic() < deadline, launcher.communicate()
        time.sleep(0.01)
    workers = psutil.Process(launcher.pid).children(recursive=True)
    for process in (psutil.Process(launcher.pid), *workers):
        os.kill(process.pid, signal.SIGKILL)
    launcher.communicate()
    psutil.wait_procs(workers, timeout=10)
    interrupted = set(_in_training(tmp_path))
    with start(path, tmp_path / "runs", "--workers", "2") as launcher:
        _, error = launcher.communicate()
    assert launcher.returncode == 0, error
    assert rounds(tmp_path) == rounds(undisturbed)
    assert losses(tmp_path) == losses(undisturbed)
    # Begun again were the runs that a worker was killed in, and no other.
    begun = starts(tmp_path)
    assert begun.keys() == losses(undisturbed).keys()
    assert interrupted
    again = {run_id for run_id, count in begun.items() if count > 1}
    assert again <= interrupted
    assert set(begun.values()) <= {1, 2}


def _in_training(folder: Path) -> list[str]:
    """Runs that somebody took and that have no outcome."""
    taken = [path.parent.parent for path in (folder / "runs/tiny").glob("*/claims/*.json")]
    return [path.name for path in set(taken) if not (path / "status.json").exists()]


def _spoil(folder: Path, runs: list[str]) -> list[Path]:
    """Have runs fail: their run.json cannot be written."""
    obstacles = [folder / "runs/tiny" / run_id / "run.json" for run_id in runs]
    for obstacle in obstacles:
        obstacle.mkdir(parents=True)
    return obstacles


def test_a_failed_run_is_an_infinite_loss_and_not_the_end(tmp_path, capsys):
    path = search_file(tmp_path, trials=7)
    (state,) = make_plan(read_sweep(path), tmp_path / "runs").searches
    first = next(iter(state.open_runs()))
    _spoil(tmp_path, [first])
    assert search(path) == 0
    out = capsys.readouterr().out
    assert "failed: " in out
    (state,) = make_plan(read_sweep(path), tmp_path / "runs").searches
    assert state.trials[0].loss("mean") == float("inf")
    assert len(state.trials) == 7
    before = leases(tmp_path)
    assert search(path) == 0  # it was counted, and is not tried again
    assert leases(tmp_path) == before


def test_an_incumbent_that_fails_at_a_fresh_seed_is_reported_so(undisturbed, tmp_path, capsys):
    shutil.copytree(undisturbed / "runs", tmp_path / "runs")
    path = search_file(tmp_path)
    (state,) = make_plan(read_sweep(path), tmp_path / "runs").searches
    run_id = next(iter(state.confirmations[-1].runs))
    shutil.rmtree(tmp_path / "runs/tiny" / run_id)
    _spoil(tmp_path, [run_id])
    assert search(path) == 0
    assert re.search(r"trust_region-0 .* inf ", capsys.readouterr().out)
    assert "which it did not use: inf." in (state.directory / "found.yaml").read_text()


def test_a_round_whose_runs_all_fail_stops_the_search_until_the_next_launch(tmp_path, capsys):
    path = search_file(tmp_path, trials=7)
    (state,) = make_plan(read_sweep(path), tmp_path / "runs").searches
    obstacles = _spoil(tmp_path, list(state.open_runs()))
    assert search(path) == 1
    assert "trust_region-0 is stuck: every run of its round 1 failed" in capsys.readouterr().out
    assert len(rounds(tmp_path)) == 1
    for obstacle in obstacles:
        obstacle.rmdir()
    assert search(path) == 0
    assert len(rounds(tmp_path)) == 3
    found = tmp_path / "runs/tiny/search/trust_region-0/found.yaml"
    assert "inf" not in found.read_text().split("scaling:")[0]  # the launcher read them again


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("hyperparameters.lr: 3", "hyperparameters.lr: 2", "space"),
        ("round: 3", "round: 2", "round"),
        ("width: 8", "width: 16", "base"),
        ("trials: ", "seeds: 1\n  trials: ", "seeds"),
        ("trials: ", "objective: worst\n  trials: ", "objective"),
    ],
)
def test_another_search_is_not_mixed_into_one_on_disk(undisturbed, tmp_path, capsys, old, new, key):
    shutil.copytree(undisturbed / "runs", tmp_path / "runs")
    path = search_file(tmp_path)
    path.write_text(path.read_text().replace(old, new))
    assert search(path) == 2
    error = capsys.readouterr().err
    assert re.match(rf"error: search: .* was begun with another {key}: expected ", error)
    assert error.count("\n") == 1


@pytest.mark.parametrize("text", ["", '{"trials": [{"octaves": {"hyper'])
def test_a_damaged_round_is_named_and_nothing_else_is_lost(undisturbed, tmp_path, capsys, text):
    shutil.copytree(undisturbed / "runs", tmp_path / "runs")
    path, before = search_file(tmp_path), leases(tmp_path)
    damaged = tmp_path / "runs/tiny/search/trust_region-0/0003.json"
    damaged.write_text(text)
    assert search(path) == 2
    assert capsys.readouterr().err.startswith(f"error: {damaged}: is damaged; delete it")
    damaged.unlink()
    assert search(path) == 0
    assert rounds(tmp_path) == rounds(undisturbed)
    assert leases(tmp_path) == before


@pytest.mark.parametrize(
    ("proposer", "package"), [("gp", "optuna"), ("cma_es", "optuna"), ("cma_es", "cmaes")]
)
def test_a_missing_package_is_told_before_anything_runs(
    tmp_path, capsys, monkeypatch, proposer, package
):
    path = search_file(tmp_path)
    path.write_text(path.read_text().replace("round: 3", f"proposer: {proposer}"))
    monkeypatch.setitem(sys.modules, package, None)
    assert search(path) == 2
    error = capsys.readouterr().err
    assert f"{path}: search.proposer: {proposer} needs the package {package}" in error
    assert not (tmp_path / "runs").exists()


def test_several_proposers_and_repeats_share_the_runs_of_the_start(tmp_path):
    path = search_file(tmp_path, trials=4)
    text = path.read_text()
    path.write_text(
        text.replace("  round", "  proposer: [trust_region, random]\n  repeats: 2\n  round")
    )
    assert search(path) == 0
    names = ["trust_region-0", "trust_region-1", "random-0", "random-1"]
    first = [rounds(tmp_path, name)[1] for name in names]
    assert all(one != other for i, one in enumerate(first) for other in first[:i])
    assert all(count == 1 for count in leases(tmp_path).values())


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("trials: 13", "tries: 16", r"search\.tries: unknown key, did you mean 'trials'"),
        ("trials: 13", "trials: 0", r"search\.trials: Input should be greater than 0"),
        ("round: 3", "round: 1", r"search\.round: Input should be greater than 1"),
        ("round: 3", "proposer: [grid]", r"search\.proposer\.0: Input should be 'trust_region'"),
        ("round: 3", "proposer: grid", r"search\.proposer\.0: Input should be 'trust_region'"),
        ("round: 3", "proposer: []", r"search\.proposer: "),
        ("seeds: [10, 11]", "seeds: [3]", r"search\.confirm\.seeds: expected seeds of 4 and "),
        ("{seeds: [10, 11], at: [7]}", "{at: [7]}", r"search\.confirm\.seeds: Field required"),
        (
            "hyperparameters.lr: 3",
            "hyperparameters.rate: 3",
            r"search\.space: hyperparameters\.rate",
        ),
        (
            "search:",
            "grid: {seed: [0]}\nsearch:",
            "search: expected neither grid nor zip beside it",
        ),
    ],
)
def test_a_wrong_search_is_told_in_one_line(tmp_path, capsys, old, new, problem):
    path = search_file(tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert search(path, "--dry-run") == 2
    error = capsys.readouterr().err
    assert re.match(rf"error: {re.escape(str(path))}: {problem}", error), error
    assert error.count("\n") == 1
