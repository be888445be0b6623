"""The transfer check: along each axis that a sweep has, a verdict, and what would decide it.

The statistics are those of `analysis.pooled_transfer`. What curves share is learnt from those of
the committed studies: a check has too few of its own. A sweep may hold several models
(`model.factory`): each has rows of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.arms import AXES, Arm, ScaleAxis, select
from analysis.load import COMMITTED_RESULTS
from analysis.pooled_transfer import transfer_rows, what_decides
from analysis.tables import read_shared
from analysis.transfer import ScaleFits, Transfer, TransferVerdict, fit_transfer
from paper_repro.errors import ConfigError

OURS = "our GPT"
"""The model of runs without a factory, in print."""


@dataclass(frozen=True, eq=False)
class CheckedAxis:
    """The runs of one model along one axis, those of the base's other scales."""

    model: str
    transfer: Transfer

    @property
    def axis(self) -> ScaleAxis:
        return self.transfer.axis


def checked_axes(runs: pd.DataFrame) -> list[CheckedAxis]:
    """What a check has curves of: every model along every axis with several scales.

    Raises:
        ConfigError: there is none; runs differ in more than scale, rate and seed; or the code of a
            model was edited between its runs.
    """
    found = []
    for model, of_model in runs.groupby(runs["model.factory"].fillna(OURS), sort=False):
        if "factory_hash" in of_model and of_model["factory_hash"].nunique() > 1:
            raise ConfigError(f"{model}: its runs are of several versions of its code")
        for axis in AXES.values():
            along = of_model
            for other in AXES.values():
                if other is not axis:
                    along = along[along[other.column] == along[other.base_column]]
            if along[axis.column].nunique() > 1:
                found.append(CheckedAxis(str(model), fit_transfer(along, axis)))
    if not found:
        raise ConfigError(
            "transfer check: no axis with two scales or more at the base of the others"
        )
    return found


def verdicts(checked: Iterable[CheckedAxis]) -> pd.DataFrame:
    """One row a model, axis and arm.

    Columns are those of `analysis.pooled_transfer.transfer_rows`, of the pooled estimate where
    there is one; and `model`, and `decides`, which has the budget.
    """
    shared, rows = read_shared(COMMITTED_RESULTS), []
    for each in checked:
        table = transfer_rows(each.transfer, shared)
        arms = {arm.label: arm for arm in each.transfer.arms}
        for label, of_arm in table.groupby("label", sort=False):
            row = of_arm.sort_values("method", ascending=False).iloc[0]  # pooled before by seed
            found = {"model": each.model, **row, "decides": ""}
            if row["verdict"] == "not decided":
                found["decides"] = _budget(row, arms[str(label)], each)
            rows.append(found)
    return pd.DataFrame(rows)


def _budget(row: pd.Series, arm: Arm, checked: CheckedAxis) -> str:
    """What would decide an open verdict, and what that costs by the runs there are."""
    if outside := list(_outside(checked.transfer.arms[arm], checked.axis)):
        return f"rates beyond the grid: {', '.join(outside)}"
    if row["seeds"] < 2:
        return "2 seeds or more"
    return what_decides(row.to_dict(), select(checked.transfer.runs, arm))


def _outside(fits: ScaleFits, axis: ScaleAxis) -> Iterator[str]:
    """Where the lowest loss is at an end of the grid, so that the optimum may lie beyond it."""
    for scale, fit in fits.items():
        if not fit.mean.bracketed:
            losses = np.where(np.isfinite(fit.mean.losses), fit.mean.losses, np.inf)
            end = "below" if losses[0] <= losses[-1] else "above"
            edge = fit.mean.log2_lr[0 if end == "below" else -1]
            yield f"{end} 2^{edge:g} at {axis.label} {axis.text(scale)}"


def conclusion(table: pd.DataFrame) -> tuple[str, ...]:
    """A line a row of `verdicts`, and the verdict on each model: the worst of its rows."""
    lines = []
    for model, rows in table.groupby("model", sort=False):
        for _, row in rows.iterrows():
            open_ = f": {row['decides']}" if row["decides"] else ""
            lines.append(f"{model}, {row['label']}, {row['axis']}: {row['verdict']}{open_}")
        lines.append(f"TRANSFER CHECK of {model}: {_worst(rows['verdict'])}")
    return tuple(lines)


def _worst(found: pd.Series) -> TransferVerdict:
    order: tuple[TransferVerdict, ...] = ("fails", "not decided", "holds")
    return next(verdict for verdict in order if (found == verdict).any())
