"""The rendered rules and configuration are those of the code; every rule has its reason."""

import pkgutil
import re
import runpy
import subprocess
import sys
from functools import reduce
from pathlib import Path

import pytest
import yaml

from paper_repro.config import Execution, RunConfig
from paper_repro.parameterization.labels import TENSOR_CLASSES
from paper_repro.parameterization.page import ALL, QUANTITIES, main, rule_rows, with_block
from paper_repro.parameterization.table import COLUMNS, FORWARD, TABLE

ROOT = Path(__file__).parent.parent
RULES = (ROOT / "docs/rules.md").read_text(encoding="utf-8")
CONFIGURATION = runpy.run_path(str(ROOT / "docs/configuration.py"))
SPEED = runpy.run_path(str(ROOT / "docs/speed.py"))


def test_the_rule_tables_are_what_the_code_renders(capsys):
    assert main(["--check"]) == 0, "renew: python -m paper_repro.parameterization.page"


def test_the_configuration_is_what_the_code_renders(capsys):
    assert CONFIGURATION["main"](["--check"]) == 0, "renew: python docs/configuration.py"


def test_the_speeds_are_the_committed_ones(capsys):
    assert SPEED["main"](["--check"]) == 0, "renew: python docs/speed.py"


def test_a_block_is_rendered_once_and_nothing_else_changes():
    text = "above\n<!-- rules: command -->\nold\n<!-- /rules -->\nbelow\n"
    rendered = with_block(text, "rules", "new\n")
    assert rendered == "above\n<!-- rules: command -->\nnew\n<!-- /rules -->\nbelow\n"
    for wrong in ("no block", text + text):
        with pytest.raises(ValueError, match="one block 'rules'"):
            with_block(wrong, "rules", "new\n")


def test_rendering_needs_no_torch():
    source = "import sys, paper_repro.parameterization.page; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", source], check=False).returncode == 0


def tables(text: str) -> dict[str, list[list[str]]]:
    """The rows of the tables below each heading, without their heads."""
    found = {}
    for section in re.split(r"^#+ ", text, flags=re.MULTILINE)[1:]:
        heading, _, content = section.partition("\n")
        lines = [line[1:-1].split("|") for line in content.splitlines() if line.startswith("|")]
        found[heading] = [[cell.strip() for cell in line] for line in lines[2:]]
    return found


def test_the_rows_are_the_whole_table():
    """Read back from the page: the factors of each column, for every quantity and tensor class."""
    (rows,) = [rows for heading, rows in tables(RULES).items() if heading == "The rules"]
    written: dict[tuple[str, str], list[str]] = {}
    names = {f"**{heading}**": quantity for quantity, heading in QUANTITIES.items()}
    quantity = ""
    for first, link, *factors in rows:
        quantity = names[first] if first else quantity
        shared = link.endswith(f"of {ALL}")
        for name in TENSOR_CLASSES if shared else re.findall(r"^\[`(\w+)`\]", link):
            written[quantity, name] = factors
    held = {(q, name): [*map(str, row)] for q, rows in TABLE.items() for name, row in rows.items()}
    held |= {("forward", name): [*map(str, row)] for name, row in FORWARD.items()}
    assert written == held
    assert {len(factors) for factors in written.values()} == {len(COLUMNS)}


def test_every_row_has_a_reason_and_a_source_and_no_reason_is_orphaned():
    sections = tables(RULES)
    reasons = {}
    for quantity, heading in QUANTITIES.items():
        for name, why, source in sections[heading[0].upper() + heading[1:]]:
            key = (quantity, name.strip("`"))
            assert key not in reasons
            reasons[key] = (why, source)
    assert set(reasons) == {(row.quantity, row.name) for row in rule_rows()}
    assert all(why and source for why, source in reasons.values())


def test_our_choices_are_the_values_in_the_code():
    """Keys of a run, and constants by their dotted names."""
    choices = tables(RULES)["Our choices where the papers are silent"]
    assert len(choices) > 20
    for choice, value, name in choices:
        name = name.strip("`")
        if name.startswith("paper_repro."):
            module, _, constant = name.rpartition(".")
            held = getattr(pkgutil.resolve_name(module), constant)
        else:
            held = reduce(getattr, name.split("."), RunConfig())
        written = yaml.safe_load(value)
        assert (float(value) if isinstance(held, float) else written) == held, choice


def test_every_default_of_the_configuration_page_makes_a_run():
    """The page's keys and defaults, read back as YAML, are the default run."""
    content: dict[str, object] = {}
    page = tables((ROOT / "docs/configuration.md").read_text(encoding="utf-8"))
    for heading, rows in page.items():
        if heading == "How runs execute" or "SchedulePoint" in heading:  # of no default run
            continue
        for key, *_, default, _meaning in rows:
            path = [*re.findall(r"`(\w+)`", heading), *key.strip("`").split(".")]
            section = content
            for name in path[:-1]:
                section = section.setdefault(name, {})
            value = yaml.safe_load(default.strip("`"))
            section[path[-1]] = float(value) if re.fullmatch(r"\d+e-\d+", str(value)) else value
    assert RunConfig.model_validate(content) == RunConfig()
    assert content == RunConfig().model_dump()


@pytest.mark.parametrize("model", [RunConfig, Execution])
def test_every_key_has_its_meaning(model):
    sections = [model, *(f.annotation for f in model.model_fields.values())]
    rows = [
        (section.__name__, row)
        for section in sections
        if hasattr(section, "model_fields")
        for row in CONFIGURATION["rows"](section)
    ]
    assert [f"{name}.{key}" for name, (key, *_, meaning) in rows if not meaning] == []
