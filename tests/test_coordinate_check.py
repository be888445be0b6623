"""The coordinate check: right rules pass, every broken rule is flagged where it acts."""

import math
import re
from functools import lru_cache
from pathlib import Path

import pandas as pd
import pytest
import torch
from support.models import initialised

from paper_repro import parameterization as rules
from paper_repro.coordinate_check import (
    Verdict,
    check_config,
    gradient_slopes,
    judge,
    measure,
)
from paper_repro.coordinate_check.__main__ import EPS, LARGE_EPS, main
from paper_repro.coordinate_check.judge import SIZES as SIZES_OF_THE_COMMAND
from paper_repro.coordinate_check.judge import fit
from paper_repro.coordinate_check.measure import activations
from paper_repro.errors import ConfigError
from paper_repro.parameterization.factors import ONE, Factor, N

SIZES = {"width": (32, 128), "depth": (2, 8)}
NOTE = Path(__file__).parent.parent / "docs" / "eps_rows.md"


def train(parameterization, axis, alpha=1.0, eps=EPS, steps=3) -> pd.DataFrame:
    torch.set_num_threads(1)
    config = check_config(parameterization, axis, SIZES[axis][0], alpha, eps)
    return measure(config, axis, SIZES[axis], seeds=(0, 1), steps=steps)


cached = lru_cache(train)


def flagged(verdicts: list[Verdict]) -> set[tuple[str, str]]:
    return {(v.check.name, v.quantity) for v in verdicts if not v.passed}


@pytest.mark.parametrize("parameterization", ["mup", "completep", "complete_d"])
def test_right_rules_pass_on_width(parameterization):
    assert flagged(judge(cached(parameterization, "width"))) == set()


@pytest.mark.parametrize("alpha", [1.0, 0.5])
@pytest.mark.parametrize("parameterization", ["completep", "complete_d"])
def test_right_rules_pass_on_depth(parameterization, alpha):
    assert flagged(judge(cached(parameterization, "depth", alpha))) == set()


@pytest.mark.parametrize(
    ("parameterization", "axis", "expected"),
    [
        (
            "sp",
            "width",
            {
                ("initial activation", "mlp"),
                ("initial activation", "logits"),
                ("activation", "residual"),
                ("change", "residual"),
                ("change", "logits"),
                ("update", "hidden_weight"),
                ("update", "unembedding"),
            },
        ),
        (
            "sp_fan_in",
            "width",
            {("change", "residual"), ("update", "hidden_weight"), ("update", "unembedding")},
        ),
        ("sp", "depth", {("change", "residual"), ("update", "hidden_weight")}),
        (
            "mup",
            "depth",
            {
                ("activation", "residual"),
                ("change", "residual"),
                ("update", "hidden_weight"),
                ("update", "hidden_norm"),
                ("update", "hidden_bias"),
                ("update", "qk_norm"),
            },
        ),
    ],
)
def test_wrong_rules_fail(parameterization, axis, expected):
    assert expected <= flagged(judge(cached(parameterization, axis)))


def test_a_missing_width_rule_shows_as_the_exponent_that_is_missing():
    slopes = {(v.check.name, v.quantity): v.slope.value for v in judge(cached("sp", "width"))}
    assert slopes["update", "hidden_weight"] == pytest.approx(1.0, abs=0.1)  # lr lacks 1 / m_N
    assert slopes["initial activation", "logits"] == pytest.approx(0.5, abs=0.1)  # √fan-in


@pytest.mark.parametrize(
    ("quantity", "tensor_class", "broken", "axis", "alpha", "eps", "expected"),
    [
        ("lr", "hidden_weight", ONE, "width", 1.0, EPS, ("update", "hidden_weight")),
        ("lr", "hidden_bias", 1 / N, "width", 1.0, EPS, ("update", "hidden_bias")),
        ("lr", "unembedding", ONE, "width", 1.0, EPS, ("update", "unembedding")),
        ("lr", "embedding", 1 / N, "width", 1.0, EPS, ("change", "embedding")),
        ("lr", "hidden_weight", 1 / N, "depth", 0.5, EPS, ("update", "hidden_weight")),
        ("init_variance", "hidden_weight", ONE, "width", 1.0, EPS, ("initial activation", "mlp")),
        ("init_variance", "unembedding", ONE, "width", 1.0, EPS, ("initial activation", "logits")),
        ("eps", "embedding", ONE, "width", 1.0, LARGE_EPS, ("update", "embedding")),
        ("eps", "hidden_weight", ONE, "width", 1.0, LARGE_EPS, ("update", "hidden_weight")),
        ("eps", "unembedding", 1 / N, "width", 1.0, LARGE_EPS, ("update", "unembedding")),
        ("eps", "hidden_weight", 1 / N, "depth", 1.0, LARGE_EPS, ("update", "hidden_weight")),
        ("eps", "qk_norm", ONE, "depth", 1.0, LARGE_EPS, ("update", "qk_norm")),
    ],
)
def test_a_broken_rule_of_complete_d_is_flagged(
    monkeypatch, quantity, tensor_class, broken: Factor, axis, alpha, eps, expected
):
    assert expected not in flagged(judge(cached("complete_d", axis, alpha, eps)))
    column = rules.COLUMNS.index("complete_d")
    row = list(rules.TABLE[quantity][tensor_class])
    row[column] = broken
    with monkeypatch.context() as patch:
        patch.setitem(rules.TABLE[quantity], tensor_class, tuple(row))
        measurements = train("complete_d", axis, alpha, eps)
    assert expected in flagged(judge(measurements))


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_a_missing_residual_multiplier_is_flagged(monkeypatch, alpha):
    row = list(rules.FORWARD["residual"])
    row[rules.COLUMNS.index("complete_d")] = ONE
    monkeypatch.setitem(rules.FORWARD, "residual", tuple(row))
    assert ("change", "residual") in flagged(judge(train("complete_d", "depth", alpha)))


