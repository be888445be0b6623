import math
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from rich.console import Console

from analysis.final_losses import TUNED, final_losses
from analysis.laws import fit_arm_laws
from analysis.report import print_tables
from figures.loss_vs_tokens import make_losses
from figures.made import save
from figures.style import style
from paper_repro.errors import ConfigError

BASE = 400_000
OPTIMUM, CURVATURE = -6.25, 0.02


def floor(tokens):
    return 1.5 + 0.3 * (tokens / BASE) ** -0.5


def arm(octaves_per_doubling=0.0, noise=0.0, ratios=(0.25, 0.5, 1, 2, 4), log2_lrs=range(-10, -2)):
    """Runs whose optimal stated rate moves: parabolas above the law `floor`."""
    rng = np.random.default_rng(0)
    rows = []
    for ratio in ratios:
        optimum = OPTIMUM + octaves_per_doubling * math.log2(ratio)
        for seed in range(3):
            shift = rng.normal(0, noise)
            rows += [
                {
                    "train.tokens": int(ratio * BASE),
                    "scaling.base_tokens": BASE,
                    "hyperparameters.lr": 2.0**log2_lr,
                    "seed": seed,
                    "val_loss": floor(ratio * BASE)
                    + CURVATURE * (log2_lr - optimum) ** 2
                    + shift
                    + rng.normal(0, noise / 4),
                }
                for log2_lr in log2_lrs
            ]
    return pd.DataFrame(rows)


def losses_of(losses, name):
    rows = losses.table[losses.table["arm"] == name]
    return rows.groupby("tokens")["loss"].mean().to_dict()


def test_every_duration_is_read_at_the_optimum_of_the_base():
    losses = final_losses({"rule": arm(), "none": arm(-0.5)}, tuned_from="rule")
    assert losses.table.columns.tolist() == ["arm", "seed", "tokens", "loss"]
    assert losses.arms == ["rule", "none", TUNED]
    assert len(losses.table) == 3 * 5 * 3
    assert losses.note() == ""
    for tokens, loss in losses_of(losses, "rule").items():
        assert loss == pytest.approx(floor(tokens))
    for tokens, loss in losses_of(losses, "none").items():
        missed = 0.5 * math.log2(tokens / BASE)
        assert loss == pytest.approx(floor(tokens) + CURVATURE * missed**2)


def test_the_tuned_arm_has_every_durations_own_best_loss():
    losses = final_losses({"none": arm(-0.5)}, tuned_from="none")
    for tokens, loss in losses_of(losses, TUNED).items():
        assert loss == pytest.approx(floor(tokens))


def test_each_seed_is_read_from_its_own_curve():
    runs = arm()
    runs["val_loss"] += 0.01 * runs["seed"]
    losses = final_losses({"rule": runs}, tuned_from="rule").table
    of_seeds = losses[losses["arm"] == "rule"].groupby("seed")["loss"].mean()
    assert of_seeds.diff().dropna().tolist() == pytest.approx([0.01, 0.01])


def test_losses_outside_the_grid_or_diverged_are_left_out_and_counted():
    runs = arm(-0.5)
    rate, longest = runs["hyperparameters.lr"], runs["train.tokens"] == 4 * BASE
    outside = runs[~(longest & (rate > 2**-7))]
    losses = final_losses({"rule": arm(), "none": outside}, tuned_from="rule")
    assert losses.dropped == {"rule": 0, "none": 3, TUNED: 0}
    assert 4 * BASE not in losses_of(losses, "none")
    assert losses.note().endswith("none: 3")
    diverged = runs.copy()
    diverged.loc[longest & (rate > 2**-6.5) & (diverged["seed"] == 1), "val_loss"] = math.inf
    losses = final_losses({"none": diverged}, tuned_from="none")
    assert losses.dropped["none"] == 1
    assert np.isfinite(losses.table["loss"]).all()


