"""AdamW on a noisy quadratic, step by step; its SDE, and the moments of the SDE.

With dt = η² a step, the constants of the SDE (arXiv 2205.10287, its decay in arXiv 2512.22382) are

    σ₀ = σ·η,  ε₀ = ε·η,  λ₀ = λ/η,  c = (1 − β₁)/η²

and Adam's second moment is that of the noise, v = σ²: the noise-dominated limit, in which β₂ is of
no consequence. With the schedule s and m̂ = m/(1 − exp(−c·t)),

    dθ = −s·(m̂/(σ₀ + ε₀) + λ₀·θ) dt,   dm = c·(h·(θ − θ*) − m) dt + c·σ₀ dW
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class AdamW:
    """Hyperparameters of AdamW in PyTorch's form, and the noise of its gradients."""

    lr: float
    weight_decay: float = 0.02
    one_minus_beta1: float = 0.05
    one_minus_beta2: float = 0.02
    eps: float = 0.5
    steps: int = 2048
    noise: float = 4.0
    """Standard deviation of the noise of a gradient."""
    final_fraction: float = 0.1
    """Of the cosine schedule."""

    def scale(self, done: float | Floats) -> float | Floats:
        """The learning rate over its peak, at a share of the training."""
        cosine = 0.5 * (1 + np.cos(np.pi * np.asarray(done)))
        return self.final_fraction + (1 - self.final_fraction) * cosine

    @property
    def horizon(self) -> float:
        """The time of the SDE in which the training takes place."""
        return self.steps * self.lr**2

    def followed(
        self, kappa: float, *, decay: float = 0.5, eps: float = -0.5, betas: float = 1.0
    ) -> AdamW:
        """The hyperparameters at κ = m_B/m_D; η always follows as √κ.

        Args:
            decay, eps, betas: exponents of κ, the rule's by default; 0 for what stays.
        """
        return replace(
            self,
            lr=self.lr * kappa**0.5,
            weight_decay=self.weight_decay * kappa**decay,
            eps=self.eps * kappa**eps,
            one_minus_beta1=self.one_minus_beta1 * kappa**betas,
            one_minus_beta2=self.one_minus_beta2 * kappa**betas,
        )

    def with_batch(self, ratio: float) -> AdamW:
        """At so many times the batch: less noise, and as many fewer steps for the same tokens."""
        return replace(self, noise=self.noise / ratio**0.5, steps=round(self.steps / ratio))

    def with_tokens(self, ratio: float) -> AdamW:
        """At so many times the tokens and the same batch."""
        return replace(self, steps=round(self.steps * ratio))


@dataclass(frozen=True, eq=False)
class Quadratic:
    """f(θ) = ½ Σ h·(θ − θ*)², from θ = 0."""

    curvature: Floats
    """h (coordinates,)."""
    optimum: Floats
    """θ* (coordinates,)."""

    def loss(self, theta: Floats) -> Floats:
        """f of each row (paths, coordinates) -> (paths,)."""
        found: Floats = 0.5 * (self.curvature * (theta - self.optimum) ** 2).sum(axis=-1)
        return found


def _powers_of_two(exponents: Sequence[float]) -> Floats:
    return np.array([2.0**each for each in exponents])


#: The problem of docs/sde.md.
QUADRATIC = Quadratic(
    curvature=_powers_of_two([2, 1, 0, -1, -2, -3]),
    optimum=_powers_of_two([-1, -0.5, 0, 0.5, 1, 1.5]),
)


def adamw_losses(
    problem: Quadratic,
    adamw: AdamW,
    paths: int,
    random: np.random.Generator,
    at: tuple[float, ...] = (1.0,),
) -> Floats:
    """Losses of AdamW's own steps after shares of the training (shares, paths).

    Raises:
        ValueError: a beta leaves [0, 1), or there are no steps.
    """
    if not (0 < adamw.one_minus_beta1 <= 1 and 0 < adamw.one_minus_beta2 <= 1 and adamw.steps):
        raise ValueError(f"expected betas in [0, 1) and steps, got {adamw}")
    shape = (paths, len(problem.curvature))
    theta, first, second = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    a, b = adamw.one_minus_beta1, adamw.one_minus_beta2
    wanted = {round(share * adamw.steps): index for index, share in enumerate(at)}
    found = np.empty((len(at), paths))
    for step in range(1, adamw.steps + 1):
        gradient = problem.curvature * (theta - problem.optimum)
        gradient += adamw.noise * random.standard_normal(shape)
        first += a * (gradient - first)
        second += b * (gradient**2 - second)
        mean, square = first / (1 - (1 - a) ** step), second / (1 - (1 - b) ** step)
        rate = adamw.lr * adamw.scale((step - 1) / adamw.steps)
        theta -= rate * (mean / (np.sqrt(square) + adamw.eps) + adamw.weight_decay * theta)
        if step in wanted:
            found[wanted[step]] = problem.loss(theta)
    return found


