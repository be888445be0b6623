"""`python -m analysis.save SWEEP ...`: results of records, as Parquet.

The reverse of `analysis.restore`. A sweep that is not complete is saved as far as it is, so that
nothing is lost where a machine is lent for a time. Saved again, the file is of all that is there.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from analysis.load import COMMITTED_RESULTS, load_sweep, save_results
from paper_repro.command import command
from paper_repro.paths import check_writable, given_path


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Save the results of sweeps; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.save", description=(__doc__ or "").partition("\n\n")[2]
    )
    add = parser.add_argument
    add("sweeps", nargs="+", metavar="SWEEP", help="names of sweeps, as of their records' folders")
    add("--runs-dir", type=given_path, default=Path("runs"), help="default: runs")
    add("--results-dir", type=given_path, default=COMMITTED_RESULTS, help="default: %(default)s")
    add("--curves", action="store_true", help="with the learning curves, where a figure needs them")
    options = parser.parse_args(argv)
    check_writable(options.results_dir, "--results-dir", make=True)
    for sweep in options.sweeps:
        path = options.results_dir / f"{sweep}.parquet"
        results = load_sweep(options.runs_dir, sweep)
        save_results(results, path, options.curves)
        print(f"{path}: {len(results.runs):,} runs")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
