"""All figures by name: one for each study, and the special ones.

A new figure is a function from the results of its sweeps to a `Made`, a line here, and its name in
`figures.names`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pandas as pd

from analysis.arms import STUDIES, Study
from analysis.duration import check_durations
from figures.attribution import make_attribution
from figures.duration_exponents import make_duration_exponents
from figures.landscape import make_landscape
from figures.loss_vs_tokens import make_loss_vs_tokens
from figures.made import Made
from figures.modules import make_modules
from figures.names import check_name
from figures.public_runs import make_public_runs
from figures.sde import make_sde
from figures.search import make_search
from figures.speedup import make_speedup
from figures.transfer import check_study, make_study
from figures.transfer_check import make_transfer_check
from figures.verdicts import make_verdicts


@dataclass(frozen=True)
class FigureEntry:
    """How one figure is made."""

    make: Callable[..., Made]
    """Takes the `Results` of each sweep, in their order, then each table."""
    sweeps: tuple[str, ...]
    curves: bool = False
    """Whether it draws learning curves, so that results are kept with them."""
    tables: tuple[str, ...] = ()
    """Tables beside the results (`analysis.tables.read_table`), for what is drawn from no run."""
    check: Callable[[pd.DataFrame], object] | None = None
    """Raises ConfigError for the runs of a sweep, before they have results, of which it cannot be
    made whatever these are."""


def _study(name: str, study: Study) -> FigureEntry:
    return FigureEntry(partial(make_study, study), (name,), check=partial(check_study, study))


FIGURES = {
    **{name: _study(name, study) for name, study in STUDIES.items()},
    "verdicts": FigureEntry(make_verdicts, (), tables=("transfer_table",)),
    "duration_exponents": FigureEntry(
        make_duration_exponents, ("lr_duration",), check=check_durations
    ),
    "loss_vs_tokens": FigureEntry(make_loss_vs_tokens, ("lr_duration",), check=check_durations),
    "search": FigureEntry(make_search, ("search_global", "search_global_defaults")),
    "modules": FigureEntry(make_modules, ("search_modules",)),
    "attribution": FigureEntry(make_attribution, ("modules_arms",), curves=True),
    "speedup": FigureEntry(make_speedup, ("ladder",), curves=True),
    "landscape": FigureEntry(make_landscape, ("landscape",)),
    "transfer_check": FigureEntry(make_transfer_check, ("transfer_check",)),
    "public_runs": FigureEntry(
        make_public_runs,
        (),
        tables=(
            *("public_runs_exponents", "public_runs_cells", "public_runs_schedules"),
            *("duration_exponents", "transfer_table"),
        ),
    ),
    "sde": FigureEntry(make_sde, (), tables=("sde",)),
}


def find_figure(name: str) -> FigureEntry:
    """The figure of this name.

    Raises:
        ConfigError: there is none.
    """
    check_name(name, FIGURES)
    return FIGURES[name]
