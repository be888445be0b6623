"""Exponents of the best learning rate from the training runs of others.

Clone what is to be read; a folder that is not named is looked for where these lines put it:

    git clone https://github.com/step-law/steplaw public_runs/steplaw
    git clone https://github.com/fabian-sp/lr-scheduling public_runs/lr-scheduling
    git clone https://github.com/thu-yao-01-luo/MultiPowerLaw public_runs/MultiPowerLaw

What is not there is left out with a line that says so; a folder that is named must be there, and
one of them at least. Exit code 2 if not. `--commit` replaces the tables in analysis/results, which
have derived numbers alone, and needs all three.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from analysis.load import COMMITTED_RESULTS
from analysis.public_runs.along import ends_table, whole_table
from analysis.public_runs.schedules import decay_gains, fit_schedules
from analysis.public_runs.sources import (
    LR_SCHEDULING,
    MULTI_POWER,
    SOURCES,
    STEP_LAW,
    Source,
    read_curves,
    read_dense,
    read_moe,
    read_schedules,
)
from analysis.public_runs.tables import grid_tables, schedules_table
from analysis.report import Columns, print_tables, readable
from analysis.tables import write_table
from paper_repro.errors import ConfigError

Tables = dict[str, pd.DataFrame]
"""By the name of their file after `public_runs_`."""


def _step_law(clone: Path) -> Tables:
    dense, moe = (
        grid_tables(read_dense(clone), "steplaw"),
        grid_tables(read_moe(clone), "steplaw_moe"),
    )
    return {name: pd.concat([dense[name], moe[name]], ignore_index=True) for name in dense}


def _lr_scheduling(clone: Path) -> Tables:
    runs = read_schedules(clone)
    return {"schedules": schedules_table(fit_schedules(runs)), "along": ends_table(runs)}


def _multi_power(clone: Path) -> Tables:
    curves = read_curves(clone)
    return {"gains": decay_gains(curves), "along_curves": whole_table(curves)}


READERS: dict[Source, Callable[[Path], Tables]] = {
    STEP_LAW: _step_law,
    LR_SCHEDULING: _lr_scheduling,
    MULTI_POWER: _multi_power,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what the runs say, or write it. Exit code 2 if they are not there or cannot be read."""
    options = _parser().parse_args(arguments)
    try:
        tables: Tables = {}
        for source, clone in _clones(options).items():
            made = READERS[source](clone)
            tables |= {name: table.assign(source=source.url) for name, table in made.items()}
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.commit:
        today = datetime.now(UTC).date().isoformat()
        for name, table in tables.items():
            path = COMMITTED_RESULTS / f"public_runs_{name}.csv"
            write_table(table.assign(date=today), path)
            print(f"wrote {path}", file=sys.stderr)
    if options.json:
        print(json.dumps(as_json(tables), indent=1, ensure_ascii=False))
    else:
        console = Console(width=None if sys.stdout.isatty() else 140)
        print_tables(console, readable_tables(tables))
    return 0


def _clones(options: argparse.Namespace) -> dict[Source, Path]:
    """The clones to read.

    Raises:
        ConfigError: one that was named is not there, or is needed; or there are none.
    """
    found, missing = {}, []
    for source in SOURCES:
        named = getattr(options, source.option.replace("-", "_"))
        try:
            source.folder(named or source.default)
        except ConfigError as error:
            if named or options.commit:
                raise
            missing.append(error)
        else:
            found[source] = named or source.default
    if not found:
        raise missing[0]
    if not options.json:
        for reason in missing:
            print(f"left out: {reason}", file=sys.stderr)
    return found


def as_json(tables: Tables) -> dict[str, Any]:
    """The tables for programs: intervals are `[value, low, high]`, null where unknown.

    `{"steplaw": {"below": {"batch": [v, low, high], …}, "above": …, "boundary": …, …,
    "authors_boundary": {"below": …, "above": …}, "authors_formula": {"boundary": {"batch": v}},
    "regret": {"any": {"none": …}}, "laws": {"rate": {"compute above 16": …}}}, "steplaw_moe": …,
    "lr_scheduling": [{"schedule": …, "share": …, "tokens": […]}], "multi_power": [{…}],
    "along": [{"split": …, "law": …, "error": […], "top2": […], …}], "along_curves": [{…}]}`
    """
    found: dict[str, Any] = {}
    for _, row in tables.get("exponents", pd.DataFrame()).iterrows():
        place = found.setdefault(row["data"], {})
        if row["boundary"] == "authors":
            place = place.setdefault("authors_boundary", {})
        place.setdefault(row["regime"], {})[row["quantity"]] = _triple(row, "value")
        if not math.isnan(row["authors"]):
            formula = found[row["data"]].setdefault("authors_formula", {})
            formula.setdefault(row["regime"], {})[row["quantity"]] = _plain(row["authors"])
    for _, row in tables.get("regret", pd.DataFrame()).iterrows():
        place = found[row["data"]].setdefault("regret", {}).setdefault(row["grows"], {})
        place[row["rule"]] = _triple(row, "regret")
    for _, row in tables.get("laws", pd.DataFrame()).iterrows():
        targets = f"compute above {row['compute_min']:g}"
        laws = found[row["data"]].setdefault("laws", {}).setdefault(row["predicts"], {})
        laws.setdefault(targets, {})[row["law"]] = _triple(row, "regret")
    for data, cells in tables["cells"].groupby("data") if "cells" in tables else ():
        found[str(data)] |= {"cells": len(cells), "bracketed": int(cells["bracketed"].sum())}
    if "schedules" in tables:
        kept = ["model", "schedule", "cooldown", "share", "durations", "bracketed", "verdict"]
        found["lr_scheduling"] = [
            {name: _plain(row[name]) for name in kept} | {"tokens": _triple(row, "tokens")}
            for _, row in tables["schedules"].iterrows()
        ]
    if "gains" in tables:
        gains = tables["gains"].drop(columns="source")
        found["multi_power"] = [
            {name: _plain(value) for name, value in row.items()} for _, row in gains.iterrows()
        ]
    for name in {"along", "along_curves"} & tables.keys():
        found[name] = [
            {each: row[each] for each in ("peaks", "split", "law") if each in row}
            | {each: _triple(row, each) for each in MEASURES if each in row}
            for _, row in tables[name].iterrows()
        ]
    return found


