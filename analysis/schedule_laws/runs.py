"""The runs of sweeps/schedules.yaml as curves."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.load import Results
from analysis.schedule_laws.curves import Curve, Schedule
from paper_repro.config import RunConfig, TrainConfig
from paper_repro.schedules import lr_scale

#: Peaks above this are the probes: no law of the loss knows them, nor is judged on them.
PROBED_ABOVE = 2.0**-4


def family_of(train: TrainConfig) -> str:
    """The name of the schedule; of a piecewise one, `multi-step` or `cyclic`, which rises again."""
    if train.schedule != "piecewise":
        return train.schedule
    factors = [point.factor for point in train.piecewise["lr"]]
    return "cyclic" if np.any(np.diff(factors) > 0) else "multi-step"


def name_of(config: RunConfig) -> str:
    """A schedule: all that decides its rates, but for the number of steps."""
    fields = {"schedule", "warmup_fraction", "final_fraction"}
    fields |= {"decay_fraction", "decay_shape", "piecewise"}
    said = config.train.model_dump(mode="json", include=fields)
    return json.dumps([config.hyperparameters.lr, said], sort_keys=True)


def schedule_of(config: RunConfig) -> Schedule:
    """The rate at every step, as it is stated at the base."""
    steps = range(config.steps)
    scales = [lr_scale(config.train, step, config.steps) for step in steps]
    warmup = round(config.train.warmup_fraction * config.steps)
    return Schedule(config.hyperparameters.lr * np.array(scales), warmup)


def diverged(runs: pd.DataFrame) -> pd.Series[bool]:
    """Whether each run diverged, or ended above the bigram entropy of its text.

    The second learnt no more than which token follows which: no schedule that one would use.
    """
    return (runs["status"] == "diverged") | (runs["val_loss"] > runs["bigram_entropy"])


def read_runs(results: Results) -> list[Curve]:
    """A curve for each schedule, size and duration: the validation losses, the mean over seeds.

    Of a size and duration, only the seeds that all of its schedules but the probes have.
    """
    runs = results.runs.assign(
        diverged=diverged(results.runs),
        name=[name_of(RunConfig.model_validate_json(text)) for text in results.runs["config"]],
    )
    points = results.curves.dropna(subset="val_loss")
    found = []
    for _, cell in runs.groupby(["parameters", "train.tokens"]):
        judged = cell[cell["hyperparameters.lr"] <= PROBED_ABOVE]
        seeds = set.intersection(*(set(rows["seed"]) for _, rows in judged.groupby("name")))
        for _, rows in cell.groupby("name"):
            some = rows[rows["seed"].isin(seeds)]
            if len(some):
                found.append(_curve(some, points))
    return found


def _curve(runs: pd.DataFrame, points: pd.DataFrame) -> Curve:
    config = RunConfig.model_validate_json(runs["config"].iloc[0])
    some = points[points["run_id"].isin(runs["run_id"])]
    means = some.groupby("step")["val_loss"].mean()
    ends = runs.sort_values("seed")["val_loss"].to_numpy(dtype=float)
    return Curve(
        name=runs["name"].iloc[0],
        family=family_of(config.train),
        size=float(runs["parameters"].iloc[0]),
        schedule=schedule_of(config),
        at=means.index.to_numpy(dtype=np.int64),
        losses=means.to_numpy(dtype=float),
        ends=np.where(np.isnan(ends), math.inf, ends),
        diverged=bool(runs["diverged"].any()),
    )


def without_probes(curves: Sequence[Curve]) -> list[Curve]:
    return [curve for curve in curves if curve.schedule.peak <= PROBED_ABOVE]
