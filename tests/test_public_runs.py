"""Exponents from runs of others: known ones are recovered, and the committed tables come again.

What needs the runs themselves is skipped where they are not: PUBLIC_RUNS names the folder with the
clones, by default `public_runs` here or `shared/public_runs` beside the repository.
"""

import importlib
import json
import math
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.numbers import assert_same_numbers

from analysis.load import COMMITTED_RESULTS as RESULTS
from analysis.public_runs.best_batch import best_batch_exponents, best_batches
from analysis.public_runs.cells import fit_cells
from analysis.public_runs.laws import base_cell, compute, fitted, laws_table
from analysis.public_runs.regimes import (
    Grid,
    TwoPlanes,
    authors_exponents,
    fit_two_planes,
    fitted_exponents,
    gains,
    held_out_errors,
    inflated,
    with_intervals,
)
from analysis.public_runs.regret import FITTED, costs_of, regret_table, shifts, upward_pairs
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
from analysis.public_runs.tables import cells_table, drift_verdict, schedules_table
from analysis.report import format_interval
from analysis.tables import read_table
from figures.public_runs import collapsed
from paper_repro.errors import ConfigError
from paper_repro.statistics import Interval

command = importlib.import_module("analysis.public_runs.__main__")

CURVATURE = 0.02
BELOW = {"batch": 0.75, "tokens": -0.3, "size": -0.5}
ABOVE = {"batch": 0.0, "tokens": 0.25, "size": -0.8}
BEND = 18.5
"""log2 of the batch size at which the planes meet, at 2³⁴ tokens and 2²⁸ parameters."""
TABLES = ("exponents", "cells", "regret", "laws", "schedules", "gains")


def rate(size, tokens, batch, below=BELOW, above=ABOVE):
    """log2 of the best learning rate."""
    at = {"batch": batch - BEND, "tokens": tokens - 34, "size": size - 28}
    return -9 + min(sum(each[name] * at[name] for name in at) for each in (below, above))


def grid(noise=0.002, above=ABOVE, seed=0, best=18.0):
    """Runs with these exponents: least losses where the batch is `best`, a cliff 2.6 octaves up."""
    random = np.random.default_rng(seed)
    rows = []
    for size, tokens in ((s, t) for s in (27, 28, 29) for t in (32, 33, 34, 36)):
        group = 0.03 * random.standard_normal() * (noise > 0)
        for batch in np.arange(15.5, 21.6, 0.75):
            optimum = rate(size, tokens, batch, above=above) + group
            least = 2.5 + 0.01 * (batch - best - 0.6 * (tokens - 34)) ** 2
            for lr in np.arange(-13, -5.5, 0.5):
                z = lr - optimum
                loss = least + CURVATURE * z**2 + 0.002 * z**3 + noise * random.standard_normal()
                shape = (2.0 ** (size / 2 - 3), 8.0)
                numbers = (2.0**size, *shape, 2.0**tokens, 2.0**batch, 2.0**lr)
                rows.append((f"2^{size}", *numbers, loss if z < 2.6 else 6.7))
    names = ["model", "size", "width", "depth", "tokens", "batch", "lr", "loss"]
    return pd.DataFrame(rows, columns=names)


@pytest.fixture(scope="module")
def cells():
    return fit_cells(grid())


def test_the_optimum_of_a_cell_is_found_with_an_interval_that_holds_it():
    runs = grid()
    found = [cell for cell in fit_cells(runs) if cell.curve.bracketed]
    assert len(found) > 0.9 * runs.groupby(["model", "tokens", "batch"]).ngroups
    # The shift of a group is no error of the cell.
    errors = pd.DataFrame(
        {
            "group": [cell.group for cell in found],
            "off": [
                cell.curve.log2 - rate(*np.log2([cell.size, cell.tokens, cell.batch]))
                for cell in found
            ],
            "error": [cell.error for cell in found],
        }
    )
    off = errors["off"] - errors.groupby("group")["off"].transform("mean")
    assert off.abs().median() < 0.1
    assert 0.85 < (off.abs() < 1.96 * errors["error"]).mean() <= 1


