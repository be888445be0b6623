"""Is the best annealing of a short run a prefix of the long run's?

Two sweeps search over the course of the learning rate, at 192 and at 384 steps, three times each.
`python -m analysis.annealings` writes what they found, and the first halves of the long ones,
beside the results. `sweeps/annealings.yaml` trains them at seeds and on text that no search saw.
Estimator and verdict were set before the first run (docs/schedule_laws.md, "Schedule search").
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from analysis.load import COMMITTED_RESULTS, Results, load_results
from analysis.transfer import REGRET_TOLERANCE
from analysis.tuned import arms_of, ranked, read_arms
from paper_repro.command import command
from paper_repro.config import RunConfig, SchedulePoint
from paper_repro.errors import ConfigError
from paper_repro.files import write_yaml
from paper_repro.paths import given_path
from paper_repro.schedules import factor_at
from paper_repro.search import tuned
from paper_repro.statistics import CONFIDENCE, Interval

SHORT, LONG, CUT = "short", "long", "cut"
SEARCHES = {SHORT: "schedule_search_short", LONG: "schedule_search_long"}
"""The sweeps whose searches found the courses of a kind."""
REPEATS = 3
"""Searches of each."""

BASE = "tuned_global"
"""The file of the hyperparameters that every arm has."""
WARMUP = 0.1
FIXED: dict[str, dict[str, Any]] = {
    "linear": {"schedule": "linear", "final_fraction": 0.0},
    "constant": {"schedule": "constant"},
}
"""Arms without a search, and their schedules after `WARMUP`; the second is the searches' start."""

COMPARED = (
    *((CUT, SHORT), (LONG, SHORT)),
    *((kind, fixed) for kind in (SHORT, CUT, LONG) for fixed in FIXED),
)
"""Kinds whose losses are compared, wherever both were trained for as many steps."""

Verdict = Literal["above", "within 0.02", "below", "not decided"]


def first_half(config: RunConfig) -> RunConfig:
    """The first half of a training as one of its own, with the same rate at every step.

    Points before the half lie at twice their share; the last is the course at the half, which is
    interpolated there. The warm-up takes twice its share. The ways between points must be linear,
    as those of the searches are.
    """
    points = config.train.piecewise["lr"]
    early = [SchedulePoint(at=2 * each.at, factor=each.factor) for each in points if each.at < 0.5]
    update = {
        "tokens": config.train.tokens // 2,
        "warmup_fraction": 2 * config.train.warmup_fraction,
        "piecewise": {"lr": [*early, SchedulePoint(at=1.0, factor=factor_at(points, 0.5))]},
    }
    return config.model_copy(update={"train": config.train.model_copy(update=update)})


def arms(results_dir: Path = COMMITTED_RESULTS) -> dict[str, RunConfig]:
    """All arms by name; what was found has its kind and the number of its search: `short 0`.

    Raises:
        ConfigError: a file is missing or wrong.
    """
    files = {
        f"{kind} {number}": results_dir / f"{_file(kind, number)}.yaml"
        for kind in (SHORT, LONG, CUT)
        for number in range(REPEATS)
    }
    found = read_arms({BASE: results_dir / f"{BASE}.yaml", **files})
    base = found.pop(BASE)
    for name, schedule in FIXED.items():
        train = base.train.model_copy(update={"warmup_fraction": WARMUP, **schedule})
        found[name] = base.model_copy(update={"train": train})
    return found


def _file(kind: str, number: int) -> str:
    return f"annealing_{kind}_{number}"


