"""Does the optimum transfer, in the population of seeds? Drift and regret from pooled curves.

The question and the thresholds are those of `analysis.transfer`, which estimates seed by seed; here
optima are drawn from `analysis.pooled`. Two things differ. Regret is that of the population: the
mean loss with the base's optimum above the least mean loss, to which the noise of tuning with one
seed adds nothing; what that noise costs by itself is the *floor*. And it is judged at the worst
scale, not at the largest.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.arms import LR, WEIGHT_DECAY, Arm, configured_arms, select
from analysis.likelihood import WINDOW, Curve, Floats
from analysis.pooled import INFLATION, Draws, Shared, draw, learn
from analysis.transfer import (
    DRIFT_TOLERANCE,
    REGRET_TOLERANCE,
    ScaleFit,
    ScaleFits,
    Transfer,
    TransferVerdict,
    counted_scales,
    fit_scale,
    regret,
    verdict,
)
from paper_repro.errors import ConfigError
from paper_repro.statistics import CONFIDENCE, UNKNOWN, Interval

#: Deviations of shapes are taken so many times as large as learnt: curves over λ are few.
INFLATIONS = {LR: INFLATION, WEIGHT_DECAY: 2.0}

#: Seeds that nobody will run: more than these would decide means none would.
MOST_SEEDS = 40

#: Octaves around the base's optimum over which sensitivity is the mean.
SENSITIVITY = 1.5

#: The first of the seeds that only confirm what others showed (docs/designs.md).
HELD_OUT = 40

AllShared = Mapping[str, Shared]
"""What curves share, by the hyperparameter that they are over."""


def learn_all(transfers: Iterable[Transfer], window: float = WINDOW) -> dict[str, Shared]:
    """What the curves of all sweeps share, by hyperparameter. Equal trainings count once."""
    curves: dict[str, dict[bytes, Curve]] = {}
    for transfer in transfers:
        known = curves.setdefault(transfer.hyperparameter, {})
        for fits in transfer.arms.values():
            for fit in fits.values():
                if (curve := curve_of(fit, window)) is not None:
                    known[np.sort(curve.losses, axis=None).tobytes()] = curve
    return {name: learn(list(known.values())) for name, known in curves.items()}


def curve_of(fit: ScaleFit, window: float = WINDOW) -> Curve | None:
    """The curve of an arm at a scale, of the seeds with every run; None if too little is there."""
    try:
        return Curve.of(fit.curves.index, fit.curves.dropna(axis="columns").to_numpy(), window)
    except ConfigError:
        return None


@dataclass(frozen=True, eq=False)
class PooledArm:
    """The draws of one arm at the scales whose optimum is bracketed."""

    draws: Mapping[int, Draws]
    base: int

    @property
    def seeds(self) -> int:
        """Of the curve that has the fewest."""
        return min(int(draws.curve.losses.shape[1]) for draws in self.draws.values())

    @property
    def drift(self) -> Floats:
        """Octaves per doubling of the scale (draws,)."""
        return drift_of(self.draws)

    def shift(self, scale: int) -> Floats:
        """Octaves from the base's optimum to that of a scale (draws,)."""
        return self.draws[scale].optimum - self.draws[self.base].optimum

    def regret(self, scale: int) -> Floats:
        """Mean loss at a scale with the base's optimum above its least, nats (draws,)."""
        return self.draws[scale].excess(self.draws[self.base].optimum)

    def loss(self, scale: int) -> Floats:
        """Mean loss at a scale with the base's optimum, nats (draws,)."""
        return self.draws[scale].loss + self.regret(scale)

    def sensitivity(self, scale: int) -> Floats:
        """Mean excess loss at a scale within ±1.5 octaves of the base's optimum, nats (draws,).

        What a user pays who knows the rate to a factor of three (arXiv 2309.14322 has the measure).
        """
        around = np.linspace(-SENSITIVITY, SENSITIVITY, 13)
        at = [self.draws[scale].excess(self.draws[self.base].optimum + each) for each in around]
        mean: Floats = np.mean(at, axis=0)
        return mean

    @property
    def worst(self) -> int:
        """The scale with the largest regret."""
        others = [scale for scale in self.draws if scale != self.base]
        return max(others, key=lambda scale: float(np.median(self.regret(scale))))

    def verdict(self, bracketed: bool) -> TransferVerdict:
        """Of the drift, and of the regret at the worst scale: see `analysis.transfer.verdict`."""
        slope, cost = credible(self.drift), credible(self.regret(self.worst))
        return verdict(slope, cost, self.seeds, bracketed)


