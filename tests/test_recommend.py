"""`python -m paper_repro.recommend`: a target's numbers, other laws, and how far it lies."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest
from support.tuned_files import on_files

from analysis.load import COMMITTED_RESULTS
from paper_repro import recommend
from paper_repro.recommend import _AXES, MEASURED, SIZES, Range

TUNED = {
    "scaling": {"base_width": 32, "base_depth": 4, "base_batch_size": 4, "base_tokens": 65_536},
    "hyperparameters": {"lr": 0.02, "module_multipliers": {"query": {"lr": 2.0}}},
}
TARGET = {
    "model": {"width": 128, "depth": 8, "head_dim": 16},
    "train": {"batch_size": 16, "tokens": 1_048_576},
}


@pytest.fixture
def command(tmp_path, capsys):
    return on_files(recommend.main, tmp_path, capsys)


def test_the_rule_and_the_other_laws_by_hand(command):
    """m_N = 4, m_L = 2, m_B = 4, m_D = 16, α = 1; the model is 32 times as large."""
    code, out, _ = command(TUNED, TARGET, "--json")
    found = json.loads(out)
    assert code == 0
    rates = found["rule"]["learning_rates"]
    assert rates["embedding"] == pytest.approx([0.02 / 2] * 2)
    assert rates["hidden_weight"] == pytest.approx([0.02 / 8, 2 * 0.02 / 8])  # query × 2
    assert found["rule"]["steps"] == 1_048_576 // (16 * 128)
    laws = {law["law"]: law for law in found["learning_rates"]}
    size = 12 * 8 * 128**2
    assert laws["none"]["carried"] == 0.02
    assert laws["√(B/D)"]["carried"] == pytest.approx(0.01)
    assert laws["Complete(d)P's η alone, α = 1"]["carried"] == pytest.approx(0.02 / 8)
    assert laws["Porian et al."]["carried"] == pytest.approx(0.02 * 32**-0.36)
    assert laws["Porian et al."]["as_published"] == pytest.approx(3.7 * size**-0.36)
    assert laws["Bjorck et al."]["as_published"] is None
    assert laws["Bjorck et al."]["carried"] == pytest.approx(0.02 * 32**-0.23 * 16**-0.32)
    batches = {law["law"]: law for law in found["batch_sizes"]}
    assert batches["none"]["carried"] == 4
    assert batches["√D"]["carried"] == 16
    assert batches["Step Law"]["as_published"] == pytest.approx(0.58 * 1_048_576**0.571 / 128)


def test_how_far_a_target_lies_beyond_what_was_measured(command):
    found = json.loads(command(TUNED, TARGET, "--json")[1])
    measured = found["measured"]
    assert measured["tokens"] == {"ratio": 16, "measured": [0.25, 4], "octaves_beyond": 2}
    assert measured["width"]["octaves_beyond"] == 0
    assert found["size"] == {"parameters": 12 * 8 * 128**2, "octaves_beyond": 1}
    wide = {**TARGET, "model": {"width": 1024, "depth": 2, "head_dim": 16}}
    found = json.loads(command(TUNED, wide, "--json")[1])
    assert found["measured"]["width"]["octaves_beyond"] == pytest.approx(3)
    size = 12 * 2 * 1024**2  # between our models and the public ones, which are nearer
    assert found["size"]["octaves_beyond"] == pytest.approx(math.log2(SIZES[1].low / size))
    assert Range(0.5, 4).beyond(0.25) == 1


def test_the_readable_form_has_the_same(command):
    code, out, _ = command(TUNED, {**TARGET, "train": {**TARGET["train"], "schedule": "wsd"}})
    assert code == 0
    rows = {line.split("  ")[0]: line for line in out.splitlines()}
    assert "0.0025 … 0.005" in rows["hidden_weight"]
    assert rows["Step Law"].split()[2] == "2503.04715"
    assert "512 steps" in out
    assert "wsd schedule, 51 steps of warm-up, decay over the last 102, to 0.1 of the peak" in out
    assert "tokens: 16 x the base, measured 0.25 to 4: 2.0 octaves beyond" in out
    assert "several axes at once" in out


@pytest.mark.parametrize("schedule", ["constant", "inverse_sqrt"])
def test_a_schedule_that_ends_nowhere_in_particular_has_no_end(command, schedule):
    out = command(TUNED, {**TARGET, "train": {**TARGET["train"], "schedule": schedule}})[1]
    assert f"{schedule} schedule, 51 steps of warm-up" in out
    assert "of the peak" not in out


def test_a_target_along_one_axis_has_no_warning(command):
    same = {"model": {"width": 64, "depth": 4, "head_dim": 16}}
    same["train"] = {"batch_size": 4, "tokens": 65_536}
    out = command(TUNED, same)[1]
    assert "several axes" not in out
    assert "tokens: 1 x the base, measured 0.25 to 4: within" in out


@pytest.mark.parametrize(
    ("tuned", "target", "problem"),
    [
        ({"hyperparameters": {"lr": 0.1}}, TARGET, "tuned.yaml: scaling.base_width: expected"),
        (TUNED, {**TARGET, "hyperparameters": {"lr": 1.0}}, "target.yaml: hyperparameters: are"),
        (TUNED, {**TARGET, "model": {"widht": 4}}, "target.yaml: model.widht: unknown key"),
        (TUNED, {**TARGET, "model": {"factory": "a:b"}}, "model.factory"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(command, tuned, target, problem):
    code, out, err = command(tuned, target)
    assert (code, out) == (2, "")
    assert problem in err
    assert err.count("\n") == 1


def test_the_measured_ranges_are_those_of_the_studies():
    optima = pd.read_csv(COMMITTED_RESULTS / "optima.csv")
    sweeps = {"N": "lr_width", "L": "lr_depth", "B": "lr_batch", "D": "lr_duration"}
    for letter, range_ in MEASURED.items():
        rows = optima[optima["sweep"] == sweeps[letter]]
        assert rows["axis"].iloc[0].replace("_", " ") == _AXES[letter]
        base = rows.loc[rows["base"], "scale"].iloc[0]
        scales = rows["scale"] / base
        assert tuple(range_) == (scales.min(), scales.max()), letter


def test_the_sizes_are_those_of_the_table_of_laws():
    laws = pd.read_csv(COMMITTED_RESULTS / "optimum_laws.csv")
    public = laws["data"].str.startswith("steplaw")
    for sizes, rows in zip(SIZES, (laws[~public], laws[public]), strict=True):
        known = rows["size_min"].min(), rows["size_max"].max()
        assert sizes == pytest.approx(known, rel=1e-5)  # six digits in the file
