"""Small runs, with records and without."""

from __future__ import annotations

from pathlib import Path

from paper_repro.config import Execution, RunConfig
from paper_repro.recording.bundle import train_bundle
from paper_repro.records import Record
from paper_repro.records.lease import LeasedRun, take_lease

RATES = (2**-6, 1e20, 2**-7, 2**-5)
"""Learning rates of four runs that train at once; the second diverges."""


def small_config(**sections) -> RunConfig:
    """A run of 12 steps of a 2-block model of width 16, a second or so; sections override."""
    small = {
        "model": {"width": 16, "depth": 2, "head_dim": 8},
        "data": {"corpus": "synthetic", "context": 16},
        "train": {"batch_size": 4, "tokens": 12 * 64, "evaluations": 3, "eval_sequences": 8},
        "scaling": {"base_width": 16, "base_tokens": 12 * 64, "base_batch_size": 4},
    }
    merged = {
        key: small.get(key, {}) | sections.get(key, {}) for key in (*small, "hyperparameters")
    }
    return RunConfig.model_validate(merged | {"seed": sections.get("seed", 0)})


def leased(folder: Path, configs: list[RunConfig]) -> list[LeasedRun]:
    """Runs with new records, leased."""
    runs = []
    for config in configs:
        record = Record(folder / config.run_id)
        record.create(config)
        claim = take_lease(record.directory)
        assert claim is not None
        runs.append(LeasedRun(config, record, claim))
    return runs


def train(
    config: RunConfig, directory: Path, execution: Execution | None = None, stop_after: int = 10**9
) -> Record:
    """Train one run in `directory`, stopping it gracefully after a number of steps."""
    record = Record(directory)
    record.create(config)
    claim = take_lease(directory, log="worker.log")
    assert claim is not None
    asked = iter(range(1, stop_after + 1))
    train_bundle(
        [LeasedRun(config, record, claim)],
        execution or Execution(device="cpu"),
        lambda: next(asked, stop_after) == stop_after,
    )
    return record
