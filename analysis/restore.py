"""`python -m analysis.restore SWEEP ...`: records from committed results, to go on from.

A launch trains what has no record. With the records of committed results in its runs directory, it
adds seeds or goes on with a search, and trains nothing twice. What results do not hold (versions of
packages, optimiser groups, learning curves that no figure needs) is not restored.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.load import COMMITTED_RESULTS, Results, load_results
from analysis.searches import write_rounds
from paper_repro.command import command
from paper_repro.config import RunConfig
from paper_repro.files import write_json
from paper_repro.paths import given_path
from paper_repro.records import DataInfo, Record, RunInfo, Status


def restore(results: Results, directory: Path) -> int:
    """Write records that are not there yet; returns how many.

    Args:
        directory: of the records of the sweep.
    """
    curves = dict(iter(results.curves.groupby("run_id")))
    written = 0
    for _, row in results.runs.iterrows():
        record = Record(directory / row["run_id"])
        if record.status() is not None:
            continue
        record.create(RunConfig.model_validate_json(row["config"]))
        for _, line in curves.get(row["run_id"], results.curves.head(0)).iterrows():
            record.append_metrics(_present(line.drop("run_id")))  # type: ignore[arg-type]
        fields = _present(row)
        data = DataInfo.model_validate({name: fields[name] for name in DataInfo.model_fields})
        known = {name: value for name, value in fields.items() if name in RunInfo.model_fields}
        if dtype := fields.get("dtype"):
            known["execution"] = {"dtype": dtype}
        record.write_run_info(RunInfo.model_validate({"versions": {}, **known, "data": data}))
        status = {name: value for name, value in fields.items() if name in Status.model_fields}
        if status["status"] != "done":
            status.pop("val_loss", None)  # infinite in a frame
        write_json(record.status_path, Status.model_validate(status).model_dump(mode="json"))
        written += 1
    write_rounds(results.trials, directory)
    return written


def _present(row: pd.Series) -> dict[str, Any]:
    """What is there, as plain data: whole numbers are floats in a column with gaps."""
    values = {name: value for name, value in row.items() if not pd.isna(value)}
    return {
        str(name): int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in values.items()
    }


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Restore the records of sweeps; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.restore", description=(__doc__ or "").partition("\n\n")[2]
    )
    parser.add_argument("sweeps", nargs="+", metavar="SWEEP", help="names of committed results")
    parser.add_argument("--runs-dir", type=given_path, default=Path("runs"), help="default: runs")
    parser.add_argument(
        "--results-dir", type=given_path, default=COMMITTED_RESULTS, help="default: %(default)s"
    )
    options = parser.parse_args(argv)
    for sweep in options.sweeps:
        results = load_results(options.results_dir / f"{sweep}.parquet")
        count = restore(results, options.runs_dir / sweep)
        print(f"{options.runs_dir / sweep}: {count:,} records restored")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
