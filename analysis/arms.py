"""Arms: the rules by which the hyperparameters of a run follow its scale.

Two arms may be the same trainings, read differently. Along depth, SP and μP have no rule, so they
are one. Along batch size, "no rule" and "√κ on the learning rate alone" share every run: one run is
at the stated rate η under the first and at η/√κ under the second. `restated` turns runs of one arm
into those of another, and refuses unless every number that training takes is the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.load import config_of
from paper_repro.config import SDE_RULE, Parameterization, RunConfig, SdeQuantity
from paper_repro.errors import ConfigError
from paper_repro.hyperparameters import Label, resolve, training_numbers
from paper_repro.parameterization import COLUMNS

#: Names in print.
PARAMETERIZATION_NAMES: dict[Parameterization, str] = {
    "sp": "SP",
    "sp_fan_in": "SP (1/fan-in init)",
    "mup": "μP",
    "completep": "CompleteP",
    "complete_d": "Complete(d)P",
}
_QUANTITY_SYMBOLS: dict[SdeQuantity, str] = {
    "lr": "η",
    "weight_decay": "λ",
    "eps": "ε",
    "one_minus_beta1": "β",
    "one_minus_beta2": "β",
}


@dataclass(frozen=True)
class Arm:
    """A parameterisation, the part of its rules in force, and the condition it is tried under."""

    parameterization: Parameterization
    alpha: float = 1.0
    sde_rule: tuple[SdeQuantity, ...] = SDE_RULE
    """The quantities that follow batch size and tokens."""
    schedule: str = "cosine"
    qk_norm: bool = True
    eps: float = 1e-8

    @property
    def name(self) -> str:
        """`complete_d`, `complete_d_alpha_0.5`, `complete_d:lr+weight_decay`, `complete_d:none`.

        A condition that is not the usual one follows: `complete_d, wsd, no QK norm, eps 0.001`.
        """
        alpha = "" if self.alpha == 1 else f"_alpha_{self.alpha:g}"
        part = "" if self.sde_rule == SDE_RULE else f":{'+'.join(self.sde_rule) or 'none'}"
        return ", ".join([f"{self.parameterization}{alpha}{part}", *self._condition("eps")])

    @property
    def label(self) -> str:
        """The arm in print; a part of the SDE rule stands for Complete(d)P, which alone has it."""
        parts = [PARAMETERIZATION_NAMES[self.parameterization]]
        if self.sde_rule != SDE_RULE:
            symbols = dict.fromkeys(_QUANTITY_SYMBOLS[quantity] for quantity in self.sde_rule)
            parts = [f"SDE rule on {', '.join(symbols)}" if symbols else "no SDE rule"]
        if self.alpha != 1:
            parts.append(f"α = {'½' if self.alpha == 0.5 else f'{self.alpha:g}'}")
        return ", ".join([*parts, *self._condition("ε =")])

    def _condition(self, eps: str) -> list[str]:
        usual = Arm(self.parameterization)
        return [
            *([] if self.schedule == usual.schedule else [self.schedule]),
            *([] if self.qk_norm else ["no QK norm"]),
            *([] if self.eps == usual.eps else [f"{eps} {self.eps:g}"]),
        ]


#: The parameterisations of the paper's first question: one row each in the table of transfer.
COMPARED: tuple[Arm, ...] = (
    Arm("sp"),
    Arm("mup"),
    Arm("completep"),
    Arm("completep", 0.5),
    Arm("complete_d"),
    Arm("complete_d", 0.5),
)


def arms_of(frame: pd.DataFrame) -> dict[str, Arm]:
    """The arms of runs by name, in the order of print: by parameterisation, the whole rule last."""

    def place(arm: Arm) -> tuple[Any, ...]:
        rule = [quantity in arm.sde_rule for quantity in SDE_RULE]
        condition = (not arm.qk_norm, arm.schedule, arm.eps)
        return (COLUMNS.index(arm.parameterization), condition, sum(rule), rule, arm.alpha)

    return {arm.name: arm for arm in sorted(set(_arms(frame)), key=place)}


def select(frame: pd.DataFrame, arm: Arm) -> pd.DataFrame:
    """The runs of an arm; none if it has none."""
    return frame[[other == arm for other in _arms(frame)]]


def restated(frame: pd.DataFrame, arm: Arm, hyperparameter: str) -> pd.DataFrame | None:
    """The same runs under the rules of another arm; None if they are not trainings of that arm.

    Args:
        hyperparameter: the one column whose stated value may change, so that what it resolves to
            stays: `hyperparameters.lr` or `hyperparameters.weight_decay`.
    """
    rows = []
    section, name = hyperparameter.split(".")
    for row in frame.to_dict("records"):
        try:
            changed = _restated(config_of(row), arm, hyperparameter)
        except ConfigError:  # a beta leaves (0, 1) under that arm
            return None
        if changed is None:
            return None
        rows.append(
            row
            | {
                "scaling.parameterization": arm.parameterization,
                "scaling.alpha": arm.alpha,
                "scaling.sde_rule": json.dumps(arm.sde_rule),
                hyperparameter: getattr(getattr(changed, section), name),
            }
        )
    return pd.DataFrame(rows, columns=frame.columns)


def with_equivalents(
    frame: pd.DataFrame, hyperparameter: str, wanted: Sequence[Arm] = COMPARED
) -> pd.DataFrame:
    """The runs, and the same again under the name of every wanted arm that they are runs of too.

    The runs there are decide: where only those at the base are done, all arms are one.
    """
    parts = [frame]
    trained = list(arms_of(frame).values())
    for arm in wanted:
        if arm in trained:
            continue
        for other in trained:
            runs = restated(select(frame, other), arm, hyperparameter)
            if runs is not None:
                parts.append(runs)
                break
    return pd.concat(parts, ignore_index=True)


def _restated(config: RunConfig, arm: Arm, hyperparameter: str) -> RunConfig | None:
    """The config under the rules of an arm, with the same numbers; None where there is none."""
    section, name = hyperparameter.split(".")
    content = config.model_dump()
    if (config.train.schedule, config.model.qk_norm) != (arm.schedule, arm.qk_norm):
        return None
    if config.hyperparameters.eps != arm.eps:
        return None
    content["scaling"] |= {
        "parameterization": arm.parameterization,
        "alpha": arm.alpha,
        "sde_rule": list(arm.sde_rule),
    }
    label = Label("hidden_weight", "query", 0)
    was = getattr(resolve(config, label), name)
    becomes = getattr(resolve(RunConfig.model_validate(content), label), name)
    if was != becomes:
        content[section][name] *= was / becomes
    changed = RunConfig.model_validate(content)
    numbers = zip(training_numbers(config), training_numbers(changed), strict=True)
    same = all(math.isclose(one, other, rel_tol=1e-9) for one, other in numbers)
    return changed if same else None


def _arms(frame: pd.DataFrame) -> list[Arm]:
    columns = (
        *("scaling.parameterization", "scaling.alpha", "scaling.sde_rule"),
        *("train.schedule", "model.qk_norm", "hyperparameters.eps"),
    )
    return [
        Arm(parameterization, alpha, tuple(json.loads(rule)), *condition)
        for parameterization, alpha, rule, *condition in zip(
            *(frame[column] for column in columns), strict=True
        )
    ]
