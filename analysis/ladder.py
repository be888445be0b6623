"""Does the gain of tuning per module survive, as the model and its training grow?

The runs are those of `sweeps/ladder.yaml`, the verdict rules those of `docs/per_module.md`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from analysis.attribution import GLOBAL, PER_MODULE
from analysis.load import COMMITTED_RESULTS, Results
from analysis.speedup import SCALES, TEXT, compare_arms, paired
from analysis.tuned import arms_of, read_arms
from paper_repro.statistics import Interval, over_seeds

SHUFFLED = "shuffled"
FILES = {GLOBAL: "tuned_global", PER_MODULE: "tuned_modules", SHUFFLED: "tuned_modules_shuffled"}
"""The arms of the ladder, and the files of their hyperparameters."""

#: The columns of `speedup.csv`.
SPEEDUP_COLUMNS = (
    *("rung", "parameterization", "width", "depth", "batch_size", "tokens", "parameters", "seeds"),
    *("gain", "gain_low", "gain_high", "speedup", "speedup_low", "speedup_high"),
    *("corpus", "tokenizer", "survives"),
)

Survival = Literal["yes", "yes, less than half", "no", "not decided"]


def arms_of_ladder(runs: pd.DataFrame, results_dir: Path = COMMITTED_RESULTS) -> pd.Series:
    """The arm of each run of the ladder.

    Raises:
        ConfigError: a file is missing or wrong, or a run is of no arm.
    """
    files = {name: results_dir / f"{file}.yaml" for name, file in FILES.items()}
    return arms_of(runs, read_arms(files))


def survival(gain: Interval, at_the_proxy: float) -> Survival:
    """Whether the gain at a rung is above 0, and whether less than half of that at the proxy."""
    lost = gain.high < at_the_proxy / 2
    if gain.low > 0:
        return "yes, less than half" if lost else "yes"
    return "no" if lost else "not decided"


def speedup_table(results: Results, arms: pd.Series, arm: str = PER_MODULE) -> pd.DataFrame:
    """Gain and speed-up of an arm over the global one at every rung (`SPEEDUP_COLUMNS`).

    `survives` compares with the per-module arm's gain at the proxy.
    """
    table = compare_arms(results, arms, arm, GLOBAL)
    own = table if arm == PER_MODULE else compare_arms(results, arms, PER_MODULE, GLOBAL)
    proxy = float(own.loc[own["rung"] == "proxy", "gain"].iloc[0])
    gains = table[["gain", "gain_low", "gain_high"]].to_numpy()
    table["survives"] = [survival(Interval(*row), proxy) for row in gains]
    return table[list(SPEEDUP_COLUMNS)]


def slopes(results: Results, arms: pd.Series) -> pd.DataFrame:
    """The change of the per-module gain for each doubling of the parameters.

    Over all rungs with the proxy's text, fitted by least squares for each seed. The proxy is one
    of every parameterisation, since no rule acts there.

    Returns:
        a row a parameterisation: `slope`, in nats a doubling, with an interval over seeds, and
        `log_speedup_slope`, the same of the natural logarithm of the speed-up.
    """
    pairs = paired(results, arms, PER_MODULE, GLOBAL)
    text = pairs[TEXT].mode().iloc[0]
    pairs = pairs[(pairs[TEXT] == text).all(axis="columns")]
    proxy = pairs[(pairs[SCALES] == pairs[SCALES].min()).all(axis="columns")]
    rows = []
    for name, some in pairs.groupby("parameterization"):
        whole = some if name in set(proxy["parameterization"]) else pd.concat([some, proxy])
        row = {"parameterization": name, "seeds": whole["seed"].nunique()}
        for effect, column in (("gain", "slope"), ("log_speedup", "log_speedup_slope")):
            fits = [
                float(np.polyfit(np.log2(of_seed["parameters"]), of_seed[effect], 1)[0])
                for _, of_seed in whole.groupby("seed")
            ]
            row |= over_seeds(fits).columns(column)
        rows.append(row)
    return pd.DataFrame(rows)
