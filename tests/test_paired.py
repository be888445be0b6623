"""Two arms of the same seeds, drawn together: common noise cancels, other noise does not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.paired import draw_fits, draw_pair
from analysis.paired_simulation import case, simulate_pair, summary
from analysis.pooled import Curve, draw
from analysis.pooled_transfer import credible
from analysis.simulation import LEARNT
from analysis.transfer import fit_scale
from paper_repro.errors import ConfigError

X = np.arange(-8.0, -1.0)
FACTOR = np.linalg.cholesky(LEARNT.covariance(X + 5))
HIGHER = 0.03


def losses(correlation: float, seeds: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Parabolas, of which the second is higher by 0.03 nats and half an octave off."""
    random = np.random.default_rng(seed)
    common, own = FACTOR @ random.standard_normal((2, len(X), seeds))
    noise = correlation * common + np.sqrt(1 - correlation**2) * own
    one = 2 + 0.021 * (X[:, None] + 5) ** 2 + 0.02 * common
    other = 2 + HIGHER + 0.021 * (X[:, None] + 4.5) ** 2 + 0.02 * noise
    return one, other


def pair(correlation: float, seeds: int = 5, seed: int = 0) -> tuple[Curve, Curve]:
    one, other = losses(correlation, seeds, seed)
    return Curve.of(X, one), Curve.of(X, other)


def half_widths(correlation: float, count: int = 12) -> tuple[float, float]:
    """Of the difference of losses: drawn together and, over it, each by itself; medians."""
    found = []
    for seed in range(count):
        curves = pair(correlation, seed=seed)
        one, other = draw_pair(*curves, LEARNT)
        alone = [draw(each, LEARNT, seed=k) for k, each in enumerate(curves)]
        together = credible(other.loss - one.loss).half_width
        found.append((together, together / credible(alone[1].loss - alone[0].loss).half_width))
    medians = np.median(found, axis=0)
    return float(medians[0]), float(medians[1])


def test_common_noise_narrows_a_difference_and_other_noise_does_not():
    assert half_widths(0.98)[1] < 0.65
    assert 0.85 < half_widths(0.0)[1] < 1.15


@pytest.mark.parametrize("correlation", [0.0, 0.95])
def test_intervals_of_differences_hold_the_truth(correlation):
    inside = []
    for seed in range(30):
        one, other = draw_pair(*pair(correlation, seed=100 + seed), LEARNT, draws=1000)
        found = credible(other.loss - one.loss)
        inside.append(found.low < HIGHER < found.high)
    assert np.mean(inside) >= 0.85


def test_each_arm_is_as_it_is_by_itself():
    curves = pair(0.0, seeds=8)
    for together, curve in zip(draw_pair(*curves, LEARNT), curves, strict=True):
        alone = draw(curve, LEARNT)
        for name in ("optimum", "loss"):
            one, other = (credible(getattr(each, name)) for each in (together, alone))
            assert one.value == pytest.approx(other.value, abs=0.35 * other.half_width)
            assert one.half_width == pytest.approx(other.half_width, rel=0.25)
        assert np.median(together.excess(-2.0)) == pytest.approx(
            np.median(alone.excess(-2.0)), abs=0.02
        )


def test_the_same_training_has_no_difference():
    table, _ = losses(0.5)
    first, second = draw_pair(Curve.of(X, table), Curve.of(X + 1.5, table), LEARNT)
    np.testing.assert_allclose(first.loss, second.loss)
    np.testing.assert_allclose(first.optimum + 1.5, second.optimum)


def test_seeds_that_only_one_arm_has_are_left_out():
    """And curves are paired by the names of their seeds, not by their places."""
    one, other = losses(0.98)
    index = pd.Index(X, name="log2")
    first = fit_scale(pd.DataFrame(one, index, range(5)))
    second = pd.DataFrame(other, index, range(5))
    extra = fit_scale(second[[3, 1, 0, 4, 2]].join(pd.DataFrame({9: 2.5}, index)))
    drawn = draw_fits(first, extra, LEARNT, 1.5)
    assert drawn is not None
    expected = draw_pair(*pair(0.98), LEARNT, inflation=1.5)
    np.testing.assert_allclose(drawn[1].loss, expected[1].loss)
    lonely = fit_scale(second.set_axis([7, 8, 9, 10, 11], axis="columns"))
    assert draw_fits(first, lonely, LEARNT, 1.5) is None


def test_curves_of_other_numbers_of_seeds_are_refused():
    with pytest.raises(ConfigError, match="5 and 4 seeds"):
        draw_pair(pair(0)[0], pair(0, seeds=4)[1], LEARNT)


@pytest.mark.parametrize("family", ["alike", "hostile"])
def test_simulated_arms_share_the_noise_that_they_should(family):
    random = np.random.default_rng(0)
    apart, common = (
        _correlation_of_seeds(simulate_pair(family, correlation, 400, random))
        for correlation in (0.0, 0.9)
    )
    assert abs(apart) < 0.15
    assert common > 0.6


def _correlation_of_seeds(simulated) -> float:
    one, other = (fits[4].curves.mean() for fits in simulated[:2])
    return float(np.corrcoef(one, other)[0, 1])


@pytest.mark.slow
def test_pairs_of_a_shift_that_no_method_assumes():
    """All kinds are in docs/statistics.md, with more pairs of each."""
    table = summary(case("hostile", 0.5, 60, seed=1000)).set_index("method")
    assert table.loc["together", ["difference_coverage", "tuned_coverage"]].min() >= 0.9
    assert table.loc["together", "tuned_half_width"] < table.loc["apart", "tuned_half_width"]
    assert table.loc["together", "wrong"] == 0
