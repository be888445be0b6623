"""How often planned studies would decide: `python -m analysis.power`, before they are trained.

Writes `analysis/results/power.csv` and the table of docs/designs.md. Each simulated study has every
planned sweep at several drifts, with shapes of both families of `analysis.simulation`; verdicts are
those of the pooled method. The noise of a run is taken as 0.014 nats, and up to 0.017 where batches
are large or models deep; at the tuned base it was measured as 0.015 (`seed_variance.csv`). What
curves share is taken as known: to learn it, as studies do, takes eight times as long.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from analysis.load import COMMITTED_RESULTS
from analysis.report import Columns, readable
from analysis.simulation import LEARNT, Design, studies, study
from analysis.transfer import DRIFT_TOLERANCE
from paper_repro.command import command, positive
from paper_repro.files import write_atomically
from paper_repro.parameterization.page import markdown_table
from paper_repro.paths import check_writable, given_path

#: Of each sweep one arm; the first scale is the base.
PLANNED = (
    Design((32, 128, 512), 3, points=6, log_sigma=-4.3, sweep="transfer_width"),
    Design((4, 1, 16, 64), 4, points=6, log_sigma=-4.2, sweep="transfer_depth"),
    Design((4, 1, 16, 64), 3, points=7, log_sigma=-4.1, sweep="transfer_batch"),
    Design((2, 1, 4, 16, 32), 3, points=6, log_sigma=-4.3, sweep="transfer_duration"),
    Design((4, 1, 16, 64), 3, points=8, log_sigma=-4.2, sweep="transfer_steps"),
    Design((32, 128, 256), 3, points=6, log_sigma=-4.3, sweep="transfer_qk_norm"),
    Design((32, 128, 512), 3, points=7, log_sigma=-4.1, sweep="transfer_eps"),
)
SHARED = replace(LEARNT, log_sigma=(-4.2, LEARNT.log_sigma[1]))

#: The least share of simulated sweeps decided rightly, at the outer drifts, of a design to train.
WANTED = 0.8

#: The verdict that is right at a drift.
RIGHT = {drift: "holds" if drift < DRIFT_TOLERANCE else "fails" for drift in (0.0, 0.1, 0.4, 0.5)}


def power(simulated: pd.DataFrame) -> pd.DataFrame:
    """How often the pooled method decides rightly.

    Returns:
        a row a sweep: its number of `scales` and `seeds`, the median half-width of the interval of
        the drift (`half_width`, octaves a doubling), and for each drift the share of simulated
        sweeps with the right verdict (`holds_at_0`, ...).
    """
    pooled = simulated[simulated["method"] == "pooled"]
    rows = []
    for _, some in pooled.groupby("sweep", sort=False):
        first = some.iloc[0]
        design = {name: first[name] for name in ("sweep", "scales", "seeds")}
        half_width = (some["drift_high"] - some["drift_low"]).median() / 2
        shares = {
            f"{verdict}_at_{drift:g}": (at["verdict"] == verdict).mean()
            for drift, verdict in RIGHT.items()
            if len(at := some[np.isclose(some["truth"], drift)])
        }
        rows.append(design | {"half_width": half_width} | shares)
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame) -> str:
    """The table for docs/designs.md."""
    columns: Columns = {
        "sweep": "sweep",
        "scales": "scales",
        "seeds": "seeds",
        "half-width (octaves per doubling)": lambda row: f"{row['half_width']:.2f}",
        **{
            f"{verdict}, drift {drift:g}": partial(_share, name=f"{verdict}_at_{drift:g}")
            for drift, verdict in RIGHT.items()
        },
    }
    return markdown_table(list(columns), readable(table, columns).reset_index().to_numpy().tolist())


def _share(row: pd.Series, name: str) -> str:
    return f"{row[name]:.2f}"


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, write the table, and print it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m analysis.power", description=__doc__)
    parser.add_argument("--studies", type=positive, default=40, help="of each family (default: 40)")
    parser.add_argument(
        "--output", type=given_path, default=COMMITTED_RESULTS / "power.csv", metavar="FILE"
    )
    options = parser.parse_args(arguments)
    check_writable(options.output.parent, "--output")
    planned = partial(study, designs=PLANNED, drifts=tuple(RIGHT), shared=SHARED)
    table = power(studies(options.studies, planned))
    write_atomically(
        options.output, lambda file: table.to_csv(file, index=False, float_format="%.4g")
    )
    print(markdown(table), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
