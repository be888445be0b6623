"""Sweep files: strict YAML that says which runs to train.

    name: lr_width             # the directory under the runs directory
    base: {...}                # a RunConfig; what is left out has its documented default
    grid:                      # every combination of these
      model.width: [32, 64, 128]
      hyperparameters.lr: {log2: [-10, -3]}        # octaves, both ends included
      scaling.alpha: [0.5, 1.0]
    zip:                       # these advance together
      train.batch_size: [8, 16]
      train.tokens: [400_000, 800_000]
    figure: lr_width           # drawn when the sweep is complete
    profile: slurm/gpu_site.yaml     # for --cluster slurm, where --profile is not given

`grid` or `zip` must be there. A step other than one octave is `{log2: [low, high, step]}`. `grid`
may be a list of grids, all of which are run: arms with ranges of their own. `zip` may be a list of
groups, each advancing by itself. A file may exist at several sizes, of which its key `size` or
--size chooses one: see `sweeps.sizes`. Everything is checked before anything runs, and the first
problem is told as one line `FILE: key: what was expected`.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paper_repro.config import RunConfig, parse_run_config
from paper_repro.data.tokenization import bpe_size
from paper_repro.errors import ConfigError
from paper_repro.files import parse_yaml, read_yaml
from paper_repro.hyperparameters import check
from sweeps.keys import check_path, suggestion
from sweeps.sizes import Size, Sized, at_size

MAX_RUNS = 100_000
#: Axes of plain numbers that no rule can refuse: a point's rules are checked once for all of them.
_NEVER_REFUSED = ("seed", *(f"hyperparameters.{name}" for name in ("lr", "weight_decay", "eps")))
_KEYS = ["name", "size", "base", "grid", "zip", "sizes", "figure", "profile"]
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


#: The value of each dotted path that a sweep varies, for one run.
Point = dict[str, Any]


@dataclass(frozen=True)
class Axis:
    """Dotted paths that advance together, and the values they take: one tuple a point."""

    paths: tuple[str, ...]
    points: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Sweep:
    """A sweep file, read and checked. `runs` maps run id to config, in the file's order."""

    path: Path
    name: str
    """That of the directory of its records: the file's, and the size where it is another than cpu.
    """
    size: Size | None
    """None: the file has no sizes."""
    runs: Mapping[str, RunConfig]
    figure: str | None
    profile: Path | None
    """Cluster profile; relative to the working directory, as on the command line."""


def read_sweep(path: Path, overrides: Sequence[str] = (), size: str | None = None) -> Sweep:
    """Read a sweep file, with `key=value` overrides of its base section.

    Args:
        size: of the file's sizes; None: the one that its key `size` names.

    Raises:
        ConfigError: one line naming the file, the key and what was expected.
    """
    content = read_yaml(path)
    try:
        return _parse(path, content, overrides, size)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _parse(path: Path, content: Any, overrides: Sequence[str], size: str | None) -> Sweep:
    if not isinstance(content, dict):
        raise ConfigError(f"expected a mapping with the keys {', '.join(_KEYS)}")
    for key in content:
        if key not in _KEYS:
            raise ConfigError(f"{key}: unknown key{suggestion(key, _KEYS)}")
    name = _safe_name(content.get("name"), "name")
    figure = _safe_name(content["figure"], "figure") if "figure" in content else None
    sized = at_size(content, size)
    grids = _grids(sized)
    base = sized.content.get("base", {})
    varied = {path for axes in grids for axis in axes for path in axis.paths}
    for override in overrides:
        base = _override(base, override, sorted(varied))
    return Sweep(
        path=path,
        name=sized.directory(name),
        size=sized.size,
        runs=_expand(base, grids, sized.place("grid")),
        figure=figure,
        profile=_profile(sized),
    )


def _profile(sized: Sized) -> Path | None:
    profile = sized.content.get("profile")
    if "profile" in sized.content and not isinstance(profile, str):
        where = sized.place("profile")
        raise ConfigError(f"{where}: expected the path of a cluster profile (got {profile!r})")
    return Path(profile) if profile else None


def _safe_name(value: Any, key: str) -> str:
    if not isinstance(value, str) or not _SAFE_NAME.fullmatch(value):
        raise ConfigError(
            f"{key}: expected a name of letters, digits, '.', '_' and '-' (got {value!r})"
        )
    return value


def _grids(sized: Sized) -> list[list[Axis]]:
    """The axes of each grid, those of `zip` among them.

    In a grid no path is given twice, nor beside a part of itself.
    """
    zipped = [_zipped(group, where) for group, where in _zips(sized)]
    section, grid = sized.content.get("grid", {}), sized.place("grid")
    if "grid" in sized.content and not section:
        raise ConfigError(f"{grid}: expected at least one axis, it is empty")
    named = {f"{grid}.{i}": s for i, s in enumerate(section)} if isinstance(section, list) else None
    groups = named or ({grid: section} if section else {})
    grids = [
        [Axis((key,), tuple((v,) for v in values)) for key, values in _group(group, where)] + zipped
        for where, group in groups.items()
    ] or [zipped]
    for axes in grids:
        _check_axes(axes)
    return grids


def _check_axes(axes: Sequence[Axis]) -> None:
    if not axes:
        raise ConfigError("grid: expected a grid or a zip section with at least one axis")
    paths = [path for axis in axes for path in axis.paths]
    for first, second in itertools.combinations(paths, 2):
        if _overlap(first, second):
            raise ConfigError(f"{second}: given twice in grid and zip (also as {first})")