def test_a_duration_without_a_bracketed_optimum_is_left_out_of_the_tuned_arm():
    losses = final_losses({"rule": arm(), "none": arm(-1.8)}, tuned_from="none")
    assert losses.dropped == {"rule": 0, "none": 0, TUNED: 6}  # optima at -2.65 and -9.85


def test_an_unbracketed_optimum_at_the_base_is_an_error():
    with pytest.raises(ConfigError, match=r"rule: no bracketed optimum .* the base, 400000;"):
        final_losses({"rule": arm(log2_lrs=range(-6, -2))}, tuned_from="rule")
    with pytest.raises(ConfigError, match="rule: no bracketed optimum"):
        final_losses({"rule": arm(ratios=(2, 4))}, tuned_from="rule")


@pytest.fixture(scope="module")
def compared():
    short = arm(-0.5, noise=0.004)
    short = short[~((short["train.tokens"] > BASE) & (short["hyperparameters.lr"] > 2**-7))]
    arms = {"rule": arm(noise=0.004), "none": arm(-0.5, noise=0.004), "short": short}
    losses = final_losses(arms, tuned_from="rule")
    return losses, fit_arm_laws(losses.table, 40)


@pytest.fixture(scope="module")
def made(compared):
    with style():
        return make_losses(*compared)


@pytest.fixture(scope="module")
def figure(made):
    return made.figure


def test_the_legend_has_every_arm_with_its_asymptote(figure):
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels[0].startswith("rule: E = 1.")
    assert labels[2] == "short: too few durations for a law"
    assert labels[3].startswith(f"{TUNED}: E = 1.")
    looks = {(to_rgb(line.get_color()), line.get_marker()) for line in legend.get_lines()}
    assert len({colour for colour, _ in looks}) == len({marker for _, marker in looks}) == 4


def test_laws_are_solid_where_measured_and_dashed_beyond(figure, compared):
    above = figure.axes[0]
    ends = {
        style: [
            (line.get_xdata()[0], line.get_xdata()[-1])
            for line in above.lines
            if line.get_linestyle() == style and len(line.get_xdata()) == 100
        ]
        for style in ("-", "--")
    }
    assert ends["-"] == [pytest.approx((BASE / 4, BASE * 4))] * 3
    assert ends["--"] == [pytest.approx((BASE * 4, BASE * 16))] * 3
    laws = compared[1].fits
    heights = [line.get_ydata()[-1] for line in above.lines if line.get_linestyle() == "--"]
    expected = [float(fit.law(BASE * 16)) for fit in laws.values()]
    assert heights == pytest.approx(expected)


def test_the_panel_below_shows_what_no_tuning_costs(figure):
    below = figure.axes[1]
    markers = [line for line in below.lines if line.get_marker() == "s"]  # the second arm
    cost = [float(line.get_ydata()[0]) for line in markers]
    truth = [CURVATURE * (0.5 * doublings) ** 2 for doublings in (-2, -1, 0, 1, 2)]
    assert cost == pytest.approx(truth, abs=0.003)
    assert [tick.get_text() for tick in below.get_xticklabels()] == [
        *("100k", "200k", "400k", "800k", "1.6M")
    ]


def test_without_any_law_the_losses_are_drawn(tmp_path):
    losses = final_losses({"rule": arm(ratios=(0.5, 1, 2))}, tuned_from="rule")
    with style():
        save(make_losses(losses, fit_arm_laws(losses.table)), tmp_path, "few")
    assert (tmp_path / "few.png").exists()


def test_the_report_has_the_laws_and_the_statement(made, compared):
    console = Console(width=110)
    with console.capture() as captured:
        print_tables(console, made.tables, made.text)
    printed = captured.get()
    for arm_with_law in ("rule", "none", TUNED):
        numbers = r" +1\.\d{3} \[1\.\d{3}, 1\.\d{3}\]( not identified)? +\d"
        assert re.search(f"{arm_with_law}{numbers}", printed)
    assert re.search(r"short +too few durations", printed)
    assert "Left out" in printed
    assert compared[1].statement("rule", "none") in printed
