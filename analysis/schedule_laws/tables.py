"""How the laws do on held-out trainings, as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.load import Results
from analysis.schedule_laws.curves import Curve
from analysis.schedule_laws.laws import LAWS
from analysis.schedule_laws.measures import Target, f1, f1_interval, judge
from analysis.schedule_laws.opt_laws import fit_divergence
from analysis.schedule_laws.runs import read_runs, without_probes
from analysis.schedule_laws.splits import SPLITS, Prediction, Split, parts, predict
from paper_repro.statistics import Interval

Verdict = Literal["reaches", "below", "not decided"]

#: What Opt-Laws reports of itself at its own sizes, arXiv 2409.04777.
REPORTED = {"top2": 0.94, "family": 1.0, "f1": 0.92}


def verdict(interval: Interval, reported: float) -> Verdict:
    """Whether a share is that which is reported: by its interval, or above it."""
    if interval.high < reported:
        return "below"
    return "reaches" if interval.low >= reported else "not decided"


def laws_table(curves: Sequence[Curve], splits: Sequence[Split] = SPLITS) -> pd.DataFrame:
    """One row a split and law, least error first within a split.

    Columns: `peaks`: `all` fitted and judged together, or each by itself, for that is what two of
    the laws are made for; `split`; `law`, `law_source` (arXiv ids); `targets`, the sizes and
    durations (and peaks) that are judged, `schedules` of the smallest of them, and `seeds`; the
    measures of `analysis.schedule_laws.measures` with their intervals; `verdict`, whether `top2` is
    that which Opt-Laws reports. The row `another seed` says what a second training of the same
    schedules says of the first, and the reverse.
    """
    rows: list[dict[str, Any]] = []
    usable = [curve for curve in curves if not curve.diverged]
    for peaks, groups in {"all": [usable], "one": by_peak(usable)}.items():
        for split in splits:
            made = [list(parts(group, split)) for group in groups]
            for name, law in LAWS.items():
                targets = []
                for of_group in made:
                    said = [each for part in of_group for each in predict(law.fit, part)]
                    targets += targets_of(said)
                if targets:
                    place = {"peaks": peaks, "split": split, "law": name, "law_source": law.source}
                    rows.append(place | _row(targets))
        if all(len(curve.ends) > 1 for curve in usable):
            targets = [target for group in groups for target in other_seed(group)]
            place = {"peaks": peaks, "split": "none", "law": "another seed", "law_source": ""}
            rows.append(place | _row(targets))
    return pd.DataFrame(rows).sort_values(["peaks", "split", "error"], ignore_index=True)


def by_peak(curves: Sequence[Curve]) -> list[list[Curve]]:
    """The curves of each largest rate."""
    peaks = sorted({curve.schedule.peak for curve in curves})
    return [[curve for curve in curves if curve.schedule.peak == peak] for peak in peaks]


def _row(targets: Sequence[Target]) -> dict[str, Any]:
    judged = judge(targets)
    counts = {
        "targets": len(targets),
        "schedules": min(len(target.predicted) for target in targets),
        "seeds": min(target.losses.shape[1] for target in targets),
    }
    return counts | judged.columns() | {"verdict": verdict(judged.top2, REPORTED["top2"])}


def targets_of(predictions: Sequence[Prediction]) -> list[Target]:
    """The predictions of each size and duration, whatever fit they are of."""
    found = []
    for cell in sorted({each.curve.cell for each in predictions}):
        some = [each for each in predictions if each.curve.cell == cell]
        found.append(
            Target(
                np.array([each.losses[-1] for each in some]),
                np.array([each.curve.ends for each in some]),
                tuple(each.curve.family for each in some),
            )
        )
    return found


def other_seed(curves: Sequence[Curve]) -> list[Target]:
    """Each of the first two seeds as the prediction of the other."""
    found = []
    for cell in sorted({curve.cell for curve in curves}):
        some = [curve for curve in curves if curve.cell == cell]
        families = tuple(curve.family for curve in some)
        ends = np.array([curve.ends for curve in some])
        found += [Target(ends[:, said], ends[:, [1 - said]], families) for said in (0, 1)]
    return found


def divergence_table(curves: Sequence[Curve]) -> pd.DataFrame:
    """F1 of models of divergence, probes included: one row a split, set of peaks and model.

    Columns: `split`; `peaks`: `all`, or `mixed`, those at which some of the targets diverged and
    others did not, so that no threshold on the peak is right of all; `law`: `Opt-Laws-style`, or
    `peak alone`, a threshold on the largest rate that is best where known; `targets` that are
    judged and `diverged` of them; `f1` with its interval; `verdict`, whether that is what Opt-Laws
    reports.
    """
    rows = []
    for split in SPLITS:
        made = list(parts(curves, split))
        targets = [curve for part in made for curve in part.targets]
        happened = np.array([curve.diverged for curve in targets], dtype=bool)
        peaks = np.array([curve.schedule.peak for curve in targets])
        mixed = np.isin(peaks, np.intersect1d(peaks[happened], peaks[~happened]))
        for name, fit in {"Opt-Laws-style": _logistic, "peak alone": _threshold}.items():
            said = []
            for part in made:
                diverges = fit(part.known)
                said += [diverges(curve) for curve in part.targets]
            for which, judged in {"all": np.full(len(targets), True), "mixed": mixed}.items():
                if not judged.any():
                    continue
                interval = f1_interval(np.array(said)[judged], happened[judged])
                counts = {"targets": int(judged.sum()), "diverged": int(happened[judged].sum())}
                row = {"split": split, "peaks": which, "law": name, **counts}
                row |= interval.columns("f1") | {"verdict": verdict(interval, REPORTED["f1"])}
                rows.append(row)
    return pd.DataFrame(rows)


def _logistic(known: Sequence[Curve]) -> Callable[[Curve], bool]:
    model = fit_divergence(known, [curve.diverged for curve in known])
    return lambda curve: model.probability(curve.schedule) > 0.5


def _threshold(known: Sequence[Curve]) -> Callable[[Curve], bool]:
    peaks = sorted({curve.schedule.peak for curve in known})
    middles = np.sqrt(np.multiply(peaks[:-1], peaks[1:]))
    happened = [curve.diverged for curve in known]

    def of_known(limit: float) -> float:
        return f1([curve.schedule.peak > limit for curve in known], happened)

    limit = float(max(middles, key=of_known))
    return lambda curve: curve.schedule.peak > limit


def our_tables(results: Results) -> dict[str, pd.DataFrame]:
    """The tables of our own runs by the name of their file."""
    curves = read_runs(results)
    return {
        "schedule_laws": laws_table(without_probes(curves)),
        "schedule_divergence": divergence_table(curves),
    }