def test_runs_far_above_the_least_loss_have_diverged():
    runs = grid(noise=0)
    cell = fit_cells(runs)[0]
    assert np.isposinf(cell.curve.losses).any()
    assert cell.regret(20.0) == 0.5
    assert cell.regret(cell.curve.log2) == 0
    assert cell.regret(cell.curve.log2 - 1) == pytest.approx(CURVATURE - 0.002, abs=0.002)
    twice = pd.concat([runs, runs.iloc[:1]])
    with pytest.raises(ConfigError, match=r"model 2\^27, .* two runs have the same learning rate"):
        fit_cells(twice)


def test_the_exponents_of_both_regimes_and_of_their_boundary_are_recovered(cells):
    found = with_intervals(Grid.of(cells), fitted_exponents, resamples=200)
    for regime, truth in (("below", BELOW), ("above", ABOVE)):
        for name, value in truth.items():
            interval = found[f"{regime}.{name}"]
            assert interval.value == pytest.approx(value, abs=0.06), (regime, name)
            assert interval.low - 0.03 < value < interval.high + 0.03
            assert interval.half_width < 0.15
        together = truth["batch"] + truth["tokens"]
        assert found[f"{regime}.iso_steps"].value == pytest.approx(together, abs=0.06)
    # (−0.3 − 0.25) / −0.75 and (−0.5 + 0.8) / −0.75
    assert found["boundary.tokens"].value == pytest.approx(0.55 / 0.75, abs=0.1)
    assert found["boundary.size"].value == pytest.approx(-0.4, abs=0.15)
    at = BEND + 0.55 / 0.75 * (math.log2(20e9) - 34)
    assert found["boundary.batch"].value == pytest.approx(at, abs=0.3)
    assert found["bend.batch"].low > 0.6


def test_the_authors_boundary_is_another_split_of_the_same_cells(cells):
    one = Grid.of(cells)
    side = one.authors_side
    batch, tokens = (one.design[:, k] + one.centre[k - 1] for k in (3, 2))
    expected = 2**batch <= 0.58 * (2**tokens) ** 0.571
    np.testing.assert_array_equal(side, expected)
    found = authors_exponents(one)
    assert found["below.batch"] == pytest.approx(0.75, abs=0.15)
    assert found["above.batch"] == pytest.approx(0.0, abs=0.15)


def test_two_regimes_predict_left_out_groups_better_where_there_are_two(cells):
    better = gains(held_out_errors(Grid.of(cells)))
    assert better["one plane"].low > 0
    assert better["quadratic"].low > 0


def test_no_boundary_is_claimed_where_there_is_none():
    one = Grid.of(fit_cells(grid(above=BELOW)))
    assert gains(held_out_errors(one))["one plane"].low < 1e-4
    found = fit_two_planes(one)
    np.testing.assert_allclose(found(one.design), one.optima, atol=0.5)


def test_a_grid_without_two_sides_is_one_plane(cells):
    few = Grid.of(cells).take(np.arange(10))
    found = fit_two_planes(few)
    np.testing.assert_array_equal(found.below, found.above)
    assert isinstance(found, TwoPlanes)
    with pytest.raises(ConfigError, match=r"10 of 10 cells .* expected at least 16"):
        Grid.of([cell for cell in cells if cell.curve.bracketed][:10])


def test_intervals_are_wider_where_groups_are_few():
    drawn = np.random.default_rng(0).standard_normal(2000)
    few, many = inflated(0.0, drawn, 4), inflated(0.0, drawn, 400)
    assert many.half_width == pytest.approx(1.96, abs=0.15)
    assert few.half_width > 1.5 * many.half_width
    assert math.isnan(inflated(0.0, drawn, 2).low)


def test_the_best_batch_has_the_exponent_of_its_losses(cells):
    best = best_batches(cells)
    assert best is not None
    found = best_batch_exponents(best)
    assert found["best_batch.tokens"] == pytest.approx(0.6, abs=0.1)
    assert found["best_batch.size"] == pytest.approx(0, abs=0.1)
    expected = 18 + 0.6 * (math.log2(20e9) - 34)
    assert found["best_batch.batch"] == pytest.approx(expected, abs=0.2)