def pooled_arm(
    fits: ScaleFits, base: int, shared: Shared, inflation: float, window: float = WINDOW
) -> PooledArm | None:
    """The draws of an arm; None if the base or all other scales have no bracketed optimum."""
    draws = bracketed_draws(fits, shared, inflation, window)
    return PooledArm(draws, base) if base in draws and len(draws) > 1 else None


def bracketed_draws(
    fits: ScaleFits, shared: Shared, inflation: float, window: float = WINDOW
) -> dict[int, Draws]:
    """The draws at the scales whose optimum is bracketed.

    Equal trainings have equal draws, shifted where they are stated otherwise.
    """
    draws = {}
    for scale in counted_scales(fits):
        if (curve := curve_of(fits[scale], window)) is not None:
            seed = zlib.crc32(np.ascontiguousarray(curve.losses).tobytes())
            draws[scale] = draw(curve, shared, seed=seed, inflation=inflation)
    return draws


def drift_of(draws: Mapping[int, Draws]) -> Floats:
    """Octaves of the optimum per doubling of the scale, by least squares over scales (draws,)."""
    octaves = np.log2(list(draws))
    centred = octaves - octaves.mean()
    optima = np.stack([each.optimum for each in draws.values()])
    slope: Floats = centred @ optima / (centred**2).sum()
    return slope


def credible(values: Floats, confidence: float = CONFIDENCE) -> Interval:
    """The median of draws, and the quantiles around it."""
    tail = (1 - confidence) / 2
    low, middle, high = np.quantile(values, [tail, 0.5, 1 - tail])
    return Interval(float(middle), float(low), float(high))


def share_within(values: Floats, limit: float) -> float:
    """The share of draws up to a limit, between neighbouring draws by a straight line.

    The inverse of numpy's quantiles: continuous, where a count steps with every draw.
    """
    return float(np.interp(limit, np.sort(values), np.linspace(0, 1, len(values)), left=0, right=1))


def retuning_floor(fit: ScaleFit) -> float:
    """What it costs, in nats, to use at a scale the optimum of another seed at the same scale.

    The mean over ordered pairs of seeds of what `analysis.transfer.regret` would be if the base
    were the scale itself; NaN with fewer than two seeds.
    """
    costs = [
        fit.seeds[seed].at(fit.seeds[other].log2) - fit.seeds[seed].loss
        for seed, other in itertools.permutations(fit.seeds, 2)
    ]
    return float(np.mean(costs)) if costs else math.nan


def transfer_rows(transfer: Transfer, shared: AllShared, size: str = "cpu") -> pd.DataFrame:
    """The table of transfer: two rows for each arm that is no copy of another, one a method.

    Columns are those of `Transfer.drifts`, and: `also`, the arms that are the same trainings, by
    name; `method`, `pooled` or `by seed`; `regret_worst` with its interval, at `worst_scale`;
    `regret_floor` there; of the pooled method `p_holds` and `p_fails`, the probabilities that drift
    and worst regret are within their tolerances, and that they are not; `decides`, what would
    decide a verdict that is open; and, where seeds of `HELD_OUT` and above were trained,
    `p_holds_held_out`, P(holds) of these alone, and `confirmed`: of an arm that holds by the seeds
    below, `yes` if that is above one half and all seeds together still hold, else `no`.
    """
    table = dict(zip(transfer.arms, transfer.drifts(size).to_dict("records"), strict=True))
    rows = []
    for arm, others in same_trainings(transfer).items():
        also = {"also": "; ".join(other.label for other in others)}
        fits, known = transfer.arms[arm], table[arm] | also
        inflation = INFLATIONS[transfer.hyperparameter]
        pooled = pooled_arm(fits, transfer.base, shared[transfer.hyperparameter], inflation)
        if pooled is not None:
            row = known | {"method": "pooled"} | _pooled(fits, pooled, bool(known["bracketed"]))
            row["decides"] = what_decides(row, select(transfer.runs, arm))
            rows.append(row | _held_out(transfer, arm, shared, row["verdict"] == "holds"))
        rows.append(known | {"method": "by seed"} | _by_seed(fits, transfer.base))
    return pd.DataFrame(rows)


