"""Batch equivalence, wrong rules and more signal on the small GPT, from committed runs.

At the best rate of the base as stated; the error is the loss less that of the base, in nats: pooled
(`analysis.pooled_transfer`), with the error of that rate in its interval, and paired by seed, where
the rate is taken as known. What was decided beforehand is in docs/sde.md.
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
    WHOLE_RULE,
    Arm,
)
from analysis.final_losses import at_base_optimum
from analysis.load import load_results
from analysis.pooled_transfer import INFLATIONS, AllShared, credible, pooled_arm
from analysis.sde.experiments import COLUMNS, agreement, direction
from analysis.studies import STUDIES
from analysis.transfer import REGRET_TOLERANCE, ScaleFits, fit_transfer
from paper_repro.statistics import Interval, over_seeds

#: The two estimates, as processes of the table.
POOLED, PAIRED = "small GPT", "small GPT, by seed"
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
        fits, base = transfer.arms.get(arm, {}), transfer.base
        pooled = pooled_arm(fits, base, shared[LR], INFLATIONS[LR])
        if pooled is None:
            continue
        paired = _paired(name, fits, base)
        for scale in sorted(pooled.draws):
            losses, less = pooled.loss(scale), pooled.loss(scale) - pooled.loss(base)
            by_seed = paired[scale], paired[scale] - paired[base]
            place = {"question": question, "rule": name, "x": scale / base}
            yield _row(POOLED, place, credible(losses), credible(less))
            yield _row(PAIRED, place, *(over_seeds(each.dropna().tolist()) for each in by_seed))


def _paired(name: str, fits: ScaleFits, base: int) -> pd.DataFrame:
    """Losses at the base's optimum by seed (rows) and scale."""
    rows = at_base_optimum(name, fits, base)
    table = pd.DataFrame(rows, columns=["arm", "seed", "scale", "loss"])
    return table.pivot(index="seed", columns="scale", values="loss")


def _row(
    process: str, place: Mapping[str, object], loss: Interval, less: Interval
) -> dict[str, object]:
    within = place["question"] == "batch"
    verdict = agreement(less, REGRET_TOLERANCE) if within else direction(less)
    return {
        "process": process,
        **place,
        **loss.columns("loss"),
        **less.columns("error"),
        "verdict": "" if place["x"] == 1 else verdict,
    }
