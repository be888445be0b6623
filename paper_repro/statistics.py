"""Intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

#: Confidence of every interval in this project that does not name another.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval; NaN where unknown."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        half_width = "?" if math.isnan(self.half_width) else f"{self.half_width:.2f}"
        return f"{self.value:+.2f} ± {half_width}"

    def widened(self, below: float, above: float) -> Interval:
        """The interval with `below` and `above` (both at least 0) added to its ends."""
        return Interval(self.value, self.low - below, self.high + above)

    def columns(self, name: str) -> dict[str, float]:
        """The three numbers as the columns `name`, `name_low` and `name_high` of a table."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


UNKNOWN = Interval(math.nan, math.nan, math.nan)


def over_seeds(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Mean of an estimate made once a seed, with Student's t-interval (n - 1 degrees of freedom).

    A sweep has two to five seeds. A percentile bootstrap of so few resamples the same numbers: its
    interval never leaves their range and covers the truth far less often than it says (two seeds
    give at most 50 %). The t-interval pays for estimating the spread, and is exact if estimates of
    single seeds are normal. With one seed the interval is unknown (NaN), never zero. Runs that
    share a seed share their data, so differences between scales are taken within a seed first.

    If a value is infinite (a seed diverged), so is the estimate, and its interval is unknown.
    """
    if len(values) == 0:
        return UNKNOWN
    mean = float(np.mean(values))
    if len(values) == 1 or not math.isfinite(mean):
        return Interval(mean, math.nan, math.nan)
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1)) * error
    return Interval(mean, mean - half, mean + half)
