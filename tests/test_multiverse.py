"""Rows under other choices: the reported one first, and what a choice changes is seen."""

import math

import pandas as pd
import pytest
from support.synthetic_sweep import drifting, write_sweep

from analysis.arms import AXES, LR, Arm
from analysis.likelihood import WINDOW
from analysis.load import load_sweep
from analysis.multiverse import CHOICES, REPORTED, BySeed, Pooled, markdown, multiverse
from analysis.pooled_transfer import learn_all, transfer_rows
from analysis.simulation import LEARNT
from analysis.transfer import Transfer, fit_transfer

#: Those that need no learning of their own.
SOME = {
    name: choice
    for name, choice in CHOICES.items()
    if isinstance(choice, BySeed) or choice.window == WINDOW
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    runs_dir = tmp_path_factory.mktemp("runs")
    write_sweep(runs_dir, "s", {"complete_d": drifting(0), "sp": drifting(-0.6)})
    return load_sweep(runs_dir, "s").runs


@pytest.fixture(scope="module")
def transfer(runs):
    return fit_transfer(runs, AXES["width"])


@pytest.mark.slow  # it learns what curves share
def test_every_row_is_given_under_every_choice_and_first_as_it_is_reported(transfer):
    table = multiverse({"s": transfer}, SOME)
    assert transfer.runs["seed"].nunique() == 3
    named = set(SOME) - {"without the fourth seed", "without the fifth seed"}
    assert {label: set(rows["choice"]) for label, rows in table.groupby("label")} == {
        "SP": named,
        "Complete(d)P": named,
    }
    assert set(table["sweep"]) == {"s"}
    reported = table[table["choice"] == REPORTED].set_index("label")
    rows = transfer_rows(transfer, learn_all([transfer])).query("method == 'pooled'")
    for name in ("drift", "drift_low", "drift_high", "verdict"):
        assert reported[name].to_dict() == rows.set_index("label")[name].to_dict()
    assert reported["same"].all()
    assert (table["same"] == (table["verdict"] == table["label"].map(reported["verdict"]))).all()


def drift_under(choice: Pooled | BySeed, transfer: Transfer) -> float:
    slope, _ = choice(transfer, transfer.arms[Arm("sp")], {LR: LEARNT})
    return slope.value


def test_a_verdict_that_becomes_its_opposite_is_named():
    columns = ["sweep", "label", "choice", "verdict", "same"]
    rows = [
        ("s", "SP", REPORTED, "fails", True),
        ("s", "SP", "other", "holds", False),
        ("s", "μP", REPORTED, "holds", True),
        ("s", "μP", "other", "not decided", False),
        ("s", "open", REPORTED, "not decided", True),
        ("s", "open", "other", "holds", False),
        ("s", "open", "another", "fails", False),
    ]
    table = pd.DataFrame(rows, columns=columns)
    last = "From *holds* to *fails*, or the other way round: {}.\n"
    assert markdown(table).endswith(last.format("s, SP"))
    assert markdown(table[table["label"] != "SP"]).endswith(last.format("none"))


def test_a_seed_left_out_is_left_out(runs, transfer):
    """Whatever its losses are: here its optimum at the largest width is an octave higher."""
    first = (runs["seed"] == runs["seed"].min()) & (runs["model.width"] == 256)
    octave = 0.04 * (2 * (runs[LR].map(math.log2) + 7.2) - 1)  # of its parabola, the optimum + 1
    moved = fit_transfer(runs.assign(val_loss=runs["val_loss"] - first * octave), AXES["width"])
    whole, without = Pooled(), Pooled(without=0)
    assert drift_under(without, moved) == drift_under(without, transfer)
    assert drift_under(whole, moved) > drift_under(whole, transfer) + 0.05


def test_fewer_points_are_fewer_points(transfer):
    """Of parabolas all give the same, and so do three and five points."""
    three, five = (drift_under(BySeed(within), transfer) for within in (0.0, math.inf))
    assert three == pytest.approx(five, abs=0.02)
    assert three == pytest.approx(-0.6, abs=0.1)
