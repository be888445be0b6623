"""The bound on the last iterate of a convex problem as a law of the loss.

Theorem 10 of arXiv 2310.07831, which arXiv 2501.18965 holds against curves of language models: with
rates η_t, gradient norms G_t and the distance R from the start to the optimum,

    Ω_T = R² / (2 Σ_t η_t) + Σ_t η_t² G_t² / (2 Σ_t η_t)
          + ½ Σ_(k<T) [η_k / Σ_(t>k) η_t] · [Σ_(t≥k) η_t² G_t² / Σ_(t≥k) η_t]

G is taken as constant. So L = L0 + a / Σ η_t + b · noise is linear in L0, a = R²/2 and b = G², none
of them negative; L0 is the least loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from analysis.schedule_laws.curves import Curve, Floats, at_all, losses_of


@dataclass(frozen=True)
class ConvexLaw:
    """The bound with its numbers: an `analysis.schedule_laws.curves.Predictor`."""

    floor: float
    distance: float
    """a."""
    noise: float
    """b."""

    def predict(self, curve: Curve) -> Floats:
        return self.floor + self.distance / _area(curve) + self.noise * _noise(curve)


def fit_convex(curves: Sequence[Curve]) -> ConvexLaw:
    losses = losses_of(curves)
    columns = [np.ones_like(losses), 1 / at_all(curves, _area), at_all(curves, _noise)]
    scales = [float(column.max()) for column in columns]
    design = np.column_stack(
        [column / scale for column, scale in zip(columns, scales, strict=True)]
    )
    coefficients, _ = nnls(design, losses)
    return ConvexLaw(*(coefficients / scales))


def noise_of(rates: Floats) -> float:
    """The terms of the bound with G, at G = 1, after all steps."""
    rates = np.trim_zeros(rates, "b")  # steps of rate 0 change nothing
    left = np.cumsum(rates[::-1])[::-1]  # of this step and those after it
    squares = np.cumsum(rates[::-1] ** 2)[::-1]
    sums = rates[:-1] / left[1:] * squares[:-1] / left[:-1]
    return float(squares[0] / (2 * left[0]) + sums.sum() / 2)


def _area(curve: Curve) -> Floats:
    return curve.schedule.areas[curve.at]


def _noise(curve: Curve) -> Floats:
    return np.array([noise_of(curve.schedule.rates[:step]) for step in curve.at])
