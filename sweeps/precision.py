"""In which precision the runs of a launch are trained: asked for, or that of the runs there are."""

from __future__ import annotations

from pathlib import Path

from paper_repro.errors import ConfigError
from paper_repro.records import Record
from slurm.hardware import gpus, has_bfloat16
from sweeps.expand import Sweep
from sweeps.options import LaunchOptions

BFLOAT16_SIZES = ("gpu", "paper")
"""Sizes that train in bfloat16 on a GPU unless `--dtype` says otherwise."""

GAIN = 1.5
"""How many times as fast a processor has to multiply in bfloat16 for it to be chosen: one has the
instructions and is half as fast with them (docs/performance.md)."""


def with_precision(options: LaunchOptions, sweep: Sweep, gpu: bool) -> LaunchOptions:
    """The options with the precision that `dtype` means in their execution.

    A GPU that has no bfloat16 trains in float32 (`paper_repro.training.devices.executable`).

    Args:
        gpu: whether runs train on GPUs.

    Raises:
        ConfigError: `auto`, where it cannot be known.
    """
    dtype: str | None = options.dtype
    if dtype == "auto":
        directory = options.runs_dir.resolve() / sweep.name
        dtype = recorded_precision(directory) or _precision_here(options)
    if dtype is None:
        dtype = "bfloat16" if gpu and sweep.size in BFLOAT16_SIZES else "float32"
    execution = options.execution.model_copy(update={"dtype": dtype})
    return options.model_copy(update={"execution": execution})


def recorded_precision(directory: Path) -> str | None:
    """The precision of the runs in a sweep's directory; None where none has begun.

    Raises:
        ConfigError: they are of several.
    """
    records = map(Record, sorted(directory.iterdir()) if directory.is_dir() else [])
    infos = (record.run_info() for record in records)
    found = sorted({info.dtype for info in infos if info and info.dtype})
    if len(found) > 1 or any(", " in name for name in found):
        raise ConfigError(
            f"--dtype auto: expected runs of one precision in {directory} (got {'; '.join(found)})"
        )
    return found[0] if found else None


def _precision_here(options: LaunchOptions) -> str:
    if options.cluster == "slurm":
        raise ConfigError(
            "--dtype auto: expected float32 or bfloat16 for the first launch with --cluster slurm, "
            "since the processors of its nodes are not known here"
        )
    device = options.execution.device
    faster = has_bfloat16(device) and (bool(gpus(device)) or _gain() >= GAIN)
    return "bfloat16" if faster else "float32"


def _gain() -> float:
    """Speed of a large product in bfloat16 over that in float32, on this processor."""
    from paper_repro.benchmark.measure import peak_flops  # torch takes seconds

    return peak_flops("cpu", "bfloat16") / peak_flops("cpu", "float32")
