"""Which code this is: its files, their content hash, and its git revision."""

from __future__ import annotations

import hashlib
import logging
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from paper_repro.files import read_json

log = logging.getLogger(__name__)

ROOT = Path(__file__).parent.parent.parent
"""The directory that this package, and what else a worker imports of ours, lies in."""
PACKAGES = ("paper_repro", "slurm")
"""All that a worker can import of ours: no arrow leads from these to another package."""
REVISION_FILE = "snapshot.json"
"""In a copy of the code (`slurm.snapshots`): the git revision that it was taken from."""


def code_files(root: Path = ROOT) -> dict[str, bytes]:
    """The modules under `root` that a worker may import, by relative path: what is on disk now."""
    paths = (path for package in PACKAGES for path in (root / package).rglob("*.py"))
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(paths)
        if path.is_file()
    }


def hash_code(files: Mapping[str, bytes]) -> str:
    """12 hexadecimal digits of the names and contents of files."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:12]


@cache
def code_hash() -> str:
    """The hash of the code that this process imports from, as it was at the first call."""
    return hash_code(code_files())


@cache
def git_revision(root: Path = ROOT) -> str | None:
    """Commit of the code under `root`, with `+changes` if its modules were edited since.

    None where there is no git, no repository, or one that does not hold the code.
    """
    if (snapshot := read_json(root / REVISION_FILE)) is not None:
        return snapshot.get("git_revision")
    modules = [f"{package}/*.py" for package in PACKAGES]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        revision = git("rev-parse", "HEAD")
        git("ls-files", "--error-unmatch", "--", *modules)
        changed = git("status", "--porcelain", "--untracked-files=all", "--", *modules)
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{revision}+changes" if changed else revision


def describe_code(before: Mapping[str, Any] | None) -> dict[str, Any]:
    """What `run.json` says of the code.

    Args:
        before: `run.json` of the attempt that this one resumes; None for a run from the start.

    Other code than this that took steps of the run is listed, in order, under `earlier_code`.
    """
    now = {"code_hash": code_hash(), "git_revision": git_revision()}
    earlier: list[dict[str, Any]] = []
    if before is not None:
        earlier = list(before.get("earlier_code", []))
        last = {key: before.get(key) for key in now}
        if last["code_hash"] != now["code_hash"]:
            log.warning("resumed by other code: %s, before that %s", now, last)
            earlier.append(last)
    return {**now, "earlier_code": earlier}
