"""How far a search is, read from its rounds and the records of its runs.

A search goes in rounds. The first is its start alone; each later one is what its proposer makes of
all rounds before. A round is on disk before its runs are trained, as `search/<name>/0001.json`
beside the records, created exclusively: whoever finds that a round has ended asks for the next, any
number of workers on any machines, and there is one sequence of rounds. Nothing else is kept. The
results of trials are those of the records of their runs.

In the end, incumbents are tried at seeds that the search did not use. `confirm.json` beside the
rounds says which, for readers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paper_repro.config import RunConfig
from paper_repro.errors import ConfigError
from paper_repro.files import create_exclusively, read_json, write_json
from paper_repro.records import Record
from paper_repro.search.methods import make_proposer
from paper_repro.search.proposers import Proposal, Proposer, Told
from paper_repro.search.search import Search, Trial
from paper_repro.search.space import Point
from paper_repro.search.trust_region import TrustRegion

FOLDER = "search"
"""The folder of all searches of a sweep, beside the records of its runs."""
CONFIRM = "confirm.json"


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
        self._confirmations: list[Trial] | None = None

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
        """Whether no trial is left to ask for or to train; incumbents may be left to confirm."""
        return self.round_ended and not self.stuck and not self._goes_on

    @property
    def confirmations(self) -> list[Trial]:
        """Incumbents at the seeds that confirm them, by trials before; none while it goes on."""
        if not self.finished or not self.search.confirm_seeds:
            return []
        if self._confirmations is None:
            count = len(self.trials)
            at = sorted({number for number in self.search.confirm_at if number < count} | {count})
            confirm, incumbent = self.search.confirmation, self._incumbent_after
            self._confirmations = [confirm(incumbent(number)[0], number) for number in at]
            self._read_outcomes(self._confirmations)
        return self._confirmations

    def describe(self, trial: Trial) -> dict[str, Any]:
        """A trial as plain data, as it is written into its round."""
        return {
            "octaves": self.search.space.named(trial.proposal.point),
            "repeat": trial.proposal.repeat,
            "runs": list(trial.runs),
        }

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
            self._tell(self._proposer, trials)
            self._told += 1
            self._asked = max(self._asked, self._told)
        return self._proposer

    @property
    def trust_region(self) -> TrustRegion | None:
        """The proposer if it is ours, which judges points itself and may end the search early."""
        if self.search.proposer != "trust_region":
            return None  # not even built: where only the state is wanted, Optuna need not be there
        assert isinstance(self.proposer, TrustRegion)
        return self.proposer

    @property
    def incumbent(self) -> tuple[Point, float]:
        """The best point and its loss: as the trust region judges it, elsewhere of all trials."""
        return self._incumbent_after(len(self.trials))

    def open_runs(self) -> dict[str, RunConfig]:
        """The runs without an outcome of the last round, or of the confirmations after it.

        Where the search is stuck, all of that round.
        """
        return {
            run_id: config
            for trial in (self.confirmations if self.finished else self.rounds[-1])
            for run_id, config in trial.runs.items()
            if self.stuck or run_id not in trial.outcomes
        }

    def read(self) -> None:
        """Take up the rounds and outcomes that are new on disk.

        Raises:
            ConfigError: the search on disk is another than this one, or a round is damaged.
        """
        self._read_outcomes(self.rounds[-1])
        while (path := self._path(self._written + 1)).exists():
            try:
                self._take_up(read_json(path) or {})
            except (KeyError, TypeError):
                raise ConfigError(
                    f"{path}: is damaged; delete it, and the next launch asks for its trials again"
                ) from None
            self._written += 1
            self._read_outcomes(self.rounds[-1])
        if self._confirmations is not None:
            self._read_outcomes(self._confirmations)

    def advance(self) -> None:
        """Read what is new, and ask for further rounds until one has runs to train.

        Raises:
            ConfigError: the search on disk is another, or the proposer needs what is not installed.
            OSError: a round cannot be written.
        """
        self.read()
        if self._written == 0:
            self._write(self.rounds[0])
        while self.round_ended and not self.stuck and self._goes_on:
            asked = self.proposer.ask(min(self.search.round_size, self.unasked))
            self._asked += 1
            self._write(self._round(asked, first=len(self.trials)))
        if self.confirmations:
            of_each = [{"after": t.number, **self.describe(t)} for t in self.confirmations]
            content = {"trials": of_each}
            if read_json(path := self.directory / CONFIRM) != content:
                write_json(path, content)

    @property
    def _goes_on(self) -> bool:
        ended_early = self.trust_region is not None and self.trust_region.converged
        return self.unasked > 0 and not ended_early

    def _write(self, trials: Sequence[Trial]) -> None:
        """Put a round on disk, unless another worker did, and take up what is there."""
        content: dict[str, Any] = {"trials": [self.describe(trial) for trial in trials]}
        if self._written == 0:
            content = {"search": self.search.definition(), **content}
        self.directory.mkdir(parents=True, exist_ok=True)
        create_exclusively(self._path(self._written + 1), content)
        self.read()

    def _take_up(self, content: Mapping[str, Any]) -> None:
        """Take up a round as it was written; the first, the start, only says what the search is."""
        if self._written == 0:
            self._check_definition(content["search"])
            return
        point = self.search.space.point
        proposals = [Proposal(point(t["octaves"]), t["repeat"]) for t in content["trials"]]
        self.rounds.append(self._round(proposals, first=len(self.trials)))

    def _check_definition(self, written: Mapping[str, Any]) -> None:
        for key, value in self.search.definition().items():
            if written.get(key) != value:
                raise ConfigError(
                    f"search: {self.directory} was begun with another {key}: expected "
                    f"{json.dumps(written.get(key))} (got {json.dumps(value)}); give the sweep "
                    "another name, or take it back"
                )

    def _round(self, proposals: list[Proposal], first: int) -> list[Trial]:
        return [self.search.trial(proposal, n) for n, proposal in enumerate(proposals, first)]

    def _tell(self, proposer: Proposer, trials: Sequence[Trial]) -> None:
        objective = self.search.objective
        proposer.tell([Told(trial.proposal, trial.loss(objective)) for trial in trials])

    def _incumbent_after(self, count: int) -> tuple[Point, float]:
        """The incumbent when the first `count` trials had ended, of whole rounds."""
        if self.search.proposer == "trust_region":
            judge = TrustRegion(self.search.space, self.search.seed)
            for trials in self.rounds:
                if trials[-1].number < count and all(trial.ended for trial in trials):
                    self._tell(judge, trials)
            return judge.incumbent
        losses = [
            (trial.loss(self.search.objective), trial.number)
            for trial in self.trials[:count]
            if trial.ended
        ]
        loss, number = min(losses, default=(math.inf, 0))
        return self.trials[number].proposal.point, loss

    def _read_outcomes(self, trials: Sequence[Trial]) -> None:
        """Read how runs ended; a failed one may be tried again meanwhile."""
        for trial in trials:
            for run_id in trial.runs:
                known = trial.outcomes.get(run_id)
                if known is None or known.status == "failed":
                    status = Record(self._sweep_dir / run_id).status()
                    trial.outcomes.pop(run_id, None)
                    if status is not None:
                        trial.outcomes[run_id] = status

    def _path(self, number: int) -> Path:
        return self.directory / f"{number:04d}.json"
