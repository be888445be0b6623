"""What is chosen among per-module searches, and which part of it gains, from known losses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from analysis.arms import Arm
from analysis.attribution import GLOBAL, PER_MODULE, WANG_RATES, arms, attribution
from analysis.ladder import survival
from analysis.load import CURVE_COLUMNS, Results, config_columns, save_results
from analysis.searches import TRIAL_COLUMNS
from analysis.tuned import main
from paper_repro.config import RunConfig
from paper_repro.errors import ConfigError
from paper_repro.statistics import Interval

START = {"hyperparameters": {"lr": 0.02}}
TYPES = {
    "embedding": {"lr": 4.0, "init_std": 0.25},
    "query": {"lr": 2.0, "eps": 3.0},
    "key": {"lr": 0.5, "one_minus_beta1": 0.7, "one_minus_beta2": 0.6},
    "value": {"lr": 3.0, "init_std": 0.5, "weight_decay": 2.0},
    "mlp_in": {"lr": 0.25, "weight_decay": 0.5},
    "mlp_out": {"lr": 1.5, "residual": 0.25},
}
DEPTH = {"lr": [1.0, 2.0]}


def multiplied(factor: float) -> dict:
    """A per-module point: the multipliers of `TYPES`, that of the query's η changed."""
    types = {**TYPES, "query": {**TYPES["query"], "lr": factor}}
    hyperparameters = {"module_multipliers": types, "depth_multipliers": DEPTH}
    return {"hyperparameters": {**START["hyperparameters"], **hyperparameters}}


def moved(factor: float) -> dict:
    """A global point."""
    return {"hyperparameters": {"lr": START["hyperparameters"]["lr"] * factor}}


def run(content: dict | RunConfig, loss: float, sweep: str, **fields: object) -> dict:
    config = content if isinstance(content, RunConfig) else RunConfig.model_validate(content)
    identity = {"sweep": sweep, "run_id": config.run_id, "config": config.model_dump_json()}
    outcome = {"status": "done", "val_loss": loss, "parameters": 1000, **fields}
    return identity | config_columns(config) | outcome | Arm.of(config).columns()


def searched(losses: dict[str, dict[int, list[float]]], sweep: str = "search_modules") -> Results:
    """Searches whose incumbents after some trials had these losses at the choosing seeds."""
    point = multiplied if sweep == "search_modules" else moved
    rows, runs = [], []
    for number, (search, confirmed) in enumerate(losses.items()):
        proposer, _, search_seed = search.rpartition("-")
        for after, values in confirmed.items():
            confirmations = [
                run({**point(number + after), "seed": seed}, loss, sweep)
                for seed, loss in enumerate(values, start=10)
            ]
            runs += confirmations
            row = {"search": search, "proposer": proposer, "search_seed": int(search_seed)}
            row |= {"kind": "confirmation", "trial": after, "round": -1, "repeat": 0}
            row |= {"octaves": "{}", "definition": ""}
            rows.append(row | {"runs": json.dumps([each["run_id"] for each in confirmations])})
    trials = pd.DataFrame(rows, columns=list(TRIAL_COLUMNS))
    return Results(pd.DataFrame(runs), pd.DataFrame(columns=list(CURVE_COLUMNS)), trials)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Results in which the last incumbent of gp-1 is the best by mean plus deviation."""
    losses = {
        "gp-0": {4: [1.0, 1.0], 8: [1.70, 1.72]},  # was better before its end
        "gp-1": {4: [2.0, 2.0], 8: [1.71, 1.71]},
        "trust_region-0": {8: [1.50, 1.92]},  # the same mean, and spread
        "random-0": {8: [1.0, 1.0]},  # in the race, no candidate
    }
    save_results(searched(losses), tmp_path / "search_modules.parquet")
    for sweep, after in (("search_global", 1), ("search_global_more", 2), ("search_layers", 3)):
        found = searched({"gp-0": {after: [1.8, 1.8]}}, sweep)
        save_results(found, tmp_path / f"{sweep}.parquet")
    assert main(["--results-dir", str(tmp_path)]) == 0
    return tmp_path


def test_chosen_is_the_candidate_with_the_least_mean_plus_deviation_at_its_end(folder):
    chosen = yaml.safe_load((folder / "tuned_modules.yaml").read_text(encoding="utf-8"))
    assert chosen["hyperparameters"]["module_multipliers"]["query"]["lr"] == 1 + 8
    assert "gp-1" in (folder / "tuned_modules.yaml").read_text(encoding="utf-8")


def test_nothing_is_chosen_before_a_search_is_at_its_end(tmp_path, capsys):
    results = searched({"random-0": {8: [1.0, 1.0]}}, "search_global")
    save_results(results, tmp_path / "search_global.parquet")
    assert main(["--results-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "error: no search is at its end\n"
    assert not list(tmp_path.glob("*.yaml"))


def at_the_proxy(folder: Path, loss: Callable[[str], float]) -> Results:
    """Runs of every arm at the reporting seeds, and of Wang's at the choosing ones."""
    rows, lines = [], []
    for name, (_, config) in arms(folder).items():
        for eval_set, seeds in ((1, range(20, 24)), (0, range(10, 12))):
            if eval_set == 0 and "Wang" not in name:
                continue
            for seed in seeds:
                train = config.train.model_copy(update={"eval_set": eval_set})
                own = config.model_copy(update={"train": train, "seed": seed})
                row = run(own, loss(name) + 0.1 * (seed % 5), "modules_arms")
                tokens = np.geomspace(10_000, 819_200, 20)
                curve = {"tokens": tokens, "step": range(20), "gradient_norm": float(seed)}
                curve["val_loss"] = row["val_loss"] + np.linspace(1, 0, 20)
                rows.append(row)
                lines.append(pd.DataFrame(curve).assign(run_id=row["run_id"]))
    curves = pd.concat(lines).reindex(columns=list(CURVE_COLUMNS))
    return Results(pd.DataFrame(rows), curves, pd.DataFrame())


