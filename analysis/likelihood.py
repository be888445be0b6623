"""Loss curves, and their likelihood given what they share, which `analysis.pooled` learns.

With the notation there, level and shape are Gaussian and integrated; what is left is a density over
the optimum m and σ, on a grid, for many curves at once.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from paper_repro.errors import ConfigError

Floats = NDArray[np.float64]

#: Octaves around the lowest point within which points are fitted, and the optimum may lie.
WINDOW = 2.0
#: Octaves beyond the outermost point at which an optimum may still lie.
BEYOND = 1.0
#: Grid of log σ, in deviations of its prior.
SIGMAS = torch.linspace(-2.2, 2.2, 7, dtype=torch.float64)


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
class Group:
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
    basis: Tensor
    """The functions of the shape (curves, grid, points, 5)."""


def grouped(curves: Sequence[Curve], step: float) -> list[Group]:
    """The curves by their number of points, with a grid of optima that are `step` octaves apart."""
    by_points: dict[int, list[Curve]] = defaultdict(list)
    for curve in curves:
        by_points[len(curve.x)].append(curve)
    groups = []
    for some in by_points.values():
        x = torch.tensor(np.array([curve.x for curve in some]))
        lowest = torch.tensor([curve.lowest for curve in some], dtype=torch.float64)
        grid = lowest[:, None] + torch.arange(-WINDOW, WINDOW + step / 2, step, dtype=torch.float64)
        limits = torch.tensor([curve.limit for curve in some], dtype=torch.float64)
        high = torch.minimum(x[:, -1] + BEYOND, limits)
        residuals = [curve.losses - curve.losses.mean(axis=1, keepdims=True) for curve in some]
        groups.append(
            Group(
                x=x - lowest[:, None],
                mean=torch.tensor(np.array([curve.losses.mean(axis=1) for curve in some])),
                scatter=torch.tensor(np.array([each @ each.T for each in residuals])),
                seeds=torch.tensor([curve.losses.shape[1] for curve in some]),
                grid=grid,
                allowed=(grid >= x[:, :1] - BEYOND) & (grid <= high[:, None]),
                basis=basis(x[:, None, :] - grid[:, :, None]),
            )
        )
    return groups


def basis(z: Tensor) -> Tensor:
    """The functions of the shape, at octaves from the optimum (..., 5)."""
    size = z.abs()
    return torch.stack([z**2, z * size, z**3, size**3, z**4], dim=-1)


def noise_covariance(group: Group, a: Tensor, b: Tensor, h: Tensor) -> Tensor:
    """Covariance of a seed's noise over σ² (curves, points, points)."""
    distance = (group.x[:, :, None] - group.x[:, None, :]).abs()
    alone = torch.eye(group.x.shape[1], dtype=torch.float64)
    growth = torch.exp(h * group.x)
    shape = a + b * torch.exp(-distance) + (1 - a - b) * alone
    return shape * growth[:, :, None] * growth[:, None, :]


def log_joint(
    group: Group,
    a: Tensor,
    b: Tensor,
    h: Tensor,
    mu: Tensor,
    tau: Tensor,
    mean: Tensor,
    sd: Tensor,
) -> Tensor:
    """log p(losses, σ, optimum) up to a constant (curves, σ, grid); level and shape integrated."""
    of_one = noise_covariance(group, a, b, h)  # C P P
    factor = torch.linalg.cholesky(of_one)
    log_det = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(-1)  # C
    spread = torch.cholesky_solve(group.scatter, factor).diagonal(dim1=1, dim2=2).sum(-1)  # C
    log_sigma = mu + tau * SIGMAS  # S
    points, seeds = group.x.shape[1], group.seeds.to(torch.float64)

    shapes = torch.einsum("cmpk,k,cmqk->pqcm", group.basis, sd**2, group.basis)  # P P C M
    variance = torch.exp(2 * log_sigma)[None, :] / seeds[:, None]  # C S
    noise = variance * of_one.permute(1, 2, 0)[..., None]  # P P C S
    residual = (group.mean[:, None] - group.basis @ mean).movedim(-1, 0)[:, :, None]  # P C 1 M
    both = torch.stack([residual, torch.ones_like(residual)])
    covariance = shapes[:, :, :, None] + noise[..., None]  # P P C S M
    determinant, squares, product, ones = _eliminated(covariance, both)
    misfit = squares - product**2 / ones

    of_mean = -0.5 * (determinant + ones.log() + misfit)
    of_seeds = (
        -0.5 * (seeds[:, None] - 1) * (2 * points * log_sigma[None] + log_det[:, None])
        - 0.5 * spread[:, None] * torch.exp(-2 * log_sigma)[None]
        - 0.5 * SIGMAS**2
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
