"""`python -m analysis.sde`: AdamW's steps beside its SDE, on a quadratic and on the small GPT.

Prints the committed table; `--commit` simulates it again, which takes minutes. What was decided
beforehand, and what came out, is in docs/sde.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import pandas as pd
from rich.console import Console

from analysis.load import COMMITTED_RESULTS
from analysis.report import print_tables, readable
from analysis.sde.experiments import READABLE, quadratic_table
from analysis.sde.trained import trained_table
from analysis.tables import read_shared, read_table, write_table
from paper_repro.command import command


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, or make it again; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.sde",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--commit", action="store_true", help="simulate, and replace analysis/results/sde.csv"
    )
    options = parser.parse_args(arguments)
    if options.commit:
        trained = trained_table(COMMITTED_RESULTS, read_shared(COMMITTED_RESULTS))
        table = pd.concat([quadratic_table(), trained], ignore_index=True)
        path = COMMITTED_RESULTS / "sde.csv"
        write_table(table, path)
        print(f"wrote {path}", file=sys.stderr)
    table = read_table(COMMITTED_RESULTS, "sde")
    shown = table[table["question"] != "curve"]
    console = Console(width=None if sys.stdout.isatty() else 140)
    print_tables(console, {"AdamW and its SDE": readable(shown, READABLE, names=4)})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
