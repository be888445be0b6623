"""Proposers, on functions whose least value is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from paper_repro.config import RunConfig
from paper_repro.search import PROPOSERS, Point, parse_space
from paper_repro.search import trust_region as ours
from paper_repro.search.methods import make_proposer
from paper_repro.search.proposers import Proposal, Proposer, Told
from paper_repro.search.trust_region import TrustRegion

SPACE = parse_space(
    {
        "hyperparameters.lr": 4,
        "hyperparameters.eps": [-4, 8],
        "hyperparameters.weight_decay": 4,
        "hyperparameters.residual": 4,
    },
    RunConfig(),
)
BEST = (2.0, 5.0, -2.0, -1.0)
ROUND = 4

Loss = Callable[[Proposal], float]


def bowl(proposal: Proposal) -> float:
    return 1 + 0.02 * float(np.sum(np.subtract(proposal.point, BEST) ** 2))


def cliff(proposal: Proposal) -> float:
    """The same where it is not infinite: half of the space is."""
    return math.inf if proposal.point[0] > 1 else bowl(proposal)


def search(proposer: Proposer, loss: Loss, rounds: int) -> list[list[Proposal]]:
    start = Proposal(SPACE.start)
    proposer.tell([Told(start, loss(start))])
    asked = []
    for _ in range(rounds):
        proposals = proposer.ask(ROUND)
        proposer.tell([Told(proposal, loss(proposal)) for proposal in proposals])
        asked.append(proposals)
    return asked


@pytest.mark.parametrize("name", PROPOSERS)
def test_proposers_find_better_points_than_the_start(name):
    proposer = make_proposer(name, SPACE, seed=0)
    asked = search(proposer, bowl, 5 if name == "gp" else 25)
    start = bowl(Proposal(SPACE.start))
    assert min(bowl(proposal) for proposals in asked for proposal in proposals) < 1 + start / 10
    assert all(len(proposals) == ROUND for proposals in asked)
    points = [p.point for proposals in asked for p in proposals if not p.repeat]
    assert len(set(points)) == len(points)  # no round is that of before
    for proposals in asked:
        for proposal in proposals:
            assert SPACE.clip(proposal.point) == proposal.point  # in range and rounded


@pytest.mark.parametrize("name", PROPOSERS)
def test_a_search_that_was_interrupted_goes_on_as_it_would_have(name):
    """From what it was told alone: rounds that another process asked for."""
    rounds = 3 if name == "gp" else 8
    undisturbed = search(make_proposer(name, SPACE, seed=3), cliff, rounds)
    assert undisturbed != search(make_proposer(name, SPACE, seed=4), cliff, rounds)
    resumed = make_proposer(name, SPACE, seed=3)
    resumed.tell([Told(Proposal(SPACE.start), cliff(Proposal(SPACE.start)))])
    for proposals in undisturbed[:-2]:
        if resumed.replays:
            assert resumed.ask(ROUND) == proposals
        resumed.tell([Told(proposal, cliff(proposal)) for proposal in proposals])
    for proposals in undisturbed[-2:]:
        assert resumed.ask(ROUND) == proposals
        resumed.tell([Told(proposal, cliff(proposal)) for proposal in proposals])


@pytest.mark.parametrize("name", PROPOSERS)
def test_rounds_of_another_process_may_differ_from_what_was_asked_here(name):
    proposer = make_proposer(name, SPACE, seed=0)
    search(proposer, bowl, 1)
    proposer.ask(ROUND)
    best = Proposal(BEST)
    proposer.tell([Told(best, bowl(best)), Told(best, bowl(best))])
    assert len(proposer.ask(ROUND)) == ROUND


@pytest.mark.parametrize("name", PROPOSERS)
def test_infinite_losses_do_not_end_a_search(name):
    asked = search(make_proposer(name, SPACE, seed=0), lambda _: math.inf, 3)
    assert len(asked) == 3


def again(proposer: TrustRegion) -> list[Proposal]:
    return [proposal for proposal in proposer.ask(ROUND) if proposal.repeat]


def test_a_lucky_point_is_tried_again_beside_the_incumbent_and_dropped():
    """The winner's curse: it won at the first seeds only."""
    proposer = TrustRegion(SPACE, seed=0)
    lucky, start = (1.0, 0.0, 0.0, 0.0), SPACE.start
    proposer.tell([Told(Proposal(start), 2.0)])
    proposer.tell([Told(Proposal(lucky), 1.9), Told(Proposal((2.0, 0.0, 0.0, 0.0)), 1.95)])
    assert proposer.incumbent == (start, 2.0)
    radius = proposer.radius
    assert again(proposer) == [Proposal(lucky, repeat=1), Proposal(start, repeat=1)]
    proposer.tell([Told(Proposal(lucky, 1), 2.2), Told(Proposal(start, 1), 1.98)])
    assert proposer.incumbent == (start, pytest.approx(1.99))
    assert proposer.radius == pytest.approx(radius * ours.SHRINKAGE)
    assert again(proposer) == []


def test_a_point_that_wins_twice_becomes_the_incumbent_and_steps_grow():
    proposer = TrustRegion(SPACE, seed=0)
    better, start = (1.0, 0.0, 0.0, 0.0), SPACE.start
    proposer.tell([Told(Proposal(start), 2.0)])
    proposer.tell([Told(Proposal(better), 1.9)])
    proposer.tell([Told(Proposal(better, 1), 1.8), Told(Proposal(start, 1), 1.85)])
    assert proposer.incumbent == (better, pytest.approx(1.85))
    assert proposer.radius == pytest.approx(ours.RADIUS * ours.GROWTH)
    # The new incumbent was tried twice already, so a challenger is tried again alone.
    third = (1.0, 1.0, 0.0, 0.0)
    proposer.tell([Told(Proposal(third), 1.85)])
    assert again(proposer) == [Proposal(third, repeat=1)]


def test_steps_have_the_length_of_the_radius_and_move_one_coordinate_to_all():
    proposer = TrustRegion(SPACE, seed=0)
    proposer.tell([Told(Proposal(SPACE.start), 2.0)])
    proposer.radius = 0.5  # well inside the ranges
    steps = np.array([proposal.point for proposal in proposer.ask(2000)])
    assert (steps**2).sum(axis=1).mean() == pytest.approx(0.25, rel=0.1)
    moved = np.bincount((steps != 0).sum(axis=1), minlength=5)
    assert moved[0] == 0
    assert (moved[1:] > 100).all()


def test_a_search_ends_when_its_steps_are_too_small():
    proposer = TrustRegion(SPACE, seed=0)
    proposer.tell([Told(Proposal(SPACE.start), 1.0)])
    worse: Point = (1.0, 0.0, 0.0, 0.0)
    trials = math.ceil(math.log(ours.SMALLEST_RADIUS / ours.RADIUS) / math.log(ours.SHRINKAGE))
    for trial in range(trials):
        assert not proposer.converged, trial
        proposer.tell([Told(Proposal(worse), 1.5)])
    assert proposer.converged
