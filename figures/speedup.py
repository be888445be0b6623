"""How many fewer tokens per-module hyperparameters need than global ones, and at which scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.arms import AXES, PARAMETERIZATION_NAMES
from analysis.attribution import GLOBAL, PER_MODULE
from analysis.ladder import SHUFFLED, arms_of_ladder, slopes, speedup_table
from analysis.load import COMMITTED_RESULTS, Results
from analysis.report import Columns, readable
from analysis.speedup import RUNG, TEXT
from figures.made import Made
from figures.style import Look, distinct_palette

_LOOKS = {GLOBAL: ("0.35", "--"), PER_MODULE: ("#0072B2", "-"), SHUFFLED: ("#D55E00", ":")}


def make_speedup(results: Results, tuned_dir: Path = COMMITTED_RESULTS) -> Made:
    """Learning curves at the proxy and at the largest rung; gain and speed-up against scale."""
    arms = arms_of_ladder(results.runs, tuned_dir)
    table, control = speedup_table(results, arms), speedup_table(results, arms, SHUFFLED)
    change = slopes(results, arms)
    figure = Figure((7.4, 6.0), layout="constrained")
    (first, second), (third, fourth) = figure.subplots(2, 2)
    of_rule = table[table["parameterization"] == "complete_d"]
    proxy = of_rule[of_rule["rung"] == "proxy"]
    curves = {
        "proxy": _draw_curves(first, results, arms, proxy.iloc[0]),
        "largest": _draw_curves(second, results, arms, of_rule.iloc[-1]),
    }
    first.legend()
    colours = distinct_palette(sorted(set(table["parameterization"])))
    for panel, effect, neutral in ((third, "gain", 0), (fourth, "speedup", 1)):
        for place, (name, colour) in enumerate(colours.items()):
            rows = table[table["parameterization"] == name]
            _draw_effect(panel, rows, effect, colour, PARAMETERIZATION_NAMES[name], place)  # type: ignore[index]
        panel.axhline(neutral, color="0.4", linewidth=1)
        panel.set_xscale("log")
        panel.set_xlim(table["parameters"].min() / 1.5, table["parameters"].max() * 1.5)
        panel.set_xlabel("parameters")
    third.set_ylabel("gain over global (nats)")
    fourth.set_ylabel("speed-up over global (tokens)")
    fourth.legend()
    frames = {
        "rungs": table,
        "shuffled": control,
        "slopes": change,
        "curves": pd.concat(curves.values(), keys=curves, names=["at"]).reset_index(level=0),
    }
    tables = {
        "Per module against global": readable(table, _COLUMNS),
        "Shuffled multipliers against global": readable(control, _COLUMNS),
        "Change for each doubling of the parameters": readable(
            change,
            {
                "": lambda row: PARAMETERIZATION_NAMES[row["parameterization"]],
                "seeds": "seeds",
                "gain (nats)": ("slope", 3),
                "log speed-up": ("log_speedup_slope", 3),
            },
        ),
    }
    return Made(figure, frames, tables)


_COLUMNS: Columns = {
    "": "rung",
    "rules": lambda row: PARAMETERIZATION_NAMES[row["parameterization"]],
    "parameters": lambda row: f"{row['parameters']:,}",
    "seeds": "seeds",
    "gain (nats)": ("gain", 3),
    "speed-up": ("speedup", 2),
    "survives": "survives",
}


def _draw_curves(panel: Axes, results: Results, arms: pd.Series, rung: pd.Series) -> pd.DataFrame:
    """Validation loss against tokens at a rung, the mean over seeds of each arm."""
    runs = results.runs.assign(arm=arms)
    for column, name in RUNG.items():
        runs = runs[runs[column] == rung[name]]
    lines = results.curves.dropna(subset=["val_loss"]).merge(runs[["run_id", "arm"]], on="run_id")
    means = lines.groupby(["arm", "tokens"])["val_loss"].mean().reset_index()
    for name, (colour, style) in _LOOKS.items():
        curve = means[means["arm"] == name]
        if curve.empty:
            continue
        panel.plot(curve["tokens"], curve["val_loss"], color=colour, linestyle=style, label=name)
    panel.axhline(means[means["arm"] == GLOBAL]["val_loss"].iloc[-1], color="0.6", linewidth=0.8)
    panel.set_xscale("log")
    ticks = [int(rung["tokens"]) // 2**halvings for halvings in (3, 2, 1, 0)]
    panel.set_xticks(ticks, [AXES["tokens"].text(tokens) for tokens in ticks])
    panel.minorticks_off()
    panel.set_title(f"{rung['rung']}, {AXES['tokens'].text(rung['parameters'])} parameters")
    panel.set_xlabel("tokens")
    panel.set_ylabel("validation loss (nats)")
    return means


def _draw_effect(
    panel: Axes,
    rows: pd.DataFrame,
    effect: str,
    colour: tuple[float, float, float],
    label: str,
    place: int,
) -> None:
    """Intervals over seeds, those of one size moved apart; none where the effect is unknown.

    Rungs of another text than the proxy's are hollow.
    """
    text = rows[TEXT].mode().iloc[0]
    rows = rows.dropna(subset=[effect])
    order = rows.groupby("parameters").cumcount() + 0.5 * place
    x = rows["parameters"] * np.exp(0.06 * order)
    panel.vlines(x, rows[f"{effect}_low"], rows[f"{effect}_high"], color=colour, linewidth=1)
    other = (rows[TEXT] != text).any(axis="columns")
    panel.plot(x[~other], rows[effect][~other], "o", color=colour, markersize=4, label=label)
    if other.any():
        look: Look = {"color": colour, "markersize": 4, "markerfacecolor": "white"}
        panel.plot(x[other], rows[effect][other], "o", label="other text", **look)
