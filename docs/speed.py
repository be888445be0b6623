"""The tables of speeds in README.md and docs/performance.md, from the committed benchmark.

Command: `python docs/speed.py` rewrites the marked blocks in place; with `--check` it only says
whether they are out of date. A test holds them to it.
"""

from __future__ import annotations

from statistics import median

from analysis.load import COMMITTED_RESULTS
from paper_repro.benchmark.measure import Variant
from paper_repro.benchmark.report import Ratio, Row, ratios, read_history
from paper_repro.parameterization.page import markdown_table, render

KEPT = COMMITTED_RESULTS / "benchmark_cpu_float32.json"
ROWS: dict[str, tuple[Variant, Variant]] = {
    "over a plain loop": ("bundled", "plain"),
    "over it compiled": ("bundled", "compiled plain"),
    "one run at a time, eager, over a plain loop": ("single", "plain"),
}


def table() -> str:
    """This suite as it trains a study, beside loops that train one run after the other."""
    entry = read_history(KEPT)[-1]
    rows, first = entry["rows"], entry["rows"][0]
    widths = dict.fromkeys(row["width"] for row in rows)
    lines = [
        [f"tokens/s {name}", *(str(_ratio(rows, width, *pair)) for width in widths)]
        for name, pair in ROWS.items()
    ]
    lines.append(["runs/hour", *(f"{_runs_per_hour(rows, width):,.0f}" for width in widths)])
    alternations = len({row["alternation"] for row in rows})
    return (
        markdown_table(["", *(f"width {width}" for width in widths)], lines)
        + f"\nMedians and ranges of {alternations} alternations, {first['dtype']}, on "
        f"{first['workers']} cores of {first['device'].replace('(R)', '')} with at most "
        f"{entry['peak_flops'][first['dtype']] / 1e9:.0f} GFLOP/s (code "
        f"{entry['git_revision'][:7]}, torch {entry['versions']['torch']}).\n"
    )


def _ratio(rows: list[Row], width: int, variant: Variant, over: Variant) -> Ratio:
    (found,) = (
        ratio
        for what, ratio in ratios(rows, over).items()
        if (what.width, what.variant) == (width, variant)
    )
    return found


def _runs_per_hour(rows: list[Row], width: int) -> float:
    return median(
        row["runs_per_hour"] for row in rows if (row["width"], row["variant"]) == (width, "bundled")
    )


def main(arguments: list[str] | None = None) -> int:
    blocks = [(path, "speed", table) for path in ("README.md", "docs/performance.md")]
    return render("python docs/speed.py", blocks, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
