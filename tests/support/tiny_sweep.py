"""A sweep of tiny runs, launched as users do it, and what must be equal however it is done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from paper_repro.files import read_json
from slurm.queue import last_words
from sweeps import launch

ROOT = Path(__file__).parent.parent.parent
SWEEP = """\
name: tiny
base:
  model: {width: 8, depth: 1, head_dim: 8}
  data: {corpus: synthetic, context: 16}
  train: {batch_size: 2, tokens: TOKENS, evaluations: 1, eval_sequences: 8}
  scaling: {base_width: 8, base_depth: 1, base_batch_size: 2, base_tokens: TOKENS}
grid:
  seed: SEEDS
"""
STEPS = 400
"""Of the runs that are killed: long enough to be hit in the middle."""


def sweep_file(folder: Path, seeds: list[int], steps: int) -> Path:
    path = folder / "tiny.yaml"
    text = SWEEP.replace("TOKENS", str(steps * 32)).replace("SEEDS", str(seeds))
    path.write_text(text, encoding="utf-8")
    return path


def launch_here(path: Path, runs_dir: Path, *arguments: str) -> int:
    """In this process, training included; the exit code."""
    here = ["--cluster", "debug", "--device", "cpu"]
    return launch.main([str(path), "--runs-dir", str(runs_dir), *here, *arguments])


def start(
    path: Path, runs_dir: Path, *arguments: str, source: Path = ROOT
) -> subprocess.Popen[str]:
    """A launcher as a user starts it from the code in `source`, with workers of its own."""
    command = [sys.executable, "-m", "sweeps.launch", str(path), "--runs-dir", str(runs_dir)]
    return subprocess.Popen(
        [*command, "--device", "cpu", *arguments],
        cwd=source,
        env={**os.environ, "PYTHONPATH": str(source)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a process group of its own, as a terminal gives it
    )


def wait_until_training(record: Path) -> None:
    """Until a run is some steps into its training."""
    metrics = record / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not metrics.exists() or metrics.read_text().count("\n") < 3:
        assert time.monotonic() < deadline, f"no start; log: {last_words(record.parent / 'jobs')}"
        time.sleep(0.01)


def numbers(record: Path) -> tuple[str, list[dict]]:
    """What must not depend on how often a run was interrupted: its losses, to the bit."""
    status = read_json(record / "status.json")
    assert status is not None
    assert status["status"] == "done"
    assert not (record / "checkpoint.pt").exists()
    lines = (record / "metrics.jsonl").read_text().splitlines()
    return status["val_loss"], [json.loads(line) for line in lines]


def only_record(runs_dir: Path) -> Path:
    """The only run's record."""
    (config,) = (runs_dir / "tiny").glob("*/config.yaml")
    return config.parent
