"""The device that trains: which one, its name, and the memory in use."""

from __future__ import annotations

import platform
import resource
import sys
from pathlib import Path

import torch


def choose_device(name: str) -> torch.device:
    """The device called `cpu` or `cuda`; `auto` is CUDA where it is there, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """The model of the GPU or CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def peak_memory(device: torch.device) -> int:
    """Peak bytes: allocated on a GPU since its count was reset, resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_host_memory()


def peak_host_memory() -> int:
    """Peak resident bytes of this process since it started, whatever it trained before."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
