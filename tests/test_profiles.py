"""Cluster profiles: what sbatch is asked for, and mistakes told in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from paper_repro.errors import ConfigError
from paper_repro.records.provenance import code_files, hash_code
from slurm.environment import outside_allocations
from slurm.profiles import Profile, read_profile
from slurm.snapshots import PACKAGES
from slurm.submit import array_sizes, scripts
from sweeps import launch

ROOT = Path(__file__).parent.parent
SWEEP = """\
name: tiny
base:
  model: {width: 8, depth: 1, head_dim: 8}
  data: {corpus: synthetic, context: 16}
  train: {batch_size: 2, tokens: 640}
  scaling: {base_width: 8, base_depth: 1, base_batch_size: 2, base_tokens: 640}
grid:
  seed: [0, 1, 2, 3, 4]
"""
PROFILE = """\
partition: gpu
account: us
qos: high
gpus: a100:1
cpus: 8
memory: 64G
time: "1-02:30:01"
array_limit: 3
concurrency: 4
setup: [module load cuda]
environment: {OMP_NUM_THREADS: 8, NOTE: "two words"}
options: {constraint: nvlink, exclusive: true}
"""
# Of the first of two arrays; the places of logs and code and the Python are put in by the test.
GOLDEN = """\
#!/bin/bash

# Parameters
#SBATCH --account=us
#SBATCH --array=0-2%2
#SBATCH --constraint=nvlink
#SBATCH --cpus-per-task=8
#SBATCH --error=JOBS/%A_%a_0_log.err
#SBATCH --exclusive
#SBATCH --gpus-per-node=a100:1
#SBATCH --job-name=tiny
#SBATCH --mem=64G
#SBATCH --nodes=1
#SBATCH --open-mode=append
#SBATCH --output=JOBS/%A_%a_0_log.out
#SBATCH --partition=gpu
#SBATCH --qos=high
#SBATCH --requeue
#SBATCH --signal=USR2@90
#SBATCH --time=6

# setup
module load cuda
export OMP_NUM_THREADS=8
export NOTE='two words'
export PYTHONPATH=CODE"${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONSAFEPATH=1

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output JOBS/%A_%a_%t_log.out --error JOBS/%A_%a_%t_log.err \
--cpus-per-task=8 --export=ALL PYTHON -u -m submitit.core._submit JOBS
"""


# Five steps of a tiny model are nothing: 40 launches of 4.5 ms, where a GPU is asked for.
SUMMARY = """\
4 in arrays of 3, 1; at most 4 at a time
  time    00:06:00 each, 5 min + 2 x 0 s (longest 5 runs at once, width 8, depth 1, estimated)
  memory  64G each, as the profile says
  cost    about 2.5e-05 GPU-hours in all (estimated)
  device  0 MiB of GPU memory per run (width 8, depth 1, estimated); as many at once as fit
  Rough: an H200 took less than half the time; memory of the host was never measured.
