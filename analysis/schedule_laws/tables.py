"""How the laws do on held-out trainings, as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.load import Results
from analysis.schedule_laws.curves import Curve
from analysis.schedule_laws.laws import LAWS
from analysis.schedule_laws.measures import Judgement, Target, f1, f1_interval, judge
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
    """One row a split and law, by error within a split.

    Columns: `split`; `law`, `law_source` (arXiv ids); `targets`, the sizes and durations that are
    judged, `schedules` of the smallest of them, and `seeds`; the measures of
    `analysis.schedule_laws.measures` with their intervals; `verdict`, whether `top2` is that which
    Opt-Laws reports. The row `another seed` says what a second training of the same schedules says
    of the first, and the reverse.
    """
    rows: list[dict[str, Any]] = []
    usable = [curve for curve in curves if not curve.diverged]
    for split in splits:
        made = list(parts(usable, split))
        for name, law in LAWS.items():
            predictions = [each for part in made for each in predict(law.fit, part)]
            if predictions:
                targets = targets_of(predictions)
                place = {"split": split, "law": name, "law_source": law.source}
                rows.append(place | _row(targets, judge(targets)))
    if all(len(curve.ends) > 1 for curve in usable):
        targets = other_seed(usable)
        place = {"split": "none", "law": "another seed", "law_source": ""}
        rows.append(place | _row(targets, judge(targets)))
    return pd.DataFrame(rows).sort_values(["split", "error"], ignore_index=True)


def _row(targets: Sequence[Target], judged: Judgement) -> dict[str, Any]:
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
    """F1 of models of divergence, probes included: one row a split and model.

    Columns: `split`; `law`: `Opt-Laws-style`, or `peak alone`, a threshold on the largest rate that
    is best where known; `targets` that are judged and `diverged` of them; `f1` with its interval;
    `verdict`, whether that is what Opt-Laws reports.
    """
    rows = []
    for split in SPLITS:
        made = list(parts(curves, split))
        happened = [curve.diverged for part in made for curve in part.targets]
        for name, fit in {"Opt-Laws-style": _logistic, "peak alone": _threshold}.items():
            said = []
            for part in made:
                diverges = fit(part.known)
                said += [diverges(curve) for curve in part.targets]
            interval = f1_interval(said, happened)
            counts = {"targets": len(happened), "diverged": sum(happened)}
            row = {"split": split, "law": name, **counts, **interval.columns("f1")}
            rows.append(row | {"verdict": verdict(interval, REPORTED["f1"])})
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
