"""A paired bootstrap over seeds, for estimates from few seeds at several conditions.

At each condition (a duration, say) seeds are drawn with replacement, independently of the other
conditions, and the same draw serves every arm: runs of two arms that share a seed share their data,
so the difference of two estimates is paired. (A shift that a seed has at every condition is so
counted as noise of each; that errs on the wide side.)

A plain bootstrap of few seeds is too narrow, so a value enters a resample with its deviation from
the mean of its condition times sqrt(n / (n - 1)), for resampling n values loses that much of their
spread, and times t/z, the ratio of the 97.5 % points of Student's t with Σ(n - 1) degrees of
freedom and of the normal, which pays for estimating the spread. For linear estimates that is the
t-interval; `analysis.laws` has the coverage that was simulated for its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from paper_repro.statistics import CONFIDENCE, Interval

Floats = NDArray[np.float64]
Estimate = TypeVar("Estimate")

Sample = Mapping[int, Mapping[str, Floats]]
"""Values at each condition by arm; all arms of a condition have the same seeds in one order."""

#: Enough that the ends of a 95 % interval are known to about 0.7 % of probability.
RESAMPLES = 500


def paired_sample(rows: pd.DataFrame, condition: str, value: str) -> Sample:
    """The sample in a frame of one row an `arm`, `seed` and condition.

    So that arms stay paired, a seed that an arm lacks at a condition is left out there in all arms
    that have the condition.

    Args:
        condition: the column with the condition, a whole number.
        value: the column with the value.
    """
    sample = {}
    for level, runs in rows.groupby(condition):
        block = runs.pivot(index="seed", columns="arm", values=value).dropna()
        if len(block):
            sample[int(str(level))] = {str(arm): block[arm].to_numpy(dtype=float) for arm in block}
    return sample


def of_arm(sample: Sample, arm: str) -> dict[int, Floats]:
    """The values of one arm by condition."""
    return {condition: block[arm] for condition, block in sample.items() if arm in block}


def flat(values: Mapping[int, Floats]) -> tuple[Floats, Floats]:
    """The condition of every value, and the values."""
    counts = [len(block) for block in values.values()]
    return np.repeat(np.array(list(values), float), counts), np.concatenate(list(values.values()))


def bootstrap(
    sample: Sample,
    estimators: Mapping[str, Callable[[Floats, Floats], Estimate]],
    resamples: int = RESAMPLES,
) -> dict[str, list[Estimate]]:
    """The estimate of each arm in each resample; the same sample gives the same resamples.

    Args:
        estimators: an estimator for each arm: conditions and values of its runs -> estimate.

    Returns:
        The estimates by arm, in the order of the resamples; none for an arm that has a single seed
        at a condition, where the spread is unknown.
    """
    inflation = _inflation(sample)
    certain = [arm for arm in estimators if set(of_arm(sample, arm)) <= set(inflation)]
    estimates: dict[str, list[Estimate]] = {arm: [] for arm in estimators}
    for drawn in _draws(sample, inflation, resamples if certain else 0):
        for arm in certain:
            estimates[arm].append(estimators[arm](*flat(of_arm(drawn, arm))))
    return estimates


def percentiles(value: float, resampled: Floats) -> Interval:
    """An estimate with the interval of its resamples; unknown if there are none."""
    if len(resampled) == 0:
        return Interval(value, math.nan, math.nan)
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(value, float(low), float(high))


def _inflation(sample: Sample) -> Mapping[int, float]:
    """The factor on deviations from the mean, by condition; see the module."""
    counts = {level: len(next(iter(block.values()))) for level, block in sample.items()}
    tail = (1 + CONFIDENCE) / 2
    student = stats.t.ppf(tail, sum(count - 1 for count in counts.values()))
    uncertain_spread = float(student / stats.norm.ppf(tail))
    return {
        level: uncertain_spread * math.sqrt(count / (count - 1))
        for level, count in counts.items()
        if count > 1
    }


def _draws(sample: Sample, inflation: Mapping[int, float], resamples: int) -> Iterator[Sample]:
    """Resamples of the conditions that have several seeds."""
    rng = np.random.default_rng(0)
    for _ in range(resamples):
        drawn: dict[int, dict[str, Floats]] = {}
        for level, factor in inflation.items():
            count = len(next(iter(sample[level].values())))
            seeds = rng.integers(count, size=count)
            drawn[level] = {
                arm: values.mean() + factor * (values[seeds] - values.mean())
                for arm, values in sample[level].items()
            }
        yield drawn
