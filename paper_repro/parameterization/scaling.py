"""A parameterisation at given ratios: every factor on the base values, as a number."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from paper_repro.parameterization.factors import Ratios
from paper_repro.parameterization.labels import TENSOR_CLASSES, TensorClass
from paper_repro.parameterization.table import (
    ITERATIONS,
    PARAMETERIZATIONS,
    RULE_QUANTITIES,
    SDE_RULE,
    Parameterization,
    RuleQuantity,
    SdeQuantity,
    forward_rule,
    rule,
)

BASE = Ratios()

BetaRule = Literal["linear", "exponential"]
BetaQuantity = Literal["one_minus_beta1", "one_minus_beta2"]

#: Quantities whose N stands for the fan-in of a matrix. In those of ε it stands for the width of
#: the residual stream, through which all gradients come back (an inference of ours).
_FAN_IN_QUANTITIES: tuple[RuleQuantity, ...] = ("init_variance", "lr", "weight_decay")
_FAN_IN_CLASSES: tuple[TensorClass, ...] = ("hidden_weight", "unembedding")


@dataclass(frozen=True)
class Scaling:
    """The rules of a parameterisation at the ratios of one target to its base.

    Every factor is 1 where all ratios are 1. The factors are those of Table 1 of arXiv 2512.22382
    (`paper_repro.parameterization.table.TABLE`).

    Raises:
        ValueError: an unknown parameterisation, a ratio that is not positive, or α outside
            [1/2, 1].
    """

    parameterization: Parameterization = "complete_d"
    ratios: Ratios = BASE
    alpha: float = 1.0
    """Depth exponent α of the residual multiplier m_L^-α."""
    sde_rule: tuple[SdeQuantity, ...] = SDE_RULE
    """The quantities that follow batch size and tokens; fewer than all are ablations."""
    beta_rule: BetaRule = "linear"
    """How betas follow κ = m_B / m_D: 1 - β' = κ (1 - β), or β' = β^κ."""

    def __post_init__(self) -> None:
        if self.parameterization not in PARAMETERIZATIONS:
            choices = ", ".join(PARAMETERIZATIONS)
            raise ValueError(f"parameterization: {self.parameterization!r} is none of {choices}")
        if not 0.5 <= self.alpha <= 1:
            raise ValueError(f"alpha: expected a number in [0.5, 1] (got {self.alpha})")

    def factor(
        self, quantity: RuleQuantity, tensor_class: TensorClass, fan_in: float | None = None
    ) -> float:
        """The factor on the base value of a quantity, for the tensors of a class.

        Args:
            fan_in: the ratio of this tensor's fan-in to its fan-in at the base, where that is not
                the ratio of the widths (an MLP ratio that changes, say). It takes the place of m_N
                in the init variance, the learning rate and the weight decay of matrices; ε keeps
                the width ratio (our choice: the paper has one ratio).
        """
        ratios = self.ratios
        if quantity in SDE_RULE and quantity not in self.sde_rule:
            ratios = replace(ratios, B=1.0, D=1.0)
        by_fan_in = quantity in _FAN_IN_QUANTITIES and tensor_class in _FAN_IN_CLASSES
        if by_fan_in and fan_in is not None:
            ratios = replace(ratios, N=fan_in)
        return rule(quantity, tensor_class, self.parameterization).at(ratios, self.alpha)

    def beta(
        self,
        base: float,
        quantity: BetaQuantity,
        tensor_class: TensorClass = "hidden_weight",
        multiplier: float = 1.0,
    ) -> float:
        """A beta of AdamW at the target, from its value at the base.

        Args:
            multiplier: a factor of a module's own on 1 - β.

        Raises:
            ValueError: the linear rule takes it out of (0, 1); the message names the limit.
        """
        kappa = self.factor(quantity, tensor_class) * multiplier
        if kappa == 1:
            return base
        if self.beta_rule == "exponential":
            return float(base**kappa)
        beta = 1 - (1 - base) * kappa
        if beta < 1e-9:  # 0 up to rounding: 1 - (1 - 0.9) * 10 is 2e-16
            raise ValueError(
                f"the linear rule turns {base:g} into {beta:.4g}, outside (0, 1): it needs m_B/m_D "
                f"times its multipliers (here {kappa:g}) below 1/(1 - β) = {1 / (1 - base):.4g}"
            )
        return beta

    @property
    def residual(self) -> float:
        """Multiplier of both residual branches: x + residual · Branch(x)."""
        return forward_rule("residual", self.parameterization).at(self.ratios, self.alpha)

    @property
    def logits(self) -> float:
        """Multiplier of the logits."""
        return forward_rule("logits", self.parameterization).at(self.ratios, self.alpha)

    @property
    def iterations(self) -> float:
        """Factor on the number of optimiser steps."""
        return ITERATIONS.at(self.ratios, self.alpha)


@dataclass(frozen=True)
class Multipliers:
    """All factors of a `Scaling`."""

    residual: float
    logits: float
    iterations: float
    tensor_classes: dict[TensorClass, dict[RuleQuantity, float]]

    def as_json(self) -> dict[str, Any]:
        """Plain data, in the form that `python -m paper_repro.parameterization --json` prints."""
        return {
            "multipliers": {"residual": self.residual, "logits": self.logits},
            "iterations": self.iterations,
            "tensor_classes": self.tensor_classes,
        }


def multipliers(scaling: Scaling) -> Multipliers:
    """All factors of a parameterisation at given ratios, by tensor class and quantity."""
    return Multipliers(
        residual=scaling.residual,
        logits=scaling.logits,
        iterations=scaling.iterations,
        tensor_classes={
            tensor_class: {
                quantity: scaling.factor(quantity, tensor_class) for quantity in RULE_QUANTITIES
            }
            for tensor_class in TENSOR_CLASSES
        },
    )
