"""Final loss against training tokens, one line a duration rule, with fitted laws (Figure 6).

Losses of the arms are close, so a panel below shows how far each is above the arm that is tuned at
every duration.
"""

from __future__ import annotations

from itertools import combinations, cycle, starmap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.arms import AXES
from analysis.bootstrap import flat
from analysis.final_losses import TUNED, FinalLosses, duration_laws
from analysis.laws import ArmLaws, LawFit
from analysis.load import Results
from analysis.report import interval_text
from figures.made import Made
from figures.style import Colour, Look, distinct_palette
from paper_repro.statistics import over_seeds

SIZE = (6.2, 7.0)  # inches

GREY: Colour = (0.35, 0.35, 0.35)

#: How far laws are drawn beyond the longest duration: a factor on the tokens.
EXTRAPOLATION = 4.0

MARKERS = ("o", "s", "^", "D", "v", "P")

#: Markers that show those of other arms under them.
HOLLOW: Look = {"markersize": 6, "markerfacecolor": "none", "markeredgewidth": 1.2}

#: Factor on the tokens by which the intervals of neighbouring arms stand apart.
DODGE = 1.06


def make_loss_vs_tokens(results: Results) -> Made:
    """The losses of a duration sweep, with their laws."""
    return make_losses(*duration_laws(results.runs))


def make_losses(losses: FinalLosses, laws: ArmLaws) -> Made:
    """Losses with their laws, and of every two rules whether their asymptotes can be told apart."""
    rules = [arm for arm in losses.arms if arm != TUNED]
    lines = [losses.note(), *starmap(laws.statement, combinations(rules, 2))]
    return Made(
        draw_losses(losses, laws),
        {"losses": losses.table, "laws": laws.table(), "differences": laws.differences()},
        {"Laws L(D) = E + A·D^-b with 95 % intervals, losses in nats": _laws_table(losses, laws)},
        tuple(filter(None, lines)),
    )


def draw_losses(losses: FinalLosses, laws: ArmLaws) -> Figure:
    """Draw the losses with their laws above, and their distance from the tuned arm below.

    Hollow markers are means over seeds, small dots are runs.
    """
    figure = Figure(SIZE, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    colours = distinct_palette([arm for arm in losses.arms if arm != TUNED]) | {TUNED: GREY}
    runs = losses.table.pivot(index=["tokens", "seed"], columns="arm", values="loss")
    handles = []
    for index, (arm, marker) in enumerate(zip(losses.arms, cycle(MARKERS), strict=False)):
        look, fit = HOLLOW | {"color": colours[arm], "marker": marker}, laws.fits.get(arm)
        _draw_losses(above, runs[arm].dropna(), look)
        if fit:
            _draw_law(above, runs[arm].dropna(), fit, colours[arm])
        if arm != TUNED and TUNED in losses.arms:
            dodge = DODGE ** (index - (len(losses.arms) - 1) / 2)
            _draw_distance(below, (runs[arm] - runs[TUNED]).dropna(), dodge, look)
        entry: Look = {"linestyle": "-" if fit else "none", "label": _label(arm, fit)}
        handles.append(Line2D([], [], **entry, **look))
    below.axhline(0, color="0.3", linewidth=1)
    above.set_ylabel("final validation loss (nats)")
    below.set_ylabel("above the tuned arm\n(nats, 95 % interval)")
    below.set_xlabel("training tokens (log scale); dashed: extrapolated")
    title = "lines: L(D) = E + A·D$^{-b}$, E with 95 % interval; hollow: means; dots: runs"
    figure.legend(handles=handles, title=title, loc="outside upper left", alignment="left")
    durations = sorted(losses.table["tokens"].unique())
    below.set_xscale("log")
    below.set_xlim(durations[0] / 1.3, durations[-1] * EXTRAPOLATION)
    below.set_xticks(durations, [AXES["tokens"].text(tokens) for tokens in durations])
    below.minorticks_off()
    return figure


def _laws_table(losses: FinalLosses, laws: ArmLaws) -> pd.DataFrame:
    rows = {}
    for arm in losses.arms:
        rows[arm] = ["too few durations", "", "", ""]
        if fit := laws.fits.get(arm):
            rows[arm] = [
                interval_text(fit.asymptote, ".3f") + " not identified" * (not fit.identified),
                interval_text(fit.interval("amplitude"), ".3g"),
                interval_text(fit.interval("exponent"), ".2f"),
                f"{fit.misfit:.3f} ({fit.misfit_p:.2f})",
            ]
    columns = ["E", "A", "b", "misfit (p)"]
    return pd.DataFrame.from_dict(rows, "index", columns=columns).rename_axis("")


def _label(arm: str, fit: LawFit | None) -> str:
    if fit is None:
        return f"{arm}: too few durations for a law"
    if fit.identified:
        return f"{arm}: E = {interval_text(fit.asymptote, '.3f')}"
    return f"{arm}: E not identified, {interval_text(fit.asymptote, '.2f')}"


def _draw_losses(panel: Axes, losses: pd.Series, look: Look) -> None:
    panel.plot(*flat(losses), ".", color=look["color"], markersize=3)
    means = losses.groupby("tokens").mean()
    panel.plot(means.index, means, linestyle="none", **look)


def _draw_law(panel: Axes, losses: pd.Series, fit: LawFit, colour: Colour) -> None:
    shortest, *_, longest = losses.index.unique("tokens")
    spans = {"-": (shortest, longest), "--": (longest, longest * EXTRAPOLATION)}
    for line, (start, end) in spans.items():
        tokens = np.geomspace(start, end, 100)
        panel.plot(tokens, fit.law(tokens), line, color=colour, linewidth=1.2, zorder=1.5)


def _draw_distance(panel: Axes, distances: pd.Series, dodge: float, look: Look) -> None:
    """Means and intervals over seeds of the loss minus the tuned arm's loss of the same seed."""
    for tokens, mean in distances.groupby("tokens").agg(over_seeds).items():
        x = float(str(tokens)) * dodge
        panel.plot([x, x], [mean.low, mean.high], "-", color=look["color"], linewidth=1.2)
        panel.plot(x, mean.value, linestyle="none", **look)
