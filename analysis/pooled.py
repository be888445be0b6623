"""Optima of loss curves, estimated together: what curves share is learnt from all of them.

Seed by seed (`analysis.optimum`) an optimum has the error of three to five points of one seed. Here
the curves of all sweeps lend each other their shape and their noise; where each has its optimum,
and how low it is there, is its own. With ȳ the mean over n seeds at the points x of one curve,

    ȳ = level + Σ_k c_k b_k(x − m) + noise,   b = (z², sign(z) z², z³, |z|³, z⁴)
    c ~ Normal(mean, diag(sd²))               shapes, alike over curves; sides may differ
    noise ~ Normal(0, σ² D R D / n),  D = exp(h (x − lowest)),  R = a + b exp(−|Δx|) + (1 − a − b) I
    log σ ~ Normal(·, ·)                      seeds shift whole curves, and near points alike

with m and the level free. Means, deviations and noise are learnt by maximal marginal likelihood
under weak priors (empirical Bayes); then m is read off a grid, and all else is Gaussian given m and
σ. The deviations of shapes are taken `INFLATION` times as large as learnt, for hostile shapes:
simulated coverage is in docs/statistics.md.

A method of our own. The nearest published relative is the shrinkage of variances over many small
experiments (Smyth 2004), which shares the noise alone.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import Akima1DInterpolator
from scipy.optimize import minimize
from torch import Tensor

from paper_repro.errors import ConfigError

Floats = NDArray[np.float64]

#: Octaves around the lowest point within which points are fitted, and the optimum may lie.
WINDOW = 2.0
#: By how much the learnt deviations of shapes are too small for curves of other families.
INFLATION = 1.5
#: Octaves beyond the outermost point at which an optimum may still lie.
_BEYOND = 1.0
_STEP = 0.05
_SIGMAS = torch.linspace(-2.2, 2.2, 7, dtype=torch.float64)
"""Grid of log σ, in deviations of its prior."""
_POWERS = 5
_NUMBERS = (
    *("correlation", "correlation_near", "growth", "log_sigma", "log_sigma_sd"),
    *(f"{name}_{power}" for name in ("mean", "sd") for power in range(1, _POWERS + 1)),
)
"""The columns of a table of `Shared`."""


@dataclass(frozen=True, eq=False)
class Curve:
    """One loss curve: the points that are fitted, and all that were measured."""

    x: Floats
    """log2 of the hyperparameter at the fitted points, ascending (points,)."""
    losses: Floats
    """Nats (points, seeds), all finite."""
    measured: tuple[Floats, Floats]
    """Every point with a finite mean loss, and that mean: for losses outside the window."""
    limit: float
    """Where the optimum must lie below: at the next point every seed or some diverged; or +inf."""

    @classmethod
    def of(cls, log2: ArrayLike, losses: ArrayLike, window: float = WINDOW) -> Curve:
        """The curve of a table of losses.

        Args:
            log2: of the hyperparameter, ascending (points,).
            losses: nats (points, seeds); not finite where a run diverged or is missing.
            window: octaves around the lowest point within which points are fitted.

        Raises:
            ConfigError: fewer than three points, or fewer than two seeds, can be fitted.
        """
        x, table = np.asarray(log2, float), np.asarray(losses, float)
        mean = table.mean(axis=1)
        finite = np.isfinite(mean)
        if finite.sum() < 3 or table.shape[1] < 2:
            raise ConfigError(
                f"a curve of {finite.sum()} points and {table.shape[1]} seeds: expected at least "
                "3 and 2"
            )
        lowest = x[int(np.argmin(np.where(finite, mean, np.inf)))]
        diverged = x[~finite & (x > lowest)]
        limit = float(diverged[0]) if len(diverged) else math.inf
        used = finite & (np.abs(x - lowest) <= window + 1e-9)
        return cls(x[used], table[used], (x[finite], mean[finite]), limit)

    @property
    def lowest(self) -> float:
        """The point with the least mean loss."""
        return float(self.x[int(np.argmin(self.losses.mean(axis=1)))])


@dataclass(frozen=True, eq=False)
class Shared:
    """What all curves share, learnt by `learn`."""

    correlation: tuple[float, float]
    """Of the noise of one seed at two points: at any distance (a), and as exp(−octaves) (b)."""
    growth: float
    """h: the noise grows by exp(h) an octave to the right."""
    log_sigma: tuple[float, float]
    """Mean and standard deviation over curves of the logarithm of σ at the lowest point."""
    mean: Floats
    """Of the coefficients (5,)."""
    sd: Floats
    """Over curves, of the coefficients (5,)."""

    def columns(self) -> dict[str, float]:
        """As the columns of a table; `of_columns` reads them back."""
        numbers = [*self.correlation, self.growth, *self.log_sigma, *self.mean, *self.sd]
        return dict(zip(_NUMBERS, map(float, numbers), strict=True))

    @classmethod
    def of_columns(cls, row: Mapping[str, float]) -> Shared:
        """What a row of a table says."""
        a, b, growth, mu, tau, *shape = (float(row[name]) for name in _NUMBERS)
        return cls((a, b), growth, (mu, tau), np.array(shape[:_POWERS]), np.array(shape[_POWERS:]))


@dataclass(frozen=True, eq=False)
class Draws:
    """Draws from what is known of one curve, given all."""

    curve: Curve
    optimum: Floats
    """log2 (draws,)."""
    loss: Floats
    """At the optimum, nats (draws,)."""
    coefficients: Floats
    """(draws, 5)."""

    def excess(self, log2: ArrayLike) -> Floats:
        """Loss at a value of the hyperparameter above that at the optimum, nats (draws,).

        Outside the fitted points the mean of the measured losses decides, and beyond these it is
        that of the outermost one: a lower bound.

        Args:
            log2: one value, or one a draw.
        """
        at = np.broadcast_to(np.asarray(log2, float), self.optimum.shape)
        inside = (at >= self.curve.x[0] - _BEYOND) & (at <= self.curve.x[-1] + _BEYOND)
        z = at - self.optimum
        fitted = np.einsum("nk,nk->n", _powers(torch.from_numpy(z)).numpy(), self.coefficients)
        x, mean = self.curve.measured
        elsewhere = Akima1DInterpolator(x, mean)(np.clip(at, x[0], x[-1])) - self.loss
        excess: Floats = np.maximum(np.where(inside, fitted, elsewhere), 0.0)
        return excess

    def fitted(self, log2: Floats) -> Floats:
        """The curve itself: the median of the loss at values of the hyperparameter (values,)."""
        z = torch.from_numpy(log2[:, None] - self.optimum)
        shapes = np.einsum("vnk,nk->vn", _powers(z).numpy(), self.coefficients)
        losses: Floats = np.median(self.loss + shapes, axis=1)
        return losses


def learn(curves: Sequence[Curve]) -> Shared:
    """Learn what curves share. They should be different trainings: a copy counts as evidence.

    Takes about five seconds for seventy curves on one core.
    """
    groups = _grouped(curves, step=2 * _STEP)
    scale = torch.from_numpy(_PRIOR_SCALE)

    def loss(vector: Floats) -> tuple[float, Floats]:
        free = torch.tensor(vector, requires_grad=True)
        shared = _unpacked(free)
        total = 0.5 * (((free - torch.from_numpy(_PRIOR)) / scale) ** 2).sum()
        for group in groups:
            total = total - torch.logsumexp(_log_joint(group, *shared).flatten(1), dim=1).sum()
        total.backward()  # type: ignore[no-untyped-call]
        assert free.grad is not None
        return float(total.detach()), free.grad.numpy().copy()

    found = minimize(loss, _PRIOR, jac=True, method="L-BFGS-B", options=_TO_THE_END)
    a, b, h, mu, tau, mean, sd = (
        value.numpy() for value in _unpacked(torch.from_numpy(np.asarray(found.x)))
    )
    return Shared((float(a), float(b)), float(h), (float(mu), float(tau)), mean, sd)


def draw(
    curve: Curve, shared: Shared, draws: int = 4000, seed: int = 0, inflation: float = INFLATION
) -> Draws:
    """Draw the optimum, the loss there and the shape of one curve.

    All are continuous in the losses and in what is shared, so that rounding moves draws by as
    little: the optimum and σ come from uniform numbers by inverse distribution functions.
    """
    values = (*shared.correlation, shared.growth, *shared.log_sigma, shared.mean, shared.sd)
    a, b, h, mu, tau, mean, sd = (torch.tensor(value, dtype=torch.float64) for value in values)
    sd = sd * inflation
    (group,) = _grouped([curve], step=_STEP)
    (joint,) = _log_joint(group, a, b, h, mu, tau, mean, sd)
    random = np.random.default_rng(seed)
    uniform = random.random((2, draws))
    noise = random.standard_normal((draws, 1 + _POWERS))
    place, deviation = _inverted(torch.exp(joint - joint.max()).numpy(), *uniform)
    optimum = float(group.grid[0, 0]) + _STEP * place
    log_sigma = float(mu) + float(tau) * np.interp(deviation, range(len(_SIGMAS)), _SIGMAS.numpy())

    variance = np.exp(2 * log_sigma) / curve.losses.shape[1]
    powers = _powers(torch.from_numpy(curve.x - optimum[:, None])).numpy()
    design = np.concatenate([np.ones((*powers.shape[:2], 1)), powers], axis=2)
    precision = np.linalg.inv(_correlation(group, a, b, h)[0].numpy())
    weighted = design.transpose(0, 2, 1) @ precision / variance[:, None, None]
    prior = np.concatenate([[0.0], 1 / sd.numpy() ** 2])  # the level is free
    inverse = np.linalg.inv(weighted @ design + np.diag(prior))
    pull = weighted @ curve.losses.mean(axis=1) + prior * np.concatenate([[0.0], mean.numpy()])
    spread = np.linalg.cholesky(inverse)
    found = np.einsum("nij,nj->ni", inverse, pull) + np.einsum("nij,nj->ni", spread, noise)
    return Draws(curve, optimum, found[:, 0], found[:, 1:])


def _inverted(weights: Floats, for_place: Floats, for_sigma: Floats) -> tuple[Floats, Floats]:
    """Where uniform numbers fall in a distribution over cells of σ and of the optimum.

    Args:
        weights: of the cells, not normalised (σ, grid).
        for_place: in [0, 1), for the optimum (draws,).
        for_sigma: in [0, 1), for σ given it (draws,).

    Returns:
        Indices with fractions, into the grid and into `_SIGMAS`; a cell reaches half an index to
        both sides.
    """
    cells = np.concatenate([[0.0], np.cumsum(weights.sum(axis=0))])
    place = np.interp(for_place, cells / cells[-1], np.arange(len(cells))) - 0.5
    node = np.clip(place, 0.0, weights.shape[1] - 1.0)
    left = np.minimum(node.astype(int), weights.shape[1] - 2)
    given = weights.T[left] + (node - left)[:, None] * (weights.T[left + 1] - weights.T[left])
    levels = np.concatenate([np.zeros((len(node), 1)), np.cumsum(given, axis=1)], axis=1)
    sought = for_sigma * levels[:, -1]
    cell = (levels[:, 1:-1] <= sought[:, None]).sum(axis=1)
    below = np.take_along_axis(levels, cell[:, None], axis=1)[:, 0]
    share = (sought - below) / np.take_along_axis(given, cell[:, None], axis=1)[:, 0]
    return place, cell + share - 0.5


@dataclass(frozen=True, eq=False)
class _Group:
    """Curves with equally many points, as tensors (curves, ...)."""

    x: Tensor
    """Octaves from the lowest point (curves, points)."""
    mean: Tensor
    """Over seeds (curves, points)."""
    scatter: Tensor
    """Residuals of the seeds, multiplied (curves, points, points)."""
    seeds: Tensor
    grid: Tensor
    """Optima that are tried, log2 (curves, grid)."""
    allowed: Tensor
    """Which of them may be (curves, grid)."""
    powers: Tensor
    """The functions of the shape (curves, grid, points, 5)."""


def _grouped(curves: Sequence[Curve], step: float) -> list[_Group]:
    by_points: dict[int, list[Curve]] = defaultdict(list)
    for curve in curves:
        by_points[len(curve.x)].append(curve)
    groups = []
    for some in by_points.values():
        x = torch.tensor(np.array([curve.x for curve in some]))
        lowest = torch.tensor([curve.lowest for curve in some], dtype=torch.float64)
        grid = lowest[:, None] + torch.arange(-WINDOW, WINDOW + step / 2, step, dtype=torch.float64)
        limits = torch.tensor([curve.limit for curve in some], dtype=torch.float64)
        high = torch.minimum(x[:, -1] + _BEYOND, limits)
        residuals = [curve.losses - curve.losses.mean(axis=1, keepdims=True) for curve in some]
        groups.append(
            _Group(
                x=x - lowest[:, None],
                mean=torch.tensor(np.array([curve.losses.mean(axis=1) for curve in some])),
                scatter=torch.tensor(np.array([each @ each.T for each in residuals])),
                seeds=torch.tensor([curve.losses.shape[1] for curve in some]),
                grid=grid,
                allowed=(grid >= x[:, :1] - _BEYOND) & (grid <= high[:, None]),
                powers=_powers(x[:, None, :] - grid[:, :, None]),
            )
        )
    return groups


def _powers(z: Tensor) -> Tensor:
    size = z.abs()
    return torch.stack([z**2, z * size, z**3, size**3, z**4], dim=-1)


def _correlation(group: _Group, a: Tensor, b: Tensor, h: Tensor) -> Tensor:
    """Covariance of a seed's noise over σ² (curves, points, points)."""
    distance = (group.x[:, :, None] - group.x[:, None, :]).abs()
    alone = torch.eye(group.x.shape[1], dtype=torch.float64)
    growth = torch.exp(h * group.x)
    shape = a + b * torch.exp(-distance) + (1 - a - b) * alone
    return shape * growth[:, :, None] * growth[:, None, :]


