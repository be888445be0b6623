"""Final loss against training tokens at one stated learning rate: the optimum at the base.

An arm is a duration rule. Its frame states for every run the base learning rate under that rule,
so that a run of a longer duration has the rate that it was trained with divided by the rule's
factor. What a user of the rule would get is the loss of each duration at the rate that is best at
the base.

For the losses themselves, to which laws are fitted, that rate is the optimum of the seed-mean curve
at the base duration; it is taken as known, so intervals over seeds leave its error out. Between the
rates of a grid each seed's own curve is interpolated (`FittedCurve.at`). What rules cost with the
error of the rate in the intervals is in `analysis.comparisons`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.arms import AXES, NO_RULE, arms_of, select
from analysis.laws import ArmLaws, fit_arm_laws
from analysis.optimum import fit_optimum
from analysis.studies import STUDIES
from analysis.transfer import ScaleFits, base_scale, fit_arm
from paper_repro.errors import ConfigError

TOKENS = AXES["tokens"]

#: The arm that looks up every duration's own optimum: as low as any rule for the rate can get.
TUNED = "tuned at each duration"


LossRow = tuple[str, int, int, float]
"""Arm, seed, tokens and loss."""


@dataclass(frozen=True, eq=False)
class FinalLosses:
    """What came of every arm at every duration."""

    table: pd.DataFrame
    """One row a loss: `arm`, `seed`, `tokens` and `loss` (nats, finite)."""
    dropped: Mapping[str, int]
    """Losses that an arm does not have: outside a duration's grid, diverged or failed."""

    @property
    def arms(self) -> list[str]:
        """Arms with a loss, in the order in which they were given; the tuned one is last."""
        return [str(arm) for arm in self.table["arm"].unique()]

    def note(self) -> str:
        """One line on the losses that are missing; empty if there are none."""
        missing = ", ".join(f"{arm}: {count}" for arm, count in self.dropped.items() if count)
        return missing and f"Left out (outside the grid, diverged or not bracketed): {missing}"


def duration_laws(runs: pd.DataFrame) -> tuple[FinalLosses, ArmLaws]:
    """The losses of a duration sweep under each rule that its figure compares, and their laws.

    Raises:
        ConfigError: as `final_losses`, or if the sweep has no run without a rule.
    """
    rules = duration_rules(runs)
    if NO_RULE.label not in rules:
        raise ConfigError(
            f"lr_duration: no run of {NO_RULE.label!r} yet, which is tuned at each duration"
        )
    losses = final_losses(rules, tuned_from=NO_RULE.label)
    return losses, fit_arm_laws(losses.table)


def duration_rules(runs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The runs of a duration sweep under each rule that its figure compares, by the rule's name."""
    known = STUDIES["lr_duration"].figure_runs(runs)
    return {arm.label: select(known, arm) for arm in arms_of(known)}


def final_losses(arms: Mapping[str, pd.DataFrame], tuned_from: str) -> FinalLosses:
    """The final loss of every arm, duration and seed at the base's optimal stated rate.

    Beside the arms there is the arm `TUNED`: each seed's loss at the optimum of its own curve. It
    profits from noise, for a curve's lowest point is fitted to the losses themselves; a duration
    whose optimum is not bracketed is left out of it.

    Args:
        arms: label of an arm -> its runs, with the base learning rate as the arm's rule states it
            in `hyperparameters.lr`.
        tuned_from: the arm whose runs are tuned at each duration.

    Raises:
        ConfigError: if an arm has no run at the base or its optimum there is not bracketed.
    """
    fits = {label: fit_arm(runs, TOKENS) for label, runs in arms.items()}
    rows: list[LossRow] = []
    for label, runs in arms.items():
        rows += at_base_optimum(label, fits[label], base_scale(runs, TOKENS))
    rows += _tuned(fits[tuned_from])
    table = pd.DataFrame(rows, columns=["arm", "seed", "tokens", "loss"])
    finite = np.isfinite(table["loss"])
    dropped = {label: int((~finite[table["arm"] == label]).sum()) for label in (*arms, TUNED)}
    return FinalLosses(table[finite].reset_index(drop=True), dropped)


def at_base_optimum(label: str, fits: ScaleFits, base: int) -> Iterator[LossRow]:
    """The loss of every scale and seed of an arm at the base's optimum, as stated and as known.

    Raises:
        ConfigError: the optimum at the base is not bracketed, or there is no run.
    """
    if base not in fits or not fits[base].mean.bracketed:
        raise ConfigError(
            f"{label}: no bracketed optimum of the learning rate at the base, {base}; "
            "widen the grid there"
        )
    optimum = fits[base].mean.log2
    for scale, fit in fits.items():
        for seed in fit.curves:
            curve = fit_optimum(fit.curves.index, fit.curves[seed], fit.mean.window)
            yield label, int(str(seed)), scale, curve.at(optimum)


def _tuned(fits: ScaleFits) -> Iterator[LossRow]:
    for tokens, fit in fits.items():
        for seed in fit.curves.columns.astype(int):
            known = fit.mean.bracketed and seed in fit.seeds
            yield TUNED, seed, tokens, fit.seeds[seed].loss if known else np.nan
