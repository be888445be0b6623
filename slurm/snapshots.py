"""Copies of the code for SLURM jobs: a job runs what was there when it was submitted.

A copy lies in `runs/<sweep>/code/<hash>/` and holds the modules that a worker can import
(`PACKAGES`), as they were on disk, those of the factories of models, and the git revision. Its name
is the hash of its content, so that launches of the same code share one, and a part of one is never
taken for a whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from paper_repro.errors import ConfigError
from paper_repro.files import write_atomically, write_json
from paper_repro.records.provenance import (
    REVISION_FILE,
    ROOT,
    FactoryCode,
    code_files,
    factory_code,
    git_revision,
    hash_code,
)

PACKAGES = ("paper_repro", "slurm")
"""All that a worker can import of ours: no arrow leads from these to another package."""


#: Characters that no path of a job may have: it is on PYTHONPATH, and a pattern of log files.
MEANINGS = {os.pathsep: "PYTHONPATH", **dict.fromkeys("%\\\n", "SLURM")}


def copied(factories: Iterable[str]) -> list[FactoryCode]:
    """The code of the factories of models that a copy has: what is no installed package.

    Raises:
        ConfigError: the module of a factory is not found.
    """
    found = {factory_code(factory) for factory in factories}
    return sorted(code for code in found if not code.installed and code.package not in PACKAGES)


def code_on_disk(factories: Iterable[str] = ()) -> dict[str, bytes]:
    """What a copy holds, from where this process imports it, by relative path."""
    files = code_files(ROOT, PACKAGES)
    for code in copied(factories):
        files |= code_files(code.root, (code.package,))
    return files


def snapshot_path(sweep_dir: Path, factories: Sequence[str] = ()) -> Path:
    """Where a copy of the code that is on disk now belongs. Writes nothing.

    Args:
        factories: of the models that are trained, where they are not our GPT.

    Raises:
        ConfigError: Python cannot import from such a place.
    """
    return _place(sweep_dir, code_on_disk(factories))


def take_snapshot(sweep_dir: Path, factories: Sequence[str] = ()) -> Path:
    """Copy the code that is on disk now, unless there is a whole copy; returns its place.

    What is missing or damaged in a copy is written again, each file atomically: launchers that do
    so at once write the same.

    Raises:
        ConfigError: it cannot be written, or something else is in its place.
    """
    files = code_on_disk(factories)
    path = _place(sweep_dir, files)
    packages = (*PACKAGES, *(code.package for code in copied(factories)))
    try:
        if not _is_whole(path, packages):
            for name, content in files.items():
                _write(path / name, content)
            write_json(path / REVISION_FILE, {"git_revision": git_revision(ROOT, PACKAGES)})
    except OSError as error:
        raise ConfigError(f"--runs-dir: {path} cannot be written ({error.strerror})") from None
    if not _is_whole(path, packages):
        raise ConfigError(f"{path}: is not the code that its name says; delete it")
    return path


def _place(sweep_dir: Path, files: Mapping[str, bytes]) -> Path:
    check_place(sweep_dir)
    return sweep_dir / "code" / hash_code(files)


def check_place(sweep_dir: Path) -> None:
    """Check that jobs can import from, and log to, a sweep's directory of that name.

    Raises:
        ConfigError: a character of it means something to SLURM or to Python.
    """
    for character, whose in MEANINGS.items():
        if character in str(sweep_dir):
            raise ConfigError(
                f"--runs-dir: expected a path without {character!r}, which has a meaning to "
                f"{whose} (got {sweep_dir})"
            )


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def _is_whole(path: Path, packages: Sequence[str]) -> bool:
    return hash_code(code_files(path, packages)) == path.name and (path / REVISION_FILE).exists()