@dataclass(frozen=True)
class Sde:
    """The constants of AdamW's SDE."""

    noise: float
    """σ₀"""
    eps: float
    """ε₀"""
    decay: float
    """λ₀"""
    memory: float
    """c"""
    horizon: float
    schedule: AdamW
    """Whose schedule it has."""

    @classmethod
    def of(cls, adamw: AdamW) -> Sde:
        """The SDE of a training."""
        lr = adamw.lr
        memory = adamw.one_minus_beta1 / lr**2
        return cls(
            adamw.noise * lr,
            adamw.eps * lr,
            adamw.weight_decay / lr,
            memory,
            adamw.horizon,
            adamw,
        )


def euler_maruyama(
    problem: Quadratic, sde: Sde, steps: int, paths: int, random: np.random.Generator
) -> Floats:
    """θ at the end of the SDE, by paths of Euler-Maruyama (paths, coordinates).

    θ takes its step with the m that has just taken its own, as AdamW does; both have order one.
    """
    shape = (paths, len(problem.curvature))
    theta, m = np.zeros(shape), np.zeros(shape)
    dt = sde.horizon / steps
    for step in range(1, steps + 1):
        keep, gain, decay = _step(sde, dt, step, steps)
        pull = problem.curvature * (theta - problem.optimum)
        noise = sde.memory * sde.noise * math.sqrt(dt) * random.standard_normal(shape)
        m = keep * m + (1 - keep) * pull + noise
        theta = (1 - decay) * theta - gain * m
    return theta


def expected_losses(
    problem: Quadratic, sde: Sde, steps: int, at: tuple[float, ...] = (1.0,)
) -> Floats:
    """The mean loss of `euler_maruyama` after shares of the time, without sampling (shares,).

    The process is linear, so the mean and covariance of (θ, m) follow a recursion.
    """
    h, dt = problem.curvature, sde.horizon / steps
    theta, m = np.zeros_like(h), np.zeros_like(h)
    tt, tm, mm = np.zeros_like(h), np.zeros_like(h), np.zeros_like(h)
    variance = (sde.memory * sde.noise) ** 2 * dt
    wanted = {round(share * steps): index for index, share in enumerate(at)}
    found = np.empty(len(at))
    for step in range(1, steps + 1):
        keep, gain, decay = _step(sde, dt, step, steps)
        pull = (1 - keep) * h  # of θ on m
        m = keep * m + pull * (theta - problem.optimum)
        theta = (1 - decay) * theta - gain * m
        new_mm = keep**2 * mm + 2 * keep * pull * tm + pull**2 * tt + variance
        cross = keep * tm + pull * tt  # covariance of the old θ and the new m
        tt = (1 - decay) ** 2 * tt - 2 * (1 - decay) * gain * cross + gain**2 * new_mm
        tm = (1 - decay) * cross - gain * new_mm
        mm = new_mm
        if step in wanted:
            found[wanted[step]] = 0.5 * float((h * (tt + (theta - problem.optimum) ** 2)).sum())
    return found


def _step(sde: Sde, dt: float, step: int, steps: int) -> tuple[float, float, float]:
    """Of a step: what m keeps, what θ moves for each m, and what share of θ decays."""
    keep = 1 - sde.memory * dt
    scale = float(sde.schedule.scale((step - 1) / steps))
    corrected = 1 - keep**step
    return keep, scale * dt / (corrected * (sde.noise + sde.eps)), scale * dt * sde.decay


def limit(problem: Quadratic, sde: Sde, steps: int, at: tuple[float, ...] = (1.0,)) -> Floats:
    """The mean loss of the SDE itself: steps, and twice as many, extrapolated to infinitely many.

    Richardson's extrapolation for an error of order one (shares,).
    """
    coarse, fine = (expected_losses(problem, sde, n, at) for n in (steps, 2 * steps))
    found: Floats = 2 * fine - coarse
    return found
