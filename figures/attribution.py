"""What of the per-module hyperparameters gains at the proxy, and what rules without search gain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.attribution import attribution
from analysis.load import COMMITTED_RESULTS, Results
from analysis.report import readable
from figures.made import Made
from figures.style import distinct_palette

_PARTS = {
    "whole": "tuned per module",
    "finer": "tuned per layer",
    "part": "part of it",
    "control": "control",
    "rule": "rule without search",
}


def make_attribution(results: Results, tuned_dir: Path = COMMITTED_RESULTS) -> Made:
    """Left, the gain of each arm over the tuned global set; right, what it lacks of per module."""
    table = attribution(results, tuned_dir)
    shown = table[table["gain"].notna()].sort_values(
        "part", key=lambda part: part.map(list(_PARTS).index), kind="stable", ignore_index=True
    )
    figure = Figure((7.4, 0.6 + 0.22 * len(shown)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    colours = dict(zip(_PARTS, distinct_palette(list(_PARTS)).values(), strict=True))
    for panel, effect in ((left, "gain"), (right, "lacks")):
        _draw_intervals(panel, shown, effect, colours)
    left.set_yticks(range(len(shown)), shown["arm"])
    left.invert_yaxis()
    left.set_xlabel("gain over tuned global (nats)")
    right.set_xlabel("loss above per module (nats)")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=len(_PARTS))
    tables = {
        "Arms at the proxy": readable(
            table,
            {
                "": "arm",
                "seeds": "seeds",
                "loss": lambda row: f"{row['loss']:.3f} ± {row['sd']:.3f}",
                "gain (nats)": ("gain", 3),
                "speed-up": ("speedup", 2),
                "faster by 1.05": lambda row: _text(row["verdict"]),
                "lacks (nats)": ("lacks", 3),
                "matters": lambda row: _text(row["matters"]),
                "largest gradient norm": lambda row: f"{row['gradient_norm']:.1f}",
            },
        )
    }
    return Made(figure, {"arms": table}, tables)


def _text(value: object) -> str:
    return value if isinstance(value, str) else "–"


def _draw_intervals(
    panel: Axes, shown: pd.DataFrame, effect: str, colours: dict[str, tuple[float, float, float]]
) -> None:
    for part, name in _PARTS.items():
        some = shown[shown["part"] == part].dropna(subset=[effect])
        some = some[np.isfinite(some[effect])]
        panel.hlines(some.index, some[f"{effect}_low"], some[f"{effect}_high"], color=colours[part])
        panel.plot(some[effect], some.index, "o", color=colours[part], markersize=4, label=name)
    panel.axvline(0, color="0.5", linewidth=1)
