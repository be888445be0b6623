"""Does the optimum transfer? All rows of the table of transfer, with their thresholds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.transfer import DRIFT_TOLERANCE, REGRET_TOLERANCE, TransferVerdict
from figures.made import Made

_COLOURS: dict[TransferVerdict, str] = {
    "holds": "#009E73",
    "not decided": "#E69F00",
    "fails": "#882255",
}
_HEADINGS = {"tuned": "at the tuned base", "first guesses": "at a base of first guesses"}
#: Nats and octaves at which panels end; intervals beyond go on.
_LIMITS = {"drift": (-1.05, 1.05), "regret_worst": (-0.004, 0.145)}


def make_verdicts(table: pd.DataFrame) -> Made:
    """A forest plot by base: left the drift, right the regret at the worst scale with its floor.

    Args:
        table: the table of transfer.
    """
    table = table.assign(row=table["sweep"] + ": " + table["label"])
    order = []
    for base, some in table.groupby("base", sort=False):
        order += [_HEADINGS[str(base)], *dict.fromkeys(some["row"])]
    figure = Figure((7.6, 0.9 + 0.25 * len(order)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _draw(left, table, "drift", order)
    _draw(right, table, "regret_worst", order)
    left.axvspan(-DRIFT_TOLERANCE, DRIFT_TOLERANCE, color="0.92", zorder=0)
    right.axvspan(0, REGRET_TOLERANCE, color="0.92", zorder=0)
    floors = table[table["method"] == "pooled"].set_index("row")["regret_floor"].reindex(order)
    right.plot(floors, range(len(order)), "|", color="0.2", markersize=8)
    left.set_yticks(range(len(order)), order, fontsize=7)
    for label in left.get_yticklabels():
        if label.get_text() in _HEADINGS.values():
            label.set_fontweight("bold")
    left.invert_yaxis()
    left.set_xlabel("drift (octaves per doubling)")
    right.set_xlabel("regret at the worst scale (nats)")
    handles = [
        *(Patch(color=colour, label=verdict) for verdict, colour in _COLOURS.items()),
        Patch(color="0.75", label="seed by seed"),
        Patch(color="0.92", label="tolerance"),
        *right.plot([], [], "|", color="0.2", markersize=8, label="floor: another seed's optimum"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return Made(figure, {"rows": table.drop(columns="row")})


def _draw(panel: Axes, table: pd.DataFrame, effect: str, order: list[str]) -> None:
    low, high = _LIMITS[effect]
    for _, row in table.iterrows():
        pooled = row["method"] == "pooled"
        y = order.index(row["row"]) + (0.0 if pooled else 0.3)
        colour = _COLOURS[row["verdict"]] if pooled else "0.75"
        ends = np.clip([row[f"{effect}_low"], row[f"{effect}_high"]], low, high)
        panel.plot(ends, [y, y], "-", color=colour, linewidth=2.2 if pooled else 1)
        if low <= row[effect] <= high:
            panel.plot(row[effect], y, "o", color=colour, markersize=4 if pooled else 2.5)
    panel.axvline(0, color="0.5", linewidth=0.8)
    panel.set_xlim(low, high)
