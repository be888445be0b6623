"""From a run's config to the numbers of each parameter.

Every hyperparameter is

    base value × module-type multiplier × depth multiplier × the parameterisation's factor

so it is additive in logarithms. Free of torch: plans of thousands of runs are checked with it.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass, replace
from itertools import chain
from typing import Literal

from paper_repro.config import (
    BRANCHES,
    SDE_RULE,
    ModelConfig,
    ModuleType,
    Parameterization,
    Quantity,
    RunConfig,
    SdeQuantity,
)
from paper_repro.errors import ConfigError
from paper_repro.parameterization import TensorClass, forward_rule, rule, rule_factor
from paper_repro.parameterization.factors import Ratios

#: The tensor class of the weight (matrix or gain) of every module type.
WEIGHT_CLASSES: dict[ModuleType, TensorClass] = {
    "embedding": "embedding",
    "attention_norm": "hidden_norm",
    "query": "hidden_weight",
    "key": "hidden_weight",
    "value": "hidden_weight",
    "query_norm": "qk_norm",
    "key_norm": "qk_norm",
    "attention_out": "hidden_weight",
    "mlp_norm": "hidden_norm",
    "mlp_gate": "hidden_weight",
    "mlp_in": "hidden_weight",
    "mlp_out": "hidden_weight",
    "final_norm": "final_norm",
    "unembedding": "unembedding",
}


@dataclass(frozen=True)
class Label:
    """What a parameter is: given where the model is built."""

    tensor_class: TensorClass
    module_type: ModuleType
    block: int | None = None
    """Index of its block, from 0; None outside the blocks."""


@dataclass(frozen=True)
class Resolved:
    """The hyperparameters of one parameter, ready for AdamW and the initialisation."""

    lr: float
    weight_decay: float
    beta1: float
    beta2: float
    eps: float
    init_std: float
    """Standard deviation of the initial values; 0 where they are fixed (gains 1, biases 0)."""


_DRAWN: tuple[TensorClass, ...] = ("embedding", "hidden_weight", "unembedding")
"""The tensor classes whose initial values are drawn: the fields of `InitStd`."""


def resolve(config: RunConfig, label: Label) -> Resolved:
    """The hyperparameters of a parameter.

    Raises:
        ConfigError: when a beta leaves (0, 1), naming the limit and the way out.
    """
    base = config.hyperparameters
    return Resolved(
        lr=base.lr * _factor(config, label, "lr"),
        weight_decay=base.weight_decay * _factor(config, label, "weight_decay"),
        beta1=_beta(config, label, "beta1"),
        beta2=_beta(config, label, "beta2"),
        eps=base.eps * _factor(config, label, "eps"),
        init_std=_init_std(config, label),
    )


def residual_multiplier(config: RunConfig, branch: ModuleType, block: int) -> float:
    """Multiplier of a residual branch: x + multiplier · Branch(x)."""
    factor = forward_rule("residual", config.scaling.parameterization)
    return (
        config.hyperparameters.residual
        * _module_and_depth(config, branch, block, "residual")
        * factor.at(Ratios.of(config), config.scaling.alpha)
    )


def logits_multiplier(config: RunConfig) -> float:
    """Multiplier of the logits."""
    factor = forward_rule("logits", config.scaling.parameterization)
    return factor.at(Ratios.of(config), config.scaling.alpha)


def training_numbers(config: RunConfig) -> list[float]:
    """Every number that training takes from the hyperparameters and the rules, in a fixed order.

    Configs that share model, data, train and seed, and these, are the same training.
    """
    modules = module_types(config.model)
    biased = [m for m, c in modules.items() if c == "hidden_weight"] if config.model.biases else []
    labels = [
        Label(tensor_class, module, block)
        for module, tensor_class in [*modules.items(), *((m, "hidden_bias") for m in biased)]
        for block in ([None] if module in OUTSIDE_BLOCKS else range(config.model.depth))
    ]
    resolved = [astuple(resolve(config, label)) for label in labels]
    residuals = [
        residual_multiplier(config, branch, block)
        for branch in BRANCHES
        for block in range(config.model.depth)
    ]
    return [*chain(*resolved), *residuals, logits_multiplier(config)]


def module_types(model: ModelConfig) -> dict[ModuleType, TensorClass]:
    """The module types of a model and the class of each module's weights."""
    absent: set[ModuleType] = set()
    if not model.qk_norm:
        absent |= {"query_norm", "key_norm"}
    if model.mlp != "swiglu":
        absent |= {"mlp_gate"}
    return {module: c for module, c in WEIGHT_CLASSES.items() if module not in absent}


OUTSIDE_BLOCKS: tuple[ModuleType, ...] = ("embedding", "final_norm", "unembedding")


