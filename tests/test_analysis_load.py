import math
from pathlib import Path

import pytest
from support.synthetic_sweep import drifting, run_config, write_run, write_sweep

import analysis
from analysis.load import load_curves, load_results, load_sweep, save_results
from paper_repro.config import HyperparameterConfig, RunConfig
from paper_repro.errors import ConfigError
from paper_repro.records import Status, record_of


def test_a_row_has_config_outcome_and_data(tmp_path):
    config = RunConfig(
        hyperparameters=HyperparameterConfig(lr=2**-7, module_multipliers={"query": {"lr": 2.0}}),
        seed=3,
    )
    write_run(tmp_path, "s", config, 1.5)
    (row,) = load_sweep(tmp_path, "s").to_dict("records")
    assert row["run_id"] == config.run_id
    assert row["sweep"] == "s"
    assert row["model.width"] == 64
    assert row["scaling.parameterization"] == "complete_d"
    assert row["hyperparameters.lr"] == 2**-7
    assert row["hyperparameters.init_std.embedding"] == config.hyperparameters.init_std.embedding
    assert row["hyperparameters.module_multipliers"] == '{"query": {"lr": 2.0}}'
    assert row["seed"] == 3
    assert (row["status"], row["val_loss"], row["tokens_per_second"]) == ("done", 1.5, 9e4)
    assert (row["bigram_entropy"], row["corpus_hash"]) == (2.37, "0123456789ab")
    assert (row["device"], row["git_revision"]) == ("cpu", "abcdef0")


def test_diverged_is_infinite_failed_is_unknown_and_unfinished_is_absent(tmp_path):
    write_run(tmp_path, "s", run_config("sp", 64, -6, 0), 1.5)
    write_run(tmp_path, "s", run_config("sp", 64, -3, 0), math.inf)
    write_run(tmp_path, "s", run_config("sp", 64, -4, 0), 1.5, status="failed")
    unfinished = run_config("sp", 64, -5, 0)
    record_of(tmp_path, "s", unfinished).create(unfinished)
    frame = load_sweep(tmp_path, "s").set_index("status")
    assert sorted(frame.index) == ["diverged", "done", "failed"]
    assert math.isinf(frame.loc["diverged", "val_loss"])
    assert math.isnan(frame.loc["failed", "val_loss"])


def test_a_run_that_failed_before_its_first_step_has_a_loss_column_too(tmp_path):
    config = run_config("sp", 64, -6, 0)
    record = record_of(tmp_path, "s", config)
    record.create(config)
    record.finish(Status(status="failed", error="RuntimeError: no memory"))
    assert load_sweep(tmp_path, "s")["val_loss"].isna().tolist() == [True]


def test_curves_are_long(tmp_path):
    config = run_config("sp", 64, -6, 0)
    write_run(tmp_path, "s", config, 1.5)
    curves = load_curves(tmp_path, "s")
    assert curves["run_id"].tolist() == [config.run_id] * 2
    assert curves["step"].tolist() == [200, 400]
    assert curves["val_loss"].tolist() == [2.1, 2.1]


def test_parquet_keeps_everything(tmp_path):
    write_sweep(tmp_path, "s", {"sp": drifting(0)}, scales=(64,), cliff=-4)
    frame = load_sweep(tmp_path, "s")
    save_results(frame, tmp_path / "results" / "s.parquet")
    again = load_results(tmp_path / "results" / "s.parquet")
    assert again.to_dict("records")[0]["hyperparameters.lr"] == frame["hyperparameters.lr"][0]
    assert again.columns.tolist() == frame.columns.tolist()
    assert again["val_loss"].tolist() == frame["val_loss"].tolist()
    assert math.isinf(again["val_loss"].max())


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
    record_of(tmp_path, "s", config).config_path.write_text("model: {width: 64")
    with pytest.raises(ConfigError, match=r"config\.yaml: not valid YAML"):
        load_sweep(tmp_path, "s")


def test_the_log_of_a_failed_run_is_no_result(tmp_path):
    config = run_config("sp", 64, -6, 0)
    write_run(tmp_path, "s", config, 1.5)
    record_of(tmp_path, "s", config).finish(
        Status(status="failed", error="bad", log="/scratch/7_0_log.err")
    )
    assert "log" not in load_sweep(tmp_path, "s").columns


def test_every_column_is_in_the_data_dictionary(tmp_path):
    write_run(tmp_path, "s", run_config("sp", 64, -6, 0), 1.5)
    columns = load_sweep(tmp_path, "s").columns
    dictionary = (Path(analysis.__file__).parent / "results" / "README.md").read_text("utf-8")
    assert [name for name in columns if f"| `{name}` |" not in dictionary] == []
