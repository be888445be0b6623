"""A figure with its numbers, and how both become files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from analysis.report import Tables
from analysis.tables import write_table

#: Where the committed figures are; `data/` beside them has their numbers.
COMMITTED_FIGURES = Path(__file__).parent

FORMATS = ("svg", "png")


@dataclass(frozen=True, eq=False)
class Made:
    """A figure and what it says, computed once."""

    figure: Figure
    frames: Mapping[str, pd.DataFrame]
    """The numbers that it draws, by name."""
    tables: Tables = field(default_factory=dict)
    """The same for people: readable tables by title."""
    text: tuple[str, ...] = ()
    """Lines below the tables."""


def save(made: Made, directory: Path, name: str) -> list[Path]:
    """Write a figure in every format, and its numbers to `data/<name>_<frame>.csv`."""
    (directory / "data").mkdir(parents=True, exist_ok=True)
    images = [directory / f"{name}.{suffix}" for suffix in FORMATS]
    for path in images:
        # Without a date, so that a figure that did not change makes no difference to git.
        date = {"Date": None} if path.suffix == ".svg" else None
        made.figure.savefig(path, metadata=date)
        made.figure.set_layout_engine("none")  # it was found for the first format
    tables = {directory / "data" / f"{name}_{key}.csv": made.frames[key] for key in made.frames}
    for path, frame in tables.items():
        write_table(frame, path)
    return [*images, *tables]
