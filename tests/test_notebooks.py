"""The notebooks of `analysis/`: they run, are committed executed and up to date, and stay thin."""

import ast
import base64
import re
import shutil
import struct

import nbformat
import pytest
from support.numbers import differing_numbers

from analysis import notebooks
from analysis.notebooks import DIRECTORY, execute, main

ALL = [
    *(
        "batch_and_duration",
        "compare_parameterizations",
        "laws",
        "per_module_search",
        "transfer_curves",
    )
]

ABSOLUTE_PATH = re.compile(r"(?:^|[\s\"'(=`>,:\[])(/\w[\w.-]*/[\w./-]*|[A-Z]:\\+\w+)", re.MULTILINE)
LOGIC = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda),
    *(ast.For, ast.While, ast.If, ast.IfExp, ast.With, ast.Try),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)


def read(name):
    return nbformat.read(DIRECTORY / f"{name}.ipynb", as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def texts(notebook):
    """What the cells say, but for those that train: their numbers depend on the machine."""
    return {
        cell.id: "\n".join(
            output.get("text") or output.data.get("text/html") or output.data["text/plain"]
            for output in cell.outputs
        )
        for cell in code_cells(notebook)
        if "trains" not in cell.metadata.get("tags", [])
    }


def test_these_are_the_notebooks():
    assert sorted(path.stem for path in DIRECTORY.glob("*.ipynb")) == ALL


#: The others are made of the same parts, whose numbers test_figures and test_results hold.
EVERY_TIME = "laws"


@pytest.mark.parametrize(
    "name",
    [
        EVERY_TIME,
        *(pytest.param(name, marks=pytest.mark.slow) for name in ALL if name != EVERY_TIME),
    ],
)
def test_executes_anywhere_and_says_what_the_committed_copy_says(name, tmp_path):
    copy = shutil.copy(DIRECTORY / f"{name}.ipynb", tmp_path)
    fresh, kept = texts(execute(tmp_path / copy, tmp_path)), texts(read(name))
    renew = f"python -m analysis.notebooks {name}"
    assert fresh.keys() == kept.keys(), renew
    for cell, contents in kept.items():
        assert differing_numbers(fresh[cell], contents) == [], renew


@pytest.mark.parametrize("name", ALL)
def test_committed_copy_is_executed_from_first_to_last_cell(name):
    cells = code_cells(read(name))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    shown = outputs(read(name))
    assert any("image/png" in output.get("data", {}) for output in shown)


@pytest.mark.parametrize("name", ALL)
def test_no_output_is_an_error_or_a_warning(name):
    for output in outputs(read(name)):
        assert output.output_type != "error"
        assert output.get("name") != "stderr"
        assert "Warning" not in str(output.get("text", "")) + str(output.get("data", {}))


@pytest.mark.parametrize("name", ALL)
def test_nothing_of_the_machine_is_in_it(name):
    notebook = read(name)
    assert notebook.metadata == {
        "kernelspec": notebooks.KERNEL,
        "language_info": {"name": "python"},
    }
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)
    for output in outputs(notebook):
        output.get("data", {}).pop("image/png", None)
    assert not ABSOLUTE_PATH.findall(nbformat.writes(notebook).replace("\\n", "\n"))


@pytest.mark.parametrize("name", ALL)
def test_cells_are_few_and_short_and_only_call(name):
    notebook = read(name)
    assert len(code_cells(notebook)) <= 12
    for cell in code_cells(notebook):
        module = ast.parse(cell.source)
        assert len(module.body) <= 8, cell.source
        assert not [node for node in ast.walk(module) if isinstance(node, LOGIC)], cell.source


@pytest.mark.parametrize("name", ALL)
def test_pictures_are_of_moderate_size(name):
    for output in outputs(read(name)):
        if picture := output.get("data", {}).get("image/png"):
            content = base64.b64decode(picture)
            width, height = struct.unpack(">II", content[16:24])
            assert 300 <= width <= 1300
            assert 200 <= height <= 1000
            assert len(content) < 200_000


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The command, for a folder of its own."""
    monkeypatch.setattr(notebooks, "DIRECTORY", tmp_path)
    return tmp_path


def write(path, *sources):
    cells = [nbformat.v4.new_code_cell(source, id=f"c{i}") for i, source in enumerate(sources)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


def test_command_writes_the_same_file_each_time(folder, capsys):
    path = folder / "small.ipynb"
    first_cell = (
        "import os\nprint(os.path.exists('pyproject.toml'), flush=True)\nprint(2, flush=True)"
    )
    write(path, first_cell, "1 + 1")
    assert main([]) == 0
    first = path.read_bytes()
    assert main(["small"]) == 0
    assert path.read_bytes() == first
    streams, result = outputs(nbformat.read(path, as_version=4))
    assert (streams.text, result.data["text/plain"]) == ("True\n2\n", "2")
    assert capsys.readouterr().out.count("wrote small.ipynb") == 2


def test_command_tells_a_failing_cell_in_one_line_and_keeps_the_file(folder, capsys):
    path = folder / "broken.ipynb"
    write(path, "x = 1", "raise ValueError('no such thing\\nand more')")
    before = path.read_bytes()
    assert main(["broken"]) == 1
    error = capsys.readouterr().err
    assert error == "error: broken.ipynb, cell 2: ValueError: no such thing\n"
    assert path.read_bytes() == before


def test_command_knows_its_notebooks(folder, capsys):
    write(folder / "mine.ipynb", "1")
    assert main(["mien"]) == 2
    assert capsys.readouterr().err == "error: no notebook 'mien'; there are mine\n"
