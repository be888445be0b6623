"""Exponents of the best learning rate: in public runs, in ours, and of the paper's rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from analysis.report import format_interval, readable
from figures.made import Made
from figures.style import sequential_palette

#: Who measured it, and how they are drawn: blue, orange, green that differ without colour vision.
_LOOKS = {
    "Step Law, below the boundary": ("#0072B2", "o"),
    "Step Law, above": ("#56B4E9", "s"),
    "mixtures of experts": ("#CC79A7", "D"),
    "by schedule": ("#D55E00", "^"),
    "ours": ("#009E73", "v"),
    "the paper's": ("0.3", "X"),
}
#: Of the rule √(B/D) of arXiv 2512.22382.
_PAPER = {"batch": 0.5, "tokens": -0.5, "iso_steps": 0.0}
#: The first author's figure of loss against η√D at five durations, 0.8 to 32 billion tokens, with
#: what reading it off the picture leaves open.
_PAPER_FIGURE = (-0.50, -0.52, -0.48)
_TITLES = {
    "batch": "batch, at fixed tokens",
    "tokens": "tokens, at fixed batch",
    "iso_steps": "both, at fixed steps",
}
_OURS = "ours"


class Entry(NamedTuple):
    """One interval of the forest."""

    quantity: str
    row: str
    who: str
    value: float
    value_low: float
    value_high: float
    bracketed: bool


def make_public_runs(
    exponents: pd.DataFrame,
    cells: pd.DataFrame,
    schedules: pd.DataFrame,
    durations: pd.DataFrame,
    transfers: pd.DataFrame,
) -> Made:
    """Above, all optima of the dense grid on one bent line, and the exponent by share that decays.

    Below, three panels of exponents.

    Args:
        exponents: `public_runs_exponents.csv`.
        cells: `public_runs_cells.csv`.
        schedules: `public_runs_schedules.csv`.
        durations: `duration_exponents.csv`, ours along tokens.
        transfers: `transfer_table.csv`, ours along batch and at fixed steps.
    """
    collapse = collapsed(exponents, cells)
    forest = pd.DataFrame(
        [
            *of_grids(exponents),
            *of_schedules(schedules),
            *_durations(durations),
            *_transfers(transfers),
            Entry("tokens", "paper's figure, read off", "the paper's", *_PAPER_FIGURE, True),
        ]
    )
    figure = Figure((8.2, 8.4), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[0.85, 1], squeeze=False)[:, 0]
    left, right = top.subplots(1, 2, width_ratios=[1.25, 1])
    _draw_collapse(left, collapse, exponents)
    _draw_shares(right, schedules)
    panels = bottom.subplots(1, 3, sharey=True)
    rows = list(dict.fromkeys(forest["row"]))
    for panel, quantity in zip(panels, _TITLES, strict=True):
        _draw_forest(panel, forest[forest["quantity"] == quantity], rows, quantity)
    bottom.supxlabel("exponent of η*, 95 % interval (dashed: the rule √(B/D) of the paper)", size=9)
    tables = {
        "Exponents of η*": readable(
            forest,
            {
                "": "row",
                "of": lambda row: _TITLES[row["quantity"]],
                "exponent": lambda row: format_interval(row, "value", 2),
                "bracketed": lambda row: "all" if row["bracketed"] else "not all",
            },
            names=2,
        )
    }
    return Made(figure, {"exponents": forest, "collapse": collapse}, tables)


def collapsed(exponents: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """The bracketed optima of the dense grid, relative to the boundary of their (N, D).

    `octaves` from the boundary to the batch size, `rate`: octaves from the plane above to η*.
    """
    fitted = exponents[(exponents["data"] == "steplaw") & (exponents["boundary"] == "fitted")]
    value = fitted.set_index(["regime", "quantity"])["value"]
    some = cells[(cells["data"] == "steplaw") & cells["bracketed"]]
    size, tokens, batch = (np.log2(some[name]) for name in ("size", "tokens", "batch"))
    mean = size.mean()
    boundary = (
        value["boundary", "batch"]
        + value["boundary", "size"] * (size - mean)
        + value["boundary", "tokens"] * (tokens - np.log2(20e9))
    )
    above = sum(
        value["above", name] * each
        for name, each in (("size", size), ("tokens", tokens), ("batch", batch))
    )
    far = batch > boundary
    rate = some["optimum"] - above
    return pd.DataFrame(
        {
            "size": some["size"],
            "tokens": some["tokens"],
            "batch": some["batch"],
            "octaves": batch - boundary,
            "rate": rate - rate[far].mean(),
            "low": rate - rate[far].mean() - (some["optimum"] - some["optimum_low"]),
            "high": rate - rate[far].mean() + (some["optimum_high"] - some["optimum"]),
        }
    ).reset_index(drop=True)


def _draw_collapse(panel: Axes, cells: pd.DataFrame, exponents: pd.DataFrame) -> None:
    sizes = sorted(cells["size"].astype(int).unique().tolist())
    palette = sequential_palette(sizes)
    for (size, shade), marker in zip(palette.items(), "osD^v", strict=False):
        some = cells[cells["size"].astype(int) == size]
        panel.vlines(some["octaves"], some["low"], some["high"], color=shade, linewidth=0.7)
        panel.plot(
            some["octaves"],
            some["rate"],
            marker,
            color=shade,
            markeredgecolor="0.25",
            markeredgewidth=0.4,
            markersize=4.5,
            label=f"{size / 1e6:.0f}M",
        )
    fitted = exponents[(exponents["data"] == "steplaw") & (exponents["boundary"] == "fitted")]
    bend = fitted.set_index(["regime", "quantity"])["value"]["bend", "batch"]
    line = np.array([cells["octaves"].min(), 0.0, cells["octaves"].max()])
    panel.plot(line, bend * np.minimum(line, 0), color="black", linewidth=1.2, label="fit")
    panel.axvline(0, color="0.6", linewidth=0.8, zorder=0)
    panel.set_xlabel("batch size over the fitted boundary (octaves)")
    panel.set_ylabel("η* over the plane above (octaves)")
    panel.set_title("Step Law, dense: all bracketed optima", loc="left")
    panel.legend(title="parameters", loc="lower right")


def _draw_shares(panel: Axes, schedules: pd.DataFrame) -> None:
    for row in _schedule_rows(schedules):
        hollow = row["bracketed"] < row["durations"]
        colour = {"cosine": "#0072B2", "wsd": "#D55E00"}[row["schedule"]]
        marker = {"linear": "o", "sqrt": "s", "to 0": "D", "to 0.1": "^"}[row["cooldown"]]
        at = row["share"] + {"sqrt": 0.03, "to 0.1": 0.04}.get(row["cooldown"], 0.0)
        panel.vlines(at, row["tokens_low"], row["tokens_high"], color=colour)
        panel.plot(
            at,
            row["tokens"],
            marker,
            color="white" if hollow else colour,
            markeredgecolor=colour,
            markersize=6,
        )
    for label, colour, marker in (
        ("WSD, linear", "#D55E00", "o"),
        ("WSD, square root", "#D55E00", "s"),
        ("cosine to 0", "#0072B2", "D"),
        ("cosine to 0.1", "#0072B2", "^"),
    ):
        panel.plot([], [], marker, color="white", markeredgecolor=colour, label=label)
    panel.axhline(-0.5, color="0.4", linewidth=1, linestyle="--", zorder=0)
    panel.text(0.02, -0.49, "√(B/D): −½", fontsize=8, color="0.3", va="bottom")
    panel.set_xlabel("share of the steps that decays")
    panel.set_ylabel("token exponent of η*")
    panel.set_xlim(0, 1.1)
    panel.set_title("124M parameters, by schedule", loc="left")
    panel.legend(loc="lower left", title="hollow: not all bracketed", alignment="left")


def _draw_forest(panel: Axes, entries: pd.DataFrame, rows: list[str], quantity: str) -> None:
    for _, entry in entries.iterrows():
        place = rows.index(entry["row"])
        colour, marker = _LOOKS[entry["who"]]
        panel.plot([entry["value_low"], entry["value_high"]], [place, place], color=colour)
        face = colour if entry["bracketed"] else "white"
        panel.plot(entry["value"], place, marker, color=face, markeredgecolor=colour, markersize=5)
    panel.axvline(_PAPER[quantity], color="0.3", linestyle="--", linewidth=1, zorder=0)
    panel.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    panel.set_yticks(range(len(rows)), rows)
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.xaxis.set_major_locator(MultipleLocator(0.25))
    panel.tick_params(axis="x", labelsize=7.5)
    panel.set_title(_TITLES[quantity], loc="left")


def of_grids(exponents: pd.DataFrame) -> Iterator[Entry]:
    """Of the grids: the dense one on either side of the fitted boundary, the other as one plane."""
    wanted = (
        ("steplaw", "fitted", "below", "Step Law, below the boundary", "Step Law dense, below"),
        ("steplaw", "fitted", "above", "Step Law, above", "Step Law dense, above"),
        ("steplaw_moe", "none", "all", "mixtures of experts", "Step Law mixtures of experts"),
    )
    for data, boundary, regime, who, row in wanted:
        some = exponents[
            (exponents["data"] == data)
            & (exponents["boundary"] == boundary)
            & (exponents["regime"] == regime)
            & exponents["quantity"].isin(_TITLES)
        ]
        for _, each in some.iterrows():
            numbers = (each["value"], each["value_low"], each["value_high"])
            yield Entry(each["quantity"], row, who, *numbers, bracketed=True)


def _schedule_rows(schedules: pd.DataFrame) -> Iterator[pd.Series]:
    for _, row in schedules[schedules["model"] != "slope"].iterrows():
        yield row


def of_schedules(schedules: pd.DataFrame) -> Iterator[Entry]:
    """Of a model of 124M parameters, along tokens, by the schedule."""
    for row in _schedule_rows(schedules):
        if row["cooldown"] == "sqrt" or row["share"] not in (0.2, 0.9, 1.0):
            continue
        name = f"124M, cosine {row['cooldown']}"
        if row["schedule"] == "wsd":
            name = f"124M, WSD, {100 * row['share']:.0f} % decays"
        whole = bool(row["bracketed"] == row["durations"])
        numbers = (row["tokens"], row["tokens_low"], row["tokens_high"])
        yield Entry("tokens", name, "by schedule", *numbers, bracketed=whole)


def _durations(durations: pd.DataFrame) -> Iterator[Entry]:
    """Ours along tokens with QK norm, where only η follows the duration."""
    fixed = durations[
        (durations["method"] == "pooled")
        & (durations["co_scaled"] == "none")
        & durations["qk_norm"]
    ]
    at_first_guesses = fixed[fixed["sweep"] == "lr_duration"]
    tuned = fixed[fixed["sweep"] == "transfer_duration"].drop_duplicates("batch_size")
    for _, row in pd.concat([at_first_guesses, tuned]).iterrows():
        numbers = (-row["gamma"], -row["gamma_high"], -row["gamma_low"])
        name = f"ours, {str(row['schedule']).replace('wsd', 'WSD')}"
        if row["sweep"] == "transfer_duration":
            name = f"ours, tuned, batch {row['batch_size']}"
        yield Entry("tokens", name, _OURS, *numbers, bracketed=bool(row["bracketed"]))


def _transfers(transfers: pd.DataFrame) -> Iterator[Entry]:
    """Ours along batch under no rule, and with tokens at fixed steps: a drift is an exponent."""
    for axis, quantity in (("batch_size", "batch"), ("iso_steps", "iso_steps")):
        some = transfers[
            (transfers["axis"] == axis)
            & (transfers["hyperparameter"] == "hyperparameters.lr")
            & (transfers["method"] == "pooled")
            & ((transfers["sde_rule"] == "none") | (axis == "iso_steps"))
        ]
        for _, row in some.iterrows():
            numbers = (row["drift"], row["drift_low"], row["drift_high"])
            name = "ours, tuned" if row["sweep"].startswith("transfer_") else "ours, cosine"
            yield Entry(quantity, name, _OURS, *numbers, bracketed=bool(row["bracketed"]))
