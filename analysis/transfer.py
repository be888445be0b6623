"""Does the optimum transfer? Optima along one axis, their drift, the regret, and a verdict.

Every statistic is computed within a seed (runs that share a seed share their data) and then
averaged over seeds with an interval: see `paper_repro.statistics`. Unbracketed optima are shown and
flagged, and enter no statistic.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from analysis.arms import CONFIG_SECTIONS, LR, Arm, ScaleAxis, arms_of, select
from analysis.optimum import FLAT, FittedCurve, find_window, fit_optimum
from analysis.studies import Study
from paper_repro.errors import ConfigError
from paper_repro.statistics import UNKNOWN, Interval, over_seeds

TransferVerdict = Literal["holds", "fails", "not decided"]

#: Octaves per doubling within which an optimum counts as stable: half of the smallest drift that
#: theory gives Adam's hidden layers without transfer (width^-1/2 to width^-1, arXiv 2407.05872).
DRIFT_TOLERANCE = 0.25

#: Nats of regret within which transferring counts as free: half of the smallest loss that an
#: independent user called a failure of transfer (0.040 nats, the duration rule at 125M).
REGRET_TOLERANCE = 0.02


@dataclass(frozen=True)
class ScaleFit:
    """The loss curves of one arm at one scale: their seed mean, and each seed's own."""

    curves: pd.DataFrame
    """Loss by log2 of the hyperparameter (rows, ascending) and seed (columns)."""
    mean: FittedCurve
    """The seed-mean curve. A rate at which any seed diverged is a diverged rate."""
    seeds: Mapping[int, FittedCurve]
    """Seeds that have a loss at every fitted point, fitted in the window of the mean."""

    @property
    def optimum(self) -> Interval:
        """log2 of the optimum, over seeds; the interval is unknown if it is not bracketed."""
        estimate = over_seeds([curve.log2 for curve in self.seeds.values()])
        if not self.mean.bracketed:
            return Interval(self.mean.log2, math.nan, math.nan)
        return estimate.widened(0.0, self.slack)

    @property
    def slack(self) -> float:
        return max((curve.slack for curve in self.seeds.values()), default=0.0)

    @property
    def loss(self) -> Interval:
        """Loss at the optimum in nats, over seeds."""
        return over_seeds([curve.loss for curve in self.seeds.values()])


ScaleFits = dict[int, ScaleFit]


@dataclass(frozen=True, eq=False)
class Transfer:
    """The fitted loss curves of all arms of a sweep along one axis."""

    runs: pd.DataFrame
    axis: ScaleAxis
    hyperparameter: str
    """The column of the hyperparameter that was swept."""
    base: int
    """The scale at which hyperparameters are stated."""
    arms: Mapping[Arm, ScaleFits]
    """The curves by arm, in the order of print, and scale, ascending."""

    def losses(self) -> pd.DataFrame:
        """The loss curves themselves: one row an arm, scale, value of the hyperparameter and seed.

        A run that diverged has the loss +inf; where there is no run, there is no row.
        """
        parts = [
            fit.curves.reset_index()
            .melt(id_vars="log2", var_name="seed", value_name="loss")
            .dropna(subset="loss")
            .assign(label=arm.label, scale=scale)
            for arm, fits in self.arms.items()
            for scale, fit in fits.items()
        ]
        columns = ["label", "scale", "log2", "seed", "loss"]
        return pd.concat(parts, ignore_index=True)[columns]

    def optima(self) -> pd.DataFrame:
        """One row an arm and scale: the optimum, its shift from the base, and the regret.

        Optima are log2 of the hyperparameter, shifts octaves, losses and regrets nats. Intervals
        are NaN where unknown: one seed, or an optimum that is not bracketed.
        """
        return pd.DataFrame(
            {
                **arm.columns(),
                "label": arm.label,
                "axis": self.axis.name,
                "hyperparameter": self.hyperparameter,
                "scale": scale,
                "base": scale == self.base,
                "seeds": len(fit.seeds),
                "bracketed": fit.mean.bracketed,
                **fit.optimum.columns("optimum"),
                **fit.loss.columns("loss"),
                **shift(fits, self.base, scale).columns("shift"),
                **regret(fits, self.base, scale).columns("regret"),
            }
            for arm, fits in self.arms.items()
            for scale, fit in fits.items()
        )

    def drifts(self, size: str = "cpu") -> pd.DataFrame:
        """One row an arm: drift over all bracketed scales, regret at the largest, and the verdict.

        `scale_min` and `scale_max` are the bracketed scales that count, 0 if none does; `bracketed`
        says whether they are all scales. `seeds` are those in the drift, `size` that of the sweep.
        """
        rows = []
        for arm, fits in self.arms.items():
            slope, counted = drift(fits), counted_scales(fits)
            cost = regret(fits, self.base, max(counted, default=self.base))
            seeds, every = len(_optima(fits, counted)), len(counted) == len(fits)
            rows.append(
                {
                    **arm.columns(),
                    "label": arm.label,
                    "axis": self.axis.name,
                    "hyperparameter": self.hyperparameter,
                    "scale_min": min(counted, default=0),
                    "scale_max": max(counted, default=0),
                    "seeds": seeds,
                    **slope.columns("drift"),
                    **cost.columns("regret"),
                    "bracketed": every,
                    "verdict": verdict(slope, cost, seeds, every),
                    "size": size,
                }
            )
        return pd.DataFrame(rows)


