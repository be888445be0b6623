"""What a sweep file may say: its YAML as strict models.

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
groups, each advancing by itself. A base that several files share stands in a file of its own, and
`base_file: bases/paper.yaml`, a path from the sweep file, puts it under `base`; of a list, each
goes over the one before. As an axis,
`base_file: [null, tuned.yaml]` puts each file's content over `base`; null changes nothing. Points
between files are such an axis too: `base_file: {from: a.yaml, to: [b.yaml], at: [[0, 0.5, 1]]}`,
with a list of weights for each direction; of several, every combination is a point.

A file may exist at several sizes:

    size: cpu                  # which one; --size on the command line overrides it
    base: {...}                # shared by all sizes
    sizes:
      cpu:
        base: {...}            # merged into the base above, section by section
        grid: {...}            # grid, zip and profile replace those above
      paper:
        base_file: bases/paper.yaml
        base: {...}

All sizes are checked, but only the chosen one is expanded into runs (`sweeps.expand`).

A sweep whose runs are not known beforehand has `search` in place of `grid` and `zip`:

    search:
      space:                   # octaves around the base's values, either way or [low, high]
        hyperparameters.lr: 3
        hyperparameters.beta1: [-3, 3]      # of 1 - β1
        hyperparameters.module_multipliers: {lr: 4, init_std: 2}     # of each module type
      proposer: trust_region
      trials: 128
"""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    SkipValidation,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from paper_repro.config import RunConfig
from paper_repro.errors import ConfigError
from paper_repro.paths import expanded
from paper_repro.search import Objective, ProposerName

#: For two cores, for one large GPU, and near the paper's own shapes.
Size = Literal["cpu", "gpu", "paper"]
SIZES: tuple[Size, ...] = get_args(Size)

MAX_RUNS = 100_000

BASE_FILE = "base_file"
"""The axis whose values are files with a part of a RunConfig, from the sweep file."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def _problem(message: str, key: str = "") -> PydanticCustomError:
    """An error at the place of the validated value, or at a dotted key below it."""
    return PydanticCustomError("sweep_file", "{message}", {"message": message, "key": key})


def first_problem(error: ValidationError) -> str:
    """What is first wrong in a sweep file, as `key.path: what was expected`."""
    first = error.errors(include_url=False)[0]
    context = first.get("ctx", {})
    parts = [str(part) for part in (*first["loc"], context.get("key", "")) if part != ""]
    message = context.get("message", f"{first['msg']} (got {first['input']!r})")
    return ": ".join(filter(None, [".".join(parts), message]))


def suggestion(key: object, known: Iterable[str]) -> str:
    """`, did you mean 'x'?`, or the choices where none is near."""
    names = list(known)
    nearest = difflib.get_close_matches(str(key), names, n=1)
    if nearest:
        return f", did you mean '{nearest[0]}'?"
    return f", expected one of {', '.join(names)}" if names else ""


def unknown_key(path: str) -> str | None:
    """What is wrong with a dotted path such as `model.width`; None if it is one of a RunConfig."""
    annotation: Any = RunConfig
    for part in path.split("."):
        known = _children(annotation)
        if part not in known:
            return f"unknown key{suggestion(part, known)}"
        annotation = known[part]
    return None


def _children(annotation: Any) -> dict[str, Any]:
    """The keys below a field of RunConfig and their annotations; none for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {name: field.annotation for name, field in annotation.model_fields.items()}
    if get_origin(annotation) is dict:
        key, value = get_args(annotation)
        if get_origin(key) is Literal:
            return dict.fromkeys(get_args(key), value)
    return {}


def _check_base(content: Any) -> Any:
    """Check the keys of a part of a RunConfig; its values are checked run by run."""
    _check_below(content, RunConfig, "")
    return content


def _check_below(content: Any, annotation: Any, place: str) -> None:
    """Check the keys of what stands at `place`, a part of a RunConfig of that annotation."""
    if not (known := _children(annotation)):
        return
    if not isinstance(content, dict):
        raise _problem(f"expected a mapping (got {content!r})", place)
    for key, value in content.items():
        below = f"{place}.{key}".removeprefix(".")
        if key not in known:
            raise _problem(f"unknown key{suggestion(key, known)}", below)
        _check_below(value, known[key], below)


def _check_axes(section: Any) -> Any:
    if not isinstance(section, dict):
        raise _problem("expected a mapping from keys to lists of values")
    if not section:
        raise _problem("expected at least one axis, it is empty")
    for path, values in section.items():
        if path == BASE_FILE:
            _check_files(values)
        elif problem := unknown_key(str(path)):
            raise _problem(problem, str(path))
    return section


