"""Is what was tuned better? Arms by the files that they were tuned to, gains, and verdicts.

The thresholds were set before the first run (docs/per_module.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pandas as pd

from analysis.load import Results
from analysis.speedup import compare_arms
from paper_repro.config import RunConfig, parse_run_config
from paper_repro.errors import ConfigError
from paper_repro.files import read_yaml
from paper_repro.statistics import Interval

GainVerdict = Literal["beats", "does not", "not decided"]

#: Nats by which a tuned global set has to beat the defaults.
GAIN = 0.02
#: Speed-up by which per-module hyperparameters have to beat the global ones.
SPEEDUP = 1.05


def verdict(effect: Interval, threshold: float) -> GainVerdict:
    """Whether an effect is beyond a threshold, with the whole of its interval."""
    if effect.low > threshold:
        return "beats"
    return "does not" if effect.high < threshold else "not decided"


def arms_of(runs: pd.DataFrame, files: Mapping[str, Path]) -> pd.Series:
    """The arm of each run: the name of the file whose hyperparameters and schedule it has.

    Args:
        files: a part of a RunConfig each, as a search leaves it, by the name of the arm.

    Raises:
        ConfigError: a file is wrong, two files are the same arm, or a run is of none.
    """
    arms: dict[str, str] = {}
    for name, path in files.items():
        key = _tuned(parse_run_config(read_yaml(path), str(path)))
        if key in arms:
            raise ConfigError(f"{path}: the same hyperparameters as {files[arms[key]]}")
        arms[key] = name
    found = [arms.get(_tuned(RunConfig.model_validate_json(text))) for text in runs["config"]]
    if None in found:
        run_id = runs["run_id"].iloc[found.index(None)]
        raise ConfigError(f"run {run_id}: its hyperparameters are of none of {', '.join(files)}")
    return pd.Series(found, runs.index)


def _tuned(config: RunConfig) -> str:
    """What a search tunes, as text: equal for equal hyperparameters and schedules."""
    schedule = config.train.model_dump(include={"schedule", "warmup_fraction", "final_fraction"})
    return f"{config.hyperparameters.model_dump_json()} {schedule}"


def tuned_global(results: Results, files: Mapping[str, Path]) -> pd.DataFrame:
    """The gain of a tuned global set over the defaults, on each text and shape, with verdicts.

    Args:
        files: of the two arms, `tuned` and `defaults`.
    """
    table = compare_arms(results, arms_of(results.runs, files), "tuned", "defaults")
    gains = table[["gain", "gain_low", "gain_high"]].to_numpy()
    return table.assign(verdict=[verdict(Interval(*row), GAIN) for row in gains])
