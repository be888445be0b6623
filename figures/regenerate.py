"""Make figures from results or records, several at once."""

from __future__ import annotations

import io
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from analysis.load import Results, load_results, load_sweep, save_results
from analysis.report import print_tables
from analysis.tables import read_table
from figures.made import save
from figures.registry import FIGURES
from figures.style import style
from paper_repro.cores import usable_cores
from paper_repro.errors import ConfigError

#: Figures at once, where there are so many cores: each process takes 0.6 GB.
MOST_PROCESSES = 8


@dataclass(frozen=True)
class Job:
    """A figure to be made."""

    name: str
    sweeps: tuple[str, ...]
    """That it draws, its own or others in their place."""
    results_dir: Path
    """Where results are read or, of records, written."""
    output_dir: Path
    output_name: str
    runs_dir: Path | None
    """Where records are; None: results are drawn."""
    only: tuple[str, ...] | None
    """Ids of the runs of the records, with those that differ in the seed alone; None: all."""
    width: int
    """Columns of what is printed."""
    colours: bool


@dataclass(frozen=True)
class Said:
    """What there is to say of a figure that was made, or could not be."""

    output: str
    error: str = ""


def regenerate(jobs: Sequence[Job]) -> Iterator[Said]:
    """Make figures; what there is to say comes in their order."""
    processes = min(usable_cores(), len(jobs), MOST_PROCESSES)
    if processes < 2:
        yield from map(_make, jobs)
        return
    with ProcessPoolExecutor(
        processes,
        multiprocessing.get_context("spawn"),  # a fork beside threads may wait for ever
        signal.signal,
        (signal.SIGINT, signal.SIG_IGN),  # Ctrl-C is for this process
    ) as pool:
        yield from pool.map(_make, jobs)


def _make(job: Job) -> Said:
    entry, said = FIGURES[job.name], io.StringIO()
    try:
        results = [_results(job, sweep, entry.curves, said) for sweep in job.sweeps]
        tables = [read_table(job.results_dir, table) for table in entry.tables]
        with style():
            made = entry.make(*results, *tables)
            console = Console(file=said, width=job.width, force_terminal=job.colours)
            print_tables(console, made.tables, made.text)
            written = save(made, job.output_dir, job.output_name)
    except ConfigError as error:
        return Said(said.getvalue(), str(error))
    for path in written:
        print(f"wrote {path}", file=said)
    return Said(said.getvalue())


def _results(job: Job, sweep: str, curves: bool, said: io.StringIO) -> Results:
    """The results of a sweep; those of records are also written."""
    path = job.results_dir / f"{sweep}.parquet"
    if job.runs_dir is None:
        return load_results(path)
    results = load_sweep(job.runs_dir, sweep, job.only)
    save_results(results, path, curves)
    print(f"wrote {path}", file=said)
    return results
