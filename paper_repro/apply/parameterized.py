"""Hyperparameters of the parameters of any torch module, from a smaller one that was tuned.

Nothing is changed in the forward pass, unless it is asked for. A multiplier r on a residual branch
whose last operation is linear is the same AdamW trajectory as r times the initial weights and the
learning rate, and 1/r times ε and the weight decay, of that layer and its bias (*absorbed*): with
W' = r W gradients are 1/r times as large, and AdamW's update of W' is r times that of W. The same
holds for a multiplier of the logits and the unembedding; with tied embeddings it goes into the
final norm.

What is not equal: the norm of all gradients, so clipping by it sees other numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping as AbstractMapping
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

from paper_repro.apply.mapping import Labelled, Mapping, family, label_parameters, plain_name
from paper_repro.apply.param_groups import describe_groups, groups_text, param_groups
from paper_repro.config import HyperparameterConfig, RunConfig
from paper_repro.errors import ConfigError
from paper_repro.hyperparameters import (
    ResolvedParameter,
    residual_multiplier,
    resolve_label,
    scaling_of,
)
from paper_repro.model.gpt import generator
from paper_repro.model.layers import copy_whole
from paper_repro.parameterization import (
    BRANCHES,
    SDE_RULE,
    BetaRule,
    Label,
    Parameterization,
    Ratios,
    Scaling,
    SdeQuantity,
)

#: Whether multipliers are in the numbers of parameters, or to be applied in the forward pass.
Form = Literal["absorbed", "explicit"]


@dataclass(frozen=True, eq=False)
class Parameterized:
    """The hyperparameters of every parameter of a model."""

    model: nn.Module
    scaling: Scaling
    labelled: AbstractMapping[str, Labelled]
    """What each parameter is, by its name."""
    numbers: AbstractMapping[str, ResolvedParameter]
    """By the name of the parameter; `init_std` is 0 where initial values are fixed."""
    gains: AbstractMapping[str, float]
    """The initial values of those that are fixed: gains 1 and biases 0, unless a multiplier of the
    logits is in the final norm."""
    residual_multipliers: Sequence[Sequence[float]]
    """To be applied in the forward pass: for each block, of its attention and of its MLP branch;
    all 1 in the absorbed form."""
    logits_multiplier: float
    """The same of the logits."""

    @property
    def labels(self) -> dict[str, Label]:
        """The label of each parameter, by its name."""
        return {name: each.label for name, each in self.labelled.items()}

    def param_groups(self) -> list[dict[str, Any]]:
        """Groups for `torch.optim.AdamW`, with their peak learning rates (also as `peak_lr`)."""
        return param_groups(self.model.named_parameters(), self.labels, self.numbers)

    def table(self) -> str:
        """The groups as a readable table."""
        return groups_text(describe_groups(self.param_groups()))

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Draw all weights, each from a stream of its own, of the seed and its name.

        Raises:
            ConfigError: parameters are on the meta device, which has no values.
        """
        for name, parameter in self.model.named_parameters():
            if parameter.is_meta:
                raise ConfigError(
                    f"{name}: is on the meta device; model.to_empty(device=...) first"
                )
            if std := self.numbers[name].init_std:
                draws = torch.randn(parameter.shape, generator=generator(seed, plain_name(name)))
                copy_whole((draws.double() * std).to(parameter.dtype), parameter)
            else:
                parameter.fill_(self.gains[name])


def parameterize_run(
    config: RunConfig, model: nn.Module, base: nn.Module, mapping: Mapping | str, tied: bool = False
) -> Parameterized:
    """`parameterize` with the hyperparameters, the rules and the ratios of a run."""
    scaling = scaling_of(config)
    return parameterize(
        model,
        base,
        mapping,
        config.hyperparameters,
        parameterization=scaling.parameterization,
        alpha=scaling.alpha,
        batch_ratio=scaling.ratios.B,
        token_ratio=scaling.ratios.D,
        sde_rule=scaling.sde_rule,
        beta_rule=scaling.beta_rule,
        tied=tied,
    )


