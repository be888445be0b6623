"""Trainings as the laws see them: the learning rate at every step, and losses on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Schedule:
    """The learning rate at every step."""

    rates: Floats
    warmup: int
    """Steps in which the rate rises at the start."""

    @cached_property
    def areas(self) -> Floats:
        """The sum of the rates of the first t steps, for t = 0, 1, ...: (steps + 1,)."""
        return np.concatenate([[0.0], np.cumsum(self.rates)])

    @cached_property
    def drops(self) -> Floats:
        """By how much the rate of each step is below that of the one before, after the warm-up."""
        drops = -np.diff(self.rates, prepend=self.rates[0])
        drops[: self.warmup] = 0.0
        return drops

    @property
    def peak(self) -> float:
        return float(self.rates.max())


#: Groups that the drops of a schedule are put into.
GROUPS = 96


class Drops(NamedTuple):
    """The drops of a schedule after its warm-up in groups, seen from the points of its curve."""

    sizes: Floats
    """The sum of each group: (K,)."""
    rates: Floats
    """The rate in its middle: (K,)."""
    areas: Floats
    """The sum of the rates from there to each point, (T, K); negative where that comes before."""
    ages: Floats
    """The steps from there to each point, both included: (T, K)."""


@dataclass(frozen=True, eq=False)
class Curve:
    """One training, or the mean of several that differ in their seeds."""

    name: str
    """Of its schedule; that of another duration or size has the same."""
    family: str
    size: float
    """Parameters."""
    schedule: Schedule
    at: Ints
    """After how many steps the losses are known; the last is the end."""
    losses: Floats
    """In nats."""
    ends: Floats
    """The final loss of each seed; +inf where it diverged: (seeds,)."""
    diverged: bool = False
    """Whether a seed diverged: such curves are not fitted."""

    @property
    def cell(self) -> tuple[float, int]:
        """What runs share that are compared: size and steps."""
        return self.size, self.steps

    @property
    def steps(self) -> int:
        return len(self.schedule.rates)

    @cached_property
    def drops(self) -> Drops:
        """The drops of the schedule, as the points see them."""
        schedule = self.schedule
        steps = np.flatnonzero(schedule.drops)
        groups = np.array_split(steps, min(len(steps), GROUPS)) if len(steps) else []
        middles = np.array([group[len(group) // 2] for group in groups], dtype=int)
        return Drops(
            np.array([schedule.drops[group].sum() for group in groups]),
            schedule.rates[middles],
            schedule.areas[self.at][:, None] - schedule.areas[middles],
            (self.at[:, None] - middles).astype(float),
        )


class Predictor(Protocol):
    """A law with its numbers."""

    def predict(self, curve: Curve) -> Floats:
        """The losses at the steps of a curve, whose own losses are not looked at."""


Fit = Callable[[Sequence[Curve]], Predictor]
"""From the curves that are known to a law with its numbers."""


def at_all(curves: Sequence[Curve], feature: Callable[[Curve], Floats]) -> Floats:
    """A feature at all points of all curves, one after the other."""
    return np.concatenate([feature(curve) for curve in curves])


def losses_of(curves: Sequence[Curve]) -> Floats:
    return at_all(curves, lambda curve: curve.losses)
