"""How the best learning rate falls with training duration: η*(D) ∝ D^−γ, by condition.

η* is the rate that trains, not the one stated at the base, so that a condition in which λ, ε and β
follow the duration is compared with one in which they do not on the same quantity. The rule of
arXiv 2512.22382 is γ = ½; others measured 0 to ½. As in the table of transfer, γ is estimated
pooled over all curves (`analysis.pooled_transfer`), and seed by seed as the plain check.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from analysis.arms import AXES, LR, arms_of, restated, rule_text, select, with_equivalents
from analysis.pooled import INFLATION, Draws, Shared
from analysis.pooled_transfer import bracketed_draws, credible, drift_of
from analysis.transfer import ScaleFits, counted_scales, drift, drift_by_seed, fit_arm
from paper_repro.errors import ConfigError
from paper_repro.parameterization import SDE_RULE, has_sde_rule
from paper_repro.statistics import CONFIDENCE, UNKNOWN, Interval, over_seeds

NOTHING = rule_text(())
DECAY = rule_text(("weight_decay",))
BETAS = rule_text(("one_minus_beta1", "one_minus_beta2"))
EPS = rule_text(("eps",))
EVERYTHING = rule_text([quantity for quantity in SDE_RULE if quantity != "lr"])

#: The exponent of the rule.
RULE = 0.5

#: Whether a change moves the exponent.
Moves = Literal["yes", "not decided"]


class Condition(NamedTuple):
    """What is varied beside duration and learning rate; columns of the tables."""

    schedule: str
    share: float
    """Of the steps, that decays: what `wsd` was asked for, else 1."""
    co_scaled: str
    """The quantities that follow the duration as the SDE rule has it (`rule_text`)."""
    qk_norm: bool
    clip: float
    """Gradient norm above which gradients are rescaled; infinite where none are."""
    width: int
    batch_size: int
    """The base's: it is below the gradient noise scale or above it."""


#: The factors that may move γ, as the parts of a condition that change together.
FACTORS: dict[str, tuple[str, ...]] = {
    "schedule": ("schedule", "share"),
    "qk_norm": ("qk_norm",),
    "co_scaled": ("co_scaled",),
    "clip": ("clip",),
    "width": ("width",),
}


@dataclass(frozen=True, eq=False)
class Curves:
    """The loss curves of a condition at each duration, over the rate that trains."""

    fits: ScaleFits
    draws: dict[int, Draws]
    """Where the optimum is bracketed."""

    def at(self, durations: Collection[int]) -> Curves:
        """The same at some durations."""
        return Curves(
            {tokens: fit for tokens, fit in self.fits.items() if tokens in durations},
            {tokens: draws for tokens, draws in self.draws.items() if tokens in durations},
        )

    @property
    def decided(self) -> bool:
        """Whether every optimum is bracketed, and none hidden by divergence."""
        return all(fit.mean.bracketed and not fit.slack for fit in self.fits.values()) and (
            self.draws.keys() == self.fits.keys()
        )


Conditions = dict[Condition, Curves]
"""The first is the reference: changes are measured from its levels."""


def fit_conditions(runs: pd.DataFrame, shared: Shared) -> Conditions:
    """The loss curves of each condition at each duration, over the rate that trains.

    Args:
        shared: what curves over the learning rate share.

    Raises:
        ConfigError: if two arms are one condition, or rates cannot be read as those that train.
    """
    names = ["train.decay_fraction", "train.clip", "model.width", "scaling.base_batch_size"]
    conditions: Conditions = {}
    for _, some in runs.groupby(names, sort=False, dropna=False):
        known = with_equivalents(some, LR, ())
        for arm in arms_of(known):
            follows = arm.sde_rule if has_sde_rule(arm.parameterization) else ()
            others = tuple(quantity for quantity in follows if quantity != "lr")
            effective = replace(arm, sde_rule=others if follows else arm.sde_rule)
            as_trained = restated(select(known, arm), effective, LR)
            if as_trained is None:
                raise ConfigError(
                    f"{arm.label}: its learning rates cannot be read as those that train"
                )
            run = as_trained.iloc[0]
            decay, clip, width, batch_size = (run[name] for name in names)
            condition = Condition(
                schedule=arm.schedule,
                share=float(decay) if arm.schedule == "wsd" else 1.0,
                co_scaled=rule_text(others),
                qk_norm=arm.qk_norm,
                clip=math.inf if pd.isna(clip) else float(clip),
                width=int(width),
                batch_size=int(batch_size),
            )
            if condition in conditions:
                raise ConfigError(
                    f"{arm.label}: its condition has another arm; select one of them first"
                )
            fits = fit_arm(as_trained, AXES["tokens"])
            conditions[condition] = Curves(fits, bracketed_draws(fits, shared, INFLATION))
    return conditions


def check_durations(runs: pd.DataFrame) -> None:
    """Check that runs, which need no losses yet, are of several durations.

    Raises:
        ConfigError: they are not.
    """
    tokens = AXES["tokens"].column
    if runs[tokens].nunique() < 2:
        raise ConfigError(f"expected several {tokens} (got {runs[tokens].iloc[0]})")


