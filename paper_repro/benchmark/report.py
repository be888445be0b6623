"""What was measured, as ratios over the plain loop, and beside what was measured before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from rich.table import Table

from paper_repro.benchmark.measure import RUN_TOKENS, Variant
from paper_repro.errors import ConfigError
from paper_repro.files import read_json

VARIANTS: dict[Variant, str] = {
    "bundled": "this suite, as it trains a study",
    "single": "this suite, one run at a time",
    "compiled plain": "the plain loop, compiled, as a fork of nanoGPT runs it",
    "plain": "a plain loop: nn.Module, torch.optim.AdamW, eager",
}
COLUMNS = {
    "width": "{width}",
    "depth": "{depth}",
    "variant": "{variant}",
    "over plain": "{over_plain}",
    "tokens/s": "{tokens_per_s:,.0f}",
    "runs/hour": "{runs_per_hour:,.0f}",
    "params": "{parameters:,}",
    "FLOPs/token": "{flops_per_token:.2g}",
    "MFU": "{mfu:.0%}",
    "memory": "{mebibytes:,.0f} MiB",
    "how": "{how}, {dtype}{compilation}",
}
SLOWER = 0.9
"""A ratio over the plain loop below so much of an earlier one is told."""

Row = Mapping[str, Any]
"""A measurement (`paper_repro.benchmark.measure.measure`), and its `alternation`, from 0."""
Entry = Mapping[str, Any]
"""What one invocation measured: the code, the versions, the peaks and the `rows`."""


class What(NamedTuple):
    """What is measured."""

    width: int
    depth: int
    variant: str
    dtype: str


class Ratio(NamedTuple):
    """Tokens a second over those of another variant in the same alternation."""

    middle: float
    low: float
    high: float

    def __str__(self) -> str:
        spread = f" [{self.low:.2f}, {self.high:.2f}]" if self.low < self.high else ""
        return f"{self.middle:.2f}×{spread}"


def ratios(rows: Sequence[Row], over: Variant = "plain") -> dict[What, Ratio]:
    """Median and range over the alternations, of what has the other variant beside it."""
    other = {_place(row): row["tokens_per_s"] for row in rows if row["variant"] == over}
    found: dict[What, list[float]] = defaultdict(list)
    for row in rows:
        if _place(row) in other:
            found[_what(row)].append(row["tokens_per_s"] / other[_place(row)])
    return {what: Ratio(median(all_), min(all_), max(all_)) for what, all_ in found.items()}


def table(rows: Sequence[Row], peaks: Mapping[str, float]) -> Table:
    """A row for each that was measured, its ratio over the plain loop first; medians."""
    result = Table(
        title=f"{rows[0]['device']}; runs of {RUN_TOKENS:,} tokens\nTFLOP/s at "
        f"most: {', '.join(f'{dtype} {peak / 1e12:.3g}' for dtype, peak in peaks.items())}",
        box=None,
        header_style="bold",
    )
    for heading in COLUMNS:
        result.add_column(heading, justify="left" if heading in ("variant", "how") else "right")
    same: dict[What, list[Row]] = defaultdict(list)
    for row in rows:
        same[_what(row)].append(row)
    over_plain = ratios(rows)
    for what, some in same.items():
        first = some[0]
        how = f"{first['workers']} × {first['threads']} thread{'s' * (first['threads'] > 1)}"
        speeds = {
            name: median(row[name] for row in some)
            for name in ("tokens_per_s", "runs_per_hour", "mfu")
        }
        derived = {
            "over_plain": str(over_plain.get(what, "–")),
            "mebibytes": first["peak_bytes"] / 2**20,
            "how": how if first["runs_at_once"] == 1 else f"{first['runs_at_once']} runs at once",
            "compilation": ", compiled" * first["compiled"],
        }
        result.add_row(
            *(form.format(**{**first, **speeds, **derived}) for form in COLUMNS.values())
        )
    return result


def read_history(path: Path) -> list[Entry]:
    """What earlier invocations kept in a file, the latest last; none if there is no file.

    Raises:
        ConfigError: it is another file.
    """
    if not path.exists():
        return []
    history = (read_json(path) or {}).get("history")
    if not isinstance(history, list):
        raise ConfigError(f"{path}: expected a file of the benchmark's, with the key history")
    return history


def slower(history: Sequence[Entry], rows: Sequence[Row]) -> list[str]:
    """What is slower, over the plain loop, than the latest entry of the same device has it."""
    earlier = [entry for entry in history if entry["rows"][0]["device"] == rows[0]["device"]]
    if not earlier:
        return []
    before, now = ratios(earlier[-1]["rows"]), ratios(rows)
    return [
        f"{what.variant}, width {what.width}, {what.dtype}: {before[what]} at "
        f"{earlier[-1]['git_revision'][:7]}, {now[what]} now"
        for what in now
        if what in before and now[what].middle < SLOWER * before[what].middle
    ]


def _what(row: Row) -> What:
    return What(row["width"], row["depth"], row["variant"], row["dtype"])


def _place(row: Row) -> tuple[int, int, int]:
    return row["width"], row["depth"], row.get("alternation", 0)
