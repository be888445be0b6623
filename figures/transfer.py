"""Transfer curves: final loss against a hyperparameter, one line a scale, one panel an arm.

Lines are the fitted curves of the pooled estimate, and so are optima and drifts.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.arms import LR, WEIGHT_DECAY, Arm, ScaleAxis
from analysis.load import COMMITTED_RESULTS, Results
from analysis.pooled import Draws, Shared
from analysis.pooled_transfer import INFLATIONS, bracketed_draws, credible, drift_of
from analysis.regime import scales_on_plateau
from analysis.report import interval_text, regime_lines, transfer_tables
from analysis.studies import Study
from analysis.tables import read_shared
from analysis.transfer import ScaleFit, ScaleFits, Transfer, fit_transfer
from figures.made import Made
from figures.style import Colour, Look, log2_axis, sequential_palette
from paper_repro.statistics import UNKNOWN, Interval

Fitted = Mapping[int, Draws]
"""The draws of the curves of one arm, by scale, of those that are fitted."""

PANEL_WIDTH, PANEL_HEIGHT = 3.3, 3.4  # inches
NARROWEST = 4.2  # inches: what the drift above a single panel takes
PANELS_A_ROW = 3

LABELS = {LR: "base learning rate", WEIGHT_DECAY: "base weight decay"}

#: Nats above the highest optimum that stay in view: enough to see each curve turn.
HEADROOM = 0.3

#: Markers in the legend.
MEAN: Look = {"marker": "o", "markersize": 3.5, "label": "mean over seeds"}
FITTED: Look = {"linestyle": "-", "linewidth": 1.1, "label": "fitted curve (pooled)"}
OPTIMUM: Look = {"marker": "D", "markeredgecolor": "black", "label": "its optimum, 95 % interval"}
HOLLOW: Look = {"marker": "D", "markerfacecolor": "white", "label": "lowest, not bracketed"}
DIVERGED: Look = {"marker": "x", "label": "a seed diverged"}


def make_study(study: Study, results: Results) -> Made:
    """The panels of a study."""
    runs = study.figure_runs(results.runs)
    return make_transfer(runs, study.axis, study.hyperparameter)


def make_transfer(runs: pd.DataFrame, axis: ScaleAxis, hyperparameter: str = LR) -> Made:
    """The loss curves of runs along one axis, with their optima and drifts."""
    transfer = fit_transfer(runs, axis, hyperparameter)
    shared = read_shared(COMMITTED_RESULTS)[hyperparameter]
    fitted = {
        arm: fitted_draws(fits, shared, hyperparameter) for arm, fits in transfer.arms.items()
    }
    optima, drifts = transfer.optima(), transfer.drifts()
    pooled = pd.DataFrame(pooled_drift(draws).columns("pooled_drift") for draws in fitted.values())
    return Made(
        draw_transfer(transfer, fitted),
        {
            "losses": transfer.losses(),
            "optima": optima,
            "fitted": fitted_frame({arm.label: draws for arm, draws in fitted.items()}),
            "drifts": drifts.join(pooled),
        },
        transfer_tables(transfer, optima, drifts),
        regime_lines(runs, axis),
    )


def fitted_draws(fits: ScaleFits, shared: Shared, hyperparameter: str = LR) -> Fitted:
    """The draws of an arm whose curves are drawn."""
    return bracketed_draws(fits, shared, INFLATIONS[hyperparameter])


def pooled_drift(fitted: Fitted) -> Interval:
    """The drift of the optima of fitted curves; unknown with fewer than two."""
    return credible(drift_of(fitted)) if len(fitted) > 1 else UNKNOWN


def fitted_frame(arms: Mapping[str, Fitted]) -> pd.DataFrame:
    """The optimum (log2) and the loss there (nats) of every fitted curve, with intervals."""
    return pd.DataFrame(
        {
            "label": label,
            "scale": scale,
            **credible(draws.optimum).columns("optimum"),
            **credible(draws.loss).columns("loss"),
        }
        for label, of_arm in arms.items()
        for scale, draws in of_arm.items()
    )


def draw_transfer(transfer: Transfer, fitted: Mapping[Arm, Fitted]) -> Figure:
    """Draw the loss curves of a sweep along one axis, with their optima and drifts.

    Large dots are means over seeds, small ones runs, bands reach from the lowest to the highest
    seed. Lines are fitted curves, as far as points are fitted; beyond, means are joined faintly.
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
        drift = interval_text(pooled_drift(fitted[arm]), ".2f")
        draw_panel(panel, arm.label, drift, fits, fitted[arm], palette)
        panel.set_ylim(*limits)
        panel.set_xlim(grid.min() - 0.4, grid.max() + 0.4)  # wide intervals leave the view
        panel.set_xlabel(f"{LABELS.get(hyperparameter, hyperparameter)} (log scale)")
    for panel in panels:  # those that no arm needs
        panel.remove()
    for row in range(rows):
        figure.axes[row * columns].set_ylabel("final validation loss (nats)")
    notes = {"base": [transfer.base], "on the bigram plateau": scales_on_plateau(results, axis)}
    handles = []
    for scale, colour in palette.items():
        said = ", ".join(note for note, scales in notes.items() if scale in scales)
        label = f"{axis.text(scale)} ({said})" if said else axis.text(scale)
        handles.append(Line2D([], [], color=colour, label=label))
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
    panel: Axes,
    label: str,
    octaves: str,
    fits: ScaleFits,
    fitted: Fitted,
    palette: Mapping[int, Colour],
) -> None:
    """Draw the curves of one arm, a line a scale, under its name and its drift in print."""
    _draw_title(panel, label, octaves)
    for scale, fit in fits.items():
        draws, colour = fitted.get(scale), palette[scale]
        _draw_losses(panel, fit, draws, colour)
        if draws is None:
            _draw_optimum(panel, fit, colour)
        else:
            _draw_fitted(panel, draws, colour)
    _draw_diverged(panel, fits, palette)
    panel.tick_params(labelbottom=True)
    log2_axis(panel)


