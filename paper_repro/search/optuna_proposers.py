"""Proposers of the library Optuna: random search, TPE, CMA-ES, and a Gaussian process."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

import optuna
from optuna import Study
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from paper_repro.search.proposers import Proposal, ProposerName, Told
from paper_repro.search.space import Point, Space

#: Makes a sampler from a seed and the start.
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
    """A sampler of Optuna, made anew for each round from the trials before it and no other state.

    Its seed is that of the search plus the number of those trials.
    """

    replays = False

    def __init__(self, name: ProposerName, space: Space, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._name, self._space, self._seed = name, space, seed
        self._axes: dict[str, BaseDistribution] = {
            axis.path: FloatDistribution(axis.low, axis.high) for axis in space.coordinates
        }
        self._history: list[FrozenTrial] = []

    def ask(self, count: int) -> list[Proposal]:
        study = self._study(self._seed + len(self._history))
        study.add_trials(self._history)
        with warnings.catch_warnings():  # the Gaussian process tells that it clips infinite losses
            warnings.simplefilter("ignore", UserWarning)
            return [self._proposal(study.ask(self._axes)) for _ in range(count)]

    def tell(self, trials: Sequence[Told]) -> None:
        self._history += map(self._known, trials)

    def _study(self, seed: int) -> Study:
        with warnings.catch_warnings():
            # x0 will go in Optuna 6; without it CMA-ES would start in the middle of the ranges.
            warnings.simplefilter("ignore", FutureWarning)
            sampler = SAMPLERS[self._name](seed, dict.fromkeys(self._axes, 0.0))
        return optuna.create_study(sampler=sampler)

    def _known(self, told: Told) -> FrozenTrial:
        params = dict(zip(self._axes, told.proposal.point, strict=True))
        return create_trial(params=params, distributions=self._axes, value=told.loss)

    def _proposal(self, trial: Trial) -> Proposal:
        return Proposal(self._point(trial.params))

    def _point(self, params: dict[str, float]) -> Point:
        return self._space.clip(tuple(params[path] for path in self._axes))


class CmaEsProposer(OptunaProposer):
    """CMA-ES, which keeps a state of its own in the trials that it was asked for."""

    replays = True

    def __init__(self, name: ProposerName, space: Space, seed: int) -> None:
        super().__init__(name, space, seed)
        self._only_study = self._study(seed)
        self._asked: list[Trial] = []

    def ask(self, count: int) -> list[Proposal]:
        self._asked = [self._only_study.ask(self._axes) for _ in range(count)]
        return [self._proposal(trial) for trial in self._asked]

    def tell(self, trials: Sequence[Told]) -> None:
        super().tell(trials)
        asked, self._asked = self._asked, []
        for trial, told in zip_longest(asked, trials):
            if trial and told and self._proposal(trial) == told.proposal:
                self._only_study.tell(trial, told.loss)
                continue
            # Not what was asked for here: the start, or a round by another version of Optuna.
            if trial:
                self._only_study.tell(trial, state=TrialState.FAIL)
            if told:
                self._only_study.add_trial(self._known(told))
