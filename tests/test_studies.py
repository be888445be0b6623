"""Studies and tables on runs that were never trained, finished or not."""

import json

import pandas as pd
import pytest
from support.synthetic_sweep import drifting, write_run, write_sweep

from analysis.arms import arms_of
from analysis.load import load_sweep, save_results
from analysis.loss_vs_tokens import duration_laws
from analysis.studies import STUDIES
from analysis.tables import main
from paper_repro.config import RunConfig
from paper_repro.errors import ConfigError


def width_runs(tmp_path, *arms):
    write_sweep(tmp_path, "s", {arm: drifting(0) for arm in arms}, scales=(64, 128), seeds=2)
    return load_sweep(tmp_path, "s")


def test_a_figure_has_the_panels_and_then_what_else_was_trained(tmp_path):
    runs = STUDIES["lr_width"].figure_runs(width_runs(tmp_path, "complete_d", "sp_fan_in"))
    assert list(arms_of(runs)) == ["sp_fan_in", "complete_d"]


def test_a_study_with_other_conditions_shows_its_panels_alone(tmp_path):
    for schedule, rule in (("cosine", []), ("wsd", [])):
        config = {"train": {"schedule": schedule}, "scaling": {"sde_rule": rule}}
        write_run(tmp_path, "s", RunConfig.model_validate(config), 1.5)
    runs = STUDIES["lr_duration"].figure_runs(load_sweep(tmp_path, "s"))
    assert set(runs["train.schedule"]) == {"cosine"}


def test_no_run_of_the_panels_is_told(tmp_path):
    write_run(tmp_path, "s", RunConfig.model_validate({"train": {"schedule": "wsd"}}), 1.5)
    with pytest.raises(ConfigError, match=r"lr_duration: no run of complete_d.*; there are.*wsd"):
        STUDIES["lr_duration"].figure_runs(load_sweep(tmp_path, "s"))


def test_laws_of_a_sweep_whose_tuned_arm_is_missing(tmp_path):
    config = {"train": {"tokens": 409_600}, "scaling": {"sde_rule": ["lr", "eps"]}}
    frame = load_sweep(tmp_path, write_one(tmp_path, config))
    rule = json.dumps(["lr", "weight_decay", "eps", "one_minus_beta1", "one_minus_beta2"])
    with pytest.raises(ConfigError, match="no run of complete_d:none yet"):
        duration_laws(frame.assign(**{"scaling.sde_rule": rule}))


def write_one(tmp_path, config):
    write_run(tmp_path, "s", RunConfig.model_validate(config), 1.5)
    return "s"


def test_tables_of_the_results_there_are(tmp_path, capsys):
    save_results(width_runs(tmp_path, "sp", "complete_d"), tmp_path / "lr_width.parquet")
    assert main(["--results-dir", str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "transfer_table.csv")
    assert set(table["axis"]) == {"width"}
    assert {"sp", "complete_d", "complete_d_alpha_0.5"} <= set(table["parameterization"])
    assert not (tmp_path / "loss_laws.csv").exists()


def test_no_results_are_one_line(tmp_path, capsys):
    assert main(["--results-dir", str(tmp_path)]) == 2
    assert "no results there" in capsys.readouterr().err
