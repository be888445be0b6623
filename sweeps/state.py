"""The state of a sweep's runs, read from their records and from nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from paper_repro.claims import is_claimed
from paper_repro.records import Record

State = Literal["done", "diverged", "failed", "running", "pending"]
FINISHED: tuple[State, ...] = ("done", "diverged")


@dataclass(frozen=True)
class RunState:
    """Where a run stands; `status` is the content of its `status.json`."""

    state: State
    status: Mapping[str, Any]
    tokens: int
    """Tokens it was trained on so far."""


PENDING = RunState("pending", {}, 0)


def read_states(directory: Path, records: Mapping[str, Record]) -> dict[str, RunState]:
    """The states of runs whose records are in `directory`, by run id.

    Runs without a record cost nothing to look up.
    """
    present = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
    return {
        run_id: _read_state(record) if run_id in present else PENDING
        for run_id, record in records.items()
    }


def _read_state(record: Record) -> RunState:
    # The claim first: a run that is released between the two reads has its outcome by then.
    claimed = is_claimed(record.directory)
    status = record.status() or {}
    outcome: State | None = status.get("status")
    if outcome in FINISHED:
        return RunState(outcome, status, int(status["tokens"]))
    state: State = "running" if claimed else outcome or "pending"
    return RunState(state, status, _tokens(record.metrics_path))


def _tokens(metrics: Path) -> int:
    """Tokens in the last whole line of `metrics.jsonl`; 0 without one."""
    try:
        with metrics.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return 0
    for line in reversed(lines):
        try:
            return int(json.loads(line)["tokens"])
        except (ValueError, KeyError, TypeError):
            continue
    return 0