def fit_arm(runs: pd.DataFrame, axis: ScaleAxis, hyperparameter: str = LR) -> ScaleFits:
    """Fit the loss curves of one arm at every scale of an axis, ascending.

    Raises:
        ConfigError: if two runs differ in more than scale, hyperparameter and seed.
    """
    fits: ScaleFits = {}
    for scale, group in runs.groupby(axis.column):
        _check_one_curve(group, hyperparameter)
        curves = group.pivot(index=hyperparameter, columns="seed", values="val_loss").sort_index()
        curves.index = pd.Index(np.log2(curves.index.to_numpy(dtype=float)), name="log2")
        fits[int(str(scale))] = fit_scale(curves)
    return fits


def fit_scale(curves: pd.DataFrame, flat_within: float = FLAT) -> ScaleFit:
    """Fit the curves of one arm at one scale: loss by log2 (rows, ascending) and seed (columns).

    Args:
        flat_within: as in `analysis.optimum.find_window`.
    """
    losses = curves.mean(axis=1, skipna=False)
    mean = fit_optimum(curves.index, losses, find_window(curves.index, losses, flat_within))
    seeds = {
        seed: fit_optimum(curves.index, curves[seed], mean.window)
        for seed in curves.columns.astype(int)
        if np.isfinite(curves[seed].iloc[mean.window.points]).all()
    }
    return ScaleFit(curves, mean, seeds)


def fit_transfer(runs: pd.DataFrame, axis: ScaleAxis, hyperparameter: str = LR) -> Transfer:
    """Fit the loss curves of every arm at every scale of an axis.

    Raises:
        ConfigError: if runs of one arm differ in more than scale, hyperparameter and seed, or runs
            do not agree on one base.
    """
    arms = {arm: fit_arm(select(runs, arm), axis, hyperparameter) for arm in arms_of(runs)}
    return Transfer(runs, axis, hyperparameter, base_scale(runs, axis), arms)


def check_curves(runs: pd.DataFrame, axis: ScaleAxis, hyperparameter: str = LR) -> None:
    """Check what `fit_transfer` needs of runs, which need no losses yet.

    Raises:
        ConfigError: as `fit_transfer`.
    """
    base_scale(runs, axis)
    for arm in arms_of(runs):
        for _, group in select(runs, arm).groupby(axis.column):
            _check_one_curve(group, hyperparameter)


def check_study(study: Study, runs: pd.DataFrame) -> None:
    """Check that runs have the arms of a study, and one curve at each of its scales.

    Raises:
        ConfigError: they have not, so that there would be no panels.
    """
    try:
        check_curves(study.figure_runs(runs), study.axis, study.hyperparameter)
    except ConfigError as error:
        raise ConfigError(f"along {study.axis.column}, {error}") from None


def base_scale(runs: pd.DataFrame, axis: ScaleAxis) -> int:
    """The scale at which the hyperparameters of a sweep are stated.

    Raises:
        ConfigError: if its runs do not agree on one.
    """
    bases = runs[axis.base_column].unique()
    if len(bases) != 1:
        raise ConfigError(f"{axis.base_column}: expected one base in a sweep, got {sorted(bases)}")
    return int(bases[0])


def counted_scales(fits: ScaleFits) -> list[int]:
    """The scales whose optimum is bracketed: the others enter no statistic."""
    return [scale for scale, fit in fits.items() if fit.mean.bracketed]


