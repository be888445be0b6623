"""Intervals in the sentences of the pages, carried over when the tables of results were renewed.

Command: `python docs/renumber.py REVISION`. What a table of that revision says, as `value [low,
high]`, is replaced in the pages by what the same row says now. Where rows that were printed alike
differ by now, the place is named and left as it is. Marked blocks are left to the commands that
render them. To be run once a renewal: what is new may be printed as something else was.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pandas as pd

from analysis.load import COMMITTED_RESULTS
from analysis.report import interval_text
from paper_repro.statistics import Interval

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "analysis/CLAIMS.md", "figures/README.md", "docs/*.md")
_PARTS = re.compile(
    r"<!-- (?P<block>[\w-]+): .*?<!-- /(?P=block) -->|−?\d+\.\d+ \[−?\d+\.\d+, −?\d+\.\d+\]",
    re.DOTALL,
)
"""Marked blocks, which are passed over, and intervals."""

NAMES = (
    *("sweep", "size", "size_min", "data", "source", "peaks", "split", "process", "question"),
    *("quantity", "part", "rung", "arm", "first", "second", "from", "to", "factor", "label"),
    *("axis", "hyperparameter", "parameterization", "alpha", "sde_rule", "schedule"),
    *("scaled_init", "share", "co_scaled", "qk_norm", "eps", "clip", "width", "depth"),
    *("batch_size", "tokens", "scale", "method", "choice", "target", "predicts", "compute_min"),
    *("law", "law_source", "kind", "family", "proposer", "trials", "steps", "model", "boundary"),
    *("regime", "grows", "rule", "cooldown", "batch", "corpus", "tokenizer", "x", "core_hours"),
)
"""The columns that say which row of a table it is; each table has some."""


def replacements(
    old: Mapping[str, pd.DataFrame], new: Mapping[str, pd.DataFrame]
) -> dict[str, set[str]]:
    """From each interval that the old tables can be quoted with to what stands for it now."""
    found: dict[str, set[str]] = defaultdict(set)
    for name in old.keys() & new.keys():
        keys = [key for key in NAMES if key in old[name] and key in new[name]]
        rows = {_name(row, keys): row for _, row in new[name].iterrows()}
        for _, row in old[name].iterrows():
            if (now := rows.get(_name(row, keys))) is None:
                continue
            for column in (column for column in old[name] if f"{column}_low" in row):
                for was, is_now in zip(_texts(row, column), _texts(now, column), strict=True):
                    found[was].add(is_now)
    return found


def _texts(row: pd.Series, column: str) -> Iterator[str]:
    """An interval as pages print it: with one to four digits, and of η* ∝ D^−γ also as −γ."""
    value, low, high = (float(row[column + end]) for end in ("", "_low", "_high"))
    for each in (Interval(value, low, high), Interval(-value, -high, -low)):
        for digits in (1, 2, 3, 4):
            yield interval_text(each, f".{digits}f")


def _name(row: pd.Series, keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(str(row[key]) for key in keys)


def renumbered(text: str, found: Mapping[str, set[str]]) -> tuple[str, list[str]]:
    """The text with its intervals renewed, and a line for each that stands for several now."""
    ambiguous: list[str] = []

    def renewed(match: re.Match[str]) -> str:
        was = match[0]
        candidates = found.get(was, {was})  # of a block, which is no interval: itself
        if len(candidates) == 1:
            return next(iter(candidates))
        line = text.count("\n", 0, match.start()) + 1
        ambiguous.append(f"{line}: {was} is {' or '.join(sorted(candidates))}")
        return was

    return _PARTS.sub(renewed, text), ambiguous


def _tables_at(revision: str) -> Iterator[tuple[str, pd.DataFrame]]:
    for path in COMMITTED_RESULTS.glob("*.csv"):
        place = f"{revision}:{path.relative_to(ROOT).as_posix()}"
        shown = subprocess.run(["git", "show", place], cwd=ROOT, capture_output=True)
        if not shown.returncode:  # else there was none yet
            yield path.name, pd.read_csv(io.BytesIO(shown.stdout))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python docs/renumber.py", description=__doc__)
    parser.add_argument("revision", help="whose tables the pages quote, such as HEAD")
    revision = parser.parse_args(arguments).revision
    if not (old := dict(_tables_at(revision))):
        parser.error(f"{revision}: no tables there")
    found = replacements(old, {name: pd.read_csv(COMMITTED_RESULTS / name) for name in old})
    for path in sorted(path for pattern in PAGES for path in ROOT.glob(pattern)):
        before = path.read_text("utf-8")
        after, ambiguous = renumbered(before, found)
        if after != before:
            path.write_text(after, "utf-8")
            print(f"{path.relative_to(ROOT)}: renewed")
        for line in ambiguous:
            print(f"{path.relative_to(ROOT)}:{line}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
