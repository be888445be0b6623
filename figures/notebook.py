"""Figures and their tables in a notebook: `show("lr_width")`."""

from __future__ import annotations

import html
import io
from collections.abc import Callable
from typing import Any

import pandas as pd
from IPython.display import HTML, Image, display
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.load import COMMITTED_RESULTS, load_results
from analysis.studies import STUDIES
from figures.metric import draw_metric
from figures.registry import find_figure
from figures.style import style
from paper_repro.errors import ConfigError

#: Of figures on a page: sharp enough to read, and some tens of kilobytes.
DPI = 110


def show(name: str, sweep: str | None = None) -> None:
    """Draw a figure of `python -m figures` from the committed results, and show its numbers.

    Says so if there are no results yet.

    Args:
        sweep: another sweep to draw this way, of which `analysis/results/` has the results.

    Raises:
        ConfigError: if there is no such figure, or its results cannot be read.
    """
    figure = find_figure(name)
    results = _results(sweep or figure.sweep)
    if results is not None:
        display(picture(figure.draw, results))  # type: ignore[no-untyped-call]
        figure.report(NotebookConsole(), results)


def show_metric(sweep: str, metric: str) -> None:
    """Draw a statistic of a study's optima against its scale (`figures.metric.METRICS`).

    Says so if there are no results yet.

    Raises:
        ConfigError: if there is no such sweep or metric.
    """
    if sweep not in STUDIES:
        raise ConfigError(f"no study of {sweep!r}; there are {', '.join(STUDIES)}")
    study = STUDIES[sweep]
    results = _results(sweep)
    if results is not None:
        runs = study.figure_runs(results)
        image = picture(draw_metric, runs, study.axis, metric, study.hyperparameter)
        display(image)  # type: ignore[no-untyped-call]


def _results(sweep: str) -> pd.DataFrame | None:
    """The committed results of a sweep; None, and a word, if there are none."""
    path = COMMITTED_RESULTS / f"{sweep}.parquet"
    if path.exists():
        return load_results(path)
    NotebookConsole().print(f"No results of sweep {sweep} yet.")
    return None


def picture(draw: Callable[..., Figure], *arguments: object) -> Image:
    """What `draw` draws, in the look of all figures, as a PNG for a notebook."""
    content = io.BytesIO()
    with style():
        draw(*arguments).savefig(content, format="png", dpi=DPI)
    return Image(content.getvalue())  # type: ignore[no-untyped-call]


class NotebookConsole(Console):
    """A console whose tables become data frames, so that a notebook shows them as its own."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Show tables and paragraphs; options are those of a terminal and mean nothing here."""
        for content in objects:
            if isinstance(content, Table):
                _show_paragraph(f"<b>{html.escape(_plain(content.title or ''))}</b>")
                display(_frame(content))  # type: ignore[no-untyped-call]
            else:
                _show_paragraph(html.escape(_plain(content)))


def _show_paragraph(content: str) -> None:
    display(HTML(f"<p>{content}</p>"))  # type: ignore[no-untyped-call]


def _frame(table: Table) -> pd.DataFrame:
    """The cells of a table; what names its rows is the index."""
    names = [_plain(column.header) for column in table.columns]
    cells = [[_plain(cell) for cell in column.cells] for column in table.columns]
    frame = pd.DataFrame(dict(zip(names, cells, strict=True)))
    repeated = frame[names[0]].duplicated().any()
    return frame.set_index(names[: 2 if repeated else 1])


def _plain(content: object) -> str:
    """Text without the markup of a terminal."""
    return Text.from_markup(content).plain if isinstance(content, str) else str(content)
