"""Two curves of the same seeds, drawn together: what two arms differ by.

A seed is the initial weights and the order of the batches, which arms at one scale share, so that
their noise is alike. Each curve is modelled as in `analysis.pooled`; the noise of a seed at a point
of one and a point of the other has the covariance

    σ₁ σ₂ D D (α a + β (b exp(−|Δx|) + (1 − a − b) I)),     x from the lowest point of its curve,

with correlations α of shifts and β of what is local that are the pair's own, uniform over (−1, 1)
before the losses are seen: of some pairs nearly all noise is common, of some none
(docs/statistics.md). Draws are by importance: deviations and correlations from what the scatter
over seeds says, optima from each curve by itself, resampled by the evidence of the means of both;
levels and shapes are Gaussian given these.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from analysis.pooled import INFLATION, POWERS, STEP, Curve, Draws, Floats, Shared, draw, powers
from analysis.pooled_transfer import curve_of
from analysis.transfer import ScaleFit
from paper_repro.errors import ConfigError

#: Grids of log σ, in deviations of its prior, and of correlations, even in Fisher's z.
_SIGMAS = np.linspace(-2.2, 2.2, 9)
_FISHER = np.linspace(-1.6, 3.4, 11)
#: Candidates for each draw.
_CANDIDATES = 2


def draw_pair(
    one: Curve, other: Curve, shared: Shared, draws: int = 4000, inflation: float = INFLATION
) -> tuple[Draws, Draws]:
    """Draw the optima, the losses there and the shapes of two curves together.

    Curves with equal losses are one training, and have equal draws.

    Args:
        one, other: losses of the same seeds, in the same order.

    Raises:
        ConfigError: they have not equally many seeds.
    """
    if one.losses.shape[1] != other.losses.shape[1]:
        raise ConfigError(
            f"curves of {one.losses.shape[1]} and {other.losses.shape[1]} seeds cannot be paired"
        )
    pair = (one, other)
    bytes_of = [np.ascontiguousarray(curve.losses).tobytes() for curve in pair]
    if bytes_of[0] == bytes_of[1]:
        seed = zlib.crc32(bytes_of[0])
        first, second = (draw(each, shared, draws, seed, inflation) for each in pair)
        return first, second
    random = np.random.default_rng(zlib.crc32(b"".join(bytes_of)))
    seeds, count = one.losses.shape[1], _CANDIDATES * draws
    sd = shared.sd * inflation

    deviations, noise = _noise(pair, shared)
    chosen = random.choice(len(noise), count, p=_of_scatter(pair, noise))
    places, proposed = [], np.zeros(count)
    for arm, curve in enumerate(pair):
        grid, log_each = _optima(curve, np.unique(deviations), shared, sd)
        level = np.searchsorted(np.unique(deviations), deviations[chosen, arm])
        below = np.cumsum(np.exp(log_each), axis=1)[level]
        place = (below < random.uniform(0, below[:, -1])[:, None]).sum(axis=1)
        places.append(grid[place])
        proposed += log_each[level, place] - np.log(below[:, -1])
    optima = np.stack(places)
    log_weights = _evidence(pair, optima, noise[chosen] / seeds, shared.mean, sd) - proposed
    weights = np.exp(log_weights - log_weights.max())
    kept = random.choice(count, draws, p=weights / weights.sum())

    found = _shapes(pair, optima[:, kept], noise[chosen[kept]] / seeds, shared.mean, sd, random)
    first, second = (
        Draws(
            curve,
            optima[arm, kept] + random.uniform(-0.5, 0.5, draws) * STEP,
            found[:, arm * (1 + POWERS)],
            found[:, arm * (1 + POWERS) + 1 : (arm + 1) * (1 + POWERS)],
        )
        for arm, curve in enumerate(pair)
    )
    return first, second


def draw_fits(
    one: ScaleFit, other: ScaleFit, shared: Shared, inflation: float
) -> tuple[Draws, Draws] | None:
    """The curves of two arms at one scale, drawn together, of the seeds with every run of both.

    None if too little is there.
    """
    complete = [set(fit.curves.dropna(axis="columns")) for fit in (one, other)]
    seeds = sorted(set.intersection(*complete))
    if len(seeds) < 2:
        return None
    first, second = (curve_of(replace(fit, curves=fit.curves[seeds])) for fit in (one, other))
    return first and second and draw_pair(first, second, shared, inflation=inflation)


def _noise(pair: Sequence[Curve], shared: Shared) -> tuple[Floats, Floats]:
    """Of every cell of the grid of σ₁, σ₂, α and β: σ₁ and σ₂ (cells, 2), a seed's covariance."""
    mu, tau = shared.log_sigma
    sigmas, correlations = np.exp(mu + tau * _SIGMAS), np.tanh(_FISHER)
    first, second, shift, local = (
        each.ravel()
        for each in np.meshgrid(sigmas, sigmas, correlations, correlations, indexing="ij")
    )
    deviations = np.stack([first, second], axis=1)
    arm = np.repeat([0, 1], [len(curve.x) for curve in pair])
    apart = arm[:, None] != arm
    parts = shared.parts(np.concatenate([curve.x - curve.lowest for curve in pair]))
    noise = sum(
        part * np.where(apart, correlation[:, None, None], 1)
        for part, correlation in zip(parts, (shift, local), strict=True)
    )
    return deviations, noise * deviations[:, arm, None] * deviations[:, None, arm]


