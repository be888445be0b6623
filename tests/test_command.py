"""The edge of the commands: exit codes, one line of error, output on any terminal."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.tiny_sweep import ROOT, sweep_file

from analysis import assurance, multiverse, power, simulation, tables
from analysis.load import load_results
from paper_repro.command import CRASHED, INTERRUPTED, WRONG, command
from paper_repro.coordinate_check import __main__ as checked
from paper_repro.errors import ConfigError
from paper_repro.packages import check_packages
from paper_repro.paths import check_writable, expanded, given_path
from paper_repro.records.provenance import git_revision
from sweeps import launch


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ConfigError("lr: expected a number"), WRONG, "error: lr: expected a number\n"),
        (
            PermissionError(13, "Permission denied", "r"),
            WRONG,
            "error: r: Permission denied\n",
        ),
        (OSError("no space"), WRONG, "error: no space\n"),
        (
            ModuleNotFoundError("No module", name="nbformat"),
            WRONG,
            "error: needs nbformat: pip install -e '.[notebooks]'\n",
        ),
        (KeyboardInterrupt(), INTERRUPTED, ""),
    ],
)
def test_an_error_is_one_line_and_an_exit_code_of_its_own(error, code, text, capsys):
    @command
    def main(_argv):
        raise error

    assert main() == code
    assert capsys.readouterr().err == text


@pytest.mark.parametrize("error", [RuntimeError("bug"), ModuleNotFoundError("x", name="x")])
def test_a_fault_of_the_program_is_no_result(error, capsys):
    """The coordinate check's 1 means FAIL and nothing else."""

    @command
    def main(_argv):
        raise error

    assert main() == CRASHED
    assert "Traceback" in capsys.readouterr().err


def test_a_deleted_working_directory_is_named(tmp_path, monkeypatch, capsys):
    @command
    def main(_argv):
        return len(str(Path.cwd()))

    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main() == WRONG
    said = "error: the working directory was deleted: change to another\n"
    assert capsys.readouterr().err == said


def test_a_terminal_without_a_character_gets_another(monkeypatch):
    @command
    def main(_argv):
        print("η × m_N⁻¹ \udcff")
        return 0

    terminal = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main() == 0
    terminal.flush()
    assert terminal.buffer.getvalue() == "? × m_N?¹ ?\n".encode("latin-1")


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_the_factors_print_where_there_is_no_utf8(arguments):
    asked = subprocess.run(
        [sys.executable, "-m", "paper_repro.parameterization", *arguments],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    assert b"width" in asked.stdout or b"hidden_weight" in asked.stdout


def test_paths_are_expanded_as_by_a_shell(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("PLACE", "/scratch")
    assert expanded("~/a/*.txt") == "/home/me/a/*.txt"
    assert str(given_path("${PLACE}/runs")) == "/scratch/runs"
    assert expanded("a~b") == "a~b"


def test_a_home_or_a_variable_that_is_not_known_is_one_line(monkeypatch):
    monkeypatch.delenv("NOWHERE", raising=False)
    for text, named in (("~nosuchuser/x", "~nosuchuser"), ("$NOWHERE/x", r"\$NOWHERE")):
        with pytest.raises(ConfigError, match=f"^key: .*{named}"):
            expanded(text, "key")


def test_without_a_home_the_cache_names_the_way_out(monkeypatch, tmp_path, capsys):
    """As in a container with the user id of nobody."""
    monkeypatch.delenv("PAPER_REPRO_CACHE")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert launch.main([str(sweep_file(tmp_path, [0], 10)), "--dry-run"]) == WRONG
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "PAPER_REPRO_CACHE" in error


def test_what_cannot_be_written_is_said_before_the_work(capsys, monkeypatch):
    with pytest.raises(ConfigError, match=r"^--output-dir: /proc/figures cannot be written"):
        check_writable(Path("/proc/figures"), "--output-dir")
    monkeypatch.setattr(checked, "check", lambda *_: pytest.fail("it trained"))
    assert checked.main(["--axis", "width", "--plot", "/proc/plot.png"]) == WRONG
    assert capsys.readouterr().err.startswith("error: --plot: /proc cannot be written")
    for made in (assurance, multiverse, tables):
        assert made.main(["--results-dir", "/proc"]) == WRONG
        assert capsys.readouterr().err.startswith("error: --results-dir: /proc cannot be written")


@pytest.mark.parametrize("main", [assurance.main, power.main, simulation.main])
@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_a_number_of_repetitions_is_above_zero(main, number, capsys):
    option = "--futures" if main is assurance.main else "--studies"
    with pytest.raises(SystemExit) as stopped:
        main([f"{option}={number}"])
    assert stopped.value.code == WRONG
    assert f"expected a whole number above 0 (got '{number}')" in capsys.readouterr().err


def test_a_parquet_file_that_is_no_results_is_one_line(tmp_path):
    import pandas as pd

    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "s.parquet")
    with pytest.raises(ConfigError, match=r"s\.parquet: no results: without the columns run_id"):
        load_results(tmp_path / "s.parquet")


@pytest.mark.parametrize("name", ["slurm", "analysis", "figures"])
def test_a_folder_of_the_user_in_the_place_of_a_package_is_named(name, tmp_path, monkeypatch):
    hiding = tmp_path / name / "__init__.py"
    hiding.parent.mkdir()
    hiding.touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ImportError, match=f"package {name} .* hidden by {tmp_path / name}:"):
        check_packages()
    monkeypatch.undo()
    check_packages()


def test_a_repository_that_git_distrusts_is_said(tmp_path, monkeypatch, caplog):
    """Of another owner: the record has no revision, and the log why."""
    git = tmp_path / "git"
    said = "fatal: detected dubious ownership in repository"
    git.write_text(f"#!/bin/sh\necho '{said}' >&2; exit 128\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    git_revision.cache_clear()
    assert git_revision(tmp_path) is None
    assert "not recorded: fatal: detected dubious ownership" in caplog.text
    git_revision.cache_clear()


def test_an_absent_repository_needs_no_word(tmp_path, caplog):
    assert git_revision(tmp_path) is None
    assert caplog.text == ""
