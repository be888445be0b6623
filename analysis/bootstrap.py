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

from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from paper_repro.statistics import CONFIDENCE, Interval

Floats = NDArray[np.float64]
Estimate = TypeVar("Estimate")

#: Enough that the ends of a 95 % interval are known to about 0.7 % of probability.
RESAMPLES = 500


def paired_sample(rows: pd.DataFrame, condition: str, value: str) -> pd.DataFrame:
    """A row a condition and seed, a column an arm, from one row an `arm`, `seed` and condition.

    So that arms stay paired, a seed that an arm lacks at a condition is left out there in all arms
    that have the condition; an arm that does not have it is NaN.

    Args:
        condition: the column with the condition, a whole number.
        value: the column with the value.
    """
    table = rows.pivot(index=[condition, "seed"], columns="arm", values=value)
    blocks = (block.dropna(axis="columns", how="all") for _, block in table.groupby(level=0))
    return pd.concat([block.dropna() for block in blocks])


def flat(values: pd.Series) -> tuple[Floats, Floats]:
    """The condition of every value of an arm, and the values."""
    known = values.dropna()
    return known.index.get_level_values(0).to_numpy(dtype=float), known.to_numpy(dtype=float)


def bootstrap(
    sample: pd.DataFrame,
    estimators: Mapping[str, Callable[[Floats, Floats], Estimate]],
    resamples: int = RESAMPLES,
) -> dict[str, list[Estimate]]:
    """The estimate of each arm in each resample; the same sample gives the same resamples.

    Args:
        sample: as from `paired_sample`.
        estimators: an estimator for each arm: conditions and values of its runs -> estimate.

    Returns:
        The estimates by arm, in the order of the resamples; none for an arm that has a single seed
        at a condition, where the spread is unknown.
    """
    conditions = sample.groupby(level=0)
    means = conditions.transform(lambda values: values.to_numpy().mean())
    counts = pd.Series(conditions.transform("size"))
    deviations = (sample - means).mul(_inflation(counts, len(conditions)), axis="index").to_numpy()
    certain = [arm for arm in estimators if (counts[sample[arm].notna()] > 1).all()]
    estimates: dict[str, list[Estimate]] = {arm: [] for arm in estimators}
    rng = np.random.default_rng(0)
    for _ in range(resamples if certain else 0):
        drawn = [rng.choice(rows, len(rows)) for rows in conditions.indices.values()]
        resample = means + deviations[np.concatenate(drawn)]
        for arm in certain:
            estimates[arm].append(estimators[arm](*flat(resample[arm])))
    return estimates


def percentiles(value: float, resampled: pd.Series) -> Interval:
    """An estimate with the interval of its resamples; unknown if there are none."""
    low, high = resampled.quantile([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(value, float(low), float(high))


def _inflation(counts: pd.Series, conditions: int) -> pd.Series:
    """The factor on the deviation of each row from its mean, by seeds there; see the module."""
    tail = (1 + CONFIDENCE) / 2
    student = stats.t.ppf(tail, len(counts) - conditions)
    uncertain_spread = float(student / stats.norm.ppf(tail))
    return uncertain_spread * (counts / (counts - 1)) ** 0.5
