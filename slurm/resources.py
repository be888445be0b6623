"""The time and memory that jobs ask for: what the work left needs, within the profile."""

from __future__ import annotations

import math
from dataclasses import dataclass

from slurm.profiles import Profile

START_SECONDS = 300.0
"""Added to every time limit: for the start, and for SLURM's warning, which comes minutes early."""
TIME_MARGIN = 2.0
"""Safety factor on the estimated time of a job's work."""
MEMORY_MARGIN = 1.5
"""Safety factor on the estimated memory of a job."""
MEMORY_STEP = 256 * 2**20
"""Memory is rounded up to a multiple of this many bytes."""


@dataclass(frozen=True)
class WorkLeft:
    """What is left for the jobs of a launch to do."""

    seconds: float
    """All of it, in seconds of one worker."""
    longest: float
    """Seconds that the longest run takes, or the runs that train at once, from the start."""
    host_bytes: float
    """The largest peak memory of a job on one of its nodes."""

    def of_job(self, jobs: int) -> float:
        """Seconds of work for each of `jobs` jobs: its share, and at least `longest`."""
        return max(self.seconds / jobs, self.longest)


def fitted(profile: Profile, work: WorkLeft, jobs: int) -> Profile:
    """The profile with the time and the memory that each of `jobs` jobs needs.

    The time is never above the profile's own: a job that reaches its limit is queued again, so that
    too little of it loses nothing. A memory that the profile states is kept, by key or by option.
    """
    needed = math.ceil((START_SECONDS + TIME_MARGIN * work.of_job(jobs)) / 60)
    minutes = min(needed, profile.minutes)
    steps = math.ceil(MEMORY_MARGIN * work.host_bytes / MEMORY_STEP)
    needed_memory = f"{steps * MEMORY_STEP // 2**20}M"
    return profile.model_copy(
        update={
            "time": f"{minutes // 60:02d}:{minutes % 60:02d}:00",
            "memory": None if profile.memory_option else profile.memory or needed_memory,
        }
    )
