"""Records and results of earlier ids: recognised, carried over, and never trained again."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from support.runs import small_config, train

from analysis.load import load_sweep
from paper_repro.errors import ConfigError
from paper_repro.records import Record
from paper_repro.records.lease import take_lease
from paper_repro.records.migrate import check_ids, is_current, main, old_records

OLD_ID = "1c2d8d61cd71"


@pytest.fixture
def runs_dir(tmp_path):
    """A sweep of an unfinished run of an earlier id and a finished one of today's."""
    for seed, stop_after in ((0, 6), (1, 10**9)):
        config = small_config(seed=seed)
        train(config, tmp_path / "s" / config.run_id, stop_after=stop_after)
    (tmp_path / "s" / small_config().run_id).rename(tmp_path / "s" / OLD_ID)
    return tmp_path


def test_ids_are_known_by_their_form():
    assert is_current(small_config().run_id)
    assert not any(map(is_current, (OLD_ID, f"d0-{OLD_ID}", "jobs", "d1-code")))


def test_old_records_are_refused_by_name(runs_dir):
    assert old_records(runs_dir / "s") == [runs_dir / "s" / OLD_ID]
    with pytest.raises(ConfigError, match=rf"1 records .* {OLD_ID}; .*records\.migrate {runs_dir}"):
        check_ids(runs_dir / "s")
    check_ids(runs_dir / "nothing here")


def test_a_record_is_carried_over_and_goes_on(runs_dir, tmp_path):
    whole = train(small_config(), tmp_path / "whole")
    assert main([str(runs_dir)]) == 0
    check_ids(runs_dir / "s")
    record = Record(runs_dir / "s" / small_config().run_id)
    assert record.checkpoint_path.exists()
    train(small_config(), record.directory)
    assert record.metrics_path.read_bytes() == whole.metrics_path.read_bytes()
    assert main([str(runs_dir)]) == 0  # nothing left to do


def test_what_cannot_be_carried_over_is_named_and_the_rest_is(runs_dir, capsys):
    other = runs_dir / "s" / "0123456789ab"
    other.mkdir()
    (other / "config.yaml").write_text("model: {widht: 3}\n")
    assert main([str(runs_dir)]) == 2
    assert f"{other / 'config.yaml'}: model.widht: unknown key" in capsys.readouterr().err
    assert old_records(runs_dir / "s") == [other]


def test_a_run_in_training_and_a_name_that_is_taken_stay(runs_dir, capsys):
    lease = take_lease(runs_dir / "s" / OLD_ID)
    assert main([str(runs_dir)]) == 2
    assert "a worker trains it" in capsys.readouterr().err
    lease.release()
    Record(runs_dir / "s" / small_config().run_id).create(small_config())
    assert main([str(runs_dir)]) == 2
    assert "is there too" in capsys.readouterr().err
    assert (runs_dir / "s" / OLD_ID).is_dir()


def test_results_get_todays_ids_and_their_configs(runs_dir, tmp_path):
    path = tmp_path / "s.parquet"
    (runs_dir / "s" / OLD_ID).rename(tmp_path / OLD_ID)
    rows = load_sweep(runs_dir, "s").runs
    old = rows.drop(columns="config", errors="ignore").assign(run_id=OLD_ID)
    old["train.clip"] = float("nan")  # as Parquet has a column of None
    old.drop(columns="model.qk_norm").to_parquet(path)  # a field that was not there yet
    assert main([str(path)]) == 0
    (row,) = pd.read_parquet(path).to_dict("records")
    assert row["run_id"] == small_config(seed=1).run_id
    assert json.loads(row["config"]) == small_config(seed=1).model_dump(mode="json")
    before = path.read_bytes()
    assert main([str(path)]) == 0
    assert path.read_bytes() == before
    (tmp_path / "no.parquet").write_text("no")
    assert main([str(tmp_path / "no.parquet")]) == 2


def test_the_trials_of_a_search_follow_their_runs(runs_dir, tmp_path):
    """In the rounds beside records, and in the tables beside results."""
    new = small_config().run_id
    rounds = runs_dir / "s" / "search" / "gp-0"
    rounds.mkdir(parents=True)
    trial = {"octaves": {}, "repeat": 0, "runs": [OLD_ID]}
    trials = {"search": {"base": OLD_ID}, "trials": [trial]}
    (rounds / "0001.json").write_text(json.dumps(trials))
    assert main([str(runs_dir)]) == 0
    assert json.loads((rounds / "0001.json").read_text()) == {
        "search": {"base": new},
        "trials": [{**trial, "runs": [new]}],
    }

    path, old = tmp_path / "s.parquet", "d0-0123456789ab"
    rows = load_sweep(runs_dir, "s").runs
    current = rows["run_id"].item()
    rows.assign(run_id=old).drop(columns="config").to_parquet(path)
    texts = {"runs": f'["{old}"]', "definition": f'{{"base": "{old}"}}'}
    pd.DataFrame([texts]).to_parquet(tmp_path / "s_trials.parquet")
    pd.DataFrame({"run_id": [old], "step": [1]}).to_parquet(tmp_path / "s_curves.parquet")
    rows.assign(run_id=old).to_parquet(tmp_path / "s_gpu.parquet")  # results of their own
    assert main([str(path)]) == 0
    (trial,) = pd.read_parquet(tmp_path / "s_trials.parquet").to_dict("records")
    assert trial == {"runs": f'["{current}"]', "definition": f'{{"base": "{current}"}}'}
    assert pd.read_parquet(tmp_path / "s_curves.parquet")["run_id"].tolist() == [current]
    assert pd.read_parquet(tmp_path / "s_gpu.parquet")["run_id"].tolist() == [old]
