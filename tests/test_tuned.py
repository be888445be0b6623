"""Verdicts on what was tuned, and which run is of which arm."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
import yaml

from analysis.tuned import DERIVED, arms_of, read_arms, shuffled, verdict
from paper_repro.config import RunConfig
from paper_repro.errors import ConfigError
from paper_repro.search import tuned
from paper_repro.statistics import Interval


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.021, 0.03, "beats"),
        (-0.01, 0.019, "does not"),
        (0.019, 0.03, "not decided"),
        (math.nan, math.nan, "not decided"),  # one seed
    ],
)
def test_a_verdict_needs_the_whole_interval(low, high, expected):
    assert verdict(Interval((low + high) / 2, low, high), 0.02) == expected


@pytest.fixture
def files(tmp_path) -> dict[str, Path]:
    contents = {
        "defaults": {"hyperparameters": {"lr": 2**-5}},
        "tuned": {"hyperparameters": {"lr": 0.02, "module_multipliers": {"key": {"lr": 2.0}}}},
        "slow": {"hyperparameters": {"lr": 0.02}, "train": {"warmup_fraction": 0.3}},
    }
    paths = {name: tmp_path / f"{name}.yaml" for name in contents}
    for name, path in paths.items():  # whole, as a search leaves it, or a part
        config = RunConfig.model_validate(contents[name])
        content = tuned(config) if name == "tuned" else contents[name]
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return paths


def runs(*configs: dict) -> pd.DataFrame:
    made = [RunConfig.model_validate(config) for config in configs]
    rows = [{"run_id": config.run_id, "config": config.model_dump_json()} for config in made]
    return pd.DataFrame(rows, index=range(5, 5 + len(rows)))


def test_runs_are_of_the_arm_whose_numbers_they_have_at_any_shape(files):
    frame = runs(
        {"hyperparameters": {"lr": 2**-5}, "model": {"width": 128}, "seed": 3},
        {"hyperparameters": {"lr": 0.02, "module_multipliers": {"key": {"lr": 2.0}}}},
        {"hyperparameters": {"lr": 0.02}, "train": {"warmup_fraction": 0.3, "tokens": 65_536}},
    )
    found = arms_of(frame, read_arms(files))
    assert found.to_dict() == {5: "defaults", 6: "tuned", 7: "slow"}


def test_a_run_of_no_arm_and_files_of_one_arm_are_refused(files):
    with pytest.raises(ConfigError, match=r"run d1-\w+: its hyperparameters are of none of"):
        arms_of(runs({"hyperparameters": {"lr": 0.02}}), read_arms(files))
    with pytest.raises(ConfigError, match="again: the same hyperparameters as tuned"):
        arms_of(runs(), read_arms({**files, "again": files["tuned"]}))


MODULES = RunConfig.model_validate(
    {
        "hyperparameters": {
            "lr": 0.02,
            "module_multipliers": {
                "query": {"lr": 2.0, "eps": 3.0},
                "key": {"lr": 4.0},
                "value": {"lr": 8.0, "eps": 5.0, "init_std": 0.5},
                "mlp_out": {"residual": 0.25},
            },
            "depth_multipliers": {"lr": [1.0, 2.0], "eps": [1.0, 3.0]},
        }
    }
)


def test_learning_rates_alone_and_all_else():
    found = DERIVED["lr_only"](MODULES).hyperparameters
    rates = {"query": {"lr": 2.0}, "key": {"lr": 4.0}, "value": {"lr": 8.0}, "mlp_out": {}}
    assert found.module_multipliers == rates
    assert found.depth_multipliers == {"lr": [1.0, 2.0]}
    assert found.lr == 0.02
    others = DERIVED["without_lr"](MODULES).hyperparameters
    assert others.module_multipliers["value"] == {"eps": 5.0, "init_std": 0.5}
    assert others.depth_multipliers == {"eps": [1.0, 3.0]}


def test_the_control_deals_the_same_multipliers_to_other_types():
    found = [shuffled(MODULES, seed).hyperparameters for seed in range(20)]
    for each in found:
        for quantity in ("lr", "eps", "init_std", "residual"):
            before, after = (
                {m: q[quantity] for m, q in h.module_multipliers.items() if quantity in q}
                for h in (MODULES.hyperparameters, each)
            )
            assert before.keys() == after.keys()
            assert sorted(before.values()) == sorted(after.values())
        assert each.depth_multipliers == MODULES.hyperparameters.depth_multipliers
    assert len({each.model_dump_json() for each in found}) > 6
    assert shuffled(MODULES) == shuffled(MODULES)
