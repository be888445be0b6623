"""How the best learning rate falls with tokens, by the share of the run that decays.

Of a schedule (its kind, the form and the share of its decay) there are loss curves over the learning
rate at several durations, of three to five rates each: too few for a parabola a curve. So curves
share their shape. With x the log2 of the rate, d that of the tokens less its mean, for schedule s,

    loss = level(s, d) + c z² + e z³,   z = x − (m(s) + t(s) d)

by least squares; t is the token exponent of η*. Intervals follow from the curvature of the sum of
squares and the residuals (Student's t).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from scipy.optimize import least_squares

from analysis.optimum import Floats, fit_optimum
from analysis.public_runs.cells import DIVERGED
from paper_repro.errors import ConfigError
from paper_repro.statistics import CONFIDENCE, Interval

SCHEDULE = ["model", "schedule", "cooldown", "share"]
#: Octaves around the lowest point of a curve within which points are fitted.
WINDOW = 2.0


@dataclass(frozen=True, eq=False)
class SchedulesFit:
    """The joint fit of all schedules."""

    names: tuple[tuple[str, str, str, float], ...]
    """Of the schedules, by the columns `SCHEDULE`."""
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
                **dict(zip(SCHEDULE, name, strict=True)),
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
        design = np.array([[1.0, self.names[n][3]] for n in used])
        precision = np.linalg.inv(self.covariance[np.ix_(used, used)])
        solve = np.linalg.inv(design.T @ precision @ design) @ design.T @ precision
        weights = np.zeros(len(self.names))
        weights[used] = solve[1]
        return self.interval(weights)


def fit_schedules(runs: pd.DataFrame) -> SchedulesFit:
    """The token exponents of all schedules with at least two durations of three rates or more.

    Args:
        runs: of `analysis.public_runs.sources.read_schedules`.

    Raises:
        ConfigError: there are none.
    """
    curves = []
    for key, rows in runs.groupby([*SCHEDULE, "tokens"]):
        rows = rows.sort_values("lr")
        x, y = np.log2(rows["lr"].to_numpy(float)), rows["loss"].to_numpy(float)
        y = np.where(y < np.nanmin(y) + DIVERGED, y, np.inf)
        near = np.isfinite(y) & (np.abs(x - x[int(np.argmin(y))]) <= WINDOW + 1e-9)
        if near.sum() >= 3:
            curves.append((key[:-1], float(key[-1]), x[near], y[near], fit_optimum(x, y)))
    several = [key for key in dict.fromkeys(c[0] for c in curves) if _count(curves, key) > 1]
    curves = [curve for curve in curves if curve[0] in several]
    if not curves:
        raise ConfigError("no schedule has two durations with three learning rates each")
    found, freedom = _fit(several, curves)
    residual = float(np.sqrt(2 * found.cost / freedom))
    covariance = np.linalg.inv(found.jac.T @ found.jac) * residual**2
    which = slice(len(several), 2 * len(several))
    return SchedulesFit(
        tuple(several),
        found.x[which],
        covariance[which, which],
        freedom,
        residual,
        tuple(sum(c[4].bracketed for c in curves if c[0] == key) for key in several),
        tuple(tuple(c[1] for c in curves if c[0] == key) for key in several),
    )


def _count(curves: Sequence[tuple], key: tuple) -> int:  # type: ignore[type-arg]
    return sum(curve[0] == key for curve in curves)


def _fit(several, curves):  # type: ignore[no-untyped-def]
    tokens = np.log2([curve[1] for curve in curves])
    octaves = tokens - tokens.mean()
    which = np.concatenate([np.full(len(c[2]), k) for k, c in enumerate(curves)])
    schedule = np.array([several.index(curve[0]) for curve in curves])
    x, y = (np.concatenate([curve[k] for curve in curves]) for k in (2, 3))
    n = len(several)
    counts = np.bincount(which)

    def residuals(vector: Floats) -> Floats:
        optimum = (vector[:n][schedule] + vector[n : 2 * n][schedule] * octaves)[which]
        z = x - optimum
        shape = vector[-2] * z**2 + vector[-1] * z**3 - y
        level = np.bincount(which, shape) / counts  # of each curve: its own, by least squares
        return shape - level[which]

    lowest = np.array([c[4].log2 for c in curves])
    centres = [lowest[schedule == k].mean() for k in range(n)]
    found = least_squares(residuals, [*centres, *[-0.3] * n, 0.03, 0.0], x_scale="jac")
    return found, len(y) - len(curves) - 2 * n - 2


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
