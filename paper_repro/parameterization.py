"""The parameterisations: one table of factors on the base value, and nothing else.

`TABLE` is Table 1 of arXiv 2512.22382 (Complete(d)P, μP) and of arXiv 2505.01618 (SP, CompleteP):
quantity by quantity a row for each tensor class, a column for each parameterisation.
`docs/rules.md` gives the reason and the source of each row, and says what is our choice.

Command: `python -m paper_repro.parameterization --width-ratio 4 --depth-ratio 2 [--json]`.
"""

from __future__ import annotations

import argparse
import json
from fractions import Fraction
from functools import lru_cache
from typing import Literal, get_args

from rich.console import Console
from rich.table import Table

from paper_repro.config import Parameterization
from paper_repro.factors import ALPHA, ONE, B, D, Factor, L, N, Ratios

TensorClass = Literal[
    "embedding",
    "hidden_weight",
    "hidden_bias",
    "hidden_norm",
    "qk_norm",
    "final_norm",
    "unembedding",
]
#: What has a row for each tensor class; `one_minus_beta1` is the factor on 1 - β1.
RuleQuantity = Literal[
    "init_variance", "lr", "eps", "weight_decay", "one_minus_beta1", "one_minus_beta2"
]

COLUMNS: tuple[Parameterization, ...] = get_args(Parameterization)
TENSOR_CLASSES: tuple[TensorClass, ...] = get_args(TensorClass)
RULE_QUANTITIES: tuple[RuleQuantity, ...] = get_args(RuleQuantity)

Row = tuple[Factor, Factor, Factor, Factor, Factor]

#: Batch and duration: the SDE view of AdamW (arXiv 2205.10287, with decay in arXiv 2512.22382).
S = (B / D) ** Fraction(1, 2)

#: What keeps the update of a residual branch stable in depth (arXiv 2505.01618).
A = L ** (ALPHA - 1)

#: Factor on the base value. Columns: `COLUMNS`.
# fmt: off
TABLE: dict[RuleQuantity, dict[TensorClass, Row]] = {
    "init_variance": {  # sp   sp_fan_in mup   completep             complete_d
        "embedding":     (ONE, ONE,    ONE,     ONE,                  ONE),
        "hidden_weight": (ONE, 1 / N,  1 / N,   1 / N,                1 / N),
        "hidden_bias":   (ONE, ONE,    ONE,     ONE,                  ONE),
        "hidden_norm":   (ONE, ONE,    ONE,     ONE,                  ONE),
        "qk_norm":       (ONE, ONE,    ONE,     ONE,                  ONE),
        "final_norm":    (ONE, ONE,    ONE,     ONE,                  ONE),
        "unembedding":   (ONE, 1 / N,  N ** -2, ONE,                  N ** -2),
    },
    "lr": {
        "embedding":     (ONE, ONE,    ONE,     ONE,                  S),
        "hidden_weight": (ONE, ONE,    1 / N,   1 / N * A,            1 / N * A * S),
        "hidden_bias":   (ONE, ONE,    ONE,     A,                    A * S),
        "hidden_norm":   (ONE, ONE,    ONE,     A,                    A * S),
        "qk_norm":       (ONE, ONE,    ONE,     A,                    A * S),
        "final_norm":    (ONE, ONE,    ONE,     ONE,                  S),
        "unembedding":   (ONE, ONE,    1 / N,   ONE,                  1 / N * S),
    },
    "eps": {
        "embedding":     (ONE, ONE,    1 / N,   ONE,                  1 / N / S),
        "hidden_weight": (ONE, ONE,    1 / N,   1 / N * L ** -ALPHA,  1 / N * L ** -ALPHA / S),
        "hidden_bias":   (ONE, ONE,    1 / N,   1 / N * L ** -ALPHA,  1 / N * L ** -ALPHA / S),
        "hidden_norm":   (ONE, ONE,    1 / N,   1 / N * L ** -ALPHA,  1 / N * L ** -ALPHA / S),
        "qk_norm":       (ONE, ONE,    1 / N,   1 / N * L ** -ALPHA,  L ** -ALPHA / S),
        "final_norm":    (ONE, ONE,    ONE,     ONE,                  1 / S),
        "unembedding":   (ONE, ONE,    ONE,     ONE,                  1 / S),
    },
    "weight_decay": {
        "embedding":     (ONE, ONE,    ONE,     ONE,                  S),
        "hidden_weight": (ONE, ONE,    N,       N,                    N * S),
        "hidden_bias":   (ONE, ONE,    ONE,     ONE,                  S),
        "hidden_norm":   (ONE, ONE,    ONE,     ONE,                  S),
        "qk_norm":       (ONE, ONE,    ONE,     ONE,                  S),
        "final_norm":    (ONE, ONE,    ONE,     ONE,                  S),
        "unembedding":   (ONE, ONE,    N,       ONE,                  N * S),
    },
    "one_minus_beta1": dict.fromkeys(
        TENSOR_CLASSES,  (ONE, ONE,    ONE,     ONE,                  B / D)),
    "one_minus_beta2": dict.fromkeys(
        TENSOR_CLASSES,  (ONE, ONE,    ONE,     ONE,                  B / D)),
}
#: Multipliers in the forward pass: of both residual branches, and of the logits.
FORWARD: dict[Literal["residual", "logits"], Row] = {
        "residual":      (ONE, ONE,    ONE,     L ** -ALPHA,          L ** -ALPHA),
        "logits":        (ONE, ONE,    ONE,     1 / N,                ONE),
}
# fmt: on

