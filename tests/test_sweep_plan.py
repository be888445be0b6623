"""A plan is what the file wants against what the disk has."""

from __future__ import annotations

import json
import time

import pytest

from paper_repro.cost import (
    estimated_cpu_bytes,
    estimated_cpu_seconds,
    estimated_gpu_seconds,
    estimated_host_bytes,
)
from paper_repro.records import Status
from paper_repro.records.lease import take_lease
from slurm.queue import note_submission
from sweeps import launch, status
from sweeps.expand import read_sweep
from sweeps.plan import counts_of, make_plan, mark_lost, refresh
from sweeps.report import duration, short

SWEEP = """\
name: planned
base:
  model: {depth: 1, head_dim: 8}
  data: {corpus: synthetic, context: 16}
  train: {batch_size: 2, tokens: 640, eval_sequences: 8}
  scaling: {base_width: 16, base_depth: 1, base_batch_size: 2, base_tokens: 640}
grid:
  seed: [0, 1]
  model.width: [16, 64, 32]
"""
RESULT = {"val_loss": 2.0, "tokens": 640, "wall_seconds": 50.0, "error": None}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "planned.yaml"
    path.write_text(SWEEP, encoding="utf-8")
    return path


@pytest.fixture
def runs_dir(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def plan(path, runs_dir):
    plan = make_plan(read_sweep(path), runs_dir, gpu=False)
    for run_id, record in plan.records.items():
        record.create(plan.sweep.runs[run_id])
    return plan


def test_bundles_share_shapes_and_the_longest_runs_come_first(plan):
    assert [bundle.config.model.width for bundle in plan.bundles] == [64, 32, 16]
    for bundle in plan.bundles:
        configs = [plan.sweep.runs[run_id] for run_id in bundle.runs]
        assert {config.bundle for config in configs} == {bundle.config.bundle}
        assert [config.seed for config in configs] == [0, 1]
    assert len({bundle.config.bundle for bundle in plan.bundles}) == 3


def test_the_same_file_gives_the_same_plan(path, runs_dir):
    assert make_plan(read_sweep(path), runs_dir) == make_plan(read_sweep(path), runs_dir)


def test_states_are_those_of_the_records(plan):
    done, diverged, failed, running, dead, pending = plan.missing
    plan.records[done].finish(Status(status="done", **RESULT))
    plan.records[diverged].finish(Status(status="diverged", **(RESULT | {"tokens": 320})))
    plan.records[failed].finish(Status(status="failed", error="ValueError: bad"))
    take_lease(plan.records[running].directory)
    plan.records[running].append_metrics({"step": 5, "tokens": 160})
    claim = take_lease(plan.records[dead].directory)  # of a process that is no more
    claim.path.write_text(json.dumps(json.loads(claim.path.read_text()) | {"created": 0.0}))

    plan = refresh(plan)
    assert {run_id: state.state for run_id, state in plan.states.items()} == {
        done: "done",
        diverged: "diverged",
        failed: "failed",
        running: "running",
        dead: "lost",
        pending: "pending",
    }
    assert set(plan.missing) == {failed, running, dead, pending}
    assert plan.tokens == 640 + 320 + 160
    assert plan.share_done(diverged) == 1
    assert plan.share_done(running) == 0.25


def test_a_failed_run_that_is_tried_again_is_running(plan):
    record = plan.records[plan.missing[0]]
    record.finish(Status(status="failed", error="ValueError: bad"))
    take_lease(record.directory)
    assert refresh(plan).count() == {"running": 1, "pending": 5}


def test_half_a_line_of_metrics_is_not_read(plan):
    record = plan.records[plan.missing[0]]
    record.append_metrics({"step": 5, "tokens": 160})
    with record.metrics_path.open("a") as file:
        file.write('{"step": 6, "tok')
    assert refresh(plan).tokens == 160


def test_a_folder_in_the_place_of_metrics_has_no_tokens(plan):
    record = plan.records[plan.missing[0]]
    record.finish(Status(status="failed", error="IsADirectoryError: metrics.jsonl"))
    record.metrics_path.mkdir()
    assert refresh(plan).count() == {"failed": 1, "pending": 5}


def test_measured_times_replace_the_estimate_within_a_bundle(plan, runs_dir):
    largest, second, _ = plan.bundles
    assert largest.seconds == estimated_cpu_seconds(largest.config, counts_of(largest.config))
    plan.records[second.runs[0]].finish(Status(status="done", **RESULT))
    measured = make_plan(plan.sweep, runs_dir, gpu=False)
    assert [b.config.model.width for b in measured.bundles] == [32, 64, 16]  # 50 s are the most
    assert measured.bundles[0].seconds == 50.0
    assert measured.bundles[1].seconds == largest.seconds
    rest = 2 * measured.bundles[1].seconds + 2 * measured.bundles[2].seconds
    assert measured.seconds_left == pytest.approx(50.0 + rest)


def test_measured_memory_replaces_the_estimate_within_a_bundle(plan, runs_dir):
    largest, second, third = plan.bundles
    assert largest.host_bytes == estimated_cpu_bytes(largest.config, counts_of(largest.config))
    for run_id, peak in zip(second.runs, (5e8, 7e8), strict=True):
        plan.records[run_id].finish(Status(status="done", **RESULT, peak_host_memory_bytes=peak))
    plan.records[third.runs[0]].finish(Status(status="done", **RESULT))  # as older records are
    found = {b.runs: b for b in make_plan(plan.sweep, runs_dir, gpu=False).bundles}
    assert found[second.runs].host_bytes == 7e8
    assert found[second.runs].host_bytes_measured
    assert found[third.runs].host_bytes == third.host_bytes
    assert not found[third.runs].host_bytes_measured
    assert found[third.runs].seconds_measured


def test_a_plan_is_for_what_the_jobs_of_earlier_launches_ran_on(plan, path, runs_dir, capsys):
    plan.jobs.mkdir()
    note_submission(plan.jobs, "6", 1, gpu=False)
    assert not make_plan(plan.sweep, runs_dir).gpu
    note_submission(plan.jobs, "7", 1, gpu=True)
    on_gpu = make_plan(plan.sweep, runs_dir)
    assert on_gpu.gpu
    for bundle in on_gpu.bundles:
        runs = len(bundle.runs)
        assert runs > 1
        assert bundle.seconds == estimated_gpu_seconds(
            bundle.config, counts_of(bundle.config), at_once=runs
        )
        assert (bundle.at_once, bundle.seconds_at_once) == (runs, runs * bundle.seconds)
        assert bundle.host_bytes == estimated_host_bytes(counts_of(bundle.config))
    assert status.main([str(path), "--runs-dir", str(runs_dir)]) == 0
    assert "of one GPU left, nothing is running" in capsys.readouterr().out


@pytest.mark.parametrize(("shown", "gpu"), [("", False), ("0", True)])
def test_before_any_job_a_plan_is_for_this_machine(path, runs_dir, monkeypatch, shown, gpu):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert make_plan(read_sweep(path), runs_dir).gpu is gpu


def test_the_table_tells_bundles_apart_by_all_that_differs(tmp_path, runs_dir, capsys):
    path = tmp_path / "several.yaml"
    grid = "  model.qk_norm: [true, false]\n  train.evaluations: [1, 4]\n"
    path.write_text(SWEEP + grid, encoding="utf-8")
    assert launch.main([str(path), "--runs-dir", str(runs_dir), "--dry-run"]) == 0
    heading, *rows = (line.split() for line in capsys.readouterr().out.splitlines()[:13])
    assert heading[4:7] == ["qk_norm", "evaluations", "params"]
    assert len({tuple(row[:6]) for row in rows}) == 12
    assert {(row[4], row[5]) for row in rows} == {
        (norm, evaluations) for norm in ("true", "false") for evaluations in ("1", "4")
    }


def test_what_is_data_to_the_training_step_shares_a_bundle(tmp_path, runs_dir, capsys):
    """Schedule, clipping, warm-up and z-loss; no column tells them apart."""
    path = tmp_path / "shared.yaml"
    grid = {
        "train.schedule": ["cosine", "wsd"],
        "train.clip": [None, 1.0],
        "train.warmup_fraction": [0.1, 0.2],
        "train.z_loss": [0.0, 1e-4],
    }
    lines = "".join(f"  {key}: {json.dumps(values)}\n" for key, values in grid.items())
    path.write_text(SWEEP + lines, encoding="utf-8")
    plan = make_plan(read_sweep(path), runs_dir)
    assert [len(bundle.runs) for bundle in plan.bundles] == [32, 32, 32]
    assert launch.main([str(path), "--runs-dir", str(runs_dir), "--dry-run"]) == 0
    assert capsys.readouterr().out.split()[4] == "params"


def test_a_plan_asks_no_cluster(plan, path, runs_dir, monkeypatch, capsys):
    """Which runs are lost with their job is asked by the commands, once they have a plan."""
    asked = []
    record = plan.records[plan.missing[0]]
    claim = take_lease(record.directory)
    owner = json.loads(claim.path.read_text()) | {"job": "17", "host": "elsewhere"}
    claim.path.write_text(json.dumps(owner))
    monkeypatch.setattr("sweeps.state.live_jobs", lambda name: asked.append(name) or frozenset())
    assert make_plan(plan.sweep, runs_dir).count()["running"] == 1
    assert refresh(plan).count()["running"] == 1
    assert not asked
    assert mark_lost(refresh(plan)).count()["lost"] == 1
    assert status.main([str(path), "--runs-dir", str(runs_dir)]) == 0
    assert asked == ["planned", "planned"]
    assert "0 running, 1 lost" in capsys.readouterr().out


@pytest.mark.parametrize("main", [launch.main, status.main])
def test_records_of_earlier_ids_are_refused(plan, path, runs_dir, main, capsys):
    """Else their runs would be trained again, or counted as pending."""
    old = plan.records[plan.missing[0]].directory
    old.rename(old.with_name("0123456789ab"))
    assert main([str(path), "--runs-dir", str(runs_dir)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {runs_dir / 'planned'}: 1 records have ids of an earlier")
    assert error.endswith(f"python -m paper_repro.records.migrate {runs_dir}\n")
    assert error.count("\n") == 1


def test_ten_thousand_runs_are_planned_in_seconds(tmp_path, runs_dir):
    path = tmp_path / "many.yaml"
    betas = [beta / 200 for beta in range(100, 199)]
    axes = f"  hyperparameters.lr: {{log2: [-10, -1]}}\n  hyperparameters.beta1: {betas}\n"
    path.write_text(SWEEP.replace("[0, 1]", "[0, 1, 2, 3]") + axes, encoding="utf-8")
    started = time.process_time()
    assert len(make_plan(read_sweep(path), runs_dir).missing) == 4 * 3 * 10 * 99
    assert time.process_time() - started < 10


def test_compiling_pays_where_a_bundle_is_long(path, runs_dir):
    """What is measured or done changes nothing: every launch of a sweep decides alike."""
    long = read_sweep(path, ["train.tokens=100_000_000", "data.max_epochs=100"])
    pays = {
        bundle.config.model.width: bundle.compile_pays
        for bundle in make_plan(long, runs_dir, gpu=False).bundles
    }
    assert pays == {16: True, 32: True, 64: True}
    plan = make_plan(read_sweep(path), runs_dir, gpu=False)
    assert not any(bundle.compile_pays for bundle in plan.bundles)
    record = plan.records[plan.bundles[0].runs[0]]
    record.create(plan.bundles[0].config)
    record.finish(Status(status="done", **RESULT | {"wall_seconds": 5000.0}))
    measured = make_plan(plan.sweep, runs_dir, gpu=False).bundles
    assert measured[0].seconds == 5000.0
    assert not any(bundle.compile_pays for bundle in measured)


@pytest.mark.parametrize(("tokens", "pays"), [("320_000", False), ("640_000", True)])
def test_on_a_gpu_compiling_pays_sooner(path, runs_dir, tokens, pays):
    """Two runs of a shape that share 10,000 or 20,000 steps of 4.5 ms."""
    sweep = read_sweep(path, [f"train.tokens={tokens}", "data.max_epochs=100"])
    for bundle in make_plan(sweep, runs_dir, gpu=True).bundles:
        assert bundle.compile_pays == pays
    for bundle in make_plan(sweep, runs_dir, gpu=False).bundles:
        assert not bundle.compile_pays


def test_bundles_left_have_runs_to_do(plan):
    largest, second, third = plan.bundles
    for run_id in (*largest.runs, second.runs[0]):
        plan.records[run_id].finish(Status(status="done", **RESULT))
    assert refresh(plan).bundles_left == [second, third]


def test_dry_run_touches_nothing(path, tmp_path, capsys):
    runs_dir = tmp_path / "none"
    assert launch.main([str(path), "--dry-run", "--runs-dir", str(runs_dir)]) == 0
    assert "6 runs in 3 bundles, 3.84k tokens" in capsys.readouterr().out
    assert not runs_dir.exists()


def test_estimated_times_are_marked(plan, path, runs_dir, capsys):
    plan.records[plan.bundles[0].runs[0]].finish(Status(status="done", **RESULT))
    assert launch.main([str(path), "--dry-run", "--runs-dir", str(runs_dir)]) == 0
    times = [
        line.split("e+")[1].split(None, 1)[1] for line in capsys.readouterr().out.splitlines()[1:4]
    ]
    assert times == ["50 s", "~0 s", "~0 s"]


def test_status_counts_and_lists_failures(plan, path, runs_dir, capsys):
    failed, done, *_ = plan.missing
    plan.records[failed].finish(
        Status(status="failed", error="ValueError: too bad", log="jobs/7_0_log.err")
    )
    plan.records[done].finish(Status(status="done", **RESULT))
    assert status.main([str(path), "--runs-dir", str(runs_dir)]) == 0
    out = capsys.readouterr().out
    assert "1 of 6 runs done, 0 diverged, 1 failed, 0 running, 0 lost, 4 pending" in out
    place = plan.records[failed].directory
    assert f"failed: {place}: ValueError: too bad\n  log: jobs/7_0_log.err\nerror.txt" in out


def test_status_names_places_as_one_would_type_them(plan, path, runs_dir, capsys, monkeypatch):
    failed = plan.missing[0]
    log = str(plan.jobs / "7_0_log.err")
    plan.records[failed].finish(Status(status="failed", error="ValueError: too bad", log=log))
    monkeypatch.chdir(runs_dir.parent)
    assert status.main([str(path), "--runs-dir", "runs"]) == 0
    out = capsys.readouterr().out
    assert f"failed: runs/planned/{failed}: " in out
    assert "\n  log: runs/planned/jobs/7_0_log.err\n" in out


def _lose(record, log=None):
    """As if the process that has the run had been killed."""
    claim = take_lease(record.directory, log)
    claim.path.write_text(json.dumps(json.loads(claim.path.read_text()) | {"created": 0.0}))


def test_status_lists_lost_runs(plan, path, runs_dir, capsys):
    lost = plan.records[plan.missing[0]]
    _lose(lost)
    assert status.main([str(path), "--runs-dir", str(runs_dir)]) == 0
    out = capsys.readouterr().out
    assert "0 running, 1 lost, 5 pending" in out
    assert f"lost: {lost.directory}: its worker is gone; the next launch does it\n" in out
    assert "log" not in out


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("srun: error: n1: task 0: Killed\nsrun: Force Terminated", "n1: task 0: Killed"),
        (
            "slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT 2026 DUE TO TIME LIMIT ***",
            "STEP 7.0 ON n1 CANCELLED AT 2026 DUE TO TIME LIMIT",
        ),
        (
            "srun: error: n1: task 0: Killed\nsrun: error: n1: task 0: Out Of Memory",
            "n1: task 0: Out Of Memory; give the profile more memory",
        ),
    ],
)
def test_status_repeats_what_slurm_said_of_a_lost_run(
    plan, path, runs_dir, tmp_path, capsys, said, shown
):
    log = tmp_path / "7_0_log.err"
    log.write_text(f"run 1\n{said}\n")
    _lose(plan.records[plan.missing[0]], str(log))
    assert status.main([str(path), "--runs-dir", str(runs_dir)]) == 0
    assert f"  SLURM said: {shown}\n  log: {log}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (99, "99 s"),
        (150, "2.5 min"),
        (3000, "50 min"),
        (7200, "2.0 h"),
        (3e5, "3.5 days"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (819_200, "819k"), (1_709_056, "1.71M"), (4e9, "4B")],
)
def test_short_numbers(number, text):
    assert short(number) == text
