"""Laws of the loss along a schedule recover their numbers from curves that they made; measures."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from analysis.schedule_laws.annealing import AnnealingLaw, fit_annealing
from analysis.schedule_laws.convex import ConvexLaw, fit_convex, noise_of
from analysis.schedule_laws.curves import Curve, Schedule
from analysis.schedule_laws.known import fit_known
from analysis.schedule_laws.laws import LAWS
from analysis.schedule_laws.measures import SET, Target, f1, judge
from analysis.schedule_laws.multi_power import MultiPowerLaw, fit_multi_power
from analysis.schedule_laws.opt_laws import Units, features, fit_divergence, fit_opt_laws
from analysis.schedule_laws.splits import SPLITS, Part, parts, predict
from paper_repro.config import TrainConfig
from paper_repro.schedules import lr_scale

STEPS = 400
POINTS = np.array([100, 160, 240, 320, 400])
SECTIONS = {
    "constant": {"schedule": "constant"},
    "cosine": {"schedule": "cosine", "final_fraction": 0.0},
    "linear": {"schedule": "linear"},
    "short decay": {"schedule": "wsd", "decay_fraction": 0.1, "final_fraction": 0.0},
    "long decay": {"schedule": "wsd", "decay_fraction": 0.4, "decay_shape": "sqrt"},
    "root": {"schedule": "inverse_sqrt"},
    "steps": {
        "schedule": "piecewise",
        "piecewise": {
            "lr": [
                {"at": 0, "factor": 1},
                {"at": 0.3, "factor": 0.5, "shape": "step"},
                {"at": 0.7, "factor": 0.1, "shape": "step"},
            ]
        },
    },
}


def curves(law=None, steps=STEPS, size=1.0, peaks=(0.01, 0.03), level=0.0):
    """Curves of all schedules; their losses are those that the law says, or nothing yet."""
    found = []
    for name, section in SECTIONS.items():
        train = TrainConfig.model_validate(section)
        scales = np.array([lr_scale(train, step, steps) for step in range(steps)])
        for peak in peaks:
            schedule = Schedule(peak * scales, round(train.warmup_fraction * steps))
            at = POINTS * steps // STEPS
            empty = np.zeros(len(at))
            bare = Curve(f"{name} {peak}", name, size, schedule, at, empty, empty[-1:])
            losses = law.predict(bare) + level if law else bare.losses
            found.append(dataclasses.replace(bare, losses=losses, ends=losses[-1:]))
    return found


LAWS_WITH_NUMBERS = [
    (fit_annealing, AnnealingLaw(floor=1.5, area=0.7, power=0.4, gain=6.0, memory=0.97), 0.03),
    (
        fit_multi_power,
        MultiPowerLaw(
            **{"unit": 0.03, "floor": 1.5, "area": 2.0, "gain": 0.3},
            **{"power": 0.4, "speed": 0.05, "tail": 0.8, "slowing": 0.6},
        ),
        0.1,
    ),
    (fit_convex, ConvexLaw(floor=1.5, distance=0.6, noise=4.0), 1e-6),
]


@pytest.mark.parametrize(("fit", "law", "tolerance"), LAWS_WITH_NUMBERS)
def test_a_law_finds_its_numbers_in_curves_that_it_made(fit, law, tolerance):
    known = curves(law)
    found = fit(known)
    for name, value in vars(law).items():
        assert getattr(found, name) == pytest.approx(value, rel=tolerance), name
    longer = curves(law, steps=2 * STEPS)
    for curve in longer:
        assert found.predict(curve) == pytest.approx(curve.losses, abs=2e-3)


@pytest.mark.parametrize(("fit", "law", "tolerance"), LAWS_WITH_NUMBERS)
def test_a_law_still_tells_schedules_apart_under_noise(fit, law, tolerance):
    """With noise of 0.01 nats, what it says of new schedules is off by less than that."""
    random = np.random.default_rng(0)
    known = [
        dataclasses.replace(c, losses=c.losses + random.normal(0, 0.01, len(c.losses)))
        for c in curves(law)
    ]
    new = curves(law, peaks=(0.02,))
    errors = [fit(known).predict(curve)[-1] - curve.losses[-1] for curve in new]
    assert np.sqrt(np.mean(np.square(errors))) < 0.01


def test_the_bound_of_a_constant_rate_is_that_of_the_papers():
    """At rate η: η/2 from the first sum, and η/2 · Σ_(k<T) 1/(T − k) from the second."""
    harmonic = sum(1 / left for left in range(1, 50))
    assert noise_of(np.full(50, 0.1)) == pytest.approx(0.05 * (1 + harmonic))
    rates = np.random.default_rng(0).random(20)
    literal = (rates**2).sum() / (2 * rates.sum()) + sum(
        rates[k] / rates[k + 1 :].sum() * (rates[k:] ** 2).sum() / rates[k:].sum() / 2
        for k in range(19)
    )
    assert noise_of(rates) == pytest.approx(literal)
    assert noise_of(np.append(rates, 0.0)) == pytest.approx(literal)


def test_the_multi_power_sum_in_groups_is_that_over_all_steps():
    law = LAWS_WITH_NUMBERS[1][1]
    (curve,) = [each for each in curves() if each.name == "cosine 0.03"]
    rates, last = curve.schedule.rates / law.unit, curve.steps
    exact = 0.0
    for k in range(curve.schedule.warmup, last):
        grown = law.speed * rates[k] ** -law.slowing * rates[k:last].sum()
        exact += (rates[k - 1] - rates[k]) * (1 - (1 + grown) ** -law.tail)
    area = rates.sum()
    wanted = law.floor + law.area * area**-law.power - law.gain * exact
    assert law.predict(curve)[-1] == pytest.approx(wanted, abs=1e-3)


def test_the_annealing_sum_in_groups_is_the_momentum_over_all_steps():
    law = LAWS_WITH_NUMBERS[0][1]
    for curve in [each for each in curves() if each.schedule.peak == 0.03]:
        rates, momentum, annealed = curve.schedule.rates, 0.0, 0.0
        for step in range(curve.schedule.warmup, curve.steps):
            momentum = law.memory * momentum + rates[step - 1] - rates[step]
            annealed += momentum
        area = law.area * rates.sum() ** -law.power
        wanted = law.floor + area - law.gain * annealed
        assert law.predict(curve)[-1] == pytest.approx(wanted, rel=3e-3), curve.name


def test_noise_of_the_sde_is_that_of_simulated_steps():
    """x ← (1 − ηh) x + ησ ξ from 0: its variance, from many runs, against the feature."""
    (curve,) = [each for each in curves() if each.name == "cosine 0.03"]
    units = Units.of(curves())
    for place, curvature in ((4, 8.0), (5, 32.0)):
        h = curvature / units.area
        x, random = np.zeros(20_000), np.random.default_rng(0)
        for rate in curve.schedule.rates:
            x += -rate * h * x + rate * random.normal(size=len(x))
        said = features(curve.schedule, units)[place] * units.rate**2 * units.steps / curvature
        assert np.mean(x**2) == pytest.approx(said, rel=0.05)


def test_the_regression_finds_losses_that_follow_its_features():
    bare = curves(peaks=(0.005, 0.01, 0.02, 0.03, 0.05))
    units = Units.of(bare)
    design = np.array([features(curve.schedule, units) for curve in bare])
    weights = np.linspace(-1, 1, design.shape[1]) / (1e-9 + design.std(axis=0)) / 10
    losses = 2 + (design - design.mean(axis=0)) @ weights
    known = [
        dataclasses.replace(c, at=c.at[-1:], losses=np.array([loss]))
        for c, loss in zip(bare, losses, strict=True)
    ]
    found = fit_opt_laws(known)
    for curve in known:
        assert found.predict(curve) == pytest.approx(curve.losses, abs=0.01)
    assert found.weights / found.standard.spread == pytest.approx(weights, rel=0.2, abs=0.02)


def test_the_model_of_divergence_finds_the_rate_at_which_runs_diverge():
    some = curves(peaks=tuple(2.0**power for power in range(-8, 0)))
    diverged = [curve.schedule.peak > 0.1 for curve in some]
    model = fit_divergence(some, diverged)
    said = [model.probability(curve.schedule) > 0.5 for curve in some]
    assert f1(said, diverged) > 0.95
    assert model.probability(some[0].schedule) < 0.1 < 0.9 < model.probability(some[7].schedule)


def test_what_is_known_of_a_schedule_is_its_own_loss_or_its_family_s():
    law = ConvexLaw(1.5, 0.6, 4.0)
    known, longer = curves(law), curves(law, steps=2 * STEPS)
    assert fit_known(known).predict(longer[0])[-1] == known[0].losses[-1]
    family = fit_known(known[1:]).predict(longer[0])
    assert family[-1] == known[1].losses[-1]
    alone = fit_known(known[2:]).predict(longer[0])[-1]
    assert alone == pytest.approx(np.mean([each.losses[-1] for each in known[2:]]))


@pytest.mark.parametrize("split", SPLITS)
def test_no_law_knows_what_it_is_judged_on(split):
    law = ConvexLaw(1.5, 0.6, 4.0)
    of_both = [*curves(law), *curves(law, steps=2 * STEPS)]
    larger = [*curves(law, size=2.0), *curves(law, steps=2 * STEPS, size=2.0)]
    every, judged = [*of_both, *larger], []
    for part in parts(every, split):
        assert not {id(curve) for curve in part.known} & {id(curve) for curve in part.targets}
        judged += part.targets
        if split in ("schedule", "family"):
            key = "name" if split == "schedule" else "family"
            names = [{getattr(curve, key) for curve in side} for side in part[:2]]
            assert not names[0] & names[1]
            assert len({curve.size for curve in [*part.known, *part.targets]}) == 1
        elif split == "duration":
            assert max(c.steps for c in part.known) < min(c.steps for c in part.targets)
        else:
            assert max(c.size for c in part.known) < min(c.size for c in part.targets)
    counts = {"schedule": len(every), "family": len(every), "duration": len(every) // 2}
    assert len(judged) == counts.get(split, len(larger))


def test_a_law_is_told_one_loss_of_a_size_that_it_does_not_know():
    law = ConvexLaw(1.5, 0.6, 4.0)
    known, larger = curves(law), curves(law, size=2.0, level=-0.3)
    predictions = predict(fit_convex, Part(known, larger, anchored=True))
    assert len(predictions) == len(larger) - 1
    for each in predictions:
        assert each.losses == pytest.approx(each.curve.losses, abs=1e-6)
    best = min(larger, key=lambda curve: curve.losses[-1]).name
    assert best not in {each.curve.name for each in predictions}


def test_measures_of_a_law_that_knows_all_and_of_one_that_knows_nothing():
    random = np.random.default_rng(1)
    truth = random.normal(2, 0.1, 64)
    families = tuple("abcdefgh"[number % 8] for number in range(64))
    losses = np.column_stack([truth, truth])
    sure = judge([Target(truth, losses, families)] * 4)
    assert sure.error.value == pytest.approx(0)
    assert (sure.top1.value, sure.top2.value, sure.regret.value) == (1, 1, 0)
    assert sure.family.value == 1
    assert sure.family.low == pytest.approx(0.3976, abs=1e-4)  # of 4 of 4
    blind = judge([Target(random.normal(2, 0.1, 64), losses, families) for _ in range(4)])
    assert blind.top1.value == pytest.approx(1 / SET, abs=0.1)
    assert blind.top2.value == pytest.approx(2 / SET, abs=0.12)
    assert blind.regret.low > 0.05
    few = judge([Target(truth[:5], losses[:5], families[:5])])
    assert math.isnan(few.top1.value)
    assert few.error.value == pytest.approx(0)


def test_f1_counts_what_was_said_and_what_happened():
    assert f1([True, True, False, False], [True, False, True, False]) == 0.5
    assert f1([True, False], [True, False]) == 1
    assert math.isnan(f1([False], [False]))


def test_every_law_fits_the_curves_of_another():
    """None of them fails where it is wrong."""
    known = curves(LAWS_WITH_NUMBERS[1][1])
    for name, law in LAWS.items():
        said = law.fit(known).predict(known[0])
        assert np.isfinite(said).all(), name
