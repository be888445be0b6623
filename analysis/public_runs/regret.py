"""What it costs, in nats, to carry the best learning rate from cell to cell under a rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from analysis.optimum import Floats
from analysis.public_runs.cells import DIVERGED, Cell
from analysis.public_runs.regimes import Grid, TwoPlanes, fit_two_planes, inflated
from analysis.transfer import REGRET_TOLERANCE
from paper_repro.statistics import Interval

RegretVerdict = Literal["free", "costs", "not decided"]

FITTED = "fitted"
#: Exponents of batch and tokens of the rules that know no grid.
RULES: dict[str, tuple[float, float]] = {
    "none": (0.0, 0.0),
    "√(B/D)": (0.5, -0.5),
    "D^−0.3": (0.0, -0.3),
}
_RESAMPLES = 1000


class Pair(NamedTuple):
    """A cell whose best rate is known, and one to carry it to."""

    source: Cell
    target: Cell

    @property
    def octaves(self) -> tuple[float, float]:
        """How much the batch and the tokens grow."""
        batch = np.log2(self.target.batch / self.source.batch)
        return float(batch), float(np.log2(self.target.tokens / self.source.tokens))

    @property
    def grows(self) -> str:
        """What does: `batch`, `tokens` or `both`."""
        batch, tokens = self.octaves
        return "both" if batch > 0 and tokens > 0 else "batch" if batch > 0 else "tokens"


def upward_pairs(cells: Sequence[Cell]) -> list[Pair]:
    """Pairs of bracketed cells of one model, none of batch and tokens shrinking."""
    used = [cell for cell in cells if cell.curve.bracketed]
    pairs = [Pair(*each) for each in permutations(used, 2) if each[0].model == each[1].model]
    return [pair for pair in pairs if min(pair.octaves) >= 0]


def regret_table(cells: Sequence[Cell]) -> pd.DataFrame:
    """The mean regret of each rule, by what grows.

    Columns: `grows` (`batch`, `tokens`, `both` or `any`), `rule`, `pairs`, `regret` with its
    interval (nats) and `verdict` (`free` below the tolerance of 0.02 nats, `costs` above), `over`
    (the share of pairs above the tolerance), `diverged` (the share cut at 0.5).
    """
    pairs = upward_pairs(cells)
    costs = pd.DataFrame(
        {
            "grows": [pair.grows for pair in pairs],
            "source": [pair.source.group for pair in pairs],
            "target": [pair.target.group for pair in pairs],
            **{rule: costs_of(pairs, shift) for rule, shift in shifts(cells).items()},
        }
    )
    rows = []
    for grows in ("batch", "tokens", "both", "any"):
        some = costs if grows == "any" else costs[costs["grows"] == grows]
        for rule in (*RULES, FITTED):
            mean = mean_regret(some, rule)
            rows.append(
                {
                    "grows": grows,
                    "rule": rule,
                    "pairs": len(some),
                    **mean.columns("regret"),
                    "verdict": regret_verdict(mean),
                    "over": float((some[rule] > REGRET_TOLERANCE).mean()),
                    "diverged": float((some[rule] >= DIVERGED).mean()),
                }
            )
    return pd.DataFrame(rows)


def regret_verdict(regret: Interval) -> RegretVerdict:
    """Whether a mean regret is within the tolerance; an unknown interval decides nothing."""
    if regret.high < REGRET_TOLERANCE:
        return "free"
    return "costs" if regret.low > REGRET_TOLERANCE else "not decided"


Shift = Callable[[Pair], float]
"""Octaves by which a rule moves the rate of the source."""


def shifts(cells: Sequence[Cell]) -> Mapping[str, Shift]:
    """The rules, and the planes fitted without the group of the target."""
    grid = Grid.of(cells)
    names = sorted({cell.group for cell in cells if cell.curve.bracketed})
    planes = {
        name: fit_two_planes(grid.take(grid.groups != number)) for number, name in enumerate(names)
    }

    def fitted(pair: Pair) -> float:
        found: TwoPlanes = planes[pair.target.group]
        source, target = found(grid.at(pair))
        return float(target - source)

    def by_exponents(batch: float, tokens: float) -> Shift:
        return lambda pair: float(np.dot(pair.octaves, (batch, tokens)))

    return {**{rule: by_exponents(*each) for rule, each in RULES.items()}, FITTED: fitted}


def costs_of(pairs: Sequence[Pair], shift: Shift) -> Floats:
    """The regret of each pair (nats)."""
    return np.array([p.target.regret(p.source.curve.log2 + shift(p)) for p in pairs])


def mean_regret(costs: pd.DataFrame, rule: str) -> Interval:
    """The mean over pairs; its interval from a bootstrap that draws groups as sources and targets.

    A pair counts as often as both of its groups were drawn; of one group, as often as that was.
    """
    names = sorted({*costs["source"], *costs["target"]})
    number = {name: index for index, name in enumerate(names)}
    source = costs["source"].map(number).to_numpy(dtype=int)
    target = costs["target"].map(number).to_numpy(dtype=int)
    values = costs[rule].to_numpy(dtype=float)
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(_RESAMPLES):
        times = np.bincount(random.integers(len(names), size=len(names)), minlength=len(names))
        weights = np.where(source == target, times[source], times[source] * times[target])
        if weights.sum():
            drawn.append(float(np.average(values, weights=weights)))
    return inflated(float(values.mean()), drawn, len(names))
