"""Reading the public runs, the command, and whether the committed tables come again.

What needs the runs themselves is skipped where they are not: PUBLIC_RUNS names the folder with the
clones, by default `public_runs` here or `shared/public_runs` beside the repository.
"""

import importlib
import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.numbers import assert_same_numbers
from support.public_grid import ABOVE, BELOW, grid

from analysis.load import COMMITTED_RESULTS as RESULTS
from analysis.public_runs.along import read_ends, whole_table
from analysis.public_runs.cells import fit_cells
from analysis.public_runs.regimes import Grid, fitted_exponents, with_intervals
from analysis.public_runs.schedules import decay_gains, fit_schedules
from analysis.public_runs.sources import (
    LR_SCHEDULING,
    MULTI_POWER,
    SOURCES,
    STEP_LAW,
    STEP_LAW_SEQUENCE,
    read_curves,
    read_dense,
    read_moe,
    read_schedules,
)
from analysis.public_runs.tables import cells_table, schedules_table
from analysis.report import format_interval
from analysis.tables import read_table
from figures.public_runs import collapsed
from paper_repro.errors import ConfigError

command = importlib.import_module("analysis.public_runs.__main__")

TABLES = (
    *("exponents", "cells", "regret", "laws", "schedules", "gains"),
    *("along", "along_curves"),
)


@pytest.fixture
def clone(tmp_path):
    """A clone of Step Law with the synthetic grid in both of its files."""
    names = {"size": "N", "width": "h", "depth": "numl", "tokens": "D", "loss": "smooth loss"}
    runs = grid()
    runs = runs[runs["model"] != "2^29"].rename(columns=names)
    runs["bs"] = runs["batch"] / STEP_LAW_SEQUENCE
    folder = tmp_path / "steplaw" / "data"
    folder.mkdir(parents=True)
    runs.to_csv(folder / "dense_lr_bs_loss.csv")
    runs.rename(columns={"N": "Na", "model": "moe_name"}).to_csv(folder / "moe_lr_bs_loss.csv")
    return tmp_path / "steplaw"


