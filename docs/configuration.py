"""The tables of docs/configuration.md, from the models of `paper_repro.config`.

Command: `python docs/configuration.py` rewrites the marked block in place; with `--check` it only
says whether the page is out of date. A test holds the page to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from analysis.dictionary import fields, is_section, one_line
from paper_repro.config import Execution, RunConfig, SchedulePoint
from paper_repro.parameterization.page import markdown_table, render

TYPES = {
    "integer": "integer",
    "number": "number",
    "string": "text",
    "boolean": "`true` or `false`",
    "null": "`null`",
}
BOUNDS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}


def tables() -> str:
    """A table for each section of a run, for its other keys, and for how runs execute."""
    sections = {
        f"`{name}`": field.annotation
        for name, field in RunConfig.model_fields.items()
        if is_section(field.annotation)
    }
    sections |= {"`SchedulePoint`, of `train.piecewise`": SchedulePoint}
    sections |= {"Outside the sections": RunConfig, "How runs execute": Execution}
    return "\n".join(_section(heading, model) for heading, model in sections.items())


def rows(model: Any) -> Iterator[tuple[str, str, str, str]]:
    """Key, type, default and meaning; the keys of a model within a section are dotted."""
    for name, schema in fields(model).items():
        if "." not in name or model is not RunConfig:  # whose sections have tables of their own
            default = f"`{_value(schema['default'])}`" if "default" in schema else "none"
            yield name, _type(schema), default, one_line(schema.get("description", ""))


def _section(heading: str, model: Any) -> str:
    lines = [(f"`{key}`", *cells) for key, *cells in rows(model)]
    table = markdown_table(["key", "type", "default", "meaning"], lines)
    return f"## {heading}\n\n{one_line(model.__doc__)}\n\n{table}"


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_type(choice) for choice in schema["anyOf"])
    if "$ref" in schema:
        return f"`{schema['$ref'].rpartition('/')[2]}` (below)"
    if schema["type"] == "array":
        return f"list of {_type(schema['items'])}"
    if schema["type"] == "object":
        return f"mapping to {_type(schema['additionalProperties'])}"
    bounds = [f"{sign} {schema[key]:.12g}" for key, sign in BOUNDS.items() if key in schema]
    return ", ".join([TYPES[schema["type"]], *bounds])


def _value(value: object) -> str:
    """A default as one writes it in YAML."""
    return value if isinstance(value, str) else json.dumps(value).replace("e-0", "e-")


def main(arguments: list[str] | None = None) -> int:
    blocks = [("docs/configuration.md", "configuration", tables)]
    return render("python docs/configuration.py", blocks, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
