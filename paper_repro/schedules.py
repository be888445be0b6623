"""Schedules: the factors on a run's hyperparameters at each step, from what its config says."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from paper_repro.config import SchedulePoint, TrainConfig
from paper_repro.courses import Decay, Shape


class Factors(NamedTuple):
    """On the hyperparameters that a run has at the peak of its schedule, for one step."""

    lr: float = 1.0
    weight_decay: float = 1.0
    one_minus_beta1: float = 1.0
    one_minus_beta2: float = 1.0


#: How much of the way from a point to the next is left, at a share of it below 1.
REMAINING: Mapping[Shape, Callable[[float], float]] = {
    "linear": lambda progress: 1 - progress,
    "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
    "sqrt": lambda progress: 1 - math.sqrt(progress),  # arXiv 2405.18392
    "step": lambda _: 1.0,
}

_DECAYS: Mapping[str, Decay] = {
    "cosine": "cosine",
    "linear": "linear",
    "exponential": "exponential",
}
"""Schedules that decay in one piece from the end of the warm-up."""


def factors(train: TrainConfig, step: int, steps: int) -> Factors:
    """All factors at `step`, counted from 0, of a run of `steps` steps."""
    others = {
        quantity: factor_at(points, step / steps)
        for quantity, points in train.piecewise.items()
        if quantity != "lr"
    }
    return Factors(lr_scale(train, step, steps), **others)


def lr_scale(train: TrainConfig, step: int, steps: int) -> float:
    """The factor on the peak learning rate at `step`, counted from 0, of a run of `steps` steps.

    Rises linearly over the warm-up to the schedule, reached at its last step; then follows that so
    that the step after the last would have its end.
    """
    warmup = round(train.warmup_fraction * steps)
    rise = (step + 1) / warmup if step < warmup else 1.0
    if train.schedule == "piecewise":
        return rise * factor_at(train.piecewise["lr"], step / steps)
    if step < warmup or train.schedule == "constant":
        return rise
    if train.schedule == "inverse_sqrt":
        return math.sqrt(max(warmup, 1) / (step + 1))
    if train.schedule == "wsd":
        start = max(warmup, steps - round(train.decay_fraction * steps))
        shape = train.decay_shape
    else:
        start, shape = warmup, _DECAYS[train.schedule]
    if step < start:
        return 1.0
    return _between(1.0, train.final_fraction, shape, (step - start) / max(steps - start, 1))


def factor_at(points: Sequence[SchedulePoint], share: float) -> float:
    """The factor of a piecewise schedule at a share of the training.

    Before the first point and after the last it is theirs.
    """
    if share <= points[0].at:
        return points[0].factor
    for left, right in itertools.pairwise(points):
        if share < right.at:
            progress = (share - left.at) / (right.at - left.at)
            return _between(left.factor, right.factor, right.shape, progress)
    return points[-1].factor


def _between(start: float, end: float, shape: Shape, progress: float) -> float:
    if shape == "exponential":
        return math.exp(math.log(start) + progress * math.log(end / start))
    return end + (start - end) * REMAINING[shape](progress)
