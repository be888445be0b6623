"""AdamW's SDE on a quadratic: known moments, convergence, and what the rule keeps.

Tolerances of sampled moments are four standard errors, from the number of paths.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.load import COMMITTED_RESULTS
from analysis.sde.experiments import PATHS as COMMITTED_PATHS
from analysis.sde.experiments import (
    RULES,
    agreement,
    batch_rows,
    direction,
    longer,
    tuned_base,
)
from analysis.sde.processes import (
    QUADRATIC,
    AdamW,
    Quadratic,
    Sde,
    adamw_losses,
    euler_maruyama,
    expected_losses,
    limit,
)
from analysis.sde.trained import trained_table
from analysis.tables import read_shared, read_table
from paper_repro.statistics import Interval

BASE = AdamW(lr=2**-5, steps=512)
SDE = Sde.of(BASE)
PATHS = 4000
#: At a constant rate and without memory of gradients the SDE is an Ornstein-Uhlenbeck process.
PLAIN = AdamW(
    lr=2**-5, weight_decay=0.5, one_minus_beta1=1.0, eps=0.0, steps=512, final_fraction=1.0
)


def ornstein_uhlenbeck(problem: Quadratic, adamw: AdamW) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance at the end of dθ = −(h(θ − θ*)/σ₀ + λ₀θ) dt + dW, from θ = 0."""
    sde = Sde.of(adamw)
    pull = problem.curvature / sde.noise
    rate = pull + sde.decay
    mean = pull * problem.optimum / rate * (1 - np.exp(-rate * sde.horizon))
    return mean, (1 - np.exp(-2 * rate * sde.horizon)) / (2 * rate)


def test_paths_have_the_moments_of_an_ornstein_uhlenbeck_process():
    """In steps of 1/8 of AdamW's, with c·dt = 1, so that m is the gradient of the moment."""
    steps = 8 * PLAIN.steps
    memoryless = replace(PLAIN, one_minus_beta1=8.0)
    random = np.random.default_rng(0)
    theta = euler_maruyama(QUADRATIC, Sde.of(memoryless), steps, PATHS, random)
    mean, variance = ornstein_uhlenbeck(QUADRATIC, PLAIN)
    error = np.sqrt(variance / PATHS)
    # Euler's own error in a rate a is of relative size a·dt/2.
    sde = Sde.of(PLAIN)
    bias = float((QUADRATIC.curvature / sde.noise + sde.decay).max()) * PLAIN.lr**2 / 8
    assert bias < 0.01
    np.testing.assert_allclose(theta.mean(axis=0), mean, rtol=bias, atol=4 * error.max())
    spread = theta.var(axis=0, ddof=1)
    tolerance = 4 * math.sqrt(2 / (PATHS - 1)) + 2 * bias
    np.testing.assert_allclose(spread, variance, rtol=tolerance)


def test_the_recursion_has_the_same_moments_without_sampling():
    memoryless = replace(PLAIN, one_minus_beta1=64.0)
    loss = expected_losses(QUADRATIC, Sde.of(memoryless), 64 * PLAIN.steps)[0]
    mean, variance = ornstein_uhlenbeck(QUADRATIC, PLAIN)
    exact = 0.5 * (QUADRATIC.curvature * (variance + (mean - QUADRATIC.optimum) ** 2)).sum()
    assert loss == pytest.approx(exact, rel=2e-3)


class Impulse:
    """Noise that is 0 but for 1 at one step (or nowhere): what a step of it does to θ."""

    def __init__(self, step: int) -> None:
        self.left = step

    def standard_normal(self, shape: tuple[int, int]) -> np.ndarray:
        self.left -= 1
        return np.full(shape, float(self.left == 0))


def test_the_recursion_sums_what_each_step_of_noise_does():
    """Exactly, for θ is linear in the noise: its variance is the sum of squared responses."""
    steps, swinging = 64, Quadratic(np.array([16.0, 1.0]), np.array([0.25, 1.0]))
    at_rest, *kicked = (
        euler_maruyama(swinging, SDE, steps, 1, Impulse(step))[0] for step in range(steps + 1)
    )
    variance = ((np.array(kicked) - at_rest) ** 2).sum(axis=0)
    exact = 0.5 * (swinging.curvature * (variance + (at_rest - swinging.optimum) ** 2)).sum()
    assert expected_losses(swinging, SDE, steps)[0] == pytest.approx(exact, rel=1e-10)


def test_paths_have_the_mean_loss_of_the_recursion():
    random = np.random.default_rng(1)
    losses = QUADRATIC.loss(euler_maruyama(QUADRATIC, SDE, 256, PATHS, random))
    expected = expected_losses(QUADRATIC, SDE, 256)[0]
    assert losses.mean() == pytest.approx(expected, abs=4 * losses.std() / math.sqrt(PATHS))


def test_the_error_of_euler_maruyama_is_of_order_one():
    exact = limit(QUADRATIC, SDE, 8192)[0]
    errors = [abs(expected_losses(QUADRATIC, SDE, n)[0] - exact) for n in (256, 512, 1024, 2048)]
    ratios = np.array(errors[:-1]) / errors[1:]
    np.testing.assert_allclose(ratios, 2, rtol=0.15)


def test_the_rule_leaves_the_sde_as_it_is():
    """And each wrong rule changes it."""
    for kappa in (0.25, 4.0):
        followed = Sde.of(BASE.with_batch(kappa).followed(kappa))
        for name in ("noise", "eps", "decay", "memory", "horizon"):
            assert getattr(followed, name) == pytest.approx(getattr(SDE, name)), name
    wrong = Sde.of(BASE.with_batch(4).followed(4, **RULES["λ stays"]))
    assert wrong.decay == pytest.approx(SDE.decay / 2)
    assert Sde.of(BASE.with_batch(4).followed(4, **RULES["λ × κ"])).decay == 2 * SDE.decay
    alone = Sde.of(BASE.with_batch(4).followed(4, **RULES["√κ on η alone"]))
    assert alone.memory == pytest.approx(SDE.memory / 4)
    assert alone.eps == pytest.approx(2 * SDE.eps)


