"""The hyperparameters of each parameter of a run, resolved from its config.

Every hyperparameter is

    base value × module-type multiplier × depth multiplier × the parameterisation's factor

(× the multiplier of its layer, where a run has such), so it is additive in logarithms. They are
resolved once a run (`resolve`) and handed on as plain numbers. Free of torch: plans of thousands of
runs are checked with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from functools import partial
from itertools import chain
from math import sqrt
from typing import cast, get_args

from paper_repro.config import HyperparameterConfig, ModelConfig, Quantity, RunConfig
from paper_repro.errors import ConfigError
from paper_repro.parameterization import (
    BRANCHES,
    DRAWN,
    MODULES,
    SDE_RULE,
    BetaQuantity,
    Label,
    ModuleType,
    Ratios,
    Scaling,
    SdeQuantity,
    has_sde_rule,
)


@dataclass(frozen=True)
class ResolvedParameter:
    """The hyperparameters of one parameter, ready for AdamW and the initialisation."""

    lr: float
    """At the peak of the schedule."""
    weight_decay: float
    """λ in PyTorch's form: a step decays a weight by lr · λ."""
    beta1: float
    beta2: float
    eps: float
    init_std: float
    """Standard deviation of the initial values; 0 where they are fixed (gains 1, biases 0)."""


@dataclass(frozen=True)
class ResolvedRun:
    """Every number that training takes from a run's hyperparameters and rules."""

    labels: Mapping[str, Label]
    """What each parameter is, by name."""
    parameters: Mapping[str, ResolvedParameter]
    """The hyperparameters of each parameter, by name."""
    residual_multipliers: tuple[tuple[float, ...], ...]
    """For each block, of its branches in the order of `BRANCHES`: x + multiplier · Branch(x)."""
    logits_multiplier: float

    def numbers(self) -> list[float]:
        """All of them, in a fixed order.

        Runs that share model, data, training section and seed, and these, are the same training.
        """
        parameters = chain.from_iterable(map(astuple, self.parameters.values()))
        return [*parameters, *chain(*self.residual_multipliers), self.logits_multiplier]


def resolve(config: RunConfig) -> ResolvedRun:
    """Resolve the hyperparameters of every parameter of a run of our GPT.

    Raises:
        ConfigError: a beta leaves (0, 1); the message names the limit and the way out. Or the model
            is another's, whose parameters are not known from its shape.
    """
    if config.model.factory:
        raise ConfigError(
            f"model.factory: the parameters of {config.model.factory}'s model are not known from "
            "its shape (paper_repro.apply.factory.rules_of has their numbers)"
        )
    labels, scaling = parameter_labels(config.model), scaling_of(config)
    base, depth = config.hyperparameters, config.model.depth
    return ResolvedRun(
        labels=labels,
        parameters={name: resolve_parameter(config, labels[name]) for name in labels},
        residual_multipliers=tuple(
            tuple(residual_multiplier(base, scaling, branch, block, depth) for branch in BRANCHES)
            for block in range(depth)
        ),
        logits_multiplier=scaling.logits,
    )


def resolve_parameter(config: RunConfig, label: Label) -> ResolvedParameter:
    """The hyperparameters of one parameter of a run.

    Raises:
        ConfigError: a beta leaves (0, 1); the message names the limit and the way out.
    """
    return resolve_label(config.hyperparameters, scaling_of(config), label, config.model.depth)


def resolve_label(
    base: HyperparameterConfig,
    scaling: Scaling,
    label: Label,
    depth: int,
    fan_in: float | None = None,
) -> ResolvedParameter:
    """The hyperparameters of a parameter of any model.

    Args:
        depth: number of blocks of the model, for multipliers by depth.
        fan_in: ratio of its fan-in to that at the base, where it is not that of the widths
            (`Scaling.factor`).

    Raises:
        ConfigError: a beta leaves (0, 1); the message names the limit and the way out.
    """
    own = partial(_own, base, depth, label.module_type, label.block)

    def factor(quantity: SdeQuantity) -> float:
        return own(quantity) * scaling.factor(quantity, label.tensor_class, fan_in)

    init_std = 0.0
    if label.tensor_class in DRAWN:
        variance = scaling.factor("init_variance", label.tensor_class, fan_in)
        init_std = getattr(base.init_std, label.tensor_class) * own("init_std") * sqrt(variance)
    return ResolvedParameter(
        lr=base.lr * factor("lr"),
        weight_decay=base.weight_decay * factor("weight_decay"),
        beta1=_beta(base, scaling, label, depth, "one_minus_beta1"),
        beta2=_beta(base, scaling, label, depth, "one_minus_beta2"),
        eps=base.eps * factor("eps"),
        init_std=init_std,
    )


def residual_multiplier(
    base: HyperparameterConfig, scaling: Scaling, branch: str, block: int | None, depth: int
) -> float:
    """The multiplier of a residual branch, by the module type that ends it."""
    return base.residual * _own(base, depth, branch, block, "residual") * scaling.residual


