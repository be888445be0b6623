"""Searches for hyperparameters: their space, what proposes trials, and how far they are on disk."""

from paper_repro.search.proposers import PROPOSERS, ProposerName
from paper_repro.search.search import Objective, Search, SearchState, Trial
from paper_repro.search.space import Coordinate, Point, Space, parse_space

__all__ = [
    "PROPOSERS",
    "Coordinate",
    "Objective",
    "Point",
    "ProposerName",
    "Search",
    "SearchState",
    "Space",
    "Trial",
    "parse_space",
]
