"""Records of a sweep that was never trained: losses are a parabola with a known optimum."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from paper_repro.config import RunConfig
from paper_repro.records import Record, RunInfo, Status

BIGRAM_ENTROPY = 2.37
CURVATURE = 0.04


BASES = {"width": 64, "depth": 2}


def drifting(octaves_per_doubling: float, base: float = -6.0) -> Callable[[float], float]:
    """log2 of the optimum as a function of the ratio to the base, where it is `base`."""
    return lambda ratio: base + octaves_per_doubling * math.log2(ratio)


def run_config(
    parameterization: str, scale: int, log2_lr: float, seed: int, axis: str = "width"
) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": {axis: scale},
            "scaling": {"parameterization": parameterization},
            "hyperparameters": {"lr": 2.0**log2_lr},
            "seed": seed,
        }
    )


def write_run(
    runs_dir: Path, sweep: str, config: RunConfig, val_loss: float, status: str = "done"
) -> None:
    """One record with the files that a trained run leaves; an infinite loss is a diverged run."""
    record = Record(runs_dir / sweep / config.run_id)
    record.create(config)
    data = {
        "corpus": "sotu",
        "tokenizer": "bytes",
        "corpus_hash": "0123456789ab",
        "vocab_size": 256,
        "unigram_entropy": 3.1,
        "bigram_entropy": BIGRAM_ENTROPY,
    }
    record.write_run_info(
        RunInfo.model_validate(
            {
                "versions": {"torch": "2.13.0"},
                "git_revision": "abcdef0",
                "device": "cpu",
                "data": data,
                "parameters": 12 * config.model.depth * config.model.width**2,
                "groups": [{"lr": 0.1}],
            }
        )
    )
    for step in (config.steps // 2, config.steps):
        record.append_metrics(
            {
                "step": step,
                "tokens": step * config.tokens_per_step,
                "lr_scale": 1.0,
                "train_loss": 2.0,
                "val_loss": 2.1,
            }
        )
    if math.isinf(val_loss):
        status = "diverged"
    known = status == "done"
    record.finish(
        Status(
            status=status,
            val_loss=val_loss if known else None,
            train_loss=val_loss - 0.1 if known else None,
            error=None if known else status,
            step=config.steps,
            steps=config.steps,
            tokens=config.steps * config.tokens_per_step,
            wall_seconds=9.0,
            tokens_per_second=9e4,
            flops=1e12,
            peak_memory_bytes=10**8,
            peak_host_memory_bytes=10**8,
            finished="2026-01-01T00:00:00+00:00",
        )
    )


def write_sweep(
    runs_dir: Path,
    sweep: str,
    optima: dict[str, Callable[[float], float]],
    scales: Sequence[int] = (32, 64, 128, 256),
    log2_lrs: Sequence[float] = tuple(range(-10, -1)),
    seeds: int = 3,
    noise: float = 0.004,
    cliff: float = math.inf,
    height: float = 2.1,
    axis: str = "width",
) -> None:
    """Write a sweep along width or depth: one curve an arm, scale and seed.

    The loss is `height` - 0.05 per doubling + CURVATURE·(log2 lr - optimum)², plus a shift that
    each seed has everywhere (paired data) and noise of each run; above `cliff` runs diverge.
    """
    rng = np.random.default_rng(0)
    seed_shift = rng.normal(0, 0.02, seeds)
    for arm, optimum in optima.items():
        for scale in scales:
            ratio = scale / BASES[axis]
            floor = height - 0.05 * math.log2(ratio)
            for log2_lr in log2_lrs:
                for seed in range(seeds):
                    loss = floor + CURVATURE * (log2_lr - optimum(ratio)) ** 2
                    loss += seed_shift[seed] + rng.normal(0, noise)
                    config = run_config(arm, scale, log2_lr, seed, axis)
                    write_run(runs_dir, sweep, config, math.inf if log2_lr > cliff else loss)
