"""How often estimates of transfer are right, and how often they decide: on simulated sweeps.

`python -m analysis.simulation` writes `analysis/results/simulation.csv`. A simulated study has
several sweeps, each of one arm along four or so scales, whose optimum drifts by a known number of
octaves a doubling; the estimators see losses at the points of a grid, with noise that is shared by
the rates of a seed and has heavier tails than any of them assumes. Shapes are of two families:

- `alike`: drawn as `analysis.pooled` assumes, with what it learnt from the committed results;
- `hostile`: hyperbolas with asymptotes of unequal slope, whose curvatures differ by up to a third
  from side to side and curve to curve, which no estimator assumes.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd

from analysis.likelihood import Floats
from analysis.load import COMMITTED_RESULTS
from analysis.pooled import INFLATION, Shared, learn
from analysis.pooled_transfer import credible, curve_of, pooled_arm
from analysis.report import Columns, readable
from analysis.transfer import (
    DRIFT_TOLERANCE,
    REGRET_TOLERANCE,
    ScaleFits,
    counted_scales,
    drift,
    fit_scale,
    regret,
    verdict,
)
from paper_repro.command import command, positive
from paper_repro.files import write_atomically
from paper_repro.parameterization.page import markdown_table
from paper_repro.paths import check_writable, given_path
from paper_repro.statistics import UNKNOWN, Interval

Family = Literal["alike", "hostile"]
Method = Literal["by seed", "pooled"]


@dataclass(frozen=True)
class Design:
    """One sweep of a study."""

    scales: tuple[int, ...]
    """The first is the base."""
    seeds: int
    points: int = 7
    """Of the grid, an octave apart, around the base's optimum give or take half an octave."""
    log_sigma: float = -3.6
    """Logarithm of the noise of a run (nats) at the optimum."""
    sweep: str = ""
    """The sweep whose design it is."""


#: The committed sweeps: width, depth, batch, tokens, iso-steps.
COMMITTED = (
    Design((64, 32, 128, 256), seeds=3, log_sigma=-3.9),
    Design((2, 1, 4, 8, 16), seeds=5, log_sigma=-3.3),
    Design((8, 1, 4, 32), seeds=5, log_sigma=-3.5),
    Design((4, 1, 16), seeds=4, log_sigma=-3.6),
    Design((8, 2, 32), seeds=3, log_sigma=-3.6),
)
DRIFTS = (0.0, 0.4)
"""Octaves a doubling: a study has every design with each."""

#: As `analysis.pooled.learn` has it from the committed curves over the learning rate, rounded.
LEARNT = Shared(
    correlation=(0.24, 0.68),
    growth=0.20,
    log_sigma=(-3.6, 0.47),
    mean=np.array([0.0213, -0.0046, 0.0006, 0.0027, -0.0003]),
    sd=np.array([0.0051, 0.0033, 0.0012, 0.0011, 0.0004]),
)
#: Degrees of freedom of the noise: normal would be infinitely many.
_TAILS = 5


@dataclass(frozen=True, eq=False)
class Simulated:
    """One sweep with what is true of it."""

    fits: ScaleFits
    base: int
    drift: float
    regret: float
    """At the largest scale, nats."""


def simulate(
    design: Design, drift: float, family: Family, random: np.random.Generator
) -> Simulated:
    """Losses of one sweep whose optimum drifts."""
    base = design.scales[0]
    offset = random.uniform(-0.5, 0.5)
    fits, shapes = {}, {}
    for scale in sorted(design.scales):
        optimum = drift * math.log2(scale / base)
        shapes[scale] = shape = _shape(family, random)
        x = (
            np.arange(design.points, dtype=float)
            - (design.points - 1) // 2
            + offset
            + round(optimum)
        )
        losses = 2 + shape(x - optimum)[:, None] + _noise(x - optimum, design, random)
        frame = pd.DataFrame(losses, index=pd.Index(x, name="log2"), columns=range(design.seeds))
        fits[scale] = fit_scale(frame)
    largest = max(design.scales)
    moved = -drift * math.log2(largest / base)
    return Simulated(fits, base, drift, float(shapes[largest](np.array([moved]))[0]))


