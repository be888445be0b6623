"""`python -m analysis.optimum_laws`: which recipe costs least at targets that nobody has tuned?

Prints the committed table for its page; `python -m analysis.tables` makes it.

The laws are `paper_repro.optimum_laws`; what was decided beforehand is in docs/optimum_laws.md. On
our own runs a law of one rate is tried on the trainings of SP, and a parameterisation, under which
the stated rate stays, on its own. The rows of public grids are those of `analysis.public_runs`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.arms import ALL_BUT_DECAY, LR, LR_AND_DECAY, WHOLE_RULE, Arm
from analysis.likelihood import Floats
from analysis.load import COMMITTED_RESULTS
from analysis.pooled import Draws
from analysis.pooled_transfer import (
    INFLATIONS,
    AllShared,
    PooledArm,
    credible,
    pooled_arm,
    same_trainings,
    share_within,
)
from analysis.public_runs.regret import regret_verdict
from analysis.report import format_interval
from analysis.transfer import REGRET_TOLERANCE, Transfer
from paper_repro.command import command
from paper_repro.config import RunConfig
from paper_repro.cost import matrix_parameters
from paper_repro.optimum_laws import RATE_LAWS, Law, Shape
from paper_repro.parameterization.page import markdown_table
from paper_repro.paths import given_path

#: The trainings with one learning rate, on which laws of one rate are tried.
ONE_RATE = Arm("sp")
#: The parameterisations under which the rate as stated at the base stays, with their sources.
RULES = {
    WHOLE_RULE: "2512.22382",
    Arm("complete_d", 0.5): "2512.22382",
    LR_AND_DECAY: "2512.22382",
    ALL_BUT_DECAY: "2512.22382",
    Arm("completep"): "2505.01618",
    Arm("completep", 0.5): "2505.01618",
    Arm("mup"): "2203.03466",
}
#: The studies whose farthest targets are taken together.
SWEEPS = ("lr_width", "lr_depth", "lr_batch", "lr_duration", "iso_steps")
TOGETHER = "all axes"

#: The columns of the table; see `analysis/results/README.md`.
COLUMNS = (
    *("data", "target", "predicts", "size_min", "size_max", "compute_min", "compute_max"),
    *("law", "law_source", "kind", "targets", "groups", "cost", "cost_low", "cost_high"),
    *("more", "more_low", "more_high", "regret", "regret_low", "regret_high"),
    *("verdict", "over", "off", "outside"),
)


class Tried(NamedTuple):
    """A recipe at a target, by draw (draws,)."""

    name: str
    source: str
    kind: str
    cost: Floats
    """Nats above the least loss of any arm at the target."""
    regret: Floats
    """Nats above the least loss of the same trainings."""
    off: Floats
    """Octaves by which the predicted rate is too high."""
    outside: float
    """The share of draws in which it is outside the grid of the target."""


class Target(NamedTuple):
    """A target of a study with all recipes tried there."""

    name: str
    size: float
    compute: float
    """Over the base's."""
    tried: Sequence[Tried]


def study_targets(sweep: str, transfer: Transfer, shared: AllShared) -> list[Target]:
    """The targets of a study, the farthest first."""
    arms: dict[Arm, PooledArm] = {}
    for first, others in same_trainings(transfer).items():
        wanted = {first, *others} & {ONE_RATE, *RULES}
        fits = transfer.arms[first]
        if wanted and (pooled := pooled_arm(fits, transfer.base, shared[LR], INFLATIONS[LR])):
            arms |= dict.fromkeys(wanted, pooled)
    shapes = _shapes(transfer)
    base = shapes[transfer.base]
    found = []
    for scale in sorted((each for each in shapes if each > transfer.base), reverse=True):
        tried = list(_tried_at(scale, arms, shapes))
        if tried:
            size, compute = shapes[scale].size, shapes[scale].compute / base.compute
            name = f"{transfer.axis.label} {transfer.axis.text(scale)}"
            found.append(Target(name, size, compute, tried))
    return found


def _shapes(transfer: Transfer) -> dict[int, Shape]:
    """What laws depend on, at each scale."""
    scales = transfer.runs.drop_duplicates(transfer.axis.column)
    found = {}
    for scale, text in zip(scales[transfer.axis.column], scales["config"], strict=True):
        config = RunConfig.model_validate_json(text)
        model = config.model
        found[int(scale)] = Shape(
            size=matrix_parameters(model),
            width=model.width,
            depth=model.depth,
            tokens=config.train.tokens,
            batch=config.tokens_per_step,
        )
    return found