def test_a_large_eps_shows_the_embedding_eps_of_completep():
    embedding = {("update", "embedding"), ("change", "embedding")}
    assert embedding <= flagged(judge(cached("completep", "width", eps=LARGE_EPS)))
    assert not embedding & flagged(judge(cached("complete_d", "width", eps=LARGE_EPS)))


def test_a_large_eps_flags_two_rows_of_complete_d_on_width_and_none_on_depth():
    doubtful = {("update", "final_norm"), ("update", "qk_norm")}
    assert flagged(judge(cached("complete_d", "width", eps=LARGE_EPS))) == doubtful
    assert flagged(judge(cached("complete_d", "depth", eps=LARGE_EPS))) == set()


def test_the_large_eps_is_above_every_gradient_at_the_start():
    rows = cached("complete_d", "width")
    base = rows[(rows.kind == "gradient") & (rows.step == 0) & (rows["size"] == 32)]
    assert set(base.quantity) == set(rules.TENSOR_CLASSES)
    assert (base.value < LARGE_EPS).all()
    assert base.value.max() > LARGE_EPS / 10


def noted_exponents() -> dict[tuple[str, str], tuple[float, float]]:
    """(axis, tensor class) to the exponents at the start and at the end, from the note's table."""
    number = r"([+-]\d\.\d\d) ± \d\.\d\d"
    line = rf"^\| (width|depth) \| (\w+) \| [+-]\d \| {number} \| {number} \|"
    found = re.findall(line, NOTE.read_text(encoding="utf-8"), re.MULTILINE)
    return {(axis, name): (float(start), float(end)) for axis, name, start, end in found}


@pytest.mark.parametrize("axis", ["width", "depth"])
def test_gradients_scale_as_the_note_on_eps_rows_says(axis):
    noted = noted_exponents()
    assert len(noted) == 2 * len(rules.TENSOR_CLASSES)
    slopes = gradient_slopes(cached("complete_d", axis, steps=6), "complete_d", alpha=1.0)
    assert {slope.tensor_class for slope in slopes} == set(rules.TENSOR_CLASSES)
    for slope in slopes:
        start, end = noted[axis, slope.tensor_class]
        assert slope.start.value == pytest.approx(start, abs=0.25), slope
        assert slope.end.value == pytest.approx(end, abs=0.4), slope


def test_the_eps_row_of_the_final_norm_disagrees_with_its_gradient():
    slopes = gradient_slopes(cached("complete_d", "width", steps=6), "complete_d", alpha=1.0)
    (final_norm,) = (slope for slope in slopes if slope.tensor_class == "final_norm")
    assert final_norm.row == 0
    assert not final_norm.agrees(final_norm.start)
    assert not final_norm.agrees(final_norm.end)
    agreeing = {slope.tensor_class for slope in slopes if slope.agrees(slope.start)}
    assert agreeing == set(rules.TENSOR_CLASSES) - {"final_norm", "qk_norm"}


@pytest.mark.parametrize("axis", ["width", "depth"])
def test_updates_after_one_step_are_the_lr_times_the_reach(axis):
    """Adam's first step moves every weight that has a gradient by its lr, so the values are known.

    At the base: width 32, two blocks, so bias and gain updates reach 2 and the unembedding's 32.
    """
    rows = cached("complete_d", axis)
    first = rows[(rows.kind == "update") & (rows.step == 1)]
    lr = 2**-6
    expected = {"hidden_bias": 2 * lr, "hidden_norm": 2 * lr, "qk_norm": 2 * lr}
    expected |= {"final_norm": lr, "unembedding": 32 * lr}
    for quantity, value in expected.items():
        assert first[first.quantity == quantity].value.to_list() == pytest.approx(
            [value] * 2 * len(SIZES[axis]), rel=0.01
        )


def test_any_number_of_steps_is_measured():
    config = check_config("complete_d", "width", 16, 1.0, EPS)
    rows = measure(config, "width", (16, 32), seeds=(0,), steps=config.steps + 1)
    assert rows.step.max() == config.steps + 1
    assert rows.value.notna().all()


