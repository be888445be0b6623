import math

import pytest
from support.synthetic_sweep import CURVATURE, drifting, write_sweep

from analysis.arms import AXES, Arm
from analysis.load import load_sweep
from analysis.regime import regime, scales_on_plateau
from analysis.transfer import fit_transfer, regret, verdict
from paper_repro.errors import ConfigError
from paper_repro.statistics import Interval

WIDTH = AXES["width"]
TRANSFER_TABLE = [
    *(
        "parameterization",
        "alpha",
        "sde_rule",
        "schedule",
        "qk_norm",
        "eps",
        "scaled_init",
        "label",
    ),
    *("axis", "hyperparameter", "scale_min", "scale_max", "seeds"),
    *("drift", "drift_low", "drift_high", "regret", "regret_low", "regret_high"),
    *("bracketed", "verdict", "size"),
]


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    """SP drifts by -0.6 octaves per doubling from -6 at width 64; Complete(d)P stays at -6."""
    runs = tmp_path_factory.mktemp("runs")
    write_sweep(runs, "s", {"complete_d": drifting(0), "sp": drifting(-0.6)})
    return load_sweep(runs, "s").runs


def synthetic(tmp_path, **settings):
    write_sweep(tmp_path, "s", settings.pop("optima", {"sp": drifting(0)}), **settings)
    return load_sweep(tmp_path, "s").runs


def test_optima_and_shifts_are_those_put_in(frame):
    summary = fit_transfer(frame, WIDTH).optima().set_index(["parameterization", "scale"])
    assert summary.index.tolist()[:4] == [("sp", width) for width in (32, 64, 128, 256)]
    assert summary["bracketed"].all()
    for (arm, width), row in summary.iterrows():
        truth = -6 if arm == "complete_d" else -6 - 0.6 * math.log2(width / 64)
        assert row["optimum"] == pytest.approx(truth, abs=0.15)
        assert row["optimum_low"] < row["optimum"] < row["optimum_high"]
        assert row["seeds"] == 3
    assert summary.loc[("sp", 256), "shift"] == pytest.approx(-1.2, abs=0.15)
    assert summary["base"].sum() == 2
    assert math.isnan(summary.loc[("sp", 64), "shift"])


def test_drift_regret_and_verdict(frame):
    table = fit_transfer(frame, WIDTH).drifts(size="gpu")
    assert table.columns.tolist() == TRANSFER_TABLE
    table = table.set_index("parameterization")
    sp, complete_d = table.loc["sp"], table.loc["complete_d"]
    assert sp["drift_low"] < -0.6 < sp["drift_high"]
    assert complete_d["drift_low"] < 0 < complete_d["drift_high"]
    # At width 256 SP's optimum is 1.2 octaves away from the base's.
    assert sp["regret"] == pytest.approx(CURVATURE * 1.2**2, abs=0.01)
    assert complete_d["regret"] == pytest.approx(0, abs=0.005)
    assert (sp["verdict"], complete_d["verdict"]) == ("fails", "holds")
    assert (sp["scale_min"], sp["scale_max"], sp["seeds"], sp["size"]) == (32, 256, 3, "gpu")


def test_unbracketed_optima_are_flagged_and_left_out(tmp_path):
    # Optimum at 256 would be -8.4, left of the grid's -8: it must not enter the slope.
    frame = synthetic(
        tmp_path, optima={"sp": drifting(-1.2)}, log2_lrs=[*range(-8, 0)], noise=0.001
    )
    summary = fit_transfer(frame, WIDTH).optima().set_index("scale")
    assert summary["bracketed"].to_dict() == {32: True, 64: True, 128: True, 256: False}
    assert math.isnan(summary.loc[256, "optimum_low"])
    assert math.isnan(summary.loc[256, "regret"])
    (row,) = fit_transfer(frame, WIDTH).drifts().to_dict("records")
    assert row["drift"] == pytest.approx(-1.2, abs=0.05)
    assert (row["scale_max"], row["bracketed"], row["verdict"]) == (128, False, "fails")


def test_one_seed_decides_nothing(tmp_path):
    frame = synthetic(tmp_path, optima={"sp": drifting(-1)}, seeds=1, noise=0)
    (row,) = fit_transfer(frame, WIDTH).drifts().to_dict("records")
    assert row["drift"] == pytest.approx(-1)
    assert math.isnan(row["drift_low"])
    assert row["verdict"] == "not decided"


def test_a_cliff_at_the_optimum_widens_the_interval(tmp_path):
    # Every width is best at its last stable rate, -5, with the same clipped fit: without slack the
    # drift would be exactly zero with a zero interval, and transfer would be said to hold.
    frame = synthetic(tmp_path, optima={"sp": drifting(0, base=-3)}, cliff=-5, noise=0)
    summary = fit_transfer(frame, WIDTH).optima()
    assert summary["bracketed"].all()
    assert summary["optimum"].tolist() == [-5.0] * 4
    assert summary["optimum_high"].tolist() == pytest.approx([-4.0] * 4)
    (row,) = fit_transfer(frame, WIDTH).drifts().to_dict("records")
    # Slope weights of four equally spaced scales: -0.3, -0.1, 0.1, 0.3.
    assert (row["drift_low"], row["drift_high"]) == pytest.approx((-0.4, 0.4))
    assert row["verdict"] == "not decided"