def _draw_title(panel: Axes, label: str, octaves: str) -> None:
    panel.set_title(textwrap.fill(label, 30), pad=18)
    text = "drift unknown" if octaves == "–" else f"drift {octaves} octaves per doubling"
    panel.annotate(text, (0.5, 1), (0, 5), "axes fraction", "offset points", ha="center", size=8)


def _draw_losses(panel: Axes, fit: ScaleFit, draws: Draws | None, colour: Colour) -> None:
    curves = fit.curves.where(np.isfinite(fit.curves))
    x = curves.index.to_numpy()
    complete = np.isfinite(fit.mean.losses)
    least, most = curves.min(axis=1), curves.max(axis=1)
    panel.fill_between(x, least, most, where=complete, color=colour, alpha=0.15, linewidth=0)
    mean = np.where(complete, fit.mean.losses, np.nan)
    low, high = (math.inf, -math.inf) if draws is None else draws.curve.x[[0, -1]]
    joined = np.where((x > low) & (x < high), np.nan, mean)
    panel.plot(x, joined, color=colour, linewidth=0.8, alpha=0.4)
    panel.plot(x, mean, MEAN["marker"], color=colour, markersize=MEAN["markersize"])
    for seed in curves:
        panel.plot(x, curves[seed], ".", color=colour, markersize=2.5, alpha=0.5)


def _draw_fitted(panel: Axes, draws: Draws, colour: Colour) -> None:
    """The curve over the points that it is fitted to, and a diamond with its interval."""
    x = np.linspace(draws.curve.x[0], draws.curve.x[-1], 65)
    panel.plot(x, draws.fitted(x), color=colour, linewidth=FITTED["linewidth"])
    optimum, loss = credible(draws.optimum), credible(draws.loss).value
    interval = [optimum.low, optimum.high]
    panel.plot(interval, [loss, loss], "-|", color=colour, linewidth=1.4, markersize=9, zorder=3)
    _draw_diamond(panel, optimum.value, loss, colour, filled=True)


def _draw_optimum(panel: Axes, fit: ScaleFit, colour: Colour) -> None:
    """A diamond where no curve is fitted, hollow where the optimum is not bracketed."""
    if not math.isnan(fit.optimum.value):
        loss = fit.loss.value if fit.mean.bracketed else fit.mean.loss
        _draw_diamond(panel, fit.optimum.value, loss, colour, filled=fit.mean.bracketed)


def _draw_diamond(panel: Axes, log2: float, loss: float, colour: Colour, filled: bool) -> None:
    look: Look = {"color": "white", "markeredgecolor": colour, "markeredgewidth": 1.5}
    if filled:
        look = {"color": colour, "markeredgecolor": "black", "markeredgewidth": 0.7}
    panel.plot(log2, loss, "D", markersize=4.5, zorder=4, **look)


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
        (True, MEAN),
        (any(fit.mean.bracketed for fit in fits), FITTED),
        (any(fit.mean.bracketed for fit in fits), OPTIMUM),
        (not all(fit.mean.bracketed for fit in fits), HOLLOW),
        (any(np.isposinf(fit.mean.losses).any() for fit in fits), DIVERGED),
    ]
    grey: Look = {"color": "0.5", "linestyle": "none"}
    return [Line2D([], [], **(grey | look)) for occurs, look in looks if occurs]