def test_activations_are_those_of_the_forward_pass():
    config = check_config("complete_d", "depth", 3, 1.0, EPS)
    model = initialised(config, vocab_size=11)
    tokens = torch.arange(16).reshape(2, 8) % 11
    seen = activations(model, tokens)
    assert seen["attention"].shape == seen["mlp"].shape == (3, 2, 8, 32)
    residual = seen["embedding"] + (seen["attention"] + seen["mlp"]).sum(0)  # multipliers are 1
    torch.testing.assert_close(seen["residual"], residual)
    torch.testing.assert_close(seen["final_norm"][0], model.final_norm(residual[0]))
    torch.testing.assert_close(seen["logits"][0], model(tokens))
    assert not any(module._forward_hooks for module in model.modules())


def rows_of(function, seeds=(0, 1)) -> pd.DataFrame:
    points = [(size, seed, function(size, seed)) for size in (1, 2, 4, 8) for seed in seeds]
    return pd.DataFrame(points, columns=["size", "seed", "value"])


def test_fit_recovers_a_power_law_and_its_spread_over_seeds():
    exact = fit(rows_of(lambda size, seed: (1 + seed) * size**-0.5))
    assert exact.value == pytest.approx(-0.5)
    assert exact.half_width == pytest.approx(0.0, abs=1e-9)
    spread = fit(rows_of(lambda size, seed: size**seed))  # slopes 0 and 1: s/√2 = 1/2
    assert spread.value == pytest.approx(0.5)
    assert spread.half_width == pytest.approx(12.706 / 2, rel=1e-3)  # Student, 1 d.o.f., 95 %
    assert math.isnan(fit(rows_of(lambda size, seed: size, seeds=(0,))).half_width)


@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf])
@pytest.mark.parametrize("kind", ["activation", "update"])
def test_a_value_without_a_logarithm_fails(kind, bad):
    rows = rows_of(lambda size, seed: bad if size == 8 else 1.0)
    verdicts = judge(rows.assign(axis="width", step=1, kind=kind, quantity="x"))
    assert verdicts
    assert not any(verdict.passed for verdict in verdicts)


def test_only_activations_and_changes_of_branches_may_shrink():
    rows = rows_of(lambda size, seed: size**-0.5).assign(axis="width", step=1)
    shrinking = pd.concat(
        rows.assign(kind=kind, quantity=quantity)
        for kind in ("activation", "change")
        for quantity in ("mlp", "residual")
    )
    assert flagged(judge(shrinking)) == {("change", "residual")}


def test_command_passes_and_draws(capsys, tmp_path):
    path = tmp_path / "check.png"
    sizes = ["--axis", "width", "--sizes", "128", "32", "--seeds", "2", "--steps", "3"]
    assert main([*sizes, "--gradients", "--plot", str(path)]) == 0
    printed = capsys.readouterr().out
    for text in ("complete_d", "slope", "±0.25", "ε row", "Not seen", "weight decay", "PASS"):
        assert text in printed
    assert path.read_bytes().startswith(b"\x89PNG")


def test_command_fails_sp_on_both_axes_by_default(capsys, monkeypatch):
    monkeypatch.setitem(SIZES_OF_THE_COMMAND, "width", (32, 64))
    monkeypatch.setitem(SIZES_OF_THE_COMMAND, "depth", (2, 4))
    assert main(["--parameterization", "sp", "--seeds", "1", "--steps", "2"]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"width +│ update +│ hidden_weight .* FAIL", printed)
    assert re.search(r"depth +│ update +│ hidden_weight .* FAIL", printed)
    assert "FAIL (" in printed


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--sizes", "32", "64"], "--axis"),
        (["--axis", "width", "--sizes", "32", "40"], "width 40 is not a multiple of head_dim"),
        (["--axis", "depth", "--sizes", "4", "4"], "two sizes or more"),
        (["--axis", "depth", "--sizes", "0", "4"], "model.depth"),
        (["--eps", "-1"], "hyperparameters.eps"),
        (["--alpha", "0.2"], "scaling.alpha"),
        (["--seeds", "0"], "at least one seed"),
        (["--steps", "0"], "one step"),
    ],
)
def test_wrong_arguments_give_one_line_and_exit_code_2(capsys, arguments, expected):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [["--plot", "check.txt"], ["--parameterization", "ntk"], ["--axis", "batch"], ["--eps", "x"]],
)
def test_arguments_that_argparse_rejects_exit_with_2(capsys, arguments):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2


def test_a_slope_needs_two_sizes():
    config = check_config("complete_d", "width", 32, 1.0, EPS)
    with pytest.raises(ConfigError, match="two sizes"):
        measure(config, "width", [32], seeds=[0], steps=1)


@pytest.mark.slow
@pytest.mark.parametrize("axis", ["width", "depth"])
def test_complete_d_passes_at_the_sizes_of_the_command(axis):
    assert main(["--axis", axis]) == 0
