"""Annealings that searches found for short and long trainings, and how they do at fresh seeds."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from analysis.annealings import CUT, LONG, SHORT, annealings, arms
from analysis.load import COMMITTED_RESULTS, Results
from analysis.report import readable
from analysis.transfer import REGRET_TOLERANCE
from figures.made import Made
from figures.style import Look, distinct_palette

#: Kinds in print, in the order of print, and how their courses are drawn.
_KINDS: dict[str, tuple[str, Look]] = {
    SHORT: ("found for 192 steps", {"marker": "o"}),
    CUT: ("first half of those for 384", {"marker": "s", "linestyle": "--"}),
    LONG: ("found for 384 steps", {"marker": "^", "linestyle": ":"}),
}


def make_annealings(results: Results, found_dir: Path = COMMITTED_RESULTS) -> Made:
    """Left, the factor on the tuned rate along the training; right, differences of losses."""
    table = annealings(results, found_dir)
    courses = _courses(found_dir)
    figure = Figure((7.4, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_courses(left, courses)
    _draw_differences(right, table)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=len(_KINDS))
    shown = readable(
        table,
        {
            "steps": "steps",
            "first": "first",
            "second": "second",
            "difference (nats)": ("difference", 4),
            "seeds": "seeds",
            "the first is": "verdict",
        },
        names=3,
    )
    return Made(figure, {"differences": table, "courses": courses}, {"Annealings": shown})


def _courses(found_dir: Path) -> pd.DataFrame:
    """The points of every course that was found: `arm`, `kind`, `at`, `factor`."""
    rows = []
    for name, config in arms(found_dir).items():
        kind = name.split()[0]
        if kind in _KINDS:
            points = config.train.piecewise["lr"]
            rows += [(name, kind, point.at, point.factor) for point in points]
    return pd.DataFrame(rows, columns=["arm", "kind", "at", "factor"])


def _draw_courses(panel: Axes, courses: pd.DataFrame) -> None:
    colours = distinct_palette(list(_KINDS))
    for kind, (label, look) in _KINDS.items():
        drawn = {**look, "color": colours[kind], "label": label, "markersize": 3}
        for _, course in courses[courses["kind"] == kind].groupby("arm"):
            panel.plot(course["at"], course["factor"], **drawn)
            drawn["label"] = "_"  # once in the legend
    panel.set_yscale("log", base=2)
    panel.xaxis.set_major_formatter(PercentFormatter(1))
    panel.set_xlabel("share of the training")
    panel.set_ylabel("factor on the learning rate")


def _draw_differences(panel: Axes, table: pd.DataFrame) -> None:
    place = range(len(table))
    panel.axvspan(-REGRET_TOLERANCE, REGRET_TOLERANCE, color="0.93", zorder=0)
    panel.axvline(0, color="0.5", linewidth=1)
    panel.hlines(place, table["difference_low"], table["difference_high"], color="black")
    panel.plot(table["difference"], place, "o", color="black", markersize=4)
    names = [f"{row['first']} − {row['second']}, {row['steps']}" for _, row in table.iterrows()]
    panel.set_yticks(place, names)
    panel.invert_yaxis()
    panel.set_xlabel("difference of the final loss (nats)")