def scaling_of(config: RunConfig) -> Scaling:
    """The rules of a run, at the ratios of its shape to the base: the one place of the ratios."""
    scaling = config.scaling
    return Scaling(
        parameterization=scaling.parameterization,
        ratios=Ratios(
            N=config.model.width / scaling.base_width,
            L=config.model.depth / scaling.base_depth,
            B=config.train.batch_size / scaling.base_batch_size,
            D=config.train.tokens / scaling.base_tokens,
        ),
        alpha=scaling.alpha,
        sde_rule=tuple(scaling.sde_rule),
        beta_rule=scaling.beta_rule,
    )


def parameter_labels(model: ModelConfig) -> dict[str, Label]:
    """What every parameter of a GPT is, by its name in `paper_repro.model.gpt.GPT`."""
    labels = {}
    for module_type in module_types(model):
        module = MODULES[module_type]
        blocks: Iterable[int | None] = range(model.depth) if module.in_block else [None]
        for block in blocks:
            path = module_type if block is None else f"blocks.{block}.{module_type}"
            labels[f"{path}.weight"] = Label(module.tensor_class, module_type, block)
            if model.biases and module.tensor_class == "hidden_weight":
                labels[f"{path}.bias"] = Label("hidden_bias", module_type, block)
    return labels


def module_types(model: ModelConfig) -> list[ModuleType]:
    """The module types that our GPT has, or that a factory's model may have."""
    if model.factory:
        return list(MODULES)
    absent: set[ModuleType] = set()
    if not model.qk_norm:
        absent |= {"query_norm", "key_norm"}
    if model.mlp != "swiglu":
        absent |= {"mlp_gate"}
    return [module_type for module_type in MODULES if module_type not in absent]


def check(config: RunConfig) -> None:
    """Check that a run's hyperparameters can be resolved on its model.

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
    multipliers: list[tuple[str, ModuleType, Mapping[Quantity, object]]] = [
        *(("module_multipliers", *each) for each in hyperparameters.module_multipliers.items()),
        *(("layer_multipliers", *each) for each in hyperparameters.layer_multipliers.items()),
    ]
    for section, module, factors in multipliers:
        key = f"hyperparameters.{section}.{module}"
        if section == "layer_multipliers" and not MODULES[module].in_block:
            raise ConfigError(f"{key}: is in no block (use module_multipliers)")
        if module not in modules:
            raise ConfigError(
                f"{key}: this model has no such module (see model.mlp, model.qk_norm)"
            )
        if "init_std" in factors and not MODULES[module].drawn:
            raise ConfigError(f"{key}.init_std: norm gains start at 1 and have no init_std")
    model, scale = config.model, scaling_of(config)
    if not hyperparameters.depth_multipliers and not hyperparameters.layer_multipliers:
        model = model.model_copy(update={"depth": 1})  # the betas of other blocks are the same
    labels = parameter_labels(model).values()
    for quantity in get_args(BetaQuantity):
        # Once for the tensors of a class with the same multiplier of their own.
        different: dict[tuple[str, float], Label] = {}
        for label in labels:
            own = _own(hyperparameters, model.depth, label.module_type, label.block, quantity)
            different.setdefault((label.tensor_class, own), label)
        course = [point.factor for point in config.train.piecewise.get(quantity, [])]
        largest = max(course, default=1.0)
        for label in different.values():
            beta = _beta(hyperparameters, scale, label, model.depth, quantity)
            if (1 - beta) * largest >= 1:
                raise ConfigError(
                    f"train.piecewise.{quantity}: expected factors below {1 / (1 - beta):.6g}, "
                    f"above which the beta of {label.module_type} is not positive (got {largest:g})"
                )


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


def _own(
    base: HyperparameterConfig, depth: int, module_type: str, block: int | None, quantity: Quantity
) -> float:
    """Module-type multiplier × depth multiplier × multiplier of the layer."""
    module = cast(ModuleType, module_type)
    own = base.module_multipliers.get(module, {}).get(quantity, 1.0)
    if block is not None:
        for curves in (base.depth_multipliers, base.layer_multipliers.get(module, {})):
            if quantity in curves:
                own *= interpolate(curves[quantity], block, depth)
    return own


def _beta(
    base: HyperparameterConfig, scaling: Scaling, label: Label, depth: int, quantity: BetaQuantity
) -> float:
    name = quantity.removeprefix("one_minus_")
    value: float = getattr(base, name)
    own = _own(base, depth, label.module_type, label.block, quantity)
    try:
        return scaling.beta(value, quantity, label.tensor_class, own)
    except ValueError as error:
        raise ConfigError(
            f"hyperparameters.{name}: of {label.module_type}, {error}; use a smaller batch ratio, "
            f"a larger {name}, or scaling.beta_rule: exponential"
        ) from None
