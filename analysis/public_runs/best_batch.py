"""The best batch size of each (model, tokens), and the best learning rate there.

This is what the authors of arXiv 2503.04715 fit, B = 0.58·D^0.571 and η = 1.79·N^−0.713·D^0.307:
where the loss is least over both. The best batch is the vertex of a parabola in log2 B through the
least losses of the cells of a group (`analysis.optimum`). It is another thing than the batch size
at which the exponents of the best rate change (`analysis.public_runs.regimes`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from analysis.optimum import fit_optimum
from analysis.public_runs.cells import Cell
from analysis.public_runs.regimes import BOUNDARY_TOKENS, Exponents, Grid

#: Groups below which no law is fitted.
_FEWEST = 6


def over_batches(cells: Sequence[Cell]) -> list[Cell]:
    """A cell for each (model, tokens), whose curve is over log2 of the batch size.

    Its losses are the least ones of the bracketed cells, its optimum the best batch; `batch` and
    the error are unknown. Of fewer than three bracketed cells there is none.
    """
    found = []
    for name in sorted({cell.group for cell in cells}):
        group = [cell for cell in cells if cell.group == name and cell.curve.bracketed]
        group.sort(key=lambda cell: cell.batch)
        if len(group) >= 3:
            batches = np.log2([cell.batch for cell in group])
            curve = fit_optimum(batches, [cell.curve.loss for cell in group])
            found.append(replace(group[0], batch=math.nan, curve=curve, error=math.nan))
    return found


def best_batches(cells: Sequence[Cell]) -> Grid | None:
    """One row a (model, tokens): its best batch size in the place of the batch, and η* there.

    Groups whose best batch is not bracketed are left out. None if fewer than six are left.
    """
    used = [each for each in over_batches(cells) if each.curve.bracketed]
    if len(used) < _FEWEST:
        return None
    best = [each.curve.log2 for each in used]
    numbers = np.column_stack([np.log2([[each.size, each.tokens] for each in used]), best])
    centre = numbers.mean(axis=0)
    design = np.column_stack([np.ones(len(used)), numbers - centre])
    rates = np.array([_rate_at(cells, each.group, each.curve.log2) for each in used])
    return Grid(design, rates, centre, np.arange(len(used)))


def _rate_at(cells: Sequence[Cell], group: tuple[str, float], log2_batch: float) -> float:
    """log2 of the best rate of a group at a batch size between those of its cells."""
    some = [cell for cell in cells if cell.group == group and cell.curve.bracketed]
    some.sort(key=lambda cell: cell.batch)
    batches, rates = zip(*((math.log2(c.batch), c.curve.log2) for c in some), strict=True)
    return float(np.interp(log2_batch, batches, rates))


def best_batch_exponents(grid: Grid) -> Exponents:
    """Exponents of the best batch size, and of η* there, in tokens and size.

    `best_batch.batch` is log2 of it at `BOUNDARY_TOKENS` and the mean size.
    """
    at = grid.design[:, :3]
    batches = np.linalg.lstsq(at, grid.design[:, 3], rcond=None)[0]
    rates = np.linalg.lstsq(at, grid.optima, rcond=None)[0]
    away = math.log2(BOUNDARY_TOKENS) - grid.centre[1]
    return {
        "best_batch.batch": float(batches[0] + batches[2] * away + grid.centre[2]),
        "best_batch.tokens": float(batches[2]),
        "best_batch.size": float(batches[1]),
        "best_rate.tokens": float(rates[2]),
        "best_rate.size": float(rates[1]),
    }
