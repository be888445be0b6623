"""Loss against the learning rate, one line a width: does the optimum move as the width grows?"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console

from analysis.axes import AXES
from analysis.report import print_transfer
from figures.transfer import draw_transfer

AXIS = AXES["width"]


def draw(results: pd.DataFrame) -> Figure:
    return draw_transfer(results, AXIS)


def report(console: Console, results: pd.DataFrame) -> None:
    print_transfer(console, results, AXIS)