def test_arms_are_judged_by_their_gain_and_parts_by_what_they_lack(folder):
    losses = {GLOBAL: 1.8, PER_MODULE: 1.7, "without value": 1.78, "without λ": 1.7}
    table = attribution(at_the_proxy(folder, lambda name: losses.get(name, 1.75)), folder)
    found = table.set_index("arm")
    assert found.loc[PER_MODULE, "gain"] == pytest.approx(0.1)
    assert found.loc[PER_MODULE, "verdict"] == "beats"
    assert found.loc["without value", ["gain", "lacks"]].tolist() == pytest.approx([0.02, 0.08])
    assert found.loc["without value", "matters"] == "yes"
    assert found.loc["without λ", "matters"] == "not decided"
    assert pd.isna(found.loc["shuffled", "matters"])
    assert (found["gradient_norm"] == 23).all()
    parts = set(found.index[found["part"] == "part"])
    assert {f"without {name}" for name in ("query", "value", "key", "mlp out", "η", "ε")} < parts


def test_the_rate_of_wangs_rule_is_chosen_at_seeds_that_are_not_reported(folder):
    rates = {f"Wang's rule, η × {share:g}": 1.75 for share in WANG_RATES}
    results = at_the_proxy(folder, lambda name: rates.get(name, 1.8))
    half = arms(folder)["Wang's rule, η × 0.5"][1].hyperparameters.lr
    chosen = (results.runs["train.eval_set"] == 0) & (results.runs["hyperparameters.lr"] == half)
    results.runs.loc[chosen, "val_loss"] -= 0.2
    reported = (results.runs["train.eval_set"] == 1) & (results.runs["hyperparameters.lr"] == half)
    results.runs.loc[reported, "val_loss"] += 0.5
    names = [name for name in attribution(results, folder)["arm"] if "Wang" in name]
    assert names == ["Wang's rule, η × 0.5"]
    alone = results.runs[results.runs["train.eval_set"] == 1]
    with pytest.raises(ConfigError, match="Wang's rule: no runs on the text of the searches"):
        attribution(Results(alone, results.curves, results.trials), folder)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.01, 0.09, "yes"),
        (0.01, 0.03, "yes, less than half"),
        (-0.01, 0.03, "no"),
        (-0.01, 0.09, "not decided"),
    ],
)
def test_a_gain_survives_or_is_lost_with_the_whole_of_its_interval(low, high, expected):
    assert survival(Interval((low + high) / 2, low, high), at_the_proxy=0.07) == expected
