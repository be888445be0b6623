"""Speed-ups, recovered from learning curves that were made with a known one."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from analysis.load import CURVE_COLUMNS, Results
from analysis.speedup import compare_arms, speedup, tokens_to_reach

TOKENS = 2.0 ** np.linspace(12, 20, 60)


def law(tokens: np.ndarray, ratio: float = 1.0) -> np.ndarray:
    """A power law whose loss at n tokens is that of ratio 1 at n · ratio."""
    return 1.2 + 30 * (tokens * ratio) ** -0.3


def curve(ratio: float, noise: float = 0.0, seed: int = 0) -> pd.DataFrame:
    loss = law(TOKENS, ratio) + noise * np.random.default_rng(seed).normal()
    return pd.DataFrame({"tokens": TOKENS, "val_loss": loss})


@pytest.mark.parametrize("ratio", [1.0, 1.32, 2.31, 1 / 1.32])
def test_a_known_speedup_is_recovered(ratio):
    assert speedup(curve(ratio), curve(1)) == pytest.approx(ratio, rel=1e-3)
    assert speedup(curve(1), curve(ratio)) == pytest.approx(1 / ratio, rel=1e-3)


def test_tokens_are_interpolated_in_their_logarithm_at_the_first_crossing():
    assert tokens_to_reach([100, 400, 1600], [3.0, 2.0, 1.0], 2.5) == pytest.approx(200)
    assert tokens_to_reach([100, 400, 1600, 6400], [3.0, 2.0, 2.6, 1.0], 2.0) == pytest.approx(400)
    assert tokens_to_reach([100, 400], [3.0, 2.0], 3.0) == 100
    assert math.isnan(tokens_to_reach([100, 400], [3.0, 2.0], 1.9))
    assert math.isnan(tokens_to_reach([100, 400], [3.0, math.nan], 2.5))


def test_runs_that_were_evaluated_at_their_end_alone_have_no_speedup():
    """Whoever is better then, by how much is unknown, and not 1."""
    end, start = curve(2).tail(1), curve(1).tail(1)
    assert math.isnan(speedup(end, start))
    assert math.isnan(speedup(start, end))
    assert speedup(curve(2), start) == pytest.approx(2, rel=1e-3)  # one curve is enough
    assert speedup(start, curve(2)) == pytest.approx(0.5, rel=1e-3)


def results(ratios: dict[tuple[str, int], float], seeds: int, noise: float) -> Results:
    """Runs of two arms at several widths; both arms of a seed have the same noise and more."""
    rows, lines = [], []
    for (arm, width), ratio in ratios.items():
        for seed in range(seeds):
            run_id = f"{arm}-{width}-{seed}"
            points = curve(ratio, noise, seed).assign(run_id=run_id, step=range(len(TOKENS)))
            rows.append(
                {
                    "run_id": run_id,
                    "data.corpus": "sotu",
                    "data.tokenizer": "bytes",
                    "scaling.parameterization": "complete_d",
                    "model.width": width,
                    "model.depth": 4,
                    "train.batch_size": 4,
                    "train.tokens": 2**20,
                    "parameters": 12 * 4 * width**2,
                    "seed": seed,
                    "val_loss": points["val_loss"].iloc[-1],
                    "arm": arm,
                }
            )
            lines.append(points)
    curves = pd.concat(lines).reindex(columns=list(CURVE_COLUMNS))
    return Results(pd.DataFrame(rows), curves, pd.DataFrame())


def test_arms_are_compared_by_seed_at_each_rung():
    """Noise that both arms of a seed share does not widen the interval."""
    made = results(
        {("a", 32): 2.31, ("b", 32): 1, ("a", 64): 1.32, ("b", 64): 1, ("a", 128): 1}, 5, 0.05
    )
    table = compare_arms(made, made.runs["arm"], "a", "b")
    assert table["rung"].tolist() == ["proxy", "width × 2"]  # of 128 there is one arm only
    assert table["seeds"].tolist() == [5, 5]
    assert table["speedup"].to_numpy() == pytest.approx([2.31, 1.32], rel=1e-3)
    gain = law(TOKENS[-1], 1) - law(TOKENS[-1], 2.31)
    assert table["gain"].iloc[0] == pytest.approx(gain)
    assert (table["speedup_low"] <= table["speedup"]).all()
    assert (table["speedup_high"] - table["speedup_low"]).max() < 0.01


def test_a_diverged_run_makes_the_comparison_infinite_and_the_speedup_unknown():
    made = results({("a", 32): 2, ("b", 32): 1}, 3, 0.0)
    made.runs.loc[0, "val_loss"] = math.inf
    (row,) = compare_arms(made, made.runs["arm"], "a", "b").to_dict("records")
    assert row["gain"] == -math.inf
    assert math.isnan(row["gain_low"])
    assert math.isnan(row["speedup"])
