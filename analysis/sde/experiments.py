"""Batch equivalence, wrong rules and more signal, on a quadratic: AdamW's steps beside its SDE.

What was decided beforehand is in docs/sde.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from analysis.report import Columns
from analysis.sde.processes import QUADRATIC, AdamW, Sde, adamw_losses, expected_losses, limit
from paper_repro.statistics import Interval, over_seeds

Agreement = Literal["agrees", "differs", "not decided", "better", "worse", ""]

PATHS = 2048
#: Steps from which the limit is extrapolated, of the horizon at κ = 1.
FINE = 8192
#: Relative error within which a rule agrees.
TOLERANCE = 0.05
#: Shares of the training at which curves are kept.
SHARES = tuple(k / 16 for k in range(1, 17))

#: Exponents of κ that differ from the rule's, by the rule's name in the table.
RULES: Mapping[str, Mapping[str, float]] = {
    "whole rule": {},
    "√κ on η alone": {"decay": 0.0, "eps": 0.0, "betas": 0.0},
    "λ stays": {"decay": 0.0},
    "λ × κ": {"decay": 1.0},
}
KAPPAS = tuple(2.0**k for k in range(-3, 5))
#: Times the tokens, and what follows them.
LONGER = (1.0, 2.0, 4.0, 8.0)
DURATION_RULES = ("everything kept", "√κ on η alone", "whole rule")

#: Columns of the table; see `analysis/results/README.md`.
COLUMNS = (
    *("process", "question", "rule", "x", "loss", "loss_low", "loss_high"),
    *("sde", "error", "error_low", "error_high", "verdict"),
)
#: The same for people.
READABLE: Columns = {
    "process": "process",
    "question": "question",
    "rule": "rule",
    "κ, m or step": lambda row: f"{row['x']:g}",
    "loss": ("loss", 4),
    "SDE": lambda row: "" if math.isnan(row["sde"]) else f"{row['sde']:.4f}",
    "error": ("error", 4),
    "verdict": lambda row: row["verdict"] if isinstance(row["verdict"], str) else "",
}


def tuned_base() -> AdamW:
    """The base: η is the power of two that is best for the SDE."""
    rates = [AdamW(lr=2.0**k) for k in range(-10, -1)]
    return min(rates, key=lambda each: _limit_of(each, steps=2048)[-1])


def quadratic_table(paths: int = PATHS) -> pd.DataFrame:
    """All that was asked of the quadratic, as one table (`COLUMNS`)."""
    base = tuned_base()
    rows = [
        *_steps(base),
        *batch_rows(base, paths),
        *_curves(base, paths),
        *_durations(base, paths),
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _limit_of(adamw: AdamW, steps: int = FINE, at: tuple[float, ...] = (1.0,)) -> np.ndarray:
    return limit(QUADRATIC, Sde.of(adamw), steps, at)


def agreement(error: Interval, tolerance: float = TOLERANCE) -> Agreement:
    """Whether an error is within a tolerance; an unknown interval decides nothing."""
    if error.low >= -tolerance and error.high <= tolerance:
        return "agrees"
    if error.low > tolerance or error.high < -tolerance:
        return "differs"
    return "not decided"


def _steps(base: AdamW) -> Iterator[dict[str, object]]:
    """The error of Euler-Maruyama against the step of time, over that of AdamW at κ = 1."""
    sde = Sde.of(base)
    exact = float(_limit_of(base)[-1])
    for step in (2.0**k for k in range(-3, 4)):
        loss = float(expected_losses(QUADRATIC, sde, round(base.steps / step))[0])
        error = loss / exact - 1
        yield {
            **{"process": "quadratic", "question": "steps", "rule": "Euler-Maruyama", "x": step},
            **Interval(loss, loss, loss).columns("loss"),
            "sde": exact,
            **Interval(error, error, error).columns("error"),
            "verdict": agreement(Interval(error, error, error)),
        }


def batch_rows(
    base: AdamW, paths: int, kappas: Sequence[float] = KAPPAS
) -> Iterator[dict[str, object]]:
    """The final loss under each rule at each κ, beside the SDE's."""
    exact = float(_limit_of(base)[-1])
    for rule, exponents in RULES.items():
        for kappa in kappas:
            adamw = base.with_batch(kappa).followed(kappa, **exponents)
            losses = adamw_losses(QUADRATIC, adamw, paths, _random(rule, kappa))[0]
            loss = over_seeds(losses.tolist())
            error = Interval(*(value / exact - 1 for value in (loss.value, loss.low, loss.high)))
            yield {
                **{"process": "quadratic", "question": "batch", "rule": rule, "x": kappa},
                **loss.columns("loss"),
                "sde": exact,
                **error.columns("error"),
                "verdict": agreement(error),
            }


def _curves(base: AdamW, paths: int) -> Iterator[dict[str, object]]:
    """Losses along the training under the whole rule; `rule` says at which κ."""
    exact = _limit_of(base, at=SHARES)
    for kappa in (KAPPAS[0], 1.0, KAPPAS[-1]):
        adamw = base.with_batch(kappa).followed(kappa)
        losses = adamw_losses(QUADRATIC, adamw, paths, _random("curve", kappa), SHARES)
        for share, some, sde in zip(SHARES, losses, exact, strict=True):
            yield {
                **{"process": "quadratic", "question": "curve", "rule": f"κ = {kappa:g}"},
                "x": share,
                **over_seeds(some.tolist()).columns("loss"),
                "sde": float(sde),
            }


def _durations(base: AdamW, paths: int) -> Iterator[dict[str, object]]:
    """At m times the tokens; the error is the loss less that at m = 1."""
    for rule in DURATION_RULES:
        first: np.ndarray | None = None
        for ratio in LONGER:
            adamw = longer(base, rule, ratio)
            losses = adamw_losses(QUADRATIC, adamw, paths, _random("longer", ratio))[0]
            first = losses if first is None else first
            less = _difference(losses, first) if ratio > 1 else Interval(0.0, 0.0, 0.0)
            yield {
                **{"process": "quadratic", "question": "tokens", "rule": rule, "x": ratio},
                **over_seeds(losses.tolist()).columns("loss"),
                "sde": float(_limit_of(adamw, max(FINE, adamw.steps))[-1]),
                **less.columns("error"),
                "verdict": direction(less) if ratio > 1 else "",
            }


def longer(base: AdamW, rule: str, ratio: float) -> AdamW:
    """The training at so many times the tokens under a rule for durations."""
    adamw = base.with_tokens(ratio)
    if rule == "everything kept":
        return adamw
    return adamw.followed(1 / ratio, **RULES[rule])


def direction(less: Interval) -> Agreement:
    """Whether a loss is below (`better`) or above another."""
    return "better" if less.high < 0 else "worse" if less.low > 0 else "not decided"


def _difference(one: np.ndarray, other: np.ndarray) -> Interval:
    """The difference of two means of independent samples, with a normal interval."""
    error = math.sqrt(one.var(ddof=1) / len(one) + other.var(ddof=1) / len(other))
    value = float(one.mean() - other.mean())
    return Interval(value, value - 1.96 * error, value + 1.96 * error)


def _random(name: str, number: float) -> np.random.Generator:
    """A generator of its own for each simulation; the same for the same."""
    return np.random.default_rng([sum(name.encode()), round(1024 * number)])
