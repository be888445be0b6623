"""The tables of results: `python -m analysis.tables` writes them from the committed runs.

- `transfer_table.csv`: does the optimum transfer? A row for each parameterisation and axis.
- `duration_exponents.csv` and `duration_effects.csv`: how the best rate falls with duration.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from analysis.duration import effects, exponents
from analysis.load import load_results
from analysis.report import format_interval
from analysis.studies import STUDIES, Study
from analysis.transfer import drift_summary
from paper_repro.files import write_atomically

RESULTS = Path("analysis/results")
SIZES = ("cpu", "gpu")
"""Sizes of sweeps that may have results; the records of size `cpu` have the sweep's own name."""


def transfer_table(results_dir: Path) -> pd.DataFrame:
    """Drift, regret and verdict of every study and size with results, one row an arm.

    `hyperparameter` is the one swept, `drift` octaves per doubling of the axis, `regret` nats at
    the largest scale; NaN where unknown. Several parameterisations may be the same trainings along
    an axis (`analysis.arms`); each has its row.
    """
    return pd.concat(
        [
            drift_summary(study.table_runs(runs), study.axis, study.hyperparameter, size)
            for study, size, runs in _results(results_dir)
        ],
        ignore_index=True,
    )


def duration_tables(results_dir: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`analysis.duration.exponents` and `effects` of every size with results."""
    durations = [
        (size, runs) for study, size, runs in _results(results_dir) if study.sweep == "lr_duration"
    ]
    of_conditions = [exponents(runs).assign(size=size) for size, runs in durations]
    of_factors = [effects(runs).assign(size=size) for size, runs in durations]
    return pd.concat(of_conditions, ignore_index=True), pd.concat(of_factors, ignore_index=True)


def markdown(table: pd.DataFrame) -> str:
    """The table of transfer for README and notebooks: numbers with intervals, few digits."""
    lines = [
        "| axis | swept | parameterisation | scales | seeds | drift (octaves a doubling) |"
        " regret (nats) | bracketed | verdict | size |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for _, row in table.iterrows():
        cells = (
            row["axis"],
            str(row["hyperparameter"]).removeprefix("hyperparameters."),
            f"`{row['parameterization']}`",
            f"{row['scale_min']}…{row['scale_max']}",
            str(row["seeds"]),
            format_interval(row, "drift", 2).replace("-", "−"),
            format_interval(row, "regret", 3).replace("-", "−"),
            "all" if row["bracketed"] else "not all",
            row["verdict"],
            row["size"],
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m analysis.tables", description=__doc__)
    parser.add_argument("--results-dir", type=Path, default=RESULTS, help="default: %(default)s")
    parser.add_argument(
        "--markdown", action="store_true", help="print the table of transfer as in the README"
    )
    options = parser.parse_args(arguments)
    directory = options.results_dir
    if options.markdown:
        print(markdown(transfer_table(directory)), end="")
        return 0
    of_conditions, of_factors = duration_tables(directory)
    tables = {
        "transfer_table": transfer_table(directory),
        "duration_exponents": of_conditions,
        "duration_effects": of_factors,
    }
    for name, table in tables.items():
        path = directory / f"{name}.csv"
        write_atomically(path, _writer(table))
        print(f"wrote {path}")
    return 0


def _writer(table: pd.DataFrame) -> Callable[[Path], None]:
    return lambda path: table.to_csv(path, index=False, float_format="%.5f")


def _results(results_dir: Path) -> Iterator[tuple[Study, str, pd.DataFrame]]:
    for study in STUDIES.values():
        for size in SIZES:
            name = study.sweep if size == "cpu" else f"{study.sweep}_{size}"
            path = results_dir / f"{name}.parquet"
            if path.exists():
                yield study, size, load_results(path)


if __name__ == "__main__":
    raise SystemExit(main())
