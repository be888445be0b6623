"""All laws by name."""

from __future__ import annotations

from typing import NamedTuple

from analysis.schedule_laws.annealing import fit_annealing
from analysis.schedule_laws.convex import fit_convex
from analysis.schedule_laws.curves import Fit
from analysis.schedule_laws.known import fit_known
from analysis.schedule_laws.multi_power import fit_multi_power
from analysis.schedule_laws.opt_laws import fit_opt_laws


class Law(NamedTuple):
    """A law of the loss along a schedule."""

    source: str
    """arXiv ids; empty: ours."""
    fit: Fit


LAWS = {
    "LR annealing": Law("2408.11029", fit_annealing),
    "Multi-Power": Law("2503.12811", fit_multi_power),
    "convex bound": Law("2310.07831, 2501.18965", fit_convex),
    "Opt-Laws-style": Law("", fit_opt_laws),
    "no law": Law("", fit_known),
}
