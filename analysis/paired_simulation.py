"""How often differences between two arms are right: on simulated pairs of arms of the same seeds.

`python -m analysis.paired_simulation` writes `analysis/results/simulation_pairs.csv`. A pair is two
arms that share their base, at one scale besides; the loss of one is higher by a known amount, and
its optimum half an octave off. Shapes are those of `analysis.simulation`. Noise has heavy tails,
and that of one seed correlates between the arms by a known amount: on shapes `alike` as that of one
arm does, on `hostile` ones as a shift of the whole curve, which no method assumes.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, get_args

import numpy as np
import pandas as pd

from analysis.comparisons import Differences, by_seed, pooled
from analysis.load import COMMITTED_RESULTS
from analysis.pooled import INFLATION, Floats, Shared, learn
from analysis.pooled_transfer import curve_of, pooled_arm
from analysis.report import Columns, readable
from analysis.simulation import LEARNT, Family, shape_of, tails
from analysis.transfer import ScaleFits, fit_scale
from paper_repro.command import command
from paper_repro.files import write_atomically
from paper_repro.parameterization.page import markdown_table
from paper_repro.paths import check_writable, given_path

CORRELATIONS = (0.0, 0.5, 0.9)
SEEDS = (3, 5, 8)
"""A pair in turn has so many."""
HIGHER = 0.03
"""Nats by which the second arm's least loss is higher."""
_MOVED = 0.5
"""Octaves from the base's optimum to that of the second arm."""
_LOG_SIGMA = -3.6
_BASE, _SCALE = 1, 4
_LEARNT_FROM = 24
"""Pairs from whose curves it is learnt what they share."""


class Pair(NamedTuple):
    """Two arms with what is true of them."""

    one: ScaleFits
    other: ScaleFits
    difference: float
    """Loss of the first less that of the second with the base's optimum, nats."""
    tuned: float


def simulate_pair(
    family: Family, correlation: float, seeds: int, random: np.random.Generator
) -> Pair:
    """Losses of two arms at the base and another scale."""
    x = np.arange(-3.0, 4.0) + random.uniform(-0.5, 0.5)
    base = fit_scale(_frame(x, shape_of(family, random), _noise((x,), 0.0, "alike", seeds, random)))
    optima, levels = (0.0, _MOVED), (0.0, HIGHER)
    shapes = [shape_of(family, random) for _ in optima]
    noise = _noise([x - optimum for optimum in optima], correlation, family, seeds, random)
    arms, losses = [], []
    for k, (optimum, level, shape) in enumerate(zip(optima, levels, shapes, strict=True)):
        frame = _frame(x - optimum, shape, [noise[k] + level]).set_axis(pd.Index(x, name="log2"))
        arms.append({_BASE: base, _SCALE: fit_scale(frame)})
        losses.append(level + float(shape(np.array([-optimum]))[0]))
    return Pair(*arms, losses[0] - losses[1], levels[0] - levels[1])


def _frame(z: Floats, shape: Callable[[Floats], Floats], noise: Sequence[Floats]) -> pd.DataFrame:
    """Loss by octaves from the optimum and seed."""
    return pd.DataFrame(2 + shape(z)[:, None] + noise[0], index=pd.Index(z, name="log2"))


def _noise(
    places: Sequence[Floats],
    correlation: float,
    family: Family,
    seeds: int,
    random: np.random.Generator,
) -> list[Floats]:
    """Of every seed, at the octaves from the optimum of each arm (points, seeds)."""
    z = np.concatenate(places)
    growth = np.exp(LEARNT.growth * z)
    covariance = LEARNT.covariance(z) / growth[:, None] / growth + 1e-9 * np.eye(len(z))
    factor = np.linalg.cholesky(covariance)

    def unit() -> Floats:
        made: Floats = factor @ random.standard_normal((len(z), seeds)) * tails(seeds, random)
        return made

    common = unit()
    if family == "hostile":
        common = np.broadcast_to(common[:1], common.shape)
    made, first = [], 0
    for points in map(len, places):
        rows = slice(first, first := first + points)
        own = math.sqrt(correlation) * common + math.sqrt(1 - correlation) * unit()
        sigma = math.exp(random.normal(_LOG_SIGMA, 0.2)) * growth
        made.append((sigma[:, None] * own)[rows])
    return made


