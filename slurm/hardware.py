"""The GPUs and cores of this machine that workers may use, found without importing torch."""

from __future__ import annotations

import os
import re
import subprocess
from itertools import takewhile
from pathlib import Path
from typing import Literal

from paper_repro.cores import instructions, usable_cores

Device = Literal["auto", "cpu", "cuda"]

BFLOAT16_INSTRUCTIONS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Linux's names for products in bfloat16: of AVX-512, AMX and Arm."""
BFLOAT16_CAPABILITY = 8.0
"""The compute capability from which NVIDIA's GPUs have them (Ampere)."""

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
    mebibytes = _told("memory.total")
    return min(mebibytes) * 2**20 if mebibytes else None


def has_bfloat16(device: Device) -> bool:
    """Whether what workers would use here multiplies matrices in bfloat16 by itself."""
    if gpus(device):
        return min(_told("compute_cap"), default=0.0) >= BFLOAT16_CAPABILITY
    return not BFLOAT16_INSTRUCTIONS.isdisjoint(instructions())


def _told(query: str) -> list[float]:
    """What the driver's tool says of the GPUs of this machine; nothing where it does not tell."""
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return [float(number) for number in told.stdout.split()]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


def default_workers(device: Device) -> int:
    """One worker per GPU where GPUs may be used and there are some, else one per core."""
    if shown := gpus(device):
        return len(shown)
    return usable_cores()