def parameterize(
    model: nn.Module,
    base: nn.Module,
    mapping: Mapping | str,
    hyperparameters: HyperparameterConfig | None = None,
    *,
    parameterization: Parameterization = "complete_d",
    alpha: float = 1.0,
    batch_ratio: float = 1.0,
    token_ratio: float = 1.0,
    sde_rule: Sequence[SdeQuantity] = SDE_RULE,
    beta_rule: BetaRule = "linear",
    form: Form = "absorbed",
    tied: bool = False,
) -> Parameterized:
    """The hyperparameters of every parameter of a model, from those tuned at a base.

    Ratios of width, depth and of each matrix's fan-in are read from the shapes of both models.
    Grow the width by adding heads: the head size should be that of the base.

    Args:
        model: the target, on any device.
        base: a model of the same family of the shape at which hyperparameters were tuned; on the
            meta device it costs nothing.
        mapping: what its parameters are, or the name of one of `FAMILIES`.
        hyperparameters: as stated at the base, with multipliers by module type and depth.
        batch_ratio: batch size of the target over that of the base.
        token_ratio: training tokens of the target over those of the base.
        form: `absorbed` needs nothing in the forward pass.
        tied: whether the unembedding is the embedding. Then logits need m_N⁻¹, as CompleteP has it,
            and the embedding keeps its own rules (our choice: the paper's embeddings are untied).

    Raises:
        ConfigError: a parameter has no label, both models differ in more than shape, types that
            share a matrix have different multipliers, parameters are shared and `tied` does not
            say so, or a beta leaves (0, 1).
    """
    base_values = hyperparameters or HyperparameterConfig()
    patterns = family(mapping)
    _check_shared(model, tied)
    labelled, shapes = label_parameters(model, patterns), _shapes(model)
    of_base = _Base.of(base, patterns)
    depth = _depth(labelled)
    width = _width(labelled, shapes) / of_base.width
    scaling = Scaling(
        parameterization,
        Ratios(N=width, L=depth / of_base.depth, B=batch_ratio, D=token_ratio),
        alpha,
        tuple(sde_rule),
        beta_rule,
    )
    logits = 1 / width if tied and parameterization != "sp" else scaling.logits
    residuals = [
        [residual_multiplier(base_values, scaling, branch, block, depth) for branch in BRANCHES]
        for block in range(depth)
    ]
    numbers, gains = {}, {}
    for name, each in labelled.items():
        fan_in = of_base.fan_in_ratio(name, each, shapes[name])
        numbers[name] = _same_for_types(name, each, base_values, scaling, depth, fan_in)
        gains[name] = 0.0 if name.endswith("bias") else 1.0
        if form == "explicit":
            continue
        absorbed = _absorbed_multiplier(each, residuals, logits, tied)
        numbers[name] = _absorb(numbers[name], absorbed)
        gains[name] *= absorbed
    explicit = form == "explicit"
    return Parameterized(
        model,
        scaling,
        labelled,
        numbers=numbers,
        gains=gains,
        residual_multipliers=residuals if explicit else [[1.0, 1.0]] * depth,
        logits_multiplier=logits if explicit else 1.0,
    )


@dataclass(frozen=True)
class _Base:
    """What of the base's shape decides the rules."""

    width: int
    depth: int
    fan_ins: AbstractMapping[str, int]
    """Of its matrices, by `Labelled.place`; in all blocks they are the same."""

    @classmethod
    def of(cls, base: nn.Module, patterns: Mapping) -> _Base:
        labelled, shapes = label_parameters(base, patterns), _shapes(base)
        fan_ins = {
            each.place: shapes[name][each.fan_in]
            for name, each in labelled.items()
            if each.fan_in is not None
        }
        return cls(_width(labelled, shapes), _depth(labelled), fan_ins)

    def fan_in_ratio(self, name: str, each: Labelled, shape: torch.Size) -> float | None:
        if each.fan_in is None:
            return None
        if each.place not in self.fan_ins:
            raise ConfigError(f"{name}: the base has no {each.place}")
        return shape[each.fan_in] / self.fan_ins[each.place]


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in model.named_parameters()}


def _width(
    labelled: AbstractMapping[str, Labelled], shapes: AbstractMapping[str, torch.Size]
) -> int:
    """The size of the residual stream, from the final norm's gains."""
    for name, each in labelled.items():
        if each.label.tensor_class == "final_norm":
            return shapes[name][0]
    raise ConfigError("no parameter is a final_norm, whose size is the width")


def _depth(labelled: AbstractMapping[str, Labelled]) -> int:
    """The number of blocks."""
    blocks = {each.label.block for each in labelled.values()} - {None}
    if blocks != set(range(len(blocks))) or not blocks:
        raise ConfigError(f"expected blocks numbered from 0, got {sorted(map(str, blocks))}")
    return len(blocks)


def _check_shared(model: nn.Module, tied: bool) -> None:
    """Hold what is shared to what was said: the embedding may be the unembedding."""
    names: dict[int, list[str]] = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names[id(parameter)].append(name)
    shared = [each for each in names.values() if len(each) > 1]
    if tied and not shared:
        raise ConfigError("tied: no parameter is shared; leave it out")
    if not tied and shared:
        raise ConfigError(
            f"shared parameters: {'; '.join(' = '.join(each) for each in shared)}; untie them, or "
            "say tied=True, for an embedding that is the unembedding"
        )


def _same_for_types(
    name: str,
    each: Labelled,
    base: HyperparameterConfig,
    scaling: Scaling,
    depth: int,
    fan_in: float | None,
) -> ResolvedParameter:
    """The numbers of a parameter, which all module types that it holds must have alike."""
    found = {
        module: resolve_label(base, scaling, replace(each.label, module_type=module), depth, fan_in)
        for module in each.types
    }
    first = found[each.types[0]]
    for module, numbers in found.items():
        if numbers != first:
            raise ConfigError(
                f"{name}: holds {' and '.join(each.types)}, but {module} has multipliers of its "
                "own; an optimiser has one set of numbers for a matrix: give them equal ones, or "
                "split the matrix"
            )
    return first


def _absorbed_multiplier(
    each: Labelled, residuals: Sequence[Sequence[float]], logits: float, tied: bool
) -> float:
    """The multiplier of the forward pass that a parameter takes in."""
    module_type, block = each.types[0], each.label.block
    if module_type in BRANCHES and block is not None:
        return residuals[block][BRANCHES.index(module_type)]
    if module_type == ("final_norm" if tied else "unembedding"):
        return logits
    return 1.0


def _absorb(numbers: ResolvedParameter, multiplier: float) -> ResolvedParameter:
    """The numbers of r W, of which the forward pass has no multiplier r any more."""
    if multiplier == 1:
        return numbers
    return replace(
        numbers,
        lr=numbers.lr * multiplier,
        init_std=numbers.init_std * multiplier,
        eps=numbers.eps / multiplier,
        weight_decay=numbers.weight_decay / multiplier,
    )
