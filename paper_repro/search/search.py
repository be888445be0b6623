"""A search, and its trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any, Literal

from paper_repro.config import RunConfig
from paper_repro.errors import ConfigError
from paper_repro.records import Status
from paper_repro.search.proposers import Proposal, ProposerName
from paper_repro.search.space import Point, Space

Objective = Literal["mean", "worst"]


@dataclass(frozen=True)
class Search:
    """One search."""

    space: Space
    proposer: ProposerName
    seed: int
    """Of the proposer: searches that differ in it are independent."""
    trials: int
    """How many points are tried, the start and repeats included."""
    round_size: int
    """Trials whose runs train side by side."""
    seeds: int
    """Runs of a trial, which differ in their seed."""
    objective: Objective
    """What is minimised, of the final validation losses of the runs of a trial."""
    confirm_seeds: tuple[int, ...] = ()
    """Seeds at which the incumbent is tried in the end. Those of the search chose it, so that its
    loss at them is too low."""
    confirm_at: tuple[int, ...] = ()
    """Numbers of trials whose incumbents are tried so too, beside that of the end."""

    @property
    def name(self) -> str:
        """What tells it from the other searches of a sweep."""
        return f"{self.proposer}-{self.seed}"

    def trial(self, proposal: Proposal, number: int) -> Trial:
        """A trial that was proposed, at seeds from 0; repeats of a point have the next ones."""
        first = proposal.repeat * self.seeds
        return self._trial(proposal, number, range(first, first + self.seeds))

    def confirmation(self, incumbent: Point, trials: int) -> Trial:
        """The incumbent after a number of trials, at the seeds that confirm it."""
        return self._trial(Proposal(incumbent), trials, self.confirm_seeds)

    def _trial(self, proposal: Proposal, number: int, seeds: Sequence[int]) -> Trial:
        try:
            configs = [self.space.config(proposal.point, seed) for seed in seeds]
        except ConfigError as error:
            return Trial(number, proposal, {}, str(error))
        return Trial(number, proposal, {config.run_id: config for config in configs})

    def definition(self) -> dict[str, Any]:
        """What must not change while a search is on disk; it may be given more trials."""
        return {
            "base": self.space.base.run_id,
            "space": {axis.path: [axis.low, axis.high] for axis in self.space.coordinates},
            **{"round": self.round_size, "seeds": self.seeds, "objective": self.objective},
        }


@dataclass
class Trial:
    """A trial, and what is known of its runs."""

    number: int
    """Its place in the search, from 0, the start; of a confirmation, the trials before it."""
    proposal: Proposal
    runs: Mapping[str, RunConfig]
    problem: str | None = None
    """Why there are no runs: a number leaves its range at this point."""
    outcomes: dict[str, Status] = field(default_factory=dict)
    """Of the runs that have ended, by id."""

    @property
    def ended(self) -> bool:
        return len(self.outcomes) == len(self.runs)

    @property
    def losses(self) -> list[float]:
        """Final validation losses of the runs that have ended, infinite for one without (nats)."""
        losses = [self.outcomes[run_id].val_loss for run_id in self.runs if run_id in self.outcomes]
        return [math.inf if loss is None else loss for loss in losses]

    @property
    def sd(self) -> float | None:
        """Standard deviation of the losses over seeds; None for one, or where one is infinite."""
        losses = self.losses
        return stdev(losses) if len(losses) > 1 and all(map(math.isfinite, losses)) else None

    def loss(self, objective: Objective) -> float:
        """What the search minimises; infinite where a run diverged or failed, or cannot be."""
        losses = self.losses
        if not losses:
            return math.inf
        return fmean(losses) if objective == "mean" else max(losses)