@dataclass(frozen=True)
class Between:
    """A point on a line from a file, or on a plane through it (`paper_repro.search.blend`)."""

    start: str
    ends: tuple[str, ...]
    weights: tuple[float, ...]

    def __str__(self) -> str:
        pairs = zip(self.ends, self.weights, strict=True)
        return " ".join([self.start, *(f"+ {weight:g} to {end}" for end, weight in pairs)])


def _between(spec: dict[str, Any]) -> list[Any]:
    """All points that `{from: file, to: [file, ...], at: [[weight, ...], ...]}` stands for."""
    start, ends, at = spec["from"], spec["to"], spec["at"]
    names = isinstance(ends, list) and bool(ends) and all(type(n) is str for n in [start, *ends])
    weights = names and isinstance(at, list) and len(at) == len(ends)
    if not weights or not all(
        isinstance(some, list) and some and all(type(w) in (int, float) for w in some)
        for some in at
    ):
        raise _problem(
            "expected {from: file, to: [file, ...], at: [[weight, ...], ...]}, a list of weights "
            f"for each file to go to (got {spec!r})"
        )
    return [Between(start, tuple(ends), weights) for weights in itertools.product(*at)]


def _check_files(values: Any) -> None:
    if isinstance(values, dict) and set(values) == {"from", "to", "at"}:
        return
    known = isinstance(values, list) and all(v is None or isinstance(v, str) for v in values)
    if not known:
        raise _problem(
            f"expected a list of paths of YAML files, or null (got {values!r})", BASE_FILE
        )


def _values(values: Any) -> list[Any]:
    if isinstance(values, dict) and list(values) == ["log2"]:
        return _octaves(values["log2"])
    if isinstance(values, dict) and set(values) == {"from", "to", "at"}:
        return _between(values)
    if not isinstance(values, list) or not values:
        raise _problem(f"expected a list of values or {{log2: [low, high]}} (got {values!r})")
    return values


def _octaves(bounds: Any) -> list[Any]:
    """Powers of two from `[low, high]` or `[low, high, step]`, exponents with both ends."""
    expected, got = "expected [low, high] or [low, high, step] in octaves", f"(got {bounds!r})"
    if not isinstance(bounds, list) or len(bounds) not in (2, 3):
        raise _problem(f"{expected} {got}", "log2")
    if not all(type(bound) in (int, float) and -1000 <= bound <= 1000 for bound in bounds):
        raise _problem(f"{expected}, numbers within -1000 and 1000 {got}", "log2")
    low, high, step = bounds if len(bounds) == 3 else (*bounds, 1)
    if low > high or step <= 0:
        raise _problem(f"{expected}, low to high and step above 0 {got}", "log2")
    count = (high - low) / step
    if not math.isclose(count, round(count), abs_tol=1e-6) or count > MAX_RUNS:
        raise _problem(f"{expected}, high a whole number of steps above low {got}", "log2")
    exponents = (low + index * step for index in range(round(count) + 1))
    # Whole numbers stay whole, so that widths and batches can be ranges too.
    return [2 ** int(e) if e == int(e) else 2.0**e for e in exponents]


def _one_or_several(section: Any) -> Any:
    if not section:
        raise _problem("expected at least one axis, it is empty")
    several = isinstance(section, list)
    return _SEVERAL.validate_python(section) if several else [_ONE.validate_python(section)]


def _check_lengths(groups: Groups) -> Groups:
    for index, group in enumerate(groups):
        if len({len(values) for values in group.values()}) > 1:
            listing = ", ".join(f"{key}: {len(values)}" for key, values in group.items())
            place = str(index) if len(groups) > 1 else ""
            raise _problem(f"expected lists of equal length (got {listing})", place)
    return groups