def _of_scatter(pair: Sequence[Curve], noise: Floats) -> Floats:
    """How probable the cells are by the scatter over seeds and the priors (cells,)."""
    losses = np.concatenate([curve.losses for curve in pair])
    residuals = losses - losses.mean(axis=1, keepdims=True)
    scatter = residuals @ residuals.T
    spread = np.trace(np.linalg.solve(noise, scatter), axis1=1, axis2=2)
    log = -0.5 * ((losses.shape[1] - 1) * np.linalg.slogdet(noise)[1] + spread)
    normal = -0.5 * _SIGMAS**2
    uniform = -2 * np.log(np.cosh(_FISHER))
    prior = normal[:, None, None, None] + normal[:, None, None] + uniform[:, None] + uniform
    log = log + prior.ravel()
    probable: Floats = np.exp(log - log.max())
    return probable / probable.sum()


def _optima(curve: Curve, sigmas: Floats, shared: Shared, sd: Floats) -> tuple[Floats, Floats]:
    """The optima that may be (grid,), and the log evidence of each at each σ (sigmas, grid)."""
    tried, allowed = curve.optima(STEP)
    grid = tried[allowed]
    covariance = shared.covariance(curve.x - curve.lowest) / curve.losses.shape[1]
    level, place = (each.ravel() for each in np.indices((len(sigmas), len(grid))))
    noise = sigmas[level, None, None] ** 2 * covariance
    log = _evidence([curve], grid[place][None], noise, shared.mean, sd)
    log = log.reshape(len(sigmas), len(grid))
    return grid, log - log.max(axis=1, keepdims=True)


def _design(curves: Sequence[Curve], optima: Floats) -> Floats:
    """What levels and coefficients are multiplied by (cells, points, curves × 6), by blocks."""
    points = np.cumsum([0, *(len(curve.x) for curve in curves)])
    made = np.zeros((optima.shape[1], points[-1], len(curves) * (1 + POWERS)))
    for k, (curve, optimum) in enumerate(zip(curves, optima, strict=True)):
        rows, first = slice(points[k], points[k + 1]), k * (1 + POWERS)
        made[:, rows, first] = 1
        made[:, rows, first + 1 : first + 1 + POWERS] = powers(curve.x - optimum[:, None])
    return made


def _evidence(
    curves: Sequence[Curve], optima: Floats, noise: Floats, mean: Floats, sd: Floats
) -> Floats:
    """log p(mean losses | optima, noise) up to a constant (cells,); levels, shapes integrated.

    Args:
        optima: (curves, cells).
        noise: covariance of the mean losses (cells, points, points).
        mean, sd: of the coefficients of a shape (5,).
    """
    design = _design(curves, optima)
    losses = np.concatenate([curve.losses.mean(axis=1) for curve in curves])
    expected = design @ np.tile([0.0, *mean], len(curves))
    free = design[:, :, :: 1 + POWERS]
    varied = design * np.tile([0.0, *sd], len(curves))
    covariance = noise + varied @ varied.transpose(0, 2, 1)
    right = np.concatenate([(losses - expected)[..., None], free], axis=-1)
    products = right.transpose(0, 2, 1) @ np.linalg.solve(covariance, right)
    information, pull = products[:, 1:, 1:], products[:, 1:, :1]
    fitted = (pull * np.linalg.solve(information, pull)).sum(axis=(1, 2))
    determinants = np.linalg.slogdet(covariance)[1] + np.linalg.slogdet(information)[1]
    log: Floats = -0.5 * (determinants + products[:, 0, 0] - fitted)
    return log


def _shapes(
    curves: Sequence[Curve],
    optima: Floats,
    noise: Floats,
    mean: Floats,
    sd: Floats,
    random: np.random.Generator,
) -> Floats:
    """Level and coefficients of each curve, drawn for each cell (cells, curves × 6)."""
    design = _design(curves, optima)
    losses = np.concatenate([curve.losses.mean(axis=1) for curve in curves])
    prior = np.tile([0.0, *(1 / sd**2)], len(curves))  # levels are free
    weighed = np.linalg.solve(noise, design).transpose(0, 2, 1)
    precision = weighed @ design + np.diag(prior)
    pull = weighed @ losses + prior * np.tile([0.0, *mean], len(curves))
    centre = np.linalg.solve(precision, pull[..., None])
    factor = np.linalg.cholesky(precision).transpose(0, 2, 1)
    spread = np.linalg.solve(factor, random.standard_normal(centre.shape))
    found: Floats = (centre + spread)[..., 0]
    return found
