"""The tables of results in the pages, from the committed tables of `analysis/results`.

Command: `python docs/results.py`, after `python -m analysis.tables` and the other commands that
make these tables, rewrites the marked blocks in place; with `--check` it only says whether they are
out of date.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd

from analysis import assurance, multiverse, optimum_laws, power, simulation, tables
from analysis.load import COMMITTED_RESULTS, load_results
from analysis.report import readable
from analysis.studies import FIRST_GUESSES
from analysis.transfer_check import checked_axes, verdicts
from figures.transfer_check import COLUMNS
from paper_repro.parameterization.page import markdown_table, render


def _of(name: str, text: Callable[[pd.DataFrame], str]) -> str:
    return text(tables.read_table(COMMITTED_RESULTS, name))


def llama() -> str:
    """The verdicts on another family's model."""
    runs = load_results(COMMITTED_RESULTS / "transfer_check.parquet").runs
    table = readable(verdicts(checked_axes(runs)), COLUMNS)
    return markdown_table(list(COLUMNS), table.reset_index().to_numpy().tolist())


#: Page, block, and what is in it.
BLOCKS = (
    (
        "analysis/CLAIMS.md",
        "transfer",
        partial(_of, "transfer_table", partial(tables.markdown, base="tuned")),
    ),
    (
        "analysis/CLAIMS.md",
        "transfer-first-guesses",
        partial(_of, "transfer_table", partial(tables.markdown, base=FIRST_GUESSES)),
    ),
    ("docs/designs.md", "power", partial(_of, "power", power.markdown)),
    ("docs/optimum_laws.md", "costs", partial(_of, "optimum_laws", optimum_laws.markdown)),
    ("docs/statistics.md", "simulation", partial(_of, "simulation", simulation.markdown)),
    ("docs/statistics.md", "assurance", partial(_of, "assurance", assurance.markdown)),
    ("docs/statistics.md", "multiverse", partial(_of, "multiverse", multiverse.markdown)),
    ("docs/transfer_check.md", "llama", llama),
)


def main(arguments: list[str] | None = None) -> int:
    return render("python docs/results.py", BLOCKS, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
