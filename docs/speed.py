"""The table of speeds in README.md and docs/performance.md, from the committed benchmarks.

Command: `python docs/speed.py` rewrites the marked blocks in place; with `--check` it only says
whether they are out of date. A test holds them to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from analysis.load import COMMITTED_RESULTS
from paper_repro.benchmark.report import ratios, read_history
from paper_repro.parameterization.page import markdown_table, render

PRECISIONS = ("float32", "bfloat16")


def table() -> str:
    """This suite as it trains a study, in each precision, beside the plain loop in float32."""
    latest = [
        read_history(COMMITTED_RESULTS / f"benchmark_cpu_{dtype}.json")[-1] for dtype in PRECISIONS
    ]
    head = ["width"]
    for dtype in PRECISIONS:
        head += [f"{dtype}: over a plain loop", "over it compiled", "runs/hour"]
    widths = dict.fromkeys(row["width"] for row in latest[0]["rows"])
    cells = [[str(width), *sum((_cells(entry, width) for entry in latest), [])] for width in widths]
    return markdown_table(head, cells) + f"\n{_caption(latest)}\n"


def _cells(entry: Mapping[str, Any], width: int) -> list[str]:
    rows = [row for row in entry["rows"] if row["width"] == width]
    bundled = [row for row in rows if row["variant"] == "bundled"]
    (what,) = {what for what in ratios(rows) if what.variant == "bundled"}
    runs_per_hour = median(row["runs_per_hour"] for row in bundled)
    return [
        str(ratios(rows)[what]),
        str(ratios(rows, "compiled plain")[what]),
        f"{runs_per_hour:,.0f}",
    ]


def _caption(entries: list[Mapping[str, Any]]) -> str:
    first = entries[0]["rows"][0]
    peaks: dict[str, float] = {}
    for entry in entries:
        peaks |= entry["peak_flops"]
    most = ", ".join(f"{dtype} {peaks[dtype] / 1e9:.0f}" for dtype in PRECISIONS)
    alternations = min(len({row["alternation"] for row in entry["rows"]}) for entry in entries)
    revisions = " and ".join(dict.fromkeys(entry["git_revision"][:7] for entry in entries))
    return (
        f"Medians and ranges of {alternations} alternations on {first['workers']} cores of "
        f"{first['device']}, GFLOP/s at most: {most}; code {revisions}, "
        f"torch {entries[0]['versions']['torch']}."
    )


def main(arguments: list[str] | None = None) -> int:
    blocks = [(path, "speed", table) for path in ("README.md", "docs/performance.md")]
    return render("python docs/speed.py", blocks, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
