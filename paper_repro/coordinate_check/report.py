"""The coordinate check of our GPT in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from paper_repro.coordinate_check.judge import Verdict, judge
from paper_repro.coordinate_check.measure import Axis, check_config, measure
from paper_repro.parameterization import Parameterization

SIZES: dict[Axis, tuple[int, ...]] = {"width": (32, 64, 128, 256), "depth": (2, 4, 8, 16)}


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
