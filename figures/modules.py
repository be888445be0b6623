"""What searches found per module: multipliers by module type and quantity, and by depth."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from analysis.load import Results
from analysis.searches import PROPOSER_NAMES, with_losses
from analysis.tuned import CANDIDATES
from figures.made import Made
from paper_repro.parameterization import MODULES
from paper_repro.search import DEPTH_PATH, MODULES_PATH

#: Quantities in print, in the order of the columns.
_SYMBOLS = {
    "lr": "η",
    "weight_decay": "λ",
    "eps": "ε",
    "one_minus_beta1": "1−\nβ₁",
    "one_minus_beta2": "1−\nβ₂",
    "init_std": "σ",
    "residual": "res.",
}
_OCTAVES = 4.0
"""Where the colours end."""
_WRITTEN = 0.5
"""Octaves from which a multiplier is also written as a number."""


def make_modules(results: Results) -> Made:
    """One panel a search, of its last incumbent; below, its multipliers by depth."""
    found = found_multipliers(results)
    searches = list(found.drop_duplicates("search")["search"])
    columns = min(3, len(searches))
    rows = math.ceil(len(searches) / columns)
    figure = Figure((2.6 * columns + 0.8, 4.5 * rows), layout="constrained")
    panels = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[5, 1] * rows)
    for index, search in enumerate(searches):
        row, column = divmod(index, columns)
        multipliers, loss = found[found["search"] == search], _loss(results, search)
        image = _draw_types(panels[2 * row, column], multipliers, names=column == 0)
        proposer, _, seed = search.rpartition("-")
        panels[2 * row, column].set_title(f"{PROPOSER_NAMES[proposer]} {seed}: {loss:.3f} nats")
        _draw_depth(panels[2 * row + 1, column], multipliers, _blocks(found))
    for unused in panels.T.ravel()[2 * len(searches) :] if rows == 1 else []:
        unused.set_axis_off()
    figure.colorbar(image, ax=panels[0, -1], label="octaves from the global value", shrink=0.8)
    return Made(figure, {"multipliers": found})


def found_multipliers(results: Results) -> pd.DataFrame:
    """The multipliers of the last incumbent of each candidate, in octaves from the global value.

    Columns: `search`, `module` (a module type, or `block k`), `quantity`, `octaves`.
    """
    trials = results.trials[results.trials["proposer"].isin(CANDIDATES)]
    confirmed = trials[trials["kind"] == "confirmation"]
    rows = []
    for search, some in confirmed.groupby("search"):
        last = some.sort_values("trial").iloc[-1]
        for path, octaves in json.loads(last["octaves"]).items():
            name = path.removeprefix(f"{MODULES_PATH}.").removeprefix(f"{DEPTH_PATH}.")
            first, second = name.split(".")
            of_depth = path.startswith(DEPTH_PATH)
            module, quantity = (f"block {second}", first) if of_depth else (first, second)
            rows.append((search, module, quantity, octaves))
    return pd.DataFrame(rows, columns=["search", "module", "quantity", "octaves"])


def _loss(results: Results, search: str) -> float:
    """The loss of the last incumbent at fresh seeds."""
    trials = results.trials
    confirmed = trials[(trials["search"] == search) & (trials["kind"] == "confirmation")]
    last = confirmed.sort_values("trial").tail(1)
    return float(with_losses(last, results.runs)["loss"].iloc[0])


def _draw_types(panel: Axes, multipliers: pd.DataFrame, names: bool) -> AxesImage:
    types = [module for module in MODULES if module in set(multipliers["module"])]
    table = multipliers.pivot(index="module", columns="quantity", values="octaves")
    table = table.reindex(index=types, columns=list(_SYMBOLS))
    image = panel.imshow(
        np.asarray(table, float), cmap="RdBu_r", vmin=-_OCTAVES, vmax=_OCTAVES, aspect="auto"
    )
    panel.grid(False)
    panel.set_xticks(range(len(_SYMBOLS)), list(_SYMBOLS.values()), fontsize=8)
    panel.set_yticks(range(len(types)), [name.replace("_", " ") for name in types] if names else [])
    for row, column in np.argwhere(np.abs(np.asarray(table, float)) >= _WRITTEN):
        value = table.iloc[row, column]
        colour = "white" if abs(value) > 0.7 * _OCTAVES else "black"
        panel.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=6, color=colour)
    return image


def _blocks(found: pd.DataFrame) -> int:
    """The number of blocks, from the multipliers of all searches."""
    names = found["module"][found["module"].str.startswith("block ")]
    return int(names.str.removeprefix("block ").astype(int).max()) + 1 if len(names) else 0


def _draw_depth(panel: Axes, multipliers: pd.DataFrame, blocks: int) -> None:
    """Multipliers by block; those that a search did not move are 0."""
    depth = multipliers[multipliers["module"].str.startswith("block ")]
    names = [f"block {block}" for block in range(blocks)]
    for quantity, some in depth.groupby("quantity"):
        octaves = some.set_index("module")["octaves"].reindex(names, fill_value=0.0)
        panel.plot(range(blocks), octaves, "o-", label=_SYMBOLS[str(quantity)], color="0.2")
    panel.axhline(0, color="0.6", linewidth=1)
    panel.set_ylim(-1, 1)
    panel.set_xticks(range(blocks))
    panel.set_xlabel("block")
    panel.legend(fontsize=7, loc="upper right")
