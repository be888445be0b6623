"""Runs that sweeps of one runs directory have in common, above all those at a base: trained once.

A run is its configuration, whatever sweep asks for it. Where another sweep's record of it is
finished, of the same text and of the same precision, a launch copies that record instead of
training the run again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from paper_repro.config import DataConfig, Execution
from paper_repro.errors import ConfigError
from paper_repro.files import write_atomically
from paper_repro.records import Record
from paper_repro.records.comparable import Training
from paper_repro.records.provenance import of_this_model
from sweeps.plan import Plan, refresh


def finished_elsewhere(
    plan: Plan, execution: Execution, hashes: Mapping[DataConfig, str]
) -> dict[str, Record]:
    """The finished records that other sweeps have of runs without a record here, by run id.

    Args:
        hashes: of the texts as they are now, where that is known.
    """
    present = {path.name for path in plan.directory.iterdir()} if plan.directory.is_dir() else set()
    wanted = set(plan.missing) - present
    found: dict[str, Record] = {}
    for sweep in _other_sweeps(plan.directory):
        for run_id in wanted & {path.name for path in sweep.iterdir()}:
            record = Record(sweep / run_id)
            data = plan.sweep.runs[run_id].data
            training = Training.on(data, hashes.get(data), execution.dtype)
            if run_id not in found and _serves(record, run_id, training):
                found[run_id] = record
    return found


def take_over(plan: Plan, found: dict[str, Record]) -> Plan:
    """Copy finished records into the sweep's own directory; returns the plan with their outcome.

    Raises:
        OSError: the directory cannot be written.
    """
    for run_id, source in found.items():
        record = plan.records[run_id]
        record.directory.mkdir(parents=True, exist_ok=True)
        # The status last, as always: a copy that was cut short is a run that is not done.
        for path in (source.config_path, source.run_path, source.metrics_path, source.status_path):
            write_atomically(record.directory / path.name, partial(shutil.copyfile, path))
    return refresh(plan)


def _other_sweeps(directory: Path) -> list[Path]:
    """The folders beside a sweep's that can be read: others may be of colleagues."""
    runs_dir = directory.parent
    if not runs_dir.is_dir():
        return []
    others = (path for path in runs_dir.iterdir() if path.is_dir() and path != directory)
    return sorted(path for path in others if os.access(path, os.R_OK | os.X_OK))


def _serves(record: Record, run_id: str, wanted: Training) -> bool:
    """Whether a record is whole, of this run, finished, and of the text and precision wanted."""
    try:
        config = record.config()
        if not record.finished or config.run_id != run_id:
            return False
        info = record.run_info()
    except (ConfigError, OSError):
        return False
    if info is None or info.dtype != wanted.dtype or not of_this_model(config, info):
        return False
    there = wanted._replace(corpus_hash=info.data.corpus_hash)
    return not wanted.corpus_hash or there.text_hash == wanted.text_hash
