"""`--dtype auto`: decided by the processor at the first launch of a sweep, and kept after it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.tiny_sweep import launch_here, sweep_file

from paper_repro import cores
from paper_repro.errors import ConfigError
from paper_repro.records import Record
from slurm.hardware import has_bfloat16
from sweeps import precision
from sweeps.expand import read_sweep
from sweeps.options import LaunchOptions
from sweeps.precision import recorded_precision, with_precision

AVX2 = "processor : 0\nmodel name : bf16\nflags : fpu avx avx2 bmi2\n"
ZEN4 = "processor : 0\nflags\t\t: fpu avx2 avx512f avx512_bf16\n\nprocessor : 1\nflags : fpu\n"


@pytest.fixture
def processor(tmp_path, monkeypatch):
    """Makes this machine have the processor that a text of /proc/cpuinfo is of, and no GPU.

    Where that has instructions for bfloat16, it is thrice as fast with them.
    """
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(precision, "_gain", lambda: 3.0)
    monkeypatch.setattr(cores, "CPU_INFO", tmp_path / "cpuinfo")
    return (tmp_path / "cpuinfo").write_text


@pytest.mark.parametrize(
    ("text", "has"),
    [
        (AVX2, False),
        (ZEN4, True),
        ("flags : fpu avx2 avx512f\n", False),
        ("flags : avx2 amx_bf16 amx_tile\n", True),
        ("Features : fp asimd bf16 i8mm\n", True),
        ("", False),
    ],
    ids=["AVX2", "AVX512_BF16", "AVX512", "AMX", "Arm", "none"],
)
def test_instructions_for_bfloat16_are_seen(text, has, processor):
    processor(text)
    assert has_bfloat16("auto") is has


@pytest.mark.parametrize(
    ("told", "has"), [("8.0", True), ("9.0 7.5", False), ("7.0", False), ("[N/A]", False)]
)
def test_of_a_gpu_its_driver_is_asked(told, has, tmp_path, processor, monkeypatch):
    processor(AVX2 if has else ZEN4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ncase $1 in *=compute_cap) printf '{told}';; *) exit 9;; esac\n")
    tool.chmod(0o755)
    assert has_bfloat16("auto") is has
    assert has_bfloat16("cpu") is not has


@pytest.mark.parametrize(("gain", "dtype"), [(1.6, "bfloat16"), (1.4, "float32")])
def test_instructions_that_are_no_faster_are_not_used(
    gain, dtype, tmp_path, processor, monkeypatch
):
    processor(ZEN4)
    monkeypatch.setattr(precision, "_gain", lambda: gain)
    path = sweep_file(tmp_path, [0], 10)
    options = LaunchOptions(file=path, dtype="auto", runs_dir=tmp_path / "runs")
    chosen = with_precision(options, read_sweep(path), gpu=False)
    assert chosen.execution.dtype == dtype


def test_the_gain_is_the_speed_in_bfloat16_over_that_in_float32(monkeypatch):
    """On a processor of which both are known; to time a product here is a benchmark."""
    speeds = {("cpu", "bfloat16"): 295e9, ("cpu", "float32"): 100e9}
    monkeypatch.setattr("paper_repro.benchmark.measure.peak_flops", lambda *asked: speeds[asked])
    assert precision._gain() == pytest.approx(2.95)


@pytest.mark.parametrize(
    ("first", "other", "dtype"),
    [
        pytest.param(ZEN4, AVX2, "bfloat16", id="bfloat16"),
        pytest.param(AVX2, ZEN4, "float32", id="float32"),
    ],
)
def test_a_sweep_goes_on_in_the_precision_that_it_began_in(
    first, other, dtype, tmp_path, processor, capsys
):
    """On a machine that would choose otherwise, and also where no run has ended."""
    runs_dir = tmp_path / "runs"
    processor(first)
    assert launch_here(sweep_file(tmp_path, [0], 10), runs_dir, "--dtype", "auto") == 0
    (begun,) = (runs_dir / "tiny").glob("*/status.json")
    begun.unlink()
    processor(other)
    assert launch_here(sweep_file(tmp_path, [0, 1], 10), runs_dir, "--dtype", "auto") == 0
    out = capsys.readouterr().out
    assert out.count(f"precision (--dtype auto): {dtype}") == 2
    assert "Not comparable" not in out
    records = [Record(path.parent) for path in (runs_dir / "tiny").glob("*/status.json")]
    assert [record.run_info().dtype for record in records] == [dtype] * 2


def test_runs_of_several_precisions_are_refused(tmp_path, processor, capsys):
    runs_dir = tmp_path / "runs"
    processor(AVX2)
    for seed, dtype in enumerate(("float32", "bfloat16")):
        assert launch_here(sweep_file(tmp_path, [seed], 10), runs_dir, "--dtype", dtype) == 0
    assert launch_here(sweep_file(tmp_path, [2], 10), runs_dir, "--dtype", "auto") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"one precision in {runs_dir / 'tiny'} (got bfloat16; float32)" in error


def test_on_slurm_the_first_launch_names_a_precision(tmp_path, processor):
    path, runs_dir = sweep_file(tmp_path, [0], 10), tmp_path / "runs"
    processor(ZEN4)
    options = LaunchOptions(file=path, cluster="slurm", dtype="auto", runs_dir=runs_dir)
    with pytest.raises(ConfigError, match="the processors of its nodes are not known here"):
        with_precision(options, read_sweep(path), gpu=False)
    assert launch_here(path, runs_dir, "--dtype", "float32") == 0
    assert with_precision(options, read_sweep(path), gpu=True).execution.dtype == "float32"


def test_without_a_record_nothing_is_decided(tmp_path: Path):
    assert recorded_precision(tmp_path / "absent") is None
    (tmp_path / "jobs").mkdir()
    assert recorded_precision(tmp_path) is None
