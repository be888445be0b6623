"""The machine that trains: its device, the device's name and memory, a compiler."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import json
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
from paper_repro.cores import instructions
from paper_repro.data.cache import default_cache_dir
from paper_repro.errors import ConfigError

log = logging.getLogger(__name__)

COMPILER = os.environ.get("CXX", "g++")
"""What torch.compile compiles with."""


COMPILED_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
"""The variable that says where torch keeps what it compiles."""
COMPILED_BYTES = 2**24
"""Room that a place for it must have; a compiled step takes 2 to 6 MB."""

PROBE = "#include <Python.h>\n#include <omp.h>\n"
"""What a compiled step includes."""


def share_compiled() -> None:
    """Have torch keep what it compiles beside the token files, in a folder for machines like this.

    Later launches find it there, and so do other machines where the cache is on a file system of
    theirs too. Torch's own key of a graph does not say for which processor it was made, and what is
    loaded on another fails. Where the user has named a place, torch has chosen its own already (the
    import of its compiler does that), or none can be had (read-only, full, without locks, no home),
    it is left to torch, which takes one in the temporary directory.
    """
    if COMPILED_VARIABLE in os.environ:
        return
    try:
        place = default_cache_dir() / "compiled" / machine_kind()
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # as torch does
            file.write(bytes(COMPILED_BYTES))
            file.flush()
    except (OSError, ConfigError) as error:
        log.warning("compiled steps are kept for this machine alone: %s", error)
    else:
        os.environ[COMPILED_VARIABLE] = str(place)


def machine_kind() -> str:
    """The same for machines that can run what the other compiled: 12 hexadecimal digits."""
    known = [platform.machine(), sorted(instructions()), *platform.libc_ver()]
    capability = os.environ.get("ATEN_CPU_CAPABILITY")  # keeps torch from some instructions
    return hashlib.sha256(json.dumps([*known, capability]).encode()).hexdigest()[:12]


def compiler_problem() -> str | None:
    """Why torch.compile cannot work here; None if it can.

    A compiler may be there and still not work: for want of Python's headers or a linker, or since
    what it makes cannot be written or loaded where torch keeps it. So a library is made there.
    """
    share_compiled()
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