def test_regret_is_what_the_wrong_exponent_costs(cells):
    """Tokens × 4 above the boundary: the optimum rises by ½ octave, √(B/D) lowers the rate by 1."""
    some = [cell for cell in cells if cell.model == "2^28"]
    (pair,) = [
        pair
        for pair in upward_pairs(some)
        if pair.source.batch == pair.target.batch == 2.0**21.5
        and (pair.source.tokens, pair.target.tokens) == (2.0**32, 2.0**34)
    ]
    assert (pair.octaves, pair.grows) == ((0, 2), "tokens")
    costs = {rule: costs_of([pair], shift)[0] for rule, shift in shifts(cells).items()}
    assert costs["none"] == pytest.approx(CURVATURE * 0.5**2, abs=0.004)
    assert costs["√(B/D)"] == pytest.approx(CURVATURE * 1.5**2 - 0.002 * 1.5**3, abs=0.008)
    assert costs[FITTED] < 0.003
    table = regret_table(some).set_index(["grows", "rule"])
    assert table.loc[("tokens", FITTED), "regret"] < table.loc[("tokens", "√(B/D)"), "regret"]
    assert table.loc[("batch", "D^−0.3"), "regret"] == table.loc[("batch", "none"), "regret"]
    assert (table["regret_low"] < table["regret_high"]).all()
    assert table.loc[("any", FITTED), "verdict"] == "free"


def test_laws_are_ranked_at_targets_that_no_fit_has_seen(cells):
    """√(B/D) has the wrong exponents, planes the right ones; a base near its best batch."""
    both = laws_table(cells)
    batches = both[(both["predicts"] == "batch") & (both["compute_min"] == 16)].set_index("law")
    assert batches.index[0] == "one plane"
    assert batches.loc["one plane", "off"] == pytest.approx(0, abs=0.2)
    assert batches.loc["none", "off"] < -0.5  # the best batch goes as D^0.6
    assert batches.loc["none", "regret"] == pytest.approx(
        0.01 * batches.loc["none", "off"] ** 2, rel=0.4
    )
    table = both[both["predicts"] == "rate"]
    assert list(table["compute_min"].unique()) == [16, 8]
    base = base_cell(cells)
    assert (base.size, base.tokens) == (2.0**27, 2.0**32)
    assert math.log2(base.batch) == pytest.approx(18 - 0.6 * 2, abs=0.75)
    far = table[table["compute_min"] == 16].set_index("law")
    assert far.index[0] == "two planes"
    assert far.loc["two planes", "off"] == pytest.approx(0, abs=0.15)
    assert far.loc["two planes", "more"] == 0
    assert (far["regret"].diff().dropna() >= 0).all()
    assert (far["more_low"][1:] <= far["more"][1:]).all()
    targets = [c for c in cells if c.curve.bracketed and compute(c) > 16 * compute(base)]
    assert far["cells"].unique() == [len(targets)]
    optimum = np.mean([cell.curve.log2 for cell in targets])
    step_law = np.mean(
        [math.log2(1.79 * cell.size**-0.713 * cell.tokens**0.307) for cell in targets]
    )
    grown = np.mean(
        [math.log2(c.batch / base.batch) - math.log2(c.tokens / base.tokens) for c in targets]
    )
    wider = np.mean([math.log2(cell.width / base.width) for cell in targets])
    for law, rate in (
        ("Step Law", step_law),
        ("none", base.curve.log2),
        ("√(B/D)", base.curve.log2 + grown / 2),
        ("Complete(d)P, α = 1", base.curve.log2 + grown / 2 - wider),
        ("Everett et al., no alignment", base.curve.log2 - wider / 2),
    ):
        assert far.loc[law, "off"] == pytest.approx(rate - optimum), law


def moved(cell):
    """The same cell with its optimum three octaves up."""
    return replace(cell, curve=replace(cell.curve, log2=cell.curve.log2 + 3))


