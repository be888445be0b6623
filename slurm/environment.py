"""The environment that SLURM's commands and new jobs start from.

A launch from inside an allocation is normal use, and a user may keep defaults for SLURM's commands
in variables. None of that is meant for the jobs of a launch, whose srun would read it, nor for the
questions that the launcher asks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

_FOREIGN = re.compile(
    r"(SLURMD?|SBATCH|SALLOC|SRUN|SQUEUE|SCANCEL|SACCT|SINFO|SCONTROL|PMIX|PMI2?|SUBMITIT)_"
)
REACH_SLURM = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT")
"""What says where SLURM is: it stays."""


def without_allocation() -> dict[str, str]:
    """This process's environment without variables of an allocation or of SLURM's commands."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in REACH_SLURM or not _FOREIGN.match(name)
    }


@contextmanager
def outside_allocations() -> Iterator[None]:
    """While the body runs, this process has the environment of `without_allocation`."""
    before, within = dict(os.environ), without_allocation()
    try:
        for name in before.keys() - within.keys():
            del os.environ[name]
        yield
    finally:
        os.environ.update(before)
