"""What cannot be compared is refused or named: another text or precision, an edited record."""

from __future__ import annotations

import io
import os
import sys
from contextlib import redirect_stderr
from pathlib import Path

import pandas as pd
import pytest
from support.synthetic_sweep import run_config, write_run
from support.tiny_sweep import launch_here, sweep_file

from analysis.load import COMMITTED_RESULTS, load_results, load_sweep
from analysis.studies import STUDIES
from figures import check
from paper_repro.config import RunConfig
from paper_repro.records import Record
from paper_repro.records.comparable import Training, differences


@pytest.fixture(scope="module")
def changed_text(tmp_path_factory) -> Path:
    """A folder with a sweep that was trained on a text that has changed since."""
    folder = tmp_path_factory.mktemp("changed")
    path = sweep_file(folder, [0], 10)
    path.write_text(
        path.read_text().replace("corpus: synthetic", f"corpus: 'files:{folder}/*.txt'")
    )
    for number in range(20):
        (folder / f"{number}.txt").write_text(f"apples and pears {number}. " * 80)
    assert launch_here(path, folder / "runs") == 0
    for number in range(20):
        (folder / f"{number}.txt").write_text(f"quite another text {number}. " * 80)
    return folder


def test_runs_on_another_text_are_refused_before_they_are_trained(changed_text, capsys):
    path, records = changed_text / "tiny.yaml", changed_text / "runs" / "tiny"
    path.write_text(path.read_text().replace("seed: [0]", "seed: [1]"))
    before = sorted(records.glob("d1-*"))
    assert launch_here(path, changed_text / "runs") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "is another text by now: 1 runs" in error
    assert sorted(records.glob("d1-*")) == before
    path.write_text(path.read_text().replace("seed: [1]", "seed: [0]"))


def test_a_complete_sweep_whose_text_has_changed_says_so(changed_text, capsys):
    assert launch_here(changed_text / "tiny.yaml", changed_text / "runs") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "is not one text" in out
    assert "Nothing to do" in out


def test_a_run_that_another_sweep_has_on_another_text_is_not_copied(changed_text, capsys):
    path = changed_text / "other.yaml"
    path.write_text((changed_text / "tiny.yaml").read_text().replace("tiny", "other"))
    assert launch_here(path, changed_text / "runs") == 0
    assert "records copied" not in capsys.readouterr().out
    (old,), (new,) = ((changed_text / "runs" / name).glob("d1-*") for name in ("tiny", "other"))
    assert old.name == new.name
    hashes = {Record(record).run_info().data.corpus_hash for record in (old, new)}
    assert len(hashes) == 2


def test_another_precision_is_named_at_launch_and_in_the_analysis(tmp_path, capsys, caplog):
    runs_dir = tmp_path / "runs"
    assert launch_here(sweep_file(tmp_path, [0], 10), runs_dir) == 0
    path = sweep_file(tmp_path, [1], 10)
    assert launch_here(path, runs_dir, "--dtype", "bfloat16", "--dry-run") == 0
    assert "the precision differs: 1 runs of float32; 1 runs of bfloat16" in " ".join(
        capsys.readouterr().out.split()
    )
    assert launch_here(path, runs_dir, "--dtype", "bfloat16") == 0
    frame = load_sweep(runs_dir, "tiny").runs
    assert sorted(frame["dtype"]) == ["bfloat16", "float32"]
    assert "not comparable: the precision differs" in caplog.text


def test_a_run_of_two_precisions_is_named(tmp_path, caplog):
    config = run_config("sp", 64, -6, 0)
    write_run(tmp_path, "s", config, 1.5)
    record = Record(tmp_path / "s" / config.run_id)
    info = record.run_info()
    ways = {"execution": {"dtype": "bfloat16"}, "earlier_execution": [{"dtype": "float32"}]}
    record.write_run_info(info.model_copy(update=ways))
    assert list(load_sweep(tmp_path, "s").runs["dtype"]) == ["float32, bfloat16"]
    assert "the precision differs: 1 runs of float32, bfloat16" in caplog.text


