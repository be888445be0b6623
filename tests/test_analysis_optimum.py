import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.optimum import RISE, fit_optimum
from paper_repro.statistics import over_seeds

GRID = np.arange(-10.0, -1.0)
INF = math.inf
NAN = math.nan


@settings(deadline=None)
@given(
    vertex=st.floats(-8.9, -3.1),
    curvature=st.floats(0.001, 1.0),
    floor=st.floats(0.5, 10.0),
)
def test_a_parabola_is_recovered_exactly(vertex, curvature, floor):
    losses = floor + curvature * (GRID - vertex) ** 2
    fit = fit_optimum(GRID, losses)
    rises = min(losses[0], losses[-1]) >= losses.min() + RISE
    assert fit.bracketed == rises
    if not rises:
        return
    assert fit.log2 == pytest.approx(vertex, abs=1e-4)
    assert fit.loss == pytest.approx(floor, abs=1e-6)
    assert fit.slack == 0


@pytest.mark.parametrize("vertex", [-10.4, -1.6])
def test_an_optimum_at_the_edge_is_not_bracketed(vertex):
    fit = fit_optimum(GRID, (GRID - vertex) ** 2)
    assert not fit.bracketed
    assert fit.log2 in (GRID[0], GRID[-1])


def test_only_the_neighbourhood_counts():
    # Steep and lopsided far away: neither changes the fit of the three points that matter.
    losses = 2 + 0.2 * (GRID + 6.2) ** 2
    losses[:2] += 5
    losses[-2:] = [9.0, INF]
    assert fit_optimum(GRID, losses).log2 == pytest.approx(-6.2)


def test_a_flat_curve_is_fitted_with_five_points_and_a_steep_one_with_three():
    flat = fit_optimum(GRID, 0.01 * (GRID + 6) ** 2)
    steep = fit_optimum(GRID, 0.1 * (GRID + 6) ** 2)
    assert (flat.window.first, flat.window.last) == (2, 6)
    assert (steep.window.first, steep.window.last) == (3, 5)


def test_a_missing_neighbour_or_one_diverged_on_the_left_does_not_bracket():
    x = [-8.0, -7.0, -6.0, -5.0, -4.0]
    assert not fit_optimum(x, [3, NAN, 2, 2.5, 3]).bracketed
    assert not fit_optimum(x, [3, 2.5, 2, NAN, 3]).bracketed
    assert not fit_optimum(x, [3, INF, 2, 2.5, 3]).bracketed


def test_a_cliff_brackets_but_the_fit_never_passes_the_last_stable_rate():
    x = [-8.0, -7.0, -6.0, -5.0, -4.0]
    falling = fit_optimum(x, [2.9, 2.5, 2.3, 2.2, INF])
    assert falling.bracketed
    assert (falling.log2, falling.slack) == (-5.0, 1.0)
    turning = fit_optimum(x, [2.9, 2.5, 2.2, 2.19, INF])
    assert turning.bracketed
    assert -6.0 < turning.log2 < -5.0
    assert turning.slack == 0
    assert not fit_optimum(x, [INF, INF, 2.3, 2.2, INF]).bracketed


@pytest.mark.parametrize("side", [slice(None), slice(None, None, -1)])
def test_a_curve_that_is_flat_to_the_edge_of_its_grid_is_not_bracketed(side):
    x = np.arange(-9.0, -3)
    losses = np.array([1.503, 1.502, 1.5, 1.502, 1.52, 1.6])[side]
    assert not fit_optimum(x, losses).bracketed
    losses[side][0] = 1.506
    assert fit_optimum(x, losses).bracketed


def test_no_finite_loss_has_no_optimum():
    fit = fit_optimum(GRID, np.full(len(GRID), INF))
    assert not fit.bracketed
    assert math.isnan(fit.log2)


def test_loss_between_points():
    fit = fit_optimum([-8.0, -7.0, -6.0, -5.0, -4.0, -3.0], [4.0, 1.2, 1.0, 1.2, 3.2, INF])
    assert fit.at(-6.5) == pytest.approx(1.05)  # parabola 1 + 0.2 x²
    assert fit.at(-4.0) == 3.2
    assert fit.at(-3.5) == INF
    assert math.isnan(fit.at(-2.0))
    assert math.isnan(fit.at(-9.0))


def test_loss_between_points_far_from_the_optimum_follows_the_curve():
    """1 + 0.2 x²: a straight line would be 0.05 too high half way between two points."""
    x = np.arange(-10.0, -2)
    fit = fit_optimum(x, 1 + 0.2 * (x + 6) ** 2)
    assert fit.window.points == slice(3, 6)
    assert fit.at(-3.5) == pytest.approx(1 + 0.2 * 2.5**2, abs=1e-6)
    assert fit.at(-8.5) == pytest.approx(1 + 0.2 * 2.5**2, abs=1e-6)


def test_interval_over_seeds_is_students():
    # By hand: mean 2, standard deviation 1, t(0.975, 2 dof) = 4.3027.
    interval = over_seeds([1.0, 2.0, 3.0])
    assert interval.value == 2
    assert interval.high - 2 == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)
    assert 2 - interval.low == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)


def test_one_seed_or_none_has_no_interval():
    one = over_seeds([1.5])
    assert one.value == 1.5
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert math.isnan(over_seeds([]).value)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_interval_covers_the_true_optimum_as_often_as_it_says(seeds):
    rng = np.random.default_rng(1)
    trials, covered = 200, 0
    for _ in range(trials):
        vertex = rng.uniform(-6.5, -5.5)
        losses = 2 + 0.04 * (GRID - vertex) ** 2 + rng.normal(0, 0.01, (seeds, len(GRID)))
        window = fit_optimum(GRID, losses.mean(axis=0)).window
        interval = over_seeds([fit_optimum(GRID, curve, window).log2 for curve in losses])
        covered += interval.low <= vertex <= interval.high
    assert 0.9 <= covered / trials <= 0.99
