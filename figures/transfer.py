"""Transfer curves: final loss against a hyperparameter, one line a scale, one panel an arm."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.arms import LR, WEIGHT_DECAY, ScaleAxis
from analysis.load import Results
from analysis.regime import scales_on_plateau
from analysis.report import interval_text, regime_lines, transfer_tables
from analysis.studies import Study
from analysis.transfer import ScaleFit, ScaleFits, Transfer, drift, fit_transfer
from figures.made import Made
from figures.style import Colour, Look, log2_axis, sequential_palette

PANEL_WIDTH, PANEL_HEIGHT = 3.3, 3.4  # inches
NARROWEST = 4.2  # inches: what the drift above a single panel takes
PANELS_A_ROW = 3

LABELS = {LR: "base learning rate", WEIGHT_DECAY: "base weight decay"}

#: Nats above the highest optimum that stay in view: enough to see each curve turn.
HEADROOM = 0.3

#: Markers in the legend.
OPTIMUM: Look = {"marker": "D", "markeredgecolor": "black", "label": "optimum, 95 % interval"}
HOLLOW: Look = {"marker": "D", "markerfacecolor": "white", "label": "lowest, not bracketed"}
DIVERGED: Look = {"marker": "x", "label": "a seed diverged"}


def make_study(study: Study, results: Results) -> Made:
    """The panels of a study."""
    runs = study.figure_runs(results.runs)
    return make_transfer(runs, study.axis, study.hyperparameter)


def make_transfer(runs: pd.DataFrame, axis: ScaleAxis, hyperparameter: str = LR) -> Made:
    """The loss curves of runs along one axis, with their optima and drifts."""
    transfer = fit_transfer(runs, axis, hyperparameter)
    optima, drifts = transfer.optima(), transfer.drifts()
    return Made(
        draw_transfer(transfer),
        {"losses": transfer.losses(), "optima": optima, "drifts": drifts},
        transfer_tables(transfer, optima, drifts),
        regime_lines(runs, axis),
    )


def draw_transfer(transfer: Transfer) -> Figure:
    """Draw the loss curves of a sweep along one axis, with their optima and drifts.

    Lines are means over seeds, bands reach from the lowest to the highest seed, dots are runs.
    """
    results, axis, hyperparameter = transfer.runs, transfer.axis, transfer.hyperparameter
    arms = transfer.arms
    curves = [curve for fits in arms.values() for curve in fits.values()]
    palette = sequential_palette(sorted(set().union(*arms.values())))
    rows = math.ceil(len(arms) / PANELS_A_ROW)
    columns = math.ceil(len(arms) / rows)
    width = max(PANEL_WIDTH * columns, NARROWEST) + 1.3
    figure = Figure((width, PANEL_HEIGHT * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
    limits = loss_range(results, curves)
    grid = np.log2(results[hyperparameter].to_numpy(dtype=float))
    for (arm, fits), panel in zip(arms.items(), panels, strict=False):
        draw_panel(panel, arm.label, interval_text(drift(fits), ".2f"), fits, palette)
        panel.set_ylim(*limits)
        panel.set_xlim(grid.min() - 0.4, grid.max() + 0.4)  # wide intervals leave the view
        panel.set_xlabel(f"{LABELS.get(hyperparameter, hyperparameter)} (log scale)")
    for panel in panels:  # those that no arm needs
        panel.remove()
    for row in range(rows):
        figure.axes[row * columns].set_ylabel("final validation loss (nats)")
    notes = {transfer.base: " (base)"}
    notes |= dict.fromkeys(scales_on_plateau(results, axis), " (on the bigram plateau)")
    handles = [
        Line2D([], [], color=colour, label=axis.text(scale) + notes.get(scale, ""))
        for scale, colour in palette.items()
    ]
    handles += marker_handles(curves) + _draw_bigram_entropy(figure, results)
    figure.legend(handles=handles, title=axis.label, loc="outside right upper", alignment="left")
    return figure


def loss_range(results: pd.DataFrame, fits: list[ScaleFit]) -> tuple[float, float]:
    """Limits that show every minimum and how the curves turn; worse losses leave the view."""
    best = [fit.mean.loss for fit in fits if math.isfinite(fit.mean.loss)]
    highest = max(best, default=1.0)
    lowest = min(float(results["val_loss"].min()), highest)
    return lowest - 0.05 * (highest + HEADROOM - lowest), highest + HEADROOM


def draw_panel(
    panel: Axes, label: str, octaves: str, fits: ScaleFits, palette: Mapping[int, Colour]
) -> None:
    """Draw the curves of one arm, a line a scale, under its name and its drift in print."""
    _draw_title(panel, label, octaves)
    for scale, fit in fits.items():
        _draw_curve(panel, fit, palette[scale])
        _draw_optimum(panel, fit, palette[scale])
    _draw_diverged(panel, fits, palette)
    panel.tick_params(labelbottom=True)
    log2_axis(panel)


def _draw_title(panel: Axes, label: str, octaves: str) -> None:
    panel.set_title(textwrap.fill(label, 30), pad=18)
    text = "drift unknown" if octaves == "–" else f"drift {octaves} octaves per doubling"
    panel.annotate(text, (0.5, 1), (0, 5), "axes fraction", "offset points", ha="center", size=8)


def _draw_curve(panel: Axes, fit: ScaleFit, colour: Colour) -> None:
    curves = fit.curves.where(np.isfinite(fit.curves))
    x = curves.index.to_numpy()
    complete = np.isfinite(fit.mean.losses)
    low, high = curves.min(axis=1), curves.max(axis=1)
    panel.fill_between(x, low, high, where=complete, color=colour, alpha=0.15, linewidth=0)
    panel.plot(x, np.where(complete, fit.mean.losses, np.nan), color=colour)
    for seed in curves:
        panel.plot(x, curves[seed], ".", color=colour, markersize=2.5, alpha=0.5)


def _draw_optimum(panel: Axes, fit: ScaleFit, colour: Colour) -> None:
    """A diamond with its interval; hollow where the optimum is not bracketed."""
    optimum = fit.optimum
    if math.isnan(optimum.value):
        return
    loss = fit.loss.value if fit.mean.bracketed else fit.mean.loss
    if not math.isnan(optimum.low):
        interval = [optimum.low, optimum.high]
        panel.plot(interval, [loss, loss], "-|", color=colour, linewidth=1.2, zorder=3)
    look: Look = {"color": "white", "markeredgecolor": colour, "markeredgewidth": 1.5}
    if fit.mean.bracketed:
        look = {"color": colour, "markeredgecolor": "black", "markeredgewidth": 0.7}
    panel.plot(optimum.value, loss, "D", markersize=6, zorder=4, **look)


def _draw_diverged(panel: Axes, fits: ScaleFits, palette: Mapping[int, Colour]) -> None:
    """Crosses along the upper edge, one row a scale, at the rates where a run diverged."""
    for row, (scale, fit) in enumerate(fits.items()):
        x = fit.mean.log2_lr[np.isposinf(fit.mean.losses)]
        height, across = np.full(len(x), 0.975 - 0.035 * row), panel.get_xaxis_transform()
        panel.plot(x, height, "x", color=palette[scale], markersize=4.5, transform=across)


def _draw_bigram_entropy(figure: Figure, results: pd.DataFrame) -> list[Line2D]:
    """A faint line where it is in view: curves near it say little about transfer."""
    entropy = float(results["bigram_entropy"].max())
    low, high = figure.axes[0].get_ylim()
    if not low < entropy < high:
        return []
    look: Look = {"color": "0.55", "linewidth": 1, "linestyle": ":"}
    for panel in figure.axes:
        panel.axhline(entropy, zorder=1, **look)
    return [Line2D([], [], label="bigram entropy", **look)]


def marker_handles(fits: list[ScaleFit]) -> list[Line2D]:
    """Legend entries of the markers that occur."""
    looks = [
        (any(fit.mean.bracketed for fit in fits), OPTIMUM),
        (not all(fit.mean.bracketed for fit in fits), HOLLOW),
        (any(np.isposinf(fit.mean.losses).any() for fit in fits), DIVERGED),
    ]
    grey: Look = {"color": "0.5", "linestyle": "none"}
    return [Line2D([], [], **grey, **look) for occurs, look in looks if occurs]
