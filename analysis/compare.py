"""Parameterisations side by side: the runs there are, the multipliers, the coordinate checks."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch

from analysis.arms import LR, Arm, ScaleAxis, select, with_equivalents
from analysis.load import COMMITTED_RESULTS, load_results
from paper_repro.coordinate_check import Axis as CheckedAxis
from paper_repro.coordinate_check import check_config, judge, measure
from paper_repro.errors import ConfigError
from paper_repro.parameterization import (
    TENSOR_CLASSES,
    Parameterization,
    Ratios,
    Scaling,
    multipliers,
)

#: The sweep with the learning-rate curves along an axis.
SWEEPS: dict[CheckedAxis, str] = {"width": "lr_width", "depth": "lr_depth"}

#: Sizes, seeds and steps of a coordinate check that takes seconds; the command's own are larger.
CHECK_SIZES: dict[CheckedAxis, tuple[int, ...]] = {"width": (32, 64, 128), "depth": (2, 4, 8)}
CHECK_SEEDS = (0, 1, 2)
CHECK_STEPS = 3


def compared_arms(parameterizations: Sequence[Parameterization], alpha: float) -> list[Arm]:
    """The arms of some parameterisations at one depth exponent."""
    return [Arm(name, alpha) for name in parameterizations]


def load_runs(axis: CheckedAxis, arms: Sequence[Arm]) -> pd.DataFrame:
    """The committed runs of some arms along an axis, as far as there are any.

    Raises:
        ConfigError: if there are no results along the axis, or none of these arms.
    """
    if axis not in SWEEPS:
        raise ConfigError(f"axis {axis!r}: expected one of {', '.join(SWEEPS)}")
    results = load_results(COMMITTED_RESULTS / f"{SWEEPS[axis]}.parquet")
    known = with_equivalents(results.runs, LR, arms)
    runs = pd.concat([select(known, arm) for arm in arms])
    if runs.empty:
        wanted = "; ".join(arm.label for arm in arms)
        raise ConfigError(f"{SWEEPS[axis]}: no run of {wanted}")
    return runs


def count_runs(runs: pd.DataFrame, arms: Sequence[Arm], axis: ScaleAxis) -> pd.DataFrame:
    """Number of runs by arm (rows, also those that have none) and scale."""
    counts = {arm.label: select(runs, arm)[axis.column].value_counts() for arm in arms}
    table = pd.DataFrame(counts, index=sorted(runs[axis.column].unique())).fillna(0).astype(int).T
    return table.rename_axis(index="runs", columns=axis.label)


def compare_multipliers(arms: Sequence[Arm], ratios: Ratios) -> pd.DataFrame:
    """Factors on the base values: a row a quantity and tensor class, a column an arm.

    Rows that are the same for every tensor class are one, `all`; those in the forward pass and the
    number of steps come last.
    """
    columns = {arm.label: _factors(arm, ratios) for arm in arms}
    table = pd.DataFrame(columns).rename_axis(["quantity", "tensor class"])
    return pd.concat(_merged(rows) for _, rows in table.groupby(level="quantity", sort=False))


def _merged(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of one quantity, or one row if they are those of all tensor classes and equal."""
    if len(rows) < len(TENSOR_CLASSES) or len(rows.drop_duplicates()) > 1:
        return rows
    return rows.iloc[:1].rename(index={TENSOR_CLASSES[0]: "all"}, level="tensor class")


def _factors(arm: Arm, ratios: Ratios) -> pd.Series:
    found = multipliers(Scaling(arm.parameterization, ratios, arm.alpha))
    forward = {("forward", "residual"): found.residual, ("forward", "logits"): found.logits}
    by_class = pd.DataFrame(found.tensor_classes).T.unstack()  # quantity, then tensor class
    return pd.Series(by_class.to_dict() | forward | {("steps", ""): found.iterations})


def check_coordinates(axis: CheckedAxis, arms: Sequence[Arm]) -> pd.DataFrame:
    """Coordinate checks that take seconds: the rows of `measure` with a column `arm` (its label).

    The smallest size is the base. From here on, torch uses one thread.

    Raises:
        ConfigError: the axis has no coordinate check, or α is out of bounds.
    """
    if axis not in CHECK_SIZES:
        raise ConfigError(f"axis {axis!r}: expected one of {', '.join(CHECK_SIZES)}")
    torch.set_num_threads(1)  # models this small are slower on more
    sizes, parts = CHECK_SIZES[axis], []
    for arm in arms:
        config = check_config(arm.parameterization, axis, sizes[0], arm.alpha, arm.eps)
        rows = measure(config, axis, sizes, CHECK_SEEDS, CHECK_STEPS)
        parts.append(rows.assign(arm=arm.label))
    return pd.concat(parts)


def compare_slopes(measurements: pd.DataFrame) -> pd.DataFrame:
    """Slopes of log RMS against log size: a row a quantity, a column an arm.

    `FAIL` marks those out of bounds; the last row counts them.
    """
    columns = {}
    for name, rows in measurements.groupby("arm", sort=False):
        verdicts = judge(rows)
        failed = sum(not verdict.passed for verdict in verdicts)
        columns[str(name)] = {
            (v.check.name, v.quantity): f"{'' if v.passed else 'FAIL '}{v.slope}" for v in verdicts
        } | {("verdict", ""): f"FAIL ({failed} of {len(verdicts)})" if failed else "PASS"}
    return pd.DataFrame(columns).rename_axis(["RMS of", "quantity"])