def _log_joint(
    group: _Group,
    a: Tensor,
    b: Tensor,
    h: Tensor,
    mu: Tensor,
    tau: Tensor,
    mean: Tensor,
    sd: Tensor,
) -> Tensor:
    """log p(losses, σ, optimum) up to a constant (curves, σ, grid); level and shape integrated."""
    correlation = _correlation(group, a, b, h)  # C P P
    factor = torch.linalg.cholesky(correlation)
    log_det = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(-1)  # C
    spread = torch.cholesky_solve(group.scatter, factor).diagonal(dim1=1, dim2=2).sum(-1)  # C
    log_sigma = mu + tau * _SIGMAS  # S
    points, seeds = group.x.shape[1], group.seeds.to(torch.float64)

    shapes = torch.einsum("cmpk,k,cmqk->pqcm", group.powers, sd**2, group.powers)  # P P C M
    variance = torch.exp(2 * log_sigma)[None, :] / seeds[:, None]  # C S
    noise = variance * correlation.permute(1, 2, 0)[..., None]  # P P C S
    residual = (group.mean[:, None] - group.powers @ mean).movedim(-1, 0)[:, :, None]  # P C 1 M
    both = torch.stack([residual, torch.ones_like(residual)])
    covariance = shapes[:, :, :, None] + noise[..., None]  # P P C S M
    determinant, squares, product, ones = _eliminated(covariance, both)
    misfit = squares - product**2 / ones

    of_mean = -0.5 * (determinant + ones.log() + misfit)
    of_seeds = (
        -0.5 * (seeds[:, None] - 1) * (2 * points * log_sigma[None] + log_det[:, None])
        - 0.5 * spread[:, None] * torch.exp(-2 * log_sigma)[None]
        - 0.5 * _SIGMAS**2
    )
    joint: Tensor = of_mean + of_seeds[:, :, None]
    return joint.masked_fill(~group.allowed[:, None], -math.inf)


