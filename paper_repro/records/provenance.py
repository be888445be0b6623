"""Which code and which packages: what a reader needs to trust, or repeat, a result."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from paper_repro.config import RunConfig
from paper_repro.errors import ConfigError
from paper_repro.files import read_json
from paper_repro.records.record import RunInfo

log = logging.getLogger(__name__)

PACKAGE = "paper_repro"
ROOT = Path(__file__).parents[2]
"""The directory that this package lies in."""
REVISION_FILE = "snapshot.json"
"""The file that holds the git revision of a copy of the code."""

_DEPENDENCIES = ("paper-repro", "torch", "numpy", "tokenizers", "pydantic")
_OF_MODELS = ("transformers",)
"""What a model of a factory may be of; named where it is in use."""


def code_files(root: Path = ROOT, packages: Sequence[str] = (PACKAGE,)) -> dict[str, bytes]:
    """The modules of packages under `root`, by relative path: what is on disk now.

    A package may be a single module, `<package>.py`.
    """
    paths = {
        path
        for package in packages
        for path in (root / f"{package}.py", *(root / package).rglob("*.py"))
    }
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


class FactoryCode(NamedTuple):
    """Where the code of a model's factory is: its module, or the package that this is in."""

    root: Path
    """The directory that it is imported from."""
    package: str
    installed: bool
    """Whether it is among Python's installed packages, and not somebody's work."""


def factory_code(factory: str) -> FactoryCode:
    """Find the code of `package.module:function` without importing it.

    Raises:
        ConfigError: there is no such module.
    """
    package = factory.partition(":")[0].partition(".")[0]
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # a module that was made by hand
        spec = None
    places = [*(spec.submodule_search_locations or []), spec.origin] if spec else []
    if not places or not places[0]:
        raise ConfigError(
            f"{factory}: no module {package!r} where Python looks (the working directory, "
            "PYTHONPATH, installed packages)"
        )
    root = Path(places[0]).resolve().parent
    installed = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    return FactoryCode(root, package, root in installed)


@cache
def factory_hash(factory: str) -> str:
    """The hash of a factory's code, as it was at the first call.

    Of its module, or of all modules of the package that this is in; what these import from
    elsewhere is not in it.
    """
    code = factory_code(factory)
    return hash_code(code_files(code.root, (code.package,)))


def of_this_model(config: RunConfig, info: RunInfo) -> bool:
    """Whether a run was trained by the code that its factory has now; always, of our GPT."""
    factory = config.model.factory
    return factory is None or info.factory_hash == factory_hash(factory)


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
    except OSError:  # no git
        return None
    except subprocess.CalledProcessError as error:
        if (reason := " ".join(error.stderr.split()).partition(" To add")[0]) and not any(
            usual in reason for usual in ("not a git repository", "did not match any file")
        ):
            log.warning("the git revision is not recorded: %s", reason)
        return None
    return f"{revision}+changes" if changed else revision


def describe_code(
    before: RunInfo | None = None, resumed: bool = False, factory: str | None = None
) -> dict[str, Any]:
    """What `run.json` says of the code.

    Args:
        before: `run.json` of the attempt that this one resumes, if it is whole.
        resumed: whether there was such an attempt.
        factory: what makes the model, where it is not our GPT.

    Other code than this that took steps of the run is listed, in order, under `earlier_code`.
    """
    now = {"code_hash": code_hash(), "git_revision": git_revision()}
    if factory:
        now["factory_hash"] = factory_hash(factory)
    earlier: list[dict[str, str | None]] = []
    if resumed:
        earlier = list(before.earlier_code) if before else []
        last = {
            "code_hash": before.code_hash if before else None,
            "git_revision": before.git_revision if before else None,
        }
        if factory:
            last["factory_hash"] = before.factory_hash if before else None
        if any(last[name] != now[name] for name in now if name != "git_revision"):
            log.warning("resumed by other code: %s, before that %s", now, last)
            earlier.append(last)
    return {**now, "earlier_code": earlier}


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a run's numbers."""
    found = {"python": platform.python_version()}
    for package in (*_DEPENDENCIES, *(name for name in _OF_MODELS if name in sys.modules)):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
