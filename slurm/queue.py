"""Questions to SLURM about our jobs, and notes on what was submitted. Needs no accounting."""

from __future__ import annotations

import re
import subprocess
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from paper_repro.errors import ConfigError
from paper_repro.files import read_json, write_json
from slurm.environment import without_allocation
from slurm.hardware import gpus

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
"""Seconds between two questions to SLURM; sites ask for moderation."""
ANSWER_SECONDS = 60.0
GRACE_SECONDS = 600.0
"""The longest time between a preempted job's SIGTERM and its end, where we wait for that."""

_EXITED = re.compile(r"srun: error: .*: Exited with exit code \d+$")
_SLURM_ERROR = re.compile(r"^(?:srun|slurmstepd\S*): error: (.*)$", re.MULTILINE)


class QueuedJob(NamedTuple):
    """A job, or a task of an array, that SLURM knows and that has not ended."""

    id: str
    """Its own job id. SLURM gives one of the tasks of an array the array's id."""
    array: str
    """The id that was submitted: of its array, or its own."""
    state: str
    reason: str
    """Why it waits, in SLURM's words."""


def queued_jobs(name: str) -> list[QueuedJob] | None:
    """The jobs of that name that are queued, running or ending, whoever submitted them.

    Not asked by user: a name of one in the environment may be another's, and a colleague may ask.
    By name: SLURM starts its ids anew when it loses its state, and after the largest. None if SLURM
    is absent or does not answer, so that nothing is known.
    """
    lines = _squeue("--all", "--array", f"--name={name}", "--format=%A|%F|%T|%r")
    return None if lines is None else [QueuedJob(*line.split("|", 3)) for line in lines]


def live_jobs(name: str) -> frozenset[str] | None:
    """The ids of `queued_jobs`."""
    jobs = queued_jobs(name)
    return None if jobs is None else frozenset(job.id for job in jobs)


def live_arrays(name: str) -> frozenset[str] | None:
    """Like `live_jobs`, but the ids that were submitted: arrays with a live task, single jobs."""
    jobs = queued_jobs(name)
    return None if jobs is None else frozenset(job.array for job in jobs)


def waiting(name: str, ids: Collection[str]) -> Counter[str]:
    """Why those of the submitted jobs that have not started wait: how many for each reason."""
    return _reasons(job for job in queued_jobs(name) or [] if job.array in ids)


def _reasons(jobs: Iterable[QueuedJob]) -> Counter[str]:
    return Counter(job.reason for job in jobs if job.state == "PENDING")


def _squeue(*options: str) -> list[str] | None:
    """The lines that squeue prints; None if it is absent, fails or does not answer."""
    command = ["squeue", "--noheader", *options]
    try:
        result = subprocess.run(
            command,
            env=without_allocation(),
            capture_output=True,
            text=True,
            check=True,
            timeout=ANSWER_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.splitlines()


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
    return sorted(path.stem for path in _notes(folder))


def _notes(folder: Path) -> list[Path]:
    """The files that `note_submission` wrote, and not what else lies there."""
    return [path for path in folder.glob("*.json") if path.stem.isdecimal()]


def on_gpus(folder: Path) -> bool:
    """Whether the jobs noted in a folder train on GPUs; if there are none, whether this machine
    has a GPU.
    """
    notes = [read_json(path) or {} for path in _notes(folder)]
    return any(note.get("gpu") for note in notes) if notes else bool(gpus("auto"))


def cancel(ids: Sequence[str], name: str) -> None:
    """End these jobs of that name; workers have the site's `KillWait` to save their runs.

    Raises:
        ConfigError: SLURM refuses.
    """
    command = ["scancel", f"--name={name}", *ids]
    result = subprocess.run(
        command, env=without_allocation(), capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise ConfigError(f"scancel: {' '.join(result.stderr.split())}")


def last_error(log: Path) -> str | None:
    """The last error that SLURM itself wrote into a job's log, such as `task 0: Out Of Memory`."""
    errors = _SLURM_ERROR.findall(_end(log))
    return errors[-1].strip(" *") if errors else None


def last_words(folder: Path) -> str | None:
    """The last line of the newest log of errors in a folder of jobs; None without any.

    Not srun's own, that a task failed: why is in the line before.
    """
    logs = sorted(folder.glob("*_log.err"), key=lambda log: log.stat().st_mtime)
    lines = [line for log in logs for line in _end(log).splitlines() if line.strip()]
    said = [line for line in lines if not _EXITED.match(line)] or lines
    return said[-1].strip() if said else None


def _end(log: Path) -> str:
    """The end of a log; empty where it cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 65_536))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


class QueuedWorkers:
    """Workers that were submitted to SLURM as arrays or single jobs with these ids."""

    def __init__(self, ids: Sequence[str], name: str) -> None:
        self.ids, self._name = ids, name
        self._pauses = pauses()
        self._ask_at = time.monotonic() + next(self._pauses)
        self._gone = False
        self.waiting: Counter[str] = Counter()
        """How many have not started, by SLURM's reason, at its last answer."""

    def gone(self) -> bool:
        """Whether all have ended, by SLURM's last answer; without an answer they are alive."""
        if not self._gone and time.monotonic() >= self._ask_at:
            jobs = queued_jobs(self._name)
            if jobs is not None:
                ours = [job for job in jobs if job.array in self.ids]
                self._gone = not ours
                self.waiting = _reasons(ours)
            self._ask_at = time.monotonic() + next(self._pauses)
        return self._gone
