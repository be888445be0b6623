"""The coordinate check as a picture: every quantity against size, a line for each step."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from paper_repro.coordinate_check.judge import judge

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot(measurements: pd.DataFrame, path: Path, title: str) -> None:
    """Draw all axes of `measure`'s rows into a file (its suffix says the format).

    One panel a quantity, of what is judged at the end (an activation's lightest line is its start):
    mean over seeds of log2(value) at each size, lines from light (first step) to dark (last). A
    panel's title has the slope at the last step, and FAIL where it is out of bounds.
    """
    from matplotlib.figure import Figure  # here: only those who plot wait for it

    measured = measurements.groupby(["axis", "kind", "quantity"])
    judged = groupby(judge(measurements), lambda verdict: (verdict.axis, verdict.check))
    rows = [list(verdicts) for (_, check), verdicts in judged if check.when == "end"]
    columns = max(map(len, rows))
    figure = Figure(figsize=(1.9 * columns, 2.1 * len(rows) + 0.5), layout="constrained")
    panels = figure.subplots(len(rows), columns, squeeze=False, sharex="row")
    for verdicts, row in zip(rows, panels, strict=True):
        row[0].set_ylabel(f"{verdicts[0].check.name} (RMS)")
        for panel in row[len(verdicts) :]:
            panel.set_axis_off()
        for panel, verdict in zip(row, verdicts, strict=False):
            place = (verdict.axis, verdict.check.kind, verdict.quantity)
            _draw(panel, measured.get_group(place))
            failed = "" if verdict.passed else "  FAIL"
            panel.set_title(f"{verdict.quantity}\n{verdict.slope.value:+.2f}{failed}", fontsize=9)
            panel.set_xlabel(verdict.axis)
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
