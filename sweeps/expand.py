"""From a sweep file to its runs: the axes expanded, every run checked, none given twice."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from paper_repro.config import RunConfig
from paper_repro.data.tokenization import bpe_size
from paper_repro.errors import ConfigError, explain
from paper_repro.files import merged, parse_yaml, read_yaml
from paper_repro.hyperparameters import check
from paper_repro.paths import expanded
from paper_repro.search import Search, blend, parse_space
from paper_repro.search.proposers import Proposal
from sweeps import schema
from sweeps.schema import Between, Part, SearchSection, Size, SweepFile

#: The value of each dotted path that a sweep varies, for one run.
Point = dict[str, Any]
#: Parts of points, one of which every run of a grid has.
Axis = list[Point]
#: The base with each value of an axis `base_file` over it; under None the base alone.
Bases = dict[str | Between | None, Any]


@dataclass(frozen=True)
class Sweep:
    """A sweep file, read and checked."""

    path: Path
    name: str
    """The name of its directory of records: the file's, followed by the size unless that is cpu."""
    size: Size | None
    """None: the file has no sizes."""
    runs: Mapping[str, RunConfig]
    """From run id to configuration, in the order of the file; of a search, those of its start."""
    figure: str | None
    profile: Path | None
    """Cluster profile; relative to the working directory, as on the command line."""
    searches: tuple[Search, ...] = ()
    """The searches of the file, which ask for further runs."""

    @property
    def factories(self) -> tuple[str, ...]:
        """What makes the models of runs that are not of our GPT."""
        found = (config.model.factory for config in self.runs.values())
        return tuple(dict.fromkeys(factory for factory in found if factory))


def read_sweep(
    path: Path,
    overrides: Sequence[str] = (),
    size: str | None = None,
    seeds: Sequence[int] = (),
) -> Sweep:
    """Read a sweep file and check all of its runs.

    Args:
        overrides: `key=value` with dotted keys, put into the base.
        size: which of the file's sizes; None: the one that its key `size` names.
        seeds: in place of those of the file, in all of its grids; none: those of the file.

    Raises:
        ConfigError: one line naming the file, the key and what was expected.
    """
    content = read_yaml(path)
    try:
        return _sweep(path, SweepFile.model_validate(content), overrides, size, seeds)
    except ValidationError as error:
        raise ConfigError(f"{path}: {schema.first_problem(error)}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _sweep(
    path: Path,
    file: SweepFile,
    overrides: Sequence[str],
    asked: str | None,
    seeds: Sequence[int],
) -> Sweep:
    size = _size(file, asked)
    own = file.sizes[size] if size else Part()
    place = f"sizes.{size}." if size else ""
    section = own.search or file.search
    grid, zips = own.grid or file.grid, own.zip or file.zip
    if section and (grid or zips):
        raise ConfigError("search: expected neither grid nor zip beside it")
    if seeds:
        if section:
            raise ConfigError("--seeds: a search has seeds of its own")
        grid = [{**axes, "seed": list(dict.fromkeys(seeds))} for axes in grid or [{}]]
    grids = [] if section else _grids(grid, zips)
    base = merged(_base(file, path.parent), _base(own, path.parent, place))
    files = _files_of_axes(grids, path.parent)
    varied = {key for axes in grids for axis in axes for key in axis[0]} - {schema.BASE_FILE}
    varied.update(key for content in files.values() for key in _paths(content))
    for override in overrides:
        base = _override(base, override, sorted(varied))
    bases = _bases(base, files, grids)
    sweep = Sweep(
        path=path,
        name=file.name if size in (None, "cpu") else f"{file.name}_{size}",
        size=size,
        runs={} if section else _expand(bases, grids, f"{place}grid" if own.grid else "grid"),
        figure=file.figure,
        profile=own.profile or file.profile,
    )
    return _with_searches(sweep, section, base) if section else sweep


