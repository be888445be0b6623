"""All figures by name. A new figure is a module with `draw` and `report`, and a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console

from figures import lr_depth, lr_width


@dataclass(frozen=True)
class FigureEntry:
    """What the command needs to make one figure from the results of one sweep."""

    sweep: str
    draw: Callable[[pd.DataFrame], Figure]
    report: Callable[[Console, pd.DataFrame], None]
    """Prints the figure's numbers."""


FIGURES = {
    "lr_width": FigureEntry("lr_width", lr_width.draw, lr_width.report),
    "lr_depth": FigureEntry("lr_depth", lr_depth.draw, lr_depth.report),
}
