"""All figures by name. A new figure is a module with `draw` and `report`, and a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console

from figures import (
    duration_exponents,
    eps_fixes,
    iso_steps,
    loss_vs_tokens,
    lr_batch,
    lr_depth,
    lr_duration,
    lr_width,
    no_qk_norm,
    wd_batch,
)
from paper_repro.errors import ConfigError


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
    "lr_batch": FigureEntry("lr_batch", lr_batch.draw, lr_batch.report),
    "wd_batch": FigureEntry("wd_batch", wd_batch.draw, wd_batch.report),
    "lr_duration": FigureEntry("lr_duration", lr_duration.draw, lr_duration.report),
    "duration_exponents": FigureEntry(
        "lr_duration", duration_exponents.draw, duration_exponents.report
    ),
    "loss_vs_tokens": FigureEntry("lr_duration", loss_vs_tokens.draw, loss_vs_tokens.report),
    "iso_steps": FigureEntry("iso_steps", iso_steps.draw, iso_steps.report),
    "no_qk_norm": FigureEntry("no_qk_norm", no_qk_norm.draw, no_qk_norm.report),
    "eps_fixes": FigureEntry("eps_fixes", eps_fixes.draw, eps_fixes.report),
}


def find_figure(name: str) -> FigureEntry:
    """The figure of this name.

    Raises:
        ConfigError: if there is none.
    """
    if name not in FIGURES:
        raise ConfigError(f"no figure {name!r}; there are {', '.join(FIGURES)}")
    return FIGURES[name]
