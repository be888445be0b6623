import math

import numpy as np
import pandas as pd
import pytest

from analysis.laws import HUBER, Law, fit_arm_laws, fit_law
from paper_repro.errors import ConfigError

DURATIONS = [100_000, 200_000, 400_000, 800_000, 1_600_000]
BASE = 400_000


def law(asymptote, above_at_base, exponent):
    return Law(asymptote, above_at_base * BASE**exponent, exponent)


def losses(laws, noise=0.004, seeds=3, durations=DURATIONS, own=0.2):
    """Runs on these laws; of the noise of a run, the share `own` is not shared by the arms."""
    rng = np.random.default_rng(2)
    rows = []
    for tokens in durations:
        for seed in range(seeds):
            shared = rng.normal(0, noise)
            for arm, truth in laws.items():
                loss = float(truth(tokens)) + shared + own * rng.normal(0, noise)
                rows.append({"arm": arm, "seed": seed, "tokens": tokens, "loss": loss})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    "truth",
    [
        law(1.5, 0.4, 0.3),
        law(2.253, 0.02, 0.5),
        law(0.3, 3.0, 0.15),
        law(1.0, 0.3, 1.5),
        law(0.0, 2.0, 0.1),
    ],
)
def test_a_law_without_noise_is_recovered(truth):
    found = fit_law(DURATIONS, truth(DURATIONS))
    assert found.asymptote == pytest.approx(truth.asymptote, rel=1e-4, abs=1e-4)
    assert found.exponent == pytest.approx(truth.exponent, rel=1e-4)
    assert found.amplitude == pytest.approx(truth.amplitude, rel=2e-3)  # exponential in b's error


def test_the_unit_of_tokens_changes_only_the_amplitude():
    truth = law(1.5, 0.4, 0.3)
    thousands = fit_law(np.array(DURATIONS) / 1e3, truth(DURATIONS))
    assert thousands.asymptote == pytest.approx(1.5, rel=1e-4)
    assert thousands.amplitude == pytest.approx(truth.amplitude * 1e3**-0.3, rel=2e-3)


def test_one_outlier_among_many_runs_hardly_moves_the_law():
    truth = law(1.5, 0.4, 0.4)
    tokens = np.geomspace(5e4, 3.2e6, 30)
    bent = truth(tokens)
    bent[20] += 50 * HUBER
    # Least squares would be off by 0.06 nats here.
    assert fit_law(tokens, bent).asymptote == pytest.approx(1.5, abs=0.01)


def test_three_durations_cannot_be_fitted():
    with pytest.raises(ConfigError, match="at least 4 durations, got 3"):
        fit_law([1e5, 2e5, 4e5, 4e5], [2.0, 1.8, 1.7, 1.7])


def test_an_arm_with_three_durations_has_no_law_and_decides_nothing():
    frame = losses({"rule": law(1.5, 0.4, 0.4), "none": law(1.7, 0.2, 0.4)})
    short = frame[~((frame["arm"] == "none") & (frame["tokens"] > BASE))]
    laws = fit_arm_laws(short, resamples=5)
    assert list(laws.fits) == ["rule"]
    assert laws.statement("rule", "none").startswith("Not decided: none has fewer than 4 durations")


def test_distant_asymptotes_have_the_difference_put_in():
    laws = fit_arm_laws(losses({"rule": law(1.5, 0.4, 0.4), "none": law(1.7, 0.2, 0.4)}), 100)
    difference = laws.difference("rule", "none")
    assert difference.low < -0.2 < difference.high < 0
    assert laws.fits["rule"].asymptote.low < 1.5 < laws.fits["rule"].asymptote.high
    assert laws.statement("none", "rule").startswith("E(none) − E(rule) = 0.")


def test_the_difference_of_equal_asymptotes_includes_0():
    laws = fit_arm_laws(losses({"rule": law(1.5, 0.4, 0.4), "none": law(1.5, 0.42, 0.4)}), 100)
    difference = laws.difference("rule", "none")
    assert difference.low < 0 < difference.high


def test_the_difference_is_paired():
    arms = {"rule": law(1.5, 0.4, 0.4), "none": law(1.6, 0.4, 0.4)}

    def widths(own):
        laws = fit_arm_laws(losses(arms, own=own), 60)
        difference, alone = laws.difference("rule", "none"), laws.fits["rule"].asymptote
        return difference.high - difference.low, alone.high - alone.low

    difference, alone = widths(own=0)
    assert difference < 0.15 * alone


def test_an_asymptote_that_the_losses_do_not_show_is_not_identified():
    # A straight line in log tokens goes on for ever: any E below fits.
    frame = losses({"rule": law(0.2, 1.8, 0.05), "none": law(1.5, 0.4, 0.4)}, noise=0.01)
    laws = fit_arm_laws(frame, 60)
    assert not laws.fits["rule"].identified
    assert laws.fits["none"].identified
    statement = laws.statement("none", "rule")
    assert statement.startswith(
        "Not decided at this scale: the asymptote of rule is not identified"
    )


def test_losses_that_follow_no_law_decide_nothing():
    frame = losses({"rule": law(1.5, 0.4, 0.4), "none": law(1.7, 0.2, 0.4)}, noise=0.0005)
    frame.loc[(frame["arm"] == "none") & (frame["tokens"] == BASE), "loss"] += 0.01
    laws = fit_arm_laws(frame, 60)
    assert laws.fits["none"].rejected
    assert laws.fits["none"].misfit > 0.003
    assert laws.fits["none"].identified
    assert laws.difference("rule", "none").high < 0
    assert not laws.fits["rule"].rejected
    assert "losses of none do not follow a law of this form" in laws.statement("rule", "none")


def test_one_seed_has_a_law_and_no_interval():
    laws = fit_arm_laws(losses({"rule": law(1.5, 0.4, 0.4), "none": law(1.7, 0.2, 0.4)}, seeds=1))
    fit = laws.fits["rule"]
    assert fit.asymptote.value == fit.law.asymptote
    assert math.isnan(fit.asymptote.low)
    assert math.isnan(laws.difference("rule", "none").high)
    assert "a duration with a single seed" in laws.statement("rule", "none")


def test_the_interval_is_the_t_interval_where_the_law_is_almost_linear():
    truth = law(1.5, 0.4, 0.4)
    frame = losses({"rule": truth}, noise=0.0005)
    found = fit_arm_laws(frame, 400).fits["rule"].asymptote
    decay = np.array(DURATIONS, float) ** -truth.exponent
    slopes = [np.ones(5), decay, -truth.amplitude * np.log(DURATIONS) * decay]
    weights = np.linalg.pinv(np.stack(slopes, axis=1))[0]  # of the mean losses in E
    variances = frame.groupby("tokens")["loss"].var() / 3
    error = math.sqrt(float((weights**2 * variances).sum()))
    assert (found.high - found.low) / 2 == pytest.approx(2.228 * error, rel=0.06)  # 10 degrees


def test_a_seed_that_one_arm_lacks_is_left_out_of_all():
    frame = losses({"rule": law(1.5, 0.4, 0.4), "none": law(1.7, 0.2, 0.4)})
    missing = (frame["seed"] == 2) & (frame["tokens"] == BASE)
    both = fit_arm_laws(frame[~missing], 20)
    one = fit_arm_laws(frame[~(missing & (frame["arm"] == "none"))], 20)
    assert one.fits == both.fits


def test_the_same_losses_give_the_same_numbers():
    frame = losses({"rule": law(1.5, 0.4, 0.4)})
    assert fit_arm_laws(frame, 20).fits == fit_arm_laws(frame, 20).fits
