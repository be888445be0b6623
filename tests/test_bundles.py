"""Runs of a bundle that train at once have the records that they would have alone."""

from __future__ import annotations

import itertools
import logging

import pytest
import torch
from support.runs import RATES, leased, small_config, train

from paper_repro.config import Execution
from paper_repro.recording.bundle import train_bundle
from paper_repro.records import Record
from paper_repro.records.lease import owner_of
from paper_repro.training.single import SingleRun
from paper_repro.training.stacked import StackedRuns

STEPS = 60


def _configs():
    tokens = {"tokens": STEPS * 64, "clip": 1.0}
    return [
        small_config(train=tokens, hyperparameters={"lr": lr}, seed=index % 2)
        for index, lr in enumerate(RATES)
    ]


def _train_at_once(folder, configs, at_once=4, stop_after=10**9) -> list[Record]:
    """Train runs of a bundle; a stop counts the steps of all stacks."""
    runs, asked = leased(folder, configs), itertools.count(1)
    execution = Execution(device="cpu", runs_at_once=at_once)
    train_bundle(runs, execution, lambda: next(asked) >= stop_after)
    return [run.record for run in runs]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Each run trained by itself."""
    folder = tmp_path_factory.mktemp("alone")
    return [train(config, folder / config.run_id) for config in _configs()]


def _assert_equal(record: Record, expected: Record) -> None:
    """The same outcome and, to the rounding of other kernels, the same numbers."""
    status, wanted = record.status(), expected.status()
    assert (status.status, status.step) == (wanted.status, wanted.step)
    if status.status == "done":
        assert status.val_loss == pytest.approx(wanted.val_loss, rel=1e-4)
        for line, wanted_line in zip(record.metrics(), expected.metrics(), strict=True):
            assert line == pytest.approx(wanted_line, rel=1e-4)
    assert not record.checkpoint_path.exists()
    assert record.run_info().groups == expected.run_info().groups


@pytest.mark.parametrize("at_once", [2, 4])
def test_runs_at_once_have_the_numbers_of_each_alone(at_once, alone, tmp_path):
    records = _train_at_once(tmp_path, _configs(), at_once)
    assert [record.status().status for record in records] == ["done", "diverged", "done", "done"]
    for record, expected in zip(records, alone, strict=True):
        _assert_equal(record, expected)
        assert record.run_info().runs_at_once == at_once


def test_a_stopped_stack_goes_on_at_once(alone, tmp_path):
    records = _train_at_once(tmp_path, _configs(), stop_after=31)
    assert [record.status() is None for record in records] == [True, False, True, True]
    assert all(record.checkpoint_path.exists() for record in records if record.status() is None)
    configs = [config for config in _configs() if config.hyperparameters.lr < 1]
    records = _train_at_once(tmp_path, configs)
    for record, expected in zip(records, [alone[0], alone[2], alone[3]], strict=True):
        _assert_equal(record, expected)
        assert record.run_info().runs_at_once == 3


def test_a_run_of_a_stack_goes_on_alone_and_back(alone, tmp_path):
    """A checkpoint does not depend on how many runs trained at once; other steps are no stack."""
    first, _, third, _ = _configs()
    _train_at_once(tmp_path, [first, third], stop_after=20)
    train(first, tmp_path / first.run_id, stop_after=15)
    assert not Record(tmp_path / first.run_id).finished
    records = _train_at_once(tmp_path, [first, third])
    for record, expected in zip(records, [alone[0], alone[2]], strict=True):
        _assert_equal(record, expected)
        assert record.run_info().runs_at_once == 1


def test_a_stack_that_does_not_fit_is_halved(alone, tmp_path, monkeypatch, caplog):
    """No machine here runs out of memory on demand: a stack of more than two says that it did."""
    losses = StackedRuns.losses

    def limited(self, sequences):
        if self.runs > 2:
            raise torch.OutOfMemoryError("out of memory")
        return losses(self, sequences)

    monkeypatch.setattr(StackedRuns, "losses", limited)
    with caplog.at_level(logging.WARNING):
        records = _train_at_once(tmp_path, _configs())
    assert "4 runs at once: out of memory; going on with halves" in caplog.text
    for record, expected in zip(records, alone, strict=True):
        _assert_equal(record, expected)
        assert record.run_info().runs_at_once == 2


@pytest.mark.parametrize(("learner", "at_once"), [(SingleRun, 1), (StackedRuns, 2)])
def test_gradients_of_a_step_that_failed_do_not_reach_the_next_run(
    learner, at_once, alone, tmp_path, monkeypatch
):
    """Both runs of the stack fail at their update, then the first by itself."""
    update, left = learner.update, itertools.count(at_once, -1)

    def failing(self):
        if next(left) > 0:
            raise RuntimeError("no update")
        update(self)

    monkeypatch.setattr(learner, "update", failing)
    first, _, third, _ = _configs()
    failed, trained = _train_at_once(tmp_path, [first, third], at_once)
    assert failed.status().status == "failed"
    _assert_equal(trained, alone[2])


def test_a_run_that_cannot_be_trained_fails_by_itself(alone, tmp_path):
    configs = _configs()
    runs = leased(tmp_path, configs)
    runs[2].record.metrics_path.mkdir()  # cannot be written
    train_bundle(runs, Execution(device="cpu", runs_at_once=4), lambda: False)
    outcomes = [run.record.status().status for run in runs]
    assert outcomes == ["done", "diverged", "failed", "done"]
    _assert_equal(runs[0].record, alone[0])
    assert [owner_of(run.record.directory) for run in runs] == [None] * 4


def test_a_lease_that_cannot_be_released_leaves_the_others(alone, tmp_path, caplog):
    runs, asked = leased(tmp_path, _configs()[2:]), itertools.count(1)

    def should_stop() -> bool:
        if next(asked) == 10:  # of the first run
            runs[0].lease.path.unlink()
            runs[0].lease.path.mkdir()
        return False

    train_bundle(runs, Execution(device="cpu", runs_at_once=1), should_stop)
    assert "the lease could not be released" in caplog.text
    _assert_equal(runs[1].record, alone[3])


def test_a_run_that_another_worker_took_over_leaves_the_others(alone, tmp_path):
    runs = leased(tmp_path, _configs())
    steps = itertools.count()

    def should_stop() -> bool:
        if next(steps) == 10:  # someone claims the first run anew
            claims = runs[0].record.directory / "claims"
            (claims / "0002.json").write_text("{}")
        return False

    train_bundle(runs, Execution(device="cpu", runs_at_once=4), should_stop)
    assert runs[0].record.status() is None
    assert len(runs[0].record.metrics()) < len(alone[0].metrics())
    for run, expected in zip(runs[1:], alone[1:], strict=True):
        _assert_equal(run.record, expected)