def test_texts_are_compared_where_they_should_be_one():
    one = Training("sotu", "bytes", 0.1, "a", "float32")
    assert differences([one, one._replace(tokenizer="bpe:512", corpus_hash="b")]) == []
    assert differences([one, one._replace(dtype=None, corpus_hash=None)]) == []
    (line,) = differences([one, one, one._replace(corpus_hash="b")])
    assert line == "corpus sotu (bytes) is not one text: 2 runs of a; 1 runs of b"


@pytest.mark.parametrize("sweep", {study.sweep: None for study in STUDIES.values()})
def test_the_committed_results_can_be_compared(sweep, caplog):
    if not (path := COMMITTED_RESULTS / f"{sweep}.parquet").exists():
        pytest.skip("no results yet")
    load_results(path)
    assert caplog.text == ""


def test_an_edited_record_is_refused_atlaunch_here(tmp_path, capsys):
    path, runs_dir = sweep_file(tmp_path, [0], 10), tmp_path / "runs"
    assert launch_here(path, runs_dir) == 0
    (config,) = (runs_dir / "tiny").glob("*/config.yaml")
    os.utime(config)  # looked at and saved: newer, and the same
    assert launch_here(path, runs_dir) == 0
    config.write_text(config.read_text().replace("seed: 0", "seed: 5"))
    assert launch_here(path, runs_dir) == 2
    assert f"{config}: was changed" in capsys.readouterr().err


def test_the_figure_of_a_launch_is_of_its_own_runs(tmp_path, capfd):
    """And of further seeds of them; records of another definition of the sweep lie beside."""
    runs_dir = tmp_path / "runs"
    path = sweep_file(tmp_path, [0, 1], 20)
    path.write_text(path.read_text() + "figure: lr_width\n")
    for overrides in (["--set", "hyperparameters.eps=1e-6"], []):
        assert launch_here(path, runs_dir, *overrides) == 0
    frame = pd.read_parquet(runs_dir / "tiny" / "tiny.parquet")
    assert frame["hyperparameters.eps"].tolist() == [1e-8, 1e-8]
    assert "could not be drawn" not in capfd.readouterr().out


def test_runs_are_chosen_by_id_and_further_seeds_of_them_too(tmp_path):
    kept = [run_config("sp", 64, -6, seed) for seed in (0, 1)]
    for config in (*kept, run_config("sp", 64, -5, 0), run_config("sp", 128, -6, 0)):
        write_run(tmp_path, "s", config, 1.5)
    results = load_sweep(tmp_path, "s", {kept[0].run_id})
    assert set(results.runs["run_id"]) == {config.run_id for config in kept}
    assert set(results.curves["run_id"]) == {config.run_id for config in kept}


def _check_figure(name: str, *configs: RunConfig) -> str:
    """What `figures.check` says of planned runs; empty if they can be drawn."""
    lines = "\n".join(config.model_dump_json() for config in configs)
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(io.StringIO()) as said:
        patch.setattr(sys, "stdin", io.StringIO(lines))
        assert check.main([name]) == (2 if said.getvalue() else 0)
    return said.getvalue()


def test_a_figure_is_checked_before_the_training():
    """Its name, its axis and its arms; and that one sweep is enough for it."""
    along_width = [run_config("sp", width, -6, 0) for width in (32, 64)]
    assert _check_figure("lr_width", *along_width) == ""
    assert "differ in model.width" in _check_figure("lr_depth", *along_width)
    assert "no run of" in _check_figure("lr_duration", run_config("mup", 32, -6, 0))
    assert "several train.tokens" in _check_figure("loss_vs_tokens", *along_width)
    assert "not of one sweep" in _check_figure("verdicts", *along_width)
    assert "no figure 'lr_width.x'" in _check_figure("lr_width.x")


def test_a_head_size_that_grows_with_the_width_is_named(tmp_path, capsys):
    path = sweep_file(tmp_path, [0], 10)
    grow = "zip:\n  model.width: [16, 32]\n  model.head_dim: [8, 16]\n"
    path.write_text(path.read_text() + grow)
    assert launch_here(path, tmp_path / "runs", "--dry-run") == 0
    assert "fixed head size" in " ".join(capsys.readouterr().out.split())
    path.write_text(path.read_text().replace("[8, 16]", "[8, 8]"))
    assert launch_here(path, tmp_path / "runs", "--dry-run") == 0
    assert "fixed head size" not in " ".join(capsys.readouterr().out.split())
