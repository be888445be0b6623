"""The rule table: factors on the base values, and nothing else.

`TABLE` is Table 1 of arXiv 2512.22382 (Complete(d)P, μP) and of arXiv 2505.01618 (SP, CompleteP):
quantity by quantity a row for each tensor class, a column for each parameterisation.
`docs/rules.md` gives the reason and the source of each row, and says what is our choice.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, get_args

from paper_repro.parameterization.factors import ALPHA, ONE, B, D, Factor, L, N
from paper_repro.parameterization.labels import TENSOR_CLASSES, TensorClass

#: The columns of the table, in its order, and the variants of one.
Parameterization = Literal[
    "sp", "sp_fan_in", "sp_embedding", "sp_full_alignment", "mup", "completep", "complete_d"
]
PARAMETERIZATIONS: tuple[Parameterization, ...] = get_args(Parameterization)

#: The quantities that follow batch size and tokens: the SDE rule.
SdeQuantity = Literal["lr", "weight_decay", "eps", "one_minus_beta1", "one_minus_beta2"]
SDE_RULE: tuple[SdeQuantity, ...] = get_args(SdeQuantity)

#: What has a row for each tensor class; `one_minus_beta1` is the factor on 1 - β1.
RuleQuantity = Literal["init_variance", SdeQuantity]

#: Repairs of SP by its learning rates alone: where they differ from `sp_fan_in`.
VARIANTS: dict[Parameterization, dict[tuple[RuleQuantity, TensorClass], Factor]] = {
    "sp_embedding": {("lr", "embedding"): N},  # arXiv 2605.21486
    "sp_full_alignment": {  # arXiv 2407.05872, Adam
        ("lr", "hidden_weight"): 1 / N,
        ("lr", "unembedding"): 1 / N,
    },
}
COLUMNS = tuple(name for name in PARAMETERIZATIONS if name not in VARIANTS)

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

RULE_QUANTITIES: tuple[RuleQuantity, ...] = tuple(TABLE)


def rule(
    quantity: RuleQuantity, tensor_class: TensorClass, parameterization: Parameterization
) -> Factor:
    """The factor of a parameterisation on the base value of a quantity."""
    changed = VARIANTS.get(parameterization, {})
    if (quantity, tensor_class) in changed:
        return changed[quantity, tensor_class]
    return TABLE[quantity][tensor_class][_column(parameterization)]


def forward_rule(name: Literal["residual", "logits"], parameterization: Parameterization) -> Factor:
    """The multiplier of a parameterisation in the forward pass."""
    return FORWARD[name][_column(parameterization)]


def _column(parameterization: Parameterization) -> int:
    return COLUMNS.index("sp_fan_in" if parameterization in VARIANTS else parameterization)


def has_sde_rule(parameterization: Parameterization) -> bool:
    """Whether learning rates of a parameterisation follow batch size and tokens."""
    learning_rate = rule("lr", "embedding", parameterization)
    return bool(learning_rate.B or learning_rate.D)