def shift(fits: ScaleFits, base: int, scale: int) -> Interval:
    """Octaves from the base's optimum to a scale's; unknown if either is not bracketed."""
    if scale == base or not {base, scale} <= {*counted_scales(fits)}:
        return UNKNOWN
    return _combine(fits, pd.Series({base: -1.0, scale: 1.0}))


def drift(fits: ScaleFits) -> Interval:
    """Octaves per doubling of the scale: the least-squares slope of log2 optimum on log2 scale.

    Over the bracketed scales, for the seeds that all of them have; unknown with fewer than two.
    """
    return _combine(fits, _slope_weights(fits))


def drift_by_seed(fits: ScaleFits) -> pd.Series:
    """`drift` of each seed by itself."""
    weights = _slope_weights(fits)
    return _optima(fits, weights.index) @ weights


def regret(fits: ScaleFits, base: int, scale: int) -> Interval:
    """Loss at a scale with the base's optimum, minus the scale's own best loss, in nats.

    Each seed tunes its own base, as a user would who can afford one run of the target; so noise in
    the tuning counts as regret, and the estimate errs on the high side. Losses between grid points
    are interpolated by `FittedCurve.at`. Unknown if either optimum is not bracketed or the base's
    lies outside the scale's grid; infinite if it lies where the scale diverges.
    """
    if scale == base or not {base, scale} <= {*counted_scales(fits)}:
        return UNKNOWN
    proxy, target = fits[base].seeds, fits[scale].seeds
    return over_seeds(
        [target[seed].at(proxy[seed].log2) - target[seed].loss for seed in proxy if seed in target]
    )


def verdict(drift: Interval, regret: Interval, seeds: int, bracketed: bool) -> TransferVerdict:
    """`holds`, `fails` or `not decided`: whether the optimum transfers at the measured scale.

    Fails if the whole interval of the drift lies beyond `DRIFT_TOLERANCE`, or that of the regret
    above `REGRET_TOLERANCE`, or the transferred value diverges. Holds if both intervals lie within
    and every optimum was bracketed: one that left the grid may be the failure that was looked for.
    Anything else, and anything seen with a single seed, is not decided.
    """
    if seeds < 2:
        return "not decided"
    drifts = drift.low > DRIFT_TOLERANCE or drift.high < -DRIFT_TOLERANCE
    if drifts or regret.low > REGRET_TOLERANCE or math.isinf(regret.value):
        return "fails"
    stable = drift.low >= -DRIFT_TOLERANCE and drift.high <= DRIFT_TOLERANCE
    return "holds" if stable and regret.high <= REGRET_TOLERANCE and bracketed else "not decided"


def _combine(fits: ScaleFits, weights: pd.Series) -> Interval:
    """A weighted sum of optima within each seed, over seeds; slack widens the side it pulls to."""
    pulls = weights * [fits[scale].slack for scale in weights.index]
    totals = _optima(fits, weights.index) @ weights
    return over_seeds(totals.tolist()).widened(
        below=float(-pulls.clip(upper=0).sum()), above=float(pulls.clip(lower=0).sum())
    )


def _slope_weights(fits: ScaleFits) -> pd.Series:
    """Weights of the bracketed scales in a least-squares slope; none for fewer than two."""
    scales = counted_scales(fits)
    octaves = pd.Series(np.log2(scales), scales, dtype=float)
    centred = octaves - octaves.mean()
    return (centred / (centred**2).sum()).dropna()  # 0/0 where there is a single scale


def _optima(fits: ScaleFits, scales: Iterable[int]) -> pd.DataFrame:
    """log2 of the optima by seed (rows: those that every one of these scales has) and scale."""
    return pd.DataFrame(
        {scale: {seed: curve.log2 for seed, curve in fits[scale].seeds.items()} for scale in scales}
    ).dropna()


def _check_one_curve(runs: pd.DataFrame, hyperparameter: str) -> None:
    """Raise ConfigError if two runs share the hyperparameter and the seed."""
    repeated = runs[runs.duplicated([hyperparameter, "seed"], keep=False)]
    if repeated.empty:
        return
    config = [str(name) for name in runs if str(name).startswith(CONFIG_SECTIONS)]
    differing = [name for name in config if repeated[name].nunique() > 1 and name != hyperparameter]
    raise ConfigError(
        f"{hyperparameter}: two runs share its value and the seed but differ in "
        f"{', '.join(differing) or 'nothing'}; select one arm of the sweep first"
    )
