"""What schedule searches found, tried again: the files, the runs, the differences, the figure."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.annealings import (
    COMPARED,
    SEARCHES,
    annealings,
    arms,
    difference,
    first_half,
    main,
    verdict_of,
)
from analysis.arms import Arm
from analysis.load import COMMITTED_RESULTS, CURVE_COLUMNS, Results, config_columns, save_results
from analysis.searches import TRIAL_COLUMNS
from analysis.tuned import arms_of
from figures.annealings import make_annealings
from figures.style import style
from paper_repro.config import RunConfig
from paper_repro.schedules import lr_scale
from paper_repro.search import Search
from paper_repro.statistics import Interval
from sweeps.expand import read_sweep

SWEEPS = Path(__file__).parent.parent / "sweeps"
NO_CURVES = pd.DataFrame(columns=list(CURVE_COLUMNS))


def row(config: RunConfig, loss: float, sweep: str) -> dict:
    identity = {"sweep": sweep, "run_id": config.run_id, "config": config.model_dump_json()}
    outcome = {"status": "done", "val_loss": loss}
    return identity | config_columns(config) | outcome | Arm.of(config).columns()


def searched(sweep: str, ended: int = 3) -> Results:
    """Searches of a file of this project, whose last incumbents are random courses."""
    random, runs, trials = np.random.default_rng(len(sweep)), [], []
    for search in read_sweep(SWEEPS / f"{sweep}.yaml").searches[:ended]:
        trial = search.confirmation(search.space.clip(random.uniform(-6, 1, 7)), search.trials)
        runs += [row(config, 1.8 + 0.01 * config.seed, sweep) for config in trial.runs.values()]
        trials.append(confirmed(search, list(trial.runs)))
    frame = pd.DataFrame(trials, columns=list(TRIAL_COLUMNS))
    return Results(pd.DataFrame(runs), NO_CURVES, frame)


def confirmed(search: Search, runs: list[str]) -> dict:
    known = {"search": search.name, "proposer": search.proposer, "search_seed": search.seed}
    place = {"kind": "confirmation", "trial": search.trials, "round": -1, "repeat": 0}
    return {**known, **place, "octaves": "{}", "runs": json.dumps(runs), "definition": ""}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """The sweep of the arms, in a project whose searches are at their end."""
    root = tmp_path_factory.mktemp("project")
    results = root / "analysis" / "results"
    for sweep in SEARCHES.values():
        save_results(searched(sweep), results / f"{sweep}.parquet")
    shutil.copy(COMMITTED_RESULTS / "tuned_global.yaml", results)
    (root / "sweeps").mkdir()
    shutil.copytree(SWEEPS / "bases", root / "sweeps" / "bases")
    shutil.copy(SWEEPS / "annealings.yaml", root / "sweeps")
    assert main(["--results-dir", str(results)]) == 0
    return root


@pytest.fixture(scope="module")
def design(project) -> list[RunConfig]:
    return list(read_sweep(project / "sweeps" / "annealings.yaml").runs.values())


def kinds_of(design: list[RunConfig], project: Path) -> pd.Series:
    runs = pd.DataFrame([row(config, 0.0, "annealings") for config in design])
    return arms_of(runs, arms(project / "analysis" / "results")).str.rstrip("0123456789 ")


def test_the_design_has_every_kind_at_its_steps_and_seeds_and_text_that_no_search_saw(
    design, project
):
    kinds = kinds_of(design, project)
    seeds = {config.seed for config in design}
    per_arm = len(seeds)
    assert Counter(zip(kinds, (config.steps for config in design), strict=True)) == {
        **{("short", steps): 3 * per_arm for steps in (192, 384)},
        **{("cut", 192): 3 * per_arm, ("long", 384): 3 * per_arm},
        **{(kind, steps): per_arm for kind in ("linear", "constant") for steps in (192, 384)},
    }
    (text,) = {config.train.eval_set for config in design}
    for sweep in SEARCHES.values():
        for search in read_sweep(SWEEPS / f"{sweep}.yaml").searches:
            assert search.space.base.train.eval_set != text
            assert not seeds & {*range(2 * search.seeds), *search.confirm_seeds}
    searched_with = search.space.base.hyperparameters
    assert all(config.hyperparameters == searched_with for config in design)


def test_a_cut_course_has_the_rate_of_the_long_one_at_every_step(design, project):
    rates = {"cut": {}, "long": {}}
    of_arm = arms(project / "analysis" / "results")
    for kind, found in rates.items():
        steps = 192 if kind == "cut" else 384
        for number in range(3):
            train = of_arm[f"{kind} {number}"].train
            found[number] = [lr_scale(train, step, steps) for step in range(steps)]
    for number, long in rates["long"].items():
        assert rates["cut"][number] == pytest.approx(long[:192], rel=1e-12)
        assert long[192:] != pytest.approx(long[:192], rel=0.01)
    config = next(iter(read_sweep(SWEEPS / "schedule_search_long.yaml").runs.values()))
    assert first_half(config).steps == 192


def test_the_interval_covers_the_difference_over_searches_and_seeds():
    """Searches, seeds and single runs vary; so does what seeds do to each kind."""
    random, covered, repeats = np.random.default_rng(0), 0, 300
    names = [[f"{kind} {number}" for number in range(3)] for kind in ("cut", "short")]
    for _ in range(repeats):
        seeds = random.normal(0, 0.3, 6)
        kinds = [
            pd.DataFrame(
                mean
                + seeds
                + random.normal(0, 0.01, (3, 1))
                + random.normal(0, 0.01, 6)
                + random.normal(0, 0.01, (3, 6)),
                arms,
            )
            for mean, arms in zip((2.05, 2.0), names, strict=True)
        ]
        found = difference(*kinds)
        covered += found.low < 0.05 < found.high
        assert found.half_width < 0.15  # what seeds do to all arms cancels
    assert 0.92 < covered / repeats < 0.995


def test_an_interval_is_unknown_without_searches_or_seeds():
    two = pd.DataFrame([[1.0, 1.1], [1.2, 1.4]], ["short 0", "short 1"])
    fixed = pd.DataFrame([[1.5, 1.4]], ["linear"])
    assert math.isfinite(difference(two, fixed).low)
    for first in (two.head(1), two[[0]], two.replace(1.4, math.inf)):
        assert math.isnan(difference(first, fixed[first.columns]).low)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.001, 0.01, "above"),
        (-0.3, -0.001, "below"),
        (-0.019, 0.019, "within 0.02"),
        (-0.019, 0.021, "not decided"),
        (-0.021, 0.019, "not decided"),
        (math.nan, math.nan, "not decided"),
    ],
)
def test_verdicts(low, high, expected):
    assert verdict_of(Interval((low + high) / 2, low, high)) == expected


def results_of(design: list[RunConfig], project: Path, means: dict[str, float]) -> Results:
    random = np.random.default_rng(1)
    losses = kinds_of(design, project).map(means) + random.normal(0, 0.005, len(design))
    rows = [
        row(c, x + 0.1 * (c.seed % 5), "annealings") for c, x in zip(design, losses, strict=True)
    ]
    return Results(pd.DataFrame(rows), NO_CURVES, pd.DataFrame(columns=list(TRIAL_COLUMNS)))


def test_the_table_has_every_comparison_and_the_figure_draws_it(design, project):
    means = {"short": 1.8, "cut": 1.9, "long": 1.8, "linear": 1.85, "constant": 2.0}
    results, folder = results_of(design, project, means), project / "analysis" / "results"
    table = annealings(results, folder)
    assert len(table) == 10
    assert set(zip(table["first"], table["second"], strict=True)) == set(COMPARED)
    assert (table["seeds"] == 6).all()
    for _, each in table.iterrows():
        expected = means[each["first"]] - means[each["second"]]
        assert each["difference"] == pytest.approx(expected, abs=0.01)
        assert each["difference_low"] < expected < each["difference_high"]
    verdicts = table.set_index(["first", "second", "steps"])["verdict"]
    assert verdicts["cut", "short", 192] == "above"
    assert verdicts["long", "constant", 384] == "below"
    assert verdicts["long", "short", 384] == "within 0.02"
    with style():
        made = make_annealings(results, folder)
    left, right = made.figure.axes
    assert len(left.lines) == 9
    assert right.get_yticklabels()[0].get_text() == "cut − short, 192"
    assert len(made.frames["courses"]) == 3 * (7 + 7 + 4)


def test_without_ended_searches_the_command_says_what_to_run(tmp_path, capsys):
    assert main(["--results-dir", str(tmp_path)]) == 2
    assert "python -m sweeps.launch sweeps/schedule_search_short.yaml" in capsys.readouterr().err
    for sweep in SEARCHES.values():
        save_results(searched(sweep, ended=2), tmp_path / f"{sweep}.parquet")
    assert main(["--results-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err.endswith("2 of 3 searches are at their end\n")
    assert not list(tmp_path.glob("*.yaml"))
