"""The optimum of one loss curve: a parabola in log2 of the hyperparameter around the minimum.

The parabola goes through the lowest point and its two neighbours, and through one point more on
either side where the curve is so flat that the loss there is within `FLAT` of the minimum. Wider
is worse on steep curves: loss curves rise faster to the right than to the left, and a cubic term
d·x³ beside c·x² shifts the vertex of a five-point fit (octave spacing) by 1.7 d/c, of a
three-point fit by 0.5 d/c. On flat curves noise is the larger error, and
five points more than halve it.

An optimum is *bracketed* if the curve was measured on both sides of it:
- the lowest point is the first or last of the grid, or a neighbour is missing or diverged on the
  left: not bracketed, and the optimum is only the lowest point of the grid;
- the curve rises by less than `RISE` on one side, as far as the grid goes: not bracketed, for where
  its lowest point is is then noise (weight decays too small to matter, for example);
- the right neighbour diverged: bracketed, for that is the cliff that ends a curve. The fit then
  uses the lowest point and the two left of it, and never goes beyond a rate that was trained
  stably; if it ends there, the true optimum may lie anywhere up to the diverged neighbour, and
  `slack` says how far that is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import Akima1DInterpolator

Floats = NDArray[np.float64]

#: Losses closer than this (nats) are within what one seed can shift: others who reproduced the
#: paper saw an optimum move by less than that, and three seeds put it back.
FLAT = 0.05


#: Nats by which a curve must rise on either side of its lowest point: twice what means of three
#: seeds differ by where a hyperparameter is too small to matter.
RISE = 0.005


@dataclass(frozen=True)
class Window:
    """Which points of a curve are fitted, and between which the optimum may lie."""

    first: int
    last: int
    """Index of the last point, inclusive."""
    low: float
    high: float
    """Bounds of the optimum, log2."""
    bracketed: bool
    cliff: float = 0.0
    """Distance from `high` to a diverged right neighbour, in octaves; 0 without one."""

    @property
    def points(self) -> slice:
        return slice(self.first, self.last + 1)


@dataclass(frozen=True, eq=False)
class FittedCurve:
    """A loss curve with its optimum."""

    log2_lr: Floats
    losses: Floats
    window: Window
    parabola: Polynomial | None
    """None where no parabola with a minimum fits: the optimum is the lowest point of the window."""
    log2: float
    """The optimum, log2 of the hyperparameter."""
    loss: float
    """Loss at the optimum in nats."""

    @property
    def bracketed(self) -> bool:
        return self.window.bracketed

    @property
    def slack(self) -> float:
        """How far (octaves) the true optimum may lie above `log2`, hidden by divergence."""
        return self.window.cliff if self.log2 >= self.window.high else 0.0

    def at(self, log2_lr: float) -> float:
        """Loss at any log2 rate: the parabola within its points, Akima's cubics elsewhere.

        NaN outside the grid; +inf strictly between a point and a diverged one. Straight lines would
        lie above a convex curve, on a grid of octaves by some 0.01 nats: a cost that no rule has.
        """
        x = self.log2_lr
        if not x[0] <= log2_lr <= x[-1]:
            return math.nan
        inside = x[self.window.first] <= log2_lr <= x[self.window.last]
        if inside and self.parabola is not None:
            return float(self.parabola(log2_lr))
        right = int(np.searchsorted(x, log2_lr))
        if x[right] == log2_lr:
            return float(self.losses[right])
        neighbours = self.losses[right - 1 : right + 1]
        if not np.isfinite(neighbours).all():
            return float(np.max(neighbours))  # NaN where there is none, else +inf
        finite = np.isfinite(self.losses)
        return float(Akima1DInterpolator(x[finite], self.losses[finite])(log2_lr))


def find_window(log2_lr: ArrayLike, loss: ArrayLike, flat_within: float = FLAT) -> Window:
    """The points to fit around the minimum of a curve; see the module for the rules.

    Args:
        log2_lr: log2 of the hyperparameter, ascending.
        loss: nats; +inf where the run diverged, NaN where there is none.
        flat_within: nats above the minimum within which a further point is fitted.
    """
    x, y = np.asarray(log2_lr, dtype=float), np.asarray(loss, dtype=float)
    finite = np.isfinite(y)
    lowest = int(np.argmin(np.where(finite, y, np.inf)))

    def usable(index: int) -> bool:
        return 0 <= index < len(x) and bool(finite[index])

    def flat(index: int) -> bool:
        return usable(index) and bool(y[index] - y[lowest] <= flat_within)

    unbracketed = Window(lowest, lowest, x[lowest], x[lowest], bracketed=False)
    if not usable(lowest - 1) or lowest + 1 == len(x) or np.isnan(y[lowest + 1]):
        return unbracketed
    if np.nanmax(y[:lowest]) < y[lowest] + RISE or np.nanmax(y[lowest:]) < y[lowest] + RISE:
        return unbracketed
    if np.isposinf(y[lowest + 1]):
        if not usable(lowest - 2):
            return unbracketed
        cliff = float(x[lowest + 1] - x[lowest])
        return Window(lowest - 2, lowest, x[lowest - 1], x[lowest], bracketed=True, cliff=cliff)
    first = lowest - 2 if flat(lowest - 2) else lowest - 1
    last = lowest + 2 if flat(lowest + 2) else lowest + 1
    return Window(first, last, x[lowest - 1], x[lowest + 1], bracketed=True)


def fit_optimum(log2_lr: ArrayLike, loss: ArrayLike, window: Window | None = None) -> FittedCurve:
    """Fit the optimum of a curve, in the window around its own minimum or in a given one.

    Single seeds are fitted in the window of the seed-mean curve, so that noise does not also choose
    the points. The optimum is clipped to the grid points beside the lowest one. A curve with a loss
    in its window that is not finite (every run diverged or failed) has the optimum NaN.
    """
    x, y = np.asarray(log2_lr, dtype=float), np.asarray(loss, dtype=float)
    window = window or find_window(x, y)
    x_in, y_in = x[window.points], y[window.points]
    if not np.isfinite(y_in).all():
        return FittedCurve(x, y, window, None, math.nan, math.nan)
    lowest = int(np.argmin(y_in))
    if len(x_in) >= 3:
        parabola = Polynomial.fit(x_in, y_in, 2)
        slope = parabola.deriv()
        if slope.deriv()(0.0) > 0:
            log2 = float(np.clip(slope.roots()[0], window.low, window.high))
            return FittedCurve(x, y, window, parabola, log2, float(parabola(log2)))
    return FittedCurve(x, y, window, None, float(x_in[lowest]), float(y_in[lowest]))
