"""What public runs say, as the tables in `results/`: exponents, cells, regret, laws, schedules."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import pandas as pd

from analysis.public_runs.best_batch import best_batch_exponents, best_batches
from analysis.public_runs.cells import Cell, fit_cells
from analysis.public_runs.laws import laws_table
from analysis.public_runs.regimes import (
    AUTHORS_BATCH,
    BOUNDARY_TOKENS,
    Grid,
    authors_exponents,
    fitted_exponents,
    gains,
    held_out_errors,
    plain_exponents,
    with_intervals,
)
from analysis.public_runs.regret import regret_table
from analysis.public_runs.schedules import SchedulesFit
from analysis.transfer import DRIFT_TOLERANCE, TransferVerdict
from paper_repro.statistics import Interval

Boundary = Literal["fitted", "authors", "none"]

#: Exponents of η* under the rule √(B/D).
SQUARE_ROOT = {"batch": 0.5, "tokens": -0.5, "iso_steps": 0.0}
#: The formulas of arXiv 2503.04715 for the best batch size and the best rate there.
_BATCH = {
    "batch": math.log2(AUTHORS_BATCH[0] * BOUNDARY_TOKENS ** AUTHORS_BATCH[1]),
    "tokens": AUTHORS_BATCH[1],
    "size": 0.0,
}
AUTHORS = {
    "boundary": _BATCH,
    "best_batch": _BATCH,
    "best_rate": {"tokens": 0.307, "size": -0.713},
}
#: The regimes of η* itself; the other rows are of boundaries and best batches.
REGIMES = ("below", "above", "all")


def drift_verdict(exponent: Interval, rule: float) -> TransferVerdict:
    """Whether the optimum stays under a rule: the exponent less the rule's is the drift."""
    low, high = exponent.low - rule, exponent.high - rule
    if math.isnan(low):
        return "not decided"
    if low > DRIFT_TOLERANCE or high < -DRIFT_TOLERANCE:
        return "fails"
    return "holds" if low >= -DRIFT_TOLERANCE and high <= DRIFT_TOLERANCE else "not decided"


def grid_exponents(cells: Sequence[Cell]) -> pd.DataFrame:
    """All exponents of a grid with their intervals.

    Columns: `boundary` (`fitted`, `authors`: that of arXiv 2503.04715, or `none`), `regime`
    (`below` or `above` it, `all`; `boundary`, `bend`, `best_batch`, `best_rate`, `held_out`),
    `quantity`, `value` with its interval, `cells` and `groups` behind it, and for η* in a regime
    `rule`, what √(B/D) says, with `verdict`; for batches and the rate at the best one, `authors`,
    what the formulas of arXiv 2503.04715 say.
    """
    grid = Grid.of(cells)
    parts: dict[Boundary, tuple[Grid, dict[str, Interval]]] = {
        "fitted": (grid, with_intervals(grid, fitted_exponents)),
        "authors": (grid, with_intervals(grid, authors_exponents)),
        "none": (grid, with_intervals(grid, plain_exponents)),
    }
    better = gains(held_out_errors(grid))
    parts["fitted"][1].update({f"held_out.{name}": each for name, each in better.items()})
    rows = [row for name, part in parts.items() for row in _rows(name, *part)]
    if (best := best_batches(cells)) is not None:
        rows += _rows("none", best, with_intervals(best, best_batch_exponents))
    return pd.DataFrame(rows)


def _rows(
    boundary: Boundary, grid: Grid, found: Mapping[str, Interval]
) -> Iterator[dict[str, Any]]:
    for name, interval in found.items():
        regime, _, quantity = name.partition(".")
        rule = SQUARE_ROOT.get(quantity, math.nan) if regime in REGIMES else math.nan
        yield {
            "boundary": boundary,
            "regime": regime,
            "quantity": quantity,
            **interval.columns("value"),
            "cells": len(grid),
            "groups": len(set(grid.groups.tolist())),
            "authors": AUTHORS.get(regime, {}).get(quantity, math.nan),
            "rule": rule,
            "verdict": "" if math.isnan(rule) else drift_verdict(interval, rule),
        }


def cells_table(cells: Sequence[Cell]) -> pd.DataFrame:
    """The optima of a grid, without its losses: one row a cell.

    `optimum` is log2 of the learning rate, with its interval; unknown where not `bracketed`.
    """
    return pd.DataFrame(
        {
            "model": cell.model,
            "size": cell.size,
            "tokens": cell.tokens,
            "batch": cell.batch,
            "bracketed": cell.curve.bracketed,
            **cell.optimum.columns("optimum"),
        }
        for cell in cells
    )


def grid_tables(runs: pd.DataFrame, data: str) -> dict[str, pd.DataFrame]:
    """The tables of one grid, each with a column `data`."""
    cells = fit_cells(runs)
    made = {
        "exponents": grid_exponents(cells),
        "cells": cells_table(cells),
        "regret": regret_table(cells),
        "laws": laws_table(cells),
    }
    for table in made.values():
        table.insert(0, "data", data)
    return made


def schedules_table(fit: SchedulesFit) -> pd.DataFrame:
    """The token exponents by schedule, with what √(B/D) says of them and the verdict.

    The last row of a kind of decay, of `model` `slope`, is by how much its exponent changes from a
    share of 0 to one of 1.
    """
    table = fit.table()
    rule = SQUARE_ROOT["tokens"]
    whole = table["bracketed"] == table["durations"]
    verdicts = [
        drift_verdict(Interval(row["tokens"], row["tokens_low"], row["tokens_high"]), rule)
        for _, row in table.iterrows()
    ]
    table = table.assign(rule=rule, verdict=pd.Series(verdicts).where(whole, "not decided"))
    change = fit.slope("wsd", "linear").columns("tokens")
    slope = {"model": "slope", "schedule": "wsd", "cooldown": "linear", **change}
    return pd.concat([table, pd.DataFrame([slope])], ignore_index=True)