def _with_searches(sweep: Sweep, section: SearchSection, base: Any) -> Sweep:
    """The sweep with its searches, one for each proposer and repeat, and the runs of their start.

    Each starts at the base, whose seed has no effect: the runs of a trial have seeds of their own.
    """
    start = _run_config({None: base}, {"seed": 0})
    try:
        space = parse_space(section.space, start)
    except ConfigError as error:
        raise ConfigError(f"search.space: {error}") from None
    used = range(2 * section.seeds)  # a point is repeated once
    if section.confirm and (both := sorted(set(section.confirm.seeds) & set(used))):
        raise ConfigError(
            f"search.confirm.seeds: expected seeds of {len(used)} and above, which no trial has "
            f"(got {both[0]})"
        )
    searches = tuple(
        Search(
            space=space,
            proposer=proposer,
            seed=seed,
            trials=section.trials,
            round_size=section.round,
            seeds=section.seeds,
            objective=section.objective,
            confirm_seeds=tuple(section.confirm.seeds) if section.confirm else (),
            confirm_at=tuple(section.confirm.at) if section.confirm else (),
        )
        for proposer in dict.fromkeys(section.proposer)
        for seed in range(section.repeats)
    )
    return replace(sweep, runs=searches[0].trial(Proposal(space.start), 0).runs, searches=searches)


def _size(file: SweepFile, asked: str | None) -> Size | None:
    """The size asked for, by default the one that the file chooses."""
    if asked is None:
        return file.size
    if not file.sizes:
        raise ConfigError(f"--size {asked}: expected a file with the key sizes")
    for size in file.sizes:
        if size == asked:
            return size
    raise ConfigError(f"--size: {schema.not_a_size(asked, file.sizes)}")


def _base(part: Part, folder: Path, place: str = "") -> Any:
    """The base of a part of a file, over those of the files that it names."""
    base: Any = {}
    for path in part.base_file:
        base = merged(base, _read_base(folder / path, f"{place}base_file"))
    return merged(base, part.base)


def _read_base(path: Path, key: str) -> Any:
    """A part of a RunConfig, checked for its keys; `key` of the sweep file names the path."""
    try:
        return schema.BASE.validate_python(read_yaml(path))
    except ValidationError as error:
        raise ConfigError(f"{key}: {path}: {schema.first_problem(error)}") from None
    except ConfigError as error:
        made = "" if path.exists() else "; if a command makes it, the head of the sweep says which"
        raise ConfigError(f"{key}: {error}{made}") from None


def _values_of_axes(grids: Sequence[Sequence[Axis]]) -> list[str | Between]:
    """The values of all axes `base_file`, but for null."""
    found = [point.get(schema.BASE_FILE) for axes in grids for axis in axes for point in axis]
    return list(dict.fromkeys(value for value in found if value is not None))


def _files_of_axes(grids: Sequence[Sequence[Axis]], folder: Path) -> dict[str, Any]:
    """What the files of axes `base_file` say, by the names that they have there."""
    names: list[str] = []
    for value in _values_of_axes(grids):
        names += [value.start, *value.ends] if isinstance(value, Between) else [value]
    return {
        name: _read_base(folder / expanded(name, schema.BASE_FILE), schema.BASE_FILE)
        for name in dict.fromkeys(names)
    }


def _bases(base: Any, files: Mapping[str, Any], grids: Sequence[Sequence[Axis]]) -> Bases:
    """The base by itself, and with what each value of axes `base_file` says over it."""
    bases: Bases = {None: base}
    for value in _values_of_axes(grids):
        content = files.get(value) if isinstance(value, str) else None
        if isinstance(value, Between):
            ends = [value.start, *value.ends]
            start, *others = [_run_config({None: merged(base, files[name])}, {}) for name in ends]
            try:
                content = blend(start, others, value.weights)
            except ConfigError as error:
                raise ConfigError(f"{schema.BASE_FILE}: {value}: {error}") from None
        bases[value] = merged(base, content)
    return bases


