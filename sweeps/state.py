"""The state of a sweep's runs, read from their records; SLURM knows which jobs are gone."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from paper_repro.records import Record, Status
from paper_repro.records.lease import owner_of
from slurm.queue import live_jobs

State = Literal["done", "diverged", "failed", "running", "lost", "pending"]
FINISHED: tuple[State, ...] = ("done", "diverged")
UNSETTLED: tuple[State, ...] = ("running", "lost", "pending")


@dataclass(frozen=True)
class RunState:
    """Where a run stands. A lost run has no outcome, and the worker that had it is gone."""

    state: State
    status: Status | None
    """How its last attempt ended; None while it has not."""
    tokens: int
    """Tokens that it was trained on so far."""
    job: str | None = None
    """The SLURM job that has, or had, the run."""
    log: str | None = None
    """Where the worker that has, or had, the run logs."""


PENDING = RunState("pending", None, 0)


def read_states(directory: Path, records: Mapping[str, Record]) -> dict[str, RunState]:
    """The states of runs whose records are in `directory`, by run id.

    Runs without a record cost nothing to look up.
    """
    present = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
    return {
        run_id: _read_state(record) if run_id in present else PENDING
        for run_id, record in records.items()
    }


def without_jobs(
    records: Mapping[str, Record], states: Mapping[str, RunState], sweep: str
) -> dict[str, RunState]:
    """Ask SLURM, and return as lost the runs that seem to be running but whose job is no more.

    The lease of a worker on another machine is believed for minutes; SLURM knows at once.
    """
    jobs = {run_id: s.job for run_id, s in states.items() if s.state == "running" and s.job}
    live = live_jobs(sweep) if jobs else None
    if live is None:
        return {}
    gone = {run_id: job for run_id, job in jobs.items() if job not in live}
    # Read again: before SLURM was asked, the job may have finished this run and then ended.
    again = {run_id: _read_state(records[run_id]) for run_id in gone}
    return {
        run_id: replace(state, state="lost")
        for run_id, state in again.items()
        if state.state == "running" and state.job == gone[run_id]
    }


def _read_state(record: Record) -> RunState:
    # The lease first: a run that is released between the two reads has its outcome by then.
    owner = owner_of(record.directory)
    status = record.status()
    if status and status.status in FINISHED:
        return RunState(status.status, status, status.tokens or 0)
    state: State = status.status if status else "lost" if owner else "pending"
    if owner and owner.alive:
        state = "running"
    tokens = _tokens(record.metrics_path)
    if owner:
        return RunState(state, status, tokens, owner.job, owner.log)
    return RunState(state, status, tokens, log=status.log if status else None)


def _tokens(metrics: Path) -> int:
    """Tokens in the last whole line of `metrics.jsonl`; 0 without one, and where it is no file."""
    try:
        with metrics.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            lines = file.read().splitlines()
    except (FileNotFoundError, IsADirectoryError):
        return 0
    for line in reversed(lines):
        try:
            return int(json.loads(line)["tokens"])
        except (ValueError, KeyError, TypeError):
            continue
    return 0
