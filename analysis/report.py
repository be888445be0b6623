"""Transfer statistics as text: for the terminal and, without colours, for files."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from analysis.arms import arms_of
from analysis.axes import Axis
from analysis.regime import regime, scales_on_plateau
from analysis.transfer import LR, drift_summary, transfer_summary
from paper_repro.statistics import Interval


def print_transfer(
    console: Console,
    frame: pd.DataFrame,
    axis: Axis,
    hyperparameter: str = LR,
) -> None:
    """Print the optima, the drifts with their verdicts, and the regime of a sweep."""
    labels = {name: arm.label for name, arm in arms_of(frame).items()}
    optima = transfer_summary(frame, axis, hyperparameter).replace({"parameterization": labels})
    drifts = drift_summary(frame, axis, hyperparameter).replace({"parameterization": labels})
    console.print(_optima(optima, axis, hyperparameter))
    console.print(_drifts(drifts, axis))
    console.print(str(regime(frame)), highlight=False, soft_wrap=True)
    if late := scales_on_plateau(frame, axis):
        scales = ", ".join(axis.text(scale) for scale in late)
        console.print(f"Not beyond the plateau: {axis.label} {scales}", highlight=False)


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
    if math.isnan(interval.low):
        return f"{interval.value:{form}} [?]"
    text = f"{interval.value:{form}} [{interval.low:{form}}, {interval.high:{form}}]"
    return text.replace("-", "−")


def _optima(summary: pd.DataFrame, axis: Axis, hyperparameter: str) -> Table:
    table = new_table(
        f"Optimal {hyperparameter} along {axis.label}",
        ("", axis.label, "seeds", "optimum (log2)", "loss (nats)", "regret (nats)"),
    )
    for _, row in summary.iterrows():
        table.add_row(
            row["parameterization"],
            axis.text(row["scale"]) + " base" * row["base"],
            str(row["seeds"]),
            format_interval(row, "optimum", 2) if row["bracketed"] else "unbracketed",
            format_interval(row, "loss", 3),
            format_interval(row, "regret", 3),
        )
    return table


def _drifts(summary: pd.DataFrame, axis: Axis) -> Table:
    table = new_table(
        f"Drift of the optimum, octaves per doubling of {axis.label}",
        ("", "scales", "seeds", "drift", "regret at largest", "bracketed", "verdict"),
    )
    for _, row in summary.iterrows():
        table.add_row(
            row["parameterization"],
            scale_range(row, axis.text),
            str(row["seeds"]),
            format_interval(row, "drift", 2),
            format_interval(row, "regret", 3),
            "all" if row["bracketed"] else "not all",
            row["verdict"],
        )
    return table


def new_table(title: str, columns: tuple[str, ...]) -> Table:
    """An empty table: names to the left, numbers to the right."""
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    return table
