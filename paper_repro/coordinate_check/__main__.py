"""`python -m paper_repro.coordinate_check`: table, plot, PASS or FAIL, exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import get_args

import pandas as pd
from rich.console import Console
from rich.table import Column, Table

from paper_repro.apply import FAMILIES
from paper_repro.apply.factory import Factory, find_factory
from paper_repro.command import command
from paper_repro.coordinate_check.foreign import check_model
from paper_repro.coordinate_check.judge import BOUND, GradientSlope, Verdict, check, gradient_slopes
from paper_repro.coordinate_check.measure import Axis
from paper_repro.coordinate_check.plot import plot
from paper_repro.errors import ConfigError
from paper_repro.parameterization import PARAMETERIZATIONS
from paper_repro.paths import check_writable, given_path

EPS = 1e-8
#: Above the gradient RMS of every tensor class at the base before training (0.0006 to 0.009), so
#: that ε decides the size of updates and a wrong ε row shows.
LARGE_EPS = 1e-2

CANNOT_SEE = (
    "Not seen by this check: weight decay (off here), the batch and duration rules (both ratios "
    "are 1), anything that shows only in long training, and ε unless --eps makes it large."
)
ROWS_IN_DOUBT = (
    "With a large ε, complete_d is flagged on width at final_norm and qk_norm: their gradients do "
    "not scale as the paper's own ε rows; see docs/eps_rows.md."
)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 for PASS, 1 for FAIL, 2 for wrong arguments."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 110)
    if options.plot:
        check_writable(options.plot.parent, "--plot")
    axes: tuple[Axis, ...] = (options.axis,) if options.axis else get_args(Axis)
    if options.sizes and not options.axis:
        raise ConfigError("--sizes: needs --axis width or --axis depth")
    title = f"{options.parameterization}, α = {options.alpha:g}, ε = {options.eps:g}"
    reports = []
    for axis in axes:
        with console.status(f"training at growing {axis} ..."):
            rules = (options.parameterization, options.alpha, options.eps)
            run = (options.sizes, *rules, range(options.seeds), options.steps)
            if options.model is None:
                reports.append(check(axis, *run))
            else:
                factory = _factory(options.model)
                reports.append(check_model(factory, options.mapping, axis, *run, options.tied))
    measurements = pd.concat([report.measurements for report in reports])
    verdicts = [verdict for report in reports for verdict in report.verdicts]
    console.print(_verdict_table(verdicts, title))
    if options.gradients:
        slopes = gradient_slopes(measurements, options.parameterization, options.alpha)
        console.print(_gradient_table(slopes, title))
    if options.plot:
        plot(measurements, options.plot, title)
        console.print(f"wrote {options.plot}")
    console.print(CANNOT_SEE)
    if options.eps > EPS:
        console.print(ROWS_IN_DOUBT)
    failed = [verdict for verdict in verdicts if not verdict.passed]
    console.print(f"FAIL ({len(failed)} of {len(verdicts)} slopes)" if failed else "PASS")
    return 1 if failed else 0


def _factory(name: str) -> Factory:
    try:
        return find_factory(name)
    except ConfigError as error:
        raise ConfigError(f"--model {error}") from None


def _verdict_table(verdicts: list[Verdict], title: str) -> Table:
    table = Table(
        *("axis", "RMS of", "quantity"),
        *(Column(heading, justify="right") for heading in ("slope", "bound")),
        "verdict",
        title=f"{title}\nslope of log RMS against log size, mean over seeds ± 95 %",
    )
    for (axis, judged), group in groupby(verdicts, lambda verdict: (verdict.axis, verdict.check)):
        for verdict in group:
            bound = f"{'≤ ' if verdict.may_shrink else '±'}{BOUND:g}"
            result = "pass" if verdict.passed else "FAIL"
            table.add_row(axis, judged.name, verdict.quantity, str(verdict.slope), bound, result)
        table.add_section()
    return table


def _gradient_table(slopes: list[GradientSlope], title: str) -> Table:
    table = Table(
        *("axis", "tensor class"),
        *(Column(heading, justify="right") for heading in ("ε row", "at the start", "at the end")),
        title=f"{title}\nslope of gradient RMS; NO: not the exponent of the ε row",
    )
    for slope in slopes:
        measured = (f"{'' if slope.agrees(at) else 'NO '}{at}" for at in (slope.start, slope.end))
        table.add_row(slope.axis, slope.tensor_class, f"{slope.row:+g}", *measured)
    return table


def _plot_path(text: str) -> Path:
    file = given_path(text)
    if file.suffix not in (".png", ".svg", ".pdf") or not file.parent.is_dir():
        raise argparse.ArgumentTypeError(
            f"must be a .png, .svg or .pdf in a directory that exists, got {text}"
        )
    return file


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m paper_repro.coordinate_check",
        description="Train a few steps at growing sizes; PASS if nothing grows or vanishes.",
    )
    add = parser.add_argument
    add(
        "--model",
        metavar="MODULE:FUNCTION",
        help="a function from width and depth to a model; default: the GPT of this project",
    )
    add(
        "--mapping",
        default="llama",
        help=f"names of its parameters: {', '.join(FAMILIES)}, or MODULE:NAME, its patterns",
    )
    add("--tied", action="store_true", help="its unembedding is its embedding")
    add("--parameterization", choices=PARAMETERIZATIONS, default="complete_d")
    add("--axis", choices=get_args(Axis), help="default: both")
    add("--sizes", type=int, nargs="+", metavar="N", help="of the axis; the smallest is the base")
    add("--alpha", type=float, default=1.0, help="depth exponent α, default 1")
    add(
        "--eps",
        type=float,
        nargs="?",
        default=EPS,
        const=LARGE_EPS,
        help=f"ε at the base, default {EPS:g}; without a number {LARGE_EPS:g}, to show the ε rows",
    )
    add("--seeds", type=int, default=3, help="number of seeds, default 3")
    add("--steps", type=int, default=6, help="AdamW steps, default 6")
    add("--gradients", action="store_true", help="also compare gradients with the ε rows")
    add("--plot", type=_plot_path, metavar="FILE", help="a .png, .svg or .pdf")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
