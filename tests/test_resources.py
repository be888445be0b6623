"""Jobs ask for what the runs to do need: time within the profile's limit, and memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from paper_repro.records import Status
from slurm.profiles import MIN_MINUTES, Profile
from slurm.resources import WorkLeft, fitted
from sweeps import launch
from sweeps.expand import read_sweep
from sweeps.plan import make_plan

ROOT = Path(__file__).parent.parent
HOUR = 3600.0
PROFILE = Profile(time="08:00:00")
SWEEP = """\
name: asked
base:
  model: {width: 8, depth: 1, head_dim: 8}
  data: {corpus: synthetic, context: 16}
  train: {batch_size: 2, tokens: 1_600_000}
  scaling: {base_width: 8, base_depth: 1, base_batch_size: 2, base_tokens: 1_600_000}
grid:
  model.width: [8, 32]
  seed: [0, 1]
"""


@pytest.mark.parametrize(
    ("seconds", "longest", "jobs", "time"),
    [
        (6 * HOUR, 0.5 * HOUR, 3, "04:05:00"),  # the share of a job
        (6 * HOUR, 3 * HOUR, 3, "06:05:00"),  # the longest run
        (6 * HOUR, 0.5 * HOUR, 1, "08:00:00"),  # all that the profile allows
        (50 * HOUR, 48 * HOUR, 4, "08:00:00"),
        (1.0, 1.0, 1, "00:06:00"),  # rounded up
    ],
)
def test_time_is_what_the_work_needs_and_within_the_profile(seconds, longest, jobs, time):
    asked = fitted(PROFILE, WorkLeft(seconds, longest, 1e9), jobs)
    assert asked.time == time
    assert MIN_MINUTES <= asked.minutes <= PROFILE.minutes


def test_a_time_of_days_stays_as_long():
    long = Profile(time="2-03:30:01")
    assert fitted(long, WorkLeft(1e9, 1e6, 1e9), 1).minutes == long.minutes


@pytest.mark.parametrize(
    ("host_bytes", "memory"),
    [(1.0, "256M"), (2**28 / 1.5, "256M"), (2**28, "512M"), (10 * 2**30, "15360M")],
)
def test_memory_is_half_as_much_again_in_whole_steps(host_bytes, memory):
    assert fitted(PROFILE, WorkLeft(1.0, 1.0, host_bytes), 1).memory == memory


def test_what_else_a_profile_says_is_kept():
    profile = Profile(memory="3G", partition="p", cpus=7, options={"exclusive": True})
    asked = fitted(profile, WorkLeft(1.0, 1.0, 1e12), 1)
    assert asked.memory == "3G"
    assert asked == profile.model_copy(update={"time": asked.time})


@pytest.fixture
def dry_run(tmp_path, capsys):
    """Runs `launch --dry-run` with a profile; the lines on the jobs, and the script."""
    path, site = tmp_path / "asked.yaml", tmp_path / "site.yaml"
    path.write_text(SWEEP, encoding="utf-8")

    def run(profile):
        site.write_text(profile, encoding="utf-8")
        arguments = ["--cluster", "slurm", "--profile", str(site), "--dry-run"]
        assert launch.main([str(path), "--runs-dir", str(tmp_path / "runs"), *arguments]) == 0
        jobs = capsys.readouterr().out.partition("jobs (slurm): ")[2]
        lines, _, script = jobs.partition("\n\n")
        return lines.splitlines(), script

    return run


def test_dry_run_says_what_is_asked_and_why(dry_run):
    lines, script = dry_run("cpus: 2\nconcurrency: 3\n")
    assert lines == [
        "3 in arrays of 3; at most 3 at a time",
        "  time    00:06:00 each, 5 min + 2 x 15 s (a job's share of the work, estimated)",
        "  memory  512M each, 1.5 x 335M (largest run, width 32, depth 1, estimated)",
        "  cost    about 0.025 CPU core-hours in all (estimated)",
    ]
    assert "#SBATCH --time=6\n" in script
    assert "#SBATCH --mem=512M\n" in script
    lines, _ = dry_run("concurrency: 4\n")
    longest = "2 x 13 s (longest run, width 32, depth 1, estimated)"
    assert lines[1] == f"  time    00:06:00 each, 5 min + {longest}"


def test_dry_run_goes_by_what_finished_runs_took(dry_run, tmp_path):
    sweep = read_sweep(tmp_path / "asked.yaml")
    plan = make_plan(sweep, tmp_path / "runs", gpu=False)
    for bundle, hours in zip(plan.bundles, (2, 1), strict=True):
        record = plan.records[bundle.runs[0]]
        record.create(bundle.config)
        costs = {"wall_seconds": 3600 * hours, "peak_host_memory_bytes": hours * 2**29}
        record.finish(Status(status="done", tokens=1_600_000, **costs))
        lines, _ = dry_run("cpus: 1\n")
        known = "partly measured" if bundle == plan.bundles[0] else "measured"
        longest = f"2 x 2.0 h (longest run, width 32, depth 1, {known})"
        assert lines[1] == f"  time    04:05:00 each, 5 min + {longest}"
        largest = "1.5 x 1024M (largest run, width 32, depth 1, measured)"
        assert lines[2] == f"  memory  1536M each, {largest}"
    assert lines[3] == "  cost    about 3 CPU core-hours in all (measured)"
    lines, script = dry_run("time: '00:30:00'\nmemory: 9G\n")
    limit = "the profile's limit: a job that reaches it is queued again"
    assert lines[1] == f"  time    00:30:00 each, {limit}"
    assert lines[2] == "  memory  9G each, as the profile says"
    assert "#SBATCH --time=30\n" in script
    assert "#SBATCH --mem=9G\n" in script


def test_what_is_asked_of_a_gpu_is_marked_as_rough(dry_run):
    lines, _ = dry_run("gpus: 1\n")
    # 50,000 steps of 4.5 ms for both runs of a shape, and 4 GB for CUDA on the host.
    both = "longest 2 runs at once, width 8, depth 1, estimated"
    assert lines[1:] == [
        f"  time    00:13:00 each, 5 min + 2 x 3.8 min ({both})",
        "  memory  5888M each, 1.5 x 3815M (largest run, width 32, depth 1, estimated)",
        "  cost    about 0.13 GPU-hours in all (estimated)",
        "  device  1 MiB of GPU memory per run (width 32, depth 1, estimated); "
        "as many at once as fit",
        "  Rough: an H200 took less than half the time; memory of the host was never measured.",
    ]


def test_several_processes_share_a_run_its_time_and_its_memory(dry_run):
    """The runs of the largest bundle take 13 s on one process."""
    lines, script = dry_run("tasks: 2\ncpus: 3\n")
    assert "5 min + 2 x 6 s (longest run, width 32, depth 1, estimated)" in lines[1]
    assert "1.5 x 2 tasks x 335M (largest run, width 32, depth 1, estimated)" in lines[2]
    assert lines[3:] == [
        "  cost    about 0.038 CPU core-hours in all (estimated)",
        "  device  1 MiB of memory per process, ddp on 2 (width 32, depth 1, estimated)",
    ]
    assert "#SBATCH --ntasks-per-node=2\n" in script


def test_the_large_sweep_plans_and_shows_the_memory_of_a_gpu(capsys, tmp_path):
    sweep, profile = ROOT / "sweeps" / "large_7b.yaml", ROOT / "slurm" / "multi_gpu_site.yaml"
    arguments = ["--cluster", "slurm", "--profile", str(profile), "--dry-run"]
    command = [str(sweep), "--runs-dir", str(tmp_path), *arguments]
    for parallel, memory in (("fsdp", "35.9"), ("ddp", "130.1")):
        assert memory in sweep.read_text(encoding="utf-8")
        assert launch.main([*command, "--parallel", parallel]) == 0
        line = f"  device  {memory} GiB of memory per GPU, {parallel} on 16 (width 4096, depth 32, "
        assert line in capsys.readouterr().out
