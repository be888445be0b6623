"""Would more seeds decide the open rows of the transfer table? `python -m analysis.assurance`.

Assurance is power averaged over what is known of the truth (Spiegelhalter and Freedman 1986). For a
row that is *not decided* a truth is drawn from the pooled estimate: where each curve has its
optimum, its shape, its noise. Seeds of that truth are added to those there are, as many as a budget
of core-hours pays for at the row's own cost, and the verdict is taken again with all of them. The
share of such futures that end decided is written to `analysis/results/assurance.csv`, a row for
each open row and budget.

What curves share is taken as known, and grids and scales stay as they are; so a row that this calls
undecidable may yet be decided by another design.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.arms import select
from analysis.load import COMMITTED_RESULTS
from analysis.pooled import Shared, draw, further_seeds
from analysis.pooled_transfer import (
    INFLATIONS,
    PooledArm,
    cost_of_a_seed,
    pooled_arm,
    same_trainings,
)
from analysis.tables import read_shared, studies_with_results, write_table
from analysis.transfer import fit_transfer
from paper_repro.command import command, positive
from paper_repro.parameterization.page import markdown_table
from paper_repro.paths import check_writable, given_path

#: Core-hours that may be spent on further seeds of one row.
BUDGETS = (2.0, 5.0, 20.0)

#: A row is undecidable within a budget if a smaller share of its futures is decided.
DECIDABLE = 0.5

_COLUMNS = [
    *("sweep", "label", "size", "core_hours", "seeds", "more"),
    *("holds", "fails", "futures", "decidable"),
]
#: Draws of each curve in a simulated future: its quantiles are as good as needed.
_DRAWS = 1000


@dataclass(frozen=True, eq=False)
class OpenRow:
    """An arm whose transfer is not decided, and what a seed more of it costs."""

    sweep: str
    label: str
    size: str
    arm: PooledArm
    bracketed: bool
    shared: Shared
    inflation: float
    seed_hours: float
    """Core-hours of one seed at every scale and value of the grid."""


def open_rows(results_dir: Path) -> Iterator[OpenRow]:
    """The rows of the table of transfer that are not decided, in its order.

    Raises:
        ConfigError: there are no results, or no table of what curves share.
    """
    learnt = read_shared(results_dir)
    for study, size, runs in studies_with_results(results_dir):
        transfer = fit_transfer(study.table_runs(runs), study.axis, study.hyperparameter)
        shared, inflation = learnt[study.hyperparameter], INFLATIONS[study.hyperparameter]
        for each in same_trainings(transfer):
            fits = transfer.arms[each]
            arm = pooled_arm(fits, transfer.base, shared, inflation)
            bracketed = all(fit.mean.bracketed for fit in fits.values())
            if arm is None or arm.verdict(bracketed) != "not decided":
                continue
            _, hours = cost_of_a_seed(select(transfer.runs, each))
            yield OpenRow(study.name, each.label, size, arm, bracketed, shared, inflation, hours)


def assurance(
    row: OpenRow, more: int, futures: int, random: np.random.Generator
) -> dict[str, float]:
    """The shares of futures of a row, with so many more seeds, that end `holds` and `fails`."""
    found = [_future(row, more, random) for _ in range(futures)]
    return {word: found.count(word) / futures for word in ("holds", "fails")}


def _future(row: OpenRow, more: int, random: np.random.Generator) -> str:
    """The verdict with further seeds of one truth that may be."""
    draws = {}
    for scale, known in row.arm.draws.items():
        losses = further_seeds(known, row.shared, more, random)
        curve = replace(known.curve, losses=np.hstack([known.curve.losses, losses]))
        seed = int(random.integers(2**32))
        draws[scale] = draw(curve, row.shared, _DRAWS, seed, row.inflation)
    return PooledArm(draws, row.arm.base).verdict(row.bracketed)


def assurances(rows: Sequence[OpenRow], futures: int) -> pd.DataFrame:
    """The table of `assurance.csv`, with progress on stderr.

    Returns:
        a row an open row and budget: `sweep`, `label`, `size`, `core_hours`; `seeds` with which it
        ends and how many of these are `more`; the shares `holds` and `fails` of `futures`, and
        whether the row is `decidable` with that budget.
    """
    found = []
    for number, row in enumerate(rows, 1):
        for hours in BUDGETS:
            more = max(round(hours / row.seed_hours), 1)
            name = f"{row.sweep} {row.label} {row.size} {hours}"
            shares = assurance(row, more, futures, np.random.default_rng(zlib.crc32(name.encode())))
            found.append(
                {
                    **{"sweep": row.sweep, "label": row.label, "size": row.size},
                    **{"core_hours": hours, "seeds": row.arm.seeds + more, "more": more},
                    **shares,
                    "futures": futures,
                    "decidable": "yes" if sum(shares.values()) >= DECIDABLE else "no",
                }
            )
        print(f"\r{number} of {len(rows)} rows", end="", file=sys.stderr)
    print(file=sys.stderr)
    return pd.DataFrame(found, columns=_COLUMNS)


def markdown(table: pd.DataFrame) -> str:
    """The table for docs/statistics.md: shares decided, and with how many seeds.

    `decidable` is that with the largest budget.
    """
    rows = []
    for (sweep, label, _), of_row in table.groupby(["sweep", "label", "size"], sort=False):
        now = of_row["seeds"] - of_row["more"]
        decided = of_row["holds"] + of_row["fails"]
        cells = [f"{share:.2f} ({n})" for share, n in zip(decided, of_row["seeds"], strict=True)]
        most = str(of_row["decidable"].iloc[-1])
        rows.append([str(sweep), str(label), str(now.iloc[0]), *cells, most])
    budgets = [f"{hours:g} core-hours" for hours in table["core_hours"].unique()]
    return markdown_table(["sweep", "arm", "seeds", *budgets, "decidable"], rows)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, write the table, and print it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m analysis.assurance", description=__doc__)
    parser.add_argument(
        "--results-dir", type=given_path, default=COMMITTED_RESULTS, help="default: %(default)s"
    )
    parser.add_argument("--futures", type=positive, default=200, help="of a row (default: 200)")
    options = parser.parse_args(arguments)
    check_writable(options.results_dir, "--results-dir")
    table = assurances(list(open_rows(options.results_dir)), options.futures)
    write_table(table, options.results_dir / "assurance.csv")
    print(markdown(table), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
