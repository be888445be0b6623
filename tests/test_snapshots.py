"""Copies of the code that jobs run: what is in them, and that nobody else's code gets in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.tiny_sweep import (
    ROOT,
    STEPS,
    numbers,
    only_record,
    start,
    sweep_file,
    wait_until_training,
)

from paper_repro.config import Execution
from paper_repro.files import read_json, write_yaml
from paper_repro.records import provenance
from paper_repro.records.provenance import git_revision, hash_code
from slurm.queue import submitted
from slurm.snapshots import PACKAGES, take_snapshot
from slurm.worker import Work, Worker, code_hash

TAKE = """\
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from paper_repro.errors import ConfigError
from slurm.snapshots import take_snapshot
try:
    print(take_snapshot(Path(sys.argv[1])))
except ConfigError as error:
    sys.exit(f"error: {error}")
"""


def code_files(root: Path) -> dict[str, bytes]:
    """The modules that a snapshot of the code in `root` holds."""
    return provenance.code_files(root, PACKAGES)


@pytest.fixture
def source(tmp_path) -> Path:
    """A copy of the project to edit, in no repository."""
    for package in (*PACKAGES, "sweeps"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / "source" / package, ignore=ignored)
    return tmp_path / "source"


def _start(source: Path, sweep_dir: Path) -> subprocess.Popen[str]:
    """A process that imports from `source` and copies it."""
    return subprocess.Popen(
        [sys.executable, "-c", TAKE, str(sweep_dir)],
        env={**os.environ, "PYTHONPATH": str(source), "PYTHONSAFEPATH": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _take(source: Path, sweep_dir: Path) -> Path:
    out, error = (process := _start(source, sweep_dir)).communicate(timeout=60)
    assert process.returncode == 0, error
    return Path(out.strip())


def _git(source: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    command = ["git", "-C", str(source), *identity, *arguments]
    return subprocess.check_output(command, text=True).strip()


def _commit(source: Path) -> str:
    _git(source, "init", "--quiet")
    _git(source, "add", ".")
    _git(source, "commit", "--quiet", "--message=all")
    return _git(source, "rev-parse", "HEAD")


def _files(folder: Path) -> dict[str, int]:
    """All files of a folder, with what changes when one is written again."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_ino
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_snapshot_holds_the_modules_as_they_are_on_disk(source, tmp_path):
    revision = _commit(source)
    (source / "paper_repro" / "training" / "trainer.py").write_text("edited = True\n")
    (source / "slurm" / "untracked.py").write_text("new = True\n")
    content = {
        path.relative_to(source).as_posix(): path.read_bytes()
        for package in ("paper_repro", "slurm")
        for path in (source / package).rglob("*.py")
    }
    (source / "slurm" / ".#jobs.py").symlink_to("an editor's lock")
    snapshot = _take(source, tmp_path / "sweep")
    assert snapshot == tmp_path / "sweep" / "code" / hash_code(content)
    assert code_files(snapshot) == content
    assert content["paper_repro/training/trainer.py"] == b"edited = True\n"
    assert content["slurm/untracked.py"] == b"new = True\n"
    assert "paper_repro/data/dataset.py" in content
    assert _files(snapshot).keys() == {*content, "snapshot.json"}
    assert read_json(snapshot / "snapshot.json") == {"git_revision": f"{revision}+changes"}


def test_the_same_code_is_copied_once_and_other_code_beside_it(source, tmp_path):
    first = _take(source, tmp_path / "sweep")
    before = _files(first)
    (source / "slurm" / "README.md").write_text("Not code.")
    assert _take(source, tmp_path / "sweep") == first
    assert _files(first) == before
    module = source / "paper_repro" / "model" / "gpt.py"
    module.write_bytes(module.read_bytes() + b"\n")
    second = _take(source, tmp_path / "sweep")
    assert second != first
    assert code_files(second) == code_files(source)
    assert _files(first) == before


def test_the_hash_tells_names_and_contents_apart():
    different = [{"a": b"bc"}, {"ab": b"c"}, {"a": b"", "b": b"c"}, {"a": b"c", "b": b""}]
    different += [{"a": b"xb\0y"}, {"a": b"x", "b": b"y"}]
    assert len({hash_code(files) for files in different}) == len(different)
    assert hash_code({"a": b"x", "b": b"y"}) == hash_code({"b": b"y", "a": b"x"})


def test_what_a_killed_launch_left_is_completed(source, tmp_path):
    snapshot = _take(source, tmp_path / "sweep")
    (snapshot / "paper_repro" / "training" / "trainer.py").unlink()
    (snapshot / "snapshot.json").unlink()
    (snapshot / "slurm" / "worker.py").write_bytes(b"")
    assert _take(source, tmp_path / "sweep") == snapshot
    assert code_files(snapshot) == code_files(source)
    assert (snapshot / "snapshot.json").exists()


def test_a_snapshot_with_a_module_too_many_is_refused(source, tmp_path):
    snapshot = _take(source, tmp_path / "sweep")
    (snapshot / "slurm" / "extra.py").write_text("")
    _, error = _start(source, tmp_path / "sweep").communicate(timeout=60)
    assert error == f"error: {snapshot}: is not the code that its name says; delete it\n"


