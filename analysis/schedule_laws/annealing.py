"""The law with learning-rate annealing, arXiv 2408.11029.

    L = L0 + A·S1^−α − C·S2,  S1 = Σ η_i,  S2 = Σ_i m_i,  m_i = λ m_(i−1) + (η_(i−1) − η_i)

The authors set λ and minimise the Huber loss of log L. Here λ is fitted too, for our runs are
shorter than the memory of 0.999, and all by least squares: L0, A and C, none of them negative, are
linear, which leaves a search over α and λ. By summing the momentum first,
S2 = Σ_k (η_(k−1) − η_k)·(1 − λ^(T−k+1)) / (1 − λ), k over the steps after the warm-up.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize, nnls

from analysis.schedule_laws.curves import Curve, Drops, Floats, at_all, losses_of

_POWERS = (0.1, 0.3, 0.6, 1.0)
_MEMORIES = (10.0, 100.0, 1000.0)
"""λ / (1 − λ), in steps."""
_BOUNDS = ((math.log(0.02), math.log(2.0)), (0.0, math.log(1e5)))
"""Of log α and of the log of the memory."""


@dataclass(frozen=True)
class AnnealingLaw:
    """The law with its numbers: an `analysis.schedule_laws.curves.Predictor`."""

    floor: float
    """L0."""
    area: float
    """A."""
    power: float
    """α."""
    gain: float
    """C."""
    memory: float
    """λ."""

    def predict(self, curve: Curve) -> Floats:
        area, annealed = _area(curve), _annealed(curve.drops, self.memory)
        return self.floor + self.area * area**-self.power - self.gain * annealed


def fit_annealing(curves: Sequence[Curve]) -> AnnealingLaw:
    losses, areas = losses_of(curves), at_all(curves, _area)
    unit, drops = float(areas.max()), [curve.drops for curve in curves]

    def solved(power: float, memory: float) -> tuple[Floats, float]:
        annealed = np.concatenate([_annealed(each, memory) for each in drops])
        columns = [np.ones_like(areas), (areas / unit) ** -power, -annealed]
        coefficients, residual = nnls(np.column_stack(columns), losses)
        return coefficients, float(residual)

    def cost(vector: Floats) -> float:
        return solved(*_numbers(vector))[1]

    starts = itertools.product(np.log(_POWERS), np.log(_MEMORIES))
    start = min(starts, key=lambda each: cost(np.array(each)))
    options = {"xatol": 1e-4, "fatol": 1e-9}
    found = minimize(cost, start, method="Nelder-Mead", bounds=_BOUNDS, options=options)
    power, memory = _numbers(found.x)
    (floor, area, gain), _ = solved(power, memory)
    return AnnealingLaw(floor, area * unit**power, power, gain, memory)


def _numbers(vector: Floats) -> tuple[float, float]:
    """α, and λ of a memory of at least a step."""
    return math.exp(vector[0]), 1 - 1 / (1 + math.exp(vector[1]))


def _area(curve: Curve) -> Floats:
    return curve.schedule.areas[curve.at]


def _annealed(drops: Drops, memory: float) -> Floats:
    momenta = (1 - memory ** np.maximum(drops.ages, 0.0)) / (1 - memory)
    annealed: Floats = momenta @ drops.sizes
    return annealed
