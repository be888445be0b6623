"""How the best learning rate follows batch size, tokens and size, below and above a boundary.

log2 η* is the lesser of two planes in log2 of (size, tokens, batch). Where they meet is the
boundary, so it is fitted and not assumed. Least squares: cells are assigned to the plane that is
lower there, the planes fitted to their cells, and so on until no cell changes its side (the
partition algorithm for convex piecewise-linear fits of Magnani and Boyd, 2009), from several
starts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.optimum import Floats
from analysis.public_runs.cells import Cell
from paper_repro.errors import ConfigError
from paper_repro.statistics import CONFIDENCE, Interval, over_seeds

Bools = NDArray[np.bool_]
Indices = NDArray[np.intp]
Exponents = dict[str, float]
"""Exponents and what follows from them, by name."""

#: Tokens at which the level of a boundary is stated.
BOUNDARY_TOKENS = 20e9
#: The best batch size of arXiv 2503.04715 (tokens): factor and exponent of the training tokens.
AUTHORS_BATCH = (0.58, 0.571)

_RESAMPLES = 1000
_FEWEST = 8
"""Cells on either side of a boundary."""
_STARTS = (0.25, 0.4, 0.55, 0.7)
_ROUNDS = 25


@dataclass(frozen=True, eq=False)
class Grid:
    """The bracketed cells of a data set as numbers."""

    design: Floats
    """1 and log2 of size, tokens and batch, less their means (cells, 4)."""
    optima: Floats
    """log2 η* (cells,)."""
    centre: Floats
    """The means (3,)."""
    groups: Indices
    """Which (model, tokens) a cell is of (cells,)."""

    @classmethod
    def of(cls, cells: Sequence[Cell]) -> Grid:
        """Those of the cells whose optimum is bracketed.

        Raises:
            ConfigError: these are too few for two planes.
        """
        used = [cell for cell in cells if cell.curve.bracketed]
        if len(used) < 2 * _FEWEST:
            raise ConfigError(
                f"{len(used)} of {len(cells)} cells have a bracketed optimum: "
                f"expected at least {2 * _FEWEST}"
            )
        numbers = np.log2([[cell.size, cell.tokens, cell.batch] for cell in used])
        centre = numbers.mean(axis=0)
        names = sorted({cell.group for cell in used})
        groups = np.array([names.index(cell.group) for cell in used])
        design = np.column_stack([np.ones(len(used)), numbers - centre])
        return cls(design, np.array([cell.curve.log2 for cell in used]), centre, groups)

    def __len__(self) -> int:
        return len(self.optima)

    def take(self, rows: Indices | Bools) -> Grid:
        """Some of the cells, or some several times."""
        return Grid(self.design[rows], self.optima[rows], self.centre, self.groups[rows])

    def at(self, cells: Sequence[Cell]) -> Floats:
        """The design of other cells (cells, 4)."""
        numbers = np.log2([[cell.size, cell.tokens, cell.batch] for cell in cells])
        return np.column_stack([np.ones(len(cells)), numbers - self.centre])

    @property
    def authors_side(self) -> Bools:
        """Which cells are at or below the authors' best batch size."""
        factor, exponent = AUTHORS_BATCH
        tokens, batch = (self.design[:, k] + self.centre[k - 1] for k in (2, 3))
        side: Bools = batch <= math.log2(factor) + exponent * tokens + 1e-9
        return side


def plane(grid: Grid) -> Floats:
    """Level and exponents of size, tokens and batch by least squares (4,)."""
    return np.asarray(np.linalg.lstsq(grid.design, grid.optima, rcond=None)[0], np.float64)


@dataclass(frozen=True, eq=False)
class TwoPlanes:
    """Level and exponents of size, tokens and batch on either side (4,)."""

    below: Floats
    above: Floats

    def __call__(self, design: Floats) -> Floats:
        lesser: Floats = np.minimum(design @ self.below, design @ self.above)
        return lesser

    def below_boundary(self, design: Floats) -> Bools:
        side: Bools = design @ self.below < design @ self.above
        return side


def fit_two_planes(grid: Grid, near: TwoPlanes | None = None) -> TwoPlanes:
    """The lesser of two planes by least squares.

    Args:
        grid: at least twice `_FEWEST` cells.
        near: what is near the answer, to start from, for resamples.
    """
    drift = grid.design[:, 3] - AUTHORS_BATCH[1] * grid.design[:, 2]
    quantiles = _STARTS if near is None else _STARTS[1:3]
    starts = [drift <= np.quantile(drift, share) for share in quantiles]
    if near is not None:
        starts.insert(0, near.below_boundary(grid.design))
    best, least = None, math.inf
    for side in starts:
        for _ in range(_ROUNDS):
            if min(side.sum(), (~side).sum()) < _FEWEST:
                break
            planes = sorted((plane(grid.take(side)), plane(grid.take(~side))), key=lambda p: -p[3])
            found = TwoPlanes(*planes)
            error = float(((found(grid.design) - grid.optima) ** 2).sum())
            if error < least:
                best, least = found, error
            after = found.below_boundary(grid.design)
            if (after == side).all():
                break
            side = after
    if best is None:  # every start left one side almost empty
        flat = plane(grid)
        return TwoPlanes(flat, flat)
    return best