def _eliminated(matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """log |A|, and aᵀA⁻¹a, aᵀA⁻¹b and bᵀA⁻¹b, of many small positive definite A, by elimination.

    Element by element over all of them, which for five points takes a third of the time of a
    factorisation of each, with its gradient.

    Args:
        matrix: A (points, points, ...).
        right: a and b (2, points, ...), which broadcast.
    """
    size = matrix.shape[0]
    entries = matrix.flatten(0, 1).unbind()
    rows = [list(entries[size * row : size * row + row + 1]) for row in range(size)]
    left, other = (list(each.unbind()) for each in right)
    pivots, products = [], []
    for k in range(size):
        pivot, a, b = rows[k][k], left[k], other[k]
        inverse = 1 / pivot
        pivots.append(pivot)
        products.append((a * a * inverse, a * b * inverse, b * b * inverse))
        for i in range(k + 1, size):
            factor = rows[i][k] * inverse
            left[i] = left[i] - factor * a
            other[i] = other[i] - factor * b
            for j in range(k + 1, i + 1):
                rows[i][j] = rows[i][j] - factor * rows[j][k]
    determinant = torch.stack(pivots).log().sum(0)
    aa, ab, bb = (sum(each) for each in zip(*products, strict=True))
    return determinant, aa, ab, bb


def _unpacked(free: Tensor) -> tuple[Tensor, ...]:
    """a, b, h, mean and deviation of log σ, means and deviations of coefficients."""
    a, b, _ = torch.softmax(torch.cat([free[:2], torch.zeros(1, dtype=free.dtype)]), dim=0)
    mean = torch.cat([free[5:6].exp(), free[6:10] * _MEAN_SCALE])
    return a, b, 0.1 * free[2], free[3], free[4].exp(), mean, free[10:15].exp()


_MEAN_SCALE = torch.tensor([0.004, 0.004, 0.004, 0.001], dtype=torch.float64)
#: So near to the optimum that another processor's rounding is not seen in tables.
_TO_THE_END = {"maxiter": 1000, "ftol": 1e-13, "gtol": 1e-7}
# fmt: off
_PRIOR = np.array([
    -1.0, -0.5, 0.5, math.log(0.025), math.log(0.4),  # noise
    math.log(0.025), 0.0, 0.0, 0.0, 0.0,              # a parabola of 0.025 nats an octave squared
    *np.log([0.006, 0.004, 0.002, 0.002, 0.0007]),    # deviations of shapes over curves
])
"""Where learning starts, and the middle of its weak prior."""
_PRIOR_SCALE = np.array([
    3.0, 3.0, 10.0, 10.0, 1.0,
    3.0, 1.0, 1.0, 1.0, 1.0,
    *[1.0] * 5,
])
# fmt: on
