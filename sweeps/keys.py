"""Which keys a RunConfig has: checks dotted paths, and suggests the nearest.

The schema itself is `paper_repro.config`; this module only walks its annotations. Values are
checked later, by the schema.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from paper_repro.config import RunConfig
from paper_repro.errors import ConfigError


def check_content(content: Any, where: str) -> None:
    """Check the keys of (a part of) a RunConfig given as nested mappings.

    Raises:
        ConfigError: naming the key that does not exist and the nearest one that does.
    """
    _check_content(content, RunConfig, where)


def check_path(path: str, where: str) -> None:
    """Check that a dotted path such as `model.width` leads to a field of RunConfig.

    Raises:
        ConfigError: naming the part that does not exist and the nearest one that does.
    """
    annotation: Any = RunConfig
    for part in path.split("."):
        known = _children(annotation)
        if part not in known:
            raise ConfigError(f"{where}.{path}: unknown key{suggestion(part, known)}")
        annotation = known[part]


def suggestion(key: object, known: Iterable[str]) -> str:
    """`, did you mean 'x'?`, or the choices where none is near."""
    names = list(known)
    nearest = difflib.get_close_matches(str(key), names, n=1)
    if nearest:
        return f", did you mean '{nearest[0]}'?"
    return f", expected one of {', '.join(names)}" if names else ""


def _check_content(content: Any, annotation: Any, where: str) -> None:
    known = _children(annotation)
    if not known:
        return
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: expected a mapping (got {content!r})")
    for key, value in content.items():
        if key not in known:
            raise ConfigError(f"{where}.{key}: unknown key{suggestion(key, known)}")
        _check_content(value, known[key], f"{where}.{key}")


def _children(annotation: Any) -> dict[str, Any]:
    """The keys below a field and their annotations; none for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {name: field.annotation for name, field in annotation.model_fields.items()}
    if get_origin(annotation) is dict:
        key, value = get_args(annotation)
        if get_origin(key) is Literal:
            return dict.fromkeys(get_args(key), value)
    return {}