def _shape(family: Family, random: np.random.Generator) -> Callable[[Floats], Floats]:
    """The loss above its least against octaves from the optimum."""
    if family == "hostile":
        left, right = 0.0215 * (1 + random.uniform(-0.35, 0.35, 2))
        knee_left, knee_right = random.uniform(1.0, 3.0, 2)

        def hyperbola(z: Floats) -> Floats:
            curvature, knee = np.where(z < 0, left, right), np.where(z < 0, knee_left, knee_right)
            made: Floats = 2 * curvature * knee**2 * (np.sqrt(1 + (z / knee) ** 2) - 1)
            return made

        return hyperbola
    while True:
        coefficients = random.normal(LEARNT.mean, LEARNT.sd)
        z = np.linspace(-3, 3, 61)
        if _polynomial(coefficients, z)[z != 0].min() > 0:
            return lambda z: _polynomial(coefficients, z)


def _polynomial(coefficients: Floats, z: Floats) -> Floats:
    size = np.abs(z)
    value: Floats = np.stack([z**2, z * size, z**3, size**3, z**4], -1) @ coefficients
    return value


def _noise(z: Floats, design: Design, random: np.random.Generator) -> Floats:
    """Of every seed (points, seeds), correlated along the grid, larger to the right."""
    a, b = LEARNT.correlation
    distance = np.abs(z[:, None] - z[None, :])
    covariance = a + b * np.exp(-distance) + (1 - a - b) * np.eye(len(z))
    normal = np.linalg.cholesky(covariance) @ random.standard_normal((len(z), design.seeds))
    tails = np.sqrt((_TAILS - 2) / random.chisquare(_TAILS, design.seeds))
    sigma = math.exp(random.normal(design.log_sigma, 0.2)) * np.exp(LEARNT.growth * z)
    made: Floats = sigma[:, None] * normal * tails
    return made


def study(
    family: Family,
    seed: int,
    designs: Sequence[Design] = COMMITTED,
    drifts: Sequence[float] = DRIFTS,
    inflation: float = INFLATION,
    shared: Shared | None = None,
) -> pd.DataFrame:
    """Both estimates of every sweep of one simulated study.

    Args:
        shared: what curves share; None: it is learnt from those of the study.

    Returns:
        a row a sweep and method: `truth` of the drift, its estimate and interval, `regret` with its
        interval and `regret_truth`, and the `verdict`.
    """
    random = np.random.default_rng(seed)
    sweeps = [
        (design, simulate(design, drift, family, random))
        for design, drift in itertools.product(designs, drifts)
    ]
    if shared is None:
        curves = [curve_of(fit) for _, made in sweeps for fit in made.fits.values()]
        shared = learn([curve for curve in curves if curve is not None])
    rows = []
    for design, made in sweeps:
        for method, (slope, cost) in _estimates(made, shared, inflation).items():
            every = len(counted_scales(made.fits)) == len(made.fits)
            rows.append(
                {
                    **{"family": family, "study": seed, "method": method, "seeds": design.seeds},
                    **{"sweep": design.sweep, "scales": len(design.scales), "truth": made.drift},
                    **slope.columns("drift"),
                    "regret_truth": made.regret,
                    **cost.columns("regret"),
                    "verdict": verdict(slope, cost, design.seeds, every),
                }
            )
    return pd.DataFrame(rows)


def studies(count: int, make: Callable[[Family, int], pd.DataFrame]) -> pd.DataFrame:
    """The rows of simulated studies, `count` of each family, with progress on stderr."""
    cases = list(itertools.product(get_args(Family), range(count)))
    found = []
    for family, number in cases:
        found.append(make(family, number))
        print(f"\r{len(found)} of {len(cases)} studies", end="", file=sys.stderr)
    print(file=sys.stderr)
    return pd.concat(found)


