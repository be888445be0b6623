"""Is what was tuned better? Arms by the files that they were tuned to, gains, and verdicts.

The thresholds were set before the first run (docs/per_module.md). `python -m analysis.tuned` writes
the arms that are derived from the per-module optimum, beside it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.load import COMMITTED_RESULTS, Results
from analysis.speedup import compare_arms
from paper_repro.config import RunConfig, parse_run_config
from paper_repro.errors import ConfigError
from paper_repro.files import read_yaml, write_yaml
from paper_repro.search import tuned
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


def tuned_global(results: Results, results_dir: Path = COMMITTED_RESULTS) -> pd.DataFrame:
    """The gain of the tuned global set over the defaults, on each text and shape, with verdicts.

    The defaults are at the best learning rate of a grid, `tuned_rate.yaml`.
    """
    files = {name: results_dir / f"{name}.yaml" for name in ("tuned_global", "tuned_rate")}
    table = compare_arms(results, arms_of(results.runs, files), *files)
    gains = table[["gain", "gain_low", "gain_high"]].to_numpy()
    table = table.assign(verdict=[verdict(Interval(*row), GAIN) for row in gains])
    return table.drop(columns=["speedup", "speedup_low", "speedup_high"])


def learning_rates_only(config: RunConfig) -> RunConfig:
    """A per-module optimum without its multipliers on anything but the learning rate."""
    base = config.hyperparameters
    types = {module: {"lr": q["lr"]} for module, q in base.module_multipliers.items() if "lr" in q}
    depth = {name: curve for name, curve in base.depth_multipliers.items() if name == "lr"}
    update = {"module_multipliers": types, "depth_multipliers": depth}
    return config.model_copy(update={"hyperparameters": base.model_copy(update=update)})


def shuffled(config: RunConfig, seed: int = 0) -> RunConfig:
    """The control: each quantity's multipliers, dealt anew to the module types that have it."""
    base, random = config.hyperparameters, np.random.default_rng(seed)
    dealt: dict[Any, dict[Any, float]] = {module: {} for module in base.module_multipliers}
    for quantity in sorted({q for factors in base.module_multipliers.values() for q in factors}):
        having = [m for m, factors in base.module_multipliers.items() if quantity in factors]
        order = random.permutation(len(having))
        for module, source in zip(having, order, strict=True):
            dealt[module][quantity] = base.module_multipliers[having[source]][quantity]
    hyperparameters = base.model_copy(update={"module_multipliers": dealt})
    return config.model_copy(update={"hyperparameters": hyperparameters})


DERIVED = {"lr_only": learning_rates_only, "shuffled": shuffled}
"""Arms by the end of the name of their file, `tuned_modules_<name>.yaml`."""


def main() -> int:
    """Write the derived arms; returns the exit code."""
    source = COMMITTED_RESULTS / "tuned_modules.yaml"
    try:
        config = parse_run_config(read_yaml(source), str(source))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, derive in DERIVED.items():
        path = source.with_name(f"{source.stem}_{name}.yaml")
        write_yaml(path, tuned(derive(config)), header=f"From {source.name}: {derive.__name__}.")
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
