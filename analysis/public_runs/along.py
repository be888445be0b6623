"""Laws of the loss along a schedule on public runs.

Of lr-scheduling, the 124M runs on SlimPajama whose form of decay is known: the final validation
losses of cosine and WSD at several peaks, shares and durations. Of MultiPowerLaw, whole curves:
laws know the three that its authors fitted, or all but the longest, and are judged on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.public_runs.cells import DIVERGED
from analysis.schedule_laws.curves import Curve, Floats, Schedule
from analysis.schedule_laws.laws import LAWS
from analysis.schedule_laws.measures import RESAMPLES
from analysis.schedule_laws.splits import Part, predict
from analysis.schedule_laws.tables import laws_table
from paper_repro.config import TrainConfig
from paper_repro.schedules import lr_scale
from paper_repro.statistics import CONFIDENCE, Interval

MODEL = "124M, slimpajama"
#: Steps of warm-up of all runs of the two repositories.
WARMUP, WARMUP_CURVES = 300, 2160
#: The curves that arXiv 2503.12811 fits.
FITTED = ("constant_24000", "cosine_24000", "wsdcon_9")
#: Points of a curve that are used, evenly spaced.
POINTS = 60


def read_ends(runs: pd.DataFrame) -> list[Curve]:
    """Curves of one point, from `analysis.public_runs.sources.read_schedules`."""
    used = runs[(runs["model"] == MODEL) & (runs["cooldown"] != "unknown")]
    used = used.assign(above=used["loss"] - used.groupby("steps")["loss"].transform("min"))
    found = []
    records: list[dict[str, Any]] = used.to_dict("records")  # type: ignore[assignment]
    for row in records:
        family = f"{row['schedule']} {row['cooldown']}"
        end = np.array([row["loss"]])
        found.append(
            Curve(
                name=f"{family} {row['share']:g} {row['lr']:g}",
                family=family,
                size=124e6,
                schedule=_schedule(row),
                at=np.array([row["steps"]]),
                losses=end,
                ends=end,
                diverged=row["above"] >= DIVERGED,
            )
        )
    return found


def _schedule(row: dict[str, Any]) -> Schedule:
    steps, wsd = int(row["steps"]), row["schedule"] == "wsd"
    train = TrainConfig(
        schedule="wsd" if wsd else "cosine",
        warmup_fraction=WARMUP / steps,
        final_fraction=0.1 if row["cooldown"] == "to 0.1" else 0.0,
        decay_fraction=float(row["share"]),
        decay_shape="sqrt" if row["cooldown"] == "sqrt" else "linear",
    )
    scales = np.array([lr_scale(train, step, steps) for step in range(steps)])
    return Schedule(float(row["lr"]) * scales, WARMUP)


def ends_table(runs: pd.DataFrame) -> pd.DataFrame:
    """The laws on lr-scheduling, as `analysis.schedule_laws.tables.laws_table`."""
    table = laws_table(read_ends(runs), ("schedule", "family", "duration"))
    table.insert(0, "data", "lr-scheduling")
    return table


def read_whole(curves: pd.DataFrame) -> list[Curve]:
    """From `analysis.public_runs.sources.read_curves`, thinned to `POINTS` points each."""
    found = []
    for (model, name), rows in curves.groupby(["model", "schedule"]):
        steps = int(rows["step"].max())
        rates = np.interp(np.arange(1, steps + 1), rows["step"], rows["lr"])
        rates[:WARMUP_CURVES] = rates[WARMUP_CURVES] * np.arange(1, WARMUP_CURVES + 1)
        rates[:WARMUP_CURVES] /= WARMUP_CURVES
        thin = rows.iloc[np.linspace(0, len(rows) - 1, POINTS).round().astype(int)]
        found.append(
            Curve(
                name=str(name),
                family=str(name).partition("_")[0],
                size=float(str(model)) * 1e6,
                schedule=Schedule(rates, WARMUP_CURVES),
                at=thin["step"].to_numpy(dtype=np.int64),
                losses=thin["loss"].to_numpy(dtype=float),
                ends=thin["loss"].to_numpy(dtype=float)[-1:],
            )
        )
    return found


def whole_table(curves: pd.DataFrame) -> pd.DataFrame:
    """The laws on MultiPowerLaw: `error`, the mean relative error over whole held-out curves.

    Columns as of `laws_table`; with two to six curves to choose from, nothing is said of choices.
    """
    whole = read_whole(curves)
    longest = max(curve.steps for curve in whole)
    splits: dict[str, Callable[[Curve], bool]] = {
        "authors": lambda curve: curve.name in FITTED,
        "duration": lambda curve: curve.steps < longest / 2,
    }
    rows = []
    for split, is_known in splits.items():
        for name, law in LAWS.items():
            if name in ("Opt-Laws-style", "no law"):  # of ends alone
                continue
            errors = []
            for size in sorted({curve.size for curve in whole}):
                some = [curve for curve in whole if curve.size == size]
                known = [curve for curve in some if is_known(curve)]
                targets = [curve for curve in some if not is_known(curve)]
                said = predict(law.fit, Part(known, targets))
                errors += [float(np.abs(p.losses / p.curve.losses - 1).mean()) for p in said]
            place = {"data": "MultiPowerLaw", "split": split, "law": name}
            place |= {"law_source": law.source}
            counts = {"targets": len({curve.size for curve in whole})}
            rows.append(
                place | counts | {"schedules": len(errors)} | _mean(errors).columns("error")
            )
    return pd.DataFrame(rows).sort_values(["split", "error"], ignore_index=True)


def _mean(errors: Sequence[float]) -> Interval:
    """With the percentiles of a bootstrap that draws curves."""
    values: Floats = np.array(errors)
    rows = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(values[rows].mean(axis=1), [tail, 100 - tail])
    return Interval(float(values.mean()), float(low), float(high))