#: Number of optimiser steps: what tokens and batch size leave, whatever the parameterisation.
ITERATIONS = D / B


def rule(
    quantity: RuleQuantity, tensor_class: TensorClass, parameterization: Parameterization
) -> Factor:
    """The entry of the table."""
    return TABLE[quantity][tensor_class][COLUMNS.index(parameterization)]


@lru_cache
def rule_factor(
    quantity: RuleQuantity,
    tensor_class: TensorClass,
    parameterization: Parameterization,
    ratios: Ratios,
    alpha: float,
) -> float:
    """The entry of the table at given ratios (cached: plans ask for it many thousand times)."""
    return rule(quantity, tensor_class, parameterization).at(ratios, alpha)


def forward_rule(name: Literal["residual", "logits"], parameterization: Parameterization) -> Factor:
    """The entry of the table of forward multipliers."""
    return FORWARD[name][COLUMNS.index(parameterization)]


def multipliers(
    parameterization: Parameterization, ratios: Ratios, alpha: float
) -> dict[str, object]:
    """All factors at given ratios, in the form that `--json` prints."""
    return {
        "multipliers": {
            name: forward_rule(name, parameterization).at(ratios, alpha) for name in FORWARD
        },
        "iterations": ITERATIONS.at(ratios, alpha),
        "tensor_classes": {
            tensor_class: {
                quantity: rule_factor(quantity, tensor_class, parameterization, ratios, alpha)
                for quantity in RULE_QUANTITIES
            }
            for tensor_class in TENSOR_CLASSES
        },
    }


def _positive(text: str) -> float:
    try:
        value = float(Fraction(text))
    except (ValueError, ArithmeticError):
        value = 0.0
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be a number above 0, such as 4 or 1/8, got {text}")
    return value


def _depth_exponent(text: str) -> float:
    value = float(text)
    if not 0.5 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be in [0.5, 1], got {text}")
    return value


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m paper_repro.parameterization",
        description="The factors a parameterisation puts on the base hyperparameters.",
        epilog="A ratio is target over base: --width-ratio 4 means four times the base width.",
    )
    parser.add_argument("--parameterization", choices=COLUMNS, default="complete_d")
    for name, symbol in (("width", "m_N"), ("depth", "m_L"), ("batch", "m_B"), ("token", "m_D")):
        parser.add_argument(
            f"--{name}-ratio", type=_positive, default=1.0, metavar="R", help=f"{symbol}, default 1"
        )
    parser.add_argument(
        "--alpha", type=_depth_exponent, default=1.0, help="depth exponent α in [0.5, 1], default 1"
    )
    parser.add_argument("--json", action="store_true", help="print factors as JSON")
    options = parser.parse_args(arguments)
    ratios = Ratios(
        options.width_ratio, options.depth_ratio, options.batch_ratio, options.token_ratio
    )
    content = multipliers(options.parameterization, ratios, options.alpha)
    if options.json:
        print(json.dumps(content, indent=2))
    else:
        _print_table(options.parameterization, ratios, options.alpha, content)
    return 0


def _print_table(
    parameterization: Parameterization, ratios: Ratios, alpha: float, content: dict[str, object]
) -> None:
    console = Console()
    table = Table(
        title=f"{parameterization}: factors on the base values\n"
        f"m_N = {ratios.N:g}, m_L = {ratios.L:g}, m_B = {ratios.B:g}, m_D = {ratios.D:g}, "
        f"α = {alpha:g}",
    )
    table.add_column("tensor class")
    for heading in ("σ² (init)", "lr η", "ε", "decay λ", "1 - β1", "1 - β2"):
        table.add_column(heading, justify="right")
    for tensor_class in TENSOR_CLASSES:
        cells = []
        for quantity in RULE_QUANTITIES:
            value = rule_factor(quantity, tensor_class, parameterization, ratios, alpha)
            starts_fixed = quantity == "init_variance" and tensor_class.endswith(("norm", "bias"))
            cells.append("–" if starts_fixed else f"{value:.6g}")
        table.add_row(tensor_class, *cells)
    console.print(table)
    forward = {name: forward_rule(name, parameterization).at(ratios, alpha) for name in FORWARD}
    console.print(
        f"residual branches × {forward['residual']:.6g}, logits × {forward['logits']:.6g}, "
        f"steps × {ITERATIONS.at(ratios, alpha):.6g}"
    )
    kappa = rule_factor("one_minus_beta1", "hidden_weight", parameterization, ratios, alpha)
    if kappa > 1:
        console.print(
            f"1 - β grows {kappa:g}-fold: the linear rule needs every base β above "
            f"{1 - 1 / kappa:.4g}; beyond that, use beta_rule: exponential (β^{kappa:g})."
        )


if __name__ == "__main__":
    raise SystemExit(main())
