"""A search: what it is, and how far it is, read from its rounds and the records of its runs.

A search goes in rounds. The first is its start alone; each later one is what its proposer makes of
all rounds before. A round is on disk before its runs are trained, as `search/<name>/0001.json`
beside the records, created exclusively: whoever finds that a round has ended asks for the next, any
number of workers on any machines, and there is one sequence of rounds. Nothing else is kept. The
results of trials are those of the records of their runs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from paper_repro.config import RunConfig
from paper_repro.errors import ConfigError
from paper_repro.files import create_exclusively, read_json
from paper_repro.records import Record, Status
from paper_repro.search.proposers import Proposal, Proposer, ProposerName, Told, make_proposer
from paper_repro.search.space import Point, Space

Objective = Literal["mean", "worst"]

FOLDER = "search"
"""The folder of all searches of a sweep, beside the records of its runs."""


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

    @property
    def name(self) -> str:
        """What tells it from the other searches of a sweep."""
        return f"{self.proposer}-{self.seed}"

    def runs(self, proposal: Proposal) -> dict[str, RunConfig]:
        """The runs of a trial, by id.

        Raises:
            ConfigError: there are none: a beta or a fraction leaves its range at this point.
        """
        first = proposal.repeat * self.seeds
        seeds = range(first, first + self.seeds)
        configs = [self.space.config(proposal.point, seed) for seed in seeds]
        return {config.run_id: config for config in configs}

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
    """Its place in the search, from 0, the start."""
    proposal: Proposal
    runs: Mapping[str, RunConfig]
    problem: str | None = None
    """Why there are no runs: a number leaves its range at this point."""
    outcomes: dict[str, Status] = field(default_factory=dict)
    """Of the runs that have ended, by id."""

    @property
    def ended(self) -> bool:
        return len(self.outcomes) == len(self.runs)

    def loss(self, objective: Objective) -> float:
        """What the search minimises; infinite where a run diverged or failed, or cannot be."""
        losses = [
            math.inf if status.val_loss is None else status.val_loss
            for status in self.outcomes.values()
        ]
        if not losses:
            return math.inf
        return fmean(losses) if objective == "mean" else max(losses)


class SearchState:
    """A search as it is on disk. `read` and `advance` bring it up to date."""

    def __init__(self, search: Search, sweep_dir: Path) -> None:
        self.search, self._sweep_dir = search, sweep_dir
        self.directory = sweep_dir / FOLDER / search.name
        self.rounds = [self._round([Proposal(search.space.start)], first=0)]
        self._written = 0
        """How many of the rounds are on disk."""
        self._proposer: Proposer | None = None
        self._asked = self._told = 0
        """How many rounds it was asked for (the start, for which nobody asks, counts) and told."""

    @property
    def trials(self) -> list[Trial]:
        """All trials that were asked for, in order."""
        return [trial for trials in self.rounds for trial in trials]

    @property
    def unasked(self) -> int:
        """How many trials are still to be asked for, at most."""
        return max(0, self.search.trials - sum(map(len, self.rounds)))

    @property
    def round_ended(self) -> bool:
        """Whether every run of the last round has an outcome."""
        return all(trial.ended for trial in self.rounds[-1])

    @property
    def stuck(self) -> bool:
        """Whether every run of the last round failed: an error that is not of one point alone.

        The search waits until they are tried again.
        """
        outcomes = [status for trial in self.rounds[-1] for status in trial.outcomes.values()]
        return (
            self.round_ended
            and bool(outcomes)
            and all(status.status == "failed" for status in outcomes)
        )

    @property
    def finished(self) -> bool:
        """Whether nothing is left to ask for or to train."""
        return self.round_ended and not self.stuck and not self._goes_on

    @property
    def proposer(self) -> Proposer:
        """The proposer, told of every round that has ended.

        Raises:
            ConfigError: it needs what is not installed.
        """
        search = self.search
        if self._proposer is None:
            self._proposer = make_proposer(search.proposer, search.space, search.seed)
            self._asked = 1
        while self._told < len(self.rounds) and all(t.ended for t in self.rounds[self._told]):
            trials = self.rounds[self._told]
            if self._told == self._asked and self._proposer.replays:
                self._proposer.ask(len(trials))
            told = [Told(trial.proposal, trial.loss(search.objective)) for trial in trials]
            self._proposer.tell(told)
            self._told += 1
            self._asked = max(self._asked, self._told)
        return self._proposer

    @property
    def incumbent(self) -> tuple[Point, float]:
        """The best point and its loss: as the trust region judges it, elsewhere of all trials."""
        if self.search.proposer == "trust_region":
            return self.proposer.incumbent
        ended = [trial for trial in self.trials if trial.ended]
        losses = [trial.loss(self.search.objective) for trial in ended]
        if not losses:
            return self.search.space.start, math.inf
        least = min(losses)
        return ended[losses.index(least)].proposal.point, least

    @property
    def radius(self) -> float | None:
        """The size of the next steps in octaves, where the proposer has one."""
        return self.proposer.radius if self.search.proposer == "trust_region" else None

    def open_runs(self) -> dict[str, RunConfig]:
        """The runs of the last round that have no outcome; where it is stuck, all of them."""
        return {
            run_id: config
            for trial in self.rounds[-1]
            for run_id, config in trial.runs.items()
            if self.stuck or run_id not in trial.outcomes
        }

    def read(self) -> None:
        """Take up the rounds and outcomes that are new on disk.

        Raises:
            ConfigError: the search on disk is another than this one.
        """
        self._read_outcomes()
        while (content := read_json(self._path(self._written + 1))) is not None:
            if self._written == 0:
                self._check_definition(content["search"])
            else:
                point = self.search.space.point
                proposals = [Proposal(point(t["octaves"]), t["repeat"]) for t in content["trials"]]
                self.rounds.append(self._round(proposals, first=len(self.trials)))
            self._written += 1
            self._read_outcomes()

    def advance(self) -> None:
        """Read what is new, and ask for further rounds until one has runs to train.

        Raises:
            ConfigError: the search on disk is another, or the proposer needs what is not installed.
            OSError: a round cannot be written.
        """
        self.read()
        if self._written == 0:
            self._write([trial.proposal for trial in self.rounds[0]])
        while self.round_ended and not self.stuck and self._goes_on:
            asked = self.proposer.ask(min(self.search.round_size, self.unasked))
            self._asked += 1
            self._write(asked)

    @property
    def _goes_on(self) -> bool:
        # Only ours ends early, and is cheap to build where only the state is wanted.
        ended_early = self.search.proposer == "trust_region" and self.proposer.converged
        return self.unasked > 0 and not ended_early

    def _write(self, proposals: list[Proposal]) -> None:
        """Put a round on disk, unless another worker did, and take up what is there."""
        content: dict[str, Any] = {
            "trials": [
                {"octaves": self.search.space.named(proposal.point), "repeat": proposal.repeat}
                for proposal in proposals
            ]
        }
        if self._written == 0:
            content = {"search": self.search.definition(), **content}
        self.directory.mkdir(parents=True, exist_ok=True)
        create_exclusively(self._path(self._written + 1), content)
        self.read()

    def _check_definition(self, written: Mapping[str, Any]) -> None:
        for key, value in self.search.definition().items():
            if written.get(key) != value:
                raise ConfigError(
                    f"search: {self.directory} was begun with another {key}: expected "
                    f"{json.dumps(written.get(key))} (got {json.dumps(value)}); give the sweep "
                    "another name, or take it back"
                )

    def _round(self, proposals: list[Proposal], first: int) -> list[Trial]:
        trials = []
        for number, proposal in enumerate(proposals, first):
            try:
                trials.append(Trial(number, proposal, self.search.runs(proposal)))
            except ConfigError as error:
                trials.append(Trial(number, proposal, {}, str(error)))
        return trials

    def _read_outcomes(self) -> None:
        """Of the last round: all others have ended. A failed run may be tried again meanwhile."""
        for trial in self.rounds[-1]:
            for run_id in trial.runs:
                known = trial.outcomes.get(run_id)
                if known is None or known.status == "failed":
                    status = Record(self._sweep_dir / run_id).status()
                    trial.outcomes.pop(run_id, None)
                    if status is not None:
                        trial.outcomes[run_id] = status

    def _path(self, number: int) -> Path:
        return self.directory / f"{number:04d}.json"