def annealings(results: Results, results_dir: Path = COMMITTED_RESULTS) -> pd.DataFrame:
    """One row a number of steps and pair of kinds (`COMPARED`) that were trained for it.

    Columns: `steps`; `first` and `second`; `difference`, the loss of the first less that of the
    second (nats), with the interval of `difference`; `seeds` that all arms of both have, and
    `first_arms` and `second_arms`; `verdict` on the first, of `verdict_of`.

    Raises:
        ConfigError: a file of an arm is missing or wrong, or a run is of none.
    """
    runs = results.runs.assign(
        arm=arms_of(results.runs, arms(results_dir)),
        steps=[RunConfig.model_validate_json(text).steps for text in results.runs["config"]],
    )
    rows = []
    for steps, some in runs.groupby("steps"):
        losses = some.pivot_table("val_loss", "arm", "seed", dropna=False)
        kinds = losses.index.str.rstrip("0123456789 ")
        for first, second in COMPARED:
            one, other = losses[kinds == first], losses[kinds == second]
            if one.empty or other.empty:
                continue
            both = pd.concat([one, other]).dropna(axis="columns").columns
            found = difference(one[both], other[both])
            rows.append(
                {"steps": steps, "first": first, "second": second}
                | found.columns("difference")
                | {"seeds": len(both), "first_arms": len(one), "second_arms": len(other)}
                | {"verdict": verdict_of(found)}
            )
    return pd.DataFrame(rows)


def difference(first: pd.DataFrame, second: pd.DataFrame) -> Interval:
    """The mean loss of one kind less that of another, with an interval over seeds and searches.

    Losses are (arms, seeds), at the same seeds. The error of the difference has a part for each
    kind that was found, the variance of its searches' means over their number, and one of the
    differences by seed, over the number of seeds. The parts are added (the noise of single runs is
    in each of them, so that the interval is rather too wide), and the interval is Student's t, with
    the degrees of freedom of Welch and Satterthwaite. It is unknown of one seed or one search, or
    where a run diverged.
    """
    by_seed = (first.mean() - second.mean()).to_numpy()
    kinds = [kind for kind in (first, second) if not set(kind.index) & set(FIXED)]
    samples = [by_seed, *(kind.mean(axis="columns").to_numpy() for kind in kinds)]
    mean = float(by_seed.mean())
    if not math.isfinite(mean) or min(map(len, samples)) < 2:
        return Interval(mean, math.nan, math.nan)
    parts = np.array([np.var(sample, ddof=1) / len(sample) for sample in samples])
    fewer = np.array([len(sample) - 1 for sample in samples])
    freedom = parts.sum() ** 2 / (parts**2 / fewer).sum()
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(parts.sum())
    return Interval(mean, mean - half, mean + half)


def verdict_of(found: Interval) -> Verdict:
    """Whether an interval lies above 0, below it, or within 0.02 nats of it."""
    if found.low > 0:
        return "above"
    if found.high < 0:
        return "below"
    within = found.low > -REGRET_TOLERANCE and found.high < REGRET_TOLERANCE
    return "within 0.02" if within else "not decided"


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files of what the searches found; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m analysis.annealings", description=__doc__)
    parser.add_argument(
        "--results-dir", type=given_path, default=COMMITTED_RESULTS, help="default: %(default)s"
    )
    folder = parser.parse_args(arguments).results_dir
    found = [each for kind in SEARCHES for each in _found(kind, folder)]
    for name, config, header in found:
        write_yaml(folder / f"{name}.yaml", tuned(config), header=header)
        print(f"wrote {folder / name}.yaml")
    return 0


def _found(kind: str, folder: Path) -> Iterator[tuple[str, RunConfig, str]]:
    """The files of a kind, and of their halves: name, content and header."""
    sweep = SEARCHES[kind]
    path = folder / f"{sweep}.parquet"
    if not path.exists():
        raise ConfigError(
            f"{path}: no such results (python -m sweeps.launch sweeps/{sweep}.yaml, then "
            f"python -m analysis.save {sweep})"
        )
    results = load_results(path)
    last = ranked(results).sort_values("search")
    if len(last) < REPEATS:
        raise ConfigError(f"{sweep}: {len(last)} of {REPEATS} searches are at their end")
    configs = results.runs.set_index("run_id")["config"]
    for number, row in enumerate(last.to_dict("records")):
        config = RunConfig.model_validate_json(str(configs[row["run_id"]]))
        header = (
            f"The last incumbent of {row['search']} of sweeps/{sweep}.yaml.\n"
            f"At the choosing seeds: {row['loss']:.4f} nats, standard deviation {row['sd']:.4f}."
        )
        yield _file(kind, number), config, header
        if kind == LONG:
            half = f"The first half of {_file(kind, number)}.yaml, as a training of its own."
            yield _file(CUT, number), first_half(config), half


if __name__ == "__main__":
    raise SystemExit(main())
