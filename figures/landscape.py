"""The loss around tuned hyperparameters: single module types, and from global to per module."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from analysis.landscape import FLAT, minimum, plane, scan_table, scans
from analysis.load import COMMITTED_RESULTS, Results
from analysis.report import readable
from analysis.tuned import read_arms
from figures.made import Made
from figures.style import Colour, sequential_palette
from paper_repro.parameterization import MODULES

#: Where the line starts, its end, and the ends of the plane that contains it.
_FILES = ("tuned_global", "tuned_modules", "tuned_modules_lr_only", "tuned_modules_without_lr")
_LINE, _PLANE = "per_module", ("lr", "others")
_COLUMNS = 5
_ABOVE = 0.3
"""Nats above the least loss at which panels end; what is higher is drawn at their edge."""


def make_landscape(results: Results, tuned_dir: Path = COMMITTED_RESULTS) -> Made:
    """Above, scans of η of each module type; below, the line and the plane, by width."""
    files = {name: tuned_dir / f"{name}.yaml" for name in _FILES}
    start, per_module, *parts = read_arms(files).values()
    found = scans(results.runs, start)
    line = plane(results.runs, start, [per_module], [_LINE])
    slices = plane(results.runs, start, parts, _PLANE)
    widths = sorted(set(line["width"]))
    colours = sequential_palette(widths)
    figure = Figure((8.6, 8.4), layout="constrained")
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[7, 3])[:, 0]
    _draw_scans(above, found, colours)
    panels = below.subplots(1, 1 + len(widths))
    _draw_line(panels[0], line, colours)
    for panel, width in zip(panels[1:], widths, strict=True):
        _draw_slice(panel, slices[slices["width"] == width], f"width {width}")
    ends_of_scans, minima = scan_table(found), minimum(line, _LINE)
    tables = {
        "Scans of η by module type": readable(
            ends_of_scans,
            {
                "": "module",
                "width": "width",
                f"flat within {FLAT} nats": _flat,
                "lost from": _cliff,
            },
        ),
        "Least loss from global (0) to per module (1)": readable(
            minima,
            {"width": lambda row: f"{row['width']:.0f}", "at": _place},
        ),
    }
    frames = {"scans": found, "ends": ends_of_scans, "line": line, "plane": slices}
    return Made(figure, frames, tables)


def _flat(row: pd.Series) -> str:
    return f"{row['flat_low']:+g} … {row['flat_high']:+g}"


def _place(row: pd.Series) -> str:
    return "at its last point" if math.isnan(row["weight"]) else f"{row['weight']:.2f}"


def _cliff(row: pd.Series) -> str:
    return "–" if math.isnan(row["cliff"]) else f"{row['cliff']:+g} octaves"


def _draw_scans(figure: SubFigure, found: pd.DataFrame, colours: dict[int, Colour]) -> None:
    modules = [module for module in MODULES if module in set(found["module"])]
    rows = math.ceil(len(modules) / _COLUMNS)
    panels = figure.subplots(rows, _COLUMNS, sharex=True, squeeze=False)
    for panel in panels.ravel()[len(modules) :]:
        panel.set_axis_off()
    for panel, module in zip(panels.ravel(), modules, strict=False):
        for width, colour in colours.items():
            scan = found[(found["module"] == module) & (found["width"] == width)]
            _draw_curve(panel, scan["octaves"], scan["val_loss"], colour, f"width {width}")
        panel.set_title(module.replace("_", " "), fontsize=9)
        panel.axvline(0, color="0.7", linewidth=0.8)
    figure.supxlabel("octaves of η of the module type from the global optimum", fontsize=9)
    figure.supylabel("loss above the least (nats)", fontsize=9)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    if len(modules) < panels.size:
        panels.ravel()[-1].legend(handles, labels, loc="center")
    else:
        panels[0, 0].legend()


def _draw_curve(panel: Axes, x: pd.Series, losses: pd.Series, colour: Colour, label: str) -> None:
    """Losses above their least; a run that is lost is a cross at the upper edge."""
    above = losses - losses.min()
    inside = above <= _ABOVE
    panel.plot(x[inside], above[inside], "o-", color=colour, markersize=2.5, label=label)
    panel.plot(x[~inside], np.full((~inside).sum(), _ABOVE), "x", color=colour, markersize=4)
    panel.set_ylim(-0.03 * _ABOVE, 1.06 * _ABOVE)


def _draw_line(panel: Axes, line: pd.DataFrame, colours: dict[int, Colour]) -> None:
    for width, colour in colours.items():
        some = line[line["width"] == width].sort_values(_LINE)
        above = some["val_loss"] - some["val_loss"].min()
        panel.plot(some[_LINE], above, "o-", color=colour, markersize=3, label=f"width {width}")
    panel.set_xticks([0, 1], ["global", "per module"])
    panel.set_ylabel("loss above the least (nats)")


def _draw_slice(panel: Axes, some: pd.DataFrame, title: str) -> None:
    table = some.pivot(index=_PLANE[1], columns=_PLANE[0], values="val_loss")
    table = table.dropna(thresh=3).dropna(axis="columns")  # without points of the line alone
    losses = np.minimum(table.to_numpy() - some["val_loss"].min(), _ABOVE)
    levels = np.linspace(0, min(_ABOVE, float(np.nanmax(losses))) or 1, 9)
    panel.contourf(table.columns, table.index, losses, levels=levels, cmap="viridis_r")
    panel.plot([0, 1], [0, 1], "w+-", markersize=7, linewidth=0.8)  # from global to per module
    panel.grid(False)
    panel.set_title(title)
    panel.set_xlabel("multipliers of η")
    panel.set_ylabel("all others")