def plane_exponents(found: Floats, prefix: str) -> Exponents:
    """The exponents of a plane by name; `iso_steps`: batch and tokens grow together."""
    _, size, tokens, batch = (float(each) for each in found)
    named = {"batch": batch, "tokens": tokens, "size": size, "iso_steps": batch + tokens}
    return {f"{prefix}.{name}": value for name, value in named.items()}


def fitted_exponents(grid: Grid, near: TwoPlanes | None = None) -> Exponents:
    """Exponents on either side of the fitted boundary, and those of the boundary itself.

    `boundary.batch` is log2 of its batch size at `BOUNDARY_TOKENS` and the mean size.
    """
    found = fit_two_planes(grid, near)
    change = found.below - found.above
    with np.errstate(divide="ignore", invalid="ignore"):
        level, size, tokens = -change[:3] / change[3]
    at = level + tokens * (math.log2(BOUNDARY_TOKENS) - grid.centre[1]) + grid.centre[2]
    return {
        **plane_exponents(found.below, "below"),
        **plane_exponents(found.above, "above"),
        "boundary.batch": float(at),
        "boundary.tokens": float(tokens),
        "boundary.size": float(size),
        "bend.batch": float(change[3]),
    }


def authors_exponents(grid: Grid) -> Exponents:
    """A plane on either side of the authors' best batch size."""
    side = grid.authors_side
    return {
        **plane_exponents(plane(grid.take(side)), "below"),
        **plane_exponents(plane(grid.take(~side)), "above"),
    }


def plain_exponents(grid: Grid) -> Exponents:
    """One plane through all cells."""
    return plane_exponents(plane(grid), "all")


def with_intervals(
    grid: Grid, estimate: Callable[[Grid], Mapping[str, float]], resamples: int = _RESAMPLES
) -> dict[str, Interval]:
    """Estimates with the intervals of a bootstrap over groups; see docs/public_runs.md.

    Deviations of resamples are as much larger as groups are few; the same grid gives the same
    numbers.
    """
    value = estimate(grid)
    names = np.unique(grid.groups)
    members = [np.flatnonzero(grid.groups == name) for name in names]
    random = np.random.default_rng(0)
    drawn: dict[str, list[float]] = {name: [] for name in value}
    for _ in range(resamples):
        chosen = random.integers(len(members), size=len(members))
        for name, each in estimate(grid.take(np.concatenate([members[k] for k in chosen]))).items():
            drawn[name].append(each)
    return {name: inflated(value[name], drawn[name], len(members)) for name in value}


def inflated(value: float, drawn: Sequence[float] | Floats, groups: int) -> Interval:
    """An estimate with the quantiles of its resamples, further out as groups are few."""
    known = np.asarray(drawn, float)
    known = known[np.isfinite(known)]
    if groups < 3 or len(known) < 20:
        return Interval(value, math.nan, math.nan)
    tail = (1 + CONFIDENCE) / 2
    factor = math.sqrt(groups / (groups - 1)) * stats.t.ppf(tail, groups - 1) / stats.norm.ppf(tail)
    low, high = np.quantile(known - value, [1 - tail, tail]) * factor
    return Interval(value, value + float(low), value + float(high))


def held_out_errors(grid: Grid) -> dict[str, Floats]:
    """Mean squared error of predicting the optima of each left-out group, by model (groups,).

    `one plane`, `two planes`, and `quadratic`: one plane with squares and the product of tokens and
    batch.
    """
    errors: dict[str, list[float]] = {"one plane": [], "two planes": [], "quadratic": []}
    for group in np.unique(grid.groups):
        rest, left = grid.take(grid.groups != group), grid.take(grid.groups == group)
        bent = np.linalg.lstsq(_quadratic(rest.design), rest.optima, rcond=None)[0]
        predicted = {
            "one plane": left.design @ plane(rest),
            "two planes": fit_two_planes(rest)(left.design),
            "quadratic": _quadratic(left.design) @ bent,
        }
        for name, each in predicted.items():
            errors[name].append(float(((each - left.optima) ** 2).mean()))
    return {name: np.array(each) for name, each in errors.items()}


def _quadratic(design: Floats) -> Floats:
    tokens, batch = design[:, 2], design[:, 3]
    return np.column_stack([design, tokens**2, batch**2, tokens * batch])


def gains(errors: Mapping[str, Floats]) -> dict[str, Interval]:
    """By how much two planes err less than the other models (octaves squared), over groups."""
    ours = errors["two planes"]
    others = {name: each for name, each in errors.items() if name != "two planes"}
    return {name: over_seeds((each - ours).tolist()) for name, each in others.items()}
