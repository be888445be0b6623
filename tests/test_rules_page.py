"""The rendered rules are those of the code, and every row says why and where from."""

from pathlib import Path

import pytest

from paper_repro.parameterization import FORWARD, TABLE, TENSOR_CLASSES
from paper_repro.parameterization.page import main, rule_rows
from paper_repro.parameterization.page_reasons import ALL, REASONS

ROOT = Path(__file__).parent.parent
START, END = (
    "<!-- rules: python -m paper_repro.parameterization.page --readme -->\n",
    "<!-- /rules -->",
)


def test_page_is_what_the_code_renders(capsys):
    assert main([]) == 0
    rendered = capsys.readouterr().out
    written = (ROOT / "docs/rules.md").read_text(encoding="utf-8")
    assert written == rendered, "renew: python -m paper_repro.parameterization.page > docs/rules.md"


def test_readme_table_is_what_the_code_renders(capsys):
    assert main(["--readme"]) == 0
    rendered = capsys.readouterr().out
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = readme.partition(START)[2].partition(END)[0]
    assert block == rendered, "renew: the command between the markers"


def test_rows_are_the_whole_table():
    rendered = {}
    for row in rule_rows():
        for name in TENSOR_CLASSES if row.name == ALL else [row.name]:
            rendered[row.quantity, name] = row.factors
    held = {(q, c): factors for q, rows in TABLE.items() for c, factors in rows.items()}
    held |= {("forward", name): factors for name, factors in FORWARD.items()}
    assert rendered == held


def test_every_row_has_a_reason_and_no_reason_is_orphaned():
    assert {(row.quantity, row.name) for row in rule_rows()} == set(REASONS)
    assert all(reason.why and reason.source for reason in REASONS.values())


@pytest.mark.parametrize("quantity", ["init_variance", "lr", "eps", "weight_decay"])
def test_qk_rows_that_the_papers_lack_are_called_our_choice(quantity):
    source = REASONS[quantity, "qk_norm"].source
    assert "`mup`, `completep`" in source
    assert "our choice" in source


def test_qk_learning_rate_is_called_an_inference():
    assert REASONS["lr", "qk_norm"].source.startswith("inference")
