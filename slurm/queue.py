"""Questions to SLURM about our jobs, and notes on what was submitted. Needs no accounting."""

from __future__ import annotations

import getpass
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from paper_repro.errors import ConfigError
from paper_repro.files import read_json, write_json
from slurm.hardware import gpus

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
"""Seconds between two questions to SLURM; sites ask for moderation."""
ANSWER_SECONDS = 60.0
GRACE_SECONDS = 600.0
"""The longest time between a preempted job's SIGTERM and its end, where we wait for that."""

_SLURM_ERROR = re.compile(r"^(?:srun|slurmstepd\S*): error: (.*)$", re.MULTILINE)


def live_jobs(name: str) -> frozenset[str] | None:
    """The ids of this user's jobs of that name that are queued, running or ending.

    A started task of an array is listed under its own job id; SLURM gives one of the tasks the
    array's id. None if SLURM is absent or does not answer, so that nothing is known.
    """
    return _queued(name, "%A")


def live_arrays(name: str) -> frozenset[str] | None:
    """Like `live_jobs`, but the ids that were submitted: arrays with a live task, single jobs."""
    return _queued(name, "%F")


def _queued(name: str, ids: str) -> frozenset[str] | None:
    # By name too: SLURM starts its ids anew when it loses its state, and after the largest.
    return _squeue(f"--user={getpass.getuser()}", f"--name={name}", f"--format={ids}")


def _squeue(*options: str) -> frozenset[str] | None:
    """The words that squeue prints; None if it is absent, fails or does not answer."""
    command = ["squeue", "--noheader", *options]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=ANSWER_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return frozenset(result.stdout.split())


def pauses() -> Iterator[float]:
    """Seconds to wait before each question to SLURM, growing up to `LONGEST_PAUSE`."""
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(1.5 * pause, LONGEST_PAUSE)


def wait_while_running(job_id: str) -> None:
    """Wait until SLURM ends a job that got SIGTERM, or until it says that the end has begun.

    A preempted job is queued again only if it still runs when its `GraceTime` is over. SLURM lists
    a cancelled job, or one at its time limit, as running no more, so that it need not stay.
    """
    deadline = time.monotonic() + GRACE_SECONDS
    for pause in pauses():
        if time.monotonic() > deadline or not _squeue("--states=RUNNING", f"--jobs={job_id}"):
            return
        time.sleep(pause)


def note_submission(folder: Path, job_id: str, jobs: int, gpu: bool) -> None:
    """Write down beside its logs that an array of `jobs` jobs was submitted."""
    submitted = datetime.now(UTC).isoformat(timespec="seconds")
    note = {"job_id": job_id, "jobs": jobs, "gpu": gpu, "submitted": submitted}
    write_json(folder / f"{job_id}.json", note)


def submitted(folder: Path) -> list[str]:
    """The ids of all arrays and single jobs that were ever noted in a folder."""
    return sorted(path.stem for path in folder.glob("*.json"))


def on_gpus(folder: Path) -> bool:
    """Whether the jobs noted in a folder train on GPUs; if there are none, whether this machine
    has a GPU.
    """
    notes = [read_json(path) or {} for path in folder.glob("*.json")]
    return any(note.get("gpu") for note in notes) if notes else bool(gpus("auto"))


def cancel(ids: Sequence[str], name: str) -> None:
    """End these jobs of that name; workers have the site's `KillWait` to save their runs.

    Raises:
        ConfigError: SLURM refuses.
    """
    command = ["scancel", f"--user={getpass.getuser()}", f"--name={name}", *ids]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise ConfigError(f"scancel: {' '.join(result.stderr.split())}")


def last_error(log: Path) -> str | None:
    """The last error that SLURM itself wrote into a job's log, such as `task 0: Out Of Memory`."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 65_536))
            text = file.read().decode(errors="replace")
    except OSError:
        return None
    errors = _SLURM_ERROR.findall(text)
    return errors[-1].strip(" *") if errors else None


class QueuedWorkers:
    """Workers that were submitted to SLURM as arrays or single jobs with these ids."""

    def __init__(self, ids: Sequence[str], name: str) -> None:
        self.ids, self._name = ids, name
        self._pauses = pauses()
        self._ask_at = time.monotonic() + next(self._pauses)
        self._gone = False

    def gone(self) -> bool:
        """Whether all have ended, by SLURM's last answer; without an answer they are alive."""
        if not self._gone and time.monotonic() >= self._ask_at:
            live = live_arrays(self._name)
            self._gone = live is not None and live.isdisjoint(self.ids)
            self._ask_at = time.monotonic() + next(self._pauses)
        return self._gone
