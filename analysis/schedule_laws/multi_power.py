"""The Multi-Power Law, arXiv 2503.12811.

    L(t) = L0 + A·S(t)^−α − B Σ_k (η_(k−1) − η_k)·G(η_k^−γ S_k(t)),  G(x) = 1 − (1 + C x)^−β

with S(t) = Σ_(i≤t) η_i, warm-up included, S_k(t) = Σ_(k≤i≤t) η_i, and k over the steps after the
warm-up. The authors minimise the Huber loss of log L. Here it is least squares: L0, A and B, none
of them negative, are linear, which leaves a search over α, β, γ and C. Drops of many steps are
taken together (`Drops`), and rates in units of the largest peak that is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares, nnls

from analysis.schedule_laws.curves import Curve, Drops, Floats, at_all, losses_of

#: Where the search for α, C, β, γ starts. C is per unit of S at which the rate is the peak.
STARTS = ((0.5, 0.1, 0.5, 0.5), (0.3, 0.01, 1.0, 0.3))
_LOW, _HIGH = (0.02, 1e-5, 0.02, 0.01), (2.0, 1e3, 10.0, 3.0)


@dataclass(frozen=True)
class MultiPowerLaw:
    """The law with its numbers: an `analysis.schedule_laws.curves.Predictor`."""

    unit: float
    """The rate in which rates are measured."""
    floor: float
    """L0."""
    area: float
    """A."""
    gain: float
    """B."""
    power: float
    """α."""
    speed: float
    """C."""
    tail: float
    """β."""
    slowing: float
    """γ."""

    def predict(self, curve: Curve) -> Floats:
        gained = _gained(curve.drops, self.unit, self.speed, self.tail, self.slowing)
        area = curve.schedule.areas[curve.at] / self.unit
        return self.floor + self.area * area**-self.power - self.gain * gained


def _gained(drops: Drops, unit: float, speed: float, tail: float, slowing: float) -> Floats:
    """The sum over k, at each point."""
    x = np.maximum(drops.areas / unit, 0.0) * np.maximum(drops.rates / unit, 1e-6) ** -slowing
    grown = 1 - (1 + speed * x) ** -tail
    total: Floats = grown @ drops.sizes / unit
    return total


def fit_multi_power(curves: Sequence[Curve]) -> MultiPowerLaw:
    unit = max(curve.schedule.peak for curve in curves)
    losses = losses_of(curves)
    areas = at_all(curves, lambda curve: curve.schedule.areas[curve.at]) / unit
    drops = [curve.drops for curve in curves]

    def solved(vector: Floats) -> tuple[Floats, Floats]:
        power, *others = np.exp(vector)
        gained = np.concatenate([_gained(each, unit, *others) for each in drops])
        scale = areas.max() ** power
        design = np.column_stack([np.ones_like(areas), areas**-power * scale, -gained])
        coefficients, _ = nnls(design, losses)
        return coefficients * [1, scale, 1], design @ coefficients - losses

    bounds = (np.log(_LOW), np.log(_HIGH))
    tried = [
        least_squares(lambda v: solved(v)[1], np.log(start), bounds=bounds, max_nfev=60)
        for start in STARTS
    ]
    best = min(tried, key=lambda each: float(each.cost)).x
    floor, area, gain = solved(best)[0]
    power, speed, tail, slowing = np.exp(best)
    return MultiPowerLaw(unit, floor, area, gain, power, speed, tail, slowing)