def _safe_name(value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise _problem(f"expected a name of letters, digits, '.', '_' and '-' (got {value!r})")
    return value


def _path(value: Any, info: ValidationInfo) -> Path:
    if not isinstance(value, str) or not value:
        kind = "cluster profile" if info.field_name == "profile" else "YAML file"
        raise _problem(f"expected the path of a {kind} (got {value!r})")
    try:
        return Path(expanded(value))
    except ConfigError as error:
        raise _problem(str(error)) from None


def _one_or_several_paths(value: Any, info: ValidationInfo) -> tuple[Path, ...]:
    several = value if isinstance(value, list) and value else [value]
    return tuple(_path(each, info) for each in several)


def not_a_size(size: object, sizes: Iterable[str]) -> str:
    """What is wrong with a size that a file does not have."""
    return f"expected one of {', '.join(sizes)}, the file's sizes (got {size!r})"


def _check_keys(content: Any, known: Collection[str]) -> Any:
    if not isinstance(content, dict):
        raise _problem(f"expected a mapping with some of the keys {', '.join(known)}")
    for key in content:
        if key not in known:
            raise _problem(f"unknown key{suggestion(key, known)}", str(key))
    return content


def _check_sizes(sizes: Any) -> Any:
    return _check_keys(sizes or None, SIZES)  # an empty mapping is as wrong as none


#: From dotted paths of a RunConfig to the values that they take.
Axes = Annotated[
    dict[str, Annotated[list[Any], PlainValidator(_values)]], BeforeValidator(_check_axes)
]
_ONE, _SEVERAL = TypeAdapter[Any](Axes), TypeAdapter[Any](list[Axes])
Groups = Annotated[list[dict[str, list[Any]]], PlainValidator(_one_or_several)]
Base = Annotated[dict[str, Any], BeforeValidator(_check_base)]
FilePath = Annotated[Path | None, PlainValidator(_path)]
FilePaths = Annotated[tuple[Path, ...], PlainValidator(_one_or_several_paths)]
Name = Annotated[str, PlainValidator(_safe_name)]


class _Section(BaseModel):
    """A part of a sweep file with keys of its own."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, content: Any) -> Any:
        return _check_keys(content, cls.model_fields)


class Confirm(_Section):
    """At which seeds the incumbents of searches are tried in the end."""

    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    """Seeds that no trial has."""
    at: list[Annotated[int, Field(gt=0)]] = []
    """Numbers of trials whose incumbents are tried, beside that of the end."""


class SearchSection(_Section):
    """What is searched, by what, and for how long. Each proposer makes searches of its own."""

    space: dict[str, Any]
    """From dotted paths to octaves around the base's value (`paper_repro.search.parse_space`)."""
    proposer: Annotated[
        list[ProposerName],
        Field(min_length=1),
        BeforeValidator(lambda value: value if isinstance(value, list) else [value]),
    ] = ["trust_region"]
    """What proposes trials: our trust-region random search, or a sampler of Optuna; one or a list,
    each with searches of its own."""
    repeats: Annotated[int, Field(gt=0)] = 1
    """Independent searches by each proposer."""
    trials: Annotated[int, Field(gt=0)]
    """Points tried in a search, the start included."""
    round: Annotated[int, Field(gt=1)] = 4
    """Trials that are asked for together, and train side by side."""
    seeds: Annotated[int, Field(gt=0)] = 2
    """Runs of a trial, with seeds from 0."""
    objective: Objective = "mean"
    """What is minimised: the mean, or the largest, of the final validation losses of a trial."""
    confirm: Confirm | None = None
    """Trying what was found at seeds that the search does not use."""


class Part(_Section):
    """What a sweep file says at its top, and may say anew for each of its sizes."""

    base: Base = {}
    """A part of a RunConfig, as nested mappings."""
    base_file: FilePaths = ()
    """YAML files with further parts of a RunConfig, each over those before it and below `base`;
    one path, or a list; seen from this file."""
    grid: Groups = []
    """Grids: every combination of the values of each. Empty: the key is absent."""
    zip: Annotated[Groups, AfterValidator(_check_lengths)] = []
    """Groups of axes that advance together. Empty: the key is absent."""
    search: SearchSection | None = None
    """A search, in place of a grid."""
    profile: FilePath = None
    """Cluster profile; relative to the working directory, as on the command line."""


class SweepFile(Part):
    """A whole sweep file."""

    name: Name = Field(default=None, validate_default=True)
    figure: Annotated[str | None, PlainValidator(_safe_name)] = None
    sizes: Annotated[dict[Size, Part], BeforeValidator(_check_sizes)] = {}
    """What the file says at each of its sizes. Empty: the key is absent."""
    size: SkipValidation[Size | None] = None
    """The size that is meant where the caller names none."""

    @model_validator(mode="after")
    def _one_of_its_sizes(self) -> Self:
        if self.size is not None and not self.sizes:
            raise _problem("expected the key sizes beside it, which is absent", "size")
        if self.size is None and self.sizes:
            raise _problem(
                f"expected one of {', '.join(self.sizes)} beside sizes, it is absent", "size"
            )
        if self.sizes and self.size not in list(self.sizes):
            raise _problem(not_a_size(self.size, self.sizes), "size")
        return self


BASE = TypeAdapter[dict[str, Any]](Base)
"""Validates the content of a file that `base_file` names."""
