"""Trust-region random search: steps from the best point known, longer after successes.

The paper says that it uses such a search, in log space, from the best global values, and not more
(arXiv 2512.22382, section on per-module hyperparameters). Every constant below is our own choice.

A point that beats the incumbent is not believed at once: the least of many noisy losses is too low
(the winner's curse). It becomes the incumbent if it still wins after it was tried once more, at
other seeds, at which the incumbent was tried too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

import numpy as np

from paper_repro.search.proposers import Proposal, Told
from paper_repro.search.space import Point, Space

#: Length of the first steps, in octaves: the root of the sum of squares over coordinates.
RADIUS = 2.0
#: Factor on the radius after a point became the incumbent, and after any other trial: about one
#: success in ten keeps it.
GROWTH, SHRINKAGE = 1.3, 0.97
#: The radius is never above this.
LARGEST_RADIUS = 4.0
#: The search ends when the radius falls below this.
SMALLEST_RADIUS = 1 / 16


class TrustRegion:
    """Proposes normal steps from the incumbent, in a random subset of the coordinates.

    The number of coordinates of a step is uniform in its logarithm, so that single coordinates and
    all of them are tried; the expected squared length of a step is the radius squared in any case.
    """

    replays = True
    converged = False

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._random = space, np.random.default_rng(seed)
        self.radius = RADIUS
        self._point = space.start
        self._losses: dict[Point, list[float]] = {}
        """Of the incumbent and its challengers: one a trial, each at seeds of its own."""
        self._challengers: list[Point] = []

    @property
    def incumbent(self) -> tuple[Point, float]:
        """The incumbent and its mean loss over its trials."""
        return self._point, fmean(self._losses.get(self._point, [math.inf]))

    def ask(self, count: int) -> list[Proposal]:
        again = [Proposal(point, repeat=1) for point in self._challengers]
        if again and len(self._losses[self._point]) == 1:
            again.append(Proposal(self._point, repeat=1))
        return (again + [Proposal(self._step()) for _ in range(count - len(again))])[:count]

    def tell(self, trials: Sequence[Told]) -> None:
        for trial in trials:
            self._losses.setdefault(trial.proposal.point, []).append(trial.loss)
        incumbent = self._point
        for trial in trials:
            if trial.proposal.point != incumbent:
                self._judge(trial.proposal.point)
        self._challengers = self._best_challengers()
        kept = {self._point, *self._challengers}
        self._losses = {p: losses for p, losses in self._losses.items() if p in kept}
        self.converged = self.radius < SMALLEST_RADIUS

    def _judge(self, point: Point) -> None:
        """Make a point the incumbent if it won twice; a first win is kept for another trial."""
        losses, best = self._losses[point], self._losses[self._point]
        if len(losses) == 1 and losses[0] < best[0]:
            return
        if len(losses) > 1 and len(best) > 1 and fmean(losses[:2]) < fmean(best[:2]):
            self._point = point
            self.radius = min(self.radius * GROWTH, LARGEST_RADIUS)
        else:
            self.radius *= SHRINKAGE

    def _best_challengers(self) -> list[Point]:
        """The best point of those that won once, or none."""
        first = self._losses[self._point][0]
        won = [p for p, losses in self._losses.items() if len(losses) == 1 and losses[0] < first]
        return sorted(won, key=lambda point: self._losses[point][0])[:1]

    def _step(self) -> Point:
        size, point = len(self._point), self._point
        while point == self._point:  # at the edge of the space, a step may lead nowhere
            moved = round(size ** self._random.random())
            axes = self._random.permutation(size)[:moved]
            step = np.zeros(size)
            step[axes] = self._random.normal(0, self.radius / math.sqrt(moved), moved)
            point = self._space.clip(tuple(np.add(self._point, step)))
        return point
