"""The rules against numbers worked out by hand from the papers' tables."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from paper_repro.config import RunConfig
from paper_repro.hyperparameters import scaling_of
from paper_repro.parameterization import (
    COLUMNS,
    FORWARD,
    PARAMETERIZATIONS,
    RULE_QUANTITIES,
    TABLE,
    TENSOR_CLASSES,
    Ratios,
    Scaling,
    multipliers,
)
from paper_repro.parameterization.__main__ import main
from paper_repro.parameterization.factors import ALPHA, ONE, B, D, L, N

ROOT = Path(__file__).parent.parent

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
SP_EMBEDDING = SP_FAN_IN | {"embedding": (1, 4, 1, 1)}
SP_FULL_ALIGNMENT = SP | {
    "hidden_weight": (1 / 4, 1 / 4, 1, 1),
    "unembedding": (1 / 4, 1 / 4, 1, 1),
}


@pytest.mark.parametrize(
    ("parameterization", "expected", "kappa", "residual", "logits"),
    [
        ("complete_d", COMPLETE_D, 1 / 4, 1 / 2, 1),
        ("completep", COMPLETEP, 1, 1 / 2, 1 / 4),
        ("mup", MUP, 1, 1, 1),
        ("sp", SP, 1, 1, 1),
        ("sp_fan_in", SP_FAN_IN, 1, 1, 1),
        ("sp_embedding", SP_EMBEDDING, 1, 1, 1),
        ("sp_full_alignment", SP_FULL_ALIGNMENT, 1, 1, 1),
    ],
)
def test_factors_worked_out_by_hand(parameterization, expected, kappa, residual, logits):
    content = multipliers(Scaling(parameterization, RATIOS)).as_json()
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
    content = multipliers(Scaling("complete_d", Ratios(L=16), alpha=0.5)).as_json()
    assert content["multipliers"]["residual"] == 0.25
    for tensor_class in ("hidden_weight", "hidden_bias", "hidden_norm", "qk_norm"):
        assert content["tensor_classes"][tensor_class]["lr"] == 0.25
        assert content["tensor_classes"][tensor_class]["eps"] == 0.25
    for tensor_class in ("embedding", "final_norm", "unembedding"):
        assert content["tensor_classes"][tensor_class]["lr"] == 1
        assert content["tensor_classes"][tensor_class]["eps"] == 1


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_every_factor_is_exactly_one_at_the_base(parameterization):
    content = multipliers(Scaling(parameterization, alpha=0.7)).as_json()
    assert content["multipliers"] == {"residual": 1.0, "logits": 1.0}
    for row in content["tensor_classes"].values():
        assert set(row.values()) == {1.0}


def test_cancellation_batch_and_tokens_grown_alike_leave_everything_but_steps():
    assert multipliers(Scaling(ratios=Ratios(B=8, D=8))) == multipliers(Scaling())


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
    assert scaling_of(config).ratios == Ratios(N=4, L=1.5, B=0.25, D=2)


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
    (embedding,) = [line for line in printed.splitlines() if "embedding" in line][:1]
    cells = [cell.strip() for cell in embedding.split("│")[2:-1]]
    assert cells == ["1", "0.353553", "2.82843", "0.353553", "0.125", "0.125"]
    assert [name for name in TENSOR_CLASSES if name not in printed] == []
    (norm,) = [line for line in printed.splitlines() if "final_norm" in line]
    assert norm.split("│")[2].strip() == "–"  # gains start at 1


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


def test_the_fan_in_of_a_tensor_may_grow_by_a_ratio_of_its_own():
    """m_N = 4, but this matrix has twice the inputs of the base's; ε follows the width."""
    scaling = Scaling(ratios=Ratios(N=4, L=2))
    factors = {name: scaling.factor(name, "hidden_weight", fan_in=2) for name in RULE_QUANTITIES}
    assert factors == pytest.approx(
        {
            "init_variance": 1 / 2,
            "lr": 1 / 2,
            "eps": 1 / 8,
            "weight_decay": 2,
            "one_minus_beta1": 1,
            "one_minus_beta2": 1,
        }
    )
    for tensor_class in TENSOR_CLASSES:
        for quantity in RULE_QUANTITIES:
            same = scaling.factor(quantity, tensor_class, fan_in=4)
            assert same == scaling.factor(quantity, tensor_class)
    assert scaling.factor("lr", "hidden_bias", fan_in=2) == scaling.factor("lr", "hidden_bias")


def test_quantities_left_out_of_the_sde_rule_keep_their_values():
    part = Scaling(ratios=Ratios(N=4, B=8, D=2), sde_rule=("lr",))
    assert part.factor("lr", "unembedding") == pytest.approx(1 / 4 * 2)
    assert part.factor("weight_decay", "unembedding") == 4
    assert part.beta(0.9, "one_minus_beta1") == 0.9


def test_betas_follow_the_batch_by_either_rule():
    ratios = Ratios(B=4)
    assert Scaling(ratios=ratios).beta(0.9, "one_minus_beta1") == pytest.approx(0.6)
    assert Scaling(ratios=ratios).beta(0.9, "one_minus_beta1", multiplier=0.25) == 0.9
    exponential = Scaling(ratios=ratios, beta_rule="exponential")
    assert exponential.beta(0.9, "one_minus_beta1") == pytest.approx(0.9**4)
    with pytest.raises(ValueError, match=r"turns 0\.9 into -0\.2.*here 12.*= 10"):
        Scaling(ratios=ratios).beta(0.9, "one_minus_beta1", multiplier=3.0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Ratios(N=0), "m_N: expected above 0"),
        (lambda: Ratios(D=float("nan")), "m_D: expected above 0"),
        (
            lambda: Scaling("ntk"),
            "'ntk' is none of sp, sp_fan_in, .*, complete_d",
        ),
        (lambda: Scaling(alpha=0.3), r"alpha: expected a number in \[0.5, 1\]"),
    ],
)
def test_what_is_no_scaling_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_the_rules_need_neither_torch_nor_a_run():
    code = (
        "import sys; from paper_repro.parameterization import Scaling; "
        "print([m for m in ('torch', 'pydantic', 'paper_repro.config') if m in sys.modules])"
    )
    found = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT)
    assert found == "[]\n"
