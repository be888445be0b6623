"""The rows of `analysis/results/README.md` that follow from the models of configs and records.

Command: `python -m analysis.dictionary` writes them again between their markers.
"""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from analysis.load import COMMITTED_RESULTS, NO_RESULT, RUN_COLUMNS
from paper_repro.config import RunConfig
from paper_repro.files import write_atomically
from paper_repro.records import DataInfo, RunInfo, Status

PAGE = COMMITTED_RESULTS / "README.md"

Fields = dict[str, tuple[type[BaseModel], FieldInfo]]
"""Fields by column, each with the model that has it."""


def render(page: str) -> str:
    """The page with its three blocks as the models have them."""
    blocks: dict[str, Fields] = {
        "config": config_fields(RunConfig),
        "status": {k: (Status, f) for k, f in Status.model_fields.items() if k not in NO_RESULT},
        "run": {k: (DataInfo, f) for k, f in DataInfo.model_fields.items()}
        | {name: (RunInfo, RunInfo.model_fields[name]) for name in RUN_COLUMNS},
    }
    for name, fields in blocks.items():
        start, end = f"<!-- {name}: python -m analysis.dictionary -->\n", f"<!-- /{name} -->"
        before, _, rest = page.partition(start)
        page = before + start + _table(fields) + end + rest.partition(end)[2]
    return page


def config_fields(section: type[BaseModel], prefix: str = "") -> Fields:
    """The fields of a config and of its sections under their dotted paths."""
    fields: Fields = {}
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            fields |= config_fields(kind, f"{prefix}{name}.")
        else:
            fields[prefix + name] = (section, field)
    return fields


def _table(fields: Fields) -> str:
    rows = [
        f"| `{name}` | {_values(field)} | {_meaning(model, field)} |\n"
        for name, (model, field) in fields.items()
    ]
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


def _meaning(model: type[BaseModel], field: FieldInfo) -> str:
    """What a field says of itself, or else what its model does."""
    text = field.description or (model.__doc__ or "").partition("\n")[0]
    return " ".join(text.split()).replace("|", "\\|")


def main() -> None:
    """Write the page."""
    page = render(PAGE.read_text(encoding="utf-8"))
    write_atomically(PAGE, lambda file: file.write_text(page, encoding="utf-8"))
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
