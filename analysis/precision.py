"""Are runs in bfloat16 worth the same as runs in float32? The rule is in docs/performance.md.

Runs are paired by id: the same weights, data and hyperparameters in two precisions. Two roundings
lead to two trajectories, so a pair differs by chance; what is asked is whether the mean difference
of the final loss, and the mean shift of the optimum, are within tolerances that no study here could
see. Runs of one scale, rate and seed count once, whatever their arms: at the same rate the arms of
μP's family are nearly one training.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import pandas as pd

from analysis.arms import ScaleAxis, arms_of, select
from analysis.optimum import fit_optimum
from analysis.transfer import fit_arm
from paper_repro.errors import ConfigError
from paper_repro.statistics import Interval, over_seeds

LOSS_TOLERANCE = 0.002
"""Nats: a tenth of the regret within which transfer counts as free."""
SHIFT_TOLERANCE = 0.05
"""Octaves: a fifth of the drift per doubling within which an optimum counts as stable."""
CONFIDENCE = 0.90
"""Of the interval of a mean over all: within the tolerance, it is two one-sided tests at 5 %."""
PART_CONFIDENCE = 0.99
"""Of the interval of a part, of which there are nine: it says only what is certainly off."""

Verdict = Literal["holds", "fails", "not decided"]


def precision(bfloat16: pd.DataFrame, float32: pd.DataFrame, axis: ScaleAxis) -> pd.DataFrame:
    """What bfloat16 changes, in all, by scale and by rate, and the verdict.

    Args:
        bfloat16: runs in bfloat16.
        float32: runs in float32, among which are all of these.
        axis: what the scale is.

    Returns:
        a row for each `part` of a `quantity`: `loss` in nats, `optimum` in octaves. `pairs` of
        runs, or of curves; `units` that count, and `difference`, bfloat16 less float32, their mean
        with its interval; `sd`, of a unit; `tolerance` and `verdict` on it. The last row has the
        verdict of the rule.

    Raises:
        ConfigError: runs have no partner, or are not of the precision that they are given as.
    """
    float32 = _partners(bfloat16, float32)
    losses, shifts = _differences(bfloat16, float32, axis)
    near = losses[losses["octaves"].abs() <= 1]
    rows = [
        *_rows("loss", losses, ["scale", "log2", "seed"], LOSS_TOLERANCE),
        *_parts("loss", near, ["scale", "log2", "seed"], LOSS_TOLERANCE, "octaves"),
        *_rows("optimum", shifts, ["scale", "seed"], SHIFT_TOLERANCE),
    ]
    verdicts = {(row["quantity"], row["part"]): row["verdict"] for row in rows}
    decided: Verdict = "not decided"
    if "fails" in verdicts.values():
        decided = "fails"
    elif verdicts["loss", "all"] == verdicts["optimum", "all"] == "holds":
        decided = "holds"
    return pd.DataFrame([*rows, {"quantity": "both", "part": "all", "verdict": decided}])


def _partners(bfloat16: pd.DataFrame, float32: pd.DataFrame) -> pd.DataFrame:
    """The runs in float32 that are those in bfloat16."""
    for runs, name in ((bfloat16, "bfloat16"), (float32, "float32")):
        if wrong := sorted(set(runs["dtype"]) - {name}):
            raise ConfigError(f"precision: expected runs in {name} (got {wrong[0]})")
    if alone := sorted(set(bfloat16["run_id"]) - set(float32["run_id"])):
        raise ConfigError(f"precision: {len(alone)} runs have no partner in float32, as {alone[0]}")
    return float32[float32["run_id"].isin(bfloat16["run_id"])]


def _differences(
    bfloat16: pd.DataFrame, float32: pd.DataFrame, axis: ScaleAxis
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Of each pair of runs that of the loss; of each pair of curves the shift of the optimum.

    The two optima of a pair are fitted at the same points, those of the mean curve in float32, to
    whose optimum `octaves` are counted, rounded. A run that diverged in both precisions is no pair.
    """
    losses, shifts = [], []
    for arm in arms_of(float32):
        here = fit_arm(select(bfloat16, arm), axis)
        for scale, fit in fit_arm(select(float32, arm), axis).items():
            there = here[scale].curves
            with np.errstate(invalid="ignore"):
                pairs = (there - fit.curves).melt(
                    ignore_index=False, var_name="seed", value_name="difference"
                )
            pairs = pairs.dropna().reset_index()
            octaves = (pairs["log2"] - fit.mean.log2).round()
            losses.append(pairs.assign(scale=scale, octaves=octaves))
            if fit.mean.bracketed:
                for seed, curve in fit.seeds.items():
                    moved = fit_optimum(there.index, there[seed], fit.mean.window)
                    shifts.append((scale, seed, moved.log2 - curve.log2))
    return pd.concat(losses), pd.DataFrame(shifts, columns=["scale", "seed", "difference"])


def _rows(
    quantity: str, pairs: pd.DataFrame, units: list[str], tolerance: float
) -> Iterator[dict[str, object]]:
    """A row for all pairs, and one for those of each scale."""
    yield _row(quantity, "all", pairs, units, tolerance, CONFIDENCE)
    yield from _parts(quantity, pairs, units, tolerance, "scale")


def _parts(
    quantity: str, pairs: pd.DataFrame, units: list[str], tolerance: float, by: str
) -> Iterator[dict[str, object]]:
    for value, some in pairs.groupby(by):
        part = f"{by} {float(str(value)):g}"
        yield _row(quantity, part, some, units, tolerance, PART_CONFIDENCE)


def _row(
    quantity: str,
    part: str,
    pairs: pd.DataFrame,
    units: list[str],
    tolerance: float,
    confidence: float,
) -> dict[str, object]:
    values = pairs.groupby(units)["difference"].mean()
    difference = over_seeds(list(values), confidence)
    return {
        "quantity": quantity,
        "part": part,
        "pairs": len(pairs),
        "units": len(values),
        **difference.columns("difference"),
        "confidence": confidence,
        "sd": float(values.std()) if math.isfinite(difference.high) else math.nan,
        "tolerance": tolerance,
        "verdict": _verdict(difference, tolerance),
    }


def _verdict(difference: Interval, tolerance: float) -> Verdict:
    """Whether a difference is certainly within a tolerance, or certainly beyond it.

    An infinite one is beyond: a run diverged in one of the two precisions alone.
    """
    if math.isinf(difference.value):
        return "fails"
    if -tolerance < difference.low and difference.high < tolerance:
        return "holds"
    if difference.low > tolerance or difference.high < -tolerance:
        return "fails"
    return "not decided"