def _zips(sized: Sized) -> Iterator[tuple[dict[str, list[Any]], str]]:
    section, where = sized.content.get("zip", []), sized.place("zip")
    if "zip" in sized.content and not section:
        raise ConfigError(f"{where}: expected at least one axis, it is empty")
    if not isinstance(section, list):
        yield dict(_group(section, where)), where
        return
    for index, group in enumerate(section):
        yield dict(_group(group, f"{where}.{index}")), f"{where}.{index}"


def _group(section: Any, where: str) -> Iterator[tuple[str, list[Any]]]:
    if not isinstance(section, dict):
        raise ConfigError(f"{where}: expected a mapping from keys to lists of values")
    if not section:
        raise ConfigError(f"{where}: expected at least one axis, it is empty")
    for key, values in section.items():
        check_path(str(key), where)
        yield str(key), _values(values, f"{where}.{key}")


def _zipped(group: Mapping[str, list[Any]], where: str) -> Axis:
    lengths = {key: len(values) for key, values in group.items()}
    if len(set(lengths.values())) > 1:
        listing = ", ".join(f"{key}: {length}" for key, length in lengths.items())
        raise ConfigError(f"{where}: expected lists of equal length (got {listing})")
    return Axis(tuple(group), tuple(zip(*group.values(), strict=True)))


def _values(values: Any, where: str) -> list[Any]:
    if isinstance(values, dict) and list(values) == ["log2"]:
        return _octaves(values["log2"], f"{where}.log2")
    if not isinstance(values, list) or not values:
        raise ConfigError(
            f"{where}: expected a list of values or {{log2: [low, high]}} (got {values!r})"
        )
    return values


def _octaves(bounds: Any, where: str) -> list[float]:
    """Powers of two from `[low, high]` or `[low, high, step]`, exponents with both ends."""
    expected = f"{where}: expected [low, high] or [low, high, step] in octaves"
    if not isinstance(bounds, list) or len(bounds) not in (2, 3):
        raise ConfigError(f"{expected} (got {bounds!r})")
    if not all(type(bound) in (int, float) and -1000 <= bound <= 1000 for bound in bounds):
        raise ConfigError(f"{expected}, numbers within -1000 and 1000 (got {bounds!r})")
    low, high, step = bounds if len(bounds) == 3 else (*bounds, 1)
    if low > high or step <= 0:
        raise ConfigError(f"{expected}, low to high and step above 0 (got {bounds!r})")
    count = (high - low) / step
    if not math.isclose(count, round(count), abs_tol=1e-6) or count > MAX_RUNS:
        raise ConfigError(f"{expected}, high a whole number of steps above low (got {bounds!r})")
    return [_power_of_two(low + index * step) for index in range(round(count) + 1)]


def _power_of_two(exponent: float) -> int | float:
    """2 ** exponent, an int where it is one, so that widths and batches can be ranges too."""
    if exponent >= 0 and exponent == int(exponent):
        return int(2 ** int(exponent))
    return float(2.0**exponent)


def _override(base: Any, override: str, varied: Sequence[str]) -> Any:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: expected key=value")
    check_path(key, "--set")
    for path in varied:
        if _overlap(key, path):
            raise ConfigError(f"--set {key}: is varied by the sweep ({path}), cannot be set")
    return _with(base, key.split("."), parse_yaml(text, f"--set {key}"))


def _overlap(first: str, second: str) -> bool:
    """Whether one dotted path is the other or a part of it."""
    return f"{first}.".startswith(f"{second}.") or f"{second}.".startswith(f"{first}.")


def _expand(base: Any, grids: Sequence[Sequence[Axis]], where: str) -> dict[str, RunConfig]:
    """The runs of all grids; `where` is how errors name them."""
    total = sum(math.prod(len(axis.points) for axis in axes) for axes in grids)
    if total > MAX_RUNS:
        raise ConfigError(
            f"{where}: {total:,} runs, expected at most {MAX_RUNS:,}; split the sweep"
        )
    runs: dict[str, RunConfig] = {}
    points: dict[str, Point] = {}
    checked: set[str] = set()
    for point in itertools.chain.from_iterable(map(_points, grids)):
        content = base
        for path, value in point.items():
            content = _with(content, path.split("."), value)
        rules = repr([item for item in point.items() if item[0] not in _NEVER_REFUSED])
        try:
            config = _run_config(content, rules_known=rules in checked)
        except ConfigError as error:
            raise ConfigError(f"{error} (at {_describe(point)})") from None
        checked.add(rules)
        run_id = config.run_id
        if run_id in runs:
            raise ConfigError(
                f"{where}: duplicate runs: {_describe(points[run_id])} and {_describe(point)} "
                "are the same run"
            )
        runs[run_id], points[run_id] = config, point
    return runs


def _points(axes: Sequence[Axis]) -> Iterator[Point]:
    """Every combination of the axes' points."""
    paths = [path for axis in axes for path in axis.paths]
    for combination in itertools.product(*(axis.points for axis in axes)):
        yield dict(zip(paths, itertools.chain.from_iterable(combination), strict=True))


def _run_config(content: Any, rules_known: bool) -> RunConfig:
    """A valid config; `rules_known` skips the checks that a run like it has passed."""
    try:
        config = parse_run_config(content, "run")
    except ConfigError as error:
        raise ConfigError(str(error).removeprefix("run: ")) from None
    if not rules_known:
        check(config)
        bpe_size(config.data.tokenizer)
    return config


def _with(content: Any, key: Sequence[str], value: Any) -> Any:
    """A copy of nested mappings in which `key` is `value`; what is not on the way is shared."""
    head, *rest = key
    if not isinstance(content, dict):
        content = {}
    return {**content, head: _with(content.get(head), rest, value) if rest else value}


def _describe(point: Point) -> str:
    return ", ".join(f"{path}={value}" for path, value in point.items())
