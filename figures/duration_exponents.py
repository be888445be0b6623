"""How the best learning rate falls with duration, η* ∝ D^−γ, by condition, and what moves γ."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.duration import BETAS, DECAY, EPS, EVERYTHING, NOTHING
from analysis.report import bracketed, readable
from figures.made import Made
from figures.public_runs import of_grids, of_schedules

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
    EPS: "ε follows",
    EVERYTHING: "λ, ε, β follow",
}
_TUNED, _UNTUNED, _PUBLIC = "ours, at the tuned base", "ours, at first guesses", "public runs"
_SWEEPS = {"transfer_duration": _TUNED, "lr_duration": _UNTUNED}
_COLOURS = {_TUNED: "#009E73", _UNTUNED: "#0072B2", _PUBLIC: "#D55E00"}
_BY_SEED = "0.75"
_ROW = 0.21  # inches


def make_duration_exponents(
    exponents: pd.DataFrame, effects: pd.DataFrame, grids: pd.DataFrame, schedules: pd.DataFrame
) -> Made:
    """γ of each condition, of public runs and as published; beside it, what changes do to γ.

    Args:
        exponents: `duration_exponents.csv`.
        effects: `duration_effects.csv`.
        grids: `public_runs_exponents.csv`.
        schedules: `public_runs_schedules.csv`.
    """
    gammas = pd.concat([_ours(exponents), _public(grids, schedules)], ignore_index=True)
    moved = pd.DataFrame(
        {
            **{"whose": _SWEEPS[row["sweep"]], "row": _change(row), "method": row["method"]},
            **{f"effect{end}": row[f"effect{end}"] for end in ("", "_low", "_high")},
            **{name: row[name] for name in ("pairs", "seeds", "confidence", "moves", "size")},
        }
        for _, row in effects.sort_values("sweep", ascending=False, kind="stable").iterrows()
    )
    rows, changes = (len(_rows(frame)) for frame in (gammas, moved))
    figure = Figure((11.8, 0.7 + _ROW * rows), layout="constrained")
    panels = figure.subplot_mosaic(
        [["gamma", "effect"], ["gamma", "legend"]], height_ratios=(changes, max(rows - changes, 8))
    )
    left, right, below = (panels[name] for name in ("gamma", "effect", "legend"))
    _draw(left, gammas, "gamma")
    left.set_xlim(-0.55, 0.8)
    left.set_xlabel("γ of η* ∝ D$^{-γ}$ (95 % interval; hollow: not all bracketed)")
    for style, (name, value) in zip(("-", "--", ":"), PUBLISHED.items(), strict=True):
        left.axvline(value, color="0.45", linestyle=style, linewidth=1, label=name, zorder=0)
    _draw(right, moved, "effect")
    right.axvline(0, color="0.45", linewidth=1, zorder=0)
    right.set_xlabel("change of γ (interval corrected for the number of changes)")
    known = [whose for whose in _COLOURS if whose in set(gammas["whose"])]
    handles = [Patch(color=_COLOURS[whose], label=whose) for whose in known]
    handles.append(Patch(color=_BY_SEED, label="seed by seed, at 95 %"))
    below.axis("off")
    below.legend(handles=[*handles, *left.get_legend_handles_labels()[0]], loc="upper left")
    tables = {
        "η* ∝ D^−γ": readable(
            gammas[gammas["method"] == "pooled"],
            {"": "whose", "condition": "row", "γ": ("gamma", 2), "bracketed": bracketed},
            names=2,
        ),
        "What moves γ": readable(
            moved[moved["method"] == "pooled"],
            {
                "": "whose",
                "change": "row",
                "pairs": "pairs",
                "seeds": "seeds",
                "effect on γ": ("effect", 2),
                "at": lambda row: f"{100 * row['confidence']:g} %",
                "moves it": "moves",
            },
            names=2,
        ),
    }
    return Made(figure, {"exponents": gammas, "effects": moved}, tables)


def _ours(exponents: pd.DataFrame) -> pd.DataFrame:
    """Our conditions, those of the tuned base first."""
    rows = []
    for (sweep, size), some in exponents.groupby(["sweep", "size"], sort=False):
        usual = some.iloc[0]
        several = some["batch_size"].nunique() > 1
        ordered = some.assign(without=~some["qk_norm"]).sort_values(
            ["batch_size", "without", "schedule", "share"], kind="stable"
        )
        for _, row in ordered.iterrows():
            parts = [f"batch {row['batch_size']}"] if several else []
            parts.append(_schedule(f"{row['schedule']} {100 * row['share']:.0f}%"))
            parts += [_QUANTITIES[row["co_scaled"]]] if row["co_scaled"] != NOTHING else []
            parts += [] if row["qk_norm"] else ["no QK norm"]
            parts += [f"clip {row['clip']:g}"] if row["clip"] != usual["clip"] else []
            parts += [f"width {row['width']}"] if row["width"] != usual["width"] else []
            parts += [str(size)] if size != "cpu" else []
            names = ("method", "gamma", "gamma_low", "gamma_high", "bracketed")
            whose = {"whose": _SWEEPS[str(sweep)], "row": ", ".join(parts)}
            rows.append(whose | {name: row[name] for name in names})
    table = pd.DataFrame(rows)
    return table.sort_values("whose", key=lambda whose: whose != _TUNED, kind="stable")


def _public(grids: pd.DataFrame, schedules: pd.DataFrame) -> pd.DataFrame:
    """Those of public runs along tokens at a fixed batch size."""
    entries = [each for each in of_grids(grids) if each.quantity == "tokens"]
    return pd.DataFrame(
        {
            **{"whose": _PUBLIC, "row": entry.row, "method": "pooled", "gamma": -entry.value},
            **{"gamma_low": -entry.value_high, "gamma_high": -entry.value_low},
            "bracketed": entry.bracketed,
        }
        for entry in (*entries, *of_schedules(schedules))
    )


def _rows(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Whose each row is and its name, in the order of print."""
    return list(dict.fromkeys(zip(table["whose"], table["row"], strict=True)))


def _draw(panel: Axes, table: pd.DataFrame, name: str) -> None:
    order = _rows(table)
    for _, row in table.iterrows():
        pooled = row["method"] == "pooled"
        y = order.index((row["whose"], row["row"])) + (0.0 if pooled else 0.3)
        colour = _COLOURS[row["whose"]] if pooled else _BY_SEED
        face = colour if row.get("bracketed", True) else "white"
        ends = [row[f"{name}_low"], row[f"{name}_high"]]
        panel.plot(ends, [y, y], color=colour, linewidth=2 if pooled else 1)
        size = 5 if pooled else 2.5
        panel.plot(row[name], y, "o", color=face, markeredgecolor=colour, markersize=size)
    panel.set_yticks(range(len(order)), [row for _, row in order], fontsize=8)
    panel.set_ylim(len(order) - 0.4, -0.6)


def _change(row: pd.Series) -> str:
    """`cosine → WSD 20 %`"""
    if row["factor"] == "qk_norm":
        return "QK norm → none"
    ends = (str(row["from"]), str(row["to"]))
    if row["factor"] in ("clip", "width"):
        return f"{row['factor']} {' → '.join(ends)}"
    return " → ".join(_QUANTITIES.get(end, _schedule(end)) for end in ends)


def _schedule(text: str) -> str:
    """A schedule of a table in print: what follows `wsd` is its share that decays."""
    name, _, share = text.partition(" ")
    return f"WSD {share.replace('%', ' %')}" if name == "wsd" else name
