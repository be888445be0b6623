"""The ask/tell interface behind which proposers stand: they choose what is tried next.

A search goes in rounds. A proposer is asked for the trials of a round, and told how they ended
before it is asked again. Its answers depend on nothing but its seed and what it was told, so a
search that was interrupted goes on as it would have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from paper_repro.search.space import Point

ProposerName = Literal["trust_region", "random", "tpe", "cma_es", "gp"]
PROPOSERS: tuple[ProposerName, ...] = get_args(ProposerName)


@dataclass(frozen=True)
class Proposal:
    """A point to try, at seeds of its own if it was tried before."""

    point: Point
    repeat: int = 0
    """How often the point was tried before."""


@dataclass(frozen=True)
class Told:
    """How a trial ended."""

    proposal: Proposal
    loss: float
    """What the search minimises, in nats; infinite for a trial that diverged, failed or cannot
    be."""


class Proposer(Protocol):
    """Chooses what to try."""

    replays: bool
    """Whether it has to be asked again for the rounds that it is told of after an interruption."""

    def ask(self, count: int) -> list[Proposal]:
        """The next `count` trials."""

    def tell(self, trials: Sequence[Told]) -> None:
        """How trials ended: the start first, then each round in the order in which it was asked."""
