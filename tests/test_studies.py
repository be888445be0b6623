"""Studies and tables on runs that were never trained, finished or not."""

import pytest
from support.synthetic_sweep import drifting, write_run, write_sweep

from analysis.arms import NO_RULE, Arm, arms_of
from analysis.final_losses import duration_laws
from analysis.load import load_sweep, save_results
from analysis.studies import STUDIES
from analysis.tables import main, markdown, read_table
from paper_repro.config import RunConfig
from paper_repro.errors import ConfigError


def width_results(tmp_path, *arms):
    write_sweep(tmp_path, "s", {arm: drifting(0) for arm in arms}, scales=(64, 128), seeds=2)
    return load_sweep(tmp_path, "s")


def test_a_figure_has_the_panels_and_then_what_else_was_trained(tmp_path):
    runs = STUDIES["lr_width"].figure_runs(width_results(tmp_path, "complete_d", "sp_fan_in").runs)
    assert arms_of(runs) == [Arm("sp_fan_in"), Arm("complete_d")]


def test_a_study_with_other_conditions_shows_its_panels_alone(tmp_path):
    for schedule, rule in (("cosine", []), ("wsd", [])):
        config = {"train": {"schedule": schedule}, "scaling": {"sde_rule": rule}}
        write_run(tmp_path, "s", RunConfig.model_validate(config), 1.5)
    runs = STUDIES["lr_duration"].figure_runs(load_sweep(tmp_path, "s").runs)
    assert set(runs["train.schedule"]) == {"cosine"}


def test_no_run_of_the_panels_is_told(tmp_path):
    write_run(tmp_path, "s", RunConfig.model_validate({"train": {"schedule": "wsd"}}), 1.5)
    with pytest.raises(
        ConfigError, match=r"lr_duration: no run of no SDE rule; .*; there are.*wsd"
    ):
        STUDIES["lr_duration"].figure_runs(load_sweep(tmp_path, "s").runs)


def test_laws_of_a_sweep_whose_tuned_arm_is_missing(tmp_path):
    config = {"train": {"tokens": 409_600}, "scaling": {"sde_rule": ["lr", "eps"]}}
    write_run(tmp_path, "s", RunConfig.model_validate(config), 1.5)
    runs = load_sweep(tmp_path, "s").runs.assign(sde_rule="all")
    with pytest.raises(ConfigError, match=f"no run of '{NO_RULE.label}' yet"):
        duration_laws(runs)


def test_tables_of_the_results_there_are(tmp_path):
    save_results(width_results(tmp_path, "sp", "complete_d"), tmp_path / "lr_width.parquet")
    assert main(["--results-dir", str(tmp_path)]) == 0
    table = read_table(tmp_path, "transfer_table")
    assert set(table["axis"]) == {"width"}
    arms = set(zip(table["parameterization"], table["alpha"], table["sde_rule"], strict=True))
    assert arms == {("sp", 1, "all"), ("complete_d", 1, "all")}
    assert set(table["also"].dropna()) == {"Complete(d)P, α = ½"}
    row = "| lr_width | Complete(d)P | Complete(d)P, α = ½ | 64 … 128 |"
    assert row in markdown(table, "tuned")
    assert "lr_width" not in markdown(table, "first guesses")
    assert not (tmp_path / "loss_laws.csv").exists()


def test_no_results_are_one_line(tmp_path, capsys):
    assert main(["--results-dir", str(tmp_path)]) == 2
    assert "no results there" in capsys.readouterr().err


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"transfer_table\.csv: no such table"):
        read_table(tmp_path, "transfer_table")
