"""The studies: what is asked of each sweep, along which axis, and between which arms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from analysis.arms import (
    ALL_BUT_DECAY,
    AXES,
    COMPARED,
    ISO_STEPS,
    LR,
    LR_AND_DECAY,
    LR_ONLY,
    NO_RULE,
    WEIGHT_DECAY,
    WHOLE_RULE,
    Arm,
    ScaleAxis,
    arms_of,
    names,
    select,
    with_equivalents,
)
from paper_repro.errors import ConfigError

#: What the hyperparameters of a base are: tuned together (docs/per_module.md), or a tuned learning
#: rate and first guesses for all else.
Base = Literal["tuned", "first guesses"]
FIRST_GUESSES: Base = "first guesses"


@dataclass(frozen=True)
class Study:
    """A sweep along one axis, read as transfer of one hyperparameter."""

    sweep: str
    axis: ScaleAxis
    panels: tuple[Arm, ...]
    """The arms of the figure."""
    hyperparameter: str = LR
    rows: tuple[Arm, ...] | None = None
    """The arms in the table of transfer; None: the panels and the compared parameterisations."""
    others: bool = True
    """Whether the figure also has other arms that a sweep may have, after the panels."""
    part: str = ""
    """What ends its name, of a sweep that is several studies."""
    where: tuple[str, tuple[Any, ...]] | None = None
    """A column, and the values that it has in the runs of such a sweep that are its own."""
    base: Base = "tuned"
    """At size `cpu`."""

    @property
    def name(self) -> str:
        """The study in tables, and its figure."""
        return f"{self.sweep}_{self.part}" if self.part else self.sweep

    def own(self, runs: pd.DataFrame) -> pd.DataFrame:
        """The runs of its sweep that are its own; a size of the sweep may have none."""
        return runs if self.where is None else runs[runs[self.where[0]].isin(self.where[1])]

    def figure_runs(self, runs: pd.DataFrame) -> pd.DataFrame:
        """The runs of the panels, including runs of other arms that are the same trainings.

        Raises:
            ConfigError: if there are none.
        """
        return self._read(runs, (*self.panels, *(arms_of(runs) if self.others else ())))

    def table_runs(self, runs: pd.DataFrame) -> pd.DataFrame:
        """The runs of the rows; see `figure_runs`."""
        return self._read(runs, self.rows or (*COMPARED, *self.panels))

    def _read(self, runs: pd.DataFrame, arms: tuple[Arm, ...]) -> pd.DataFrame:
        own = self.own(runs)
        if own.empty and self.where:
            values = " or ".join(map(str, self.where[1]))
            raise ConfigError(f"{self.name}: no run with {self.where[0]} of {values}")
        known = with_equivalents(own, self.hyperparameter, arms)
        parts = [select(known, arm) for arm in arms_of(known) if arm in arms]
        if not parts:
            found = names(arms_of(own))
            raise ConfigError(f"{self.name}: no run of {names(arms)}; there are {found}")
        return pd.concat(parts)


_RULE_PARTS = (NO_RULE, LR_ONLY, LR_AND_DECAY, ALL_BUT_DECAY, WHOLE_RULE)
_NO_QK_NORM = Arm("complete_d", qk_norm=False)
_LARGE_EPS = tuple(Arm(name, eps=1e-2) for name in ("completep", "complete_d"))
_ALONG_WIDTH = tuple(Arm(name) for name in ("sp", "mup", "completep", "complete_d"))
_REPAIRS_OF_SP = tuple(Arm(name) for name in ("sp_fan_in", "sp_embedding", "sp_full_alignment"))
_WIDTH_REPAIRED = (Arm("sp"), *_REPAIRS_OF_SP, *_ALONG_WIDTH[1:])
_ALONG_DEPTH = (Arm("mup"), Arm("complete_d", 0.5), Arm("complete_d"))
_FOR_DURATION = (NO_RULE, LR_ONLY, WHOLE_RULE)

STUDIES = {
    study.name: study
    for study in (
        Study("lr_width", AXES["width"], _ALONG_WIDTH),
        Study("transfer_width", AXES["width"], _WIDTH_REPAIRED, rows=_WIDTH_REPAIRED),
        Study("transfer_depth", AXES["depth"], (*_ALONG_DEPTH, Arm("mup", scaled_init=True))),
        Study("transfer_batch", AXES["batch_size"], _RULE_PARTS),
        Study("transfer_decay", AXES["batch_size"], _RULE_PARTS, WEIGHT_DECAY),
        *(
            Study(
                "transfer_duration",
                AXES["tokens"],
                _FOR_DURATION,
                others=False,
                part=part,
                where=("scaling.base_batch_size", batches),
            )
            # The proxy's batch at sizes cpu, gpu and paper, and those of the two other regimes.
            for part, batches in (("", (4, 8, 256)), ("batch_1", (1,)), ("batch_32", (32,)))
        ),
        Study("transfer_steps", ISO_STEPS, (WHOLE_RULE,)),
        Study("transfer_qk_norm", AXES["width"], (_NO_QK_NORM,), rows=(_NO_QK_NORM,)),
        Study("transfer_eps", AXES["width"], _LARGE_EPS, rows=_LARGE_EPS),
        Study("lr_depth", AXES["depth"], _ALONG_DEPTH, base=FIRST_GUESSES),
        Study("lr_batch", AXES["batch_size"], _RULE_PARTS, base=FIRST_GUESSES),
        Study("wd_batch", AXES["batch_size"], _RULE_PARTS, WEIGHT_DECAY, base=FIRST_GUESSES),
        Study("lr_duration", AXES["tokens"], _FOR_DURATION, others=False, base=FIRST_GUESSES),
        Study("iso_steps", ISO_STEPS, (WHOLE_RULE,), base=FIRST_GUESSES),
        Study(
            "no_qk_norm",
            AXES["width"],
            (WHOLE_RULE, _NO_QK_NORM),
            rows=(_NO_QK_NORM,),
            base=FIRST_GUESSES,
        ),
        Study("eps_fixes", AXES["width"], _LARGE_EPS, rows=_LARGE_EPS, base=FIRST_GUESSES),
    )
}
"""By name. A study is here before its sweep has results: its figure can be drawn at the end of a
launch, and tables have its rows once there are results."""
