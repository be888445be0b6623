"""`python -m paper_repro.benchmark`: tokens a second of this suite and of a plain loop."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from rich.console import Console
from rich.table import Table

from paper_repro.benchmark.measure import (
    RUN_TOKENS,
    Measurement,
    Shape,
    Variant,
    measure,
    peak_flops,
)
from paper_repro.config import Execution, RunConfig, parse_run_config
from paper_repro.errors import ConfigError
from paper_repro.files import write_json
from paper_repro.records.provenance import describe_code, versions

Device = Literal["cpu", "cuda"]
Dtype = Literal["float32", "bfloat16"]
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
LARGE: dict[str, dict[str, int]] = {
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
LONG = 2**31
"""Tokens of a run that is not over before it is measured."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 for wrong arguments."""
    arguments = _parser().parse_args(argv)
    try:
        return _run(arguments)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(arguments: argparse.Namespace) -> int:
    console = Console(width=None if sys.stdout.isatty() else 110)
    progress = Console(stderr=True)
    device: Device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    widths = arguments.widths or WIDTHS[device]
    if arguments.quick:
        widths = [width for width in widths if width <= QUICK_WIDTH]
        if not widths:
            raise ConfigError(f"--widths: expected one up to {QUICK_WIDTH} with --quick")
    study = [long_run({"model": {"width": width, "depth": arguments.depth}}) for width in widths]
    tasks = [(config, variant) for config in study for variant in VARIANTS]
    if device == "cuda" and not (arguments.widths or arguments.quick):
        large: tuple[Variant, ...] = ("single", "plain")
        tasks += [(long_run(LARGE), variant) for variant in large]
    shapes = [(variant, _shape(variant, config, arguments, device)) for config, variant in tasks]
    dtypes = sorted({shape.execution.dtype for _, shape in shapes})
    peaks: dict[str, float] = {dtype: peak_flops(device, dtype) for dtype in dtypes}
    measurements: list[Measurement] = []
    for variant, shape in shapes:
        config = shape.config
        with progress.status(f"measuring {variant} at width {config.model.width} ..."):
            measurements.append(measure(variant, shape, peaks[shape.execution.dtype]))
        rows = [measurement.row() for measurement in measurements]
        if arguments.output:  # as they come: a GPU may be lent for minutes
            content = {**describe_code(), "versions": versions(), "peak_flops": peaks}
            write_json(arguments.output, content | {"rows": rows})
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        console.print(table(measurements, peaks))
        for variant, meaning in VARIANTS.items():
            console.print(f"{variant}: {meaning}", highlight=False)
    return 0


def long_run(shape: Mapping[str, Mapping[str, int]]) -> RunConfig:
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


def _shape(
    variant: Variant, config: RunConfig, arguments: argparse.Namespace, device: Device
) -> Shape:
    bundled, gpu = variant == "bundled", device == "cuda"
    large = gpu and config == long_run(LARGE)
    cores = len(os.sched_getaffinity(0))
    usual: Dtype = "bfloat16" if gpu else "float32"
    execution = Execution(
        device=device,
        dtype=usual if variant == "plain" else arguments.dtype or usual,
        compile=(bundled or (large and variant == "single")) and not arguments.quick,
        threads=1 if bundled else cores,
        checkpoint_seconds=3600,
    )
    return Shape(
        config,
        execution,
        workers=cores if bundled and not gpu else 1,
        runs=min(RUNS, RUNS_WIDTHS // config.model.width) if bundled and gpu else 1,
        seconds=QUICK_SECONDS if arguments.quick else SECONDS[device],
    )


def table(measurements: Sequence[Measurement], peaks: Mapping[str, float]) -> Table:
    """A row a measurement, its ratio over the plain loop first."""
    plain = {(m.width, m.depth): m for m in measurements if m.variant == "plain"}
    device, used = measurements[0].device, sorted({m.dtype for m in measurements})
    result = Table(
        title=f"{device}; runs of {RUN_TOKENS:,} tokens\nTFLOP/s at "
        f"most: {', '.join(f'{dtype} {peaks[dtype] / 1e12:.3g}' for dtype in used)}",
        box=None,
        header_style="bold",
    )
    for heading in ("width", "depth", "variant", "over plain", "tokens/s", "runs/hour", "params"):
        result.add_column(heading, justify="left" if heading == "variant" else "right")
    for heading in ("FLOPs/token", "MFU", "memory", "how"):
        result.add_column(heading, justify="left" if heading == "how" else "right")
    for m in measurements:
        how = f"{m.workers} × {m.threads} thread{'s' * (m.threads > 1)}, {m.dtype}"
        if m.runs_at_once > 1:
            how = f"{m.runs_at_once} runs at once, {m.dtype}"
        result.add_row(
            str(m.width),
            str(m.depth),
            m.variant,
            f"{m.tokens_per_s / plain[m.width, m.depth].tokens_per_s:.2f}×",
            f"{m.tokens_per_s:,.0f}",
            f"{m.runs_per_hour:,.0f}",
            f"{m.parameters:,}",
            f"{m.flops_per_token:.2g}",
            f"{m.mfu:.0%}",
            f"{m.peak_bytes / 2**20:,.0f} MiB",
            f"{how}{', compiled' if m.compiled else ''}",
        )
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
    parser.add_argument(
        "--widths",
        metavar="N",
        type=positive,
        nargs="+",
        help="default: 32 to 256, on a GPU to 2048",
    )
    parser.add_argument(
        "--depth", metavar="N", type=positive, default=2, help="default: %(default)s"
    )
    parser.add_argument(
        "--quick", action="store_true", help="widths up to 128, uncompiled, under a minute"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: a GPU if there is one")
    parser.add_argument(
        "--dtype",
        choices=get_args(Dtype),
        help="of this suite's matrix products (default: bfloat16 on a GPU, else float32, as the "
        "plain loop has it)",
    )
    parser.add_argument("--json", action="store_true", help="print a list of objects, not a table")
    parser.add_argument("--output", metavar="FILE", type=Path, help="keep the results as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