def test_launchers_at_once_share_a_snapshot(tmp_path):
    wanted = code_files(ROOT)
    with ThreadPoolExecutor(4) as launchers:
        for sweep in range(2):
            folder = tmp_path / str(sweep)
            (snapshot,) = set(launchers.map(take_snapshot, [folder] * 4))
            assert code_files(snapshot) == wanted
            assert _files(folder / "code").keys() == {
                f"{snapshot.name}/{name}" for name in [*wanted, "snapshot.json"]
            }


@pytest.mark.parametrize("name", ["a:b", "file"])
def test_a_place_that_cannot_be_is_one_line(source, tmp_path, name):
    (tmp_path / "file").touch()
    _, error = _start(source, tmp_path / name / "sweep").communicate(timeout=60)
    assert error.startswith("error: --runs-dir: ")
    assert error.count("\n") == 1


def test_the_revision_is_of_the_code_and_of_nothing_else(source, tmp_path):
    assert git_revision(source, PACKAGES) is None
    git_revision.cache_clear()
    (tmp_path / "note.txt").touch()
    revision = _commit(tmp_path / "source")
    assert git_revision(source, PACKAGES) == revision
    git_revision.cache_clear()
    (source / "sweeps" / "mine.yaml").write_text("name: mine\n")  # changes no number
    assert git_revision(source, PACKAGES) == revision
    git_revision.cache_clear()
    (source / "slurm" / "mine.py").write_text("")
    assert git_revision(source, PACKAGES) == f"{revision}+changes"


def test_a_repository_around_the_code_is_not_its_own(source, tmp_path):
    """As of an environment that lies in somebody's repository."""
    (tmp_path / ".gitignore").write_text("source\n")
    _commit(tmp_path)
    assert git_revision(source, PACKAGES) is None


def test_a_snapshot_in_a_repository_keeps_its_own_revision(source):
    revision = _commit(source)
    snapshot = _take(source, source / "runs" / "sweep")
    _git(source, "commit", "--quiet", "--allow-empty", "--message=later")
    assert git_revision(snapshot, PACKAGES) == revision


def test_a_worker_refuses_other_code(tmp_path):
    work = (Work(("no such run",)),)
    Worker(tmp_path, (), Execution(device="cpu"), code_hash=code_hash())()
    worker = Worker(tmp_path, work, Execution(device="cpu"), code_hash="0123456789ab")
    with pytest.raises(RuntimeError, match="submitted with 0123456789ab"):
        worker()
    assert not list(tmp_path.iterdir())


def _submitted(folder: Path) -> str:
    """The id of the only job that was noted in a folder, once it is there."""
    deadline = time.monotonic() + 60
    while not (noted := submitted(folder)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    (job,) = noted
    return job


# Of a site whose jobs start with an empty environment and where other code of ours comes first.
KERNELS = ("ATEN_CPU_CAPABILITY", "MKL_CBWR", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""What chooses instructions, and so the last bits: a job that inherits nothing is told it too."""


@pytest.mark.slurm
@pytest.mark.usefixtures("slurm_cluster")
def test_a_waiting_and_a_requeued_job_run_what_was_launched(source, tmp_path):
    """However the code and the sweep file change, and wherever else there is code of ours."""
    module = source / "paper_repro" / "training" / "trainer.py"
    module.write_text(module.read_text() + "# not as in the repository of this test\n")
    revision, trained_by = _commit(source), hash_code(provenance.code_files(source))
    assert trained_by != provenance.code_hash()
    path, runs_dir = sweep_file(tmp_path, [0], STEPS), tmp_path / "runs"
    profile = tmp_path / "held.yaml"
    kept = {name: os.environ[name] for name in KERNELS if name in os.environ}
    places = {"PYTHONPATH": str(ROOT), "PAPER_REPRO_CACHE": os.environ["PAPER_REPRO_CACHE"]}
    options = {"hold": True, "export": "NONE"}
    content = {"partition": "main", "options": options, "environment": places | kept}
    write_yaml(profile, content)
    arguments = ["--cluster", "slurm", "--profile", str(profile)]
    launcher = start(path, runs_dir, *arguments, source=source)
    job = _submitted(runs_dir / "tiny" / "jobs")

    for name in code_files(source):
        (source / name).write_text("raise RuntimeError('not what was launched')\n")
    sweep_file(tmp_path, [7], 10)
    subprocess.run(["scontrol", "release", job], check=True)
    record = only_record(runs_dir)
    wait_until_training(record)
    subprocess.run(["scancel", "--signal=USR2", job], check=True)
    out, _ = launcher.communicate(timeout=60)
    assert launcher.returncode == 0, out
    assert "Restarts=1 " in subprocess.check_output(["scontrol", "show", "job", job], text=True)

    run = read_json(record / "run.json")
    assert (run["code_hash"], run["earlier_code"]) == (trained_by, [])
    assert run["git_revision"] == revision
    sweep_file(tmp_path, [0], STEPS)
    here = tmp_path / "here"
    assert start(path, here, "--cluster", "debug").wait(timeout=60) == 0
    assert only_record(here).name == record.name
    assert numbers(only_record(here)) == numbers(record)
