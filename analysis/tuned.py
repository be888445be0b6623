"""What was tuned: the chosen search, arms by the files they were tuned to, gains, and verdicts.

The thresholds were set before the first run (docs/per_module.md). `python -m analysis.tuned` writes
what is chosen, and the arms that are derived from the per-module optimum, beside the results.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.load import COMMITTED_RESULTS, Results, load_results
from analysis.searches import with_losses
from analysis.speedup import compare_arms
from paper_repro.command import command
from paper_repro.config import RunConfig, parse_run_config
from paper_repro.errors import ConfigError
from paper_repro.files import read_yaml, write_yaml
from paper_repro.paths import given_path
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


def read_arms(files: Mapping[str, Path]) -> dict[str, RunConfig]:
    """Arms by name, each from a file with a part of a RunConfig, as a search leaves it.

    Raises:
        ConfigError: a file is wrong.
    """
    return {name: parse_run_config(read_yaml(path), str(path)) for name, path in files.items()}


def arms_of(runs: pd.DataFrame, arms: Mapping[str, RunConfig]) -> pd.Series:
    """The arm of each run: the one whose hyperparameters and schedule it has.

    Raises:
        ConfigError: two arms are the same, or a run is of none.
    """
    known: dict[str, str] = {}
    for name, config in arms.items():
        if (first := known.setdefault(_tuned(config), name)) != name:
            raise ConfigError(f"{name}: the same hyperparameters as {first}")
    found = [known.get(_tuned(RunConfig.model_validate_json(text))) for text in runs["config"]]
    if None in found:
        run_id = runs["run_id"].iloc[found.index(None)]
        raise ConfigError(f"run {run_id}: its hyperparameters are of none of {', '.join(arms)}")
    return pd.Series(found, runs.index)


def _tuned(config: RunConfig) -> str:
    """What a search tunes, as text: equal for equal hyperparameters and schedules."""
    fields = {"schedule", "warmup_fraction", "final_fraction", "piecewise"}
    schedule = config.train.model_dump(include=fields)
    return json.dumps([config.hyperparameters.model_dump(), schedule], sort_keys=True)


def tuned_global(results: Results, results_dir: Path = COMMITTED_RESULTS) -> pd.DataFrame:
    """The gain of the tuned global set over the defaults, on each text and shape, with verdicts.

    The defaults are at the best learning rate of a grid, `tuned_rate.yaml`.
    """
    files = {name: results_dir / f"{name}.yaml" for name in ("tuned_global", "tuned_rate")}
    arms = arms_of(results.runs, read_arms(files))
    table = compare_arms(results, arms, "tuned_global", "tuned_rate")
    gains = table[["gain", "gain_low", "gain_high"]].to_numpy()
    table = table.assign(verdict=[verdict(Interval(*row), GAIN) for row in gains])
    return table.drop(columns=["speedup", "speedup_low", "speedup_high"])


def with_quantities(config: RunConfig, keep: Collection[str]) -> RunConfig:
    """A per-module optimum with the multipliers of some quantities (of `QUANTITIES`) alone."""
    base = config.hyperparameters
    types = {
        module: {quantity: factor for quantity, factor in factors.items() if quantity in keep}
        for module, factors in base.module_multipliers.items()
    }
    depth = {name: curve for name, curve in base.depth_multipliers.items() if name in keep}
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


QUANTITIES = (
    *("lr", "weight_decay", "eps", "one_minus_beta1", "one_minus_beta2"),
    *("init_std", "residual"),
)
"""What has multipliers by module type."""

DERIVED: dict[str, Callable[[RunConfig], RunConfig]] = {
    "lr_only": partial(with_quantities, keep={"lr"}),
    **{
        f"without_{quantity}": partial(with_quantities, keep={*QUANTITIES} - {quantity})
        for quantity in QUANTITIES
    },
    "shuffled": shuffled,
    "shuffled_2": partial(shuffled, seed=1),
    "shuffled_3": partial(shuffled, seed=2),
}
"""Arms by the end of the name of their file, `tuned_modules_<name>.yaml`."""

CHOSEN = {
    "tuned_global": "search_global",
    "tuned_global_more": "search_global_more",
    "tuned_modules": "search_modules",
    "tuned_layers": "search_layers",
}
"""The files of what was chosen, and the sweeps that it was chosen from."""
PER_MODULE = "tuned_modules"
"""From which the arms of `DERIVED` come."""
CANDIDATES = ("trust_region", "gp")
"""Whose searches may be chosen: the proposers that the global set was chosen among."""


def ranked(results: Results) -> pd.DataFrame:
    """The last incumbent of each candidate, the best first: the least mean plus deviation.

    Columns: `search`; `loss` and `sd` over the choosing seeds (nats); `run_id` of one run.

    Raises:
        ConfigError: no search is at its end.
    """
    trials = with_losses(results.trials, results.runs)
    confirmed = trials[(trials["kind"] == "confirmation") & trials["proposer"].isin(CANDIDATES)]
    last = confirmed.sort_values("trial").groupby("search").tail(1)
    if last.empty:
        raise ConfigError("no search is at its end")
    last = last.assign(run_id=[json.loads(ids)[0] for ids in last["runs"]])
    last = last.iloc[(last["loss"] + last["sd"]).argsort()]
    return last[["search", "loss", "sd", "run_id"]].reset_index(drop=True)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Write what was chosen, and the arms derived from it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m analysis.tuned", description=__doc__)
    parser.add_argument(
        "--results-dir", type=given_path, default=COMMITTED_RESULTS, help="default: %(default)s"
    )
    folder = parser.parse_args(arguments).results_dir
    made = {name: _chosen(sweep, folder) for name, sweep in CHOSEN.items()}
    config, _ = made[PER_MODULE]
    for name, derive in DERIVED.items():
        made[f"{PER_MODULE}_{name}"] = derive(config), f"Derived from {PER_MODULE}.yaml: {name}."
    for name, (each, header) in made.items():
        write_yaml(folder / f"{name}.yaml", tuned(each), header=header)
        print(f"wrote {folder / name}.yaml")
    return 0


def _chosen(sweep: str, folder: Path) -> tuple[RunConfig, str]:
    """What is chosen among the searches of a sweep, and where it comes from."""
    results = load_results(folder / f"{sweep}.parquet")
    best = ranked(results).iloc[0]
    text = results.runs.set_index("run_id").loc[best["run_id"], "config"]
    header = (
        f"Tuned at the proxy: the last incumbent of {best['search']} of sweeps/{sweep}.yaml,\n"
        "by the rule of docs/per_module.md. At the choosing seeds:\n"
        f"{best['loss']:.4f} nats, standard deviation {best['sd']:.4f}."
    )
    return RunConfig.model_validate_json(str(text)), header


if __name__ == "__main__":
    raise SystemExit(main())
