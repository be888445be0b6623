"""The rule tables of README.md and docs/rules.md, from the code's own table.

Command: `python -m paper_repro.parameterization.page` rewrites what stands between their markers,
in place; with `--check` it only says which file is out of date. A test holds both files to it.
Other pages with rendered tables have a command of the same kind (`render`).
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from paper_repro.parameterization import table
from paper_repro.parameterization.factors import Factor
from paper_repro.parameterization.labels import TENSOR_CLASSES
from paper_repro.parameterization.table import COLUMNS, FORWARD, ITERATIONS, TABLE

ROOT = Path(__file__).parents[2]
SOURCE = "paper_repro/parameterization/table.py"

ALL = "every tensor class"
"""The name of a row that all tensor classes share."""

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


class RuleRow(NamedTuple):
    """A row of `TABLE` or `FORWARD`, and where in the source it stands."""

    quantity: str
    name: str
    """Tensor class, `ALL` of them, or what a forward multiplier acts on."""
    factors: tuple[Factor, ...]
    anchor: str


def rule_rows() -> Iterator[RuleRow]:
    """The rows in the order of the table; one row where all tensor classes share it."""
    module = ast.parse(Path(table.__file__).read_text(encoding="utf-8"))
    literals = {
        node.target.id: node.value
        for node in module.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    for quantity, rows in _items(literals["TABLE"]):
        by_class = TABLE[quantity]
        if isinstance(rows, ast.Dict):
            for name, row in _items(rows):
                yield RuleRow(quantity, name, by_class[name], _anchor(row))
        else:  # dict.fromkeys(TENSOR_CLASSES, row)
            yield RuleRow(quantity, ALL, by_class["embedding"], _anchor(rows))
    for forward, row in _items(literals["FORWARD"]):
        yield RuleRow("forward", forward, FORWARD[forward], _anchor(row))


def _items(literal: ast.expr | None) -> Iterator[tuple[Any, ast.expr]]:
    assert isinstance(literal, ast.Dict)
    return zip(map(ast.literal_eval, filter(None, literal.keys)), literal.values, strict=True)


def _anchor(node: ast.expr) -> str:
    first, last = node.lineno, node.end_lineno
    return f"#L{first}" if first == last else f"#L{first}-L{last}"


def whole_table() -> str:
    """All parameterisations, laid out like the paper's Table 1; a row links to its line of code."""
    lines = []
    above = ""
    for quantity, name, factors, anchor in rule_rows():
        heading = "" if quantity == above else f"**{QUANTITIES[quantity]}**"
        link = f"[`{quantity if name == ALL else name}`](../{SOURCE}{anchor})"
        lines.append([heading, link + f" of {ALL}" * (name == ALL), *map(str, factors)])
        above = quantity
    head = ["quantity", "tensor class", *(f"`{column}`" for column in COLUMNS)]
    steps = f"\nSteps: × {ITERATIONS} in every column, by definition.\n"
    return markdown_table(head, lines) + steps


def complete_d_table() -> str:
    """The rules of Complete(d)P, a row a tensor class, each factor linked to its line of code."""
    column = COLUMNS.index("complete_d")
    cells = {
        (row.quantity, row.name): f"[{row.factors[column]}]({SOURCE}{row.anchor})"
        for row in rule_rows()
    }
    quantities = [quantity for quantity in TABLE if (quantity, ALL) not in cells]
    head = ["tensor class", *(QUANTITIES[quantity] for quantity in quantities)]
    rows = [[f"`{name}`", *(cells[q, name] for q in quantities)] for name in TENSOR_CLASSES]
    shared = [f"- `{q}` of {ALL}: {cell}" for (q, name), cell in cells.items() if name == ALL]
    forward = [
        f"- `{name}` multiplier in the forward pass: {cells['forward', name]}" for name in FORWARD
    ]
    return "\n".join([markdown_table(head, rows), *shared, *forward, ""])


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |\n" for cells in (head, *rows)]
    return "".join([lines[0], "|---" * len(head) + "|\n", *lines[1:]])


def with_block(text: str, name: str, content: str) -> str:
    """`text` with `content` between `<!-- name: command -->` and `<!-- /name -->`."""
    block = rf"(<!-- {name}: [^\n]* -->\n).*?(<!-- /{name} -->)"
    text, count = re.subn(block, lambda part: part[1] + content + part[2], text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"expected one block {name!r}, found {count}")
    return text


def render(
    command: str, blocks: Sequence[tuple[str, str, Callable[[], str]]], arguments: list[str] | None
) -> int:
    """The command that renders blocks (file, name, content) in place, or says which are old."""
    files = " and ".join(dict.fromkeys(path for path, *_ in blocks))
    description = f"Render the tables of {files} in place."
    parser = argparse.ArgumentParser(prog=command, description=description)
    parser.add_argument("--check", action="store_true", help="only compare; exit code 1 if old")
    check, old = parser.parse_args(arguments).check, 0
    for path, name, content in blocks:
        text = (ROOT / path).read_text(encoding="utf-8")
        rendered = with_block(text, name, content())
        if rendered != text:
            old += 1
            print(f"{path}: block {name} {'is out of date' if check else 'rendered'}")
            if not check:
                (ROOT / path).write_text(rendered, encoding="utf-8")
    return int(check and old > 0)


def main(arguments: list[str] | None = None) -> int:
    blocks = (("README.md", "rules", complete_d_table), ("docs/rules.md", "table", whole_table))
    return render("python -m paper_repro.parameterization.page", blocks, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