def exponents(conditions: Conditions) -> pd.DataFrame:
    """A row a condition and method: γ with its interval.

    `durations` counts those with a bracketed optimum, which enter γ; `bracketed` says whether
    these are all; `half` whether γ = ½ is `excluded` by the interval.
    """
    rows: list[dict[str, Any]] = []
    for condition, curves in conditions.items():
        counted, several = counted_scales(curves.fits), len(curves.draws) > 1
        pooled = credible(-drift_of(curves.draws)) if several else UNKNOWN
        slope = drift(curves.fits)
        by_seed = Interval(-slope.value, -slope.high, -slope.low)
        rows += (
            {
                **condition._asdict(),
                "method": method,
                "tokens_min": min(counted, default=0),
                "tokens_max": max(counted, default=0),
                "durations": len(counted),
                "seeds": len(drift_by_seed(curves.fits)),
                **gamma.columns("gamma"),
                "half": "excluded" if _excludes(gamma, RULE) else "not excluded",
                "bracketed": len(counted) == len(curves.fits),
            }
            for method, gamma in (("pooled", pooled), ("by seed", by_seed))
        )
    return pd.DataFrame(rows)


class Change(NamedTuple):
    """A factor that goes from the reference's level to another, all else as it is."""

    factor: str
    before: str
    after: str
    pairs: Sequence[tuple[Condition, Condition]]


def changes(conditions: Conditions, changed: Collection[Condition]) -> Iterator[Change]:
    """The changes of one factor by which one gets from conditions to the `changed` ones."""
    reference = next(iter(conditions))
    for factor, parts in FACTORS.items():
        usual = _level(reference, parts)
        others = {_level(condition, parts) for condition in changed} - {usual}
        for level in sorted(others, key=str):
            moved = dict(zip(parts, level, strict=True))
            pairs = [
                (condition, other)
                for condition in conditions
                if _level(condition, parts) == usual
                and (other := condition._replace(**moved)) in changed
            ]
            yield Change(factor, _text(*usual), _text(*level), pairs)


def _level(condition: Condition, parts: Sequence[str]) -> tuple[Any, ...]:
    return tuple(getattr(condition, part) for part in parts)


def _text(level: object, share: float = 1.0) -> str:
    """A level in a table: `wsd 20%`, `none` for an infinite norm."""
    if level == math.inf:
        return "none"
    return str(level) if share == 1 else f"{level} {share:.0%}"


def effects(conditions: Conditions, changed: Collection[Condition]) -> pd.DataFrame:
    """A row a change and method: how much it moves γ, other factors averaged out.

    Taken over the durations that all conditions of any pair share, and by seed within each seed;
    conditions with an optimum that is not bracketed at one of these, or hidden by divergence, are
    left out, with their counterparts. `moves` is `yes` if the interval excludes 0, else
    `not decided`. Intervals of the pooled estimate have a `confidence` that is corrected for the
    number of changes (Bonferroni), those by seed have not.

    Args:
        changed: the conditions that are compared with others.
    """
    found = list(changes(conditions, changed))
    compared = {each for change in found for pair in change.pairs for each in pair}
    if not compared:
        return pd.DataFrame()
    durations = set.intersection(*(set(conditions[each].fits) for each in compared))
    usable = {
        each: curves
        for each in compared
        if (curves := conditions[each].at(durations)).decided and len(durations) > 1
    }
    rows: list[dict[str, Any]] = []
    for change in found:
        pairs = [
            (usable[one], usable[other])
            for one, other in change.pairs
            if {one, other} <= usable.keys()
        ]
        by_seed = pd.DataFrame(
            [drift_by_seed(one.fits) - drift_by_seed(other.fits) for one, other in pairs]
        )
        corrected = 1 - (1 - CONFIDENCE) / len(found)
        pooled = UNKNOWN
        if pairs:
            draws = [drift_of(one.draws) - drift_of(other.draws) for one, other in pairs]
            pooled = credible(np.mean(draws, axis=0), corrected)
        seeds = by_seed.dropna(axis="columns").mean()
        estimates = {
            "pooled": (pooled, corrected),
            "by seed": (over_seeds(seeds.tolist()), CONFIDENCE),
        }
        for method, (effect, confidence) in estimates.items():
            moves: Moves = "yes" if _excludes(effect, 0) else "not decided"
            rows.append(
                {
                    "factor": change.factor,
                    "from": change.before,
                    "to": change.after,
                    "method": method,
                    "pairs": len(pairs),
                    "seeds": len(seeds),
                    **effect.columns("effect"),
                    "confidence": confidence,
                    "moves": moves,
                }
            )
    return pd.DataFrame(rows)


def _excludes(interval: Interval, value: float) -> bool:
    """Whether a value is outside an interval; not where that is unknown."""
    return interval.low > value or interval.high < value
