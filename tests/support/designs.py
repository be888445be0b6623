"""Runs of real sweep files that were never trained: losses are a parabola with a known optimum."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from figures.check import planned
from paper_repro.config import RunConfig
from sweeps.expand import read_sweep

SWEEPS = Path(__file__).parent.parent.parent / "sweeps"
CURVATURE = 0.022
NOISE = 0.006
"""Nats, of a run; each seed also has a shift of its own of that size."""


def runs_of(sweep: str, size: str = "cpu", seeds: Sequence[int] = ()) -> pd.DataFrame:
    """The runs of a sweep file, without results."""
    file = read_sweep(SWEEPS / f"{sweep}.yaml", size=size, seeds=seeds)
    return planned(list(file.runs.values()))


def trained(
    runs: pd.DataFrame,
    optimum: Callable[[RunConfig], float],
    least: Callable[[RunConfig], float] = lambda _: 1.8,
    hyperparameter: str = "hyperparameters.lr",
) -> pd.DataFrame:
    """The runs with losses.

    Args:
        optimum: log2 of the best value of the hyperparameter, as a run states it.
        least: the loss there, nats.
    """
    random = np.random.default_rng(0)
    shifts = {seed: random.normal(0, NOISE) for seed in sorted(runs["seed"].unique())}
    losses = []
    for text, stated, seed in zip(runs["config"], runs[hyperparameter], runs["seed"], strict=True):
        config = RunConfig.model_validate_json(text)
        away = math.log2(stated) - optimum(config)
        loss = least(config) + CURVATURE * away**2 + shifts[seed] + random.normal(0, NOISE)
        losses.append(loss)
    return runs.assign(val_loss=losses)
