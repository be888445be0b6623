"""Regenerate figures: `python -m figures [NAME ...] [--runs-dir DIR [--commit]]`.

Without options, from the committed results and into the folder of the committed figures. From fresh
records (`--runs-dir`), results and figures are put beside these; `--commit` has them take the place
of the committed ones.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from rich.console import Console

from analysis.load import COMMITTED_RESULTS, Results, load_results, load_sweep, save_results
from analysis.report import print_tables
from analysis.tables import read_table
from figures.made import COMMITTED_FIGURES, save
from figures.registry import FIGURES, FigureEntry, find_figure
from figures.style import style
from paper_repro.command import WRONG, command
from paper_repro.errors import ConfigError
from paper_repro.paths import check_writable, given_path


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Make the figures and print their numbers. Exit code 2 if what was asked for is wrong."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 140)
    _check(options)
    only = sys.stdin.read().split() if options.only_ids else None
    code = 0
    for name in options.names or FIGURES:
        entry = FIGURES[name]
        sweeps = tuple(options.sweep or entry.sweeps)
        folder, output = _folders(options, sweeps)
        if not options.names and not _all_available(entry, sweeps, folder, options.runs_dir):
            needed = f"sweep {', '.join(sweeps)}" if sweeps else ", ".join(entry.tables)
            console.print(f"{name}: no results yet ({needed}), left out")
            continue
        try:
            results = [_results(s, entry, folder, options.runs_dir, only) for s in sweeps]
            tables = [read_table(folder, table) for table in entry.tables]
            with style():
                made = entry.make(*results, *tables)
                print_tables(console, made.tables, made.text)
                written = save(made, output, _output_name(name, options.sweep))
        except ConfigError as error:  # the other figures are made all the same
            code = WRONG
            print(f"error: {error}", file=sys.stderr)
        else:
            for path in written:
                print(f"wrote {path}")
    return code


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


def _all_available(
    entry: FigureEntry, sweeps: Sequence[str], folder: Path, runs_dir: Path | None
) -> bool:
    """Whether a figure can be drawn: from records, only one of sweeps."""
    if runs_dir:
        return bool(sweeps) and all((runs_dir / sweep).is_dir() for sweep in sweeps)
    files = [*(f"{sweep}.parquet" for sweep in sweeps), *(f"{name}.csv" for name in entry.tables)]
    return all((folder / file).exists() for file in files)


def _results(
    sweep: str,
    entry: FigureEntry,
    folder: Path,
    runs_dir: Path | None,
    only: Collection[str] | None,
) -> Results:
    """The results of a sweep; those of fresh runs are also written to the folder."""
    path = folder / f"{sweep}.parquet"
    if runs_dir is None:
        return load_results(path)
    results = load_sweep(runs_dir, sweep, only)
    save_results(results, path, entry.curves)
    print(f"wrote {path}")
    return results


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
