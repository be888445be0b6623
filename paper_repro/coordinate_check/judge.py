"""Slopes in log-log of what was measured, and whether they are within their bounds.

`check` measures and judges our GPT in one call.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from paper_repro.coordinate_check.measure import (
    ACTIVATIONS,
    ATTENTION_LOGITS,
    BRANCHES,
    Axis,
    Kind,
    check_config,
    measure,
)
from paper_repro.parameterization import TENSOR_CLASSES, Parameterization, TensorClass, rule
from paper_repro.statistics import UNKNOWN, Interval, over_seeds

#: The exponents of the rules are multiples of 1/2, so a wrong rule shifts the slope of what it
#: governs by 1/2 or more: the bound is half way. Measured with three seeds at the command's sizes,
#: right rules stay within 0.15, while SP on width and SP and μP on depth reach 0.9 and more.
BOUND = 0.25
SIZES: dict[Axis, tuple[int, ...]] = {"width": (32, 64, 128, 256), "depth": (2, 4, 8, 16)}


@dataclass(frozen=True)
class Check:
    """What is judged: a kind of measurement, before the first update or after the last."""

    name: str
    kind: Kind
    when: Literal["start", "end"]
    may_shrink: tuple[str, ...]
    """Quantities that must not grow but may shrink. The others may do neither."""


#: Activations may shrink (initial logits do in μP, as m_N^-1/2). Changes and updates may not: where
#: they vanish nothing is learned. But a branch of many, each changing less, is right for α < 1: its
#: own updates shrink as m_L^(α-1), their sum over blocks (residual stream, update rows) does not.
_ACTIVATIONS = (*ACTIVATIONS, ATTENTION_LOGITS)
CHECKS = (
    Check("initial activation", "activation", "start", may_shrink=_ACTIVATIONS),
    Check("activation", "activation", "end", may_shrink=_ACTIVATIONS),
    Check("change", "change", "end", may_shrink=(*BRANCHES, ATTENTION_LOGITS)),
    Check("update", "update", "end", may_shrink=()),
)


@dataclass(frozen=True)
class Verdict:
    """The slope of one quantity against its bound."""

    axis: Axis
    check: Check
    quantity: str
    slope: Interval
    """Mean over seeds of d log(value) / d log(size); NaN where a value is zero or not finite."""

    @property
    def may_shrink(self) -> bool:
        return self.quantity in self.check.may_shrink

    @property
    def passed(self) -> bool:
        low = -math.inf if self.may_shrink else -BOUND
        return low <= self.slope.value <= BOUND  # False for NaN


@dataclass(frozen=True)
class GradientSlope:
    """How the gradient of a tensor class scales, and what its ε row says.

    Adam divides by √v + ε, so ε must scale as the gradient does.
    """

    axis: Axis
    tensor_class: TensorClass
    row: float
    """Exponent of m_N (or m_L) in the ε row."""
    start: Interval
    end: Interval

    def agrees(self, measured: Interval) -> bool:
        """Whether a measured exponent is the row's, within the bound."""
        return abs(measured.value - self.row) <= BOUND


@dataclass(frozen=True, eq=False)
class Report:
    """What a coordinate check found."""

    measurements: pd.DataFrame
    """The rows of `paper_repro.coordinate_check.measure`."""
    verdicts: list[Verdict]
    """The slope of each quantity against its bound."""

    @property
    def passed(self) -> bool:
        """Whether nothing grows or vanishes."""
        return all(verdict.passed for verdict in self.verdicts)


def check(
    axis: Axis,
    sizes: Sequence[int] | None = None,
    parameterization: Parameterization = "complete_d",
    alpha: float = 1.0,
    eps: float = 1e-8,
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 6,
) -> Report:
    """Train our GPT a few steps at growing sizes and judge what a parameterisation keeps stable.

    Takes seconds on a CPU. Source of the check: arXiv 2203.03466, appendix D.1.

    Args:
        axis: what grows.
        sizes: widths, or depths in blocks; the smallest is the base. None: `SIZES`.
        alpha: depth exponent α.
        eps: Adam's ε at the base; above the size of the gradients it shows wrong ε rows.
        steps: updates of AdamW, at a constant learning rate.

    Raises:
        ConfigError: fewer than two sizes, or one that makes no model.
    """
    chosen = sorted(sizes or SIZES[axis])
    config = check_config(parameterization, axis, chosen[0], alpha, eps)
    measurements = measure(config, axis, chosen, seeds, steps)
    return Report(measurements, judge(measurements))


def judge(measurements: pd.DataFrame) -> list[Verdict]:
    """Verdicts on every quantity that `measure` returned, in the order of `CHECKS`."""
    return [
        Verdict(axis, check, quantity, slope)
        for axis in measurements.axis.unique()
        for check in CHECKS
        for quantity, slope in _slopes(measurements, axis, check.kind, check.when).items()
    ]


def gradient_slopes(
    measurements: pd.DataFrame, parameterization: Parameterization, alpha: float
) -> list[GradientSlope]:
    """Exponents of the gradient RMS of each tensor class, beside those of the ε rows."""
    slopes = []
    for axis in measurements.axis.unique():
        start = _slopes(measurements, axis, "gradient", "start")
        end = _slopes(measurements, axis, "gradient", "end")
        for tensor_class in (name for name in TENSOR_CLASSES if name in start):
            factor = rule("eps", tensor_class, parameterization)
            row = (factor.N if axis == "width" else factor.L).at(alpha)
            slopes.append(
                GradientSlope(axis, tensor_class, row, start[tensor_class], end[tensor_class])
            )
    return slopes


def _slopes(
    measurements: pd.DataFrame, axis: Axis, kind: Kind, when: Literal["start", "end"]
) -> dict[str, Interval]:
    chosen = measurements[(measurements.axis == axis) & (measurements.kind == kind)]
    step = chosen.step.min() if when == "start" else chosen.step.max()
    groups = chosen[chosen.step == step].groupby("quantity", sort=False)
    return {str(quantity): fit(rows) for quantity, rows in groups}


def fit(rows: pd.DataFrame) -> Interval:
    """Slope of log(value) against log(size), a line for each seed."""
    if not (np.isfinite(rows.value) & (rows.value > 0)).all():
        return UNKNOWN
    lines = rows[["size", "value"]].apply(np.log).groupby(rows["seed"])
    return over_seeds([float(np.polyfit(line["size"], line["value"], 1)[0]) for _, line in lines])
