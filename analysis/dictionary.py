"""The rows of `analysis/results/README.md` that follow from the models of configs and records.

Command: `python -m analysis.dictionary` writes them between their markers; `--check` only compares.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from analysis.load import NO_RESULT, RUN_COLUMNS
from paper_repro.config import RunConfig
from paper_repro.parameterization.page import update
from paper_repro.records import DataInfo, RunInfo, Status

PAGE = "analysis/results/README.md"

Fields = dict[str, FieldInfo]


def blocks() -> dict[str, Fields]:
    """The fields in each block of the page."""
    return {
        "config": config_fields(RunConfig),
        "status": {k: f for k, f in Status.model_fields.items() if k not in NO_RESULT},
        "run": DataInfo.model_fields | {name: RunInfo.model_fields[name] for name in RUN_COLUMNS},
    }


def config_fields(section: type[BaseModel], prefix: str = "") -> Fields:
    """The fields of a config and of its sections under their dotted paths."""
    fields: Fields = {}
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            fields |= config_fields(kind, f"{prefix}{name}.")
        else:
            fields[prefix + name] = field
    return fields


def _table(fields: Fields) -> str:
    rows = [f"| `{name}` | {_values(f)} | {_meaning(f)} |\n" for name, f in fields.items()]
    return "".join(["| column | values | meaning |\n", "|---|---|---|\n", *rows])


def _values(field: FieldInfo) -> str:
    """The choices of a field, or its type."""
    kind = field.annotation
    if get_origin(kind) in (UnionType, Union):
        (kind,) = (other for other in get_args(kind) if other is not NoneType)
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    if get_origin(kind) in (dict, list):
        return "JSON"
    names = {int: "whole number", float: "number", bool: "true or false", str: "text"}
    return names.get(kind, str(kind))  # type: ignore[arg-type]


def _meaning(field: FieldInfo) -> str:
    return " ".join((field.description or "").split()).replace("|", "\\|")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m analysis.dictionary", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare; exit code 1 if old")
    rendered = [(PAGE, name, partial(_table, fields)) for name, fields in blocks().items()]
    return update(rendered, parser.parse_args(arguments).check)


if __name__ == "__main__":
    raise SystemExit(main())