def _paths(content: Any, place: str = "") -> Iterator[str]:
    """The dotted paths of plain data."""
    if not isinstance(content, dict):
        yield place
        return
    for key, value in content.items():
        yield from _paths(value, f"{place}.{key}".removeprefix("."))


def _grids(
    grids: Sequence[Mapping[str, list[Any]]], zips: Sequence[Mapping[str, list[Any]]]
) -> list[list[Axis]]:
    """The axes of each grid, with those of all zips. No path is given twice, nor beside a part."""
    if not grids and not zips:
        raise ConfigError(
            "grid: expected a grid or a zip section with at least one axis, or a search section"
        )
    zipped = [
        [dict(zip(group, values, strict=True)) for values in zip(*group.values(), strict=True)]
        for group in zips
    ]
    found = [
        [[{path: value} for value in values] for path, values in grid.items()] + zipped
        for grid in grids or [{}]
    ]
    for axes in found:
        paths = [path for axis in axes for path in axis[0]]
        for first, second in itertools.combinations(paths, 2):
            if _overlap(first, second):
                raise ConfigError(f"{second}: given twice in grid and zip (also as {first})")
    return found


def _overlap(first: str, second: str) -> bool:
    """Whether one dotted path is the other or a part of it."""
    return f"{first}.".startswith(f"{second}.") or f"{second}.".startswith(f"{first}.")


def _override(base: Any, override: str, varied: Sequence[str]) -> Any:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: expected key=value")
    if problem := schema.unknown_key(key):
        raise ConfigError(f"--set {key}: {problem}")
    for path in varied:
        if _overlap(key, path):
            raise ConfigError(f"--set {key}: is varied by the sweep ({path}), cannot be set")
    return _with(base, key.split("."), parse_yaml(text, f"--set {key}"))


def _expand(bases: Bases, grids: Sequence[Sequence[Axis]], place: str) -> dict[str, RunConfig]:
    """The runs of all grids; errors that concern several runs name the key `place`."""
    total = sum(math.prod(len(axis) for axis in axes) for axes in grids)
    if total > schema.MAX_RUNS:
        raise ConfigError(
            f"{place}: {total:,} runs, expected at most {schema.MAX_RUNS:,}; split the sweep"
        )
    runs: dict[str, RunConfig] = {}
    points: dict[str, Point] = {}
    for parts in itertools.chain.from_iterable(itertools.product(*axes) for axes in grids):
        point = {path: value for part in parts for path, value in part.items()}
        config = _run_config(bases, point)
        run_id = config.run_id
        if run_id in runs:
            raise ConfigError(
                f"{place}: duplicate runs: {_describe(points[run_id])} and {_describe(point)} "
                "are the same run"
            )
        runs[run_id], points[run_id] = config, point
    return runs


def _run_config(bases: Bases, point: Point) -> RunConfig:
    """The run at a point: a valid configuration that the rules accept."""
    content = bases[point.get(schema.BASE_FILE)]
    for path, value in point.items():
        if path != schema.BASE_FILE:
            content = _with(content, path.split("."), value)
    try:
        config = RunConfig.model_validate(content)
        check(config)
        bpe_size(config.data.tokenizer)
    except ValidationError as error:
        raise ConfigError(f"{explain(error)} (at {_describe(point)})") from None
    except ConfigError as error:
        raise ConfigError(f"{error} (at {_describe(point)})") from None
    return config


def _with(content: Any, key: Sequence[str], value: Any) -> Any:
    """A copy of nested mappings in which `key` is `value`; what is not on the way is shared."""
    head, *rest = key
    if not isinstance(content, dict):
        content = {}
    return {**content, head: _with(content.get(head), rest, value) if rest else value}


def _describe(point: Point) -> str:
    return ", ".join(f"{path}={value}" for path, value in point.items())
