"""Laws of the optimum: the formulas as published, and what they cost on runs with a known truth."""

import math

import numpy as np
import pytest
from support.synthetic_sweep import CURVATURE, drifting, write_sweep

from analysis.arms import AXES
from analysis.load import load_sweep
from analysis.optimum_laws import optimum_laws, study_targets
from analysis.pooled_transfer import learn_all
from analysis.transfer import fit_transfer
from paper_repro.optimum_laws import BATCH_LAWS, RATE_LAWS, Shape

BASE = Shape(size=1e8, width=512, depth=8, tokens=1e9, batch=2**17)
TARGET = Shape(size=4e8, width=1024, depth=8, tokens=16e9, batch=2**19)
RATE = {law.name: law for law in RATE_LAWS}
BATCH = {law.name: law for law in BATCH_LAWS}


def test_absolute_laws_are_the_formulas_of_their_papers():
    n, d = TARGET.size, TARGET.tokens
    assert RATE["Step Law"].at(TARGET) == pytest.approx(1.79 * n**-0.713 * d**0.307)
    assert RATE["DeepSeek"].at(TARGET) == pytest.approx(0.3118 * (6 * n * d) ** -0.125)
    assert RATE["Porian et al."].at(TARGET) == pytest.approx(3.7 * n**-0.36)
    assert BATCH["Step Law"].at(TARGET) == pytest.approx(0.58 * d**0.571)
    assert BATCH["DeepSeek"].at(TARGET) == pytest.approx(0.2920 * (6 * n * d) ** 0.3271)


@pytest.mark.parametrize(
    ("name", "octaves"),
    [
        ("none", 0),
        ("√(B/D)", (2 - 4) / 2),
        ("Complete(d)P's η alone, α = 1", -1 + (2 - 4) / 2),
        ("Complete(d)P's η alone, α = ½", -1 + (2 - 4) / 2),  # as deep as the base
        ("Bjorck et al.", -0.23 * 2 - 0.32 * 4),
        ("D^−0.3", -0.3 * 4),
        ("Everett et al., full alignment", -1),
        ("Everett et al., no alignment", -0.5),
        ("Step Law", -0.713 * 2 + 0.307 * 4),
        ("DeepSeek", -0.125 * 6),
    ],
)
def test_a_law_carries_an_optimum_by_its_exponents(name, octaves):
    carried = RATE[name].carried(0.01, BASE, TARGET)
    assert math.log2(carried / 0.01) == pytest.approx(octaves)


def test_depth_moves_the_rate_under_one_alpha_alone():
    deeper = BASE._replace(depth=32)
    moved = {
        name: RATE[f"Complete(d)P's η alone, α = {name}"].carried(1, BASE, deeper) for name in "1½"
    }
    assert moved == {"1": 1, "½": pytest.approx(0.5)}


def test_a_law_of_exponents_alone_has_no_value():
    with pytest.raises(ValueError, match=r"Bjorck et al\.: has exponents alone"):
        RATE["Bjorck et al."].at(TARGET)


def test_names_are_unique_and_sources_stated():
    for laws in (RATE, BATCH):
        assert all(law.source or law.name in ("none", "√D") for law in laws.values())
    assert len(RATE) == len(RATE_LAWS)
    assert len(BATCH) == len(BATCH_LAWS)


def moved_at_256(octaves):
    """SP's optimum falls an octave a doubling of the width, but for that of width 256."""
    falling = drifting(-1)
    return lambda ratio: falling(ratio) + (octaves if ratio == 4 else 0)


def transfer_of(folder, sp):
    write_sweep(folder, "lr_width", {"complete_d": drifting(0), "sp": sp}, noise=0.002)
    return fit_transfer(load_sweep(folder, "lr_width").runs, AXES["width"])


@pytest.fixture(scope="module")
def transfer(tmp_path_factory):
    return transfer_of(tmp_path_factory.mktemp("runs"), moved_at_256(0))


@pytest.fixture(scope="module")
def shared(transfer):
    return learn_all([transfer])


def test_the_law_with_the_right_exponent_costs_least(transfer, shared):
    table = optimum_laws({"lr_width": transfer}, shared)
    assert list(table["target"].unique()) == ["width 256", "width 128"]
    far = table[table["target"] == "width 256"].set_index("law")
    assert (far["compute_min"] == 16).all()
    assert (far["size_min"] == 12 * 2 * 256**2).all()
    assert (far["cost"].diff().dropna() > -1e-4).all()  # ranked by what is rounded
    right, none = far.loc["Everett et al., full alignment"], far.loc["none"]
    assert right["off"] == pytest.approx(0, abs=0.15)
    assert right["cost_low"] <= right["cost"] < 0.01
    assert right["verdict"] == "free"
    assert none["off"] == pytest.approx(2, abs=0.15)
    assert none["regret"] == pytest.approx(CURVATURE * 2**2, abs=0.03)
    assert none["verdict"] == "costs"
    half = far.loc["Everett et al., no alignment"]
    assert half["regret"] == pytest.approx(CURVATURE, abs=0.01)
    assert far.loc["Complete(d)P", "off"] == pytest.approx(0, abs=0.15)
    absolute = far.loc["Porian et al."]
    assert absolute["off"] == pytest.approx(math.log2(3.7 * (24 * 256**2) ** -0.36) + 8, abs=0.15)
    assert far.loc["line, ours", "off"] == pytest.approx(0, abs=0.25)


def test_a_cost_is_above_the_least_loss_of_any_arm(transfer, shared):
    """Were SP's trainings 0.3 nats worse at every rate, their costs would be, not their regrets."""
    runs = transfer.runs
    worse = runs["val_loss"] + 0.3 * (runs["parameterization"] == "sp")
    other = fit_transfer(runs.assign(val_loss=worse), AXES["width"])
    one, two = (
        {each.name: each for each in study_targets("lr_width", some, shared)[0].tried}
        for some in (transfer, other)
    )
    for name, more in (("none", 0.3), ("Complete(d)P", 0.0)):
        difference = np.median(two[name].cost) - np.median(one[name].cost)
        assert difference == pytest.approx(more, abs=0.02), name
    assert np.median(two["none"].regret) == pytest.approx(np.median(one["none"].regret), abs=0.02)


def test_a_line_does_not_see_its_target(transfer, shared, tmp_path):
    other = transfer_of(tmp_path, moved_at_256(2))
    one, two = (
        next(
            each
            for each in study_targets("lr_width", some, shared)[0].tried
            if each.kind == "fitted"
        )
        for some in (transfer, other)
    )
    assert np.median(two.off) - np.median(one.off) == pytest.approx(-2, abs=0.15)
