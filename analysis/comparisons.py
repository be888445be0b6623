"""Which rule is better? Losses under one arm less those under another, pooled over all curves.

A row is of two arms that are no copies, at one scale but the base. *Difference* is what users of
the rules would see: the mean loss at that scale with the base's best value of the hyperparameter,
whose error is in the interval. *Tuned* is the same where each arm has its own optimum at that
scale, so that it is about the trainings and not about the transfer of one value.

Arms share their seeds, and so some of their noise. The pooled draws of two arms leave that out, so
that their intervals are rather too wide (docs/statistics.md); seed by seed it cancels.
"""

from __future__ import annotations

import itertools
from typing import Literal

import pandas as pd

from analysis.arms import Arm
from analysis.pooled_transfer import (
    INFLATIONS,
    AllShared,
    PooledArm,
    credible,
    pooled_arm,
    same_trainings,
)
from analysis.transfer import REGRET_TOLERANCE, ScaleFits, Transfer
from paper_repro.statistics import Interval, over_seeds

OPEN = "not decided"

#: Whether the embedding's learning rate is the advantage of μP over SP (arXiv 2605.21486).
EmbeddingVerdict = Literal["yes", "no", "not decided"]


def loss_differences(transfer: Transfer, shared: AllShared) -> pd.DataFrame:
    """Every two arms of a study that are no copies, at each scale that has both but the base.

    Args:
        shared: what curves share, by hyperparameter.

    Returns:
        two rows a pair and scale, one a method (`pooled`, `by seed`): `axis`, `scale`, the arms in
        print (`first`, `second`), the loss of the first less that of the second (nats) with its
        interval, with the base's best value (`difference`) and tuned (`tuned`), and `better`:
        which has the lower loss with the base's best value, or `not decided` where the interval
        holds 0. Empty where there are no two arms.
    """
    name = transfer.hyperparameter
    drawn = {
        arm: pooled
        for arm in same_trainings(transfer)
        if (pooled := pooled_arm(transfer.arms[arm], transfer.base, shared[name], INFLATIONS[name]))
    }
    rows: list[dict[str, object]] = []
    for (first, one), (second, other) in itertools.combinations(drawn.items(), 2):
        fits = transfer.arms[first], transfer.arms[second]
        for scale in sorted(one.draws.keys() & other.draws.keys() - {one.base}):
            methods = {
                "pooled": _pooled(one, other, scale),
                "by seed": _by_seed(*fits, one.base, scale),
            }
            rows += (
                {
                    **{"axis": transfer.axis.name, "scale": scale},
                    **{"first": first.label, "second": second.label, "method": method},
                    **difference.columns("difference"),
                    **tuned.columns("tuned"),
                    "better": _better(difference, first.label, second.label),
                }
                for method, (difference, tuned) in methods.items()
            )
    return pd.DataFrame(rows)


def _pooled(one: PooledArm, other: PooledArm, scale: int) -> tuple[Interval, Interval]:
    """The difference and the tuned one, as if the arms shared no seeds."""
    tuned = one.draws[scale].loss - other.draws[scale].loss
    return credible(one.loss(scale) - other.loss(scale)), credible(tuned)


def _by_seed(one: ScaleFits, other: ScaleFits, base: int, scale: int) -> tuple[Interval, Interval]:
    """The same within each seed that has all four optima, over seeds.

    Each seed tunes its own base, as in `analysis.transfer.regret`.
    """
    curves = [fits[at].seeds for fits in (one, other) for at in (base, scale)]
    differences, tuned = [], []
    for seed in sorted(set.intersection(*map(set, curves))):
        first_base, first, second_base, second = (each[seed] for each in curves)
        differences.append(first.at(first_base.log2) - second.at(second_base.log2))
        tuned.append(first.loss - second.loss)
    return over_seeds(differences), over_seeds(tuned)


def _better(difference: Interval, first: str, second: str) -> str:
    if difference.high < 0:
        return first
    return second if difference.low > 0 else OPEN


def embedding(differences: pd.DataFrame) -> pd.DataFrame:
    """Is the embedding's learning rate the advantage of μP over SP? One row, at the largest width.

    Yes if SP with the embedding's rate × width, tuned, is within 0.02 nats of Complete(d)P, and SP
    with an init variance of 1/fan-in, which changes as little else, is not. The whole interval
    counts: within, or outside. No if the first is outside or the second within.

    Args:
        differences: `loss_differences` of a study along width.

    Returns:
        `scale`; `embedding` and `fan_in`, the tuned loss above that of Complete(d)P, nats, with
        intervals; `verdict`. Empty where either was not trained.
    """
    drawn = differences[differences["method"] == "pooled"]
    against = drawn[drawn["second"] == Arm("complete_d").label]
    arms = (Arm("sp_embedding").label, Arm("sp_fan_in").label)
    near, far = (against[against["first"] == label].set_index("scale") for label in arms)
    both = near.index.intersection(far.index)
    if both.empty:
        return pd.DataFrame()
    ends = ["tuned", "tuned_low", "tuned_high"]
    one, other = (Interval(*side.loc[both.max(), ends].astype(float)) for side in (near, far))
    found = one.columns("embedding") | other.columns("fan_in")
    verdict = embedding_verdict(one, other)
    return pd.DataFrame([{"scale": both.max(), **found, "verdict": verdict}])


def embedding_verdict(embedding: Interval, fan_in: Interval) -> EmbeddingVerdict:
    """The verdict of `embedding` from both differences."""
    if _within(embedding) and _outside(fan_in):
        return "yes"
    return "no" if _outside(embedding) or _within(fan_in) else "not decided"


def _within(difference: Interval) -> bool:
    return difference.low >= -REGRET_TOLERANCE and difference.high <= REGRET_TOLERANCE


def _outside(difference: Interval) -> bool:
    return difference.low > REGRET_TOLERANCE or difference.high < -REGRET_TOLERANCE
