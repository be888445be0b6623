"""The benchmark measures what it says, and keeps it."""

from __future__ import annotations

import json

import pytest

from paper_repro.benchmark import __main__ as benchmark
from paper_repro.cost import counts, parameters, train_flops


def test_a_quick_benchmark_as_json(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "QUICK_SECONDS", 0.5)
    kept = tmp_path / "kept.json"
    arguments = ["--quick", "--widths", "32", "512", "--device", "cpu", "--json"]
    assert benchmark.main([*arguments, "--output", str(kept)]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["width"], row["variant"]) for row in rows] == [
        (32, "bundled"),
        (32, "single"),
        (32, "plain"),
    ]
    config = benchmark.long_run({"model": {"width": 32, "depth": 2}})
    flops = train_flops(config, counts(config.model, 256)) / (config.steps * config.tokens_per_step)
    content = json.loads(kept.read_text())
    assert content["rows"] == rows
    for row in rows:
        assert row["depth"] == 2
        assert row["parameters"] == parameters(config.model, 256)
        assert row["runs_per_hour"] == pytest.approx(row["tokens_per_s"] * 3600 / 589_824)
        mfu = row["tokens_per_s"] * flops / content["peak_flops"]["float32"]
        assert row["mfu"] == pytest.approx(mfu)
        assert 0 < row["mfu"] < 1
        assert row["peak_bytes"] > 100e6
        assert row["device"]


def test_no_width_is_left(capsys):
    assert benchmark.main(["--quick", "--widths", "512"]) == 2
    assert capsys.readouterr().err == "error: --widths: expected one up to 128 with --quick\n"


@pytest.mark.parametrize("width", ["0", "-16", "wide"])
def test_wrong_widths(width):
    with pytest.raises(SystemExit, match="2"):
        benchmark.main(["--widths", width])
