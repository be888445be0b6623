"""Exponents of the learning rate in duration, and what moves them."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from analysis.arms import Arm
from analysis.duration import effects, exponents, fit_conditions
from analysis.load import config_columns
from analysis.simulation import LEARNT
from paper_repro.config import RunConfig
from paper_repro.errors import ConfigError
from paper_repro.parameterization import SDE_RULE

BASE = 819_200
DURATIONS = (BASE // 4, BASE, 4 * BASE)


def gamma_of(schedule, co_scaled, qk_norm):
    """The truth: 0.3, less 0.2 where co-scaled; QK norm and schedule change nothing."""
    return 0.3 - 0.2 * co_scaled


def exponents_of(runs, method="by seed"):
    table = exponents(fit_conditions(runs, LEARNT))
    return table[table["method"] == method].reset_index(drop=True)


def effects_of(runs, method="by seed"):
    conditions = fit_conditions(runs, LEARNT)
    table = effects(conditions, conditions)
    return table[table["method"] == method].reset_index(drop=True)


def row_of(config):
    return {"config": config.model_dump_json()} | config_columns(config) | Arm.of(config).columns()


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Parabolas in log2 of the rate that trains, with their optimum at -6 - γ log2(D / base)."""
    rng = np.random.default_rng(0)
    rows = []
    conditions = itertools.product(("cosine", "wsd"), (False, True), (True, False))
    for (schedule, co_scaled, qk_norm), tokens in itertools.product(conditions, DURATIONS):
        octaves = math.log2(tokens / BASE)
        best = -6 - gamma_of(schedule, co_scaled, qk_norm) * octaves
        for stated, seed in itertools.product(range(-9, -3), range(3)):
            trains = stated - 0.5 * octaves * co_scaled
            config = RunConfig.model_validate(
                {
                    "model": {"qk_norm": qk_norm},
                    "train": {"tokens": tokens, "schedule": schedule},
                    "scaling": {"sde_rule": list(SDE_RULE) if co_scaled else []},
                    "hyperparameters": {"lr": 2.0**stated},
                    "seed": seed,
                }
            )
            loss = 1.5 + 0.05 * (trains - best) ** 2 + rng.normal(0, 0.001)
            rows.append(row_of(config) | {"val_loss": loss})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("method", ["pooled", "by seed"])
def test_exponents_are_those_put_in_and_are_of_the_rate_that_trains(frame, method):
    table = exponents_of(frame, method)
    assert len(table) == 8
    for _, row in table.iterrows():
        truth = gamma_of(row["schedule"], row["co_scaled"] != "none", row["qk_norm"])
        assert row["gamma"] == pytest.approx(truth, abs=0.05)
        assert row["gamma_low"] < row["gamma"] < row["gamma_high"]
        assert (row["seeds"], row["durations"], row["bracketed"]) == (3, 3, True)
        assert (row["tokens_min"], row["tokens_max"]) == (BASE // 4, 4 * BASE)
        assert row["half"] == ("excluded" if row["gamma_high"] < 0.5 else "not excluded")


@pytest.mark.parametrize("method", ["pooled", "by seed"])
def test_only_what_moves_the_exponent_is_said_to(frame, method):
    table = effects_of(frame, method)
    assert table["factor"].tolist() == ["schedule", "qk_norm", "co_scaled"]
    assert table[["from", "to"]].values.tolist()[0] == ["cosine", "wsd 20%"]
    assert table["pairs"].tolist() == [4, 4, 4]
    assert table.loc[2, "effect"] == pytest.approx(-0.2, abs=0.05)
    assert table["moves"].tolist() == ["not decided", "not decided", "yes"]
    corrected = 1 - 0.05 / 3 if method == "pooled" else 0.95
    assert table["confidence"].tolist() == pytest.approx([corrected] * 3)


def test_a_condition_that_is_not_bracketed_leaves_its_pairs_and_is_marked(frame):
    cut = (
        (frame["train.schedule"] == "wsd")
        & frame["model.qk_norm"]
        & (frame["sde_rule"] == "none")
        & (frame["train.tokens"] == 4 * BASE)
        & (frame["hyperparameters.lr"] < 2**-6.5)
    )
    table = exponents_of(frame[~cut])
    marked = table[~table["bracketed"]]
    assert marked[["schedule", "co_scaled", "qk_norm"]].values.tolist() == [["wsd", "none", True]]
    assert marked["durations"].tolist() == [2]
    assert effects_of(frame[~cut])["pairs"].tolist() == [3, 3, 3]


def test_an_optimum_hidden_by_divergence_moves_nothing(frame):
    """The fit ends at the last stable rate in every seed alike: no spread, and no proof."""
    cliff = (
        (frame["train.schedule"] == "wsd")
        & (frame["train.tokens"] == BASE // 4)
        & (frame["hyperparameters.lr"] > 2**-6.5)
    )
    hidden = frame.assign(val_loss=frame["val_loss"].mask(cliff, math.inf))
    table = effects_of(hidden).set_index("factor")
    assert table.loc["schedule", "pairs"] == 0
    assert table.loc["schedule", "moves"] == "not decided"


def test_without_a_rule_nothing_follows(frame):
    none = frame[(frame["sde_rule"] == "none")]
    sp = none.assign(parameterization="sp", sde_rule="all")
    assert set(exponents_of(sp)["co_scaled"]) == {"none"}
    assert exponents_of(sp)["gamma"].tolist() == pytest.approx(exponents_of(none)["gamma"].tolist())
    with pytest.raises(ConfigError, match="its condition has another arm"):
        exponents_of(pd.concat([none, sp]))


def test_one_seed_has_no_interval_and_decides_nothing(frame):
    one = frame[frame["seed"] == 0]
    assert exponents_of(one)["gamma_low"].isna().all()
    assert set(effects_of(one)["moves"]) == {"not decided"}