def test_a_rate_at_which_one_seed_diverged_is_a_diverged_rate(tmp_path):
    frame = synthetic(tmp_path, scales=(64, 128), noise=0)
    unlucky = (frame["seed"] == 0) & (frame["hyperparameters.lr"] == 2**-5)
    frame.loc[unlucky, "val_loss"] = math.inf
    fits = fit_transfer(frame, WIDTH).arms[Arm("sp")]
    assert fits[64].mean.log2 <= -6
    assert fits[64].mean.window.cliff == 1


def test_regret_is_infinite_where_the_target_diverges(tmp_path):
    frame = synthetic(tmp_path, optima={"sp": drifting(-1)}, scales=(64, 256), noise=0)
    frame.loc[
        (frame["model.width"] == 256) & (frame["hyperparameters.lr"] > 2**-6.5), "val_loss"
    ] = math.inf
    fits = fit_transfer(frame, WIDTH).arms[Arm("sp")]
    assert math.isinf(regret(fits, 64, 256).value)
    assert fit_transfer(frame, WIDTH).drifts()["verdict"].tolist() == ["fails"]


def test_seeds_that_a_scale_lacks_are_left_out(tmp_path):
    frame = synthetic(tmp_path)
    frame = frame[~((frame["model.width"] == 256) & (frame["seed"] == 2))]
    (row,) = fit_transfer(frame, WIDTH).drifts().to_dict("records")
    assert row["seeds"] == 2


def test_failed_runs_leave_holes(tmp_path):
    frame = synthetic(tmp_path, scales=(64, 128))
    frame.loc[frame["hyperparameters.lr"] == 2**-5, "val_loss"] = math.nan
    assert not fit_transfer(frame, WIDTH).optima()["bracketed"].any()


def test_a_hole_of_one_seed_is_a_hole_of_the_mean(tmp_path):
    """A mean over other seeds than its neighbours' would move the optimum by itself."""
    frame = synthetic(tmp_path, scales=(64, 128), noise=0)
    frame = frame[~((frame["seed"] == 0) & (frame["hyperparameters.lr"] == 2**-8))]
    mean = fit_transfer(frame, WIDTH).arms[Arm("sp")][64].mean
    assert math.isnan(mean.losses[mean.log2_lr.tolist().index(-8)])


def test_all_diverged_is_not_an_optimum(tmp_path):
    frame = synthetic(tmp_path, scales=(64, 128))
    frame.loc[frame["model.width"] == 128, "val_loss"] = math.inf
    summary = fit_transfer(frame, WIDTH).optima().set_index("scale")
    assert summary["bracketed"].to_dict() == {64: True, 128: False}
    assert fit_transfer(frame, WIDTH).drifts()["verdict"].tolist() == ["not decided"]


def test_mixed_arms_are_an_error_that_names_them(frame):
    mixed = frame.copy()
    mixed.loc[mixed["seed"] == 1, "hyperparameters.beta1"] = 0.5
    mixed["seed"] = mixed["seed"].replace(1, 0)
    with pytest.raises(ConfigError, match=r"differ in hyperparameters\.beta1; select one arm"):
        fit_transfer(mixed, WIDTH).optima()
    two_bases = frame.copy()
    two_bases.loc[0, "scaling.base_width"] = 32
    with pytest.raises(ConfigError, match=r"scaling\.base_width: expected one base"):
        fit_transfer(two_bases, WIDTH).optima()


@pytest.mark.parametrize(
    ("drift", "regret", "seeds", "bracketed", "expected"),
    [
        ((0.0, -0.1, 0.1), (0.001, 0.0, 0.002), 3, True, "holds"),
        ((0.0, -0.1, 0.1), (0.001, 0.0, 0.002), 3, False, "not decided"),
        ((0.0, -0.1, 0.1), (0.001, 0.0, 0.002), 1, True, "not decided"),
        ((0.0, -0.3, 0.3), (0.001, 0.0, 0.002), 3, True, "not decided"),
        ((0.0, -0.1, 0.1), (0.02, 0.0, 0.04), 3, True, "not decided"),
        ((-0.6, -0.9, -0.3), (0.001, 0.0, 0.002), 3, True, "fails"),
        ((0.6, 0.3, 0.9), (0.001, 0.0, 0.002), 3, False, "fails"),
        ((0.0, -0.1, 0.1), (0.05, 0.03, 0.07), 3, True, "fails"),
        ((0.0, -0.1, 0.1), (math.inf, math.nan, math.nan), 3, True, "fails"),
        ((math.nan,) * 3, (math.nan,) * 3, 3, True, "not decided"),
    ],
)
def test_verdict_follows_the_stated_rule(drift, regret, seeds, bracketed, expected):
    assert verdict(Interval(*drift), Interval(*regret), seeds, bracketed) == expected


def test_regime_warns_on_the_plateau(frame, tmp_path):
    beyond = regime(frame)
    assert beyond.beyond_bigrams
    assert beyond.loss == pytest.approx(2.1, abs=0.06)
    assert "WARNING" not in str(beyond)
    plateau = regime(synthetic(tmp_path, height=2.32))
    assert not plateau.beyond_bigrams
    assert "WARNING" in str(plateau)
    assert "unknown" in str(regime(frame[frame["model.width"] != 64]))


def test_scales_on_the_plateau_are_named(frame):
    """Bigram entropy 2.37: a scale whose best loss is 2.3 is not clearly beyond it."""
    late = frame.copy()
    late.loc[late["model.width"] == 32, "val_loss"] += 2.3 - late["val_loss"].min()
    assert scales_on_plateau(late, WIDTH) == [32]
    assert scales_on_plateau(frame, WIDTH) == []
