"""Execute the notebooks of `analysis/` and keep their outputs.

Command: `python -m analysis.notebooks [NAME ...]`, for all notebooks without a name. The same code
and results give the same file: what differs from one execution to the next is not kept.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from traitlets.config import Config

from paper_repro.errors import ConfigError
from paper_repro.files import write_atomically

DIRECTORY = Path(__file__).parent
ROOT = DIRECTORY.parent

#: Seconds after which a cell hangs: seconds of work can take minutes on a machine at work.
CELL_TIMEOUT = 600

#: All that is kept of a notebook's metadata: no versions, and a kernel that every machine has.
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
#: What is kept of a cell's metadata: no times of execution.
CELL_METADATA = ("tags",)


class NotebookError(RuntimeError):
    """A notebook could not be executed; the message is one line."""


def execute(path: Path, directory: Path = ROOT) -> NotebookNode:
    """Execute all cells of a notebook in a new kernel; the file stays as it is.

    Args:
        directory: where the kernel runs.

    Raises:
        NotebookError: a cell raised an error, took too long, or ended the kernel.
    """
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(
        notebook,
        kernel_name=METADATA["kernelspec"]["name"],
        timeout=CELL_TIMEOUT,
        record_timing=False,
        # Cells and outputs go over TCP; on a shared machine others need not be able to read along.
        config=Config({"KernelManager": {"transport_encryption": "auto"}}),
        coalesce_streams=True,
        resources={"metadata": {"path": str(directory)}},
    )
    try:
        client.execute()
    except CellExecutionError as error:
        raise NotebookError(
            f"{path.name}, {_failed_cell(notebook)}: {error.ename}: {_first_line(error.evalue)}"
        ) from None
    except (CellTimeoutError, DeadKernelError) as error:
        raise NotebookError(f"{path.name}: {_first_line(str(error))}") from None
    return _reproducible(notebook)


def _reproducible(notebook: NotebookNode) -> NotebookNode:
    """The notebook without what differs from one execution to the next."""
    notebook.metadata = nbformat.from_dict(METADATA)  # type: ignore[no-untyped-call]
    for cell in notebook.cells:
        kept = {key: cell.metadata[key] for key in CELL_METADATA if key in cell.metadata}
        cell.metadata = nbformat.from_dict(kept)  # type: ignore[no-untyped-call]
    return notebook


def _failed_cell(notebook: NotebookNode) -> str:
    for number, cell in enumerate(notebook.cells, start=1):
        if any(output.output_type == "error" for output in cell.get("outputs", [])):
            return f"cell {number}"
    return "a cell"


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 if a notebook cannot be executed (it keeps its old outputs), 2 if none is so
    called."""
    options = _parser().parse_args(arguments)
    try:
        for path in [_path(name) for name in options.names] or sorted(DIRECTORY.glob("*.ipynb")):
            started = time.monotonic()
            notebook = execute(path)
            text: str = nbformat.writes(notebook) + "\n"  # type: ignore[no-untyped-call]
            write_atomically(path, lambda file, text=text: file.write_text(text, "utf-8"))  # type: ignore[misc]
            print(f"wrote {path.name} ({time.monotonic() - started:.0f} s)")
    except (ConfigError, NotebookError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


def _path(name: str) -> Path:
    path = DIRECTORY / f"{name.removesuffix('.ipynb')}.ipynb"
    if not path.is_file():
        there = ", ".join(sorted(path.stem for path in DIRECTORY.glob("*.ipynb")))
        raise ConfigError(f"no notebook {name!r}; there are {there}")
    return path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis.notebooks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a notebook; none: all of them")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
