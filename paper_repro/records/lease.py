"""Claims: at most one process works on a run, on one machine or many over a shared file system.

A claim is a file `claims/0001.json`, created exclusively; the highest number is the one in force.
A claim whose owner is gone is taken over by creating the next number, again exclusively, so that
of several takers one wins. Nothing is locked and nothing is renamed. A released claim is an empty
file: were it removed, the claim before it would be in force again, and its owner may yet wake up.

Gone means: on this host, the process does not exist (or its id was reused); on another host, the
file was not touched for `STALE_SECONDS`, or the owner was this very SLURM job before it was queued
again. Owners touch their claim as they make progress, and ask `holds` before they write, so a
frozen owner that wakes up after a take-over stops by itself. A host is what SLURM calls a node.

Assumed of the file system: making a hard link is atomic and fails if the name exists (local disks,
NFS), and clocks of hosts agree to well within `STALE_SECONDS`.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from paper_repro.files import read_json

STALE_SECONDS = 300.0


@dataclass(frozen=True)
class Lease:
    """A claim in force when it was taken."""

    path: Path
    log: str | None = None
    """Where its owner logs."""

    def touch(self) -> None:
        """Show that the owner is alive."""
        if self.path.exists():
            os.utime(self.path)

    def holds(self) -> bool:
        """Whether this claim is still the one in force."""
        return _latest(self.path.parent) == self.path

    def requeued_while_alive(self) -> bool:
        """Whether a claim that is lost went to our own SLURM job, queued again without our end."""
        owner = owner_of(self.path.parent.parent)
        return owner is not None and owner.job is not None and owner.job == slurm_job()

    def release(self) -> None:
        """Give the run back, for anyone to take. Needs no space on the disk."""
        with suppress(FileNotFoundError):
            os.truncate(self.path, 0)


class LeadersLease(Lease):
    """The claim of the process that leads, to another that trains the run with it."""

    def touch(self) -> None:
        """Left to the leader."""

    def holds(self) -> bool:
        """Left to the leader, which ends the training of all if it does not hold."""
        return True

    def release(self) -> None:
        """Left to the leader."""


@dataclass(frozen=True)
class Owner:
    """Who holds, or held to its end, the claim in force."""

    alive: bool
    job: str | None
    """Its SLURM job, if it is one."""
    log: str | None
    """Where it logs, or logged, if that is known."""


def take_lease(directory: Path, log: str | None = None) -> Lease | None:
    """Lease the run whose record is `directory`; None if a living process has it.

    Args:
        log: the path of this process's log, for whoever finds the claim when the process is gone.
    """
    claims = directory / "claims"
    claims.mkdir(parents=True, exist_ok=True)
    latest = _latest(claims)
    owner = _owner(latest) if latest else None
    if owner and owner.alive:
        return None
    path = claims / f"{_number(latest) + 1:04d}.json"
    # Written whole under another name and linked into place: a claim is never seen half-written.
    temporary = claims / f".{uuid.uuid4().hex}.tmp"
    temporary.write_text(json.dumps(_identity() | {"log": log}), encoding="utf-8")
    try:
        os.link(temporary, path)
    except FileExistsError:
        return None
    finally:
        temporary.unlink(missing_ok=True)
    return Lease(path, log)


def owner_of(directory: Path) -> Owner | None:
    """Who claimed the run whose record is `directory`; None if nobody did or it was released."""
    latest = _latest(directory / "claims")
    return _owner(latest) if latest else None


def is_leased(directory: Path) -> bool:
    """Whether a living process works on the run whose record is `directory`."""
    owner = owner_of(directory)
    return owner is not None and owner.alive


def expire_lease(directory: Path, job: str) -> None:
    """Let a claim be taken over at once, since its SLURM job is known to be gone.

    Harmless if that is wrong, or a newer claim is in force: a living owner touches its claim.
    """
    latest = _latest(directory / "claims")
    owner = _owner(latest) if latest else None
    if latest and owner and owner.job == job:
        os.utime(latest, (0, 0))


def _latest(claims: Path) -> Path | None:
    try:
        paths = [path for path in claims.iterdir() if path.suffix == ".json"]
    except FileNotFoundError:
        return None
    return max(paths, default=None)


def _number(claim: Path | None) -> int:
    return int(claim.stem) if claim else 0


def _identity() -> dict[str, object]:
    pid = os.getpid()
    return {
        "host": _host(),
        "pid": pid,
        "started": _started(pid),
        "job": slurm_job(),
        "restarts": _restarts(),
    }


def slurm_job() -> str | None:
    """The job whose only worker this process is; None too where a user launches within a job."""
    submitted = os.environ.get("SUBMITIT_EXECUTOR") == "slurm"
    return os.environ.get("SLURM_JOB_ID") if submitted else None


def _host() -> str:
    """Where process ids mean what they mean here."""
    node = os.environ.get("SLURMD_NODENAME") if slurm_job() else None
    return node or socket.gethostname()


def _restarts() -> int:
    """How often our SLURM job was queued again."""
    return int(os.environ.get("SLURM_RESTART_COUNT", 0)) if slurm_job() else 0


def _started(pid: int) -> str | None:
    """When a process of this host started, in clock ticks since boot; None if it is not there.

    Tells a process from a later one with the same id. Where there is no /proc (macOS), a process
    that exists is `"?"`.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            return "?"
        return "?"
    state, *rest = stat.rpartition(")")[2].split()
    return None if state == "Z" else rest[18]


def _owner(claim: Path) -> Owner | None:
    """None if it was released."""
    try:
        age = time.time() - claim.stat().st_mtime
    except FileNotFoundError:
        return None
    identity = read_json(claim)
    if identity is None:  # empty
        return None
    job, log = identity.get("job"), identity.get("log")
    if identity["host"] == _host():
        return Owner(_started(int(identity["pid"])) == identity["started"], job, log)
    requeued = job is not None and job == slurm_job() and identity.get("restarts", 0) < _restarts()
    return Owner(age < STALE_SECONDS and not requeued, job, log)
