"""The benchmark measures what it says, and keeps it."""

from __future__ import annotations

import json

import pytest

from paper_repro.benchmark import __main__ as benchmark
from paper_repro.benchmark.report import ratios, slower
from paper_repro.cost import counts, parameters, train_flops
from paper_repro.files import write_json


@pytest.mark.slow  # it compiles
def test_a_quick_benchmark_as_json(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "QUICK_SECONDS", 0.5)
    kept = tmp_path / "kept.json"
    arguments = ["--quick", "--widths", "32", "512", "--device", "cpu"]
    write_json(kept, {"history": [{"of": "an earlier revision", "rows": [{"device": "other"}]}]})
    assert benchmark.main([*arguments, "--json", "--output", str(kept)]) == 0
    rows = json.loads(capsys.readouterr().out)
    variants = ("bundled", "single", "compiled plain", "plain")
    assert [(row["width"], row["alternation"], row["variant"]) for row in rows] == [
        (32, 0, variant) for variant in variants
    ]
    config = benchmark.long_run({"model": {"width": 32, "depth": 2}})
    flops = train_flops(config, counts(config.model, 256)) / (config.steps * config.tokens_per_step)
    earlier, content = json.loads(kept.read_text())["history"]
    assert earlier["of"] == "an earlier revision"
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


def measured(alternation, variant, tokens_per_s):
    return {
        **{"width": 32, "depth": 2, "variant": variant, "dtype": "float32", "device": "here"},
        **{"alternation": alternation, "tokens_per_s": tokens_per_s},
    }


def test_ratios_are_within_an_alternation():
    """The machine is twice as fast in the second one."""
    speeds = {0: {"bundled": 300, "plain": 100}, 1: {"bundled": 400, "plain": 200}}
    rows = [measured(turn, *each) for turn, some in speeds.items() for each in some.items()]
    found = {what.variant: str(ratio) for what, ratio in ratios(rows).items()}
    assert found == {"bundled": "2.50× [2.00, 3.00]", "plain": "1.00×"}


@pytest.mark.parametrize(("now", "told"), [(271, []), (269, ["3.00× at abcdef0, 2.69× now"])])
def test_what_is_slower_than_the_latest_entry_of_the_device_is_told(now, told):
    entries = [
        {
            "git_revision": revision,
            "rows": [measured(0, "bundled", speed), measured(0, "plain", 100)],
        }
        for revision, speed in (("1234567", 900), ("abcdef01", 300))
    ]
    other = {"git_revision": "0", "rows": [{**measured(0, "plain", 1), "device": "elsewhere"}]}
    rows = [measured(0, "bundled", now), measured(0, "plain", 100)]
    found = slower([*entries, other], rows)
    assert [line.split("float32: ")[1] for line in found] == told
    assert slower([other], rows) == []


def test_a_file_of_others_is_not_written_over(tmp_path, capsys):
    mine = tmp_path / "mine.json"
    mine.write_text('{"rows": []}')
    assert benchmark.main(["--quick", "--output", str(mine)]) == 2
    assert "expected a file of the benchmark's" in capsys.readouterr().err
    assert mine.read_text() == '{"rows": []}'


def test_no_width_is_left(capsys):
    assert benchmark.main(["--quick", "--widths", "512"]) == 2
    assert capsys.readouterr().err == "error: --widths: expected one up to 128 with --quick\n"


@pytest.mark.parametrize("width", ["0", "-16", "wide"])
def test_wrong_widths(width):
    with pytest.raises(SystemExit, match="2"):
        benchmark.main(["--widths", width])
