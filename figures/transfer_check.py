"""The transfer check: a row of panels a model and arm, a panel an axis, and the verdicts."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.arms import LR, Arm, ScaleAxis
from analysis.load import COMMITTED_RESULTS, Results
from analysis.regime import regime
from analysis.report import Columns, format_interval, readable, scale_range
from analysis.tables import read_shared
from analysis.transfer_check import CheckedAxis, checked_axes, conclusion, verdicts
from figures.made import Made
from figures.style import sequential_palette
from figures.transfer import (
    LABELS,
    PANEL_HEIGHT,
    PANEL_WIDTH,
    Fitted,
    draw_panel,
    fitted_draws,
    fitted_frame,
    loss_range,
    marker_handles,
)


def make_transfer_check(results: Results) -> Made:
    """Panels and verdicts of every model along every axis of a sweep."""
    checked = checked_axes(results.runs)
    table = verdicts(checked)
    regimes = [
        f"{each.model}: {regime(each.transfer.runs)}"
        for each in {each.model: each for each in checked}.values()
    ]
    losses = [
        each.transfer.losses().assign(model=each.model, axis=each.axis.name) for each in checked
    ]
    shared = read_shared(COMMITTED_RESULTS)[LR]
    fitted: FittedPanels = {
        (each.model, arm, each.axis): fitted_draws(fits, shared)
        for each in checked
        for arm, fits in each.transfer.arms.items()
    }
    curves = [
        fitted_frame({arm.label: draws}).assign(model=model, axis=axis.name)
        for (model, arm, axis), draws in fitted.items()
    ]
    return Made(
        draw(checked, table, fitted),
        {
            "losses": pd.concat(losses, ignore_index=True),
            "fitted": pd.concat(curves, ignore_index=True),
            "verdicts": table,
        },
        {"Transfer of the learning rate": readable(table, COLUMNS, names=3)},
        (*regimes, *conclusion(table)),
    )


COLUMNS: Columns = {
    "model": "model",
    "arm": "label",
    "axis": "axis",
    "scales": scale_range,
    "seeds": "seeds",
    "drift (octaves per doubling)": ("drift", 2),
    "worst regret (nats)": ("regret_worst", 3),
    "verdict": "verdict",
    "what would decide it": lambda row: row["decides"] or "–",
}


FittedPanels = dict[tuple[str, Arm, ScaleAxis], Fitted]
"""The fitted curves of a model's arm along an axis."""


def draw(checked: list[CheckedAxis], table: pd.DataFrame, fitted: FittedPanels) -> Figure:
    """Draw the loss curves, as in `lr_width`."""
    rows = list(dict.fromkeys((each.model, arm) for each in checked for arm in each.transfer.arms))
    axes = list(dict.fromkeys(each.axis for each in checked))
    figure = Figure(
        ((PANEL_WIDTH + 0.4) * len(axes) + 1.2, PANEL_HEIGHT * len(rows)), layout="constrained"
    )
    panels = figure.subplots(len(rows), len(axes), squeeze=False, sharex=True, sharey=True)
    of_panel = {(row["model"], row["label"], row["axis"]): row for _, row in table.iterrows()}
    several = len({arm for _, arm in rows}) > 1
    fits = {
        (each.model, arm, each.axis): found
        for each in checked
        for arm, found in each.transfer.arms.items()
    }
    everything = [fit for found in fits.values() for fit in found.values()]
    runs = pd.concat([each.transfer.runs for each in checked])
    limits, rates = loss_range(runs, everything), np.log2(runs[LR].to_numpy(dtype=float))
    handles: list[Line2D] = []
    for column, axis in enumerate(axes):
        scales = sorted({scale for key, found in fits.items() if key[2] is axis for scale in found})
        palette = sequential_palette(scales)
        handles.append(Line2D([], [], linestyle="none", label=axis.label))
        handles += [
            Line2D([], [], color=palette[scale], label=axis.text(scale)) for scale in scales
        ]
        for row, (model, arm) in enumerate(rows):
            panel = panels[row, column]
            if (model, arm, axis) not in fits:
                panel.remove()
                continue
            found = of_panel[model, arm.label, axis.name]
            name = f"{model}, {arm.label}" if several else model
            title = f"{name} along {axis.label}: {found['verdict']}"
            drift = format_interval(found, "drift", 2)
            key = (model, arm, axis)
            draw_panel(panel, title, drift, fits[key], fitted[key], palette)
            panel.set_ylim(*limits)
            panel.set_xlim(rates.min() - 0.4, rates.max() + 0.4)
            panel.set_xlabel(f"{LABELS[LR]} (log scale)")
            if not column:
                panel.set_ylabel("final validation loss (nats)")
    handles += marker_handles(everything)
    figure.legend(handles=handles, loc="outside right upper", alignment="left")
    return figure
