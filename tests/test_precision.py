"""The rule on bfloat16 finds the differences that synthetic pairs of runs have."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from support.synthetic_sweep import run_config, write_run

from analysis.arms import AXES
from analysis.load import load_results, load_sweep, save_results
from analysis.precision import precision
from analysis.tables import OTHERS
from paper_repro.errors import ConfigError

WIDTHS, SEEDS = (64, 128, 256), (30, 31, 32)
RATES = range(-7, -1)
CURVATURE = 0.05
"""Nats an octave², of the synthetic curves."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Records of a sweep in float32, parabolas around -4.4; one arm at the base, else two."""
    runs_dir = tmp_path_factory.mktemp("runs")
    for width in WIDTHS:
        for arm in ("complete_d",) if width == 64 else ("mup", "complete_d"):
            for rate in RATES:
                for seed in SEEDS:
                    loss = 1.8 + CURVATURE * (rate + 4.4) ** 2 + 0.01 * seed
                    config = run_config(arm, width, rate, seed)
                    write_run(runs_dir, "lr_width", config, loss)
    return runs_dir


@pytest.fixture(scope="module")
def float32(folder) -> pd.DataFrame:
    return load_sweep(folder, "lr_width").runs.assign(dtype="float32")


def in_bfloat16(
    float32: pd.DataFrame, mean: float = 0.0, sd: float = 0.004, shift: float = 0.0
) -> pd.DataFrame:
    """The runs with losses that differ by a mean and noise, and from a shifted optimum."""
    noise = np.random.default_rng(0).standard_normal(len(float32))
    rate = np.log2(float32["hyperparameters.lr"]) + 4.4
    moved = CURVATURE * ((rate - shift) ** 2 - rate**2)
    losses = float32["val_loss"] + mean + sd * (noise - noise.mean()) + moved
    return float32.assign(val_loss=losses, dtype="bfloat16")


def table(bfloat16: pd.DataFrame, float32: pd.DataFrame) -> pd.DataFrame:
    return precision(bfloat16, float32, AXES["width"]).set_index(["quantity", "part"])


def test_equal_up_to_noise_holds(float32):
    found = table(in_bfloat16(float32), float32)
    assert found.loc[("both", "all"), "verdict"] == "holds"
    assert found.loc[("loss", "all"), "difference"] == pytest.approx(0, abs=3e-4)
    assert found.loc[("loss", "all"), "pairs"] == 18 + 36 + 36
    assert found.loc[("loss", "all"), "units"] == 3 * len(RATES) * len(SEEDS)
    assert found.loc[("optimum", "all"), "pairs"] == 3 + 6 + 6
    assert found.loc[("optimum", "all"), "units"] == len(WIDTHS) * len(SEEDS)
    assert ("loss", "scale 128") in found.index
    parts = [part for quantity, part in found.index if quantity == "loss"]
    assert [part for part in parts if "octaves" in part] == ["octaves -1", "octaves 0", "octaves 1"]


@pytest.mark.parametrize(
    ("mean", "sd", "verdict"),
    [(0.0015, 0.001, "holds"), (-0.0035, 0.004, "fails"), (0.0018, 0.006, "not decided")],
)
def test_a_mean_difference_is_judged_by_its_interval(mean, sd, verdict, float32):
    found = table(in_bfloat16(float32, mean, sd), float32)
    assert found.loc[("loss", "all"), "difference"] == pytest.approx(mean, abs=5e-4)
    assert found.loc[("both", "all"), "verdict"] == verdict


@pytest.mark.parametrize(("shift", "verdict"), [(0.01, "holds"), (-0.1, "fails")])
def test_the_shift_of_the_optimum_is_found(shift, verdict, float32):
    found = table(in_bfloat16(float32, sd=1e-4, shift=shift), float32)
    assert found.loc[("optimum", "all"), "difference"] == pytest.approx(shift, abs=1e-3)
    assert found.loc[("optimum", "all"), "verdict"] == verdict
    assert found.loc[("both", "all"), "verdict"] == verdict


def test_both_optima_of_a_pair_are_fitted_at_the_same_points(float32):
    """Here the lowest point is another in bfloat16, around which -4.518 would be found."""
    raised = np.log2(float32["hyperparameters.lr"]) == -4
    other = float32.assign(val_loss=float32["val_loss"] + 0.012 * raised, dtype="bfloat16")
    shift = table(other, float32).loc[("optimum", "all"), "difference"]
    assert shift == pytest.approx(-4.5263 + 4.4, abs=1e-3)


def test_a_difference_at_one_scale_is_not_averaged_away(float32):
    other = in_bfloat16(float32, sd=0.001)
    sign = other["model.width"].map({64: 1.0, 128: 0.0, 256: -1.0})
    found = table(other.assign(val_loss=other["val_loss"] + 0.006 * sign), float32)
    assert found.loc[("loss", "scale 64"), "verdict"] == "fails"
    assert found.loc[("both", "all"), "verdict"] == "fails"


def test_a_run_that_diverges_in_one_precision_alone_fails(float32):
    first = float32["run_id"] == float32["run_id"].iloc[0]
    other = in_bfloat16(float32).assign(val_loss=lambda runs: runs["val_loss"].mask(first, np.inf))
    assert table(other, float32).loc[("both", "all"), "verdict"] == "fails"
    both = float32.assign(val_loss=float32["val_loss"].mask(first, np.inf))
    assert table(other, both).loc[("loss", "all"), "pairs"] == len(float32) - 1


def test_what_is_no_pair_is_refused(float32):
    with pytest.raises(ConfigError, match="expected runs in bfloat16"):
        table(float32, float32)
    with pytest.raises(ConfigError, match="1 runs have no partner"):
        table(in_bfloat16(float32), float32.iloc[1:])


def test_the_table_is_made_from_committed_results(folder, float32, tmp_path):
    results = load_sweep(folder, "lr_width")
    for name, runs in (("lr_width", float32), ("precision", in_bfloat16(float32))):
        save_results(
            type(results)(runs, results.curves, results.trials), tmp_path / f"{name}.parquet"
        )
    made = OTHERS["precision"](load_results(tmp_path / "precision.parquet"), tmp_path)["precision"]
    assert made.iloc[-1]["verdict"] == "holds"
