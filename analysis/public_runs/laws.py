"""Which recipe for the learning rate, or for the batch, costs least at cells it has not seen?

Recipes of three kinds predict the best rate of targets in a grid. *Absolute* laws know a formula.
*Transfers* start from the best rate of one cell, the base: of the (model, tokens) with the least
compute, the one nearest to its best batch size. *Fitted* planes know all cells up to `SEEN` times
the compute of the base, and none beyond. Targets are the bracketed cells beyond that, so held out
from all recipes but Step Law's, which was fitted to this very grid.

Grids have one learning rate for all tensors. So a transfer in width or depth is that of the hidden
weights, which have most of the parameters; the rules' other rows cannot be tried.

For the best batch size the same is asked of each (model, tokens), at the best rate of each batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from analysis.optimum import Floats, fit_optimum
from analysis.public_runs.best_batch import over_batches
from analysis.public_runs.cells import Cell
from analysis.public_runs.regimes import Grid, fit_two_planes, plane
from analysis.public_runs.regret import regret_verdict
from analysis.transfer import REGRET_TOLERANCE
from paper_repro.statistics import over_seeds

Kind = Literal["absolute", "transfer", "fitted"]

#: Times the compute of the base up to which fitted planes know the cells.
SEEN = 8.0
#: Targets by their compute over the base's, farthest first.
RANGES = ((16.0, math.inf), (SEEN, 16.0))
_FEWEST_BATCHES = 5


class Recipe(NamedTuple):
    """A law of the optimum."""

    name: str
    source: str
    """arXiv id, or whose it is."""
    kind: Kind
    rate: Callable[[Cell, Cell], float]
    """log2 of the learning rate, or of the batch size, at a target, given the base (which absolute
    laws ignore)."""


def _absolute(name: str, source: str, rate: Callable[[float, float], float]) -> Recipe:
    """A formula of size N and tokens D."""
    return Recipe(name, source, "absolute", lambda cell, _: math.log2(rate(cell.size, cell.tokens)))


def _transfer(name: str, source: str, **exponents: float) -> Recipe:
    """Powers of target over base; `size`, `width`, `depth`, `tokens`, `batch`."""

    def rate(cell: Cell, base: Cell) -> float:
        octaves = (
            power * math.log2(getattr(cell, of) / getattr(base, of))
            for of, power in exponents.items()
        )
        return base.curve.log2 + sum(octaves)

    return Recipe(name, source, "transfer", rate)


RECIPES = (
    _absolute("Step Law", "2503.04715", lambda n, d: 1.79 * n**-0.713 * d**0.307),
    _absolute("DeepSeek", "2401.02954", lambda n, d: 0.3118 * (6 * n * d) ** -0.125),
    _absolute("Porian et al.", "2406.19146", lambda n, d: 3.7 * n**-0.36),
    _transfer("none", ""),
    _transfer("Complete(d)P, α = 1", "2512.22382", width=-1.0, depth=0.0, tokens=-0.5, batch=0.5),
    _transfer("Complete(d)P, α = ½", "2512.22382", width=-1.0, depth=-0.5, tokens=-0.5, batch=0.5),
    _transfer("√(B/D)", "2512.22382", tokens=-0.5, batch=0.5),
    _transfer("Everett et al., full alignment", "2407.05872", width=-1.0),
    _transfer("Everett et al., no alignment", "2407.05872", width=-0.5),
    _transfer("Bjorck et al.", "2409.19913", size=-0.23, tokens=-0.32),
    _transfer("D^−0.3", "Marin", tokens=-0.3),
)

BATCH_RECIPES = (
    _absolute("Step Law", "2503.04715", lambda _, d: 0.58 * d**0.571),
    _absolute("DeepSeek", "2401.02954", lambda n, d: 0.2920 * (6 * n * d) ** 0.3271),
    _transfer("none", ""),
    _transfer("√D", "", tokens=0.5),
)


def laws_table(cells: Sequence[Cell]) -> pd.DataFrame:
    """The mean regret of every recipe, farthest targets first, least regret first.

    Columns: `predicts` (`rate` or `batch`); `compute_min` and `compute_max`, over the base's;
    `law`, `law_source`, `kind`; `cells` and `groups` that are targets; `regret`, the mean over
    groups (nats), and `more`, by how much it is above that of the first law, paired by group, both
    with intervals; `verdict` on the regret; `over`, the share of cells above 0.02 nats; `off`, the
    mean octaves by which the prediction is too high.
    """
    used = [cell for cell in cells if cell.curve.bracketed]
    base = base_cell(used)
    rows = _tried("rate", used, base, (*RECIPES, *fitted(used, base)))
    batches = [each for each in over_batches(cells) if each.curve.bracketed]
    if batches:
        start = min(batches, key=compute)
        rows += _tried("batch", batches, start, (*BATCH_RECIPES, *fitted_batch(batches, start)))
    return pd.DataFrame(rows)


def _tried(
    predicts: str, cells: Sequence[Cell], base: Cell, recipes: Sequence[Recipe]
) -> list[dict[str, object]]:
    rows = []
    for low, high in RANGES:
        some = [cell for cell in cells if low < compute(cell) / compute(base) <= high]
        if not some:
            continue
        tried = [_Tried.of(recipe, base, some) for recipe in recipes]
        tried.sort(key=lambda each: float(each.by_group.mean()))
        place = {"predicts": predicts, "compute_min": low, "compute_max": high}
        rows += [place | each.row(tried[0]) for each in tried]
    return rows


def compute(cell: Cell) -> float:
    """FLOPs of the training, 6·N·D."""
    return 6 * cell.size * cell.tokens


def base_cell(cells: Sequence[Cell]) -> Cell:
    """Of the (model, tokens) with the least compute, the cell nearest to its best batch size."""
    least = min(compute(cell) for cell in cells)
    group = sorted((cell for cell in cells if compute(cell) == least), key=lambda cell: cell.batch)
    batches = np.log2([cell.batch for cell in group])
    best = fit_optimum(batches, [cell.curve.loss for cell in group]).log2
    return group[int(np.argmin(np.abs(batches - best)))]


def fitted(cells: Sequence[Cell], base: Cell) -> tuple[Recipe, ...]:
    """One plane, and two with their boundary, of the cells that are near to the base."""
    near = Grid.of([cell for cell in cells if compute(cell) / compute(base) <= SEEN])
    flat, bent = plane(near), fit_two_planes(near)
    return (
        Recipe("one plane", "ours", "fitted", lambda cell, _: float((near.at([cell]) @ flat)[0])),
        Recipe("two planes", "ours", "fitted", lambda cell, _: float(bent(near.at([cell]))[0])),
    )


def fitted_batch(batches: Sequence[Cell], base: Cell) -> tuple[Recipe, ...]:
    """log2 of the best batch, linear in log2 of size and tokens, from what is near to the base.

    Nothing where that is fewer than `_FEWEST_BATCHES`.
    """
    near = [each for each in batches if compute(each) / compute(base) <= SEEN]
    if len(near) < _FEWEST_BATCHES:
        return ()
    best = [each.curve.log2 for each in near]
    law = np.linalg.lstsq(_powers(near), best, rcond=None)[0]
    return (
        Recipe("one plane", "ours", "fitted", lambda cell, _: float((_powers([cell]) @ law)[0])),
    )


def _powers(cells: Sequence[Cell]) -> Floats:
    return np.array([[1.0, math.log2(cell.size), math.log2(cell.tokens)] for cell in cells])


class _Tried(NamedTuple):
    """A recipe at targets."""

    recipe: Recipe
    costs: Floats
    """Nats (cells,)."""
    off: Floats
    """Octaves (cells,)."""
    by_group: pd.Series
    """Mean costs."""

    @classmethod
    def of(cls, recipe: Recipe, base: Cell, cells: Sequence[Cell]) -> _Tried:
        rates = np.array([recipe.rate(cell, base) for cell in cells])
        costs = np.array([cell.regret(rate) for cell, rate in zip(cells, rates, strict=True)])
        by_group = pd.Series(costs).groupby([str(cell.group) for cell in cells]).mean()
        return cls(recipe, costs, rates - [cell.curve.log2 for cell in cells], by_group)

    def row(self, least: _Tried) -> dict[str, object]:
        regret = over_seeds(self.by_group.tolist())
        return {
            "law": self.recipe.name,
            "law_source": self.recipe.source,
            "kind": self.recipe.kind,
            "cells": len(self.costs),
            "groups": len(self.by_group),
            **regret.columns("regret"),
            **over_seeds((self.by_group - least.by_group).tolist()).columns("more"),
            "verdict": regret_verdict(regret),
            "over": float((self.costs > REGRET_TOLERANCE).mean()),
            "off": float(self.off.mean()),
        }
