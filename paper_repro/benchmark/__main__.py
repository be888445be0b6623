"""`python -m paper_repro.benchmark`: tokens a second of this suite and of a plain loop."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from rich.console import Console
from rich.table import Table

from paper_repro.benchmark.measure import RUN_TOKENS, Case, Variant, measure, peak_flops
from paper_repro.command import command
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
"""Runs of a bundle, on a GPU: 64, which is about what shares a shape in `sweeps/lr_width.yaml` at
size gpu, and above width 512 fewer, so that runs times width stays."""
LARGE: Shape = {
    "model": {"width": 1024, "depth": 24, "head_dim": 64},
    "data": {"context": 1024},
    "train": {"batch_size": 32},
}
"""One large model, of 303M parameters, on a GPU."""
VARIANTS: dict[Variant, str] = {
    "bundled": "this suite, as it trains a study",
    "single": "this suite, one run at a time",
    "plain": "a plain loop: nn.Module, torch.optim.AdamW, eager",
}
COLUMNS = {
    "width": "{width}",
    "depth": "{depth}",
    "variant": "{variant}",
    "over plain": "{over_plain:.2f}×",
    "tokens/s": "{tokens_per_s:,.0f}",
    "runs/hour": "{runs_per_hour:,.0f}",
    "params": "{parameters:,}",
    "FLOPs/token": "{flops_per_token:.2g}",
    "MFU": "{mfu:.0%}",
    "memory": "{mebibytes:,.0f} MiB",
    "how": "{how}, {dtype}{compilation}",
}
LONG = 2**31
"""Tokens of a run that is not over before it is measured."""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 for wrong arguments."""
    arguments = _parser().parse_args(argv)
    if arguments.output:
        check_writable(arguments.output.parent, "--output")
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
    dtypes = sorted({case.execution.dtype for case in cases})
    peaks: dict[str, float] = {dtype: peak_flops(device, dtype) for dtype in dtypes}
    rows: list[dict[str, Any]] = []
    for case in cases:
        with progress.status(f"measuring {case.variant} at width {case.config.model.width} ..."):
            rows.append(measure(case, peaks[case.execution.dtype]))
        if arguments.output:  # as they come: a GPU may be lent for minutes
            content = {**describe_code(), "versions": versions(), "peak_flops": peaks}
            write_json(arguments.output, content | {"rows": rows})
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        console.print(table(rows, peaks))
        for variant, meaning in VARIANTS.items():
            console.print(f"{variant}: {meaning}", highlight=False)
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
    compiled = bundled or (shape is LARGE and variant == "single")
    execution = Execution(
        device=device,
        dtype=usual if variant == "plain" else arguments.dtype or usual,
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


def table(rows: Sequence[Mapping[str, Any]], peaks: Mapping[str, float]) -> Table:
    """A row a measurement, its ratio over the plain loop first."""
    plain = {(row["width"], row["depth"]): row for row in rows if row["variant"] == "plain"}
    result = Table(
        title=f"{rows[0]['device']}; runs of {RUN_TOKENS:,} tokens\nTFLOP/s at "
        f"most: {', '.join(f'{dtype} {peak / 1e12:.3g}' for dtype, peak in peaks.items())}",
        box=None,
        header_style="bold",
    )
    for heading in COLUMNS:
        result.add_column(heading, justify="left" if heading in ("variant", "how") else "right")
    for row in rows:
        how = f"{row['workers']} × {row['threads']} thread{'s' * (row['threads'] > 1)}"
        derived = {
            "over_plain": row["tokens_per_s"] / plain[row["width"], row["depth"]]["tokens_per_s"],
            "mebibytes": row["peak_bytes"] / 2**20,
            "how": how if row["runs_at_once"] == 1 else f"{row['runs_at_once']} runs at once",
            "compilation": ", compiled" * row["compiled"],
        }
        result.add_row(*(form.format(**row, **derived) for form in COLUMNS.values()))
    return result


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0 (got {text!r})")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m paper_repro.benchmark",
        description="Tokens a second of this suite, bundled and one run at a time, and of a plain "
        "loop, on the text and shapes of sweeps/lr_width.yaml.",
    )
    add = parser.add_argument
    widths = "default: 32 to 256, on a GPU to 2048"
    add("--widths", metavar="N", type=positive, nargs="+", help=widths)
    add("--depth", metavar="N", type=positive, default=2, help="default: %(default)s")
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
    add("--output", metavar="FILE", type=given_path, help="keep the results as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
