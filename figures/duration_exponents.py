"""How the best learning rate falls with duration, η* ∝ D^−γ, by condition, and what moves γ."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.duration import BETAS, DECAY, EVERYTHING, NOTHING, effects, exponents, fit_conditions
from analysis.load import Results
from analysis.report import bracketed, readable
from figures.made import Made

#: Exponents of the learning rate that others report, with their arXiv ids.
PUBLISHED = {
    "SDE rule (2512.22382)": 0.5,
    "Bjorck et al. (2409.19913)": 0.32,
    "2602.21472": 0.22,
}
#: What follows the duration, as a table has it and in print.
_QUANTITIES = {
    NOTHING: "λ, ε, β fixed",
    DECAY: "λ follows",
    BETAS: "β follows",
    EVERYTHING: "λ, ε, β follow",
}
_COLOURS = dict(zip(_QUANTITIES, ("#0072B2", "#CC79A7", "#009E73", "#D55E00"), strict=True))
_MARKERS = {"cosine": "o", "wsd": "s"}


def make_duration_exponents(results: Results) -> Made:
    """γ of each condition beside published values; below, the effect of each factor on γ."""
    conditions = fit_conditions(results.runs)
    gammas, changes = exponents(conditions), effects(conditions)
    figure = Figure((6.6, 6.0), layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=[10, 5])
    _draw_exponents(top, gammas)
    _draw_effects(bottom, changes)
    tables = {
        "η* ∝ D^−γ": readable(
            gammas,
            {
                "schedule": "schedule",
                "λ, ε, β": _follows,
                "QK norm": lambda row: "yes" if row["qk_norm"] else "no",
                "tokens": lambda row: f"{row['tokens_min']} … {row['tokens_max']}",
                "seeds": "seeds",
                "γ": ("gamma", 2),
                "bracketed": bracketed,
            },
            names=3,
        ),
        "What moves γ": readable(
            changes,
            {
                "change": _change,
                "pairs": "pairs",
                "seeds": "seeds",
                "effect on γ": ("effect", 2),
                "moves it": "moves",
            },
        ),
    }
    return Made(figure, {"exponents": gammas, "effects": changes}, tables)


def _draw_exponents(panel: Axes, conditions: pd.DataFrame) -> None:
    labels = []
    for place, (_, row) in enumerate(conditions.iterrows()):
        colour, marker = _COLOURS.get(row["co_scaled"], "0.3"), _MARKERS.get(row["schedule"], "^")
        face = colour if row["bracketed"] else "white"
        panel.plot([row["gamma_low"], row["gamma_high"]], [place, place], color=colour)
        panel.plot(row["gamma"], place, marker, color=face, markeredgecolor=colour)
        norm = "QK norm" if row["qk_norm"] else "no QK norm"
        labels.append(f"{row['schedule']}, {norm}, {_follows(row)}")
    panel.set_yticks(range(len(labels)), labels)
    panel.invert_yaxis()
    panel.set_xlabel("γ of η* ∝ D$^{-γ}$ (95 % interval over seeds)")
    for style, (name, value) in zip(("-", "--", ":"), PUBLISHED.items(), strict=True):
        panel.axvline(value, color="0.45", linestyle=style, linewidth=1, label=name, zorder=0)
    panel.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=3)


def _draw_effects(panel: Axes, changes: pd.DataFrame) -> None:
    for place, (_, row) in enumerate(changes.iterrows()):
        panel.plot([row["effect_low"], row["effect_high"]], [place, place], color="black")
        panel.plot(row["effect"], place, "D", color="black")
    panel.set_yticks(range(len(changes)), [_change(row) for _, row in changes.iterrows()])
    panel.set_ylim(len(changes) - 0.5, -0.5)
    panel.axvline(0, color="0.45", linewidth=1, zorder=0)
    panel.set_xlabel("change of γ, other factors averaged (95 % interval)")


def _follows(row: pd.Series) -> str:
    return str(_QUANTITIES.get(row["co_scaled"], row["co_scaled"]))


def _change(row: pd.Series) -> str:
    """`cosine → wsd`"""
    if row["factor"] == "qk_norm":
        return "QK norm → none"
    return " → ".join(_QUANTITIES.get(row[end], row[end]) for end in ("from", "to"))
