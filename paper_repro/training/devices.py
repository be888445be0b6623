"""The machine that trains: its device, the device's name and memory, a compiler."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import resource
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import torch

from paper_repro.config import Execution

log = logging.getLogger(__name__)

COMPILER = os.environ.get("CXX", "g++")
"""What torch.compile compiles with."""


PROBE = "#include <Python.h>\n#include <omp.h>\n"
"""What a compiled step includes."""


def compiler_problem() -> str | None:
    """Why torch.compile cannot work here; None if it can.

    A compiler may be there and still not work: for want of Python's headers or a linker, or since
    what it makes cannot be written or loaded where torch keeps it. So a library is made there.
    """
    headers = sysconfig.get_path("include")
    command = [COMPILER, "-x", "c++", "-shared", "-fPIC", "-fopenmp", f"-I{headers}", "-", "-o"]
    try:
        # Nothing public says where. The import makes the place, and fails where it cannot.
        from torch._inductor.runtime.cache_dir_utils import cache_dir

        with tempfile.TemporaryDirectory(dir=cache_dir()) as folder:
            library = f"{folder}/probe.so"
            tried = subprocess.run(
                [*command, library], input=PROBE, capture_output=True, text=True, check=False
            )
            if not tried.returncode:
                ctypes.CDLL(library)
    except OSError as error:
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except KeyError as error:  # the place has the user's name, and this user has none
        return str(error)
    lines = [line for line in tried.stderr.splitlines() if "error" in line] or ["it fails"]
    return f"{COMPILER}: {lines[0].strip()}" if tried.returncode else None


def executable(execution: Execution, device: torch.device) -> Execution:
    """The execution as this machine can do it, with a warning for each thing that it cannot.

    Uncompiled where the compiler does not work; in float32 on a GPU without bfloat16.
    """
    if execution.dtype == "bfloat16" and not has_bfloat16(device):
        log.warning("%s has no bfloat16: float32 is used", device_name(device))
        execution = execution.model_copy(update={"dtype": "float32"})
    return compilable(execution)


def has_bfloat16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 pay, or at least are what was asked for, as on a CPU."""
    return device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


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
