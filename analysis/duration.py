"""How the best learning rate falls with training duration: η*(D) ∝ D^−γ, by condition.

η* is the rate that trains, not the one stated at the base, so that a condition in which λ, ε and β
follow the duration is compared with one in which they do not on the same quantity. The rule of
arXiv 2512.22382 is γ = ½; others measured 0 to ½.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import starmap
from typing import Any, Literal, NamedTuple

import pandas as pd

from analysis.arms import AXES, LR, arms_of, restated, rule_text, select
from analysis.transfer import ScaleFits, counted_scales, drift, drift_by_seed, fit_arm
from paper_repro.errors import ConfigError
from paper_repro.parameterization import SDE_RULE, has_sde_rule
from paper_repro.statistics import over_seeds

NOTHING = rule_text(())
DECAY = rule_text(("weight_decay",))
BETAS = rule_text(("one_minus_beta1", "one_minus_beta2"))
EVERYTHING = rule_text([quantity for quantity in SDE_RULE if quantity != "lr"])

#: Whether a change moves the exponent.
Moves = Literal["yes", "not decided"]


class Condition(NamedTuple):
    """What is varied beside duration and learning rate; columns of the tables."""

    schedule: str
    co_scaled: str
    """The quantities that follow the duration as the SDE rule has it (`rule_text`)."""
    qk_norm: bool


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
        condition = Condition(arm.schedule, rule_text(others), arm.qk_norm)
        if condition in fits:
            raise ConfigError(
                f"{arm.label}: its condition has another arm; select one of them first"
            )
        fits[condition] = fit_arm(as_trained, AXES["tokens"])
    return fits


def check_durations(runs: pd.DataFrame) -> None:
    """Check that runs, which need no losses yet, are of several durations.

    Raises:
        ConfigError: they are not.
    """
    tokens = AXES["tokens"].column
    if runs[tokens].nunique() < 2:
        raise ConfigError(f"expected several {tokens} (got {runs[tokens].iloc[0]})")


def exponents(conditions: Conditions) -> pd.DataFrame:
    """One row a condition: γ with its interval over seeds.

    `durations` counts those with a bracketed optimum, which enter γ; `bracketed` says whether
    these are all.
    """
    return pd.DataFrame(starmap(_exponent, conditions.items()))


def _exponent(condition: Condition, fits: ScaleFits) -> dict[str, Any]:
    slope, counted = drift(fits), counted_scales(fits)
    return {
        **condition._asdict(),
        "tokens_min": min(counted, default=0),
        "tokens_max": max(counted, default=0),
        "durations": len(counted),
        "seeds": len(drift_by_seed(fits)),
        "gamma": -slope.value,
        "gamma_low": -slope.high,
        "gamma_high": -slope.low,
        "bracketed": len(counted) == len(fits),
    }


def effects(conditions: Conditions) -> pd.DataFrame:
    """One row a change: how much it moves γ, with the other factors averaged out.

    Taken within each seed, over the durations that all conditions share; conditions with an optimum
    that is not bracketed at one of these, or hidden by divergence, are left out, with their
    counterparts. `moves` is `yes` if the interval excludes 0, else `not decided`.
    """
    shared = set.intersection(*(set(curves) for curves in conditions.values()))
    gammas = {
        condition: -drift_by_seed({s: f for s, f in curves.items() if s in shared})
        for condition, curves in conditions.items()
        if all(curves[scale].mean.bracketed and not curves[scale].slack for scale in shared)
    }
    rows = []
    for factor, before, after in CHANGES:
        pairs = [
            gammas[changed] - gammas[condition]
            for condition in gammas
            if getattr(condition, factor) == before
            and (changed := condition._replace(**{factor: after})) in gammas
        ]
        by_seed = pd.DataFrame(pairs).dropna(axis="columns").mean()
        effect = over_seeds(by_seed.tolist())
        moves: Moves = "yes" if effect.low > 0 or effect.high < 0 else "not decided"
        rows.append(
            {
                "factor": factor,
                "from": str(before),
                "to": str(after),
                "pairs": len(pairs),
                "seeds": len(by_seed),
                **effect.columns("effect"),
                "moves": moves,
            }
        )
    return pd.DataFrame(rows)
