"""Learning-rate schedules: the factor on the peak learning rate at each step."""

from __future__ import annotations

import math

from paper_repro.config import TrainConfig


def lr_scale(train: TrainConfig, step: int, steps: int) -> float:
    """The factor at `step`, counted from 0, of a run of `steps` steps.

    Rises linearly over the warm-up to 1, reached at its last step; then follows the schedule so
    that the step after the last would have `final_fraction`.
    """
    warmup = round(train.warmup_fraction * steps)
    if step < warmup:
        return (step + 1) / warmup
    if train.schedule == "constant":
        return 1.0
    start = warmup
    if train.schedule == "wsd":
        start = max(warmup, steps - round(train.decay_fraction * steps))
    if step < start:
        return 1.0
    progress = (step - start) / max(steps - start, 1)
    if train.schedule == "cosine":
        remaining = (1 + math.cos(math.pi * progress)) / 2
    else:  # linear, and the decay of wsd
        remaining = 1 - progress
    return train.final_fraction + (1 - train.final_fraction) * remaining
