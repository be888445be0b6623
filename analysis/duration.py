"""How the best learning rate falls with training duration: η*(D) ∝ D^−γ, by condition.

η* is the rate that trains, not the one stated at the base, so that a condition in which λ, ε and β
follow the duration is compared with one in which they do not on the same quantity. The rule of
arXiv 2512.22382 is γ = ½; others measured 0 to ½.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.arms import AXES, LR, arms_of, restated, rule_text, select
from analysis.transfer import ScaleFits, drift, drift_by_seed, fit_arm
from paper_repro.errors import ConfigError
from paper_repro.parameterization import SDE_RULE, SdeQuantity, has_sde_rule
from paper_repro.statistics import over_seeds

CoScaled = tuple[SdeQuantity, ...]
NOTHING: CoScaled = ()
DECAY: CoScaled = ("weight_decay",)
BETAS: CoScaled = ("one_minus_beta1", "one_minus_beta2")
EVERYTHING: CoScaled = tuple(quantity for quantity in SDE_RULE if quantity != "lr")

#: Whether a change moves the exponent.
Moves = Literal["yes", "not decided"]


@dataclass(frozen=True)
class Condition:
    """What is varied beside duration and learning rate."""

    schedule: str
    co_scaled: CoScaled
    """The quantities that follow the duration as the SDE rule has it."""
    qk_norm: bool

    def columns(self) -> dict[str, Any]:
        """The condition as columns of a table."""
        return {
            "schedule": self.schedule,
            "co_scaled": rule_text(self.co_scaled),
            "qk_norm": self.qk_norm,
        }


Conditions = dict[Condition, ScaleFits]


#: What `effects` measures: of a factor, a change from one level to another.
CHANGES: tuple[tuple[str, Any, Any], ...] = (
    ("schedule", "cosine", "wsd"),
    ("qk_norm", True, False),
    ("co_scaled", NOTHING, EVERYTHING),
    ("co_scaled", NOTHING, BETAS),
    ("co_scaled", NOTHING, DECAY),
)


def fit_conditions(runs: pd.DataFrame) -> Conditions:
    """The loss curves of each condition at each duration, over the rate that trains.

    Raises:
        ConfigError: if two arms are one condition, or rates cannot be read as those that train.
    """
    fits: Conditions = {}
    for arm in arms_of(runs):
        follows = arm.sde_rule if has_sde_rule(arm.parameterization) else ()
        others = tuple(quantity for quantity in follows if quantity != "lr")
        effective = replace(arm, sde_rule=others if follows else arm.sde_rule)
        as_trained = restated(select(runs, arm), effective, LR)
        if as_trained is None:
            raise ConfigError(f"{arm.label}: its learning rates cannot be read as those that train")
        condition = Condition(arm.schedule, others, arm.qk_norm)
        if condition in fits:
            raise ConfigError(
                f"{arm.label}: its condition has another arm; select one of them first"
            )
        fits[condition] = fit_arm(as_trained, AXES["tokens"])
    return fits


def exponents(conditions: Conditions) -> pd.DataFrame:
    """One row a condition: γ with its interval over seeds.

    `durations` counts those with a bracketed optimum, which enter γ; `bracketed` says whether
    these are all.
    """
    rows = []
    for condition, fits in conditions.items():
        slope = drift(fits)
        counted = [tokens for tokens, fit in fits.items() if fit.mean.bracketed]
        rows.append(
            condition.columns()
            | {
                "tokens_min": min(counted, default=0),
                "tokens_max": max(counted, default=0),
                "durations": len(counted),
                "seeds": len(drift_by_seed(fits)),
                "gamma": -slope.value,
                "gamma_low": -slope.high,
                "gamma_high": -slope.low,
                "bracketed": len(counted) == len(fits),
            }
        )
    return pd.DataFrame(rows)


def effects(conditions: Conditions) -> pd.DataFrame:
    """One row a change: how much it moves γ, with the other factors averaged out.

    Taken within each seed, over the durations that all conditions share; conditions with an optimum
    that is not bracketed at one of these, or hidden by divergence, are left out, with their
    counterparts. `moves` is `yes` if the interval excludes 0, else `not decided`.
    """
    shared = set.intersection(*(set(curves) for curves in conditions.values()))
    gammas = {
        condition: {
            seed: -slope
            for seed, slope in drift_by_seed(
                {s: f for s, f in curves.items() if s in shared}
            ).items()
        }
        for condition, curves in conditions.items()
        if all(curves[scale].mean.bracketed and not curves[scale].slack for scale in shared)
    }
    rows = []
    for factor, before, after in CHANGES:
        pairs = [
            (gammas[condition], gammas[changed])
            for condition in gammas
            if getattr(condition, factor) == before
            and (changed := replace(condition, **{factor: after})) in gammas
        ]
        seeds = (
            set.intersection(*(set(one) & set(other) for one, other in pairs)) if pairs else set()
        )
        effect = over_seeds(
            [float(np.mean([other[s] - one[s] for one, other in pairs])) for s in sorted(seeds)]
        )
        moves: Moves = "yes" if effect.low > 0 or effect.high < 0 else "not decided"
        rows.append(
            {
                "factor": factor,
                "from": _level(before),
                "to": _level(after),
                "pairs": len(pairs),
                "seeds": len(seeds),
                **effect.columns("effect"),
                "moves": moves,
            }
        )
    return pd.DataFrame(rows)


def _level(level: str | bool | CoScaled) -> str:
    return rule_text(level) if isinstance(level, tuple) else str(level)
