"""Searches for hyperparameters: their space, what proposes trials, and how far they are on disk."""

from paper_repro.search.blend import blend, weights_of
from paper_repro.search.found import tuned, write_found
from paper_repro.search.methods import check_installed
from paper_repro.search.proposers import PROPOSERS, ProposerName
from paper_repro.search.search import Objective, Search, Trial
from paper_repro.search.space import (
    DEPTH_PATH,
    MODULES_PATH,
    Coordinate,
    Point,
    Space,
    parse_space,
)
from paper_repro.search.state import CONFIRM, FOLDER, SearchState

__all__ = [
    "CONFIRM",
    "DEPTH_PATH",
    "FOLDER",
    "MODULES_PATH",
    "PROPOSERS",
    "Coordinate",
    "Objective",
    "Point",
    "ProposerName",
    "Search",
    "SearchState",
    "Space",
    "Trial",
    "blend",
    "check_installed",
    "parse_space",
    "tuned",
    "weights_of",
    "write_found",
]