def check(config: RunConfig) -> None:
    """Whether a run's hyperparameters can be resolved on its model.

    Raises:
        ConfigError: naming the key: a beta leaves (0, 1), or a setting would act on nothing.
    """
    scaling = config.scaling
    if len(scaling.sde_rule) < len(SDE_RULE) and not has_sde_rule(scaling.parameterization):
        raise ConfigError(
            f"scaling.sde_rule: {scaling.parameterization} has no such rule to ablate"
        )
    modules = module_types(config.model)
    hyperparameters = config.hyperparameters
    for module, factors in hyperparameters.module_multipliers.items():
        key = f"hyperparameters.module_multipliers.{module}"
        if module not in modules:
            raise ConfigError(
                f"{key}: this model has no such module (see model.mlp, model.qk_norm)"
            )
        if "init_std" in factors and modules[module] not in _DRAWN:
            raise ConfigError(f"{key}.init_std: norm gains start at 1 and have no init_std")
    depth_multipliers = hyperparameters.depth_multipliers
    varied = {*depth_multipliers, *chain(*hyperparameters.module_multipliers.values())}
    if not varied & {"one_minus_beta1", "one_minus_beta2"}:
        # Betas without multipliers of their own differ at most between tensor classes.
        modules = {module: c for c, module in {c: m for m, c in modules.items()}.items()}
    blocks = range(config.model.depth) if depth_multipliers else range(1)
    for module, tensor_class in modules.items():
        for block in [None] if module in OUTSIDE_BLOCKS else blocks:
            label = Label(tensor_class, module, block)
            _beta(config, label, "beta1")
            _beta(config, label, "beta2")


def has_sde_rule(parameterization: Parameterization) -> bool:
    """Whether learning rates of a parameterisation follow batch size and tokens."""
    learning_rate = rule("lr", "embedding", parameterization)
    return bool(learning_rate.B or learning_rate.D)


def _factor(config: RunConfig, label: Label, quantity: SdeQuantity) -> float:
    """Module-type multiplier × depth multiplier × rule."""
    scaling, ratios = config.scaling, Ratios.of(config)
    if quantity not in scaling.sde_rule:
        ratios = replace(ratios, B=1.0, D=1.0)
    table = rule_factor(
        quantity, label.tensor_class, scaling.parameterization, ratios, scaling.alpha
    )
    return _module_and_depth(config, label.module_type, label.block, quantity) * table


def _module_and_depth(
    config: RunConfig, module_type: ModuleType, block: int | None, quantity: Quantity
) -> float:
    base = config.hyperparameters
    module = base.module_multipliers.get(module_type, {}).get(quantity, 1.0)
    if block is None or quantity not in base.depth_multipliers:
        return module
    return module * interpolate(base.depth_multipliers[quantity], block, config.model.depth)


def interpolate(curve: list[float], block: int, depth: int) -> float:
    """Depth multiplier of a block: linear between the curve's points in relative depth.

    The curve's first point is the first block and its last point the last block, so a curve of
    `depth` points is taken as it is. A model of one block takes the first point.
    """
    if len(curve) == 1 or depth == 1:
        return curve[0]
    position = block * (len(curve) - 1) / (depth - 1)
    left = min(int(position), len(curve) - 2)
    return curve[left] + (position - left) * (curve[left + 1] - curve[left])


def _beta(config: RunConfig, label: Label, name: Literal["beta1", "beta2"]) -> float:
    base: float = getattr(config.hyperparameters, name)
    quantity: SdeQuantity = "one_minus_beta1" if name == "beta1" else "one_minus_beta2"
    kappa = _factor(config, label, quantity)
    if config.scaling.beta_rule == "exponential":
        return base if kappa == 1 else float(base**kappa)
    beta = base if kappa == 1 else 1 - (1 - base) * kappa
    if beta < 1e-9:  # 0 up to rounding: 1 - (1 - 0.9) * 10 is 2e-16
        raise ConfigError(
            f"hyperparameters.{name}: the linear rule turns {base:g} of {label.module_type} into "
            f"{beta:.4g}, outside (0, 1): it needs m_B/m_D times its multipliers (here {kappa:g}) "
            f"below 1/(1 - {name}) = {1 / (1 - base):.4g}; use a smaller batch ratio, a larger "
            f"{name}, or scaling.beta_rule: exponential"
        )
    return beta


def _init_std(config: RunConfig, label: Label) -> float:
    if label.tensor_class not in _DRAWN:
        return 0.0
    scaling = config.scaling
    variance = rule_factor(
        "init_variance",
        label.tensor_class,
        scaling.parameterization,
        Ratios.of(config),
        scaling.alpha,
    )
    return (
        float(getattr(config.hyperparameters.init_std, label.tensor_class))
        * _module_and_depth(config, label.module_type, label.block, "init_std")
        * math.sqrt(variance)
    )
