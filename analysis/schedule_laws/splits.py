"""Which trainings a law knows, and on which it is judged.

`schedule`: of one size, a fifth of the schedules at all durations, from the others. `family`: of
one size, all schedules of a family, from the other families. `duration`: of one size, all longer
durations from the shortest. `size`: the larger sizes from the smallest. There a law is told one
loss more, for none of them knows what a size adds: at each duration, that of the schedule that was
best at the known size. Predictions are shifted by it, and it is not among those that are judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np

from analysis.schedule_laws.curves import Curve, Fit, Floats

Split = Literal["schedule", "family", "duration", "size"]
SPLITS: tuple[Split, ...] = get_args(Split)
FOLDS = 5


class Part(NamedTuple):
    """One fit of a law, and what is predicted by it."""

    known: list[Curve]
    targets: list[Curve]
    anchored: bool = False
    """Whether predictions are shifted by the schedule that is best where known."""


class Prediction(NamedTuple):
    """What a law says of a held-out training."""

    curve: Curve
    losses: Floats
    """At the points of the curve."""


def parts(curves: Sequence[Curve], split: Split) -> Iterator[Part]:
    """The fits of a split; none where there is but one duration, or one size."""
    sizes = sorted({curve.size for curve in curves})
    if split == "size":
        known = [curve for curve in curves if curve.size == sizes[0]]
        targets = [curve for curve in curves if curve.size > sizes[0]]
        if targets:
            yield Part(known, targets, anchored=True)
        return
    for size in sizes:
        some = [curve for curve in curves if curve.size == size]
        if split == "duration":
            shortest = min(curve.steps for curve in some)
            known = [curve for curve in some if curve.steps == shortest]
            if targets := [curve for curve in some if curve.steps > shortest]:
                yield Part(known, targets)
            continue
        groups = _folds(some) if split == "schedule" else [{f} for f in _families(some)]
        for group in groups:
            key = "name" if split == "schedule" else "family"
            known = [curve for curve in some if getattr(curve, key) not in group]
            targets = [curve for curve in some if getattr(curve, key) in group]
            if known and targets:
                yield Part(known, targets)


def _families(curves: Sequence[Curve]) -> list[str]:
    return sorted({curve.family for curve in curves})


def _folds(curves: Sequence[Curve]) -> list[set[str]]:
    """Names of schedules, those of each family spread over all folds."""
    random = np.random.default_rng(0)
    folds: list[set[str]] = [set() for _ in range(FOLDS)]
    place = 0
    for family in _families(curves):
        names = sorted({curve.name for curve in curves if curve.family == family})
        for name in random.permutation(names):
            folds[place % FOLDS].add(str(name))
            place += 1
    return folds


def predict(fit: Fit, part: Part) -> list[Prediction]:
    """Fit a law to what is known and predict the targets."""
    law = fit(part.known)
    predictions = [Prediction(curve, law.predict(curve)) for curve in part.targets]
    return _anchored(predictions, part.known) if part.anchored else predictions


def _anchored(predictions: Sequence[Prediction], known: Sequence[Curve]) -> list[Prediction]:
    """Predictions shifted, for each size and duration, to the loss of the anchor, which goes."""
    found = []
    for cell in sorted({each.curve.cell for each in predictions}):
        some = [each for each in predictions if each.curve.cell == cell]
        names = {each.curve.name for each in some}
        tried = [curve for curve in known if curve.steps == cell[1] and curve.name in names]
        if not tried:
            continue
        best = min(tried, key=lambda curve: float(curve.losses[-1]))
        anchor = next(each for each in some if each.curve.name == best.name)
        shift = anchor.curve.losses[-1] - anchor.losses[-1]
        found += [
            Prediction(each.curve, each.losses + shift) for each in some if each is not anchor
        ]
    return found
