"""Time and memory that a job is asked for, from what the work left costs, within its profile."""

from __future__ import annotations

import math
from dataclasses import dataclass

from slurm.profiles import Profile

START_SECONDS = 300.0
"""Asked beside the work: for the start, and for SLURM's warning, which comes minutes early."""
TIME_MARGIN = 2.0
"""Time asked over the work of a job: estimates may be off by that."""
MEMORY_MARGIN = 1.5
MEMORY_STEP = 256 * 2**20
"""Memory is asked for in whole steps of so many bytes."""


@dataclass(frozen=True)
class WorkLeft:
    """What is left for the jobs of a launch to do."""

    seconds: float
    """Of one worker."""
    longest: float
    """Seconds of the dearest run, or runs that train at once, from their start."""
    host_bytes: float
    """The largest peak memory of a process."""

    def of_job(self, jobs: int) -> float:
        """Seconds of work of each of so many jobs: its share, and at least `longest`."""
        return max(self.seconds / jobs, self.longest)


def fitted(profile: Profile, work: WorkLeft, jobs: int) -> Profile:
    """The profile with the time and the memory that each of so many jobs needs.

    Time is never above the profile's own: a job that reaches its limit is queued again, so little
    is safe. Memory is the profile's where it says some.
    """
    needed = math.ceil((START_SECONDS + TIME_MARGIN * work.of_job(jobs)) / 60)
    minutes = min(needed, profile.minutes)
    steps = math.ceil(MEMORY_MARGIN * work.host_bytes / MEMORY_STEP)
    return profile.model_copy(
        update={
            "time": f"{minutes // 60:02d}:{minutes % 60:02d}:00",
            "memory": profile.memory or f"{steps * MEMORY_STEP // 2**20}M",
        }
    )
