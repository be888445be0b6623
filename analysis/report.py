"""Statistics as readable tables: numbers with intervals, few digits."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from analysis.arms import ScaleAxis
from analysis.regime import regime, scales_on_plateau
from analysis.transfer import Transfer
from paper_repro.statistics import Interval

Tables = dict[str, pd.DataFrame]
"""Readable tables by title. Cells are text; what names the rows is the index."""

Cell = str | tuple[str, int] | Callable[[pd.Series], str]
"""A cell's source: a column, an interval and its digits, or a function of the summary's row."""

Columns = dict[str, Cell]
"""The columns of a readable table."""


def transfer_tables(transfer: Transfer, optima: pd.DataFrame, drifts: pd.DataFrame) -> Tables:
    """The optima and the drifts of a sweep with their verdicts."""
    axis = transfer.axis
    return {
        f"Optimal {transfer.hyperparameter} along {axis.label}": readable(
            optima,
            {
                "": "label",
                axis.label: lambda row: axis.text(row["scale"]) + " base" * row["base"],
                "seeds": "seeds",
                "optimum (log2)": lambda row: (
                    format_interval(row, "optimum", 2) if row["bracketed"] else "unbracketed"
                ),
                "loss (nats)": ("loss", 3),
                "regret (nats)": ("regret", 3),
            },
            names=2,
        ),
        f"Drift of the optimum, octaves per doubling of {axis.label}": readable(
            drifts,
            {
                "": "label",
                "scales": lambda row: scale_range(row, axis.text),
                "seeds": "seeds",
                "drift": ("drift", 2),
                "regret at largest": ("regret", 3),
                "bracketed": bracketed,
                "verdict": "verdict",
            },
        ),
    }


def regime_lines(runs: pd.DataFrame, axis: ScaleAxis) -> tuple[str, ...]:
    """Whether the runs of a sweep are beyond the bigram plateau, and which scales are not."""
    scales = ", ".join(map(axis.text, scales_on_plateau(runs, axis)))
    late = f"Not beyond the plateau: {axis.label} {scales}"
    return (str(regime(runs)), late) if scales else (str(regime(runs)),)


def print_tables(console: Console, tables: Tables, lines: tuple[str, ...] = ()) -> None:
    """Print tables with their titles, and lines of text after them."""
    for title, frame in tables.items():
        table = Table(title=title, box=SIMPLE_HEAD, title_justify="left", pad_edge=False)
        cells = frame.reset_index()
        for index, name in enumerate(cells):
            table.add_column(str(name), justify="right" if index else "left")
        for row in cells.itertuples(index=False):
            table.add_row(*map(str, row))
        console.print(table)
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def readable(frame: pd.DataFrame, columns: Columns, names: int = 1) -> pd.DataFrame:
    """A table of text; the first `names` columns are the index."""
    rows = [
        {name: _cell(row, what) for name, what in columns.items()} for _, row in frame.iterrows()
    ]
    return pd.DataFrame(rows, columns=list(columns)).set_index(list(columns)[:names])


def _cell(row: pd.Series, what: Cell) -> str:
    if isinstance(what, str):
        return str(row[what])
    return format_interval(row, *what) if isinstance(what, tuple) else what(row)


def bracketed(row: pd.Series) -> str:
    """Whether the optimum of every scale is bracketed, of a summary's row."""
    return "all" if row["bracketed"] else "not all"


def format_interval(row: pd.Series, name: str, digits: int) -> str:
    """`value [low, high]` of a summary's columns; `?` stands for an unknown interval."""
    value, low, high = (float(row[name + end]) for end in ("", "_low", "_high"))
    return interval_text(Interval(value, low, high), f".{digits}f")


def scale_range(row: pd.Series, text: Callable[[int], str] = str) -> str:
    """The bracketed scales of a summary's row, `32 … 256`; a dash if there are none."""
    if not row["scale_max"]:
        return "–"
    return f"{text(row['scale_min'])} … {text(row['scale_max'])}"


def interval_text(interval: Interval, form: str) -> str:
    """`value [low, high]` in a number format (`.3f`); `?` stands for an unknown interval."""
    if math.isnan(interval.value):
        return "–"
    form = f"z{form}"  # what rounds to 0 has no sign
    if math.isnan(interval.low):
        return f"{interval.value:{form}} [?]"
    text = f"{interval.value:{form}} [{interval.low:{form}}, {interval.high:{form}}]"
    return text.replace("-", "−")
