"""The studies at the tuned base: what is read of their sweep files, on losses of known truth."""

import math

import pandas as pd
import pytest
from support.designs import SWEEPS, runs_of, trained

from analysis.arms import LR, arms_of, select
from analysis.duration import effects, exponents, fit_conditions
from analysis.pooled_transfer import HELD_OUT, transfer_rows
from analysis.simulation import LEARNT
from analysis.studies import STUDIES
from analysis.transfer import fit_transfer
from figures.check import planned
from figures.registry import FIGURES
from paper_repro.errors import ConfigError
from sweeps.expand import read_sweep

DESIGNS = [name for name in STUDIES if name.startswith("transfer_")]


@pytest.mark.parametrize("name", DESIGNS)
def test_every_arm_of_a_study_is_there_at_every_scale(name):
    """What is trained once, the base and restated arms, is read under each of its names."""
    study = STUDIES[name]
    known = study.figure_runs(runs := runs_of(study.sweep))
    assert set(arms_of(known)) == set(study.panels)
    scales = set(study.own(runs)[study.axis.column])
    for arm in study.panels:
        assert set(select(known, arm)[study.axis.column]) == scales, arm.label


@pytest.mark.parametrize("size", ["cpu", "gpu", "paper"])
@pytest.mark.parametrize("sweep", {STUDIES[name].sweep: None for name in DESIGNS})
def test_a_launch_draws_the_figure_of_its_study(sweep, size):
    file = read_sweep(SWEEPS / f"{sweep}.yaml", size=size)
    assert file.figure == sweep
    check = FIGURES[sweep].check
    assert check is not None
    check(planned(list(file.runs.values())))


def test_the_regimes_of_duration_are_three_studies_without_a_run_in_common():
    runs = runs_of("transfer_duration")
    parts = [study for study in STUDIES.values() if study.sweep == "transfer_duration"]
    own = [study.own(runs) for study in parts]
    assert [len(study.own(runs)) for study in parts] == [162, 90, 90]
    assert sorted(pd.concat(own)["run_id"]) == sorted(runs["run_id"])
    names = ["transfer_duration", "transfer_duration_batch_1", "transfer_duration_batch_32"]
    assert [study.name for study in parts] == names


def test_a_part_that_a_size_lacks_is_told():
    runs = runs_of("transfer_duration", size="gpu")
    with pytest.raises(ConfigError, match=r"batch_32: no run with .*base_batch_size of 32"):
        STUDIES["transfer_duration_batch_32"].figure_runs(runs)


def rate_of(shown: float, held_out: float):
    """The optimum drifts by so many octaves a doubling of the width, in two groups of seeds."""

    def best(config):
        drift = held_out if config.seed >= HELD_OUT else shown
        return -4.5 + drift * math.log2(config.model.width / 32)

    return best


@pytest.mark.parametrize(
    ("shown", "held_out", "confirmed"),
    [(0.0, 0.0, "yes"), (0.0, 0.45, "no"), (0.6, 0.0, ""), (0.0, None, "")],
)
def test_a_positive_claim_is_confirmed_by_seeds_of_its_own(shown, held_out, confirmed):
    study = STUDIES["transfer_qk_norm"]
    runs = runs_of("transfer_qk_norm")
    if held_out is not None:
        runs = pd.concat([runs, runs_of("transfer_qk_norm", seeds=(40, 41, 42))])
    known = study.table_runs(trained(runs, rate_of(shown, held_out)))
    table = transfer_rows(fit_transfer(known, study.axis), {LR: LEARNT}).set_index("method")
    row = table.loc["pooled"]
    assert row["confirmed"] == confirmed
    if held_out is None:
        assert math.isnan(row["p_holds_held_out"])
    else:
        assert (row["p_holds_held_out"] > 0.5) == (held_out == 0)
        assert row["seeds"] == 6
    assert table.loc["by seed", "confirmed"] == ""


#: γ below, at and above the noise scale, and how much less it is without QK norm.
GAMMAS, LESS = {1: 0.5, 4: 0.25, 32: 0.0}, 0.3


def best_rate(config):
    """As it is stated: the rule's √κ is in the rate that trains."""
    octaves = math.log2(config.train.tokens / config.scaling.base_tokens)
    gamma = GAMMAS[config.train.batch_size] - LESS * (not config.model.qk_norm)
    follows = 0.5 * ("lr" in config.scaling.sde_rule)
    return -4.5 + 0.5 * math.log2(config.train.batch_size / 4) - (gamma - follows) * octaves


@pytest.fixture(scope="module")
def conditions():
    return [
        fit_conditions(trained(runs_of(sweep), best_rate), LEARNT)
        for sweep in ("transfer_duration", "duration_factors")
    ]


def test_the_exponent_of_each_regime_is_of_the_rate_that_trains(conditions):
    table = exponents(conditions[0]).query("method == 'pooled'")
    assert len(table) == 6  # without the rule and with it, at three batch sizes
    for _, row in table.iterrows():
        truth = GAMMAS[row["batch_size"]]
        assert row["gamma"] == pytest.approx(truth, abs=0.1)
        assert row["gamma_low"] < truth < row["gamma_high"]
        assert (row["half"] == "not excluded") == (row["batch_size"] == 1)
        assert row["bracketed"]
    durations = table.set_index(["batch_size", "co_scaled"])["durations"]
    assert durations[4, "none"] == 5
    assert durations[1, "none"] == durations[32, "none"] == 3


def test_ten_factors_are_compared_with_no_rule_at_the_same_durations(conditions):
    regimes, factors = conditions
    table = effects({**regimes, **factors}, factors)
    pooled = table[table["method"] == "pooled"].set_index(["factor", "to"])
    assert len(pooled) == 10
    assert set(pooled["pairs"]) == {1}
    assert pooled["confidence"].tolist() == pytest.approx([0.995] * 10)
    assert set(pooled["from"]) == {"cosine", "True", "none", "32"}
    moved = pooled[pooled["moves"] == "yes"]
    assert moved.index.tolist() == [("qk_norm", "False")]
    assert moved["effect"].tolist() == pytest.approx([-LESS], abs=0.1)
