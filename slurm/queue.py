"""What SLURM knows of our jobs: which are still queued or running. Needs no accounting."""

from __future__ import annotations

import getpass
import subprocess
import time
from collections.abc import Sequence

POLL_SECONDS = 10.0
"""Time between two questions to SLURM; sites ask for moderation."""
ANSWER_SECONDS = 60.0


def live_jobs() -> frozenset[str] | None:
    """Ids of this user's jobs that wait, run, or are on their way out; of an array, its own id.

    None if SLURM is not there or does not answer, so that nothing is known.
    """
    command = ["squeue", "--noheader", f"--user={getpass.getuser()}", "--format=%F"]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=ANSWER_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return frozenset(result.stdout.split())


class QueuedWorkers:
    """Workers that were given to SLURM as jobs or arrays with these ids."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = ids
        self._asked = time.monotonic()
        self._gone = False

    def gone(self) -> bool:
        """Whether all have ended, as SLURM said when last asked. While it is silent, they live."""
        if not self._gone and time.monotonic() - self._asked >= POLL_SECONDS:
            live = live_jobs()
            self._gone = live is not None and live.isdisjoint(self.ids)
            self._asked = time.monotonic()
        return self._gone