def pooled_optima(transfer: Transfer, shared: AllShared) -> pd.DataFrame:
    """What the pooled estimate adds to `Transfer.optima`, with its rows; NaN where unknown.

    Columns, each with an interval: `pooled_shift`, octaves from the base's optimum;
    `pooled_regret` and `sensitivity`, nats.
    """
    rows = []
    for fits in transfer.arms.values():
        known = shared[transfer.hyperparameter], INFLATIONS[transfer.hyperparameter]
        arm = pooled_arm(fits, transfer.base, *known)
        for scale in fits:
            measures = dict.fromkeys(("pooled_shift", "pooled_regret", "sensitivity"), UNKNOWN)
            if arm is not None and scale in arm.draws:
                draws = arm.shift(scale), arm.regret(scale), arm.sensitivity(scale)
                measures = dict(zip(measures, map(credible, draws), strict=True))
            columns = (interval.columns(name) for name, interval in measures.items())
            rows.append(dict(ChainMap(*columns)))
    return pd.DataFrame(rows)


def _pooled(fits: ScaleFits, arm: PooledArm, bracketed: bool) -> dict[str, object]:
    drift, worst = arm.drift, arm.regret(arm.worst)
    slope, cost = credible(drift), credible(worst)
    share = np.maximum(np.abs(drift) / DRIFT_TOLERANCE, worst / REGRET_TOLERANCE)
    stays = share_within(share, 1.0)
    return {
        **slope.columns("drift"),
        **credible(arm.regret(max(arm.draws))).columns("regret"),
        **cost.columns("regret_worst"),
        "worst_scale": arm.worst,
        "regret_floor": retuning_floor(fits[arm.worst]),
        "p_holds": stays,
        "p_fails": 1 - stays,
        "verdict": arm.verdict(bracketed),
    }


_NOT_HELD_OUT = {"p_holds_held_out": math.nan, "confirmed": ""}


def _held_out(transfer: Transfer, arm: Arm, shared: AllShared, holds: bool) -> dict[str, object]:
    """What held-out seeds say of an arm; `holds` is what all seeds together do."""
    found = []
    for part in _by_use(transfer.arms[arm]):
        every = len(counted_scales(part)) == len(part)
        known = shared[transfer.hyperparameter], INFLATIONS[transfer.hyperparameter]
        if part and (pooled := pooled_arm(part, transfer.base, *known)):
            found.append(_pooled(part, pooled, every))
    if len(found) < 2:
        return _NOT_HELD_OUT
    first, held_out = found
    confirmed = ""
    if first["verdict"] == "holds":
        confirmed = "yes" if holds and held_out["p_holds"] > 0.5 else "no"  # type: ignore[operator]
    return {"p_holds_held_out": held_out["p_holds"], "confirmed": confirmed}


def _by_use(fits: ScaleFits) -> Iterator[ScaleFits]:
    """The curves of seeds that show something, and of those that confirm it; empty without any."""
    for held_out in (False, True):
        curves = {
            scale: fit.curves.loc[:, (fit.curves.columns.astype(int) >= HELD_OUT) == held_out]
            for scale, fit in fits.items()
        }
        some = all(part.shape[1] for part in curves.values())
        yield {scale: fit_scale(part) for scale, part in curves.items()} if some else {}


