"""The rules against numbers worked out by hand from the papers' tables."""

import json
import math

import pytest

from paper_repro.config import RunConfig
from paper_repro.parameterization import (
    COLUMNS,
    FORWARD,
    RULE_QUANTITIES,
    TABLE,
    TENSOR_CLASSES,
    multipliers,
)
from paper_repro.parameterization.__main__ import main
from paper_repro.parameterization.factors import ALPHA, ONE, B, D, L, N, Ratios

# m_N = 4, m_L = 2, m_B = 8, m_D = 32, α = 1: √(m_B/m_D) = 1/2, κ = 1/4.
RATIOS = Ratios(N=4, L=2, B=8, D=32)
#            σ²    η      ε      λ
COMPLETE_D = {
    "embedding": (1, 1 / 2, 1 / 2, 1 / 2),
    "hidden_weight": (1 / 4, 1 / 8, 1 / 4, 2),
    "hidden_bias": (1, 1 / 2, 1 / 4, 1 / 2),
    "hidden_norm": (1, 1 / 2, 1 / 4, 1 / 2),
    "qk_norm": (1, 1 / 2, 1, 1 / 2),
    "final_norm": (1, 1 / 2, 2, 1 / 2),
    "unembedding": (1 / 16, 1 / 8, 2, 2),
}
COMPLETEP = {
    "embedding": (1, 1, 1, 1),
    "hidden_weight": (1 / 4, 1 / 4, 1 / 8, 4),
    "hidden_bias": (1, 1, 1 / 8, 1),
    "hidden_norm": (1, 1, 1 / 8, 1),
    "qk_norm": (1, 1, 1 / 8, 1),
    "final_norm": (1, 1, 1, 1),
    "unembedding": (1, 1, 1, 1),
}
MUP = {
    "embedding": (1, 1, 1 / 4, 1),
    "hidden_weight": (1 / 4, 1 / 4, 1 / 4, 4),
    "hidden_bias": (1, 1, 1 / 4, 1),
    "hidden_norm": (1, 1, 1 / 4, 1),
    "qk_norm": (1, 1, 1 / 4, 1),
    "final_norm": (1, 1, 1, 1),
    "unembedding": (1 / 16, 1 / 4, 1, 4),
}
SP = dict.fromkeys(TENSOR_CLASSES, (1, 1, 1, 1))
SP_FAN_IN = SP | {"hidden_weight": (1 / 4, 1, 1, 1), "unembedding": (1 / 4, 1, 1, 1)}


@pytest.mark.parametrize(
    ("parameterization", "expected", "kappa", "residual", "logits"),
    [
        ("complete_d", COMPLETE_D, 1 / 4, 1 / 2, 1),
        ("completep", COMPLETEP, 1, 1 / 2, 1 / 4),
        ("mup", MUP, 1, 1, 1),
        ("sp", SP, 1, 1, 1),
        ("sp_fan_in", SP_FAN_IN, 1, 1, 1),
    ],
)
def test_factors_worked_out_by_hand(parameterization, expected, kappa, residual, logits):
    content = multipliers(parameterization, RATIOS, alpha=1.0)
    assert content["multipliers"] == {"residual": residual, "logits": logits}
    assert content["iterations"] == 4
    names = ("init_variance", "lr", "eps", "weight_decay")
    for tensor_class, values in expected.items():
        row = content["tensor_classes"][tensor_class]
        assert {name: row[name] for name in names} == pytest.approx(
            dict(zip(names, values, strict=True))
        ), tensor_class
        assert row["one_minus_beta1"] == row["one_minus_beta2"] == kappa


