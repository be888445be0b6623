"""The loss around tuned hyperparameters, from runs whose losses are known."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from analysis.landscape import minimum, plane, scan_table, scans
from paper_repro.config import RunConfig
from paper_repro.errors import ConfigError
from paper_repro.search import blend

START = RunConfig.model_validate(
    {"hyperparameters": {"lr": 0.01, "module_multipliers": {"key": {"lr": 2.0, "eps": 4.0}}}}
)
END = RunConfig.model_validate({"hyperparameters": {"lr": 0.02, "eps": 1e-7}})


def run(config: dict, loss: float, width: int = 32, seed: int = 0) -> dict:
    made = RunConfig.model_validate({**config, "model": {"width": width}, "seed": seed})
    return {"run_id": made.run_id, "config": made.model_dump_json(), "val_loss": loss}


def scanned(module: str, octaves: float) -> dict:
    multipliers = {"key": {"lr": 2.0, "eps": 4.0}}
    lr = multipliers.get(module, {}).get("lr", 1.0) * 2**octaves
    multipliers[module] = {**multipliers.get(module, {}), "lr": lr}
    return {"hyperparameters": {"lr": 0.01, "module_multipliers": multipliers}}


def test_scans_are_of_one_module_type_and_share_the_start():
    rows = [run(scanned("key", 0), 1.0), run(scanned("key", 0), 1.2, seed=1)]
    rows += [run(scanned("key", k), 1 + 0.1 * abs(k)) for k in (-2, 2, 4)]
    rows += [run(scanned("query", k), 2.0, width) for k in (-2, 2) for width in (32, 64)]
    rows += [run({"hyperparameters": {"lr": 0.04}}, 0.0)]  # of no scan
    two = {"query": {"lr": 2.0}, "key": {"lr": 8.0, "eps": 4.0}}
    rows += [run({"hyperparameters": {"lr": 0.01, "module_multipliers": two}}, 0.0)]
    found = scans(pd.DataFrame(rows), START)
    assert set(found["module"]) == {"key", "query"}
    losses = found.set_index(["width", "module", "octaves"])["val_loss"]
    assert losses[32, "key"].to_dict() == pytest.approx({-2: 1.2, 0: 1.1, 2: 1.2, 4: 1.4})
    assert losses[32, "query"].to_dict() == pytest.approx({-2: 2, 0: 1.1, 2: 2})
    assert losses[64, "query"].to_dict() == {-2: 2, 2: 2}


def test_a_scan_is_flat_around_its_least_loss_and_ends_at_a_cliff():
    losses = {-4: 1.3, -2: 1.01, 0: 1.0, 2: 1.019, 4: 1.1, 6: 1.7, 8: math.inf}
    frame = pd.DataFrame(
        [
            {"width": 32, "module": "query", "octaves": octaves, "val_loss": loss}
            for octaves, loss in losses.items()
        ]
    )
    (row,) = scan_table(frame).to_dict("records")
    assert row == {
        **{"module": "query", "width": 32, "best": 0},
        **{"flat_low": -2, "flat_high": 2, "cliff": 6},
    }
    (row,) = scan_table(frame[frame["octaves"] < 6]).to_dict("records")
    assert math.isnan(row["cliff"])


def test_runs_on_a_line_have_their_weight_and_the_others_are_left_out():
    weights = (-0.5, 0, 0.5, 1, 1.5)
    rows = []
    for width, best in ((32, 1.0), (64, 0.6)):
        for weight in weights:
            config = blend(START, [END], [weight])
            rows.append(run(config, 1 + (weight - best) ** 2, width))
    rows.append(run(scanned("query", 2), 0.0))
    line = plane(pd.DataFrame(rows), START, [END], ["modules"])
    assert len(line) == 2 * len(weights)
    found = minimum(line, "modules").set_index("width")
    assert found["weight"].to_dict() == pytest.approx({32: 1.0, 64: 0.6})
    with pytest.raises(ConfigError, match="no run lies between"):
        plane(pd.DataFrame(rows[-1:]), START, [END], ["modules"])


def test_a_minimum_at_the_end_of_a_line_is_not_known():
    line = pd.DataFrame({"width": 32, "t": [0.0, 0.5, 1.0], "val_loss": [3.0, 2.0, 1.0]})
    assert math.isnan(minimum(line, "t")["weight"].item())