def _estimates(
    made: Simulated, shared: Shared, inflation: float
) -> dict[Method, tuple[Interval, Interval]]:
    """Drift and the regret at the largest scale, by each method."""
    counted = counted_scales(made.fits)
    largest = max(counted, default=made.base)
    arm = pooled_arm(made.fits, made.base, shared, inflation)
    pooled = (UNKNOWN, UNKNOWN)
    if arm is not None and largest in arm.draws:
        pooled = (credible(arm.drift), credible(arm.regret(largest)))
    return {
        "by seed": (drift(made.fits), regret(made.fits, made.base, largest)),
        "pooled": pooled,
    }


def summary(simulated: pd.DataFrame) -> pd.DataFrame:
    """How good the methods are.

    Returns:
        a row a family and method: `sweeps`; `coverage`, the share of known intervals of the drift
        that hold the truth, and `regret_coverage`; `known`, the share of sweeps with an interval;
        `width`, the median of it in octaves a doubling, `rmse` of the estimate; `holds_at_0` and
        `fails_at_0.4`, the shares of sweeps with such a drift that get this verdict, and
        `wrong`, the share of all that get the opposite one.
    """
    rows = []
    for (family, method), some in simulated.groupby(["family", "method"]):
        known = some[some["drift_low"].notna()]
        costs = known[known["regret_low"].notna()]
        within = some["truth"].abs() <= DRIFT_TOLERANCE
        within &= some["regret_truth"] <= REGRET_TOLERANCE
        wrong = (some["verdict"] == "fails") & within | (some["verdict"] == "holds") & ~within
        rows.append(
            {
                "family": family,
                "method": method,
                "sweeps": len(some),
                "known": len(known) / len(some),
                "coverage": _inside(known, "truth", "drift"),
                "width": (known["drift_high"] - known["drift_low"]).median(),
                "rmse": math.sqrt(((known["drift"] - known["truth"]) ** 2).mean()),
                "regret_coverage": _inside(costs, "regret_truth", "regret"),
                **{
                    f"{word}_at_{level:g}": (at["verdict"] == word).mean()
                    for word, level in (("holds", 0.0), ("fails", 0.4))
                    if len(at := some[np.isclose(some["truth"], level)])
                },
                "wrong": wrong.mean(),
            }
        )
    return pd.DataFrame(rows)


def _inside(table: pd.DataFrame, truth: str, name: str) -> float:
    """The share of intervals that hold the truth, to a thousandth of a nat or octave."""
    low, high = table[f"{name}_low"] - 1e-3, table[f"{name}_high"] + 1e-3
    return float(((low <= table[truth]) & (table[truth] <= high)).mean())


def markdown(table: pd.DataFrame) -> str:
    """The summary for docs/statistics.md."""
    columns: Columns = {
        "shapes": "family",
        "method": "method",
        "coverage": lambda row: f"{row['coverage']:.3f}",
        "coverage, regret": lambda row: f"{row['regret_coverage']:.3f}",
        "width (octaves per doubling)": lambda row: f"{row['width']:.2f}",
        "rmse": lambda row: f"{row['rmse']:.3f}",
        "holds, drift 0": lambda row: f"{row['holds_at_0']:.2f}",
        "fails, drift 0.4": lambda row: f"{row['fails_at_0.4']:.2f}",
        "wrong": lambda row: f"{row['wrong']:.3f}",
    }
    rows = readable(table, columns).reset_index().to_numpy().tolist()
    return markdown_table(list(columns), rows)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, and write the summary; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m analysis.simulation", description=__doc__)
    every = "of each family (default: 100)"
    parser.add_argument("--studies", type=positive, default=100, help=every)
    parser.add_argument(
        "--output", type=given_path, default=COMMITTED_RESULTS / "simulation.csv", metavar="FILE"
    )
    options = parser.parse_args(arguments)
    check_writable(options.output.parent, "--output")
    table = summary(studies(options.studies, study))
    write_atomically(
        options.output, lambda file: table.to_csv(file, index=False, float_format="%.4g")
    )
    print(markdown(table), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