def test_depth_exponent_one_half():
    """α = ½: residual m_L^-½, hidden η m_L^-½, hidden ε m_L^-½; m_L = 16, so 1/4."""
    content = multipliers("complete_d", Ratios(L=16), alpha=0.5)
    assert content["multipliers"]["residual"] == 0.25
    for tensor_class in ("hidden_weight", "hidden_bias", "hidden_norm", "qk_norm"):
        assert content["tensor_classes"][tensor_class]["lr"] == 0.25
        assert content["tensor_classes"][tensor_class]["eps"] == 0.25
    for tensor_class in ("embedding", "final_norm", "unembedding"):
        assert content["tensor_classes"][tensor_class]["lr"] == 1
        assert content["tensor_classes"][tensor_class]["eps"] == 1


@pytest.mark.parametrize("parameterization", COLUMNS)
def test_every_factor_is_exactly_one_at_the_base(parameterization):
    content = multipliers(parameterization, Ratios(), alpha=0.7)
    assert content["multipliers"] == {"residual": 1.0, "logits": 1.0}
    for row in content["tensor_classes"].values():
        assert set(row.values()) == {1.0}


def test_cancellation_batch_and_tokens_grown_alike_leave_everything_but_steps():
    assert multipliers("complete_d", Ratios(B=8, D=8), 1.0) == multipliers(
        "complete_d", Ratios(), 1.0
    )


def test_table_is_complete():
    assert set(TABLE) == set(RULE_QUANTITIES)
    for rows in TABLE.values():
        assert set(rows) == set(TENSOR_CLASSES)
        assert all(len(row) == len(COLUMNS) for row in rows.values())
    assert all(len(row) == len(COLUMNS) for row in FORWARD.values())


def test_factor_algebra():
    ratios = Ratios(N=3, L=5, B=7, D=11)
    factor = N**-2 * L ** (ALPHA - 1) / (B / D)
    assert factor.at(ratios, 0.5) == pytest.approx(3**-2 * 5**-0.5 * 11 / 7)
    assert (1 / factor * factor) == ONE
    assert str(1 / N * L ** (ALPHA - 1)) == "m_N⁻¹ · m_L^(α−1)"
    assert str(L**-ALPHA) == "m_L^−α"
    assert str(ONE) == "1"
    with pytest.raises(TypeError):
        (N**2) ** ALPHA


def test_ratios_are_target_over_base():
    config = RunConfig.model_validate(
        {
            "model": {"width": 128, "depth": 6},
            "train": {"batch_size": 4, "tokens": 100_000},
            "scaling": {
                "base_width": 32,
                "base_depth": 4,
                "base_batch_size": 16,
                "base_tokens": 50_000,
            },
        }
    )
    assert Ratios.of(config) == Ratios(N=4, L=1.5, B=0.25, D=2)


def test_command_prints_json_as_promised(capsys):
    arguments = ["--parameterization", "complete_d", "--width-ratio", "4", "--depth-ratio", "2"]
    arguments += ["--batch-ratio", "8", "--token-ratio", "16", "--alpha", "1", "--json"]
    assert main(arguments) == 0
    content = json.loads(capsys.readouterr().out)
    assert set(content) == {"multipliers", "iterations", "tensor_classes"}
    assert content["iterations"] == 2
    hidden = content["tensor_classes"]["hidden_weight"]
    assert hidden["lr"] == pytest.approx(1 / 4 / math.sqrt(2))
    assert hidden["weight_decay"] == pytest.approx(4 / math.sqrt(2))
    assert hidden["one_minus_beta1"] == 0.5


def test_command_prints_a_readable_table(capsys):
    assert main(["--batch-ratio", "1/8"]) == 0
    printed = capsys.readouterr().out
    for tensor_class in TENSOR_CLASSES:
        assert tensor_class in printed
    assert "0.125" in printed


@pytest.mark.parametrize(
    "arguments",
    [
        ["--width-ratio", "0"],
        ["--width-ratio", "-2"],
        ["--depth-ratio", "1/0"],
        ["--batch-ratio", "many"],
        ["--alpha", "0.3"],
        ["--parameterization", "ntk"],
    ],
)
def test_command_refuses_nonsense(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert arguments[0] in capsys.readouterr().err