def _tried_at(
    scale: int, arms: Mapping[Arm, PooledArm], shapes: Mapping[int, Shape]
) -> Iterator[Tried]:
    there = {arm: pooled.draws[scale] for arm, pooled in arms.items() if scale in pooled.draws}
    if not there:
        return
    least = min((each.loss for each in there.values()), key=np.median)
    for arm, source in RULES.items():
        if arm in there:
            stays = arms[arm].draws[arms[arm].base].optimum
            yield _tried(arm.label, source, "rule", stays, there[arm], least)
    if ONE_RATE not in there:
        return
    pooled, target = arms[ONE_RATE], there[ONE_RATE]
    best, base = pooled.draws[pooled.base].optimum, shapes[pooled.base]
    for law in RATE_LAWS:
        if law.factor is not None:
            value = np.full_like(best, math.log2(law.at(shapes[scale])))
            yield _tried(law.name, law.source, "absolute", value, target, least)
        carried = best + math.log2(law.carried(1.0, base, shapes[scale]))
        yield _tried(_exponents(law), law.source, "transfer", carried, target, least)
    seen = {each: draws.optimum for each, draws in pooled.draws.items() if each < scale}
    if len(seen) >= 2:
        yield _tried("line, ours", "ours", "fitted", _line(seen, scale), target, least)


def _exponents(law: Law) -> str:
    return law.name if law.factor is None else f"{law.name}, exponents"


def _line(optima: Mapping[int, Floats], scale: int) -> Floats:
    """Optima on a straight line over log2 of the scale, by least squares, at another (draws,)."""
    octaves = np.log2(list(optima))
    values = np.stack(list(optima.values()))
    centred = octaves - octaves.mean()
    slope = centred @ values / (centred**2).sum()
    line: Floats = values.mean(axis=0) + slope * (math.log2(scale) - octaves.mean())
    return line


def _tried(name: str, source: str, kind: str, log2: Floats, target: Draws, least: Floats) -> Tried:
    regret = target.excess(log2)
    measured, _ = target.curve.measured
    beyond = np.maximum(measured[0] - log2, log2 - measured[-1])
    outside = 1 - share_within(beyond, 0.0)
    cost = regret + target.loss - least
    return Tried(name, source, kind, cost, regret, log2 - target.optimum, outside)


def rows_of(sweep: str, targets: Sequence[Target]) -> Iterator[dict[str, object]]:
    """The rows of a study, least cost first within a target."""
    for target in targets:
        place = {
            "data": sweep,
            "target": target.name,
            **dict.fromkeys(("size_min", "size_max"), target.size),
            **dict.fromkeys(("compute_min", "compute_max"), target.compute),
        }
        yield from _ranked(place, target.tried, targets=1)


def together(farthest: Sequence[Target]) -> Iterator[dict[str, object]]:
    """The rows of the means over targets, of the recipes that all of them have."""
    by_name = [{each.name: each for each in target.tried} for target in farthest]
    everywhere = [name for name in by_name[0] if all(name in known for known in by_name)]
    means = [_mean([known[name] for known in by_name]) for name in everywhere]
    sizes, computes = ([getattr(t, of) for t in farthest] for of in ("size", "compute"))
    place = {
        "data": "ours",
        "target": TOGETHER,
        "size_min": min(sizes),
        "size_max": max(sizes),
        "compute_min": min(computes),
        "compute_max": max(computes),
    }
    yield from _ranked(place, means, targets=len(farthest))


def _mean(tried: Sequence[Tried]) -> Tried:
    return tried[0]._replace(
        cost=np.mean([each.cost for each in tried], axis=0),
        regret=np.mean([each.regret for each in tried], axis=0),
        off=np.mean([each.off for each in tried], axis=0),
        outside=float(np.mean([each.outside for each in tried])),
    )


def _ranked(
    place: Mapping[str, object], tried: Sequence[Tried], targets: int
) -> Iterator[dict[str, object]]:
    # What differs by less than rounding stays in its order: the same rows on every machine.
    ranked = sorted(tried, key=lambda each: round(float(np.median(each.cost)), 4))
    for each in ranked:
        cost = credible(each.cost)
        yield {
            **place,
            "predicts": "rate",
            "law": each.name,
            "law_source": each.source,
            "kind": each.kind,
            "targets": targets,
            "groups": targets,
            **cost.columns("cost"),
            **credible(each.cost - ranked[0].cost).columns("more"),
            **credible(each.regret).columns("regret"),
            "verdict": regret_verdict(cost),
            "over": 1 - share_within(each.cost, REGRET_TOLERANCE),
            "off": float(np.median(each.off)),
            "outside": each.outside,
        }


