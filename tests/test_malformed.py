"""Malformed sweep files and arguments: one line on stderr, exit code 2, nothing on disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from slurm.queue import note_submission
from sweeps import cancel, launch, status

GOOD = """\
name: good
base:
  model: {width: 16, depth: 1, head_dim: 8}
  data: {corpus: synthetic, context: 16}
  train: {batch_size: 2, tokens: 640}
  scaling: {base_width: 16, base_depth: 1, base_batch_size: 2, base_tokens: 640}
grid:
  seed: [0, 1]
"""


def _with_base(line: str) -> str:
    """A file with that line of base; the axis is a seed."""
    return f"name: bad\nbase:\n  {line}\ngrid:\n  seed: [0]\n"


def _with_axes(lines: str) -> str:
    return f"name: bad\nbase: {{}}\n{lines}\n"


# Each: file content, and what the error must name.
FILES = {
    "unknown key": (_with_base("modle: {}"), ["base.modle", "did you mean 'model'"]),
    "misspelt key in a section": (
        _with_base("model: {widht: 64}"),
        ["base.model.widht", "did you mean 'width'"],
    ),
    "unknown key of the file": (GOOD + "gird: {}\n", ["gird", "did you mean 'grid'"]),
    "misspelt axis": (
        _with_axes("grid: {hyperparameters.lrr: [0.1]}"),
        ["grid.hyperparameters.lrr", "did you mean 'lr'"],
    ),
    "axis below a number": (_with_axes("grid: {seed.lr: [0.1]}"), ["grid.seed.lr"]),
    "wrong type": (_with_base("model: {width: wide}"), ["model.width", "integer", "wide"]),
    "number as text": (_with_base("hyperparameters: {lr: '0.1'}"), ["hyperparameters.lr"]),
    "fractional width": (_with_base("model: {width: 64.0}"), ["model.width", "integer"]),
    "true as a number": (_with_base("train: {batch_size: true}"), ["train.batch_size"]),
    "section as a number": (_with_base("model: 64"), ["base.model", "mapping"]),
    "base as a list": ("name: bad\nbase: [1]\ngrid: {seed: [0]}\n", ["base", "mapping"]),
    "width not divisible": (
        _with_axes("grid: {model.width: [64, 72]}"),
        ["model", "width 72", "head_dim 16", "at model.width=72"],
    ),
    "no axes": ("name: bad\nbase: {}\n", ["grid"]),
    "profile as a mapping": (GOOD + "profile: {cpus: 1}\n", ["profile", "path"]),
    "empty grid": (_with_axes("grid: {}"), ["grid", "empty"]),
    "empty list of grids": (_with_axes("grid: []"), ["grid", "empty"]),
    "empty grid in a list": (_with_axes("grid: [{seed: [0]}, {}]"), ["grid.1", "empty"]),
    "unknown key in a list of grids": (
        _with_axes("grid: [{seed: [0]}, {sede: [1]}]"),
        ["grid.1.sede", "did you mean 'seed'"],
    ),
    "the same run in two grids": (
        _with_axes("grid: [{seed: [0, 1]}, {seed: [1]}]"),
        ["duplicate runs", "seed=1"],
    ),
    "empty zip": (_with_axes("zip: {}"), ["zip", "empty"]),
    "empty list": (_with_axes("grid: {seed: []}"), ["grid.seed", "list of values"]),
    "value without a list": (_with_axes("grid: {seed: 3}"), ["grid.seed", "list of values"]),
    "grid as a list": (_with_axes("grid: [seed]"), ["grid", "mapping"]),
    "duplicate runs": (
        _with_axes("grid: {seed: [0, 1, 0]}"),
        ["duplicate", "seed=0"],
    ),
    "duplicate runs by two spellings": (
        _with_axes("grid: {hyperparameters.lr: [0.5, 5e-1]}"),
        ["duplicate", "hyperparameters.lr=0.5"],
    ),
    "zip of unequal lengths": (
        _with_axes("zip: {seed: [0, 1], model.depth: [1, 2, 3]}"),
        ["zip", "equal length", "seed: 2", "model.depth: 3"],
    ),
    "axis in grid and zip": (
        _with_axes("grid: {seed: [0]}\nzip: {seed: [1]}"),
        ["seed", "given twice"],
    ),
    "axis and a part of it": (
        _with_axes("grid: {model: [{width: 64}], model.width: [32]}"),
        ["model.width", "given twice"],
    ),
    "truncated": ("name: bad\nbase: {model: {width: 64\n", ["not valid YAML", "line"]),
    "list at the top": ("- name: bad\n", ["mapping"]),
    "empty file": ("", ["mapping"]),
    "duplicate key": (
        "name: bad\nbase: {}\nbase: {}\ngrid: {seed: [0]}\n",
        ["line 3", "'base'", "twice"],
    ),
    "unsafe tag": (_with_base("model: !!python/object/apply:os.getcwd []"), ["not valid YAML"]),
    "list as a key": ("? [a]\n: 1\n", ["not valid YAML"]),
    "impossible date": (_with_axes("grid: {seed: [2020-13-45]}"), ["seed", "2020-13-45"]),
    "duplicate runs by two zeros": (
        _with_axes("grid: {hyperparameters.weight_decay: [0.0, -0.0]}"),
        ["duplicate", "weight_decay"],
    ),
    "minutes and seconds": (_with_axes("grid: {seed: [1:30]}"), ["seed", "integer", "1:30"]),
    "home of nobody": (
        _with_base("data: {corpus: 'files:~nosuchuser/*.txt'}"),
        ["data.corpus", "~nosuchuser"],
    ),
    "variable that is not set": (
        _with_base("data: {corpus: 'files:$NO_SUCH_VARIABLE/*.txt'}"),
        ["data.corpus", "$NO_SUCH_VARIABLE"],
    ),
    "folder of files": (_with_base("data: {corpus: 'files:.'}"), ["data.corpus", "files:./**/*"]),
    "nested without end": ("[" * 5000, ["not valid YAML"]),
    "control characters": ("name: \0\n", ["not valid YAML"]),
    "unknown parameterization": (
        _with_axes("grid: {scaling.parameterization: [complete_p]}"),
        ["scaling.parameterization", "complete_d", "complete_p"],
    ),
    "alpha too small": (_with_base("scaling: {alpha: 0.4}"), ["scaling.alpha", "0.5", "0.4"]),
    "negative lr": (_with_base("hyperparameters: {lr: -0.1}"), ["hyperparameters.lr", "-0.1"]),
    "beta of one": (_with_base("hyperparameters: {beta1: 1.0}"), ["hyperparameters.beta1"]),
    "not a number": (_with_base("hyperparameters: {lr: .nan}"), ["hyperparameters.lr"]),
    "infinite": (_with_base("hyperparameters: {eps: .inf}"), ["hyperparameters.eps"]),
    "beta rule leaves (0, 1)": (
        _with_axes("grid: {train.batch_size: [16, 256]}"),
        ["hyperparameters.beta1", "beta_rule: exponential", "at train.batch_size=256"],
    ),
    "unknown module type": (
        _with_base("hyperparameters: {module_multipliers: {qery: {lr: 2.0}}}"),
        ["module_multipliers.qery", "did you mean 'query'"],
    ),
    "unknown quantity": (
        _with_base("hyperparameters: {module_multipliers: {query: {learning: 2.0}}}"),
        ["module_multipliers.query.learning"],
    ),
    "batch larger than tokens": (_with_base("train: {tokens: 100}"), ["train.tokens 100"]),
    "corpus too short": (
        _with_base("train: {tokens: 1_000_000_000}"),
        ["data.corpus", "data.max_epochs"],
    ),
    "validation set too short": (
        _with_base("train: {eval_sequences: 1_000_000}"),
        ["train.eval_sequences"],
    ),
    "unknown corpus": (_with_base("data: {corpus: soto}"), ["data.corpus", "soto", "sotu"]),
    "unknown tokenizer": (_with_base("data: {tokenizer: gpt2}"), ["data.tokenizer", "gpt2"]),
    "files that do not exist": (_with_base("data: {corpus: 'files:none/*.txt'}"), ["data.corpus"]),
    "log2 downwards": (_with_axes("grid: {model.width: {log2: [7, 5]}}"), ["model.width.log2"]),
    "log2 of one bound": (_with_axes("grid: {model.width: {log2: [7]}}"), ["model.width.log2"]),
    "log2 off the step": (
        _with_axes("grid: {hyperparameters.lr: {log2: [-8, -5, 2]}}"),
        ["grid.hyperparameters.lr.log2", "whole number of steps"],
    ),
    "log2 without a step": (
        _with_axes("grid: {hyperparameters.lr: {log2: [-8, -5, 0]}}"),
        ["grid.hyperparameters.lr.log2"],
    ),
    "log2 of text": (_with_axes("grid: {seed: {log2: [a, b]}}"), ["grid.seed.log2"]),
    "log2 of infinity": (_with_axes("grid: {seed: {log2: [0, .inf]}}"), ["grid.seed.log2"]),
    "too many runs": (
        _with_axes("grid: {seed: {log2: [0, 9, 0.0001]}, model.depth: {log2: [0, 9, 0.0001]}}"),
        ["grid", "runs", "at most"],
    ),
    "no name": ("base: {}\ngrid: {seed: [0]}\n", ["name: expected a name", "got None"]),
    "name with a slash": ("name: ../bad\nbase: {}\ngrid: {seed: [0]}\n", ["name", "../bad"]),
    "figure with a slash": (GOOD + "figure: a/b\n", ["figure", "a/b"]),
}

# Each: arguments after a good file, and what the error must name.
ARGUMENTS = {
    "--set without =": (["--set", "seed"], ["--set seed", "key=value"]),
    "--set of an unknown key": (
        ["--set", "model.widht=3"],
        ["--set model.widht: unknown key", "did you mean 'width'"],
    ),
    "--set of an axis": (["--set", "seed=3"], ["--set seed", "varied"]),
    "--set of broken YAML": (["--set", "model.width=[1"], ["--set model.width", "not valid YAML"]),
    "--set of a wrong value": (["--set", "model.width=12"], ["width 12", "head_dim 8"]),
    "unknown option": (["--wrokers", "2"], ["--wrokers"]),
}
LAUNCH_ARGUMENTS = {
    "unknown cluster": (["--cluster", "pbs"], ["--cluster", "pbs", "slurm"]),
    "no workers": (["--workers", "0"], ["--workers", "above 0", "'0'"]),
    "workers as text": (["--workers", "two"], ["--workers", "'two'"]),
    "unknown device": (["--device", "tpu"], ["--device", "tpu", "cuda"]),
    "unknown dtype": (["--dtype", "float16"], ["--dtype", "float16"]),
    "profile without slurm": (["--profile", "x.yaml"], ["--profile", "--cluster slurm only"]),
    "profile that is not there": (
        ["--cluster", "slurm", "--profile", "no.yaml"],
        ["no.yaml", "cannot be read"],
    ),
}


def _fails_in_one_line(capsys, code: int, named: list[str]) -> None:
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("error: ")
    for name in named:
        assert name in captured.err


def _exit_code(main, argv: list[str]) -> int:
    try:
        return main(argv)
    except SystemExit as exit_:  # argparse
        return int(exit_.code)


@pytest.mark.parametrize("case", FILES)
def test_malformed_file(case, tmp_path, capsys):
    content, named = FILES[case]
    path = tmp_path / "bad.yaml"
    path.write_text(content, encoding="utf-8")
    code = _exit_code(launch.main, [str(path), "--runs-dir", str(tmp_path / "runs")])
    _fails_in_one_line(capsys, code, [str(path), *named])
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("case", ["truncated", "misspelt axis", "duplicate runs"])
def test_status_refuses_the_same_files(case, tmp_path, capsys):
    content, named = FILES[case]
    path = tmp_path / "bad.yaml"
    path.write_text(content, encoding="utf-8")
    _fails_in_one_line(capsys, _exit_code(status.main, [str(path)]), [str(path), *named])


def _cases():
    for case, value in ARGUMENTS.items():
        yield pytest.param(launch.main, *value, id=f"launch {case}")
        yield pytest.param(status.main, *value, id=f"status {case}")
    for case, value in LAUNCH_ARGUMENTS.items():
        yield pytest.param(launch.main, *value, id=f"launch {case}")


@pytest.mark.parametrize(("main", "arguments", "named"), list(_cases()))
def test_malformed_arguments(main, arguments, named, tmp_path, capsys):
    path = tmp_path / "good.yaml"
    path.write_text(GOOD, encoding="utf-8")
    code = _exit_code(main, [str(path), "--runs-dir", str(tmp_path / "runs"), *arguments])
    _fails_in_one_line(capsys, code, named)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("main", [launch.main, status.main, cancel.main])
def test_missing_file(main, tmp_path, capsys):
    path = tmp_path / "none.yaml"
    _fails_in_one_line(capsys, main([str(path)]), [str(path), "cannot be read"])


def test_directory_as_a_file(tmp_path, capsys):
    _fails_in_one_line(capsys, launch.main([str(tmp_path)]), [str(tmp_path), "cannot be read"])


def test_binary_file(tmp_path, capsys):
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"\xff\xfe\x00name")
    _fails_in_one_line(capsys, launch.main([str(path)]), [str(path), "UTF-8"])


def test_runs_dir_that_is_a_file(tmp_path, capsys):
    path = tmp_path / "good.yaml"
    path.write_text(GOOD, encoding="utf-8")
    code = launch.main([str(path), "--runs-dir", str(path)])
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith("error: --runs-dir")
    assert error.count("\n") == 1


def test_slurm_without_slurm(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    path, profile = tmp_path / "good.yaml", tmp_path / "profile.yaml"
    path.write_text(GOOD, encoding="utf-8")
    profile.write_text("cpus: 1\n", encoding="utf-8")
    arguments = ["--runs-dir", str(tmp_path / "runs"), "--cluster", "slurm"]
    code = launch.main([str(path), *arguments, "--profile", str(profile)])
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith("error: --cluster slurm")
    assert error.count("\n") == 1


def test_cancel_without_slurm(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    path, jobs = tmp_path / "good.yaml", tmp_path / "runs" / "good" / "jobs"
    path.write_text(GOOD, encoding="utf-8")
    arguments = [str(path), "--runs-dir", str(tmp_path / "runs")]
    assert cancel.main(arguments) == 0  # nothing was ever submitted
    assert "Nothing to cancel" in capsys.readouterr().out
    jobs.mkdir(parents=True)
    note_submission(jobs, "17", 4, gpu=False)
    _fails_in_one_line(capsys, cancel.main(arguments), ["SLURM does not answer", "squeue"])


def test_cuda_without_a_gpu(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    path = tmp_path / "good.yaml"
    path.write_text(GOOD, encoding="utf-8")
    code = launch.main([str(path), "--runs-dir", str(tmp_path / "runs"), "--device", "cuda"])
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith("error: --device cuda")
    assert error.count("\n") == 1


def test_a_figure_that_does_not_exist(tmp_path, capsys):
    path = tmp_path / "bad.yaml"
    path.write_text(f"{GOOD}\nfigure: lr_widht\n", encoding="utf-8")
    code = launch.main([str(path), "--runs-dir", str(tmp_path / "runs")])
    _fails_in_one_line(capsys, code, [str(path), "figure", "'lr_widht'"])


@pytest.mark.parametrize("module", ["sweeps.launch", "sweeps.status", "sweeps.cancel"])
def test_the_commands_as_processes(module, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(_with_base("model: {widht: 64}"), encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-m", module, str(path)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {path}: base.model.widht")
    assert result.stderr.count("\n") == 1


def test_the_good_file_is_good(tmp_path, capsys):
    """Else the tests above could fail for another reason than the one they name."""
    path = tmp_path / "good.yaml"
    path.write_text(GOOD, encoding="utf-8")
    assert launch.main([str(path), "--runs-dir", str(tmp_path / "runs"), "--dry-run"]) == 0
    assert "2 runs in 1 bundles" in capsys.readouterr().out
