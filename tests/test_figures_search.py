"""Figures of searches and of what they found, from results whose numbers are known."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from analysis.ladder import FILES
from analysis.load import CURVE_COLUMNS, Results, config_columns
from analysis.searches import TRIAL_COLUMNS
from figures.landscape import make_landscape
from figures.modules import make_modules
from figures.search import make_search
from figures.speedup import make_speedup
from figures.style import style
from paper_repro.config import RunConfig
from paper_repro.search import DEPTH_PATH, MODULES_PATH, blend, tuned

SEEDS = (10, 11)


def trial(search: str, number: int, runs: list[str], **fields: object) -> dict:
    proposer, _, seed = search.rpartition("-")
    known = {"search": search, "proposer": proposer, "search_seed": int(seed), "trial": number}
    defaults = {"kind": "trial", "round": 0, "repeat": 0, "octaves": "{}", "definition": ""}
    return {**defaults, **known, "runs": json.dumps(runs), **fields}


def of_searches(octaves: dict[str, float]) -> Results:
    """Two proposers with two searches each, whose losses fall by 0.1 a trial."""
    rows, losses = [], {}
    for search in ("trust_region-0", "trust_region-1", "gp-0", "gp-1"):
        bonus = 0.05 if search.startswith("gp") else 0.0
        for number in range(4):
            run_id = f"{search}:{number}"
            losses[run_id] = 2.0 - bonus - 0.1 * number
            rows.append(trial(search, number, [run_id]))
        for after in (2, 4):
            runs = [f"{search}:{after}:{seed}" for seed in SEEDS]
            losses |= dict.fromkeys(runs, 2.2 - bonus - 0.1 * after)
            confirmed = {"kind": "confirmation", "octaves": json.dumps(octaves), "round": -1}
            rows.append(trial(search, after, runs, **confirmed))
    runs = pd.DataFrame({"run_id": list(losses), "val_loss": list(losses.values())})
    trials = pd.DataFrame(rows, columns=list(TRIAL_COLUMNS))
    return Results(runs, pd.DataFrame(), trials)


def test_the_search_figure_has_what_was_seen_and_what_held_at_fresh_seeds():
    rates = [2.0**-6] * 2 + [2.0**-5] * 2
    grid = pd.DataFrame({"hyperparameters.lr": rates, "val_loss": [2.3, 2.3, 2.1, 2.2]})
    modules = of_searches({})
    modules.runs["val_loss"] -= 0.5
    with style():
        made = make_search(of_searches({}), Results(grid, pd.DataFrame(), pd.DataFrame()), modules)
    race = made.frames["race"].set_index(["proposer", "trials"])
    assert race.loc[("gp", 4), "loss"] == pytest.approx(1.75)
    assert race.loc[("gp", 4), "seen"] == pytest.approx(1.65)
    assert race.loc[("trust_region", 2), "loss"] == pytest.approx(2.0)
    assert made.frames["grid"]["loss"].item() == pytest.approx(2.15)  # at its best rate
    least = made.frames["seen"].groupby("search")["least"]
    assert all(after <= before for _, curve in least for before, after in pairwise(curve))
    race = made.frames["race_modules"].set_index(["proposer", "trials"])
    assert race.loc[("gp", 4), "loss"] == pytest.approx(1.25)
    assert made.frames["seen_modules"]["least"].min() == pytest.approx(1.15)
    left, _, lower, _ = made.figure.axes
    assert len(left.lines) == 4 + 1  # the searches and the grid
    assert len(lower.lines) == 4
    assert [text.get_text() for text in made.figure.legends[0].get_texts()] == [
        *("trust region", "Gaussian process")
    ]


def test_the_modules_figure_has_the_last_incumbents_of_all_searches():
    octaves = {
        f"{MODULES_PATH}.query.lr": 2.0,
        f"{MODULES_PATH}.unembedding.init_std": -1.5,
        f"{DEPTH_PATH}.lr.0": 0.5,
        f"{DEPTH_PATH}.lr.1": -0.5,
    }
    with style():
        made = make_modules(of_searches(octaves))
    found = made.frames["multipliers"].set_index(["search", "module", "quantity"])["octaves"]
    assert len(found) == 4 * 4
    assert found["gp-1", "query", "lr"] == 2.0
    assert found["gp-1", "unembedding", "init_std"] == -1.5
    assert found["trust_region-0", "block 1", "lr"] == -0.5
    titles = [panel.get_title() for panel in made.figure.axes if panel.get_title()]
    assert titles[:2] == ["Gaussian process 0: 1.750 nats", "Gaussian process 1: 1.750 nats"]


def of_ladder() -> Results:
    """Per module needs half of the tokens at the proxy, 1/1.5 at width 64; shuffled, no fewer."""
    ratios = {"global": {32: 1, 64: 1}, "per module": {32: 2, 64: 1.5}, "shuffled": {32: 1, 64: 1}}
    rows, lines = [], []
    for arm, lr in ARM_RATES.items():
        for width, ratio in ratios[arm].items():
            for parameterization in ("sp", "complete_d"):
                for seed in range(3):
                    config = RunConfig.model_validate(
                        {
                            "model": {"width": width, "depth": 4},
                            "scaling": {"parameterization": parameterization},
                            "hyperparameters": {"lr": lr},
                            "seed": seed,
                        }
                    )
                    tokens = np.geomspace(10_000, 819_200, 40)
                    losses = 1 + 0.01 * seed + 100 * (tokens * ratio) ** -0.4
                    row = {"run_id": config.run_id, "config": config.model_dump_json()}
                    rows.append(
                        row
                        | config_columns(config)
                        | {"val_loss": losses[-1], "parameters": 48 * width**2}
                    )
                    points = {"tokens": tokens, "val_loss": losses, "step": range(40)}
                    lines.append(pd.DataFrame(points).assign(run_id=config.run_id))
    curves = pd.concat(lines).reindex(columns=list(CURVE_COLUMNS))
    return Results(pd.DataFrame(rows), curves, pd.DataFrame())


ARM_RATES = {"global": 0.01, "per module": 0.02, "shuffled": 0.04}


def write_tuned(path: Path, content: dict) -> RunConfig:
    config = RunConfig.model_validate(content)
    path.write_text(yaml.safe_dump(tuned(config)), encoding="utf-8")
    return config


def test_the_speedup_figure_has_the_rungs_and_the_control(tmp_path):
    for arm, lr in ARM_RATES.items():
        write_tuned(tmp_path / f"{FILES[arm]}.yaml", {"hyperparameters": {"lr": lr}})
    with style():
        made = make_speedup(of_ladder(), tmp_path)
    rungs = made.frames["rungs"].set_index(["parameterization", "rung"])
    assert rungs.loc[("complete_d", "proxy"), "speedup"] == pytest.approx(2, rel=0.02)
    assert rungs.loc[("sp", "width × 2"), "speedup"] == pytest.approx(1.5, rel=0.02)
    assert made.frames["shuffled"]["speedup"].to_numpy() == pytest.approx(1)
    proxy, largest, *_ = made.figure.axes
    assert proxy.get_title().startswith("proxy, 49.2k")
    assert largest.get_title().startswith("width × 2, 197k")
    assert (made.frames["rungs"]["survives"] == "yes").all()
    assert (made.frames["shuffled"]["survives"] == "no").all()
    slopes = made.frames["slopes"].set_index("parameterization")
    assert slopes["log_speedup_slope"].to_numpy() == pytest.approx(np.log(1.5 / 2) / 2, rel=0.05)
    assert (slopes["slope"] < 0).all()


def test_the_landscape_figure_has_scans_the_line_and_a_plane_for_each_width(tmp_path):
    multipliers = {
        "tuned_global": {},
        "tuned_modules": {"query": {"lr": 2.0}, "key": {"lr": 4.0}},
        "tuned_modules_lr_only": {"query": {"lr": 2.0}},
        "tuned_modules_without_lr": {"key": {"lr": 4.0}},
    }
    start, _, *parts = (
        write_tuned(
            tmp_path / f"{name}.yaml",
            {"hyperparameters": {"lr": 0.01, "module_multipliers": each}},
        )
        for name, each in multipliers.items()
    )
    points = [blend(start, parts, (x, y)) for x in (0, 0.5, 1, 1.5) for y in (0, 0.5, 1)]
    points += [
        {"hyperparameters": {"lr": 0.01, "module_multipliers": {module: {"lr": 2.0**octaves}}}}
        for module in ("value", "mlp_in", "unembedding")
        for octaves in (-4, -2, 2, 4)
    ]
    rows = []
    for width in (32, 64):
        for point in points:
            config = RunConfig.model_validate({**point, "model": {"width": width}})
            loss = 2 + sum(
                abs(np.log2(factors.get("lr", 1.0))) * 0.1
                for factors in config.hyperparameters.module_multipliers.values()
            )
            row = {"run_id": config.run_id, "config": config.model_dump_json(), "val_loss": loss}
            rows.append(row)
    runs = pd.DataFrame(rows).drop_duplicates("run_id")
    with style():
        made = make_landscape(Results(runs, pd.DataFrame(), pd.DataFrame()), tmp_path)
    assert {"value", "mlp_in", "unembedding"} <= set(made.frames["scans"]["module"])
    assert len(made.frames["line"]) == 2 * 3  # the diagonal of the plane
    assert len(made.frames["plane"]) == 2 * 12
    titles = [panel.get_title() for panel in made.figure.axes if panel.get_title()]
    assert titles[-2:] == ["width 32", "width 64"]
    assert "mlp in" in titles
