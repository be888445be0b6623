"""The best batch size of each (model, tokens), and the best learning rate there.

This is what the authors of arXiv 2503.04715 fit, B = 0.58·D^0.571 and η = 1.79·N^−0.713·D^0.307:
where the loss is least over both. It is another thing than the batch size at which the exponents of
the best rate change (`analysis.public_runs.regimes`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from analysis.optimum import fit_optimum
from analysis.public_runs.cells import Cell
from analysis.public_runs.regimes import BOUNDARY_TOKENS, Exponents, Grid

#: Groups below which no law is fitted.
_FEWEST = 6


def best_batches(cells: Sequence[Cell]) -> Grid | None:
    """One row a (model, tokens): its best batch size in the place of the batch, and η* there.

    The best batch is the vertex of a parabola in log2 B through the least losses of the bracketed
    cells (`analysis.optimum`); groups whose best batch is not bracketed are left out. None if fewer
    than six are left.
    """
    rows = []
    for name in sorted({cell.group for cell in cells}):
        group = [cell for cell in cells if cell.group == name and cell.curve.bracketed]
        group.sort(key=lambda cell: cell.batch)
        if len(group) < 3:
            continue
        batches = np.log2([cell.batch for cell in group])
        found = fit_optimum(batches, [cell.curve.loss for cell in group])
        if found.bracketed:
            rate = np.interp(found.log2, batches, [cell.curve.log2 for cell in group])
            rows.append((np.log2(group[0].size), np.log2(group[0].tokens), found.log2, rate))
    if len(rows) < _FEWEST:
        return None
    table = np.array(rows)
    centre = table[:, :3].mean(axis=0)
    design = np.column_stack([np.ones(len(table)), table[:, :3] - centre])
    return Grid(design, table[:, 3], centre, np.arange(len(table)))


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
