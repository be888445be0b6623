"""Regenerate figures: `python -m figures [NAME ...] [--runs-dir DIR]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from analysis.load import load_results, load_sweep, save_results
from figures.registry import FIGURES, find_figure
from figures.style import save, style
from paper_repro.errors import ConfigError


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the figures and print their numbers. Exit code 2 if what was asked for is wrong."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 140)
    try:
        for name in options.names:  # all of them before the first is drawn
            find_figure(name)
        if options.sweep and len(options.names) != 1:
            raise ConfigError("--sweep: needs the name of one figure")
    except ConfigError as error:
        return _wrong(error)
    code = 0
    for name in options.names or FIGURES:
        sweep = options.sweep or FIGURES[name].sweep
        path = options.results_dir / f"{sweep}.parquet"
        if not options.names and not _available(sweep, path, options.runs_dir):
            console.print(f"{name}: no results yet (sweep {sweep}), left out")
            continue
        try:
            results = _results(sweep, path, options.runs_dir)
            FIGURES[name].report(console, results)
            with style():
                figure = FIGURES[name].draw(results)
                paths = save(figure, options.output_dir, _output(name, options.sweep))
        except ConfigError as error:  # the other figures are made all the same
            code = _wrong(error)
        else:
            for written in paths:
                print(f"wrote {written}")
    return code


def _wrong(error: ConfigError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2


def _output(name: str, sweep: str | None) -> str:
    """The name of a figure's files; of another sweep its own, and a further figure says which."""
    if sweep is None:
        return name
    return sweep if name == FIGURES[name].sweep else f"{sweep}_{name}"


def _available(sweep: str, results: Path, runs_dir: Path | None) -> bool:
    return (runs_dir / sweep).is_dir() if runs_dir else results.exists()


def _results(sweep: str, path: Path, runs_dir: Path | None) -> pd.DataFrame:
    """The results of a sweep; those of fresh runs are also written to `path`."""
    if runs_dir:
        save_results(load_sweep(runs_dir, sweep), path)
        print(f"wrote {path}")
    return load_results(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m figures", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(FIGURES)}; none: all")
    parser.add_argument("--runs-dir", type=Path, help="take fresh results from these records")
    parser.add_argument(
        "--sweep", help="draw another sweep this way; outputs take its name (with one NAME)"
    )
    parser.add_argument("--results-dir", type=Path, default=Path("analysis/results"))
    parser.add_argument("--output-dir", type=Path, default=Path("figures"))
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
