"""AdamW's steps beside its SDE: batch equivalence, wrong rules, and more signal."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from analysis.report import readable
from analysis.sde.experiments import READABLE
from figures.made import Made
from figures.style import sequential_palette

#: How a rule is drawn, in both processes; the colours differ without colour vision.
_LOOKS: Mapping[str, tuple[str, str]] = {
    "whole rule": ("#0072B2", "o"),
    "√κ on η alone": ("#D55E00", "s"),
    "λ stays": ("#CC79A7", "D"),
    "λ × κ": ("#E69F00", "^"),
    "√κ on η and λ": ("#009E73", "v"),
    "everything kept": ("0.35", "X"),
}
_KAPPA = "κ: batch size over the base's"
_TOKENS = "m: tokens over the base's"


def make_sde(table: pd.DataFrame) -> Made:
    """Above, the quadratic: along the training, the error by rule, the error of the steps.

    Below, more tokens on the quadratic, then batch size and tokens on the small GPT.

    Args:
        table: `sde.csv`.
    """
    figure = Figure((9.6, 6.0), layout="constrained")
    (curve, batch, steps), (tokens, gpt_batch, gpt_tokens) = figure.subplots(2, 3)
    quadratic = table[table["process"] == "quadratic"]
    gpt = table[table["process"] == "small GPT"]
    _draw_curves(curve, quadratic[quadratic["question"] == "curve"])
    _draw_errors(batch, quadratic[quadratic["question"] == "batch"], 0.05)
    batch.set_ylabel("final loss over that of the SDE, less 1")
    batch.set_title("quadratic: a rule for batch size", loc="left")
    _draw_steps(steps, quadratic[quadratic["question"] == "steps"])
    _draw_tokens(tokens, quadratic[quadratic["question"] == "tokens"])
    tokens.set_yscale("log")
    tokens.set_title("quadratic: more tokens", loc="left")
    _draw_errors(gpt_batch, gpt[gpt["question"] == "batch"], 0.02)
    gpt_batch.set_ylabel("loss less that of the base (nats)")
    gpt_batch.set_title("small GPT: a rule for batch size", loc="left")
    _draw_tokens(gpt_tokens, gpt[gpt["question"] == "tokens"])
    gpt_tokens.set_title("small GPT: more tokens", loc="left")
    tables = {"AdamW and its SDE, farthest from the base": readable(_ends(table), READABLE, 4)}
    return Made(figure, {"table": table}, tables)


def _ends(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of rules at the least and greatest ratio to the base, but for the base itself."""
    rules = table[table["question"].isin(["batch", "tokens"])]
    x = rules.groupby(["process", "question"])["x"]
    ends = (rules["x"] == x.transform("min")) | (rules["x"] == x.transform("max"))
    return rules[ends & (rules["x"] != 1)]


def _draw_curves(panel: Axes, rows: pd.DataFrame) -> None:
    names = list(dict.fromkeys(rows["rule"]))
    shades = sequential_palette(range(len(names)))
    for (number, name), marker in zip(enumerate(names), "osD", strict=True):
        some = rows[rows["rule"] == name]
        panel.plot(some["x"], some["loss"], marker, color=shades[number], markersize=4, label=name)
    some = rows.drop_duplicates("x")
    panel.plot(some["x"], some["sde"], color="black", linewidth=1.2, label="SDE", zorder=0)
    panel.set_yscale("log")
    panel.set_xlabel("share of the training")
    panel.set_ylabel("mean loss")
    panel.set_title("quadratic: the whole rule", loc="left")
    panel.legend()


def _draw_errors(panel: Axes, rows: pd.DataFrame, tolerance: float) -> None:
    panel.axhspan(-tolerance, tolerance, color="0.9", zorder=0)
    for name, some in rows.groupby("rule", sort=False):
        _draw_line(panel, str(name), some, "error")
    panel.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    panel.set_xlabel(_KAPPA)
    _doubling(panel, rows)
    panel.legend()


def _draw_steps(panel: Axes, rows: pd.DataFrame) -> None:
    error = rows["error"].abs()
    panel.plot(rows["x"], error, "o-", color="black", label="Euler-Maruyama")
    first = rows["x"].iloc[0]
    panel.plot(
        rows["x"], error.iloc[0] * rows["x"] / first, "--", color="0.5", label="of order one"
    )
    panel.set_yscale("log")
    _doubling(panel, rows)
    panel.set_xlabel("step of time over AdamW's at κ = 1, η²")
    panel.set_ylabel("error of the final loss, relative")
    panel.set_title("quadratic: steps of the SDE", loc="left")
    panel.legend()


def _draw_tokens(panel: Axes, rows: pd.DataFrame) -> None:
    for name, some in rows.groupby("rule", sort=False):
        _draw_line(panel, str(name), some, "loss")
        if some["sde"].notna().all():
            panel.plot(some["x"], some["sde"], ":", color=_LOOKS[str(name)][0], linewidth=1)
    if rows["sde"].notna().any():
        panel.plot([], [], ":", color="0.3", linewidth=1, label="SDE of each")
    panel.set_xlabel(_TOKENS)
    panel.set_ylabel("final loss" if rows["sde"].notna().any() else "final loss (nats)")
    _doubling(panel, rows)
    panel.legend()


def _draw_line(panel: Axes, name: str, rows: pd.DataFrame, value: str) -> None:
    colour, marker = _LOOKS[name]
    panel.plot(rows["x"], rows[value], marker=marker, color=colour, markersize=4, label=name)
    panel.vlines(rows["x"], rows[f"{value}_low"], rows[f"{value}_high"], color=colour)


def _doubling(panel: Axes, rows: pd.DataFrame) -> None:
    """An x axis of powers of two, as they are said."""
    panel.set_xscale("log", base=2)
    panel.set_xticks(sorted(rows["x"].unique()))
    panel.xaxis.set_major_formatter(FuncFormatter(_said))


def _said(x: float, _: int) -> str:
    return f"{x:g}" if x >= 1 else f"1/{1 / x:g}"