def _by_seed(fits: ScaleFits, base: int) -> dict[str, object]:
    """The worst regret seed by seed; the rest is in the table of drifts."""
    costs = {scale: regret(fits, base, scale) for scale in counted_scales(fits) if scale != base}
    known = {scale: cost for scale, cost in costs.items() if not math.isnan(cost.value)}
    worst = max(known, key=lambda scale: known[scale].value, default=0)
    return {
        **known.get(worst, UNKNOWN).columns("regret_worst"),
        "worst_scale": worst,
        "regret_floor": retuning_floor(fits[worst]) if worst else math.nan,
        **dict.fromkeys(("p_holds", "p_fails"), math.nan),
        "decides": "",
        **_NOT_HELD_OUT,
    }


def what_decides(row: Mapping[Any, Any], runs: pd.DataFrame) -> str:
    """What would decide an open verdict: how many seeds, or that seeds would not; else empty.

    Intervals are taken to shrink as one over the root of the number of seeds around estimates that
    stay, so it is a budget and no promise.

    Args:
        row: of the table of transfer.
        runs: of its arm, from whose `wall_seconds` the work is taken.
    """
    if row["verdict"] != "not decided":
        return ""
    if not row["bracketed"]:
        return "a grid with every optimum inside"
    drift, worst = (
        Interval(*(float(row[name + end]) for end in ("", "_low", "_high")))
        for name in ("drift", "regret_worst")
    )
    seeds = int(row["seeds"])
    needed = deciding_seeds(drift, worst, seeds)
    if needed is None:
        return "no number of seeds: the estimate is at the threshold; a wider range of scales"
    needed = max(needed, seeds + 1)
    count, hours = (each * (needed - seeds) for each in cost_of_a_seed(runs))
    work = f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"
    return f"about {needed} seeds ({count:.0f} runs more, {work} of one core)"


def cost_of_a_seed(runs: pd.DataFrame) -> tuple[float, float]:
    """The runs of one seed of an arm at every scale and value, and their core-hours, as a mean."""
    number = len(runs) / runs["seed"].nunique()
    return number, float(number * runs["wall_seconds"].mean() / 3600)


def deciding_seeds(drift: Interval, regret: Interval, seeds: int) -> int | None:
    """How many seeds would decide, where every optimum is bracketed; None if none would."""
    effects = ((drift, DRIFT_TOLERANCE), (regret, REGRET_TOLERANCE))
    needed = [_seeds_to_the_tolerance(*each, seeds) for each in effects]
    beyond = [
        number
        for number, (effect, tolerance) in zip(needed, effects, strict=True)
        if abs(effect.value) > tolerance
    ]
    number = min(beyond) if beyond else max(needed)  # to fail, one; to hold, both
    return None if number > MOST_SEEDS else math.ceil(number)


def _seeds_to_the_tolerance(effect: Interval, tolerance: float, seeds: int) -> float:
    """Seeds with which the end of an interval that is nearest to a tolerance would be there."""
    size, distance = abs(effect.value), abs(tolerance - abs(effect.value))
    outward = (size < tolerance) == (effect.value >= 0)
    half = effect.high - effect.value if outward else effect.value - effect.low
    return seeds * (half / distance) ** 2 if distance > 0 else math.inf


def same_trainings(transfer: Transfer) -> dict[Arm, list[Arm]]:
    """The arms of a sweep that are no copies, each with those that are the same trainings.

    Of arms that are one, the one stands first that runs were configured as.
    """
    groups: dict[frozenset[tuple[float, ...]], list[Arm]] = {}
    for arm, fits in transfer.arms.items():
        groups.setdefault(_losses(fits), []).append(arm)
    configured = configured_arms(transfer.runs)
    ordered = (sorted(arms, key=lambda arm: arm not in configured) for arms in groups.values())
    return {first: others for first, *others in ordered}


def _losses(fits: ScaleFits) -> frozenset[tuple[float, ...]]:
    """Scale, value, seed and loss of every run: as good as a name of the training."""
    return frozenset(
        (scale, round(float(str(log2)), 9), float(str(seed)), loss)
        for scale, fit in fits.items()
        for seed, curve in fit.curves.items()
        for log2, loss in curve.dropna().items()
    )
