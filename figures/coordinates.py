"""The coordinate checks of several arms in one picture."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from figures.style import Colour, distinct_palette, size_axis
from paper_repro.coordinate_check.judge import BOUND

PANEL_WIDTH, PANEL_HEIGHT = 1.9, 3.0  # inches
PANELS_A_ROW = 4
MARKERS = "osD^vP"
"""One for each of the six activations: lines that lie on each other differ by more than colour."""


def draw_coordinates(measurements: pd.DataFrame) -> Figure:
    """How much activations changed in the last step of coordinate checks, over the smallest size.

    One panel an arm, one line an activation, means over seeds. The grey wedge is what
    the check lets pass.
    """
    changes = measurements[
        (measurements["kind"] == "change") & (measurements["step"] == measurements["step"].max())
    ]
    arms = list(changes["arm"].unique())
    rows = math.ceil(len(arms) / PANELS_A_ROW)
    columns = math.ceil(len(arms) / rows)
    figure = Figure((PANEL_WIDTH * columns + 1.4, PANEL_HEIGHT * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).flatten()
    colours = distinct_palette(list(changes["quantity"].unique()))
    for panel, arm in zip(panels, arms, strict=False):
        _draw_changes(panel, changes[changes["arm"] == arm], colours)
        panel.set_title(arm)
        panel.set_xlabel(str(changes["axis"].iloc[0]))
    for panel in panels[len(arms) :]:
        panel.remove()
    for row in range(rows):
        panels[row * columns].set_ylabel("change, relative to the base")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, title="RMS of the change in", loc="outside right upper")
    return figure


def _draw_changes(panel: Axes, rows: pd.DataFrame, colours: dict[str, Colour]) -> None:
    means = (
        rows.assign(value=np.log2(rows["value"]))
        .pivot_table(index="size", columns="quantity", values="value", sort=False)
        .sort_index()
    )
    ratios = means.index.to_numpy() / means.index.min()
    panel.fill_between(means.index, ratios**-BOUND, ratios**BOUND, color="0.92", linewidth=0)
    for (quantity, colour), marker in zip(colours.items(), MARKERS, strict=False):
        values = 2 ** (means[quantity] - means[quantity].iloc[0])
        panel.plot(means.index, values, marker=marker, markersize=4, color=colour, label=quantity)
    size_axis(panel, list(means.index), [str(size) for size in means.index])
    panel.set_yscale("log", base=2)
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
