"""The GPUs and cores of this machine that workers may use, found without importing torch."""

from __future__ import annotations

import os
import re
import subprocess
from itertools import takewhile
from pathlib import Path
from typing import Literal

from paper_repro.cores import usable_cores

Device = Literal["auto", "cpu", "cuda"]

_GPU = re.compile(r"\d+$|(GPU|MIG)-")


def gpus(device: Device) -> list[str]:
    """The GPUs of this machine that workers may use, as in CUDA_VISIBLE_DEVICES."""
    if device == "cpu":
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:  # CUDA takes devices up to the first that is none: -1, NoDevFiles
        return list(takewhile(_GPU.match, map(str.strip, visible.split(","))))
    devices = Path("/dev").glob("nvidia[0-9]*")
    return sorted(path.name.removeprefix("nvidia") for path in devices)


def gpu_bytes() -> float | None:
    """Memory of the smallest GPU of this machine; None where the driver's tool does not tell."""
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return min(float(mebibytes) for mebibytes in told.stdout.split()) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def default_workers(device: Device) -> int:
    """One worker per GPU where GPUs may be used and there are some, else one per core."""
    if shown := gpus(device):
        return len(shown)
    return usable_cores()
