"""`python -m paper_repro.benchmark`: tokens a second of this suite and of a plain loop."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from rich.console import Console

from paper_repro.benchmark.measure import Case, Variant, measure, peak_flops
from paper_repro.benchmark.report import VARIANTS, read_history, slower, table
from paper_repro.command import command, positive
from paper_repro.config import Execution, RunConfig, parse_run_config
from paper_repro.cores import usable_cores
from paper_repro.errors import ConfigError
from paper_repro.files import write_json
from paper_repro.paths import check_writable, given_path
from paper_repro.records.provenance import describe_code, versions

Device = Literal["cpu", "cuda"]
Dtype = Literal["float32", "bfloat16"]
Shape = Mapping[str, Mapping[str, int]]
WIDTHS: dict[Device, tuple[int, ...]] = {
    "cpu": (32, 64, 128, 256),
    "cuda": (32, 64, 128, 256, 512, 1024, 2048),
}
QUICK_WIDTH = 128
SECONDS: dict[Device, float] = {"cpu": 15.0, "cuda": 3.0}
QUICK_SECONDS = 2.0
RUNS, RUNS_WIDTHS = 64, 2**15
"""Runs of a bundle, on a GPU: 64, which is about what shares a shape in a study at size gpu, and
above width 512 fewer, so that runs times width stays."""
LARGE: Shape = {
    "model": {"width": 1024, "depth": 24, "head_dim": 64},
    "data": {"context": 1024},
    "train": {"batch_size": 32},
}
"""One large model, of 303M parameters, on a GPU."""
LONG = 2**31
"""Tokens of a run that is not over before it is measured."""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 for wrong arguments."""
    arguments = _parser().parse_args(argv)
    if arguments.output:
        check_writable(arguments.output.parent, "--output")
    history = read_history(arguments.output) if arguments.output else []
    console = Console(width=None if sys.stdout.isatty() else 110)
    progress = Console(stderr=True)
    device: Device = arguments.device
    widths = arguments.widths or WIDTHS[device]
    if arguments.quick:
        widths = [width for width in widths if width <= QUICK_WIDTH]
        if not widths:
            raise ConfigError(f"--widths: expected one up to {QUICK_WIDTH} with --quick")
    cases = [
        _case(variant, {"model": {"width": width, "depth": arguments.depth}}, arguments)
        for width in widths
        for variant in VARIANTS
    ]
    if device == "cuda" and not (arguments.widths or arguments.quick):
        large: tuple[Variant, ...] = ("single", "plain")
        cases += [_case(variant, LARGE, arguments) for variant in large]
    total = arguments.alternations * len(cases)
    dtypes = sorted({case.execution.dtype for case in cases})
    peaks: dict[str, float] = {dtype: peak_flops(device, dtype) for dtype in dtypes}
    code = {**describe_code(), "versions": versions(), "peak_flops": peaks}
    rows: list[dict[str, Any]] = []
    for alternation, case in itertools.product(range(arguments.alternations), cases):
        what = f"{case.variant} at width {case.config.model.width}"
        with progress.status(f"measuring {what} ({len(rows) + 1} of {total}) ..."):
            measured = measure(case, peaks[case.execution.dtype])
        rows.append({"alternation": alternation, **measured})
        if arguments.output:  # as they come: a GPU may be lent for minutes
            write_json(arguments.output, {"history": [*history, {**code, "rows": rows}]})
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return 0
    console.print(table(rows, peaks))
    for variant, meaning in VARIANTS.items():
        console.print(f"{variant}: {meaning}", highlight=False)
    for line in slower(history, rows):
        console.print(f"Slower than before: {line}", style="yellow", highlight=False)
    return 0


def long_run(shape: Shape) -> RunConfig:
    """A run of that shape that does not end while it is measured.

    Raises:
        ConfigError: there is no such shape.
    """
    content = {
        "model": shape["model"],
        "data": {"max_epochs": LONG // 2**20, **shape.get("data", {})},
        "train": {"tokens": LONG, "evaluations": 1, **shape.get("train", {})},
    }
    return parse_run_config(content, "--widths, --depth")


def _case(variant: Variant, shape: Shape, arguments: argparse.Namespace) -> Case:
    device: Device = arguments.device
    config, bundled, gpu = long_run(shape), variant == "bundled", device == "cuda"
    cores = usable_cores()
    usual: Dtype = "bfloat16" if gpu else "float32"
    plain = variant in ("plain", "compiled plain")
    compiled = variant in ("bundled", "compiled plain") or (shape is LARGE and variant == "single")
    execution = Execution(
        device=device,
        dtype=usual if plain else arguments.dtype or usual,
        compile=compiled and not arguments.quick,
        threads=1 if bundled else cores,
        checkpoint_seconds=3600,
    )
    return Case(
        variant,
        config,
        execution,
        workers=cores if bundled and not gpu else 1,
        runs=min(RUNS, RUNS_WIDTHS // config.model.width) if bundled and gpu else 1,
        seconds=QUICK_SECONDS if arguments.quick else SECONDS[device],
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m paper_repro.benchmark",
        description="Tokens a second of this suite, bundled and one run at a time, and of a plain "
        "loop, as it is and compiled: 16 sequences of 128 bytes a step.",
    )
    add = parser.add_argument
    widths = "default: 32 to 256, on a GPU to 2048"
    add("--widths", metavar="N", type=positive, nargs="+", help=widths)
    add("--depth", metavar="N", type=positive, default=2, help="default: %(default)s")
    more = "measure all of it so often, in turn, for the spread of the ratios (default: 1)"
    add("--alternations", metavar="N", type=positive, default=1, help=more)
    add("--quick", action="store_true", help="widths up to 128, uncompiled, under a minute")
    there = "cuda" if torch.cuda.is_available() else "cpu"
    add("--device", choices=["cpu", "cuda"], default=there, help="default: a GPU if there is one")
    add(
        "--dtype",
        choices=get_args(Dtype),
        help="of this suite's matrix products (default: bfloat16 on a GPU, else float32, as the "
        "plain loop has it)",
    )
    add("--json", action="store_true", help="print a list of objects, not a table")
    add("--output", metavar="FILE", type=given_path, help="add the results to a file (JSON)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
