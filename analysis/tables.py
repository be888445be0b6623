"""The tables of results: `python -m analysis.tables` writes them from the committed runs.

- `transfer_table.csv`: does the optimum transfer? A row for each parameterisation and axis.
- `optima.csv`: what it was at each scale, for the arms of the figures.
- `duration_exponents.csv` and `duration_effects.csv`: how the best rate falls with duration.
- `loss_laws.csv` and `loss_law_differences.csv`: L = E + A·D^−b with and without the SDE rule.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from analysis.duration import effects, exponents
from analysis.load import COMMITTED_RESULTS, load_results
from analysis.loss_vs_tokens import duration_laws
from analysis.report import format_interval, scale_range
from analysis.studies import STUDIES, Study
from analysis.transfer import drift_summary, transfer_summary
from paper_repro.errors import ConfigError
from paper_repro.files import write_atomically

DURATION_TABLES = (
    *("duration_exponents", "duration_effects"),
    *("loss_laws", "loss_law_differences"),
)


def transfer_table(results_dir: Path) -> pd.DataFrame:
    """Drift, regret and verdict of every study and size with results, one row an arm.

    `hyperparameter` is the one swept, `drift` octaves per doubling of the axis, `regret` nats at
    the largest scale; NaN where unknown. Several parameterisations may be the same trainings along
    an axis (`analysis.arms`); each has its row.
    """
    return _concat(
        drift_summary(study.table_runs(runs), study.axis, study.hyperparameter, size)
        for study, size, runs in _results(results_dir)
    )


def optima_table(results_dir: Path) -> pd.DataFrame:
    """Optimum, loss, shift and regret of every study, size, arm of its figure, and scale."""
    return _concat(
        transfer_summary(study.figure_runs(runs), study.axis, study.hyperparameter).assign(
            sweep=study.sweep, size=size
        )
        for study, size, runs in _results(results_dir)
    )


def all_tables(results_dir: Path) -> dict[str, pd.DataFrame]:
    """Every table by the name of its file."""
    return {
        "transfer_table": transfer_table(results_dir),
        "optima": optima_table(results_dir),
        **duration_tables(results_dir),
    }


def duration_tables(results_dir: Path) -> dict[str, pd.DataFrame]:
    """What the durations say: exponents and laws, of every size with results, by file name."""
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in DURATION_TABLES}
    for study, size, runs in _results(results_dir):
        if study.sweep == "lr_duration":
            _, laws = duration_laws(runs)
            made = (exponents(runs), effects(runs), laws.table(), laws.differences())
            for name, table in zip(DURATION_TABLES, made, strict=True):
                parts[name].append(table.assign(size=size))
    return {name: _concat(tables) for name, tables in parts.items() if tables}


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
            scale_range(row),
            str(row["seeds"]),
            format_interval(row, "drift", 2),
            format_interval(row, "regret", 3),
            "all" if row["bracketed"] else "not all",
            row["verdict"],
            row["size"],
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m analysis.tables", description=__doc__)
    parser.add_argument(
        "--results-dir", type=Path, default=COMMITTED_RESULTS, help="default: %(default)s"
    )
    parser.add_argument(
        "--markdown", action="store_true", help="print the table of transfer as in the README"
    )
    options = parser.parse_args(arguments)
    directory = options.results_dir
    try:
        if options.markdown:
            print(markdown(transfer_table(directory)), end="")
            return 0
        tables = all_tables(directory)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, table in tables.items():
        path = directory / f"{name}.csv"
        write_atomically(path, _writer(table))
        print(f"wrote {path}")
    return 0


def _writer(table: pd.DataFrame) -> Callable[[Path], None]:
    return lambda path: table.to_csv(path, index=False, float_format="%.5f")


def _concat(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True)


def _results(results_dir: Path) -> Iterator[tuple[Study, str, pd.DataFrame]]:
    """The studies and sizes with results, and their runs.

    Raises:
        ConfigError: if there are none, or a file cannot be read.
    """
    if not any(results_dir.glob("*.parquet")):
        raise ConfigError(f"{results_dir}: no results there (python -m figures makes them)")
    for study in STUDIES.values():
        for path in sorted(results_dir.glob(f"{study.sweep}*.parquet")):
            size = path.stem.removeprefix(study.sweep).removeprefix("_") or "cpu"
            yield study, size, load_results(path)


if __name__ == "__main__":
    raise SystemExit(main())
