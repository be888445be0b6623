"""Which verdicts hang on choices of the analysis: `python -m analysis.multiverse`.

Every row of the table of transfer again under other choices that we could have made, one at a time;
writes `analysis/results/multiverse.csv` and prints the table of docs/statistics.md, the verdicts
that change.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.likelihood import WINDOW
from analysis.load import COMMITTED_RESULTS
from analysis.pooled import INFLATION
from analysis.pooled_transfer import (
    INFLATIONS,
    AllShared,
    credible,
    learn_all,
    pooled_arm,
    same_trainings,
)
from analysis.tables import studies_with_results, write_table
from analysis.transfer import (
    ScaleFit,
    ScaleFits,
    Transfer,
    counted_scales,
    drift,
    fit_scale,
    fit_transfer,
    regret,
    verdict,
)
from paper_repro.command import command
from paper_repro.parameterization.page import markdown_table
from paper_repro.paths import check_writable, given_path
from paper_repro.statistics import UNKNOWN, Interval

Estimates = tuple[Interval, Interval]
"""Drift in octaves per doubling, and the regret that is judged, in nats."""


@dataclass(frozen=True)
class Pooled:
    """The pooled estimate under other settings."""

    window: float = WINDOW
    """Octaves around the lowest point within which points are fitted."""
    inflation: float = 1.0
    """Deviations of shapes over those that are reported with."""
    worst: bool = True
    """Whether the regret is judged at the worst scale, or at the largest."""
    without: int | None = None
    """The seed that is left out, by its place."""

    def __call__(self, transfer: Transfer, fits: ScaleFits, shared: AllShared) -> Estimates:
        name = transfer.hyperparameter
        inflation = INFLATIONS[name] * self.inflation
        if self.without is not None:
            fits = {scale: _without(fit.curves, self.without) for scale, fit in fits.items()}
        arm = pooled_arm(fits, transfer.base, shared[name], inflation, self.window)
        if arm is None:
            return UNKNOWN, UNKNOWN
        judged = arm.worst if self.worst else max(arm.draws)
        return credible(arm.drift), credible(arm.regret(judged))


@dataclass(frozen=True)
class BySeed:
    """The plain estimate, with more or fewer points in its parabolas."""

    flat_within: float

    def __call__(self, transfer: Transfer, fits: ScaleFits, _: AllShared) -> Estimates:
        fits = {scale: fit_scale(fit.curves, self.flat_within) for scale, fit in fits.items()}
        largest = max(counted_scales(fits), default=transfer.base)
        return drift(fits), regret(fits, transfer.base, largest)


Choice = Pooled | BySeed

REPORTED = "as reported"
_PLACES = ("first", "second", "third", "fourth", "fifth")
CHOICES: dict[str, Choice] = {
    REPORTED: Pooled(),
    "points within 1 octave": Pooled(window=1.0),
    "points within 3 octaves": Pooled(window=3.0),
    "shapes as varied as learnt": Pooled(inflation=1 / INFLATION),
    "shapes twice as varied as learnt": Pooled(inflation=2 / INFLATION),
    "regret at the largest scale": Pooled(worst=False),
    **{f"without the {name} seed": Pooled(without=place) for place, name in enumerate(_PLACES)},
    "seed by seed, three points": BySeed(0.0),
    "seed by seed, five points": BySeed(math.inf),
}


def multiverse(
    transfers: Mapping[str, Transfer], choices: Mapping[str, Choice] = CHOICES
) -> pd.DataFrame:
    """Every row of the table of transfer under every choice, of which the first is the reported.

    Args:
        transfers: by the name of the study.

    Returns:
        a row an arm that is no copy and a `choice`: `sweep`, `axis`, `hyperparameter`, `label`,
        `drift` and `regret` with intervals, the `verdict`, and whether it is the reported one
        (`same`).
    """
    windows = {choice.window for choice in choices.values() if isinstance(choice, Pooled)}
    shared = {window: learn_all(transfers.values(), window) for window in windows}
    rows = []
    for study, transfer in transfers.items():
        for arm in same_trainings(transfer):
            fits, reported = transfer.arms[arm], ""
            every = len(counted_scales(fits)) == len(fits)
            seeds = min(len(fit.seeds) for fit in fits.values())
            for name, choice in choices.items():
                known = shared[choice.window if isinstance(choice, Pooled) else WINDOW]
                left_out = choice.without if isinstance(choice, Pooled) else None
                if left_out is not None and left_out >= seeds:
                    continue
                slope, cost = choice(transfer, fits, known)
                found = verdict(slope, cost, seeds - (left_out is not None), every)
                reported = reported or found
                rows.append(
                    {
                        "sweep": study,
                        **{"axis": transfer.axis.name, "hyperparameter": transfer.hyperparameter},
                        **{"label": arm.label, "choice": name},
                        **slope.columns("drift"),
                        **cost.columns("regret"),
                        "verdict": found,
                        "same": found == reported,
                    }
                )
    return pd.DataFrame(rows)


def _without(curves: pd.DataFrame, place: int) -> ScaleFit:
    return fit_scale(curves.drop(columns=sorted(curves.columns)[place : place + 1]))


def markdown(table: pd.DataFrame) -> str:
    """The rows whose verdict changes, for docs/statistics.md, and which become their opposite."""
    rows, opposite = [], []
    for (sweep, label), some in table.groupby(["sweep", "label"], sort=False):
        reported = some.loc[some["choice"] == REPORTED, "verdict"].iloc[0]
        others = some[~some["same"]].groupby("verdict", sort=False)["choice"].agg("; ".join)
        if len(others):
            changed = ". ".join(f"*{verdict}*: {choices}" for verdict, choices in others.items())
            rows.append([str(sweep), str(label), str(reported), changed])
            if {str(reported), *others.index} >= {"holds", "fails"} and reported != "not decided":
                opposite.append(f"{sweep}, {label}")
    became = "; ".join(opposite) or "none"
    table_of_changes = markdown_table(["sweep", "arm", "verdict", "under other choices"], rows)
    return f"{table_of_changes}\nFrom *holds* to *fails*, or the other way round: {became}.\n"


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table, and print what changes; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m analysis.multiverse", description=__doc__)
    parser.add_argument(
        "--results-dir", type=given_path, default=COMMITTED_RESULTS, help="default: %(default)s"
    )
    directory = parser.parse_args(arguments).results_dir
    check_writable(directory, "--results-dir")
    transfers = {
        study.name: fit_transfer(study.table_runs(runs), study.axis, study.hyperparameter)
        for study, size, runs in studies_with_results(directory)
        if size == "cpu"
    }
    table = multiverse(transfers)
    write_table(table, directory / "multiverse.csv")
    kept = table.groupby(["sweep", "label"])["same"].all().sum()
    print(markdown(table), end="")
    print(f"\n{kept} verdicts are the same under every choice.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
