"""How good the incumbent of a search is after how many trials, by what proposes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.load import Results
from analysis.report import readable
from analysis.searches import PROPOSER_NAMES, race, with_losses
from figures.made import Made
from figures.style import distinct_palette
from paper_repro.statistics import Interval, over_seeds


def make_search(space: Results, defaults: Results, modules: Results) -> Made:
    """Left, what the searches saw; right, their incumbents at seeds that they did not use.

    Args:
        space: searches over global hyperparameters, in the upper row.
        defaults: a grid over the learning rate at those seeds, all else at its default.
        modules: searches over those of every module type, in the lower row.
    """
    figure = Figure((7.2, 6.0), layout="constrained")
    upper, lower = figure.subplots(2, 2, sharex=True, sharey="row")
    race_of_all, seen_of_all = _draw_race(upper, space, "global")
    race_of_modules, seen_of_modules = _draw_race(lower, modules, "per module")
    handles, labels = upper[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    grid = _grids_best(defaults.runs)
    for panel in upper:
        panel.axhline(grid.value, color="0.3", linestyle="--", linewidth=1)
    upper[0].annotate(
        "defaults, best of a grid over η",
        (0.98, grid.value),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="bottom",
        fontsize=8,
    )
    frames = {
        "race": race_of_all,
        "seen": seen_of_all,
        "grid": pd.DataFrame([grid.columns("loss")]),
        "race_modules": race_of_modules,
        "seen_modules": seen_of_modules,
    }
    tables = {
        "Proposers at equal trials": _readable(race_of_all),
        "Proposers at equal trials, per module": _readable(race_of_modules),
    }
    text = f"Defaults at the best learning rate of a grid, at the same seeds: {grid.value:.3f} nats"
    return Made(figure, frames, tables, (text,))


def _draw_race(
    panels: Sequence[Axes], results: Results, title: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draw the searches over one space; their race, and the least losses that they saw."""
    left, right = panels
    trials = with_losses(results.trials, results.runs)
    table, seen = race(trials), _least_seen(trials)
    names = [name for name in PROPOSER_NAMES if name in set(table["proposer"])]
    colours = distinct_palette(names)
    for place, name in enumerate(names):
        for _, curve in seen[seen["proposer"] == name].groupby("search"):
            left.plot(curve["trial"] + 1, curve["least"], color=colours[name], linewidth=0.9)
        _draw_confirmed(right, table[table["proposer"] == name], name, colours[name], place)
    left.set_title(f"{title}: least loss seen")
    left.set_ylabel("validation loss (nats)")
    right.set_title(f"{title}: incumbent at fresh seeds")
    for panel in panels:
        panel.set_xlabel("trials")
        panel.tick_params(labelbottom=True)
    return table, seen


def _readable(table: pd.DataFrame) -> pd.DataFrame:
    return readable(
        table,
        {
            "": lambda row: PROPOSER_NAMES[row["proposer"]],
            "trials": "trials",
            "searches": "searches",
            "loss at fresh seeds": ("loss", 3),
            "loss that it saw": lambda row: f"{row['seen']:.3f}",
            "infinite": lambda row: f"{row['infinite']:.1f}",
        },
    )


def _least_seen(trials: pd.DataFrame) -> pd.DataFrame:
    """The least loss among the trials so far, at the seeds that all trials have."""
    first = trials[(trials["kind"] == "trial")].sort_values(["search", "trial"])
    loss = first["loss"].where(first["repeat"] == 0, np.inf)
    least = loss.groupby(first["search"]).cummin()
    return first.assign(least=least)[["proposer", "search", "trial", "least"]]


def _grids_best(runs: pd.DataFrame) -> Interval:
    """The loss at the best learning rate, over seeds."""
    by_rate = runs.groupby("hyperparameters.lr")["val_loss"]
    return over_seeds(by_rate.get_group(by_rate.mean().idxmin()).to_list())


def _draw_confirmed(
    panel: Axes, table: pd.DataFrame, name: str, colour: tuple[float, float, float], place: int
) -> None:
    """With intervals over searches, moved apart so that they can be told from each other."""
    trials = table["trials"] + 1.2 * (place - 1)
    panel.plot(trials, table["loss"], "o-", color=colour, label=PROPOSER_NAMES[name], markersize=4)
    panel.vlines(trials, table["loss_low"], table["loss_high"], color=colour, linewidth=1)
