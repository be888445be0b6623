"""Batch equivalence, wrong rules and more signal on the small GPT, from committed runs.

At the best rate of the base as stated; the error is the loss less that of the base, in nats. What
was decided beforehand is in docs/sde.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from analysis.arms import (
    ALL_BUT_DECAY,
    LR,
    LR_AND_DECAY,
    LR_ONLY,
    NO_RULE,
    STUDIES,
    WHOLE_RULE,
    Arm,
)
from analysis.load import load_results
from analysis.pooled_transfer import INFLATIONS, AllShared, credible, pooled_arm
from analysis.sde.experiments import COLUMNS, agreement, direction
from analysis.transfer import REGRET_TOLERANCE, fit_transfer

#: What is asked of a sweep, and the rules by their names in the table.
QUESTIONS: Mapping[str, tuple[str, Mapping[str, Arm]]] = {
    "lr_batch": (
        "batch",
        {
            "whole rule": WHOLE_RULE,
            "√κ on η alone": LR_ONLY,
            "√κ on η and λ": LR_AND_DECAY,
            "λ stays": ALL_BUT_DECAY,
        },
    ),
    "lr_duration": (
        "tokens",
        {"everything kept": NO_RULE, "√κ on η alone": LR_ONLY, "whole rule": WHOLE_RULE},
    ),
}


def trained_table(results_dir: Path, shared: AllShared) -> pd.DataFrame:
    """The rows of the small GPT, of the sweeps whose results are in the folder.

    Columns as those of the quadratic; `x` is the scale over that of the base.
    """
    rows = [
        row
        for sweep in QUESTIONS
        if (path := results_dir / f"{sweep}.parquet").exists()
        for row in _rows(sweep, load_results(path).runs, shared)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows(sweep: str, runs: pd.DataFrame, shared: AllShared) -> Iterator[dict[str, object]]:
    study, (question, rules) = STUDIES[sweep], QUESTIONS[sweep]
    transfer = fit_transfer(study.figure_runs(runs), study.axis)
    for name, arm in rules.items():
        fits = transfer.arms.get(arm, {})
        pooled = pooled_arm(fits, transfer.base, shared[LR], INFLATIONS[LR])
        if pooled is None:
            continue
        for scale in sorted(pooled.draws):
            less = credible(pooled.loss(scale) - pooled.loss(transfer.base))
            within = question == "batch"
            verdict = agreement(less, REGRET_TOLERANCE) if within else direction(less)
            yield {
                "process": "small GPT",
                "question": question,
                "rule": name,
                "x": scale / transfer.base,
                **credible(pooled.loss(scale)).columns("loss"),
                **less.columns("error"),
                "verdict": "" if scale == transfer.base else verdict,
            }
