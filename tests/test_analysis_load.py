import math
import shutil

import pandas as pd
import pytest
from support.synthetic_sweep import drifting, run_config, write_run, write_sweep

from analysis import dictionary
from analysis.arms import ARM_COLUMNS
from analysis.load import COMMITTED_RESULTS, curves_path, load_results, load_sweep, save_results
from paper_repro.config import HyperparameterConfig, RunConfig
from paper_repro.errors import ConfigError
from paper_repro.records import Record, Status


def test_a_row_has_config_outcome_and_data(tmp_path):
    config = RunConfig(
        hyperparameters=HyperparameterConfig(lr=2**-7, module_multipliers={"query": {"lr": 2.0}}),
        seed=3,
    )
    write_run(tmp_path, "s", config, 1.5)
    (row,) = load_sweep(tmp_path, "s").runs.to_dict("records")
    assert row["run_id"] == config.run_id
    assert row["sweep"] == "s"
    assert row["model.width"] == 64
    assert row["scaling.parameterization"] == "complete_d"
    assert row["hyperparameters.lr"] == 2**-7
    assert row["hyperparameters.init_std.embedding"] == config.hyperparameters.init_std.embedding
    assert row["hyperparameters.module_multipliers"] == '{"query": {"lr": 2.0}}'
    assert row["seed"] == 3
    assert RunConfig.model_validate_json(row["config"]) == config
    assert (row["parameterization"], row["alpha"], row["sde_rule"]) == ("complete_d", 1.0, "all")
    assert (row["schedule"], row["qk_norm"], row["eps"]) == ("cosine", True, 1e-8)
    assert (row["status"], row["val_loss"], row["tokens_per_second"]) == ("done", 1.5, 9e4)
    assert (row["bigram_entropy"], row["corpus_hash"]) == (2.37, "0123456789ab")
    assert (row["device"], row["git_revision"]) == ("cpu", "abcdef0")


def test_diverged_is_infinite_failed_is_unknown_and_unfinished_is_absent(tmp_path):
    write_run(tmp_path, "s", run_config("sp", 64, -6, 0), 1.5)
    write_run(tmp_path, "s", run_config("sp", 64, -3, 0), math.inf)
    write_run(tmp_path, "s", run_config("sp", 64, -4, 0), 1.5, status="failed")
    unfinished = run_config("sp", 64, -5, 0)
    Record(tmp_path / "s" / unfinished.run_id).create(unfinished)
    frame = load_sweep(tmp_path, "s").runs.set_index("status")
    assert sorted(frame.index) == ["diverged", "done", "failed"]
    assert math.isinf(frame.loc["diverged", "val_loss"])
    assert math.isnan(frame.loc["failed", "val_loss"])


def test_a_run_that_failed_before_its_first_step_has_a_loss_column_too(tmp_path):
    config = run_config("sp", 64, -6, 0)
    record = Record(tmp_path / "s" / config.run_id)
    record.create(config)
    record.finish(Status(status="failed", error="RuntimeError: no memory"))
    assert load_sweep(tmp_path, "s").runs["val_loss"].isna().tolist() == [True]


def test_curves_are_long_and_kept_where_they_are_wanted(tmp_path):
    config = run_config("sp", 64, -6, 0)
    write_run(tmp_path, "s", config, 1.5)
    results = load_sweep(tmp_path, "s")
    curves = results.curves
    assert curves["run_id"].tolist() == [config.run_id] * 2
    assert curves["step"].tolist() == [200, 400]
    assert curves["val_loss"].tolist() == [2.1, 2.1]
    path = tmp_path / "results" / "s.parquet"
    save_results(results, path)
    assert load_results(path).curves.empty
    assert load_results(path).curves.columns.tolist() == curves.columns.tolist()
    save_results(results, path, curves=True)
    pd.testing.assert_frame_equal(load_results(path).curves, curves)
    write_run(tmp_path, "s", run_config("sp", 64, -5, 0), 1.5)
    save_results(load_sweep(tmp_path, "s"), path)  # curves of other runs would be left behind
    assert pd.read_parquet(curves_path(path))["run_id"].nunique() == 2


def test_parquet_keeps_everything(tmp_path):
    write_sweep(tmp_path, "s", {"sp": drifting(0)}, scales=(64,), cliff=-4)
    results = load_sweep(tmp_path, "s")
    save_results(results, tmp_path / "results" / "s.parquet")
    again = load_results(tmp_path / "results" / "s.parquet").runs
    pd.testing.assert_frame_equal(again, results.runs, check_exact=True)
    assert math.isinf(again["val_loss"].max())


