"""Leases: at most one process works on a run, on one machine or many over a shared file system.

A lease is a file `claims/0001.json`, created exclusively; the highest number is the one in force.
A lease whose owner is gone is taken over by creating the next number, again exclusively, so that
of several takers one wins. Nothing is locked and nothing is renamed. A released lease is an empty
file: were it removed, the lease before it would be in force again, and its owner may yet wake up.

Gone means: where process ids mean the same as here (one host, one boot, one PID namespace), the
process does not exist (or its id was reused); elsewhere, the file was not touched for
`STALE_SECONDS`, or the owner was this very job of a cluster before it was queued again. Owners
touch their lease as they make progress, and ask `holds` before they write, so a frozen owner that
wakes up after a take-over stops by itself.

Assumed of the file system: making a hard link is atomic and fails if the name exists (local disks,
NFS), and clocks of hosts agree to well within `STALE_SECONDS`.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from paper_repro.config import RunConfig
from paper_repro.files import create_exclusively, numbered, read_json
from paper_repro.records.record import Record

STALE_SECONDS = 300.0
#: How far two readings of a process's start may differ: they move with the clock of the host when
#: that is set. Ids are not reused as fast as that.
CLOCK_SECONDS = 60.0


def _created(pid: int) -> float | None:
    """When a process of this host started, in seconds since the epoch; None if it has ended.

    So a process is not mistaken for an earlier one that had the same id.
    """
    try:
        process = psutil.Process(pid)
        ended = process.status() == psutil.STATUS_ZOMBIE
        return None if ended else process.create_time()
    except psutil.NoSuchProcess:
        return None


def pid_namespace() -> str:
    """What tells this process's table of process ids from others; empty where that is not known.

    Containers may share a host's name and not its process ids, or have one name on two hosts.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 (is no path)
    except OSError:  # not Linux
        return ""


@dataclass(frozen=True)
class Identity:
    """Who takes a lease: a process on a host, and the job of a cluster that it runs for."""

    host: str = field(default_factory=socket.gethostname)
    """The machine on which the process id means something; on a cluster, its name of the node."""
    namespace: str = field(default_factory=pid_namespace)
    """Where on that machine."""
    pid: int = field(default_factory=os.getpid)
    job: str | None = None
    """The job whose only worker this process is."""
    restarts: int = 0
    """How often the cluster queued that job again."""


@dataclass(frozen=True)
class Lease:
    """A lease that was in force when it was taken."""

    path: Path
    identity: Identity
    log: str | None = None
    """Where its owner logs."""

    def touch(self) -> None:
        """Show that the owner is alive."""
        if self.path.exists():
            os.utime(self.path)

    def holds(self) -> bool:
        """Whether this lease is still the one in force."""
        return _latest(self.path.parent) == self.path

    def requeued_while_alive(self) -> bool:
        """Whether the cluster queued this job again although this process still runs, and the new
        instance of the job took the run."""
        owner = owner_of(self.path.parent.parent, self.identity)
        return owner is not None and owner.job is not None and owner.job == self.identity.job

    def release(self) -> None:
        """Give the run back, for anyone to take. Needs no space on the disk."""
        with suppress(FileNotFoundError):
            os.truncate(self.path, 0)


@dataclass(frozen=True)
class LeasedRun:
    """A run that this process, or those that it leads, and no other, may train."""

    config: RunConfig
    record: Record
    lease: Lease


@dataclass(frozen=True)
class Owner:
    """Who holds, or held to its end, the lease in force."""

    alive: bool
    job: str | None
    """Its job, if it runs for one."""
    log: str | None
    """Where it logs, or logged, if that is known."""


def take_lease(
    directory: Path, log: str | None = None, identity: Identity | None = None
) -> Lease | None:
    """Lease the run whose record is `directory`; None if a living process has it.

    Args:
        log: the path of this process's log, for whoever finds the lease when the process is gone.
        identity: of the owner; None: this process, which runs for no job.
    """
    identity = identity or Identity()
    leases = directory / "claims"
    leases.mkdir(parents=True, exist_ok=True)
    latest = _latest(leases)
    owner = _owner(latest, identity) if latest else None
    if owner and owner.alive:
        return None
    path = leases / f"{_number(latest) + 1:04d}.json"
    content = asdict(identity) | {"created": _created(identity.pid), "log": log}
    return Lease(path, identity, log) if create_exclusively(path, content) else None


def owner_of(directory: Path, identity: Identity | None = None) -> Owner | None:
    """Who leased the run whose record is `directory`; None if nobody did or it was released.

    Args:
        identity: of who asks; None: this process, which runs for no job.
    """
    latest = _latest(directory / "claims")
    return _owner(latest, identity or Identity()) if latest else None


def is_leased(directory: Path) -> bool:
    """Whether a living process works on the run whose record is `directory`."""
    owner = owner_of(directory)
    return owner is not None and owner.alive


def expire_lease(directory: Path, job: str) -> None:
    """Let a lease be taken over at once, since its job is known to be gone.

    Harmless if that is wrong, or a newer lease is in force: a living owner touches its lease.
    """
    latest = _latest(directory / "claims")
    owner = _owner(latest, Identity()) if latest else None
    if latest and owner and owner.job == job:
        os.utime(latest, (0, 0))


def _latest(leases: Path) -> Path | None:
    try:
        return max(numbered(leases), default=None)
    except FileNotFoundError:
        return None


def _number(lease: Path | None) -> int:
    return int(lease.stem) if lease else 0


def _owner(lease: Path, asking: Identity) -> Owner | None:
    """None if it was released."""
    try:
        age = time.time() - lease.stat().st_mtime
    except FileNotFoundError:
        return None
    content = read_json(lease)
    if content is None:  # empty
        return None
    return Owner(_is_alive(content, asking, age), content.get("job"), content.get("log"))


def _is_alive(content: Mapping[str, Any], asking: Identity, age: float) -> bool:
    place = (content.get("host"), content.get("namespace", asking.namespace))
    if place == (asking.host, asking.namespace) and "created" in content:
        created, now = content["created"], _created(int(content["pid"]))
        return created is not None and now is not None and abs(now - created) < CLOCK_SECONDS
    job = content.get("job")
    requeued = job is not None and job == asking.job
    if requeued and content.get("restarts", 0) < asking.restarts:
        return False
    return age < STALE_SECONDS
