"""The transfer check: verdicts along axes, their budget, and what catches which mistake."""

from __future__ import annotations

import importlib
import runpy
from pathlib import Path

import pytest
from support import foreign
from support.numbers import same_text
from support.synthetic_sweep import drifting, write_sweep

from analysis.load import COMMITTED_RESULTS, load_results, load_sweep
from analysis.transfer_check import checked_axes, conclusion, verdicts
from paper_repro.coordinate_check import check_model
from paper_repro.errors import ConfigError
from sweeps import launch
from sweeps.expand import read_sweep
from sweeps.plan import make_plan

ROOT = Path(__file__).parent.parent


def write(runs_dir, optima, **options):
    """Along width 64, 128 and 512 and depth 2 and 8, from the base of `synthetic_sweep`."""
    options = {"log2_lrs": range(-9, -2), "noise": 0.002, **options}
    write_sweep(runs_dir, "check", optima, scales=(64, 128, 512), axis="width", **options)
    write_sweep(runs_dir, "check", optima, scales=(8,), axis="depth", **options)


def rows(runs_dir):
    return verdicts(checked_axes(load_sweep(runs_dir, "check").runs))


def test_a_stable_optimum_holds_and_one_that_moves_fails_along_each_axis(tmp_path):
    write(tmp_path, {"complete_d": drifting(0), "sp": drifting(-0.8)})
    table = rows(tmp_path)
    found = table.set_index(["label", "axis"])["verdict"]
    assert found["Complete(d)P", "width"] == found["Complete(d)P", "depth"] == "holds"
    assert found["SP", "width"] == "fails"
    assert set(table["method"]) == {"pooled"}
    assert list(table["decides"].unique()) == [""]
    assert conclusion(table)[-1] == "TRANSFER CHECK of our GPT: fails"


def test_what_is_open_comes_with_the_budget_that_would_decide_it(tmp_path):
    write(tmp_path, {"complete_d": drifting(0)}, noise=0.08, seeds=2)
    table = rows(tmp_path).set_index("axis")
    assert set(table["verdict"]) == {"not decided"}
    text = table.loc["depth", "decides"]
    needed = int(text.split()[1])
    runs = 7 * 2 * (needed - 2)  # of nine seconds each
    assert text == f"about {needed} seeds ({runs} runs more, {runs * 9 / 60:.0f} min of one core)"
    assert table.loc["width", "decides"].startswith("no number of seeds")
    lines = conclusion(table.reset_index())
    assert f"our GPT, Complete(d)P, depth: not decided: {text}" in lines
    assert lines[-1] == "TRANSFER CHECK of our GPT: not decided"


def test_an_optimum_at_the_end_of_the_grid_and_a_single_seed_say_what_is_missing(tmp_path):
    write(tmp_path / "edge", {"sp": drifting(1.5)}, log2_lrs=range(-9, -4))
    open_ = rows(tmp_path / "edge").set_index("axis").loc["width", "decides"]
    assert open_ == "rates beyond the grid: above 2^-5 at width 128, above 2^-5 at width 512"
    write(tmp_path / "one", {"sp": drifting(0)}, seeds=1)
    assert set(rows(tmp_path / "one")["decides"]) == {"2 seeds or more"}


def test_missing_rules_are_caught_in_the_committed_runs_of_our_gpt():
    """SP has no rule at all; the others are right along width."""
    runs = load_results(COMMITTED_RESULTS / "lr_width.parquet").runs
    found = verdicts(checked_axes(runs)).set_index("label")["verdict"]
    assert found["SP"] == "fails"
    assert found["Complete(d)P"] == "holds"
    assert "fails" not in set(found.drop("SP"))


def test_the_table_of_the_page_is_that_of_the_committed_runs():
    """Renew: `python docs/results.py`."""
    expected = runpy.run_path(str(ROOT / "docs/results.py"))["llama"]()
    page = (ROOT / "docs" / "transfer_check.md").read_text(encoding="utf-8")
    start, end = "<!-- llama: python docs/results.py -->\n", "<!-- /llama -->"
    assert same_text(page.partition(start)[2].partition(end)[0], expected)


def test_without_two_scales_there_is_nothing_to_check(tmp_path):
    write_sweep(tmp_path, "check", {"sp": drifting(0)}, scales=(64,))
    with pytest.raises(ConfigError, match="no axis with two scales or more"):
        rows(tmp_path)


def test_the_command_ends_with_the_verdicts_and_draws_a_panel_an_axis(tmp_path, capsys):
    write(tmp_path, {"complete_d": drifting(0)})
    arguments = ["transfer_check", "--sweep", "check", "--runs-dir", str(tmp_path)]
    assert importlib.import_module("figures.__main__").main(arguments) == 0
    printed = capsys.readouterr().out
    assert "TRANSFER CHECK of our GPT: holds\n" in printed
    assert "our GPT: Regime: beyond the bigram plateau" in printed
    assert (tmp_path / "check" / "check.png").exists()


def test_the_sweep_has_three_widths_and_two_depths_and_takes_15_minutes_at_most(tmp_path):
    path = ROOT / "sweeps" / "transfer_check.yaml"
    runs = read_sweep(path).runs.values()
    assert len({run.model.width for run in runs}) == 3
    assert len({run.model.depth for run in runs}) == 2
    assert make_plan(read_sweep(path), tmp_path).seconds_left / 2 < 15 * 60
    ours = read_sweep(path, ["model.factory=support.foreign:build", "model.mapping=nanogpt"])
    assert {run.model.factory for run in ours.runs.values()} == {"support.foreign:build"}


@pytest.mark.parametrize(
    ("factory", "axis", "rules", "seen"),
    [
        (foreign.build, "width", "complete_d", set()),
        (foreign.growing_heads, "width", "complete_d", {"attention_logits"}),
        (foreign.plainly_tied, "width", "complete_d", {"logits"}),
        (foreign.scaled_values, "width", "complete_d", {"attention"}),
        (foreign.build, "width", "sp_fan_in", {"residual", "hidden_weight"}),
        (foreign.build, "depth", "mup", {"residual"}),
    ],
)
def test_what_the_coordinate_check_sees_of_broken_implementations(factory, axis, rules, seen):
    sizes = (16, 32, 64) if axis == "width" else (2, 4, 8)
    given = {"sizes": sizes, "seeds": (0, 1), "parameterization": rules}
    report = check_model(factory, "nanogpt", axis, **given)
    failed = {each.quantity for each in report.verdicts if not each.passed}
    assert seen <= failed
    assert bool(seen) != report.passed


@pytest.mark.slow
def test_the_whole_check_of_a_factory_ends_with_a_verdict(tmp_path, capfd):
    """Of runs of eight steps, which decide nothing."""
    settings = ["model.factory=support.foreign:build", "model.mapping=nanogpt"]
    settings += ["train.tokens=8192", "scaling.base_tokens=8192", "train.eval_sequences=8"]
    arguments = [str(ROOT / "sweeps" / "transfer_check.yaml"), "--cluster", "debug"]
    arguments += ["--device", "cpu", "--runs-dir", str(tmp_path)]
    assert launch.main([*arguments, *(part for each in settings for part in ("--set", each))]) == 0
    printed = capfd.readouterr().out
    assert "60 of 60 runs done" in printed
    assert "WARNING, not clearly beyond the bigram plateau" in printed
    assert "TRANSFER CHECK of support.foreign:build: " in printed
    assert (tmp_path / "transfer_check" / "transfer_check.png").exists()
