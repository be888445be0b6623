"""The loss around tuned hyperparameters: scans of single module types, lines and planes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from paper_repro.config import RunConfig
from paper_repro.errors import ConfigError
from paper_repro.parameterization import MODULES
from paper_repro.search import weights_of

#: A scan is flat where it is this near to its least loss, in nats.
FLAT = 0.02
#: A run is over the cliff where it diverged, or lost this much to the least of its scan, in nats.
CLIFF = 0.5


def scans(runs: pd.DataFrame, start: RunConfig) -> pd.DataFrame:
    """The runs that differ from the start in the learning rate of one module type at most.

    Columns: `width`, `module`, `octaves` of its multiplier, `val_loss` (nats, the mean over seeds,
    infinite where one diverged). The start itself is in every scan, at 0.
    """
    base = start.hyperparameters.module_multipliers
    rows = []
    for _, run in runs.iterrows():
        config = RunConfig.model_validate_json(run["config"])
        known = {"width": config.model.width, "val_loss": run["val_loss"]}
        multipliers = config.hyperparameters.module_multipliers
        others = config.hyperparameters.model_copy(update={"module_multipliers": base})
        if others != start.hyperparameters:
            continue
        moved = {
            (module, quantity): multipliers.get(module, {}).get(quantity, 1.0)
            / base.get(module, {}).get(quantity, 1.0)
            for module in multipliers.keys() | base.keys()
            for quantity in multipliers.get(module, {}).keys() | base.get(module, {}).keys()
        }
        moved = {name: factor for name, factor in moved.items() if factor != 1}
        if not moved:
            rows += [known | {"module": module, "octaves": 0.0} for module in MODULES]
        elif len(moved) == 1 and next(iter(moved))[1] == "lr":
            ((module, _), factor) = next(iter(moved.items()))
            rows.append(known | {"module": module, "octaves": round(math.log2(factor), 6)})
    frame = pd.DataFrame(rows, columns=["width", "module", "octaves", "val_loss"])
    scanned = frame[frame["octaves"] != 0]["module"].unique()
    frame = frame[frame["module"].isin(scanned)]
    return frame.groupby(["width", "module", "octaves"])["val_loss"].mean().reset_index()


def scan_table(found: pd.DataFrame) -> pd.DataFrame:
    """Of each scan: how far it is flat, and where it falls off.

    Columns: `module`, `width`; `best`, the octaves of the least loss; `flat_low` and `flat_high`,
    the outermost octaves with losses within `FLAT` of it; `cliff`, the lowest octaves above them at
    which a run is lost (`CLIFF`), NaN if none is.
    """
    rows = []
    for (module, width), scan in found.groupby(["module", "width"], sort=False):
        least = scan["val_loss"].min()
        flat = scan[scan["val_loss"] <= least + FLAT]["octaves"]
        lost = scan[(scan["val_loss"] > least + CLIFF) & (scan["octaves"] > flat.max())]["octaves"]
        rows.append(
            {
                "module": module,
                "width": width,
                "best": scan["octaves"].iloc[int(scan["val_loss"].argmin())],
                "flat_low": flat.min(),
                "flat_high": flat.max(),
                "cliff": lost.min(),
            }
        )
    table = pd.DataFrame(rows)
    order = list(MODULES)
    return table.sort_values(
        ["module", "width"],
        key=lambda column: column.map(order.index) if column.name == "module" else column,
        ignore_index=True,
    )


def plane(
    runs: pd.DataFrame, start: RunConfig, ends: Sequence[RunConfig], names: Sequence[str]
) -> pd.DataFrame:
    """The runs on the line or plane from the start through the ends.

    Columns: `width`; one weight for each of `names`; `val_loss` (nats, the mean over seeds).

    Raises:
        ConfigError: there are none.
    """
    rows = []
    for _, run in runs.iterrows():
        config = RunConfig.model_validate_json(run["config"])
        weights = weights_of(config, start, ends)
        if weights is not None:
            known = {"width": config.model.width, "val_loss": run["val_loss"]}
            rows.append(known | dict(zip(names, weights, strict=True)))
    if not rows:
        raise ConfigError("no run lies between the tuned hyperparameters")
    found = pd.DataFrame(rows)
    return found.groupby(["width", *names])["val_loss"].mean().reset_index()


def minimum(line: pd.DataFrame, name: str) -> pd.DataFrame:
    """Where the loss along a line is least, for each width: by a parabola through the lowest three.

    Columns: `width`, `weight` (NaN where the least is at an end), `val_loss` of the lowest point.
    """
    rows = []
    for width, some in line.groupby("width"):
        points = some.sort_values(name)
        weights, losses = points[name].to_numpy(), points["val_loss"].to_numpy()
        least, weight = int(np.argmin(losses)), math.nan
        if 0 < least < len(losses) - 1 and np.isfinite(losses[least - 1 : least + 2]).all():
            a, b, _ = np.polyfit(weights[least - 1 : least + 2], losses[least - 1 : least + 2], 2)
            weight = -b / (2 * a)
        rows.append({"width": width, "weight": weight, "val_loss": losses[least]})
    return pd.DataFrame(rows)