def test_json_has_an_interval_for_every_exponent(clone, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path / "steplaw")  # no public_runs/ there
    monkeypatch.setattr(importlib.import_module("analysis.public_runs.regret"), "_RESAMPLES", 50)
    monkeypatch.setattr(
        importlib.import_module("analysis.public_runs.tables"),
        "with_intervals",
        lambda grid, estimate: with_intervals(grid, estimate, resamples=40),
    )
    assert command.main(["--steplaw", str(clone), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"steplaw", "steplaw_moe"}
    for regime, truth in (("below", BELOW), ("above", ABOVE)):
        for name in ("batch", "tokens"):
            value, low, high = found["steplaw"][regime][name]
            assert low < value < high
            assert value == pytest.approx(truth[name], abs=0.06)
    assert found["steplaw"]["authors_boundary"]["below"]["batch"][0] > 0.5
    assert found["steplaw"]["cells"] >= found["steplaw"]["bracketed"] > 60
    assert set(found["steplaw"]["regret"]["any"]) == {"none", "√(B/D)", "D^−0.3", "fitted"}


def test_without_the_folders_one_line_says_how_to_get_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for arguments in ([], ["--json"], ["--commit"], ["--steplaw", "public_runs/steplaw"]):
        assert command.main(arguments) == 2
        stderr = capsys.readouterr().err
        assert stderr.count("\n") == 1
        assert "git clone https://github.com/step-law/steplaw public_runs/steplaw" in stderr
    assert command.main(["--multi-power", "nowhere"]) == 2
    assert "error: nowhere/loss_curve_repo: no such folder" in capsys.readouterr().err


def test_files_that_are_not_the_runs_are_named(clone, tmp_path):
    path = clone / "data" / "dense_lr_bs_loss.csv"
    good = pd.read_csv(path)
    for bad, message in (
        (good.drop(columns="smooth loss"), "dense_lr_bs_loss.csv: no column smooth loss"),
        (good.assign(D="many"), "dense_lr_bs_loss.csv: D: expected numbers"),
        (good.assign(lr=0.0), "expected a value above 0"),
    ):
        bad.to_csv(path)
        with pytest.raises(ConfigError, match=message):
            read_dense(clone)
    path.unlink()
    with pytest.raises(ConfigError, match=r"dense_lr_bs_loss.csv: cannot be read"):
        read_dense(clone)
    folder = tmp_path / "lr-scheduling" / "data"
    folder.mkdir(parents=True)
    with pytest.raises(ConfigError, match="no runs there"):
        read_schedules(folder.parent)
    (folder / "cut.json").write_text('{"config": {"iterations": 10}', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"cut\.json: not a run of fabian-sp/lr-scheduling"):
        read_schedules(folder.parent)
    (tmp_path / "loss_curve_repo").mkdir()
    with pytest.raises(ConfigError, match="no curves there"):
        read_curves(tmp_path)


def clones() -> dict[str, Path] | None:
    """The clones by the option that names them; None where they are not."""
    root = Path(__file__).parent.parent
    places = (root / "public_runs", root.parent / "shared" / "public_runs")
    named = os.environ.get("PUBLIC_RUNS")
    for place in (Path(named),) if named else places:
        found = {source.option: place / source.default.name for source in SOURCES}
        if all((found[source.option] / source.data).is_dir() for source in SOURCES):
            return found
    return None


CLONES = clones()
needs_clones = pytest.mark.skipif(
    CLONES is None,
    reason="no public runs: clone them into public_runs/ (python -m analysis.public_runs --help) "
    "or name their folder in PUBLIC_RUNS",
)


def test_the_intervals_of_the_page_are_those_of_the_tables():
    """Every `value [low, high]` below its results, as rounded from the CSV files."""
    known = set()
    ours = [read_table(RESULTS, name) for name in ("duration_exponents", "transfer_table")]
    ours[0] = ours[0].assign(t=-ours[0]["gamma"], t_low=-ours[0]["gamma_high"])
    ours[0]["t_high"] = -ours[0]["gamma_low"]
    for table in (*map(committed, TABLES[:1] + TABLES[2:5]), *ours):
        for name in [name for name in table if f"{name}_low" in table]:
            for digits in (2, 3, 4):
                known |= {format_interval(row, name, digits) for _, row in table.iterrows()}
    page = (Path(__file__).parent.parent / "docs/public_runs.md").read_text(encoding="utf-8")
    results = page.partition("## What they say")[2].partition("## What was decided")[0]
    quoted = re.findall(r"−?\d+\.\d+ \[−?\d+\.\d+, −?\d+\.\d+\]", " ".join(results.split()))
    assert len(quoted) > 100
    assert [interval for interval in quoted if interval not in known] == []


def test_the_intervals_of_the_page_on_laws_along_a_schedule_are_those_of_the_tables():
    known = set()
    names = ("schedule_laws", "schedule_divergence", "annealings")
    ours = [read_table(RESULTS, name) for name in names]
    for table in (committed("along"), committed("along_curves"), *ours):
        for name in [name for name in table if f"{name}_low" in table]:
            for digits in (2, 3, 4):
                known |= {format_interval(row, name, digits) for _, row in table.iterrows()}
    page = (Path(__file__).parent.parent / "docs/schedule_laws.md").read_text(encoding="utf-8")
    results = page.partition("## Results on the runs of others")[2]
    quoted = re.findall(r"−?\d+\.\d+ \[−?\d+\.\d+, −?\d+\.\d+\]", " ".join(results.split()))
    assert len(quoted) > 100
    assert [interval for interval in quoted if interval not in known] == []


def committed(name):
    return read_table(RESULTS, f"public_runs_{name}")


@needs_clones
def test_the_committed_optima_are_those_of_the_runs():
    clone = CLONES[STEP_LAW.option]
    for data, runs in (("steplaw", read_dense(clone)), ("steplaw_moe", read_moe(clone))):
        found = fit_cells(runs)
        table = committed("cells")
        table = table[table["data"] == data].reset_index(drop=True)
        kept = table.drop(columns=["data", "source", "date"])
        assert_same_numbers(kept, cells_table(found))
        values = fitted_exponents(Grid.of(found))
        rows = committed("exponents")
        rows = rows[(rows["data"] == data) & (rows["boundary"] == "fitted")]
        for _, row in rows.iterrows():
            name = f"{row['regime']}.{row['quantity']}"
            if name in values:
                assert values[name] == pytest.approx(row["value"], abs=1e-4)


@needs_clones
def test_the_committed_exponents_of_schedules_are_those_of_the_runs():
    found = schedules_table(fit_schedules(read_schedules(CLONES[LR_SCHEDULING.option])))
    assert_same_numbers(committed("schedules").drop(columns=["source", "date"]), found)
    gained = decay_gains(read_curves(CLONES[MULTI_POWER.option]))
    kept = committed("gains").drop(columns=["source", "date"])
    assert_same_numbers(kept.astype({"model": str}), gained)


@needs_clones
def test_the_runs_that_laws_along_a_schedule_are_held_against():
    ends = read_ends(read_schedules(CLONES[LR_SCHEDULING.option]))
    assert len(ends) == 126
    assert [(each.name, each.steps) for each in ends if each.diverged] == [
        ("cosine to 0 1 0.005", 50_000)
    ]
    assert {each.family for each in ends} == {
        *("cosine to 0", "cosine to 0.1"),
        *("wsd linear", "wsd sqrt"),
    }
    whole = whole_table(read_curves(CLONES[MULTI_POWER.option]))
    kept = committed("along_curves").drop(columns=["source", "date"])
    assert_same_numbers(kept, whole)


@needs_clones
@pytest.mark.slow
def test_all_committed_tables_are_those_of_the_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "COMMITTED_RESULTS", tmp_path)
    options = [text for name, path in CLONES.items() for text in (f"--{name}", str(path))]
    assert command.main([*options, "--commit", "--json"]) == 0
    for name in TABLES:
        made = read_table(tmp_path, f"public_runs_{name}").drop(columns="date")
        assert_same_numbers(committed(name).drop(columns="date"), made)


def test_every_committed_number_has_its_source_and_date():
    for name in TABLES:
        table = committed(name)
        assert table["source"].isin([source.url for source in SOURCES]).all()
        assert pd.to_datetime(table["date"]).notna().all()
        assert not {"loss", "lr"} & set(table)


def test_the_optima_in_the_figure_lie_on_its_line():
    """Below the boundary they rise with the exponent that is committed, above they stay."""
    points = collapsed(committed("exponents"), committed("cells"))
    rows = committed("exponents").set_index(["data", "boundary", "regime", "quantity"])["value"]
    bend = rows["steplaw", "fitted", "bend", "batch"]
    line = bend * np.minimum(points["octaves"], 0)
    assert (points["rate"] - line).std() < 0.25
    assert (points["rate"] - line).mean() == pytest.approx(0, abs=0.02)
