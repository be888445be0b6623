"""Opt-Laws-style, ours: what an SDE says of a schedule, a regression of the final loss on it, and a
model of divergence.

The idea is that of Opt-Laws (arXiv 2409.04777), whose equations could not be had. What is here we
derived (docs/schedule_laws.md): the features are ours, and no number of it is the authors'.

Let SGD with gradient noise σ be dX = −η(t)∇f dt + η(t) σ dW, a step being a unit of time, and S(t)
the sum of the rates. In a direction of curvature h, with s from 0 to T,

    E f = ½h x0² e^(−2h S(T))  +  ½h σ² ∫ η(s)² e^(−2h (S(T) − S(s))) ds

*Convergence*: over a spectrum of curvatures that falls as a power, the first term falls as a power
of S; the features are three of them. The second is what noise leaves, at five curvatures.
*Escape*: over a barrier ΔV the noise carries the iterate at a rate ∝ η e^(−ΔV/(½ησ²)) (Kramers);
the features are the logarithm of the expected number of escapes over two barriers.
*Stability*: the largest rate, and how fast the warm-up rises to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from analysis.schedule_laws.curves import Bools, Curve, Floats, Schedule

POWERS = (0.25, 0.5, 1.0)
#: Curvatures, in units of one over the median area of the known schedules.
CURVATURES = (2.0, 8.0, 32.0, 128.0, 512.0)
#: Barriers, in units of the median peak of the known schedules.
BARRIERS = (0.5, 2.0)
#: Strengths of the penalty that are tried, on features of unit variance, per known run.
PENALTIES = tuple(10.0**power for power in range(-6, 1))
_FOLDS = 5


@dataclass(frozen=True)
class Units:
    """What features are measured in: medians of the known schedules."""

    area: float
    rate: float

    @property
    def steps(self) -> float:
        return self.area / self.rate

    @classmethod
    def of(cls, curves: Sequence[Curve]) -> Units:
        areas = [curve.schedule.areas[-1] for curve in curves]
        return cls(float(np.median(areas)), float(np.median([c.schedule.peak for c in curves])))


def features(schedule: Schedule, units: Units) -> Floats:
    """All features of a schedule, at its end."""
    areas, rates = schedule.areas / units.area, schedule.rates / units.rate
    convergence = [areas[-1] ** -power for power in POWERS]
    left = areas[-1] - areas[1:]
    noise = [h * float((rates**2 * np.exp(-2 * h * left)).sum()) / units.steps for h in CURVATURES]
    return np.array([*convergence, *noise, *stability(schedule, units)])


def stability(schedule: Schedule, units: Units) -> list[float]:
    """Those of them that a model of divergence has."""
    rates = schedule.rates / units.rate
    safe = np.maximum(rates, 1e-9)
    counts = [float((rates * np.exp(-barrier / safe)).sum()) / units.steps for barrier in BARRIERS]
    escapes = [np.log(count + 1e-9) for count in counts]
    peak = np.log(rates.max())
    rise = peak - np.log(max(schedule.warmup, 1) / units.steps)
    return [float(each) for each in (*escapes, peak, rise)]


@dataclass(frozen=True, eq=False)
class Standard:
    """Features less their mean, over their spread."""

    mean: Floats
    spread: Floats

    @classmethod
    def of(cls, design: Floats) -> Standard:
        spread = design.std(axis=0)
        return cls(design.mean(axis=0), np.where(spread > 0, spread, 1.0))

    def __call__(self, design: Floats) -> Floats:
        return (design - self.mean) / self.spread


@dataclass(frozen=True, eq=False)
class OptLaws:
    """The regression with its numbers: an `analysis.schedule_laws.curves.Predictor` of ends."""

    units: Units
    standard: Standard
    mean: float
    weights: Floats
    penalty: float

    def predict(self, curve: Curve) -> Floats:
        """The loss at every point, as that of a training which ends there."""
        prefixes = [_prefix(curve.schedule, int(step)) for step in curve.at]
        design = np.array([features(prefix, self.units) for prefix in prefixes])
        predicted: Floats = self.mean + self.standard(design) @ self.weights
        return predicted


def fit_opt_laws(curves: Sequence[Curve]) -> OptLaws:
    """Ridge regression of the final losses, its penalty by the schedules that folds leave out."""
    units = Units.of(curves)
    design = np.array([features(curve.schedule, units) for curve in curves])
    standard = Standard.of(design)
    scaled, losses = standard(design), np.array([curve.losses[-1] for curve in curves])

    def error(penalty: float, out: Bools) -> float:
        mean, weights = _ridge(scaled[~out], losses[~out], penalty)
        return float(np.square(mean + scaled[out] @ weights - losses[out]).sum())

    penalty = _choose_penalty(curves, error)
    return OptLaws(units, standard, *_ridge(scaled, losses, penalty), penalty)


def _choose_penalty(curves: Sequence[Curve], error: Callable[[float, Bools], float]) -> float:
    """The penalty with the least error on the schedules that folds leave out.

    Args:
        error: of a penalty, and of which curves are left out.
    """
    names = sorted({curve.name for curve in curves})
    fold = np.array([names.index(curve.name) % _FOLDS for curve in curves])
    left_out = [fold == number for number in set(fold.tolist())]
    return min(PENALTIES, key=lambda penalty: sum(error(penalty, out) for out in left_out))


def _ridge(design: Floats, losses: Floats, penalty: float) -> tuple[float, Floats]:
    """The mean that stands for no feature, and the weights; the mean is not penalised."""
    centre, mean = design.mean(axis=0), float(losses.mean())
    centred = design - centre
    gram = centred.T @ centred + penalty * len(design) * np.eye(design.shape[1])
    weights = np.linalg.solve(gram, centred.T @ (losses - mean))
    return mean - float(centre @ weights), weights


def _prefix(schedule: Schedule, steps: int) -> Schedule:
    return Schedule(schedule.rates[:steps], min(schedule.warmup, steps))


@dataclass(frozen=True, eq=False)
class Divergence:
    """A logistic model of whether a training diverges."""

    units: Units
    standard: Standard
    weights: Floats
    """The first is that of no feature."""

    def probability(self, schedule: Schedule) -> float:
        design = self.standard(np.array([stability(schedule, self.units)]))
        return float(expit(self.weights[0] + design[0] @ self.weights[1:]))


def fit_divergence(curves: Sequence[Curve], diverged: Sequence[bool]) -> Divergence:
    """Logistic regression on the features of stability, its penalty as of `fit_opt_laws`."""
    units = Units.of(curves)
    design = np.array([stability(curve.schedule, units) for curve in curves])
    standard = Standard.of(design)
    scaled = np.insert(standard(design), 0, 1.0, axis=1)
    signs = np.where(diverged, 1.0, -1.0)

    def error(penalty: float, out: Bools) -> float:
        weights = _logistic(scaled[~out], signs[~out], penalty)
        return float(np.logaddexp(0, -signs[out] * (scaled[out] @ weights)).sum())

    penalty = _choose_penalty(curves, error)
    return Divergence(units, standard, _logistic(scaled, signs, penalty))


def _logistic(design: Floats, signs: Floats, penalty: float) -> Floats:
    """The weights, of which the first is not penalised."""

    def cost(weights: Floats) -> tuple[float, Floats]:
        margins = signs * (design @ weights)
        penalised = np.insert(weights[1:], 0, 0.0)
        gradient = 2 * penalty * penalised - design.T @ (signs * expit(-margins)) / len(signs)
        return float(np.logaddexp(0, -margins).mean() + penalty * penalised @ penalised), gradient

    found: Floats = minimize(cost, np.zeros(design.shape[1]), jac=True, method="L-BFGS-B").x
    return found
