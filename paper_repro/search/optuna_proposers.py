"""Proposers of the library Optuna: random search, TPE, CMA-ES, and a Gaussian process."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.trial import Trial, TrialState, create_trial

from paper_repro.search.proposers import Proposal, ProposerName, Told
from paper_repro.search.space import Point, Space

Sampler = Callable[[int, dict[str, Any]], BaseSampler]

#: Optuna's own defaults, but for what a round asks for: several points before the first is told.
SAMPLERS: dict[ProposerName, Sampler] = {
    "random": lambda seed, start: optuna.samplers.RandomSampler(seed=seed),
    "tpe": lambda seed, start: optuna.samplers.TPESampler(
        seed=seed, multivariate=True, constant_liar=True
    ),
    "cma_es": lambda seed, start: optuna.samplers.CmaEsSampler(seed=seed, x0=start),
    "gp": lambda seed, start: optuna.samplers.GPSampler(seed=seed),
}


class OptunaProposer:
    """A study of Optuna, asked and told.

    The sampler is made anew for each round, seeded by the number of trials before it, so that it
    needs no history but theirs. CMA-ES alone keeps its own, in the trials that it was asked for.
    """

    radius = None
    converged = False

    def __init__(self, name: ProposerName, space: Space, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.replays = name == "cma_es"
        self._name, self._space, self._seed = name, space, seed
        self._axes: dict[str, BaseDistribution] = {
            axis.path: FloatDistribution(axis.low, axis.high) for axis in space.coordinates
        }
        self._study = optuna.create_study(sampler=self._sampler())
        self._asked: list[Trial] = []

    @property
    def incumbent(self) -> tuple[Point, float]:
        best = self._study.best_trial
        assert best.value is not None
        return self._point(best.params), best.value

    def ask(self, count: int) -> list[Proposal]:
        if not self.replays:
            self._study.sampler = self._sampler(len(self._study.trials))
        self._asked = [self._study.ask(self._axes) for _ in range(count)]
        return [Proposal(self._point(trial.params)) for trial in self._asked]

    def tell(self, trials: Sequence[Told]) -> None:
        asked, self._asked = self._asked, []
        for trial, told in zip_longest(asked, trials):
            if trial and told and self._point(trial.params) == told.proposal.point:
                self._study.tell(trial, told.loss)
                continue
            # Not what was asked for here: the start, or a round that another process asked for.
            if trial:
                self._study.tell(trial, state=TrialState.FAIL)
            if told:
                params = dict(zip(self._axes, told.proposal.point, strict=True))
                known = create_trial(params=params, distributions=self._axes, value=told.loss)
                self._study.add_trial(known)

    def _sampler(self, before: int = 0) -> BaseSampler:
        with warnings.catch_warnings():
            # x0 will go in Optuna 6; without it CMA-ES would start in the middle of the ranges.
            warnings.simplefilter("ignore", FutureWarning)
            return SAMPLERS[self._name](self._seed + before, dict.fromkeys(self._axes, 0.0))

    def _point(self, params: dict[str, float]) -> Point:
        return self._space.clip(tuple(params[path] for path in self._axes))
