"""On a GPU: runs trained at once, as one captured step, have the numbers of each alone.

Continuous integration has no GPU: there these tests skip. `docs/performance.md` says when they
last ran on one.
"""

from __future__ import annotations

import itertools
import logging

import pytest
import torch
from support.runs import RATES, leased, small_config

from paper_repro.config import Execution
from paper_repro.recording.bundle import train_bundle
from paper_repro.records import Record
from paper_repro.training import trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

STEPS = 300


def _configs():
    return [
        small_config(
            model={"width": 64, "head_dim": 16},
            train={"tokens": STEPS * 64, "clip": 1.0},
            hyperparameters={"lr": lr},
            seed=index % 2,
        )
        for index, lr in enumerate(RATES)
    ]


def _train(folder, configs, execution, stop_after=10**9) -> list[Record]:
    runs, asked = leased(folder, configs), itertools.count(1)
    train_bundle(runs, execution, lambda: next(asked) >= stop_after)
    return [run.record for run in runs]


def _alone(folder, device="cuda") -> list[Record]:
    """Each run by itself, step by step, with PyTorch's own AdamW."""
    return _train(folder, _configs(), Execution(device=device, runs_at_once=1))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return _alone(tmp_path_factory.mktemp("alone"))


def _assert_equal(records, expected, relative):
    outcomes = [record.status().status for record in records]
    assert outcomes == [record.status().status for record in expected]
    assert outcomes == ["done", "diverged", "done", "done"]
    for record, wanted in zip(records, expected, strict=True):
        if record.status().status == "done":
            lines, wanted_lines = record.metrics(), wanted.metrics()
            assert len(lines) == len(wanted_lines)
            for line, wanted_line in zip(lines, wanted_lines, strict=True):
                assert line == pytest.approx(wanted_line, rel=relative)
            assert record.run_info().groups == wanted.run_info().groups


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_stack_has_the_numbers_of_each_run_alone(compiled, alone, tmp_path):
    records = _train(tmp_path, _configs(), Execution(device="cuda", compile=compiled))
    _assert_equal(records, alone, 1e-3)
    assert all(record.run_info().runs_at_once == len(RATES) for record in records)


def test_the_gpu_has_the_numbers_of_the_cpu(alone, tmp_path):
    _assert_equal(alone, _alone(tmp_path, device="cpu"), 1e-3)


def test_bfloat16_ends_near_float32(alone, tmp_path):
    records = _train(tmp_path, _configs(), Execution(device="cuda", dtype="bfloat16"))
    for record, expected in zip(records, alone, strict=True):
        if expected.status().status == "done":
            assert record.status().val_loss == pytest.approx(expected.status().val_loss, rel=0.01)


def test_a_stopped_stack_goes_on(alone, tmp_path):
    execution = Execution(device="cuda")
    _train(tmp_path, _configs(), execution, stop_after=150)
    left = [config for config in _configs() if config.hyperparameters.lr < 1]
    records = _train(tmp_path, left, execution)
    for record, expected in zip(records, [alone[0], *alone[2:]], strict=True):
        assert record.status().val_loss == pytest.approx(expected.status().val_loss, rel=1e-3)


def test_a_stack_that_does_not_fit_is_halved(alone, tmp_path, monkeypatch, caplog):
    """More runs than the memory that this process may have: torch itself says so."""
    monkeypatch.setattr(trainer, "fitting_runs", lambda *_: 16)
    _, total = torch.cuda.mem_get_info()
    configs = [
        small_config(
            model={"width": 256, "head_dim": 32, "depth": 4},
            train={"tokens": 5 * 64},
            hyperparameters={"lr": 2**-6 * (1 + index / 100)},
        )
        for index in range(16)
    ]
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 600 * 2**20) / total)
    try:
        with caplog.at_level(logging.WARNING):
            records = _train(tmp_path, configs, Execution(device="cuda"))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "16 runs at once: CUDA out of memory" in caplog.text
    assert [record.status().status for record in records] == ["done"] * 16
    assert max(record.run_info().runs_at_once for record in records) < 16
