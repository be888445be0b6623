"""Parameter groups in the form that trainers read: torchtitan, NeMo Automodel, Megatron-LM.

None of them takes initial weights with its groups, so these are comments at the end of each text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal, get_args

import yaml

from paper_repro.apply.names import AUTOMODEL, MEGATRON, TORCHTITAN, Names
from paper_repro.apply.parameterized import Parameterized
from paper_repro.apply.patterns import (
    NamedGroup,
    NamedParameter,
    initial_groups,
    named_parameters,
    optimiser_groups,
)
from paper_repro.errors import ConfigError
from paper_repro.parameterization import Scaling

TrainerName = Literal["torchtitan", "automodel", "megatron"]
TRAINERS: tuple[TrainerName, ...] = get_args(TrainerName)


@dataclass(frozen=True)
class Export:
    """What a trainer reads, and what it cannot say."""

    text: str
    """Python for torchtitan and Megatron-LM, YAML for Automodel."""
    warnings: tuple[str, ...] = ()
    """A line for each thing that the trainer has no place for."""


def export(
    rules: Parameterized,
    trainer: TrainerName,
    *,
    own_names: bool = True,
    final_fraction: float = 0.0,
) -> Export:
    """The parameter groups of a model as a trainer reads them.

    Args:
        rules: in the absorbed form, since no trainer has our multipliers in its forward pass.
        own_names: whether parameters have the names of this model, or those of the trainer's own
            Llama and Qwen3.
        final_fraction: the learning rate at the end of the schedule over its peak; Megatron-LM has
            it in its groups.

    Raises:
        ConfigError: one line: betas differ where the trainer has one pair for all, multipliers are
            explicit, or the trainer's model has other modules.
    """
    multipliers = [rules.logits_multiplier, *chain(*rules.residual_multipliers)]
    if any(multiplier != 1 for multiplier in multipliers):
        raise ConfigError(f"{trainer}: has no multipliers in its forward pass; use form='absorbed'")
    form = _FORMS[trainer]
    try:
        parameters = named_parameters(rules, None if own_names else form.names)
    except ConfigError as error:
        raise ConfigError(f"{trainer}: {error}") from None
    groups = optimiser_groups(parameters)
    warnings = []
    if not form.betas_by_group:
        _one_pair_of_betas(groups, trainer)
    if not form.eps_by_group and len(_values(groups, "eps")) > 1:
        warnings.append(_one_eps(groups, trainer))
    title = f"# {_rules(rules.scaling)}; for {trainer} as of {form.revision}"
    text = form.render(groups, final_fraction)
    return Export(f"{title}\n{text}\n{_initial_weights(parameters)}", tuple(warnings))


def _rules(scaling: Scaling) -> str:
    ratios = scaling.ratios
    return (
        f"{scaling.parameterization}: m_N = {ratios.N:g}, m_L = {ratios.L:g}, "
        f"m_B = {ratios.B:g}, m_D = {ratios.D:g}, α = {scaling.alpha:g}"
    )


def _values(groups: Sequence[NamedGroup], name: str) -> list[float]:
    return sorted({getattr(group.numbers, name) for group in groups})


def _one_pair_of_betas(groups: Sequence[NamedGroup], trainer: TrainerName) -> None:
    for name in ("beta1", "beta2"):
        if len(values := _values(groups, name)) > 1:
            raise ConfigError(
                f"{trainer}: has one {name} for all parameters, these have {values[0]:g} to "
                f"{values[-1]:g}: leave multipliers of one_minus_{name} out, or give its optimiser "
                "groups of your own in Python (docs/exports.md)"
            )


def _one_eps(groups: Sequence[NamedGroup], trainer: TrainerName) -> str:
    low, *_, high = _values(groups, "eps")
    return (
        f"{trainer}: has one ε for all parameters, these have {low:.3g} to {high:.3g}; the "
        "smallest is written, too large for none; docs/exports.md says how to have them all"
    )


def _torchtitan(groups: Sequence[NamedGroup], final_fraction: float) -> str:
    lines = [
        "from torchtitan.components.optimizer import OptimizersContainer, ParamGroupConfig",
        "",
        "optimizer = OptimizersContainer.Config(",
        "    param_groups=[",
    ]
    for group in groups:
        numbers = group.numbers
        lines += [
            f"        ParamGroupConfig(  # {', '.join(group.types)}",
            f'            pattern=r"{group.pattern}",',
            '            optimizer_name="AdamW",',
            "            optimizer_kwargs={",
            f'                "lr": {numbers.lr!r},',
            f'                "betas": ({numbers.beta1!r}, {numbers.beta2!r}),',
            f'                "eps": {numbers.eps!r},',
            f'                "weight_decay": {numbers.weight_decay!r},',
            "            },",
            "        ),",
        ]
    return "\n".join([*lines, "    ],", ")"])


def _automodel(groups: Sequence[NamedGroup], final_fraction: float) -> str:
    """Multipliers act on the largest rate and decay, whose schedules all groups share."""
    lr, decay = _values(groups, "lr")[-1], _values(groups, "weight_decay")[-1]
    numbers = groups[0].numbers
    content = {
        "_target_": "torch.optim.AdamW",
        "lr": lr,
        "weight_decay": decay,
        "betas": [numbers.beta1, numbers.beta2],
        "eps": _values(groups, "eps")[0],
        "param_group_overrides": [
            {
                "pattern": group.pattern,
                "lr_mult": group.numbers.lr / lr,
                "wd_mult": group.numbers.weight_decay / decay if decay else 1.0,
            }
            for group in groups
        ],
    }
    body = yaml.safe_dump({"optimizer": content}, sort_keys=False, width=10_000)
    return f"# Needs lr_scheduler, which applies lr_mult and wd_mult.\n{body}".rstrip("\n")


def _megatron(groups: Sequence[NamedGroup], final_fraction: float) -> str:
    """Its checkpoints know a group by rates and decay, not by ε: groups that differ in ε alone have
    the same λ as products of their own, which is exact with powers of two."""
    numbers = groups[0].numbers
    lines = [
        "import re",
        "",
        "from megatron.core.optimizer.optimizer_config import ParamKey, ParamWithNamePredicate",
        "",
        "",
        "def named(pattern):",
        "    return ParamKey(",
        "        with_name_predicate=ParamWithNamePredicate(",
        "            name=pattern, fn=lambda _, name: re.search(pattern, name) is not None",
        "        )",
        "    )",
        "",
        "",
        f"# --adam-beta1 {numbers.beta1!r} --adam-beta2 {numbers.beta2!r}",
        "config_overrides = {  # in place of get_standard_config_overrides, which has a wd_mult",
    ]
    alike: Counter[tuple[float, float]] = Counter()
    for group in groups:
        numbers = group.numbers
        known = (numbers.lr, numbers.weight_decay)
        multiplier = 2.0 ** alike[known]
        alike[known] += 1
        lines += [
            f"    # {', '.join(group.types)}",
            f'    named(r"{group.pattern}"): {{',
            f'        "max_lr": {numbers.lr!r},',
            f'        "min_lr": {numbers.lr * final_fraction!r},',
            f'        "start_wd": {numbers.weight_decay / multiplier!r},',
            f'        "end_wd": {numbers.weight_decay / multiplier!r},',
            f'        "wd_mult": {multiplier!r},',
            f'        "eps": {numbers.eps!r},',
            "    },",
        ]
    return "\n".join([*lines, "}"])


def _initial_weights(parameters: Sequence[NamedParameter]) -> str:
    lines = ["# Initial weights, which the trainer's model has to draw itself:"]
    for group in initial_groups(parameters):
        std = group.numbers.init_std
        what = f"normal, std {std!r}" if std else f"constant {group.start!r}"
        lines.append(f"#   {what}: {group.pattern}")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class _Form:
    revision: str
    """Of the trainer's repository, at which its code was looked up."""
    names: Names
    render: Callable[[Sequence[NamedGroup], float], str]
    eps_by_group: bool = True
    betas_by_group: bool = True


_FORMS: dict[TrainerName, _Form] = {
    "torchtitan": _Form("b5bcd76", TORCHTITAN, _torchtitan),
    "automodel": _Form("36044ad", AUTOMODEL, _automodel, eps_by_group=False, betas_by_group=False),
    "megatron": _Form("d98e8a6", MEGATRON, _megatron, betas_by_group=False),
}