def test_fits_do_not_see_what_they_predict(cells):
    """Targets with other optima: a held-out prediction is the same."""
    used = [cell for cell in cells if cell.curve.bracketed]
    base = base_cell(used)
    far = [cell for cell in used if compute(cell) > 8 * compute(base)]
    others = [moved(cell) if cell in far else cell for cell in used]
    for one, other in zip(fitted(used, base), fitted(others, base), strict=True):
        assert one.rate(far[0], base) == pytest.approx(other.rate(far[0], base), abs=1e-9)
    target = used[-1]
    others = [moved(cell) if cell.group == target.group else cell for cell in used]
    pair = next(p for p in upward_pairs(used) if p.target is target and p.grows == "both")
    one, other = (shifts(some)[FITTED](pair) for some in (used, others))
    assert one == pytest.approx(other, abs=1e-9)


def schedule_runs(noise=0.0005, rates=(-11.0, -10.0, -9.0, -8.0)):
    """The token exponent is −0.2 − 0.3 · share."""
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "model": "124M",
            "schedule": "wsd",
            "cooldown": "linear",
            "share": share,
            "tokens": 2.0**tokens,
            "lr": 2.0**lr,
            "loss": 3
            - 0.1 * tokens
            + 0.03 * (z := lr + 9.5 + (0.2 + 0.3 * share) * (tokens - 31)) ** 2
            + 0.003 * z**3
            + noise * random.standard_normal(),
        }
        for share in (0.1, 0.4, 0.9)
        for tokens in (30.5, 31.2, 32.2)
        for lr in rates
    )


def test_the_token_exponent_of_each_share_is_recovered():
    fit = fit_schedules(schedule_runs())
    for share, (_, row) in zip((0.1, 0.4, 0.9), fit.table().iterrows(), strict=True):
        truth = -0.2 - 0.3 * share
        assert row["tokens"] == pytest.approx(truth, abs=0.06)
        assert row["tokens_low"] - 0.02 < truth < row["tokens_high"] + 0.02
        assert (row["durations"], row["bracketed"]) == (3, 3)
    assert fit.slope("wsd", "linear").value == pytest.approx(-0.3, abs=0.08)
    table = schedules_table(fit)
    assert list(table["verdict"][1:3]) == ["holds", "holds"]
    assert table["verdict"].iloc[0] != "holds"  # −0.23 is 0.27 above −½
    assert table["model"].iloc[-1] == "slope"


def test_a_schedule_whose_optimum_leaves_the_grid_decides_nothing():
    table = schedules_table(fit_schedules(schedule_runs(rates=(-12.0, -11.0, -10.0))))
    assert (table["bracketed"][:3] < 3).all()
    assert set(table["verdict"][:3]) == {"not decided"}
    with pytest.raises(ConfigError, match="no schedule has two durations with three"):
        fit_schedules(schedule_runs(rates=(-11.0, -10.0)))


def test_what_decaying_gains_is_over_the_constant_rate_at_the_same_steps():
    step = np.arange(2000, 72_000, 100)
    constant = pd.DataFrame({"step": step, "loss": 3 - step / 1e5, "schedule": "constant_72000"})
    decayed = constant[constant["step"] <= 24_000].assign(schedule="wsd_24000")
    decayed["loss"] -= 0.05
    curves = pd.concat([constant, decayed]).assign(model="25")
    (row,) = decay_gains(curves).to_dict("records")
    assert row["gain"] == pytest.approx(0.05)
    assert row["steps"] == 24_000


@pytest.mark.parametrize(
    ("exponent", "rule", "expected"),
    [
        ((0.6, 0.5, 0.7), 0.5, "holds"),
        ((0.6, 0.5, 0.8), 0.5, "not decided"),
        ((0.9, 0.8, 1.0), 0.5, "fails"),
        ((-0.9, -1.0, -0.8), -0.5, "fails"),
        ((0.6, math.nan, math.nan), 0.5, "not decided"),
    ],
)
def test_verdicts_are_those_of_the_drift_under_the_rule(exponent, rule, expected):
    assert drift_verdict(Interval(*exponent), rule) == expected


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
