"""Optima of loss curves, estimated together: what curves share is learnt from all of them.

Seed by seed (`analysis.optimum`) an optimum has the error of three to five points of one seed. Here
the curves of all sweeps lend each other their shape and their noise; where each has its optimum,
and how low it is there, is its own. With ȳ the mean over n seeds at the points x of one curve,

    ȳ = level + Σ_k c_k b_k(x − m) + noise,   b = (z², sign(z) z², z³, |z|³, z⁴)
    c ~ Normal(mean, diag(sd²))               shapes, alike over curves; sides may differ
    noise ~ Normal(0, σ² D R D / n),  D = exp(h (x − lowest)),  R = a + b exp(−|Δx|) + (1 − a − b) I
    log σ ~ Normal(·, ·)                      seeds shift whole curves, and near points alike

with m and the level free. Means, deviations and noise are learnt by maximal marginal likelihood
under weak priors (empirical Bayes; `analysis.likelihood`); then m is read off a grid, and all else
is Gaussian given m and σ. The deviations of shapes are taken `INFLATION` times as large as learnt,
for hostile shapes: simulated coverage is in docs/statistics.md.

A method of our own. The nearest published relative is the shrinkage of variances over many small
experiments (Smyth 2004), which shares the noise alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.interpolate import Akima1DInterpolator
from scipy.optimize import minimize
from torch import Tensor

from analysis.likelihood import (
    BEYOND,
    SIGMAS,
    Curve,
    Floats,
    basis,
    grouped,
    log_joint,
    noise_covariance,
)

#: By how much the learnt deviations of shapes are too small for curves of other families.
INFLATION = 1.5
_STEP = 0.05
_POWERS = 5
_NUMBERS = (
    *("correlation", "correlation_near", "growth", "log_sigma", "log_sigma_sd"),
    *(f"{name}_{power}" for name in ("mean", "sd") for power in range(1, _POWERS + 1)),
)
"""The columns of a table of `Shared`."""


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
    log_sigma: Floats
    """Logarithm of the noise of one seed at the lowest point, nats (draws,)."""

    def excess(self, log2: ArrayLike) -> Floats:
        """Loss at a value of the hyperparameter above that at the optimum, nats (draws,).

        Outside the fitted points the mean of the measured losses decides, and beyond these it is
        that of the outermost one: a lower bound.

        Args:
            log2: one value, or one a draw.
        """
        at = np.broadcast_to(np.asarray(log2, float), self.optimum.shape)
        inside = (at >= self.curve.x[0] - BEYOND) & (at <= self.curve.x[-1] + BEYOND)
        z = at - self.optimum
        fitted = np.einsum("nk,nk->n", basis(torch.from_numpy(z)).numpy(), self.coefficients)
        x, mean = self.curve.measured
        elsewhere = Akima1DInterpolator(x, mean)(np.clip(at, x[0], x[-1])) - self.loss
        excess: Floats = np.maximum(np.where(inside, fitted, elsewhere), 0.0)
        return excess

    def fitted(self, log2: Floats) -> Floats:
        """The curve itself: the median of the loss at values of the hyperparameter (values,)."""
        z = torch.from_numpy(log2[:, None] - self.optimum)
        shapes = np.einsum("vnk,nk->vn", basis(z).numpy(), self.coefficients)
        losses: Floats = np.median(self.loss + shapes, axis=1)
        return losses


@contextmanager
def _one_thread() -> Iterator[None]:
    """Tensors are small here: more threads of torch would wait more than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@_one_thread()
def learn(curves: Sequence[Curve]) -> Shared:
    """Learn what curves share. They should be different trainings: a copy counts as evidence.

    Takes about five seconds for seventy curves on one core.
    """
    groups = grouped(curves, step=2 * _STEP)
    scale = torch.from_numpy(_PRIOR_SCALE)

    def loss(vector: Floats) -> tuple[float, Floats]:
        free = torch.tensor(vector, requires_grad=True)
        shared = _unpacked(free)
        total = 0.5 * (((free - torch.from_numpy(_PRIOR)) / scale) ** 2).sum()
        for group in groups:
            total = total - torch.logsumexp(log_joint(group, *shared).flatten(1), dim=1).sum()
        total.backward()  # type: ignore[no-untyped-call]
        assert free.grad is not None
        return float(total.detach()), free.grad.numpy().copy()

    found = minimize(loss, _PRIOR, jac=True, method="L-BFGS-B", options=_TO_THE_END)
    a, b, h, mu, tau, mean, sd = (
        value.numpy() for value in _unpacked(torch.from_numpy(np.asarray(found.x)))
    )
    return Shared((float(a), float(b)), float(h), (float(mu), float(tau)), mean, sd)


@_one_thread()
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
    (group,) = grouped([curve], step=_STEP)
    (joint,) = log_joint(group, a, b, h, mu, tau, mean, sd)
    random = np.random.default_rng(seed)
    uniform = random.random((2, draws))
    noise = torch.from_numpy(random.standard_normal((draws, 1 + _POWERS)))
    place, deviation = _inverted(torch.exp(joint - joint.max()).numpy(), *uniform)
    optimum = float(group.grid[0, 0]) + _STEP * place
    log_sigma = float(mu) + float(tau) * np.interp(deviation, range(len(SIGMAS)), SIGMAS.numpy())

    variance = torch.from_numpy(np.exp(2 * log_sigma) / curve.losses.shape[1])
    shape = basis(torch.from_numpy(curve.x - optimum[:, None]))
    design = torch.cat([torch.ones_like(shape[..., :1]), shape], dim=2)
    precision = torch.linalg.inv(noise_covariance(group, a, b, h)[0])
    weighted = design.mT @ precision / variance[:, None, None]
    of_prior = torch.cat([torch.zeros(1), 1 / sd**2])  # the level is free
    inverse = torch.linalg.inv(weighted @ design + torch.diag(of_prior))
    middle = torch.cat([torch.zeros(1), mean])
    pull = weighted @ torch.from_numpy(curve.losses.mean(axis=1)) + of_prior * middle
    spread = torch.linalg.cholesky(inverse)
    found = (inverse @ pull[:, :, None] + spread @ noise[:, :, None]).squeeze(2).numpy()
    return Draws(curve, optimum, found[:, 0], found[:, 1:], log_sigma)


@_one_thread()
def further_seeds(known: Draws, shared: Shared, seeds: int, random: np.random.Generator) -> Floats:
    """Losses that further seeds may have at the points of a curve, of one draw of its truth.

    Returns:
        Nats (points, seeds).
    """
    truth = int(random.integers(len(known.optimum)))
    numbers = (*shared.correlation, shared.growth)
    (group,) = grouped([known.curve], step=_STEP)
    (covariance,) = noise_covariance(group, *(torch.tensor(each) for each in numbers))
    z = torch.from_numpy(known.curve.x - known.optimum[truth])
    mean = known.loss[truth] + basis(z).numpy() @ known.coefficients[truth]
    noise = np.linalg.cholesky(covariance.numpy()) @ random.standard_normal((len(mean), seeds))
    losses: Floats = mean[:, None] + math.exp(known.log_sigma[truth]) * noise
    return losses


def _inverted(weights: Floats, for_place: Floats, for_sigma: Floats) -> tuple[Floats, Floats]:
    """Where uniform numbers fall in a distribution over cells of σ and of the optimum.

    Args:
        weights: of the cells, not normalised (σ, grid).
        for_place: in [0, 1), for the optimum (draws,).
        for_sigma: in [0, 1), for σ given it (draws,).

    Returns:
        Indices with fractions, into the grid and into `SIGMAS`; a cell reaches half an index to
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
