"""The best learning rate of each cell: one model, one number of tokens and one batch size.

A cell has one seed. Its optimum, and whether it is bracketed, are those of `analysis.optimum`. The
interval takes the noise of a loss as that of all cells together: what the points of a window
deviate from their parabolas, over all windows with more points than a parabola has numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.optimum import FittedCurve, Floats, fit_optimum
from paper_repro.errors import ConfigError
from paper_repro.statistics import CONFIDENCE, UNKNOWN, Interval

#: Nats above the least loss of a cell from which a run counts as diverged.
DIVERGED = 0.5

_NUMBERS = ["size", "width", "depth", "tokens", "batch"]


@dataclass(frozen=True, eq=False)
class Cell:
    """A loss curve over log2 of the learning rate, with its optimum."""

    model: str
    size: float
    """Parameters without embeddings; of a mixture of experts, the activated ones."""
    width: float
    depth: float
    tokens: float
    batch: float
    """Tokens."""
    curve: FittedCurve
    error: float
    """Standard deviation of the optimum (octaves); NaN where unknown."""

    @property
    def group(self) -> tuple[str, float]:
        """Cells of one group share model and data."""
        return self.model, self.tokens

    @property
    def optimum(self) -> Interval:
        """log2 of the best learning rate; unknown if it is not bracketed."""
        if not self.curve.bracketed:
            return UNKNOWN
        half = float(stats.norm.ppf((1 + CONFIDENCE) / 2)) * self.error
        at = self.curve.log2
        return Interval(at, at - half, at + half + self.curve.slack)

    def regret(self, log2_lr: float) -> float:
        """Loss at a rate above that at the optimum, nats: at least 0, at most `DIVERGED`.

        A rate outside the grid counts as the end of the grid: a lower bound.
        """
        x = self.curve.log2_lr
        excess = self.curve.at(float(np.clip(log2_lr, x[0], x[-1]))) - self.curve.loss
        return min(max(excess, 0.0), DIVERGED)


def fit_cells(runs: pd.DataFrame) -> list[Cell]:
    """The cells of a grid, with their optima.

    Args:
        runs: of `analysis.public_runs.sources.read_dense`, or alike.

    Raises:
        ConfigError: two runs of a cell have the same learning rate.
    """
    curves, keys = [], []
    for _, rows in runs.groupby(["model", *_NUMBERS]):
        model, first = str(rows["model"].iloc[0]), rows.iloc[0]
        numbers = {each: float(first[each]) for each in _NUMBERS}
        name = f"model {model}, {numbers['tokens']:.3g} tokens, batch {numbers['batch']:.3g}"
        curves.append(fit_curve(rows, name))
        keys.append((model, numbers))
    noise = noise_of(curves)
    return [
        Cell(model, **numbers, curve=curve, error=noise * leverage(curve))
        for (model, numbers), curve in zip(keys, curves, strict=True)
    ]


def fit_curve(rows: pd.DataFrame, name: str) -> FittedCurve:
    """The curve of the runs of a cell; those that diverged have the loss +inf."""
    rows = rows.sort_values("lr")
    if rows["lr"].duplicated().any():
        raise ConfigError(f"{name}: two runs have the same learning rate")
    losses = rows["loss"].to_numpy(dtype=float)
    stable = losses < np.nanmin(losses) + DIVERGED
    return fit_optimum(np.log2(rows["lr"].to_numpy(float)), np.where(stable, losses, np.inf))


def noise_of(curves: Sequence[FittedCurve]) -> float:
    """The standard deviation of one loss (nats), from all bracketed curves."""
    squares, freedom = 0.0, 0
    for curve in curves:
        if curve.bracketed and curve.parabola is not None:
            x, y = (each[curve.window.points] for each in (curve.log2_lr, curve.losses))
            squares += float(((curve.parabola(x) - y) ** 2).sum())
            freedom += len(x) - 3
    return math.sqrt(squares / freedom) if freedom > 0 else math.nan


def leverage(curve: FittedCurve) -> float:
    """Standard deviation of the vertex of a curve's parabola for noise of one nat (octaves)."""
    if not curve.bracketed or curve.parabola is None:
        return math.nan
    x: Floats = curve.log2_lr[curve.window.points]
    design = np.vander(x - curve.log2, 3)
    _, slope, curvature = map(float, curve.parabola.convert().coef)
    slope += 2 * curvature * curve.log2  # at the optimum: 0, unless it is clipped
    gradient = np.array([slope / (2 * curvature**2), -1 / (2 * curvature), 0.0])
    return float(np.sqrt(gradient @ np.linalg.inv(design.T @ design) @ gradient))
