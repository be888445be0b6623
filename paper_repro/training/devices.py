"""The machine that trains: its device, the device's name and memory, a compiler."""

from __future__ import annotations

import logging
import os
import platform
import resource
import subprocess
import sys
import sysconfig
from pathlib import Path

import torch

from paper_repro.config import Execution

log = logging.getLogger(__name__)

COMPILER = os.environ.get("CXX", "g++")
"""What torch.compile compiles with."""


def compiler_problem() -> str | None:
    """Why torch.compile cannot work here; None if it can.

    A compiler may be there and still not work: for want of Python's headers, say.
    """
    headers = sysconfig.get_path("include")
    command = [COMPILER, "-x", "c++", "-fsyntax-only", f"-I{headers}", "-"]
    try:
        tried = subprocess.run(
            command, input="#include <Python.h>\n", capture_output=True, text=True, check=False
        )
    except OSError as error:
        return f"{COMPILER}: {error.strerror}"
    lines = [line for line in tried.stderr.splitlines() if "error" in line] or ["it fails"]
    return f"{COMPILER}: {lines[0].strip()}" if tried.returncode else None


def compilable(execution: Execution) -> Execution:
    """The execution, uncompiled where the compiler does not work, with a warning."""
    if not execution.compile or (problem := compiler_problem()) is None:
        return execution
    log.warning("the training step is not compiled: %s", problem)
    return execution.model_copy(update={"compile": False})


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
