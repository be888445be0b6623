"""The rows of `analysis/results/README.md` that follow from the models of configs and records.

Command: `python -m analysis.dictionary` writes them between their markers; `--check` only compares.
"""

from __future__ import annotations

from functools import partial
from typing import Any, TypeGuard

from pydantic import BaseModel

from analysis.load import NO_RESULT, RUN_COLUMNS
from paper_repro.config import RunConfig
from paper_repro.parameterization.page import markdown_table, render
from paper_repro.records import DataInfo, RunInfo, Status

PAGE = "analysis/results/README.md"

TYPES = {
    **{"integer": "whole number", "number": "number", "boolean": "true or false"},
    **{"string": "text", "array": "JSON", "object": "JSON"},
}

Fields = dict[str, Any]
"""JSON schemas of fields by their names."""


def blocks() -> dict[str, Fields]:
    """The fields in each block of the page."""
    dtype = {"type": "string", "description": RunInfo.dtype.__doc__}
    run = fields(RunInfo) | {"dtype": dtype}
    return {
        "config": fields(RunConfig),
        "status": {name: f for name, f in fields(Status).items() if name not in NO_RESULT},
        "run": fields(DataInfo) | {name: run[name] for name in RUN_COLUMNS},
    }


def fields(model: type[BaseModel], prefix: str = "") -> Fields:
    """The fields of a model and of its sections under their dotted paths."""
    found: Fields = {}
    for name, schema in model.model_json_schema()["properties"].items():
        kind = model.model_fields[name].annotation
        if is_section(kind):
            found |= fields(kind, f"{prefix}{name}.")
        else:
            found[prefix + name] = schema
    return found


def is_section(kind: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def one_line(text: str) -> str:
    return " ".join(text.split())


def _table(fields: Fields) -> str:
    return markdown_table(
        ["column", "values", "meaning"],
        [
            (f"`{name}`", _values(f), one_line(f.get("description", "")).replace("|", "\\|"))
            for name, f in fields.items()
        ],
    )


def _values(schema: dict[str, Any]) -> str:
    """The choices of a field, or its type."""
    schema = schema.get("anyOf", [schema])[0]  # what else it may be is None
    choices = ", ".join(f"`{choice}`" for choice in schema.get("enum", []))
    return choices or TYPES[schema["type"]]


def main(arguments: list[str] | None = None) -> int:
    rendered = [(PAGE, name, partial(_table, found)) for name, found in blocks().items()]
    return render("python -m analysis.dictionary", rendered, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
