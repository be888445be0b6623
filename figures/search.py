"""How good the incumbent of a search is after how many trials, by what proposes them."""

from __future__ import annotations

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


def make_search(results: Results, defaults: Results) -> Made:
    """Left, what the searches saw; right, their incumbents at seeds that they did not use.

    Args:
        defaults: a grid over the learning rate at those seeds, all else at its default.
    """
    trials = with_losses(results.trials, results.runs)
    table, seen = race(trials), _least_seen(trials)
    grid = _grids_best(defaults.runs)
    names = [name for name in PROPOSER_NAMES if name in set(table["proposer"])]
    colours = distinct_palette(names)
    figure = Figure((7.2, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for name in names:
        for _, curve in seen[seen["proposer"] == name].groupby("search"):
            left.plot(curve["trial"] + 1, curve["least"], color=colours[name], linewidth=0.9)
    left.set_title("least loss that the search saw")
    left.set_ylabel("validation loss (nats)")
    for place, name in enumerate(names):
        _draw_confirmed(right, table[table["proposer"] == name], name, colours[name], place)
    right.set_title("incumbent at fresh seeds")
    right.set_xlim(left.get_xlim())
    left.legend(*right.get_legend_handles_labels(), loc="lower left")
    for panel in (left, right):
        panel.set_xlabel("trials")
        panel.axhline(grid.value, color="0.3", linestyle="--", linewidth=1)
    left.annotate(
        "defaults, best of a grid over η",
        (0.98, grid.value),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="bottom",
        fontsize=8,
    )
    tables = {
        "Proposers at equal trials": readable(
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
    }
    text = f"Defaults at the best learning rate of a grid, at the same seeds: {grid.value:.3f} nats"
    frames = {"race": table, "seen": seen, "grid": pd.DataFrame([grid.columns("loss")])}
    return Made(figure, frames, tables, (text,))


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
