"""How well a law predicts held-out trainings, and chooses among them.

Targets are the held-out schedules of one size and duration. `error` is the mean relative error of
the final loss. For the rest the law chooses from sets of `SET` schedules, drawn at random from the
targets: the one that it says ends lowest. `top1` and `top2` are how often that is the best, or
among the best two, of its set; `regret` is by how much it ends above the best (nats). `family`: of
how many targets the law's best schedule of all is of the family of the best.

Intervals are percentiles of a bootstrap that draws schedules and, where there are several, seeds
(of the error, schedules alone: an average of fewer seeds is off by more, whatever the law); that of
`family` is exact for the number of targets (Clopper-Pearson).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from analysis.schedule_laws.curves import Bools, Floats
from paper_repro.statistics import CONFIDENCE, UNKNOWN, Interval

#: Schedules of a set.
SET = 8
#: Sets that are drawn from a target, in each resample too.
SETS = 200
RESAMPLES = 200


@dataclass(frozen=True, eq=False)
class Target:
    """The held-out schedules of one size and duration."""

    predicted: Floats
    """The final loss of each: (schedules,)."""
    losses: Floats
    """What came of them: (schedules, seeds); +inf where one diverged."""
    families: tuple[str, ...]


class Judgement(NamedTuple):
    """The measures of a law on targets."""

    error: Interval
    top1: Interval
    top2: Interval
    regret: Interval
    family: Interval

    def columns(self) -> dict[str, float]:
        columns: dict[str, float] = {}
        for name, interval in self._asdict().items():
            columns |= interval.columns(name)
        return columns


def judge(targets: Sequence[Target]) -> Judgement:
    """All measures, the mean over targets of each."""
    random = np.random.default_rng(0)
    whole = [_Known(t.predicted, *2 * [t.losses.mean(axis=1)]) for t in targets]
    estimates = _measured(whole, random)
    drawn = np.array(
        [_measured([_drawn(t, random) for t in targets], random) for _ in range(RESAMPLES)]
    )
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail], axis=0)
    error, top1, top2, regret = (
        Interval(*map(float, each)) for each in zip(estimates, low, high, strict=True)
    )
    return Judgement(error, top1, top2, regret, right_family(targets))


def right_family(targets: Sequence[Target]) -> Interval:
    """Of how many targets the best schedule by the law is of the best one's family."""
    if not targets or any(len(set(target.families)) < 2 for target in targets):
        return UNKNOWN
    right = 0
    for target in targets:
        said, best = np.argmin(target.predicted), np.argmin(target.losses.mean(axis=1))
        right += target.families[said] == target.families[best]
    exact = binomtest(right, len(targets)).proportion_ci(CONFIDENCE)
    return Interval(right / len(targets), float(exact.low), float(exact.high))


class _Known(NamedTuple):
    """A target, or a resample of it."""

    predicted: Floats
    losses: Floats
    """The mean over all seeds."""
    drawn: Floats
    """The mean over the seeds that were drawn."""


def _drawn(target: Target, random: np.random.Generator) -> _Known:
    count, seeds = target.losses.shape
    rows = random.integers(count, size=count)
    drawn = target.losses[:, random.integers(seeds, size=seeds)].mean(axis=1)
    return _Known(target.predicted[rows], target.losses.mean(axis=1)[rows], drawn[rows])


def _measured(
    targets: Sequence[_Known], random: np.random.Generator
) -> tuple[float, float, float, float]:
    """Error, top1, top2 and regret, the mean over targets."""
    rows = []
    for predicted, losses, drawn in targets:
        ended = np.isfinite(losses)
        error = np.abs(predicted[ended] / losses[ended] - 1).mean()
        if len(losses) < SET:
            rows.append((error, np.nan, np.nan, np.nan))
            continue
        sets = random.random((SETS, len(losses))).argsort(axis=1)[:, :SET]
        said = np.take_along_axis(sets, predicted[sets].argmin(axis=1)[:, None], axis=1)
        better = (drawn[sets] < drawn[said]).sum(axis=1)
        above = drawn[said[:, 0]] - drawn[sets].min(axis=1)
        rows.append((error, (better < 1).mean(), (better < 2).mean(), above.mean()))
    error, top1, top2, regret = np.mean(rows, axis=0)
    return float(error), float(top1), float(top2), float(regret)


def f1(said: Sequence[bool] | Bools, happened: Sequence[bool] | Bools) -> float:
    """The harmonic mean of precision and recall; NaN where neither was said nor happened."""
    hits = int(np.sum(np.logical_and(said, happened)))
    total = int(np.sum(said)) + int(np.sum(happened))
    return 2 * hits / total if total else float("nan")


def f1_interval(said: Sequence[bool] | Bools, happened: Sequence[bool] | Bools) -> Interval:
    """F1 with percentiles of a bootstrap that draws runs."""
    random = np.random.default_rng(0)
    some, true = np.array(said, dtype=bool), np.array(happened, dtype=bool)
    rows = random.integers(len(some), size=(RESAMPLES, len(some)))
    drawn = [f1(some[each].tolist(), true[each].tolist()) for each in rows]
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.nanpercentile(drawn, [tail, 100 - tail])
    return Interval(f1(said, happened), float(low), float(high))
