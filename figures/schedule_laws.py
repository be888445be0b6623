"""How well laws of the loss along a schedule predict it, and choose a schedule, when held out."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from analysis.report import Columns, readable
from analysis.schedule_laws.measures import SET
from analysis.schedule_laws.tables import REPORTED
from figures.made import Made

#: Colour and marker of each law, from the worst known to the best.
_LOOKS = {
    "no law": ("0.5", "s"),
    "convex bound": ("#009E73", "v"),
    "LR annealing": ("#0072B2", "o"),
    "Multi-Power": ("#CC79A7", "D"),
    "Opt-Laws-style": ("#D55E00", "^"),
}
#: Ticks of the relative error.
_ERRORS = (0.001, 0.003, 0.01, 0.03, 0.1)
_SPLITS = ("schedule", "family", "duration", "size")
_COLUMNS: Columns = {
    "data": "data",
    "peaks": "peaks",
    "held out": "split",
    "law": "law",
    "relative error": ("error", 4),
    "top 1": ("top1", 2),
    "top 2": ("top2", 2),
    "regret (nats)": ("regret", 3),
    "right family": ("family", 2),
    "as reported": "verdict",
}


def make_schedule_laws(ours: pd.DataFrame, public: pd.DataFrame) -> Made:
    """Above the runs of others, below ours; left the relative error, right top 2 of eight.

    Args:
        ours: `schedule_laws.csv`.
        public: `public_runs_along.csv`.
    """
    parts = {"124M parameters, by others": public, "Ours": ours.assign(data="ours")}
    drawn = {title: table[table["peaks"] == "all"] for title, table in parts.items()}
    heights = [table.loc[table["split"] != "none", "split"].nunique() for table in drawn.values()]
    figure = Figure((7.2, 1.6 + 0.72 * sum(heights)), layout="constrained")
    panels = figure.subplots(len(drawn), 2, sharex="col", height_ratios=heights)
    for row, (title, table) in zip(panels, drawn.items(), strict=True):
        for panel, measure in zip(row, ("error", "top2"), strict=True):
            _draw(panel, table, measure)
        row[0].set_title(title, loc="left")
    left, right = panels[-1]
    left.set_xlabel("relative error of the final loss")
    right.set_xlabel(f"chooses one of the best two of {SET}")
    for panel in panels[:, 0]:
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(FixedLocator(_ERRORS))
        panel.xaxis.set_major_formatter(PercentFormatter(1, decimals=1))
        panel.xaxis.set_minor_locator(NullLocator())
    for panel in panels[:, 1]:
        panel.tick_params(labelleft=False)
        panel.set_xlim(-0.02, 1.02)
        panel.axvline(REPORTED["top2"], color="black", linestyle="--", linewidth=1, zorder=1)
        panel.axvline(2 / SET, color="0.6", linestyle=":", linewidth=1, zorder=1)
    top = panels[0, 1]
    place = {"xytext": (0, 3), "textcoords": "offset points", "fontsize": 7.5, "va": "bottom"}
    for share, text in ((REPORTED["top2"], "Opt-Laws\nreports"), (2 / SET, "chance")):
        top.annotate(text, (share, 1), xycoords=("data", "axes fraction"), ha="center", **place)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    whole = pd.concat(parts.values(), ignore_index=True)
    shown = readable(whole, _COLUMNS, 4)
    return Made(figure, {"measures": whole}, {"Laws of the loss along a schedule": shown})


def _draw(panel: Axes, table: pd.DataFrame, measure: str) -> None:
    """A line for each law and split, with its interval."""
    splits = [split for split in _SPLITS if split in set(table["split"])]
    step = 0.8 / len(_LOOKS)
    for place, (law, (colour, marker)) in enumerate(_LOOKS.items()):
        rows = table[table["law"] == law].set_index("split").reindex(splits)
        heights = [-number + (place - (len(_LOOKS) - 1) / 2) * step for number in range(len(rows))]
        values = rows[measure]
        panel.errorbar(
            values,
            heights,
            xerr=[
                (values - rows[f"{measure}_low"]).clip(lower=0),
                (rows[f"{measure}_high"] - values).clip(lower=0),
            ],
            fmt=marker,
            color=colour,
            markersize=4,
            linewidth=1,
            label=law,
        )
    panel.set_yticks([-number for number in range(len(splits))], [f"by {s}" for s in splits])
    panel.set_ylim(0.5 - len(splits), 0.5)
    panel.grid(visible=False, axis="y")
