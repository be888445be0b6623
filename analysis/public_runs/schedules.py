"""How the best learning rate falls with tokens, by the share of the run that decays.

Of a schedule (its kind, the form and the share of its decay) there are loss curves over the
learning rate at several durations, of three to five rates each: too few for a parabola a curve. So
curves share their shape. With x the log2 of the rate, d that of the tokens less its mean, for
schedule s,

    loss = level(s, d) + c z² + e z³,   z = x − (m(s) + t(s) d)

by least squares; t is the token exponent of η*. Intervals follow from the curvature of the sum of
squares and the residuals (Student's t).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from scipy.optimize import OptimizeResult, least_squares

from analysis.optimum import FittedCurve, Floats
from analysis.public_runs.cells import fit_curve
from paper_repro.errors import ConfigError
from paper_repro.statistics import CONFIDENCE, Interval


class Name(NamedTuple):
    """What a schedule is: columns of its runs."""

    model: str
    schedule: str
    cooldown: str
    share: float


#: Octaves around the lowest point of a curve within which points are fitted.
WINDOW = 2.0


@dataclass(frozen=True, eq=False)
class SchedulesFit:
    """The joint fit of all schedules."""

    names: tuple[Name, ...]
    exponents: Floats
    """Of the tokens (schedules,)."""
    covariance: Floats
    """Of the exponents (schedules, schedules)."""
    freedom: int
    residual: float
    """Standard deviation of a loss, nats."""
    bracketed: tuple[int, ...]
    """Durations with a bracketed optimum, by schedule."""
    durations: tuple[tuple[float, ...], ...]
    """Tokens, by schedule."""

    def interval(self, weights: Floats) -> Interval:
        """A weighted sum of the exponents."""
        value = float(weights @ self.exponents)
        error = float(np.sqrt(weights @ self.covariance @ weights))
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, self.freedom)) * error
        return Interval(value, value - half, value + half)

    def table(self) -> pd.DataFrame:
        """One row a schedule: `tokens` exponent with its interval, `durations`, `bracketed`."""
        return pd.DataFrame(
            {
                **name._asdict(),
                "shortest": min(self.durations[number]),
                "longest": max(self.durations[number]),
                "durations": len(self.durations[number]),
                "bracketed": self.bracketed[number],
                **self.interval(np.eye(len(self.names))[number]).columns("tokens"),
            }
            for number, name in enumerate(self.names)
        )

    def slope(self, schedule: str, cooldown: str) -> Interval:
        """By how much the exponent changes as the share that decays goes from 0 to 1.

        By generalised least squares over the schedules of this kind.
        """
        used = [n for n, name in enumerate(self.names) if name[1:3] == (schedule, cooldown)]
        design = np.array([[1.0, self.names[n].share] for n in used])
        precision = np.linalg.inv(self.covariance[np.ix_(used, used)])
        solve = np.linalg.inv(design.T @ precision @ design) @ design.T @ precision
        weights = np.zeros(len(self.names))
        weights[used] = solve[1]
        return self.interval(weights)


class _Curve(NamedTuple):
    """One duration of a schedule."""

    name: Name
    tokens: float
    x: Floats
    """log2 of the rates near the lowest point."""
    losses: Floats
    whole: FittedCurve


def fit_schedules(runs: pd.DataFrame) -> SchedulesFit:
    """The token exponents of all schedules with at least two durations of three rates or more.

    Args:
        runs: of `analysis.public_runs.sources.read_schedules`.

    Raises:
        ConfigError: there are none.
    """
    curves = _curves(runs)
    counts = Counter(curve.name for curve in curves)
    curves = [curve for curve in curves if counts[curve.name] > 1]
    if not curves:
        raise ConfigError("no schedule has two durations with three learning rates each")
    names = tuple(dict.fromkeys(curve.name for curve in curves))
    found = _least_squares(names, curves)
    freedom = sum(len(curve.x) for curve in curves) - len(curves) - len(found.x)
    residual = float(np.sqrt(2 * found.cost / freedom))
    covariance = np.linalg.inv(found.jac.T @ found.jac) * residual**2
    exponents = slice(len(names), 2 * len(names))
    return SchedulesFit(
        names,
        found.x[exponents],
        covariance[exponents, exponents],
        freedom,
        residual,
        tuple(sum(c.whole.bracketed for c in curves if c.name == name) for name in names),
        tuple(tuple(c.tokens for c in curves if c.name == name) for name in names),
    )


def _curves(runs: pd.DataFrame) -> list[_Curve]:
    """All curves with three rates that did not diverge near their lowest point."""
    curves = []
    for _, rows in runs.groupby([*Name._fields, "tokens"]):
        first = rows.iloc[0]
        model, schedule, cooldown = (str(first[each]) for each in Name._fields[:3])
        name, tokens = Name(model, schedule, cooldown, float(first["share"])), first["tokens"]
        whole = fit_curve(rows, f"{name}, {tokens:.3g} tokens")
        x, losses = whole.log2_lr, whole.losses
        near = np.isfinite(losses) & (np.abs(x - x[int(np.argmin(losses))]) <= WINDOW + 1e-9)
        if near.sum() >= 3:
            curves.append(_Curve(name, float(tokens), x[near], losses[near], whole))
    return curves


def _least_squares(names: Sequence[Name], curves: Sequence[_Curve]) -> OptimizeResult:
    """The optima of all schedules, then their exponents, then c and e; levels are eliminated."""
    tokens = np.log2([curve.tokens for curve in curves])
    octaves = tokens - tokens.mean()
    counts = np.array([len(curve.x) for curve in curves])
    which = np.repeat(np.arange(len(curves)), counts)
    schedule = np.array([names.index(curve.name) for curve in curves])
    x = np.concatenate([curve.x for curve in curves])
    losses = np.concatenate([curve.losses for curve in curves])

    def residuals(vector: Floats) -> Floats:
        optima, exponents = vector[:-2].reshape(2, -1)
        z = x - (optima[schedule] + exponents[schedule] * octaves)[which]
        left: Floats = vector[-2] * z**2 + vector[-1] * z**3 - losses
        left -= (np.bincount(which, left) / counts)[which]
        return left

    lowest = np.array([curve.whole.log2 for curve in curves])
    optima = [lowest[schedule == number].mean() for number in range(len(names))]
    start = [*optima, *[-0.3] * len(names), 0.03, 0.0]
    return least_squares(residuals, start, x_scale="jac")


def decay_gains(curves: pd.DataFrame) -> pd.DataFrame:
    """What decaying gained over the constant rate at the same step, by size.

    Args:
        curves: of `analysis.public_runs.sources.read_curves`.

    Returns:
        One row a curve that decays: `model`, `schedule`, `steps`, `gain` (nats, over the last 1,000
        steps).
    """
    rows = []
    for model, sizes in curves.groupby("model"):
        constant = sizes[sizes["schedule"] == "constant_72000"]
        for schedule, curve in sizes.groupby("schedule"):
            last = curve[curve["step"] > curve["step"].max() - 1000]
            if str(schedule).startswith("constant") or constant.empty:
                continue
            kept = np.interp(last["step"], constant["step"], constant["loss"])
            gain = float((kept - last["loss"]).mean())
            steps = int(curve["step"].max())
            rows.append({"model": model, "schedule": schedule, "steps": steps, "gain": gain})
    return pd.DataFrame(rows)
