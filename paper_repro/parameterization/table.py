"""The parameterisations: one table of factors on the base value, and nothing else.

`TABLE` is Table 1 of arXiv 2512.22382 (Complete(d)P, μP) and of arXiv 2505.01618 (SP, CompleteP):
quantity by quantity a row for each tensor class, a column for each parameterisation.
`docs/rules.md` gives the reason and the source of each row, and says what is our choice.

Command: `python -m paper_repro.parameterization --width-ratio 4 --depth-ratio 2 [--json]`.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Literal, get_args

from paper_repro.config import Parameterization
from paper_repro.parameterization.factors import ALPHA, ONE, B, D, Factor, L, N, Ratios

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
