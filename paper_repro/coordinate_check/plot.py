"""The coordinate check as a picture: every quantity against size, a line for each step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from paper_repro.coordinate_check.judge import CHECKS, judge

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Rows of panels: what is judged at the end (an activation's lightest line is its start).
ROWS = tuple(check for check in CHECKS if check.when == "end")


def plot(measurements: pd.DataFrame, path: Path, title: str) -> None:
    """Draw all axes of `measure`'s rows into a file (its suffix says the format).

    One panel a quantity: mean over seeds of log2(value) at each size, lines from light (first
    step) to dark (last). A panel's title has the slope at the last step, and FAIL where it is out
    of bounds.
    """
    from matplotlib.figure import Figure  # here: only those who plot wait for it

    verdicts = {(v.axis, v.check.name, v.quantity): v for v in judge(measurements)}
    rows = [(axis, check) for axis in measurements.axis.unique() for check in ROWS]
    columns = max(sum(key[:2] == (axis, check.name) for key in verdicts) for axis, check in rows)
    figure = Figure(figsize=(1.9 * columns, 2.1 * len(rows) + 0.5), layout="constrained")
    panels = figure.subplots(len(rows), columns, squeeze=False, sharex="row")
    for (axis, check), row in zip(rows, panels, strict=True):
        chosen = measurements[(measurements.axis == axis) & (measurements.kind == check.kind)]
        quantities = list(chosen.quantity.unique())
        row[0].set_ylabel(f"{check.name} (RMS)")
        for panel in row[len(quantities) :]:
            panel.set_axis_off()
        for panel, quantity in zip(row, quantities, strict=False):
            verdict = verdicts[axis, check.name, quantity]
            _draw(panel, chosen[chosen.quantity == quantity])
            failed = "" if verdict.passed else "  FAIL"
            panel.set_title(f"{quantity}\n{verdict.slope.value:+.2f}{failed}", fontsize=9)
            panel.set_xlabel(axis)
    figure.suptitle(f"{title}: a line a step, light to dark; slope at the last step")
    figure.savefig(path, dpi=150)


def _draw(panel: Axes, rows: pd.DataFrame) -> None:
    from matplotlib import colormaps

    steps = sorted(rows.step.unique())
    shades = colormaps["viridis_r"](np.linspace(0.15, 1, len(steps)))
    logs = rows.assign(value=np.log2(rows.value)).pivot_table(
        index="size", columns="step", values="value"
    )
    for step, shade in zip(steps, shades, strict=True):
        panel.plot(logs.index, 2 ** logs[step], color=shade, marker=".", linewidth=1.2)
    panel.set_xscale("log", base=2)
    panel.set_xticks(logs.index)
    panel.set_yscale("log", base=2)
    # At least six octaves, so that a stable quantity looks flat and not like its own noise.
    low, high = np.log2(panel.get_ylim())
    margin = max(0.0, 6 - (high - low)) / 2
    panel.set_ylim(2 ** (low - margin), 2 ** (high + margin))
    panel.grid(color="0.92")
    panel.tick_params(labelsize=7)
