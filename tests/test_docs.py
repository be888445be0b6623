"""README.md and docs/ say nothing that is not so: links, paths, names, commands, arrows."""

import ast
import importlib
import json
import re
from functools import reduce
from pathlib import Path

import pytest

from analysis.load import COMMITTED_RESULTS
from analysis.report import format_interval
from analysis.tables import read_table
from sweeps.spec import read_sweep

ROOT = Path(__file__).parent.parent
DOCS = [
    "README.md",
    "slurm/README.md",
    "analysis/CLAIMS.md",
    *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))),
]
ROOMS = ("paper_repro", "slurm", "sweeps", "analysis", "figures")

LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(#[^)\s]*)?\)")
PATH = re.compile(
    rf"(?<![\w/<.-])((?:{'|'.join(ROOMS)}|docs|tests|\.ci)/[\w./-]+\.(?:py|yaml|md|png|svg|parquet))"
)
NAME = re.compile(rf"`((?:{'|'.join(ROOMS)})(?:\.\w+)+)`")
COMMAND = re.compile(r"python -m ([\w.]+)")


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


@pytest.fixture(params=DOCS)
def doc(request) -> str:
    return request.param


def test_links_lead_to_files(doc):
    targets = [target for target, _ in LINK.findall(read(doc)) if target]
    missing = [target for target in targets if not (ROOT / doc).parent.joinpath(target).exists()]
    assert not missing


def test_paths_exist(doc):
    assert not [path for path in PATH.findall(read(doc)) if not (ROOT / path).exists()]


def test_links_to_lines_show_what_they_name(doc):
    """The lines of a link hold a word that its own line of the document has in backticks."""
    for line in read(doc).splitlines():
        for target, anchor in LINK.findall(line):
            if not re.fullmatch(r"#L\d+(-L\d+)?", anchor):
                continue
            numbers = [int(number) for number in re.findall(r"\d+", anchor)]
            source = ((ROOT / doc).parent / target).read_text(encoding="utf-8").splitlines()
            shown = "\n".join(source[numbers[0] - 1 : numbers[-1]])
            assert any(f'"{word}"' in shown for word in re.findall(r"`(\w+)`", line)), (
                f"{doc}: {target}{anchor} shows {shown!r}"
            )


def test_links_within_documents_lead_to_headings(doc):
    for target, anchor in LINK.findall(read(doc)):
        if not anchor or anchor.startswith("#L"):
            continue
        text = ((ROOT / doc).parent / target).read_text(encoding="utf-8") if target else read(doc)
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert anchor[1:] in slugs


def test_names_of_code_exist(doc):
    for name in NAME.findall(read(doc)):
        assert resolves(name), name


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        try:
            reduce(getattr, parts[length:], module)
        except AttributeError:
            return False
        return True
    return False


def test_commands_exist(doc):
    for name in COMMAND.findall(read(doc)):
        module = importlib.import_module(name)
        if hasattr(module, "__path__"):
            module = importlib.import_module(f"{name}.__main__")
        assert callable(module.main), name


def test_setup_is_two_lines_and_the_second_is_what_ci_runs():
    lines = re.findall(r"^ *(pip install .*)$", read("README.md"), re.MULTILINE)
    assert lines == [
        "pip install -c constraints.txt -e . && python -m sweeps.launch sweeps/lr_width.yaml",
        "pip install -c constraints.txt -e '.[test]' && pytest",
    ]
    pattern = re.search(r"grep -m1 -E '(.*)' README\.md", read(".ci/run"))[1]
    assert [line for line in lines if re.search(pattern, line)] == lines[1:]


def blocks(language: str) -> list[str]:
    """The fenced code of a language in README.md."""
    return re.findall(rf"^```{language}\n(.*?)^```", read("README.md"), re.MULTILINE | re.DOTALL)


def test_the_sweep_file_of_the_readme_is_valid(tmp_path):
    (example,) = blocks("yaml")
    path = tmp_path / "my_sweep.yaml"
    path.write_text(example, encoding="utf-8")
    assert len(read_sweep(path).runs) == 3 * 7 * 3 * 2


def test_the_python_of_the_readme_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    for source in blocks("python"):
        exec(compile(source, "<README.md>", "exec"), {})
        assert capsys.readouterr().out


def arrows() -> dict[str, set[str]]:
    """Which rooms each room may import, from the arrows in docs/architecture.md."""
    allowed = {room: {room} for room in ROOMS}
    for line in re.findall(r"^    (\w+ → .*)$", read("docs/architecture.md"), re.MULTILINE):
        rooms = line.split(" → ")
        for index, room in enumerate(rooms):
            allowed[room] |= set(rooms[index:])
    return allowed


def test_the_arrows_are_those_of_the_design():
    assert arrows() == {
        "paper_repro": {"paper_repro"},
        "slurm": {"slurm", "paper_repro"},
        "sweeps": {"sweeps", "slurm", "paper_repro"},
        "analysis": {"analysis", "paper_repro"},
        "figures": {"figures", "analysis", "paper_repro"},
    }


@pytest.mark.parametrize("room", ROOMS)
def test_imports_follow_the_arrows(room):
    files = list((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        imported = {name.split(".")[0] for name in imports(path.read_text(encoding="utf-8"))}
        assert imported & set(ROOMS) <= arrows()[room], path


def imports(source: str) -> list[str]:
    """The modules that a source imports, also inside functions; relative ones stay in the room."""
    nodes = list(ast.walk(ast.parse(source)))
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    return plain + [str(node.module) for node in froms]


def test_docs_name_no_private_place(doc):
    assert not re.search(r"/(work|tmp|root|home)/", read(doc))


def test_the_results_in_the_readme_are_the_committed_ones():
    table = read_table(COMMITTED_RESULTS, "transfer_table")
    along_width = table[table["axis"] == "width"].drop_duplicates("label").set_index("label")
    readme = " ".join(read("README.md").split())
    for _, row in along_width.loc[["SP", "Complete(d)P"]].iterrows():
        for name, digits in (("drift", 2), ("regret", 3)):
            assert format_interval(row, name, digits) in readme


def test_the_minutes_in_the_readme_are_those_of_the_sweep_files():
    rows = re.findall(r"(sweeps/\w+\.yaml)`, ([^|]* minutes) \|", read("README.md"))
    assert len(rows) == 8
    for path, minutes in rows:
        cost = re.search(r"# Cost: cpu .*; (.* minutes) on two cores\.", read(path))
        assert cost is not None
        assert (path, minutes) == (path, cost[1])


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_speeds_in_the_readme_are_the_committed_ones(dtype):
    kept = json.loads(read(f"analysis/results/benchmark_cpu_{dtype}.json"))["rows"]
    bundled, _, plain = (
        {row["width"]: row for row in kept if row["variant"] == variant}
        for variant in ("bundled", "single", "plain")
    )
    for width, row in bundled.items():
        ratio = row["tokens_per_s"] / plain[width]["tokens_per_s"]
        hours = (row["runs_per_hour"], plain[width]["runs_per_hour"])
        cells = [f"{ratio:.2f}×", *(f"{runs:,.0f}" for runs in hours)]
        (line,) = [
            line for line in read("README.md").splitlines() if line.startswith(f"| {width} |")
        ]
        assert " | ".join(cells) in line
