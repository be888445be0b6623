"""Which rule is better? Losses under one arm less those under another, pooled over all curves.

A row is of two arms that are no copies, at one scale but the base. *Difference* is what users of
the rules would see: the mean loss at that scale with the base's best value of the hyperparameter,
whose error is in the interval. *Tuned* is the same where each arm has its own optimum at that
scale, so that it is about the trainings and not about the transfer of one value.
"""

from __future__ import annotations

import itertools
from typing import Literal

import pandas as pd

from analysis.arms import Arm
from analysis.pooled_transfer import (
    INFLATIONS,
    AllShared,
    credible,
    pooled_arm,
    same_trainings,
)
from analysis.transfer import REGRET_TOLERANCE, Transfer
from paper_repro.statistics import Interval

OPEN = "not decided"

#: Whether the embedding's learning rate is the advantage of μP over SP (arXiv 2605.21486).
EmbeddingVerdict = Literal["yes", "no", "not decided"]


def loss_differences(transfer: Transfer, shared: AllShared) -> pd.DataFrame:
    """Every two arms of a study that are no copies, at each scale that has both but the base.

    Args:
        shared: what curves share, by hyperparameter.

    Returns:
        a row a pair and scale: `axis`, `scale`, the arms in print (`first`, `second`), the loss of
        the first less that of the second (nats) with its interval, with the base's best value
        (`difference`) and tuned (`tuned`), and `better`: which has the lower loss with the base's
        best value, or `not decided` where the interval holds 0. Empty where there are no two arms.
    """
    name = transfer.hyperparameter
    pooled = {
        arm.label: pooled
        for arm in same_trainings(transfer)
        if (pooled := pooled_arm(transfer.arms[arm], transfer.base, shared[name], INFLATIONS[name]))
    }
    rows = []
    for (first, one), (second, other) in itertools.combinations(pooled.items(), 2):
        for scale in sorted(one.draws.keys() & other.draws.keys() - {one.base}):
            difference = credible(one.loss(scale) - other.loss(scale))
            tuned = credible(one.draws[scale].loss - other.draws[scale].loss)
            rows.append(
                {
                    **{"axis": transfer.axis.name, "scale": scale},
                    **{"first": first, "second": second},
                    **difference.columns("difference"),
                    **tuned.columns("tuned"),
                    "better": _better(difference, first, second),
                }
            )
    return pd.DataFrame(rows)


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
    against = differences[differences["second"] == Arm("complete_d").label]
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
