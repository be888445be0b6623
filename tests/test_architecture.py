"""The house: which room imports which, read from the imports themselves and held to the docs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("paper_repro", "slurm", "sweeps", "analysis", "figures")
FLOORS = 6
"""Of the library, at most: a newcomer reads from the ground up."""
LONGEST = 400
"""Lines of a module, about."""

Arrows = Mapping[str, set[str]]


@cache
def modules() -> dict[str, Path]:
    """The modules of all rooms by dotted name; a package is its `__init__`."""
    paths = (path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    return {_name(path): path for path in sorted(paths)}


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str) -> Iterator[str]:
    """What a source imports, wherever it does: also in functions and for types alone."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide where an arrow leads"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def arrows() -> Arrows:
    """Which of our modules each of them imports."""
    known = modules()

    def module_of(name: str) -> str | None:
        while name and name not in known:
            name = name.rpartition(".")[0]
        return name or None

    return {
        module: {
            found
            for name in imports(path.read_text(encoding="utf-8"))
            if (found := module_of(name)) and found != module
        }
        for module, path in known.items()
    }


def library_rooms() -> Arrows:
    """The same between the modules and packages that lie directly in `paper_repro`.

    Commands (`__main__`) stand above all of them: nothing imports them.
    """

    def room(module: str) -> str:
        return ".".join(module.split(".")[:2])

    rooms: dict[str, set[str]] = {}
    for module, imported in arrows().items():
        if module.startswith("paper_repro.") and not module.endswith(".__main__"):
            inside = {room(name) for name in imported if name.startswith("paper_repro.")}
            rooms.setdefault(room(module), set()).update(inside - {room(module)})
    return rooms


def documented(pattern: str) -> list[list[str]]:
    """Lines of docs/architecture.md such as `    a → b → c`, as their names."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    return [line.split(" → ") for line in re.findall(pattern, text, re.MULTILINE)]


def test_rooms_import_along_the_arrows_of_the_design():
    allowed = {room: {room} for room in ROOMS}
    for line in documented(r"^    ((?:sweeps|figures) → .*)$"):
        for index, room in enumerate(line):
            allowed[room] |= set(line[index:])
    assert allowed == {
        "paper_repro": {"paper_repro"},
        "slurm": {"slurm", "paper_repro"},
        "sweeps": {"sweeps", "slurm", "paper_repro"},
        "analysis": {"analysis", "paper_repro"},
        "figures": {"figures", "analysis", "paper_repro"},
    }
    for module, imported in arrows().items():
        rooms = {name.split(".")[0] for name in imported}
        assert rooms <= allowed[module.split(".")[0]], module


def test_no_module_imports_itself_in_a_circle():
    """But for the modules of a package and its `__init__`, which collects what they have."""
    packages = {name for name, path in modules().items() if path.name == "__init__.py"}
    plain = {name: found - packages for name, found in arrows().items() if name not in packages}
    try:
        TopologicalSorter(plain).prepare()
    except CycleError as error:
        pytest.fail(f"circle: {' → '.join(error.args[1])}")


def floors() -> list[set[str]]:
    """The rooms of the library by floor: on the ground those that import no other."""
    sorter = TopologicalSorter(library_rooms())
    sorter.prepare()  # raises CycleError
    found = []
    while sorter.is_active():
        floor = sorter.get_ready()
        found.append({room.removeprefix("paper_repro.") for room in floor})
        sorter.done(*floor)
    return found


def test_the_library_has_few_floors_and_they_are_those_of_the_docs():
    assert len(floors()) <= FLOORS
    rows = re.findall(
        r"^\| (\d) \| (.*?) \|", (ROOT / "docs/architecture.md").read_text("utf-8"), re.MULTILINE
    )
    written = [set(re.findall(r"`(\w+)`", rooms)) for _, rooms in rows]
    assert written == floors()


def test_training_knows_no_record_and_the_rules_no_run():
    rooms = library_rooms()
    assert "paper_repro.records" not in rooms["paper_repro.training"]
    assert rooms["paper_repro.parameterization"] == set()


def test_modules_are_short_enough_to_read():
    lengths = {name: len(path.read_text("utf-8").splitlines()) for name, path in modules().items()}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST} == {}
