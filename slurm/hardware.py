"""The GPUs and cores of this machine that workers may use, found without importing torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

Device = Literal["auto", "cpu", "cuda"]


def gpus(device: Device) -> list[str]:
    """The GPUs of this machine that workers may use, as in CUDA_VISIBLE_DEVICES."""
    if device == "cpu":
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu for gpu in visible.split(",") if gpu]
    devices = Path("/dev").glob("nvidia[0-9]*")
    return sorted(path.name.removeprefix("nvidia") for path in devices)


def default_workers(device: Device) -> int:
    """One worker per GPU where GPUs may be used and there are some, else one per core."""
    if shown := gpus(device):
        return len(shown)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