"""


def _profile(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_dry_run_shows_the_jobs_and_the_exact_scripts(tmp_path, capsys):
    sweep = tmp_path / "tiny.yaml"
    sweep.write_text(SWEEP, encoding="utf-8")
    arguments = [str(sweep), "--runs-dir", str(tmp_path / "runs"), "--dry-run"]
    profile = str(_profile(tmp_path, PROFILE))
    assert launch.main([*arguments, "--cluster", "slurm", "--profile", profile]) == 0
    plan, _, jobs = capsys.readouterr().out.partition("jobs (slurm): ")
    assert "5 runs to do" in plan
    summary, first, second = jobs.split("\n#!")
    assert summary == SUMMARY
    golden = GOLDEN.replace("\\\n", "").replace("PYTHON -u", f"{sys.executable} -u")
    golden = golden.replace("JOBS", str(tmp_path / "runs" / "tiny" / "jobs"))
    golden = golden.replace(
        "CODE", str(tmp_path / "runs" / "tiny" / "code" / hash_code(code_files(ROOT, PACKAGES)))
    )
    assert f"#!{first}" == golden
    assert "--array" not in second
    assert not (tmp_path / "runs").exists()


def test_a_sweep_file_may_name_its_profile(tmp_path, capsys):
    sweep = tmp_path / "tiny.yaml"
    profile = _profile(tmp_path, "partition: mine\n")
    sweep.write_text(f"{SWEEP}profile: {profile}\n", encoding="utf-8")
    arguments = [str(sweep), "--runs-dir", str(tmp_path / "runs"), "--dry-run"]
    assert launch.main(arguments) == 0  # on this machine it is of no use
    assert "#SBATCH" not in capsys.readouterr().out
    assert launch.main([*arguments, "--cluster", "slurm"]) == 0
    assert "#SBATCH --partition=mine\n" in capsys.readouterr().out
    other = tmp_path / "other.yaml"
    other.write_text("partition: other\n", encoding="utf-8")
    assert launch.main([*arguments, "--cluster", "slurm", "--profile", str(other)]) == 0
    assert "#SBATCH --partition=other\n" in capsys.readouterr().out


def test_without_a_profile_the_site_decides(tmp_path, capsys):
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(SWEEP, encoding="utf-8")
    arguments = [str(sweep), "--runs-dir", str(tmp_path / "runs"), "--dry-run"]
    assert launch.main([*arguments, "--cluster", "slurm", "--device", "cuda"]) == 0
    script = capsys.readouterr().out
    assert "#SBATCH --gpus-per-node=1" in script
    assert "partition" not in script
    assert "account" not in script


def test_what_a_profile_leaves_out_is_left_to_the_site(tmp_path):
    (script,) = scripts(Profile(), "tiny", 1, tmp_path)
    for option in ("partition", "account", "qos", "gpus", "mem", "array", "wckey"):
        assert f"--{option}" not in script


def test_several_processes_are_tasks_of_one_job(tmp_path):
    (script,) = scripts(Profile(nodes=3, tasks=4, gpus="h100:4", cpus=8), "tiny", 1, tmp_path)
    for option in ("nodes=3", "ntasks-per-node=4", "gpus-per-node=h100:4", "cpus-per-task=8"):
        assert f"#SBATCH --{option}\n" in script
    assert " --kill-on-bad-exit=1 " in script


PARALLEL_MISTAKES = {
    "rows that cannot be shared": ("nodes: 4", [], "tiny.yaml: train.batch_size: expected a multi"),
    "one process": ("cpus: 2", ["--parallel", "fsdp"], "site.yaml: nodes, tasks: expected several"),
    "here": ("nodes: 2", ["--cluster", "local", "--parallel", "ddp"], "--cluster slurm only"),
}


@pytest.mark.parametrize("case", PARALLEL_MISTAKES)
def test_processes_that_cannot_share_a_run(case, tmp_path, capsys):
    text, arguments, error = PARALLEL_MISTAKES[case]
    sweep = tmp_path / "tiny.yaml"
    sweep.write_text(f"{SWEEP}profile: {_profile(tmp_path, text)}\n", encoding="utf-8")
    common = [str(sweep), "--runs-dir", str(tmp_path / "runs"), "--dry-run", "--cluster", "slurm"]
    assert launch.main([*common, *arguments]) == 2
    captured = capsys.readouterr().err
    assert captured.count("\n") == 1
    assert error in captured


@pytest.mark.parametrize(
    ("workers", "limit", "sizes"),
    [(1, 1, [1]), (5, 5, [5]), (6, 5, [5, 1]), (2001, 1000, [1000, 1000, 1])],
)
def test_arrays_are_split_at_the_limit(workers, limit, sizes):
    assert array_sizes(workers, limit) == sizes


def test_several_arrays_share_the_concurrency(tmp_path):
    profile = Profile(array_limit=10, concurrency=7)
    found = scripts(profile, "tiny", 30, tmp_path)
    assert ["--array=0-9%2" in script for script in found] == [True] * 3


MISTAKES = {
    "unknown key": ("partitoin: gpu", ["partitoin: unknown key", "partition"]),
    "not a mapping": ("- gpu", ["expected a mapping", "partition"]),
    "empty": ("", ["expected a mapping"]),
    "not YAML": ("setup: [", ["not valid YAML"]),
    "time in words": ("time: 12h", ["time: expected 'hours:minutes:seconds'", "'12h'"]),
    "time below the warning": ("time: '00:02:00'", ["time: expected", "at least 5 minutes"]),
    "memory without a unit": ("memory: 16", ["memory: ", "16"]),
    "memory in words": ("memory: 16GB", ["memory: expected", "16G", "'16GB'"]),
    "GPUs without tasks": ("gpus: 2", ["gpus: expected 0 or 1", "tasks (got 2)"]),
    "tasks without GPUs": ("{gpus: 'a100:1', tasks: 4}", ["gpus: expected 0 or 4", "'a100:1'"]),
    "GPUs in words": ("gpus: two", ["gpus: expected a number or TYPE:NUMBER", "'two'"]),
    "tasks as an option": ("options: {ntasks: 2}", ["options: ntasks is set elsewhere"]),
    "GPUs as true": ("gpus: true", ["gpus", "True"]),
    "no CPUs": ("cpus: 0", ["cpus: ", "greater than 0"]),
    "no concurrency": ("concurrency: 0", ["concurrency: "]),
    "setup as text": ("setup: module load cuda", ["setup: ", "list"]),
    "variable with a blank": ("environment: {'A B': x}", ["environment: expected names", "'A B'"]),
    "variable without a text": ("environment: {A: 1.5}", ["environment.A"]),
    "option with a key of its own": ("options: {mem: 1G}", ["options: mem is set elsewhere"]),
    "a second way to say CPUs": ("options: {cpus-per-gpu: 4}", ["cpus-per-gpu", "key cpus"]),
    "two memories": ("memory: 4G\noptions: {mem-per-cpu: 1G}", ["memory", "options.mem-per-cpu"]),
    "number as text": ("account: 0123", ["account", "in quotes", "123"]),
    "the same with underscores": ("options: {cpus_per_task: 1}", ["options: cpus_per_task"]),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_one_line(case, tmp_path, capsys):
    text, named = MISTAKES[case]
    path = _profile(tmp_path, text)
    sweep = tmp_path / "tiny.yaml"
    sweep.write_text(SWEEP, encoding="utf-8")
    arguments = [str(sweep), "--runs-dir", str(tmp_path / "runs"), "--cluster", "slurm"]
    assert launch.main([*arguments, "--profile", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    for name in (f"error: {path}", *named):
        assert name in captured.err
    assert not (tmp_path / "runs").exists()


def test_a_gpu_is_missed_before_anything_runs(tmp_path, capsys):
    sweep = tmp_path / "tiny.yaml"
    sweep.write_text(SWEEP, encoding="utf-8")
    arguments = [str(sweep), "--cluster", "slurm", "--profile", str(_profile(tmp_path, "cpus: 1"))]
    assert launch.main([*arguments, "--device", "cuda", "--dry-run"]) == 2
    assert "gpus: expected 1 or TYPE:1 with --device cuda (got 0)" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted((ROOT / "slurm").glob("*.yaml")), ids=lambda p: p.name)
def test_the_examples_are_valid(path):
    assert read_profile(path).partition


def test_the_readme_explains_every_key():
    text = (ROOT / "slurm" / "README.md").read_text(encoding="utf-8")
    assert [key for key in Profile.model_fields if f"| `{key}` |" not in text] == []


def test_an_unreadable_profile(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_profile(tmp_path / "none.yaml")


@pytest.mark.parametrize("option", ["mem-per-cpu", "mem_per_gpu"])
def test_a_site_may_want_memory_another_way(option, tmp_path, capsys):
    """sbatch refuses `--mem` beside it."""
    profile = tmp_path / "site.yaml"
    profile.write_text(f"partition: main\noptions: {{{option}: 500M}}\n")
    sweep = tmp_path / "tiny.yaml"
    sweep.write_text(SWEEP)
    arguments = ["--cluster", "slurm", "--profile", str(profile), "--runs-dir", str(tmp_path)]
    assert launch.main([str(sweep), *arguments, "--dry-run"]) == 0
    out = capsys.readouterr().out
    name = option.replace("_", "-")
    assert f"#SBATCH --{name}=500M" in out
    assert "#SBATCH --mem=" not in out
    assert f"option {name} says: 500M" in out


def test_a_time_needs_no_quotes(tmp_path):
    """12:00:00 is a text in YAML 1.2."""
    profile = tmp_path / "site.yaml"
    profile.write_text("time: 12:00:00\n")
    assert read_profile(profile).minutes == 720


@pytest.mark.parametrize("folder", ["my%20runs", "%j", "back\\=0", "two\nlines", "a:b"])
def test_a_folder_whose_name_means_something_to_slurm_is_refused(folder, tmp_path, capsys):
    """Before anything is written there."""
    sweep = tmp_path / "tiny.yaml"
    sweep.write_text(SWEEP)
    runs_dir = tmp_path / folder
    assert launch.main([str(sweep), "--cluster", "slurm", "--runs-dir", str(runs_dir)]) == 2
    assert "--runs-dir: expected a path without" in capsys.readouterr().err
    assert not runs_dir.exists()


def test_the_job_expands_home_and_variables_of_its_environment(tmp_path):
    values = {
        "A": "$HOME/cache",
        "B": "~/cache",
        "C": 'a b $(touch no) `touch no` "x" ${HOME}\'s',
        "D": "",
        "E": "a~b",
    }
    profile = Profile(environment=values)
    (script,) = scripts(profile, "tiny", 1, tmp_path / "jobs")
    exports = [line for line in script.splitlines() if line.startswith("export ")][: len(values)]
    shown = "\n".join([*exports, *(f'echo "${name}"' for name in values)])
    environment = {"HOME": "/home/me", "PATH": os.environ["PATH"]}
    asked = subprocess.run(
        ["bash", "-c", shown],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stdout.splitlines() == [
        "/home/me/cache",
        "/home/me/cache",
        'a b $(touch no) `touch no` "x" /home/me\'s',
        "",
        "a~b",
    ]
    assert not (tmp_path / "no").exists()


def test_jobs_start_without_variables_of_the_callers_allocation(monkeypatch):
    foreign = ["SLURM_MEM_PER_CPU", "SLURM_NTASKS", "SLURMD_NODENAME", "SBATCH_JOB_NAME"]
    foreign += ["SRUN_CPUS_PER_TASK", "PMIX_RANK", "PMI_FD", "SQUEUE_FORMAT", "SUBMITIT_EXECUTOR"]
    kept = ["SLURM_CONF", "SLURM_CLUSTERS", "MASTER_ADDR", "CUDA_VISIBLE_DEVICES"]
    for name in (*foreign, *kept):
        monkeypatch.setenv(name, "x")
    with outside_allocations():
        assert not [name for name in foreign if name in os.environ]
        assert [name for name in kept if name in os.environ] == kept
    assert [os.environ[name] for name in foreign] == ["x"] * len(foreign)