def test_a_field_newer_than_the_results_has_its_default(tmp_path):
    write_run(tmp_path, "s", RunConfig(), 1.5)
    frame = load_sweep(tmp_path, "s").runs.drop(columns=["model.qk_norm", *ARM_COLUMNS])
    text = frame.loc[0, "config"].replace('"qk_norm":true,', "")
    assert "qk_norm" not in text
    frame.assign(config=text).to_parquet(tmp_path / "s.parquet")
    assert load_results(tmp_path / "s.parquet").runs["model.qk_norm"].tolist() == [True]


def test_results_of_an_earlier_version_are_refused_by_name(tmp_path):
    write_run(tmp_path, "s", RunConfig(), 1.5)
    frame = load_sweep(tmp_path, "s").runs
    path = tmp_path / "s.parquet"
    for old in (frame.drop(columns="config"), frame.assign(run_id="0123456789ab")):
        old.to_parquet(path)
        with pytest.raises(ConfigError, match=rf"records\.migrate {path}"):
            load_results(path)
    frame.assign(config='{"model": {"widht": 3}}').to_parquet(path)
    with pytest.raises(ConfigError, match=r"s\.parquet: d1-\w+: config: model\.widht: unknown key"):
        load_results(path)
    Record(tmp_path / "s" / RunConfig().run_id).directory.rename(tmp_path / "s" / "0123456789ab")
    with pytest.raises(ConfigError, match=rf"records\.migrate {tmp_path}"):
        load_sweep(tmp_path, "s")


def test_missing_and_damaged_inputs_are_one_clear_line(tmp_path):
    with pytest.raises(ConfigError, match="no records of sweep 'nope'"):
        load_sweep(tmp_path, "nope")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no run has an outcome yet"):
        load_sweep(tmp_path, "empty")
    with pytest.raises(ConfigError, match="no such results"):
        load_results(tmp_path / "nope.parquet")
    (tmp_path / "bad.parquet").write_text("not parquet")
    with pytest.raises(ConfigError, match="not a readable Parquet file"):
        load_results(tmp_path / "bad.parquet")
    config = run_config("sp", 64, -6, 0)
    write_run(tmp_path, "s", config, 1.5)
    Record(tmp_path / "s" / config.run_id).config_path.write_text("model: {width: 64")
    with pytest.raises(ConfigError, match=r"config\.yaml.*: not valid YAML"):
        load_sweep(tmp_path, "s")


def test_the_log_of_a_failed_run_is_no_result(tmp_path):
    config = run_config("sp", 64, -6, 0)
    write_run(tmp_path, "s", config, 1.5)
    Record(tmp_path / "s" / config.run_id).finish(
        Status(status="failed", error="bad", log="/scratch/7_0_log.err")
    )
    assert "log" not in load_sweep(tmp_path, "s").runs.columns


def test_every_column_is_in_the_data_dictionary(tmp_path):
    write_run(tmp_path, "s", run_config("sp", 64, -6, 0), 1.5)
    columns = load_sweep(tmp_path, "s").runs.columns.drop(["sweep", "run_id", "config"])
    page = (COMMITTED_RESULTS / "README.md").read_text("utf-8")
    assert [name for name in columns if f"| `{name}` |" not in page] == []


def test_the_data_dictionary_is_that_of_the_models():
    """Renew: `python -m analysis.dictionary`."""
    assert dictionary.main(["--check"]) == 0


def test_a_record_that_is_not_the_run_of_its_id_is_left_out_and_named(tmp_path, caplog):
    configs = [run_config("sp", 64, log2_lr, 0) for log2_lr in (-6, -5)]
    for config in configs:
        write_run(tmp_path, "s", config, 1.5)
    edited, kept = (tmp_path / "s" / config.run_id for config in configs)
    shutil.copytree(kept, tmp_path / "s" / f"{kept.name} (copy)")
    path = edited / "config.yaml"
    path.write_text(path.read_text().replace(f"lr: {2**-6}", "lr: 0.5"))
    assert list(load_sweep(tmp_path, "s").runs["run_id"]) == [kept.name]
    assert f"{edited}: left out" in caplog.text
    assert f"(copy): left out: its config.yaml is of run {kept.name}" in caplog.text
