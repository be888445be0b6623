"""What a search varies: coordinates in octaves around the run that it starts from.

A coordinate is a number of a `RunConfig`, by its dotted path. A point of the space has one number a
coordinate, in octaves from the start: the start is 0 everywhere, +1 doubles the number, -1 halves
it. A beta moves by 1 - β, as the rules move it. So hyperparameters, module multipliers and depth
multipliers are all additive in the same unit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import ValidationError

from paper_repro.config import Quantity, RunConfig
from paper_repro.errors import ConfigError, explain
from paper_repro.hyperparameters import check, module_types
from paper_repro.parameterization import BRANCHES, MODULES, ModuleType

#: Octaves from the start, one number a coordinate.
Point = tuple[float, ...]
#: The lowest and the highest of a coordinate, in octaves from the start.
Range = tuple[float, float]

MODULES_PATH = "hyperparameters.module_multipliers"
DEPTH_PATH = "hyperparameters.depth_multipliers"
LAYER_PATH = "hyperparameters.layer_multipliers"
COURSE_PATH = "train.piecewise"
#: Points are rounded to this many decimals of an octave, so that they can be read and retyped.
DECIMALS = 4

_QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
_SEARCHABLE = "a number under hyperparameters, or a fraction under train"


@dataclass(frozen=True)
class Coordinate:
    """One number of a `RunConfig` that a search varies."""

    path: str
    """Dotted, such as `hyperparameters.lr`; the last part of a multiplier by depth is its place in
    the list, from the first block to the last, that of a course the place of its point."""
    low: float
    high: float


@dataclass(frozen=True)
class Space:
    """The coordinates of a search, and the run that it starts from."""

    base: RunConfig
    coordinates: tuple[Coordinate, ...]

    @property
    def start(self) -> Point:
        """The base itself."""
        return (0.0,) * len(self.coordinates)

    def clip(self, octaves: Iterator[float] | Point) -> Point:
        """The nearest point of the space, rounded to `DECIMALS`."""
        return tuple(
            round(min(max(float(value), axis.low), axis.high), DECIMALS)
            for value, axis in zip(octaves, self.coordinates, strict=True)
        )

    def config(self, point: Point, seed: int) -> RunConfig:
        """The run at a point.

        Raises:
            ConfigError: there is no such run: a beta or a fraction leaves its range there.
        """
        content: dict[str, Any] = self.base.model_dump(mode="json")
        for axis, octaves in zip(self.coordinates, point, strict=True):
            if octaves:  # what is not moved stays as it is written, and keeps the run's id
                _move(content, axis.path, octaves, self.base.model.depth)
        try:
            config = RunConfig.model_validate({**content, "seed": seed})
        except ValidationError as error:
            raise ConfigError(explain(error)) from None
        check(config)
        return config

    def ends_without_run(self) -> list[str]:
        """The paths of coordinates whose lowest or highest value alone leaves no run.

        Where there are many, most random points have none, and a search learns nothing.
        """
        found = []
        for index, axis in enumerate(self.coordinates):
            before, after = self.start[:index], self.start[index + 1 :]
            try:
                for end in (axis.low, axis.high):
                    self.config((*before, end, *after), seed=0)
            except ConfigError:
                found.append(axis.path)
        return found

    def named(self, point: Point) -> dict[str, float]:
        """The coordinates that are moved, by path."""
        pairs = zip(self.coordinates, point, strict=True)
        return {axis.path: octaves for axis, octaves in pairs if octaves}

    def point(self, named: Mapping[str, float]) -> Point:
        """The reverse of `named`.

        Raises:
            ConfigError: a path is no coordinate of this space.
        """
        paths = [axis.path for axis in self.coordinates]
        if unknown := sorted(named.keys() - set(paths)):
            raise ConfigError(f"{unknown[0]}: is no coordinate of the search space")
        return tuple(float(named.get(path, 0.0)) for path in paths)


def parse_space(content: Mapping[str, object], base: RunConfig) -> Space:
    """The space that a sweep file declares.

    Args:
        content: from dotted paths to octaves: a number for that many either way, or [low, high].
            `hyperparameters.module_multipliers` takes a mapping from quantities to octaves, for
            every module type of the model that has the quantity; with a module type after it, for
            that type alone; `hyperparameters.layer_multipliers` likewise, with a coordinate for
            each block of each type in blocks. `hyperparameters.depth_multipliers` takes such a
            mapping and has a coordinate a block. `train.piecewise.lr`, or another quantity after
            `train.piecewise`, has a coordinate for each point of its course that is not 0.
        base: the run to start from.

    Raises:
        ConfigError: naming the path and what was expected.
    """
    coordinates: list[Coordinate] = []
    for path, octaves in content.items():
        coordinates += _coordinates(path, octaves, base)
    paths = [axis.path for axis in coordinates]
    if twice := sorted({path for path in paths if paths.count(path) > 1}):
        raise ConfigError(f"{twice[0]}: given twice")
    if not coordinates:
        raise ConfigError("expected at least one coordinate, it is empty")
    return Space(base, tuple(coordinates))


def _coordinates(path: str, octaves: object, base: RunConfig) -> Iterator[Coordinate]:
    for section, of_section in _SECTIONS.items():
        if f"{path}.".startswith(f"{section}."):
            return of_section(path, octaves, base)
    value: object = base
    for part in path.split("."):
        value = getattr(value, part, None)
    if path.split(".")[0] not in ("hyperparameters", "train") or type(value) is not float:
        raise ConfigError(f"{path}: expected {_SEARCHABLE}")
    if value == 0:
        raise ConfigError(f"{path}: is 0 at the start, which no number of octaves moves")
    return iter([Coordinate(path, *_range(path, octaves))])


def _module_coordinates(path: str, octaves: object, base: RunConfig) -> Iterator[Coordinate]:
    for module, quantity, bounds in _of_modules(path, octaves, base, MODULES_PATH):
        yield Coordinate(f"{MODULES_PATH}.{module}.{quantity}", *bounds)


def _layer_coordinates(path: str, octaves: object, base: RunConfig) -> Iterator[Coordinate]:
    for module, quantity, bounds in _of_modules(path, octaves, base, LAYER_PATH):
        if not MODULES[module].in_block:
            if path != LAYER_PATH:
                raise ConfigError(f"{path}: {module} is in no block")
            continue
        curves = base.hyperparameters.layer_multipliers.get(module, {})
        _check_length(path, curves.get(quantity), base)
        for block in range(base.model.depth):
            yield Coordinate(f"{LAYER_PATH}.{module}.{quantity}.{block}", *bounds)


def _depth_coordinates(path: str, octaves: object, base: RunConfig) -> Iterator[Coordinate]:
    quantity = path.removeprefix(DEPTH_PATH).removeprefix(".")
    for each, bounds in _by_quantity(path, {quantity: octaves} if quantity else octaves):
        _check_length(path, base.hyperparameters.depth_multipliers.get(each), base)
        for block in range(base.model.depth):
            yield Coordinate(f"{DEPTH_PATH}.{each}.{block}", *bounds)


def _course_coordinates(path: str, octaves: object, base: RunConfig) -> Iterator[Coordinate]:
    quantity = path.removeprefix(COURSE_PATH).removeprefix(".")
    courses = {str(each): points for each, points in base.train.piecewise.items()}
    if quantity not in courses:
        raise ConfigError(f"{path}: expected a course of the base, such as {COURSE_PATH}.lr")
    for place, point in enumerate(courses[quantity]):
        if point.factor:
            yield Coordinate(f"{path}.{place}", *_range(path, octaves))


_SECTIONS = {
    MODULES_PATH: _module_coordinates,
    LAYER_PATH: _layer_coordinates,
    COURSE_PATH: _course_coordinates,
    DEPTH_PATH: _depth_coordinates,
}
"""What the paths below a section stand for."""


def _of_modules(
    path: str, octaves: object, base: RunConfig, section: str
) -> Iterator[tuple[ModuleType, Quantity, Range]]:
    """The module types and quantities that a path below a section stands for."""
    present = module_types(base.model)
    name, _, quantity = path.removeprefix(section).removeprefix(".").partition(".")
    modules = [module for module in present if name in ("", module)]
    if not modules:
        raise ConfigError(f"{path}: expected one of {', '.join(present)} (got {name!r})")
    for module in modules:
        for each, bounds in _by_quantity(path, {quantity: octaves} if quantity else octaves):
            if _has(module, each):
                yield module, each, bounds
            elif name:
                raise ConfigError(f"{path}: {module} has no {each}")


def _has(module: ModuleType, quantity: Quantity) -> bool:
    """Whether a multiplier of the quantity acts on anything of a module type."""
    if quantity == "residual":
        return module in BRANCHES
    return quantity != "init_std" or MODULES[module].drawn


def _check_length(path: str, given: list[float] | None, base: RunConfig) -> None:
    """A curve that is moved point by point has a point for each block."""
    if given is not None and len(given) != base.model.depth:
        raise ConfigError(
            f"{path}: expected {base.model.depth} multipliers in the base, one a block "
            f"(got {len(given)})"
        )


def _by_quantity(path: str, content: object) -> Iterator[tuple[Quantity, Range]]:
    if not isinstance(content, Mapping) or not content:
        raise ConfigError(f"{path}: expected a mapping from quantities to octaves")
    for quantity, bounds in content.items():
        if quantity not in _QUANTITIES:
            raise ConfigError(
                f"{path}: expected quantities among {', '.join(_QUANTITIES)} (got {quantity!r})"
            )
        yield quantity, _range(path, bounds)


def _range(path: str, octaves: object) -> Range:
    bounds: list[Any] = octaves if isinstance(octaves, list) else [octaves]
    if all(type(bound) in (int, float) and math.isfinite(bound) for bound in bounds):
        low, high = bounds if len(bounds) == 2 else (-bounds[0], bounds[0])
        if len(bounds) <= 2 and low <= 0 <= high and low < high:
            return float(low), float(high)
    raise ConfigError(
        f"{path}: expected octaves either way, a number above 0, or [low, high] around 0 "
        f"(got {octaves!r})"
    )


def _move(content: dict[str, Any], path: str, octaves: float, depth: int) -> None:
    """Move the number at a path of plain data by octaves."""
    *parents, last = path.split(".")
    if path.startswith((DEPTH_PATH, LAYER_PATH)):
        quantity = parents.pop()
        curves = _descend(content, parents)
        curve = curves.setdefault(quantity, [1.0] * depth)
        curves[quantity] = [
            factor * 2**octaves if str(block) == last else factor
            for block, factor in enumerate(curve)
        ]
        return
    if path.startswith(COURSE_PATH):
        content["train"]["piecewise"][parents[-1]][int(last)]["factor"] *= 2**octaves
        return
    section = _descend(content, parents)
    if last in ("beta1", "beta2"):
        section[last] = 1 - (1 - section[last]) * 2**octaves
    else:
        section[last] = section.get(last, 1.0) * 2**octaves


def _descend(content: dict[str, Any], parts: list[str]) -> dict[str, Any]:
    for part in parts:
        content = content.setdefault(part, {})
    return content
