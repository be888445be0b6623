"""All figures by name: one for each study, and the special ones.

A new figure is a function from the results of its sweeps to a `Made`, a line here, and its name in
`figures.names`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.duration import check_durations
from analysis.studies import STUDIES, Study
from analysis.transfer import check_study
from figures.names import check_name

if TYPE_CHECKING:
    from figures.made import Made


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


def _drawn_by(path: str, *first: object) -> Callable[..., Made]:
    """The function `module:name`, with its first arguments, imported when a figure is drawn.

    A launch asks only whether its figure can be drawn, and should not wait for what draws it.
    """

    def make(*arguments: Any) -> Made:
        made: Made = resolve_name(path)(*first, *arguments)
        return made

    return make


def _study(study: Study) -> FigureEntry:
    make = _drawn_by("figures.transfer:make_study", study)
    return FigureEntry(make, (study.sweep,), check=partial(check_study, study))


FIGURES = {
    **{name: _study(study) for name, study in STUDIES.items()},
    "verdicts": FigureEntry(
        _drawn_by("figures.verdicts:make_verdicts"), (), tables=("transfer_table",)
    ),
    "duration_exponents": FigureEntry(
        _drawn_by("figures.duration_exponents:make_duration_exponents"),
        (),
        tables=(
            *("duration_exponents", "duration_effects"),
            *("public_runs_exponents", "public_runs_schedules"),
        ),
    ),
    "loss_vs_tokens": FigureEntry(
        _drawn_by("figures.loss_vs_tokens:make_loss_vs_tokens"),
        ("lr_duration",),
        check=check_durations,
    ),
    "search": FigureEntry(
        _drawn_by("figures.search:make_search"),
        ("search_global", "search_global_defaults", "search_modules"),
    ),
    "modules": FigureEntry(_drawn_by("figures.modules:make_modules"), ("search_modules",)),
    "attribution": FigureEntry(
        _drawn_by("figures.attribution:make_attribution"), ("modules_arms",), curves=True
    ),
    "speedup": FigureEntry(_drawn_by("figures.speedup:make_speedup"), ("ladder",), curves=True),
    "landscape": FigureEntry(_drawn_by("figures.landscape:make_landscape"), ("landscape",)),
    "transfer_check": FigureEntry(
        _drawn_by("figures.transfer_check:make_transfer_check"), ("transfer_check",)
    ),
    "public_runs": FigureEntry(
        _drawn_by("figures.public_runs:make_public_runs"),
        (),
        tables=(
            *("public_runs_exponents", "public_runs_cells", "public_runs_schedules"),
            *("duration_exponents", "transfer_table"),
        ),
    ),
    "sde": FigureEntry(_drawn_by("figures.sde:make_sde"), (), tables=("sde",)),
    "schedule_laws": FigureEntry(
        _drawn_by("figures.schedule_laws:make_schedule_laws"),
        (),
        tables=("schedule_laws", "public_runs_along"),
    ),
    "annealings": FigureEntry(_drawn_by("figures.annealings:make_annealings"), ("annealings",)),
}


def find_figure(name: str) -> FigureEntry:
    """The figure of this name.

    Raises:
        ConfigError: there is none.
    """
    check_name(name, FIGURES)
    return FIGURES[name]
