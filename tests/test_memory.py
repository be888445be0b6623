"""Runs fit the GPU that they are planned for: batches in parts, precision, peaks as estimated."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from paper_repro import config as configuration
from paper_repro import cost
from paper_repro.config import DataConfig, Execution, ModelConfig, RunConfig, TrainConfig
from paper_repro.cost import Counts, counts, fitting_parts, process_bytes
from paper_repro.training import devices
from slurm import hardware
from slurm.profiles import Profile
from slurm.worker import Work
from sweeps import launch
from sweeps.expand import read_sweep
from sweeps.options import LaunchOptions
from sweeps.plan import make_plan
from sweeps.precision import with_precision

ROOT = Path(__file__).parent.parent
WIDE = RunConfig(
    model=ModelConfig(width=2048, depth=4, head_dim=64),
    data=DataConfig(tokenizer="bpe:32768", context=1024),
    train=TrainConfig(batch_size=256, tokens=1_600_000_000),
)
COUNTED = counts(WIDE.model, 32768)


def needed(parts: int, config: RunConfig = WIDE, counted: Counts = COUNTED) -> float:
    return process_bytes(config, counted, 1, Execution(accumulate=parts))


# --- estimates


def test_the_widest_run_of_size_paper_fits_a_gpu_of_80_gb_in_four_parts():
    """Of the 251 GiB that it was estimated to need, 64 were logits."""
    assert 182 * 2**30 < needed(1) < 189 * 2**30
    assert fitting_parts(WIDE, COUNTED, 1, Execution(), 80e9) == 4
    assert needed(4) < 0.8 * 80e9 < needed(2)
    assert fitting_parts(WIDE, COUNTED, 4, Execution(), 80e9) == 1
    assert fitting_parts(WIDE, COUNTED, 1, Execution(), 24e9) == 16
    assert fitting_parts(WIDE, COUNTED, 1, Execution(recompute=True), 80e9) == 2


def test_parts_are_equal_and_single_sequences_where_nothing_fits():
    odd = WIDE.model_copy(update={"train": TrainConfig(batch_size=45, tokens=10**9)})
    assert fitting_parts(odd, COUNTED, 1, Execution(), 20e9) == 5
    assert fitting_parts(odd, COUNTED, 1, Execution(), 1e9) == 45


def test_logits_of_a_model_of_another_are_all_there():
    foreign = WIDE.model_copy(
        update={"model": ModelConfig(width=2048, depth=4, factory="some:model")}
    )
    assert needed(1, foreign) > needed(1) + 60e9


STEP = """
import json, sys
import torch
from paper_repro import config as configuration
from paper_repro.model import GPT

def peak():
    return 1024 * int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])

torch.set_num_threads(1)
configuration.LOGITS_BYTES = int(sys.argv[1])
model = GPT(configuration.ModelConfig(width=64, depth=2, head_dim=32), 8192, 256)
for parameter in model.parameters():
    torch.nn.init.normal_(parameter, std=0.02)
model.logits_multiplier.fill_(1.0)
before = peak()
loss, z_loss = model.loss(torch.randint(8192, (16, 257)))
(loss + 1e-4 * z_loss).backward()
print(peak() - before)
"""


def test_the_estimate_is_the_measured_peak_with_and_without_parts(monkeypatch):
    """A step whose logits are 134 MB, whole and in four parts: what glibc keeps counts twice.

    In parts it needs so little that what libraries set up, up to 120 MB, counts beside it.
    """
    model = ModelConfig(width=64, depth=2, head_dim=32)
    for limit, set_up in ((2**30, 0.0), (2**25, 120e6)):
        monkeypatch.setattr(configuration, "LOGITS_BYTES", limit)
        command = [sys.executable, "-c", STEP, str(limit)]
        told = subprocess.run(command, capture_output=True, text=True, check=True)
        kept = cost.activation_bytes(model, 16 * 256, 8192)
        estimate = 2 * kept + cost.part_bytes(model, 16 * 256, 8192)
        gradients = 4 * cost.parameters(model, 8192)
        expected = estimate + gradients
        assert 0.75 * expected < int(told.stdout) < 1.25 * expected + set_up


# --- the plan and its workers


SWEEP = """\
name: wide
size: paper
base:
  model: {width: 2048, depth: 4, head_dim: 64}
  data: {corpus: "hf:none", tokenizer: "bpe:32768", context: 1024}
  train: {batch_size: 256, tokens: 1_600_000_000}
