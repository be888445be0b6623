"""The studies: what each sweep measures, and which rules its figure and its table rows compare."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from analysis.arms import COMPARED, Arm, arms_of, select, with_equivalents
from analysis.axes import AXES, ISO_STEPS, Axis
from analysis.transfer import LR, WEIGHT_DECAY
from paper_repro.config import SdeQuantity
from paper_repro.errors import ConfigError

_BETAS: tuple[SdeQuantity, ...] = ("one_minus_beta1", "one_minus_beta2")
NO_RULE = Arm("complete_d", sde_rule=())
LR_ONLY = Arm("complete_d", sde_rule=("lr",))
LR_AND_DECAY = Arm("complete_d", sde_rule=("lr", "weight_decay"))
#: PyTorch's λ × √κ applied to a decay in Loshchilov and Hutter's form (η·λ × √κ, where κ is right):
#: with η × √κ that leaves PyTorch's λ as it is.
ALL_BUT_DECAY = Arm("complete_d", sde_rule=("lr", "eps", *_BETAS))
WHOLE_RULE = Arm("complete_d")


@dataclass(frozen=True)
class Study:
    """A sweep along one axis, read as transfer of one hyperparameter."""

    sweep: str
    axis: Axis
    panels: tuple[Arm, ...]
    """The arms of the figure."""
    hyperparameter: str = LR
    rows: tuple[Arm, ...] | None = None
    """The arms in the table of transfer; None: the panels and the compared parameterisations."""
    others: bool = True
    """Whether the figure has also other arms that a sweep may have, after the panels."""

    def figure_runs(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The runs of the panels, those that are the same trainings among them.

        Raises:
            ConfigError: if there are none.
        """
        trained = tuple(arms_of(frame).values()) if self.others else ()
        return self._runs(frame, (*self.panels, *trained))

    def table_runs(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The runs of the rows."""
        return self._runs(frame, self.rows or (*COMPARED, *self.panels))

    def _runs(self, frame: pd.DataFrame, arms: tuple[Arm, ...]) -> pd.DataFrame:
        runs = with_equivalents(frame, self.hyperparameter, arms)
        parts = [select(runs, arm) for arm in arms_of(runs).values() if arm in arms]
        if not parts:
            wanted, found = (
                ", ".join(arm.name for arm in a) for a in (arms, arms_of(frame).values())
            )
            raise ConfigError(f"{self.sweep}: no run of {wanted}; there are {found}")
        return pd.concat(parts)


_RULE_PARTS = (NO_RULE, LR_ONLY, LR_AND_DECAY, ALL_BUT_DECAY, WHOLE_RULE)
_NO_QK_NORM = Arm("complete_d", qk_norm=False)
_LARGE_EPS = tuple(Arm(name, eps=1e-2) for name in ("completep", "complete_d"))

STUDIES = {
    study.sweep: study
    for study in (
        Study(
            "lr_width",
            AXES["width"],
            tuple(Arm(a) for a in ("sp", "mup", "completep", "complete_d")),
        ),
        Study("lr_depth", AXES["depth"], (Arm("mup"), Arm("complete_d", 0.5), Arm("complete_d"))),
        Study("lr_batch", AXES["batch_size"], _RULE_PARTS),
        Study("wd_batch", AXES["batch_size"], _RULE_PARTS, WEIGHT_DECAY),
        Study("lr_duration", AXES["tokens"], (NO_RULE, LR_ONLY, WHOLE_RULE), others=False),
        Study("iso_steps", ISO_STEPS, (WHOLE_RULE,)),
        Study("no_qk_norm", AXES["width"], (WHOLE_RULE, _NO_QK_NORM), rows=(_NO_QK_NORM,)),
        Study("eps_fixes", AXES["width"], _LARGE_EPS, rows=_LARGE_EPS),
    )
}


def duration_rules(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The runs of a duration sweep under each rule that its figure compares, by label."""
    runs = STUDIES["lr_duration"].figure_runs(frame)
    return {arm.label: select(runs, arm) for arm in arms_of(runs).values()}
