"""Parameter groups by regular expressions of names, for trainers that make groups themselves."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

from paper_repro.apply.names import Names
from paper_repro.apply.parameterized import Parameterized
from paper_repro.errors import ConfigError
from paper_repro.hyperparameters import ResolvedParameter
from paper_repro.parameterization import MODULES, ModuleType

#: What wrappers put before a name, and between a block's number and what is in the block.
_BEFORE, _WITHIN = r"(?:(?:module|_\w+)\.)*", r"(?:_\w+\.)*"


@dataclass(frozen=True)
class NamedParameter:
    """The numbers of one parameter."""

    place: str
    """Its name, with `*` for the number of its block."""
    block: int | None
    types: tuple[ModuleType, ...]
    """The module types that it holds."""
    numbers: ResolvedParameter
    start: float
    """Its initial values where they are fixed (`init_std` is 0)."""


@dataclass(frozen=True)
class NamedGroup:
    """Parameters that have the same numbers."""

    pattern: str
    """Regular expression that matches their whole names and no other, wrappers' prefixes
    included."""
    types: tuple[ModuleType, ...]
    """Their module types."""
    numbers: ResolvedParameter
    """Of the optimiser; their `init_std` may differ from parameter to parameter."""
    start: float


def named_parameters(rules: Parameterized, names: Names | None = None) -> list[NamedParameter]:
    """The numbers of every parameter of a model, under its own names or those of a trainer.

    A trainer's matrix that holds several module types is left out where these differ, if the
    trainer can have them one by one.

    Args:
        names: what a trainer calls them.

    Raises:
        ConfigError: the trainer's model has a module that this one lacks, or the other way round,
            or a matrix that holds module types whose numbers differ.
    """
    own = [
        NamedParameter(
            each.place, each.label.block, each.types, rules.numbers[name], rules.gains[name]
        )
        for name, each in rules.labelled.items()
    ]
    return own if names is None else _renamed(own, names)


def _renamed(parameters: Sequence[NamedParameter], names: Names) -> list[NamedParameter]:
    known = {
        (module, _kind(each.place), each.block): each
        for each in parameters
        for module in each.types
    }
    present = {module for module, _, _ in known}
    alone = {types[0] for types in names.values() if len(types) == 1}
    found, placed = [], set()
    for place, types in names.items():
        held = [module for module in types if module in present]
        if not held and not all(map(_is_qk_norm, types)):
            raise ConfigError(f"its models have {types[0]}, this one does not (see model.mlp)")
        for kind, block in [key[1:] for key in known if key[:1] == tuple(held[:1])]:
            first, *rest = [known[module, kind, block] for module in held]
            if any((each.numbers, each.start) != (first.numbers, first.start) for each in rest):
                if alone.issuperset(held):
                    continue
                raise ConfigError(
                    f"{place}: holds {' and '.join(held)}, which have multipliers of their own "
                    "here; an optimiser has one set of numbers for a matrix"
                )
            name = f"{place.removesuffix('weight')}{kind}"
            found.append(NamedParameter(name, block, tuple(held), first.numbers, first.start))
            placed |= {(module, kind, block) for module in held}
    if missing := sorted({module for module, _, _ in known.keys() - placed}):
        raise ConfigError(f"its models have no {', '.join(missing)}")
    return found


def _kind(place: str) -> str:
    return place.rpartition(".")[2]


def _is_qk_norm(module: ModuleType) -> bool:
    return MODULES[module].tensor_class == "qk_norm"


def optimiser_groups(parameters: Sequence[NamedParameter]) -> list[NamedGroup]:
    """Those that have the same learning rate, decay, betas and ε, in the order of the model."""
    return _groups(parameters, lambda each: replace(each.numbers, init_std=0.0))


def initial_groups(parameters: Sequence[NamedParameter]) -> list[NamedGroup]:
    """Those that start alike, drawn or fixed."""
    return _groups(parameters, lambda each: (each.numbers.init_std, each.start))


def _groups(
    parameters: Sequence[NamedParameter], same: Callable[[NamedParameter], Hashable]
) -> list[NamedGroup]:
    blocks = {each.block for each in parameters} - {None}
    groups: dict[Hashable, list[NamedParameter]] = defaultdict(list)
    for each in parameters:
        groups[same(each)].append(each)
    return [
        NamedGroup(
            _pattern(group, len(blocks)),
            tuple(dict.fromkeys(module for each in group for module in each.types)),
            group[0].numbers,
            group[0].start,
        )
        for group in groups.values()
    ]


def _pattern(group: Iterable[NamedParameter], depth: int) -> str:
    """One expression for all names: places of the same blocks share the blocks' numbers."""
    by_place: dict[str, list[int]] = defaultdict(list)
    for each in group:
        by_place[each.place] += [] if each.block is None else [each.block]
    ends: dict[tuple[str, tuple[int, ...]], list[str]] = defaultdict(list)
    for place, blocks in by_place.items():
        head, _, end = place.rpartition("*.")
        ends[head, tuple(blocks)].append(re.escape(end))
    parts = []
    for (head, numbers), tails in ends.items():
        inside = f"{re.escape(head)}{_number(numbers, depth)}" + rf"\.{_WITHIN}" if numbers else ""
        parts.append(inside + _any(tails))
    return f"^{_BEFORE}{_any(parts)}$"


def _number(blocks: Sequence[int], depth: int) -> str:
    return r"\d+" if len(blocks) == depth else _any(list(map(str, blocks)))


def _any(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"(?:{'|'.join(parts)})"
