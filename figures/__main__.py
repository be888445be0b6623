"""Regenerate figures: `python -m figures [NAME ...] [--runs-dir DIR [--commit]]`.

Without options, from the committed results and into the folder of the committed figures. From fresh
records (`--runs-dir`), results and figures are put beside these; `--commit` has them take the place
of the committed ones.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from analysis.load import COMMITTED_RESULTS
from figures.made import COMMITTED_FIGURES
from figures.regenerate import Job, regenerate
from figures.registry import FIGURES, FigureEntry, find_figure
from paper_repro.command import WRONG, command
from paper_repro.errors import ConfigError
from paper_repro.paths import check_writable, given_path


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Make the figures and print their numbers. Exit code 2 if what was asked for is wrong."""
    options = _parser().parse_args(arguments)
    _check(options)
    only = tuple(sys.stdin.read().split()) if options.only_ids else None
    code = 0
    for said in regenerate([_job(name, options, only) for name in _wanted(options)]):
        print(said.output, end="", flush=True)
        if said.error:  # the other figures are made all the same
            code = WRONG
            print(f"error: {said.error}", file=sys.stderr)
    return code


def _wanted(options: argparse.Namespace) -> Iterator[str]:
    """The figures that were named, or all that have results; the others are said to have none."""
    if options.names:
        yield from options.names
        return
    for name, entry in FIGURES.items():
        folder, _ = _folders(options, entry.sweeps)
        if _all_available(entry, folder, options.runs_dir):
            yield name
        else:
            needed = f"sweep {', '.join(entry.sweeps)}" if entry.sweeps else ", ".join(entry.tables)
            print(f"{name}: no results yet ({needed}), left out")


def _job(name: str, options: argparse.Namespace, only: tuple[str, ...] | None) -> Job:
    sweeps = tuple(options.sweep or FIGURES[name].sweeps)
    results, output = _folders(options, sweeps)
    return Job(
        name=name,
        sweeps=sweeps,
        results_dir=results,
        output_dir=output,
        output_name=_output_name(name, options.sweep),
        runs_dir=options.runs_dir,
        only=only,
        width=Console().width if sys.stdout.isatty() else 140,
        colours=sys.stdout.isatty(),
    )


def _check(options: argparse.Namespace) -> None:
    """Check what was asked for before anything is drawn."""
    for name in options.names:
        find_figure(name)
    if options.sweep:
        if len(options.names) != 1:
            raise ConfigError("--sweep: needs the name of one figure")
        needed = FIGURES[options.names[0]].sweeps
        if len(options.sweep) != len(needed):
            raise ConfigError(
                f"--sweep: {options.names[0]} draws {len(needed)} sweeps (in place of "
                f"{', '.join(needed)}), got {len(options.sweep)}"
            )
    of_tables = [name for name in options.names if not FIGURES[name].sweeps]
    if options.runs_dir and of_tables:
        raise ConfigError(f"--runs-dir: {of_tables[0]} is drawn from tables, not from runs")
    if options.commit and not options.runs_dir:
        raise ConfigError("--commit: needs --runs-dir, whose results it commits")
    if options.only_ids and not options.runs_dir:
        raise ConfigError("--only-ids: needs --runs-dir, whose runs it chooses from")
    if options.results_dir and options.runs_dir:
        check_writable(options.results_dir, "--results-dir", make=True)
    if options.output_dir:
        check_writable(options.output_dir, "--output-dir", make=True)


def _folders(options: argparse.Namespace, sweeps: tuple[str, ...]) -> tuple[Path, Path]:
    """Where results and figures go: what was asked for, or the place of both."""
    results, output = COMMITTED_RESULTS, COMMITTED_FIGURES
    if options.runs_dir and sweeps and not options.commit:
        results = output = options.runs_dir / sweeps[0]
    return options.results_dir or results, options.output_dir or output


def _output_name(name: str, sweeps: Sequence[str] | None) -> str:
    """The name of a figure's files: of another sweep, its own; a further figure says which."""
    if not sweeps:
        return name
    return sweeps[0] if name == FIGURES[name].sweeps[0] else f"{sweeps[0]}_{name}"


def _all_available(entry: FigureEntry, folder: Path, runs_dir: Path | None) -> bool:
    """Whether a figure can be drawn: from records, only one of sweeps."""
    if runs_dir:
        return bool(entry.sweeps) and all((runs_dir / sweep).is_dir() for sweep in entry.sweeps)
    files = [f"{sweep}.parquet" for sweep in entry.sweeps]
    files += [f"{name}.csv" for name in entry.tables]
    return all((folder / file).exists() for file in files)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m figures", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(FIGURES)}; none: all")
    parser.add_argument("--runs-dir", type=given_path, help="take fresh results from these records")
    parser.add_argument(
        "--commit",
        action="store_true",
        help="with --runs-dir: replace the committed results and figures",
    )
    parser.add_argument(
        "--only-ids",
        action="store_true",
        help="with --runs-dir: of the runs whose ids are on standard input, and of those that"
        " differ from one of them in the seed alone",
    )
    parser.add_argument(
        "--sweep",
        action="append",
        help="draw another sweep this way; outputs take its name (with one NAME; once for each"
        " sweep of the figure)",
    )
    parser.add_argument(
        "--results-dir",
        type=given_path,
        help="where results are read or, with --runs-dir, written (default: analysis/results,"
        " with --runs-dir beside the records)",
    )
    parser.add_argument(
        "--output-dir",
        type=given_path,
        help="where figures are written (default: figures, with --runs-dir beside the records)",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