def _triple(row: pd.Series, name: str) -> list[Any]:
    return [_plain(float(row[name + end])) for end in ("", "_low", "_high")]


def _plain(value: Any) -> Any:
    """What JSON knows: six significant digits, and null for what is unknown."""
    if isinstance(value, str):
        return value
    number = float(value)
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() and abs(number) > 1 else float(f"{number:.6g}")


EXPONENTS: Columns = {
    "data": "data",
    "boundary": "boundary",
    "regime": "regime",
    "quantity": "quantity",
    "value": ("value", 3),
    "cells": "cells",
    "authors": lambda row: "" if math.isnan(row["authors"]) else f"{row['authors']:.3f}",
    "√(B/D) says": lambda row: "" if math.isnan(row["rule"]) else f"{row['rule']:g}",
    "verdict": "verdict",
}
REGRET: Columns = {
    "data": "data",
    "grows": "grows",
    "rule": "rule",
    "pairs": "pairs",
    "regret (nats)": ("regret", 4),
    "verdict": "verdict",
    "over 0.02": lambda row: f"{row['over']:.0%}",
    "diverged": lambda row: f"{row['diverged']:.0%}",
}
LAWS: Columns = {
    "data": "data",
    "predicts": "predicts",
    "compute": lambda row: (
        f"over {row['compute_min']:g} ×"
        if math.isinf(row["compute_max"])
        else f"{row['compute_min']:g} to {row['compute_max']:g} ×"
    ),
    "law": "law",
    "cells": "cells",
    "regret (nats)": ("regret", 4),
    "more than the first": ("more", 4),
    "over 0.02": lambda row: f"{row['over']:.0%}",
    "off": lambda row: f"{row['off']:+.2f}".replace("-", "−"),
}
SCHEDULES: Columns = {
    "model": "model",
    "schedule": "schedule",
    "decay": "cooldown",
    "share": lambda row: "" if math.isnan(row["share"]) else f"{row['share']:g}",
    "bracketed": lambda row: (
        "" if math.isnan(row["durations"]) else f"{row['bracketed']:.0f} of {row['durations']:.0f}"
    ),
    "token exponent": ("tokens", 2),
    "verdict": lambda row: row["verdict"] if isinstance(row["verdict"], str) else "",
}
GAINS: Columns = {
    "million parameters": "model",
    "schedule": "schedule",
    "steps": "steps",
    "gain over the constant rate (nats)": lambda row: f"{row['gain']:.3f}",
}
ALONG: Columns = {
    "peaks": "peaks",
    "held out": "split",
    "law": "law",
    "schedules": "schedules",
    "relative error": ("error", 4),
    "top 1": ("top1", 2),
    "top 2": ("top2", 2),
    "regret (nats)": ("regret", 4),
    "right family": ("family", 2),
}
ALONG_CURVES: Columns = {name: ALONG[name] for name in list(ALONG)[1:5]}
#: The measures of `analysis.schedule_laws.measures`.
MEASURES = ("error", "top1", "top2", "regret", "family")


def readable_tables(tables: Tables) -> Tables:
    """For people, by title."""
    shown = {
        "exponents": ("log2 η* as two planes in log2 of batch, tokens and size", EXPONENTS, 4),
        "regret": ("Carrying a rate from cell to cell", REGRET, 3),
        "laws": ("Laws at held-out cells (compute over the base's; off in octaves)", LAWS, 4),
        "schedules": ("Token exponent of η* by the share that decays", SCHEDULES, 4),
        "along": ("lr-scheduling: laws of the loss along a schedule", ALONG, 3),
        "along_curves": ("MultiPowerLaw: the same, over whole curves", ALONG_CURVES, 2),
        "gains": ("MultiPowerLaw: one peak rate, so no exponent; what decaying gains", GAINS, 2),
    }
    return {
        title: readable(tables[name], columns, names)
        for name, (title, columns, names) in shown.items()
        if name in tables
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m analysis.public_runs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for source in SOURCES:
        parser.add_argument(
            f"--{source.option}",
            type=Path,
            metavar="DIR",
            help=f"clone of {source.repository} (arXiv {source.papers}); default: {source.default}",
        )
    parser.add_argument("--json", action="store_true", help="print the numbers for a program")
    parser.add_argument(
        "--commit", action="store_true", help="replace the tables in analysis/results"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
