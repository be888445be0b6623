"""Execute the notebooks of `analysis/` and keep their outputs.

Command: `python -m analysis.notebooks [NAME ...]`, for all notebooks without a name. What differs
from one execution to the next (times, versions) is not kept.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from paper_repro.command import command
from paper_repro.errors import ConfigError
from paper_repro.files import write_atomically

if TYPE_CHECKING:
    from nbformat import NotebookNode

DIRECTORY = Path(__file__).parent
ROOT = DIRECTORY.parent

#: Seconds after which a cell hangs: seconds of work can take minutes on a machine at work.
CELL_TIMEOUT = 600

#: The kernel that every machine has, under the name that every machine gives it.
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}

SETTINGS = {
    "ExecutePreprocessor": {
        "timeout": CELL_TIMEOUT,
        "kernel_name": KERNEL["name"],
        "record_timing": False,
    },
    # Cells and outputs go over TCP; on a shared machine others need not be able to read along.
    "KernelManager": {"transport_encryption": "auto"},
    "ClearMetadataPreprocessor": {"preserve_cell_metadata_mask": {"tags"}},
}


class NotebookError(RuntimeError):
    """A notebook could not be executed; the message is one line."""


def execute(path: Path, directory: Path = ROOT) -> NotebookNode:
    """Execute all cells of a notebook in a new kernel; the file stays as it is.

    Args:
        directory: where the kernel runs.

    Raises:
        NotebookError: a cell raised an error, took too long, or ended the kernel.
        ModuleNotFoundError: the extra `notebooks` is not installed.
    """
    import nbformat
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
    from nbconvert.preprocessors import ClearMetadataPreprocessor, ExecutePreprocessor
    from traitlets.config import Config

    settings = Config(SETTINGS)
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    resources = {"metadata": {"path": str(directory)}}
    try:
        executor = ExecutePreprocessor(config=settings, coalesce_streams=True)  # type: ignore[no-untyped-call]
        executor.preprocess(notebook, resources)
    except CellExecutionError as error:
        failed = [
            number
            for number, cell in enumerate(notebook.cells, start=1)
            if any(output.output_type == "error" for output in cell.get("outputs", []))
        ]
        raise NotebookError(
            f"{path.name}, cell {failed[0]}: {error.ename}: {_first_line(error.evalue)}"
        ) from None
    except (CellTimeoutError, DeadKernelError) as error:
        raise NotebookError(f"{path.name}: {_first_line(str(error))}") from None
    cleared = ClearMetadataPreprocessor(config=settings)  # type: ignore[no-untyped-call]
    notebook, _ = cleared.preprocess(notebook, resources)  # type: ignore[no-untyped-call]
    notebook.metadata["kernelspec"] = KERNEL
    return nbformat.from_dict(notebook)  # type: ignore[no-untyped-call, no-any-return]


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0]


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 if a notebook cannot be executed (it keeps its old outputs), 2 if there is no
    notebook of that name."""
    parser = argparse.ArgumentParser(prog="python -m analysis.notebooks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a notebook; none: all of them")
    names = parser.parse_args(arguments).names
    for path in [_path(name) for name in names] or sorted(DIRECTORY.glob("*.ipynb")):
        started = time.monotonic()
        try:
            text = as_text(execute(path))
        except NotebookError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        write_atomically(path, lambda file, text=text: file.write_text(text, "utf-8"))  # type: ignore[misc]
        print(f"wrote {path.name} ({time.monotonic() - started:.0f} s)")
    return 0


def as_text(notebook: NotebookNode) -> str:
    """A notebook as its file has it."""
    import nbformat

    text: str = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
    return text + "\n"


def _path(name: str) -> Path:
    path = DIRECTORY / f"{name.removesuffix('.ipynb')}.ipynb"
    if not path.is_file():
        there = ", ".join(sorted(path.stem for path in DIRECTORY.glob("*.ipynb")))
        raise ConfigError(f"no notebook {name!r}; there are {there}")
    return path


if __name__ == "__main__":
    raise SystemExit(main())
