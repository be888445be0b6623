"""docs/rules.md, and the rule table of README.md, from the code's own table.

Commands: `python -m paper_repro.parameterization.page > docs/rules.md`; with `--readme` it
prints what stands between the markers of README.md. Tests hold both files to it.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from paper_repro.parameterization import (
    COLUMNS,
    FORWARD,
    ITERATIONS,
    TABLE,
    TENSOR_CLASSES,
)
from paper_repro.parameterization import table as parameterization
from paper_repro.parameterization.factors import Factor
from paper_repro.parameterization.page_notes import AFTER, BEFORE
from paper_repro.parameterization.page_reasons import ALL, REASONS

SOURCE = "paper_repro/parameterization/table.py"

#: Headings of the quantities, in the table's order.
QUANTITIES = {
    "init_variance": "init variance σ²",
    "lr": "learning rate η",
    "eps": "Adam's ε",
    "weight_decay": "weight decay λ",
    "one_minus_beta1": "1 − β1",
    "one_minus_beta2": "1 − β2",
    "forward": "forward multipliers",
}


@dataclass(frozen=True)
class RuleRow:
    """A row of `TABLE` or `FORWARD`, and where in the source it stands."""

    quantity: str
    name: str
    """Tensor class, `ALL` of them, or what a forward multiplier acts on."""
    factors: tuple[Factor, ...]
    anchor: str


def rule_rows() -> list[RuleRow]:
    """The rows in the order of the table; one row where all tensor classes share it."""
    anchors = dict(_anchors())
    rows: list[RuleRow] = []
    for quantity, by_class in TABLE.items():
        if (quantity, ALL) in anchors:
            rows.append(RuleRow(quantity, ALL, by_class["embedding"], anchors[quantity, ALL]))
            continue
        for name, factors in by_class.items():
            rows.append(RuleRow(quantity, name, factors, anchors[quantity, name]))
    for forward, factors in FORWARD.items():
        rows.append(RuleRow("forward", forward, factors, anchors["forward", forward]))
    return rows


def _anchors() -> Iterator[tuple[tuple[str, str], str]]:
    """Lines of the table's rows, as GitHub's anchors, by quantity and name."""
    tree = ast.parse(Path(parameterization.__file__).read_text(encoding="utf-8"))
    literals = {
        node.target.id: node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    for quantity, rows in _items(literals["TABLE"]):
        if isinstance(rows, ast.Dict):
            for name, row in _items(rows):
                yield (quantity, name), _anchor(row)
        else:  # dict.fromkeys(TENSOR_CLASSES, row)
            yield (quantity, ALL), _anchor(rows)
    for name, row in _items(literals["FORWARD"]):
        yield ("forward", name), _anchor(row)


def _items(literal: ast.expr | None) -> Iterator[tuple[str, ast.expr]]:
    assert isinstance(literal, ast.Dict)
    for key, value in zip(literal.keys, literal.values, strict=True):
        assert isinstance(key, ast.Constant)
        yield str(key.value), value


def _anchor(node: ast.expr) -> str:
    first, last = node.lineno, node.end_lineno
    return f"#L{first}" if first == last else f"#L{first}-L{last}"


def page() -> str:
    """The text of docs/rules.md."""
    return "\n".join([BEFORE, *_table(), "", *_reasons(), AFTER])


def _table() -> Iterator[str]:
    """The rule table, laid out like the paper's Table 1."""
    columns = " | ".join(f"`{column}`" for column in COLUMNS)
    yield f"| quantity | tensor class | {columns} |"
    yield "|---" * (2 + len(COLUMNS)) + "|"
    above = ""
    for row in rule_rows():
        heading = "" if row.quantity == above else f"**{QUANTITIES[row.quantity]}**"
        factors = " | ".join(map(str, row.factors))
        yield f"| {heading} | {_link(row, '../')} | {factors} |"
        above = row.quantity
    yield f"\nSteps: × {ITERATIONS} in every column, by definition."


def _link(row: RuleRow, root: str) -> str:
    if row.name == ALL:
        return f"[`{row.quantity}`]({root}{SOURCE}{row.anchor}) of {ALL}"
    return f"[`{row.name}`]({root}{SOURCE}{row.anchor})"


def _reasons() -> Iterator[str]:
    for quantity, heading in QUANTITIES.items():
        yield f"### {heading[0].upper()}{heading[1:]}\n"
        yield "| row | why | source |\n|---|---|---|"
        for row in rule_rows():
            if row.quantity == quantity:
                reason = REASONS[quantity, row.name]
                yield f"| {_link(row, '../')} | {reason.why} | {reason.source} |"
        yield ""


def readme_table() -> str:
    """The rules of Complete(d)P, a row a tensor class, each factor linked to its line of code."""
    column = COLUMNS.index("complete_d")
    cells = {
        (row.quantity, row.name): f"[{row.factors[column]}]({SOURCE}{row.anchor})"
        for row in rule_rows()
    }
    quantities = [quantity for quantity in TABLE if (quantity, ALL) not in cells]
    lines = [
        "| tensor class | " + " | ".join(QUANTITIES[quantity] for quantity in quantities) + " |",
        "|---" * (1 + len(quantities)) + "|",
    ]
    for tensor_class in TENSOR_CLASSES:
        row = " | ".join(cells[quantity, tensor_class] for quantity in quantities)
        lines.append(f"| `{tensor_class}` | {row} |")
    lines.append("")
    for (quantity, name), cell in cells.items():
        if name == ALL:
            lines.append(f"- `{quantity}` of {ALL}: {cell}")
        elif quantity == "forward":
            lines.append(f"- `{name}` multiplier in the forward pass: {cell}")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m paper_repro.parameterization.page",
        description="Print docs/rules.md, rendered from the table in the code.",
    )
    parser.add_argument("--readme", action="store_true", help="print README.md's table instead")
    options = parser.parse_args(arguments)
    print(readme_table() if options.readme else page(), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