def case(family: Family, correlation: float, pairs: int, seed: int = 0) -> pd.DataFrame:
    """Simulated pairs of one kind.

    Returns:
        a row a pair and method (`together`: draws of both arms together; `apart`: of each by
        itself; `by seed`): both differences with intervals, and the truths.
    """
    random = np.random.default_rng(seed)
    count = itertools.islice(itertools.cycle(SEEDS), pairs)
    made = [simulate_pair(family, correlation, seeds, random) for seeds in count]
    fits = [
        fit
        for pair in made[:_LEARNT_FROM]
        for fit in (pair.one[_BASE], pair.one[_SCALE], pair.other[_SCALE])
    ]
    shared = learn([curve for fit in fits if (curve := curve_of(fit)) is not None])
    rows = []
    for number, pair in enumerate(made):
        methods = {
            "together": pooled(pair.one, pair.other, _BASE, _SCALE, shared, INFLATION),
            "apart": _apart(pair, shared),
            "by seed": by_seed(pair.one, pair.other, _BASE, _SCALE),
        }
        for method, found in methods.items():
            if found is not None:
                rows.append(
                    {
                        **{"family": family, "correlation": correlation, "pair": number},
                        "method": method,
                        **found.difference.columns("difference"),
                        **found.tuned.columns("tuned"),
                        "difference_truth": pair.difference,
                        "tuned_truth": pair.tuned,
                    }
                )
    return pd.DataFrame(rows)


def _apart(pair: Pair, shared: Shared) -> Differences | None:
    """As if the arms shared no seeds."""
    one, other = (pooled_arm(fits, _BASE, shared, INFLATION) for fits in pair[:2])
    return None if one is None or other is None else Differences.of(one, other, _SCALE)


def summary(simulated: pd.DataFrame) -> pd.DataFrame:
    """How good the methods are.

    Returns:
        a row a family, correlation and method: `pairs` with a known interval; of the difference
        and the tuned one the `coverage`, the share of intervals that hold the truth, and the
        `half_width`, the median in nats; `decided`, the share of pairs whose tuned difference is
        told from 0, and `wrong`, where it has the other sign.
    """
    rows = []
    for (family, correlation, method), some in simulated.groupby(
        ["family", "correlation", "method"]
    ):
        row = {"family": family, "correlation": correlation, "method": method}
        for name in ("difference", "tuned"):
            known = some[some[f"{name}_low"].notna()]
            low, high, truth = (known[name + end] for end in ("_low", "_high", "_truth"))
            row[f"{name}_coverage"] = float(((low <= truth) & (truth <= high)).mean())
            row[f"{name}_half_width"] = float(((high - low) / 2).median())
        rows.append(
            row
            | {
                "pairs": len(known),
                "decided": float((known["tuned_high"] < 0).mean()),
                "wrong": float((known["tuned_low"] > 0).mean()),
            }
        )
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame) -> str:
    """The summary for docs/statistics.md."""
    columns: Columns = {
        "shapes": "family",
        "correlation": "correlation",
        "method": "method",
        "coverage, base's rate": lambda row: f"{row['difference_coverage']:.3f}",
        "half-width (nats)": lambda row: f"{row['difference_half_width']:.3f}",
        "coverage, tuned": lambda row: f"{row['tuned_coverage']:.3f}",
        "half-width (nats), tuned": lambda row: f"{row['tuned_half_width']:.3f}",
        "decided, tuned": lambda row: f"{row['decided']:.2f}",
        "wrong": lambda row: f"{row['wrong']:.3f}",
    }
    rows = readable(table, columns).reset_index().to_numpy().tolist()
    return markdown_table(list(columns), rows)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, and write the summary; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.paired_simulation", description=__doc__
    )
    parser.add_argument("--pairs", type=int, default=300, help="of each kind (default: 300)")
    parser.add_argument(
        "--output",
        type=given_path,
        default=COMMITTED_RESULTS / "simulation_pairs.csv",
        metavar="FILE",
    )
    options = parser.parse_args(arguments)
    check_writable(options.output.parent, "--output")
    kinds = itertools.product(get_args(Family), CORRELATIONS)
    table = summary(pd.concat([case(*kind, options.pairs) for kind in kinds]))
    write_atomically(
        options.output, lambda file: table.to_csv(file, index=False, float_format="%.4g")
    )
    print(markdown(table), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
