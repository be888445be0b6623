"""Sweep files at several sizes: the keys of one size, put into the file's own.

    size: cpu                  # which one; --size on the command line overrides it
    base: {...}                # shared by all sizes
    sizes:
      cpu:
        base: {...}            # merged into the base above, section by section
        grid: {...}            # grid, zip and profile stand for those above
      paper: {...}

Only the chosen size is expanded into runs; of the others, only the names of the keys are checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from paper_repro.errors import ConfigError
from sweeps.keys import check_content, check_path, suggestion

#: For two cores, for one large GPU, and near the paper's own shapes.
Size = Literal["cpu", "gpu", "paper"]
SIZES: tuple[Size, ...] = get_args(Size)

_KEYS = ("base", "grid", "zip", "profile")


@dataclass(frozen=True)
class Sized:
    """What a sweep file says at one of its sizes."""

    content: Mapping[str, Any]
    """The file's keys, with those of the size in their place."""
    size: Size | None = None
    """None: the file has no sizes."""
    places: Mapping[str, str] = field(default_factory=dict)
    """Where a key of the size stands in the file."""

    def place(self, key: str) -> str:
        """How an error names a key of the content."""
        return self.places.get(key, key)

    def directory(self, name: str) -> str:
        """The name of a sweep at this size, which is that of its directory."""
        return f"{name}_{self.size}" if self.size not in (None, "cpu") else name


def at_size(content: Mapping[str, Any], size: str | None) -> Sized:
    """The content of a sweep file at a size, by default the one that the file chooses.

    Raises:
        ConfigError: a size that the file does not have, or a key of any size that does not exist.
    """
    check_content(content.get("base", {}), "base")
    if "sizes" not in content:
        if "size" in content:
            raise ConfigError("size: expected the key sizes beside it, which is absent")
        if size is not None:
            raise ConfigError(f"--size {size}: expected a file with the key sizes")
        return Sized(content)
    sizes = content["sizes"]
    _check(sizes)
    if "size" not in content:
        raise ConfigError(f"size: expected one of {', '.join(sizes)} beside sizes, it is absent")
    chosen = _chosen(content["size"], "size", sizes)
    if size is not None:
        chosen = _chosen(size, "--size", sizes)
    own = sizes[chosen]
    return Sized(
        {**content, **own, "base": _merged(content.get("base", {}), own.get("base", {}))},
        chosen,
        {key: f"sizes.{chosen}.{key}" for key in own},
    )


def _chosen(size: Any, key: str, sizes: Mapping[Size, Any]) -> Size:
    for known in sizes:
        if size == known:
            return known
    raise ConfigError(f"{key}: expected one of {', '.join(sizes)}, the file's sizes (got {size!r})")


def _check(sizes: Any) -> None:
    """Check the names of all keys of all sizes."""
    if not isinstance(sizes, dict) or not sizes:
        raise ConfigError(f"sizes: expected a mapping with some of the keys {', '.join(SIZES)}")
    for size, own in sizes.items():
        if size not in SIZES:
            raise ConfigError(f"sizes.{size}: unknown key{suggestion(size, SIZES)}")
        if not isinstance(own, dict):
            raise ConfigError(
                f"sizes.{size}: expected a mapping with some of the keys {', '.join(_KEYS)}"
            )
        for key in own:
            if key not in _KEYS:
                raise ConfigError(f"sizes.{size}.{key}: unknown key{suggestion(key, _KEYS)}")
        check_content(own.get("base", {}), f"sizes.{size}.base")
        for key in ("grid", "zip"):
            _check_axes(own.get(key), f"sizes.{size}.{key}")


def _check_axes(section: Any, where: str) -> None:
    """Check the names of the axes; whatever else may be wrong shows when they are expanded."""
    if isinstance(section, list):
        for index, group in enumerate(section):
            _check_axes(group, f"{where}.{index}")
    elif isinstance(section, dict):
        for path in section:
            check_path(str(path), where)


def _merged(base: Any, own: Any) -> Any:
    """`own` over `base`: mappings by key, anything else whole."""
    if not isinstance(base, dict) or not isinstance(own, dict):
        return own
    return {**base, **{key: _merged(base.get(key), value) for key, value in own.items()}}
