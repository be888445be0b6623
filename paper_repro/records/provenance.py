"""Which code and which packages: what a reader needs to trust, or repeat, a result."""

from __future__ import annotations

import hashlib
import logging
import platform
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from paper_repro.files import read_json
from paper_repro.records.record import RunInfo

log = logging.getLogger(__name__)

PACKAGE = "paper_repro"
ROOT = Path(__file__).parents[2]
"""The directory that this package lies in."""
REVISION_FILE = "snapshot.json"
"""The file that holds the git revision of a copy of the code."""

_DEPENDENCIES = ("paper-repro", "torch", "numpy", "tokenizers", "pydantic")


def code_files(root: Path = ROOT, packages: Sequence[str] = (PACKAGE,)) -> dict[str, bytes]:
    """The modules of packages under `root`, by relative path: what is on disk now."""
    paths = (path for package in packages for path in (root / package).rglob("*.py"))
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
    """The hash of this package as this process imported it, as it was at the first call."""
    return hash_code(code_files())


@cache
def git_revision(root: Path = ROOT, packages: Sequence[str] = (PACKAGE,)) -> str | None:
    """The commit of packages under `root`, with `+changes` if their modules were edited since.

    None where there is no git, no repository, or one that does not hold the code.
    """
    if (snapshot := read_json(root / REVISION_FILE)) is not None:
        return snapshot.get("git_revision")
    modules = [f"{package}/*.py" for package in packages]

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


def describe_code(before: RunInfo | None = None, resumed: bool = False) -> dict[str, Any]:
    """What `run.json` says of the code.

    Args:
        before: `run.json` of the attempt that this one resumes, if it is whole.
        resumed: whether there was such an attempt.

    Other code than this that took steps of the run is listed, in order, under `earlier_code`.
    """
    now = {"code_hash": code_hash(), "git_revision": git_revision()}
    earlier: list[dict[str, str | None]] = []
    if resumed:
        earlier = list(before.earlier_code) if before else []
        last = {
            "code_hash": before.code_hash if before else None,
            "git_revision": before.git_revision if before else None,
        }
        if last["code_hash"] != now["code_hash"]:
            log.warning("resumed by other code: %s, before that %s", now, last)
            earlier.append(last)
    return {**now, "earlier_code": earlier}


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a run's numbers."""
    found = {"python": platform.python_version()}
    for package in _DEPENDENCIES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
