"""Whether more seeds would decide: they are as a truth has them, and tell it in the end."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.assurance import OpenRow, assurance, assurances, markdown
from analysis.pooled import draw, further_seeds
from analysis.pooled_transfer import pooled_arm
from analysis.simulation import LEARNT, Design, simulate
from analysis.transfer import DRIFT_TOLERANCE, REGRET_TOLERANCE

DESIGN = Design((32, 128, 512), seeds=3)


def an_open_row(drift: float) -> OpenRow:
    """With few and noisy seeds; the first that is open."""
    for seed in range(50):
        made = simulate(DESIGN, drift, "alike", np.random.default_rng(seed))
        arm = pooled_arm(made.fits, made.base, LEARNT, 1.0)
        bracketed = all(fit.mean.bracketed for fit in made.fits.values())
        if arm is not None and bracketed and arm.verdict(True) == "not decided":
            return OpenRow("s", "arm", "cpu", arm, True, LEARNT, 1.0, seed_hours=0.5)
    raise AssertionError("no open row")


def test_further_seeds_are_of_one_truth_and_of_its_noise():
    made = simulate(DESIGN, 0.0, "alike", np.random.default_rng(0))
    curve = pooled_arm(made.fits, made.base, LEARNT, 1.0).draws[128].curve
    drawn = draw(curve, LEARNT, draws=50)
    one = {name: getattr(drawn, name)[7:8] for name in ("optimum", "loss", "coefficients")}
    known = replace(drawn, **one, log_sigma=np.log([0.02]))
    losses = further_seeds(known, LEARNT, 40_000, np.random.default_rng(1))
    truth = [known.loss[0] + float(known.excess(x)[0]) for x in curve.x]
    assert losses.mean(axis=1) == pytest.approx(truth, abs=0.001)
    octaves = curve.x - curve.lowest
    deviations = 0.02 * np.exp(LEARNT.growth * octaves)
    assert losses.std(axis=1) == pytest.approx(deviations, rel=0.03)
    a, b = LEARNT.correlation
    expected = a + b * np.exp(-abs(octaves[-1] - octaves[0]))
    assert np.corrcoef(losses[0], losses[-1])[0, 1] == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("drift", [0.0, 0.25])
def test_more_seeds_decide_more_and_tell_in_the_end_what_was_thought_likely(drift):
    """With seeds without end `holds` is as frequent as it was probable."""
    row = an_open_row(drift)
    drifts, regret = np.abs(row.arm.drift), row.arm.regret(row.arm.worst)
    probable = float(np.mean((drifts <= DRIFT_TOLERANCE) & (regret <= REGRET_TOLERANCE)))
    few, many = (assurance(row, more, 60, np.random.default_rng(0)) for more in (1, 5000))
    assert many["holds"] == pytest.approx(probable, abs=0.15)
    assert few["holds"] + few["fails"] + 0.2 < many["holds"] + many["fails"]


def test_what_was_not_bracketed_never_holds():
    row = replace(an_open_row(0.0), bracketed=False)
    assert assurance(row, 200, 20, np.random.default_rng(0))["holds"] == 0


def test_where_every_row_is_decided_the_table_is_empty():
    table = assurances([], futures=4)
    assert {"sweep", "core_hours", "decidable"} <= set(table)
    assert len(markdown(table).splitlines()) == 2


def test_a_budget_pays_for_as_many_seeds_as_it_says():
    table = assurances([an_open_row(0.0)], futures=4).set_index("core_hours")
    assert table["more"].to_dict() == {2.0: 4, 5.0: 10, 20.0: 40}
    assert table["seeds"].to_dict() == {2.0: 7, 5.0: 13, 20.0: 43}
    decided = table["holds"] + table["fails"]
    assert ((decided >= 0.5) == (table["decidable"] == "yes")).all()
    last = f"{decided[20.0]:.2f} (43) | {table['decidable'][20.0]} |"
    assert last in markdown(table.reset_index())