def optimum_laws(transfers: Mapping[str, Transfer], shared: AllShared) -> pd.DataFrame:
    """The table of our own runs: the farthest targets together, then each study's.

    Args:
        transfers: of the sweeps `SWEEPS`, as many as there are.
    """
    found = {
        sweep: study_targets(sweep, transfers[sweep], shared)
        for sweep in SWEEPS
        if sweep in transfers
    }
    found = {sweep: targets for sweep, targets in found.items() if targets}
    rows = list(together([targets[0] for targets in found.values()])) if len(found) > 1 else []
    for sweep, targets in found.items():
        rows += rows_of(sweep, targets)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def public_rows(laws: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """The rows of public grids, in the columns of the table.

    Args:
        laws: `public_runs_laws.csv`, whose regret is the cost.
        cells: `public_runs_cells.csv`, for the sizes of a grid.
    """
    sizes = cells.groupby("data")["size"].agg(["min", "max"])
    compute = laws["compute_min"].map("{:g}".format)
    beyond = np.isinf(laws["compute_max"])
    upper = laws["compute_max"].map("{:g}".format)
    costs = {f"cost{end}": laws[f"regret{end}"] for end in ("", "_low", "_high")}
    return laws.assign(
        **costs,
        target=("compute over " + compute + " ×").where(beyond, compute + " to " + upper + " ×"),
        size_min=laws["data"].map(sizes["min"]),
        size_max=laws["data"].map(sizes["max"]),
        targets=laws["cells"],
    )[list(COLUMNS)]


def with_public(own: pd.DataFrame, results_dir: Path) -> pd.DataFrame:
    """Our rows after those of the public grids, where these are in the folder."""
    names = ("public_runs_laws", "public_runs_cells")
    paths = [results_dir / f"{name}.csv" for name in names]
    if not all(path.exists() for path in paths):
        return own
    laws, cells = map(_read, paths)
    return pd.concat([public_rows(laws, cells), own], ignore_index=True)


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


#: The columns of the first table of the page: data and target.
_FARTHEST = {
    "dense, 215M to 1.07B": ("steplaw", "compute over 16 ×"),
    "mixtures of experts, 0.19B to 1.24B": ("steplaw_moe", "compute over 16 ×"),
    "ours, all axes": ("ours", TOGETHER),
}
_KINDS = ("fitted", "rule", "transfer", "absolute")


def markdown(table: pd.DataFrame) -> str:
    """Two tables for the page: the farthest targets of all data, and those of each of our studies.

    Costs in nats; ≥ where a tenth or more of the predictions are outside the grid.
    """
    rates = table[table["predicts"] == "rate"]
    farthest = {
        title: rates[(rates["data"] == data) & (rates["target"] == target)]
        for title, (data, target) in _FARTHEST.items()
    }
    own = {}
    for sweep in SWEEPS:
        rows = rates[rates["data"] == sweep]
        first = rows[rows["target"] == rows["target"].iloc[0]] if len(rows) else rows
        if len(first):
            own[str(first["target"].iloc[0])] = first
    return "\n".join(_costs(columns) for columns in (farthest, own))


def _costs(columns: Mapping[str, pd.DataFrame]) -> str:
    """A row a recipe, by kind; the least cost of each column in bold."""
    recipes = pd.concat(columns.values()).drop_duplicates("law").set_index("law")["kind"]
    order = sorted(recipes.index, key=lambda law: _KINDS.index(recipes[law]))
    rows = []
    for law in order:
        cells = [_cost(_row_of(column, law)) for column in columns.values()]
        rows.append([law, recipes[law], *cells])
    return markdown_table(["recipe", "kind", *columns], rows)


def _row_of(column: pd.DataFrame, law: str) -> pd.DataFrame:
    """The row of a recipe, with whether it has the least cost."""
    return column.assign(least=column["cost"] == column["cost"].min())[column["law"] == law]


def _cost(rows: pd.DataFrame) -> str:
    if rows.empty:
        return ""
    row = rows.iloc[0]
    text = ("≥ " if row["outside"] >= 0.1 else "") + format_interval(row, "cost", 4)
    return f"**{text}**" if row["least"] else text


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Print the committed table for its page; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.optimum_laws",
        description="Which recipe for the learning rate costs least at held-out targets, from the "
        "table that python -m analysis.tables writes.",
    )
    parser.add_argument(
        "--results-dir", type=given_path, default=COMMITTED_RESULTS, help="default: %(default)s"
    )
    folder = parser.parse_args(arguments).results_dir
    print(markdown(_read(folder / "optimum_laws.csv")), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