grid:
  seed: [0, 1]
sizes:
  cpu: {}
  paper: {}
"""


@pytest.fixture
def dry_run(tmp_path, capsys):
    """Runs `launch --dry-run` with a profile; the line on the device."""
    path, site = tmp_path / "wide.yaml", tmp_path / "site.yaml"
    path.write_text(SWEEP, encoding="utf-8")

    def run(profile: str, *options: str) -> str:
        site.write_text(profile, encoding="utf-8")
        arguments = ["--cluster", "slurm", "--profile", str(site), "--dry-run", *options]
        assert launch.main([str(path), "--runs-dir", str(tmp_path / "runs"), *arguments]) == 0
        (line,) = (x for x in capsys.readouterr().out.splitlines() if "  device  " in x)
        return line

    return run


def test_a_dry_run_shows_the_parts_that_fit_the_profiles_gpu(dry_run):
    assert "51.5 GiB of GPU memory per run" in (line := dry_run("gpus: 1\n"))
    assert "; its batch in 4 parts; as many at once as fit" in line
    assert "; its batch in 16 parts; as many" in dry_run("gpus: 1\ngpu_memory: 24G\n")
    assert "; its batch in 2 parts" in dry_run("gpus: 1\n", "--accumulate", "2")
    assert "parts" not in dry_run("gpus: 4\ntasks: 4\n")
    line = dry_run("gpus: 1\ngpu_memory: 4G\n")
    assert "in 256 parts. That is more than gpu_memory, 4G: try --recompute" in line


def test_what_the_plan_chose_reaches_workers_and_is_no_part_of_a_run(tmp_path):
    path = tmp_path / "wide.yaml"
    path.write_text(SWEEP, encoding="utf-8")
    sweep = read_sweep(path)
    (bundle,) = make_plan(sweep, tmp_path / "runs", gpu=True).bundles
    assert (bundle.accumulate, bundle.at_once) == (4, 1)
    (large,) = make_plan(sweep, tmp_path / "runs", gpu=True, gpu_bytes=640e9).bundles
    assert (large.accumulate, large.at_once) == (1, 2)
    (on_cpu,) = make_plan(sweep, tmp_path / "runs", gpu=False).bundles
    assert on_cpu.accumulate is None
    assert bundle.runs == large.runs
    asked = Execution(dtype="bfloat16")
    execution = Work(bundle.runs, True, bundle.accumulate).execution(asked)
    assert execution == Execution(dtype="bfloat16", compile=True, accumulate=4)
    assert Work(()).execution(Execution(accumulate=3)).accumulate == 3


def test_memory_of_a_gpu_is_the_profiles():
    assert Profile().gpu_bytes == 80e9
    assert Profile(gpu_memory="141G").gpu_bytes == 141e9


def test_memory_of_this_machines_gpus_is_what_the_driver_tells(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert hardware.gpu_bytes() is None
    tool = tmp_path / "nvidia-smi"
    for body, expected in (("echo 81559; echo 24576", 24576 * 2**20), ("exit 9", None)):
        tool.write_text(f"#!/bin/sh\n{body}\n")
        tool.chmod(0o755)
        assert hardware.gpu_bytes() == expected


# --- precision


@pytest.mark.parametrize(
    ("size", "gpu", "asked", "dtype"),
    [
        ("paper", True, {}, "bfloat16"),
        ("paper", False, {}, "float32"),
        ("cpu", True, {}, "float32"),
        ("paper", True, {"dtype": "float32"}, "float32"),
    ],
)
def test_large_sizes_train_in_bfloat16_on_a_gpu(size, gpu, asked, dtype, tmp_path):
    path = tmp_path / "wide.yaml"
    path.write_text(SWEEP, encoding="utf-8")
    options = LaunchOptions(file=path, size=size, **asked)
    found = with_precision(options, read_sweep(path, size=size), gpu)
    assert found.execution.dtype == dtype


@pytest.mark.parametrize(("native", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_a_gpu_without_bfloat16_trains_in_float32_and_says_so(native, dtype, monkeypatch, caplog):
    monkeypatch.setattr(devices, "device_name", lambda device: "this GPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    asked = Execution(dtype="bfloat16")
    with caplog.at_level(logging.WARNING):
        assert devices.executable(asked, torch.device("cuda")).dtype == dtype
    assert ("this GPU has no bfloat16: float32 is used" in caplog.text) is not native
    assert devices.executable(asked, torch.device("cpu")).dtype == "bfloat16"
