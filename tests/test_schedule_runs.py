"""The runs of sweeps/schedules.yaml as curves, and how the laws do on them."""

from __future__ import annotations

import dataclasses
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from support.synthetic_sweep import BIGRAM_ENTROPY, write_run

from analysis.load import load_sweep
from analysis.schedule_laws import measures, tables
from analysis.schedule_laws.convex import ConvexLaw
from analysis.schedule_laws.curves import Curve
from analysis.schedule_laws.laws import LAWS
from analysis.schedule_laws.runs import (
    PROBED_ABOVE,
    family_of,
    name_of,
    read_runs,
    schedule_of,
    without_probes,
)
from analysis.schedule_laws.tables import divergence_table, laws_table, verdict
from paper_repro.config import RunConfig
from paper_repro.statistics import Interval
from sweeps.expand import read_sweep

SWEEP = Path(__file__).parent.parent / "sweeps" / "schedules.yaml"


@pytest.fixture(scope="module")
def design() -> list[RunConfig]:
    return list(read_sweep(SWEEP).runs.values())


def test_the_design_has_eight_schedules_of_each_of_eight_families_everywhere(design):
    judged = [config for config in design if config.hyperparameters.lr <= PROBED_ABOVE]
    cells = {(config.model.width, config.steps, config.seed) for config in judged}
    assert len(cells) == 8
    for cell in cells:
        some = [c for c in judged if (c.model.width, c.steps, c.seed) == cell]
        assert len({name_of(config) for config in some}) == len(some) == 64
        assert set(Counter(family_of(config.train) for config in some).values()) == {8}
    probes = {name_of(config) for config in design} - {name_of(config) for config in judged}
    assert len(probes) == 48
    assert len({family_of(config.train) for config in judged}) == 8


def test_the_rates_of_a_schedule_are_those_that_it_was_trained_with(design):
    for config in design[::40]:
        schedule = schedule_of(config)
        assert len(schedule.rates) == config.steps
        assert schedule.peak == pytest.approx(config.hyperparameters.lr)
        assert not schedule.drops[: schedule.warmup].any()
        assert schedule.drops.sum() == pytest.approx(
            schedule.rates[max(schedule.warmup, 1) - 1] - schedule.rates[-1]
        )


def config(lr, seed, schedule="cosine"):
    content = {"hyperparameters": {"lr": lr}, "train": {"schedule": schedule}, "seed": seed}
    return RunConfig.model_validate(content)


def test_seeds_are_those_that_all_judged_schedules_have(tmp_path):
    """The probe has one seed; of two judged schedules one lacks a seed, and one diverged."""
    ends = {
        **{(2.0**-5, 0, "cosine"): 1.5, (2.0**-5, 1, "cosine"): 1.7, (2.0**-5, 2, "cosine"): 9.0},
        **{(2.0**-5, 0, "linear"): 1.6, (2.0**-5, 1, "linear"): BIGRAM_ENTROPY + 0.1},
        (1.0, 0, "cosine"): float("inf"),
    }
    for (lr, seed, schedule), loss in ends.items():
        write_run(tmp_path, "s", config(lr, seed, schedule), loss)
    curves = {(c.family, c.schedule.peak): c for c in read_runs(load_sweep(tmp_path, "s"))}
    cosine, linear = curves["cosine", 2.0**-5], curves["linear", 2.0**-5]
    assert cosine.ends.tolist() == [1.5, 1.7]
    assert (cosine.diverged, linear.diverged, curves["cosine", 1.0].diverged) == (False, True, True)
    assert curves["cosine", 1.0].ends.tolist() == [np.inf]
    assert cosine.at.tolist() == [cosine.steps // 2, cosine.steps]
    assert [curve.family for curve in without_probes(list(curves.values()))].count("cosine") == 1


def test_the_table_finds_the_law_that_made_the_runs(design, monkeypatch):
    """All splits and peaks; where the bound holds exactly, it is the law with the least error."""
    monkeypatch.setattr(measures, "RESAMPLES", 5)
    monkeypatch.setattr(tables, "LAWS", {name: LAWS[name] for name in ("convex bound", "no law")})
    law, random, curves = ConvexLaw(1.2, 1.0, 3.0), np.random.default_rng(0), []
    for each in design:
        name, rate = name_of(each), each.hyperparameters.lr
        if each.seed == 30 and rate <= PROBED_ABOVE and zlib.crc32(name.encode()) % 3 == 0:
            at, empty = np.array([each.steps // 2, each.steps]), np.zeros(2)
            size = float(each.model.width)
            bare = Curve(name, family_of(each.train), size, schedule_of(each), at, empty, empty)
            losses = law.predict(bare)
            ends = losses[-1] + random.normal(0, 0.001, 2)
            curves.append(dataclasses.replace(bare, losses=losses, ends=ends))
    table = laws_table(curves)
    assert set(table["split"]) == {"schedule", "family", "duration", "size", "none"}
    first = table[table["split"] != "none"].groupby(["peaks", "split"]).first()
    assert (first["law"] == "convex bound").all()
    assert (first["error"] < 0.002).all()
    seeds = table[table["law"] == "another seed"]
    assert seeds["error"].between(0, 0.002).all()


def probed(design, diverges):
    """A curve of each schedule of the design, which diverged where its schedule says so."""
    end = np.zeros(1)
    for each in design:
        if each.seed == 30:
            name, family, schedule = name_of(each), family_of(each.train), schedule_of(each)
            size, at = float(each.model.width), np.array([each.steps])
            yield Curve(name, family, size, schedule, at, end, end, diverged=diverges(schedule))


def test_the_table_of_divergence_judges_held_out_runs(design):
    """The peak alone decides: no peak is mixed, and a threshold is right of all."""
    table = divergence_table(list(probed(design, lambda schedule: schedule.peak > 0.6)))
    assert set(table["split"]) == {"schedule", "family", "duration", "size"}
    assert set(table["peaks"]) == {"all"}
    assert (table["diverged"] > 0).all()
    assert (table.loc[table["law"] == "peak alone", "f1"] == 1).all()
    assert (table.loc[table["split"] != "duration", "f1"] > 0.9).all()


def test_where_the_schedule_decides_a_threshold_on_the_peak_errs(design):
    """Diverged are those of a large mean rate: of three peaks some did, and others did not."""
    table = divergence_table(list(probed(design, lambda s: s.areas[-1] > 0.3 * len(s.rates))))
    mixed = table[(table["peaks"] == "mixed") & (table["split"] != "duration")]
    assert mixed["targets"].tolist() == [96, 96, 96, 96, 48, 48]
    f1 = mixed.set_index(["split", "law"])["f1"].unstack()
    assert (f1["Opt-Laws-style"] > f1["peak alone"] + 0.1).all()


def test_a_share_is_held_against_what_is_reported():
    assert verdict(Interval(0.97, 0.95, 0.99), 0.94) == "reaches"
    assert verdict(Interval(0.9, 0.85, 0.93), 0.94) == "below"
    assert verdict(Interval(0.9, 0.85, 0.95), 0.94) == "not decided"