def test_more_tokens_at_an_equal_horizon_are_less_noise_alone():
    more = Sde.of(longer(BASE, "whole rule", 4))
    assert more.noise == pytest.approx(SDE.noise / 2)
    for name in ("eps", "decay", "memory", "horizon"):
        # ε follows the duration too: its part of the preconditioner stays
        assert getattr(more, name) == pytest.approx(getattr(SDE, name)), name
    assert Sde.of(longer(BASE, "everything kept", 4)).horizon == 4 * SDE.horizon


def test_adamw_is_pytorchs():
    """One path, against torch's own optimiser with the same gradients."""
    import torch

    adamw = replace(BASE, steps=6)
    noise = np.random.default_rng(2).standard_normal((6, 1, len(QUADRATIC.curvature)))
    theta = torch.zeros(len(QUADRATIC.curvature), dtype=torch.float64, requires_grad=True)
    betas = 1 - adamw.one_minus_beta1, 1 - adamw.one_minus_beta2
    optimizer = torch.optim.AdamW(
        [theta], lr=adamw.lr, betas=betas, eps=adamw.eps, weight_decay=adamw.weight_decay
    )
    for step, drawn in enumerate(noise):
        optimizer.param_groups[0]["lr"] = adamw.lr * adamw.scale(step / 6)
        h, optimum = (torch.from_numpy(x) for x in (QUADRATIC.curvature, QUADRATIC.optimum))
        theta.grad = h * (theta.detach() - optimum) + adamw.noise * torch.from_numpy(drawn[0])
        optimizer.step()
    (ours,) = adamw_losses(QUADRATIC, adamw, 1, np.random.default_rng(2))
    assert ours[0] == pytest.approx(QUADRATIC.loss(theta.detach().numpy()[None])[0], rel=1e-9)


def test_small_batches_under_the_rule_are_the_sde_and_large_ones_are_not():
    exact = limit(QUADRATIC, SDE, 4096)[0]
    errors = {}
    for kappa in (0.5, 16.0):
        adamw = BASE.with_batch(kappa).followed(kappa)
        (losses,) = adamw_losses(QUADRATIC, adamw, 2000, np.random.default_rng(3))
        errors[kappa] = losses.mean() / exact - 1, losses.std() / math.sqrt(2000) / exact
    value, error = errors[0.5]
    assert abs(value) < 0.02 + 4 * error
    value, error = errors[16]
    assert abs(value) > 0.05 + 4 * error


def test_betas_that_leave_their_range_are_refused():
    with pytest.raises(ValueError, match="betas"):
        adamw_losses(QUADRATIC, BASE.followed(32), 1, np.random.default_rng(0))


def test_verdicts_are_by_whole_intervals():
    assert agreement(Interval(0.0, -0.04, 0.04)) == "agrees"
    assert agreement(Interval(0.1, 0.06, 0.14)) == "differs"
    assert agreement(Interval(-0.1, -0.14, -0.06)) == "differs"
    assert agreement(Interval(0.04, 0.0, 0.08)) == "not decided"
    assert [direction(Interval(x, x - 1, x + 1)) for x in (-2, 0, 2)] == [
        "better",
        "not decided",
        "worse",
    ]


def test_the_committed_table_is_that_of_the_code():
    """Of the quadratic the shortest trainings alone. Renew: `python -m analysis.sde --commit`."""
    table = read_table(COMMITTED_RESULTS, "sde")
    made = [
        *batch_rows(tuned_base(), COMMITTED_PATHS, kappas=(16.0,)),
        *trained_table(COMMITTED_RESULTS, read_shared(COMMITTED_RESULTS)).to_dict("records"),
    ]
    keys = ["process", "question", "rule", "x"]
    both = pd.DataFrame(made).merge(table, on=keys, suffixes=("", "_committed"))
    assert len(both) == len(made) > len(RULES)
    for name in ("loss", "loss_low", "loss_high", "error", "error_low", "error_high"):
        np.testing.assert_allclose(both[name], both[f"{name}_committed"], atol=2e-4)
    assert both["verdict"].tolist() == both["verdict_committed"].fillna("").tolist()


def test_the_intervals_of_the_page_are_those_of_the_table():
    """In percent for the quadratic's errors, else in the table's own unit."""
    table = read_table(COMMITTED_RESULTS, "sde")
    text = (COMMITTED_RESULTS.parents[1] / "docs/sde.md").read_text(encoding="utf-8")
    page = text[text.index("## What came out") : text.index("## What it does not say")]
    quoted = re.findall(r"(−?[\d.]+)( %)? \[(−?[\d.]+), (−?[\d.]+)\]", page)
    assert len(quoted) > 20
    known = [
        tuple(float(row[f"{name}{end}"]) for end in ("", "_low", "_high"))
        for name in ("loss", "error")
        for _, row in table.dropna(subset=[name]).iterrows()
    ]
    for value, percent, low, high in quoted:
        digits = len(value.partition(".")[2])
        numbers = [float(each.replace("−", "-")) for each in (value, low, high)]
        scale = 100 if percent else 1
        assert any(
            all(abs(scale * a - b) <= 0.51 * 10**-digits for a, b in zip(row, numbers, strict=True))
            for row in known
        ), (value, low, high)
