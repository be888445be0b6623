"""Which recipe for the learning rate, or for the batch, costs least at cells it has not seen?

Recipes of three kinds predict the best rate of targets in a grid. *Absolute* laws know a formula
(`paper_repro.optimum_laws`). *Transfers* start from the best rate of one cell, the base: of the
(model, tokens) with the least compute, the one nearest to its best batch size. *Fitted* planes know
all cells up to `SEEN` times the compute of the base, and none beyond. Targets are the bracketed
cells beyond that, so held out from all recipes but Step Law's, which was fitted to this very grid.

Grids have one learning rate for all tensors. So a transfer in width or depth is that of the hidden
weights, which have most of the parameters; the rules' other rows cannot be tried.

For the best batch size the same is asked of each (model, tokens), at the best rate of each batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from analysis.optimum import Floats, fit_optimum
from analysis.public_runs.best_batch import over_batches
from analysis.public_runs.cells import Cell
from analysis.public_runs.regimes import Grid, fit_two_planes, plane
from analysis.public_runs.regret import regret_verdict
from analysis.transfer import REGRET_TOLERANCE
from paper_repro.optimum_laws import BATCH_LAWS, RATE_LAWS, Law, Shape
from paper_repro.statistics import over_seeds

Kind = Literal["absolute", "transfer", "fitted"]

#: Times the compute of the base up to which fitted planes know the cells.
SEEN = 8.0
#: Targets by their compute over the base's, farthest first.
RANGES = ((16.0, math.inf), (SEEN, 16.0))
_FEWEST_BATCHES = 5


class Recipe(NamedTuple):
    """A way to predict the optimum of a target."""

    name: str
    source: str
    """arXiv id, or whose it is."""
    kind: Kind
    predict: Callable[[Cell, Cell], float]
    """log2 of the learning rate, or of the batch size, at a target, given the base (which absolute
    laws ignore)."""


def recipes(laws: Sequence[Law]) -> Iterator[Recipe]:
    """Each law as it is: the value where it has one, and its exponents from the base's optimum."""
    for law in laws:
        if law.factor is not None:
            yield Recipe(law.name, law.source, "absolute", partial(_value, law))
        name = law.name if law.factor is None else f"{law.name}, exponents"
        yield Recipe(name, law.source, "transfer", partial(_carried, law))


def _value(law: Law, target: Cell, _: Cell) -> float:
    return math.log2(law.at(shape_of(target)))


def _carried(law: Law, target: Cell, base: Cell) -> float:
    return math.log2(law.carried(2**base.curve.log2, shape_of(base), shape_of(target)))


def shape_of(cell: Cell) -> Shape:
    """What laws depend on."""
    return Shape(cell.size, cell.width, cell.depth, cell.tokens, cell.batch)


def laws_table(cells: Sequence[Cell]) -> pd.DataFrame:
    """The mean regret of every recipe, farthest targets first, least regret first.

    Columns: `predicts` (`rate` or `batch`); `compute_min` and `compute_max`, over the base's;
    `law`, `law_source`, `kind`; `cells` and `groups` that are targets; `regret`, the mean over
    groups (nats), and `more`, by how much it is above that of the first law, paired by group, both
    with intervals; `verdict` on the regret; `over`, the share of cells above 0.02 nats; `off`, the
    mean octaves by which the prediction is too high; `outside`, the share of cells whose grid it
    leaves, so that its regret is a lower bound.
    """
    used = [cell for cell in cells if cell.curve.bracketed]
    base = base_cell(used)
    rows = _tried("rate", used, base, (*recipes(RATE_LAWS), *fitted(used, base)))
    batches = [each for each in over_batches(cells) if each.curve.bracketed]
    if batches:
        start = min(batches, key=compute)
        known = recipes(BATCH_LAWS)
        rows += _tried("batch", batches, start, (*known, *fitted_batch(batches, start)))
    return pd.DataFrame(rows)


def _tried(
    predicts: str, cells: Sequence[Cell], base: Cell, known: Sequence[Recipe]
) -> list[dict[str, object]]:
    rows = []
    for low, high in RANGES:
        some = [cell for cell in cells if low < compute(cell) / compute(base) <= high]
        if not some:
            continue
        tried = [_Tried.of(recipe, base, some) for recipe in known]
        tried.sort(key=lambda each: float(each.by_group.mean()))
        place = {"predicts": predicts, "compute_min": low, "compute_max": high}
        rows += [place | each.row(tried[0]) for each in tried]
    return rows


def compute(cell: Cell) -> float:
    """FLOPs of the training, 6·N·D."""
    return shape_of(cell).compute


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
    outside: float
    """The share of cells whose grid the prediction leaves."""
    by_group: pd.Series
    """Mean costs."""

    @classmethod
    def of(cls, recipe: Recipe, base: Cell, cells: Sequence[Cell]) -> _Tried:
        rates = np.array([recipe.predict(cell, base) for cell in cells])
        costs = np.array([cell.regret(rate) for cell, rate in zip(cells, rates, strict=True)])
        by_group = pd.Series(costs).groupby([str(cell.group) for cell in cells]).mean()
        ends = np.array([cell.curve.log2_lr[[0, -1]] for cell in cells])
        outside = (rates < ends[:, 0]) | (rates > ends[:, 1])
        off = rates - [cell.curve.log2 for cell in cells]
        return cls(recipe, costs, off, float(outside.mean()), by_group)

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
            "outside": self.outside,
        }
