"""How all figures look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MultipleLocator

Colour = tuple[float, float, float]

Look = dict[str, Any]
"""How something is drawn: arguments of Matplotlib's."""

_SETTINGS: Look = {
    "font.size": 9,
    "axes.titlesize": 10,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.93",
    "axes.axisbelow": True,
    "lines.linewidth": 1.5,
    "savefig.dpi": 200,
    "svg.hashsalt": "paper_repro",  # element ids that do not change: small differences in git
}


@contextmanager
def style() -> Iterator[None]:
    """The look of all figures, for drawing as well as for saving."""
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever matplotlibrc a machine has
        mpl.rcParams.update(_SETTINGS)  # type: ignore[arg-type]
        yield


def sequential_palette(scales: Sequence[int]) -> dict[int, Colour]:
    """Colours from light to dark as the scale grows; legible without colour vision, on white."""
    shades = sns.color_palette("viridis_r", len(scales) + 1)[1:]  # the first is too pale for lines
    return dict(zip(scales, shades, strict=True))


def distinct_palette(names: Sequence[str]) -> dict[str, Colour]:
    """Colours of things without an order, that differ also without colour vision."""
    return dict(zip(names, sns.color_palette("colorblind", len(names)), strict=True))


def size_axis(axes: Axes, sizes: Sequence[int], labels: Sequence[str]) -> None:
    """An x axis of sizes that double, with a tick at each."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, labels)


def log2_axis(axes: Axes) -> None:
    """Label an x axis that holds log2 values as powers of two, one tick every octave or two."""
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(MultipleLocator(1 if high - low <= 8 else 2))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"$2^{{{value:g}}}$"))
