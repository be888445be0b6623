"""Figures and their tables in a notebook: `show("lr_width")`."""

from __future__ import annotations

import html
import io
from collections.abc import Callable

from IPython.display import HTML, Image, display
from matplotlib.figure import Figure

from analysis.load import COMMITTED_RESULTS, Results, load_results
from analysis.studies import STUDIES
from analysis.tables import read_table
from analysis.transfer import fit_transfer
from figures.made import Made
from figures.metric import draw_metric
from figures.registry import find_figure
from figures.style import style
from paper_repro.errors import ConfigError

#: Resolution of figures on a page: sharp enough to read, and some tens of kilobytes.
DPI = 110


def show(name: str, sweep: str | None = None) -> None:
    """Draw a figure of `python -m figures` from the committed results, and show its numbers.

    Says so if there are no results yet.

    Args:
        sweep: another sweep to draw this way, of which `analysis/results/` has the results.

    Raises:
        ConfigError: if there is no such figure, or its results cannot be read.
    """
    entry = find_figure(name)
    results = [_results(found) for found in ((sweep,) if sweep else entry.sweeps)]
    if None not in results:
        tables = (read_table(COMMITTED_RESULTS, table) for table in entry.tables)
        show_made(entry.make, *results, *tables)


def show_made(make: Callable[..., Made], *arguments: object) -> None:
    """Show what a function makes: the figure, its tables and its text."""
    with style():
        made = make(*arguments)
        _display(_image(made.figure))
    for title, frame in made.tables.items():
        _display(_paragraph(title, bold=True), frame)
    _display(*map(_paragraph, made.text))


def show_metric(sweep: str, metric: str) -> None:
    """Draw a statistic of a study's optima against its scale (`figures.metric.METRICS`).

    Says so if there are no results yet.

    Raises:
        ConfigError: if there is no such sweep or metric.
    """
    if sweep not in STUDIES:
        raise ConfigError(f"no study of {sweep!r}; there are {', '.join(STUDIES)}")
    study, results = STUDIES[sweep], _results(sweep)
    if results is not None:
        runs = study.figure_runs(results.runs)
        transfer = fit_transfer(runs, study.axis, study.hyperparameter)
        _display(picture(draw_metric, transfer, metric))


def picture(draw: Callable[..., Figure], *arguments: object) -> Image:
    """What `draw` draws, in the look of all figures, as a PNG for a notebook."""
    with style():
        return _image(draw(*arguments))


def _results(sweep: str) -> Results | None:
    """The committed results of a sweep; None, and a word, if there are none."""
    path = COMMITTED_RESULTS / f"{sweep}.parquet"
    if path.exists():
        return load_results(path)
    _display(_paragraph(f"No results of sweep {sweep} yet."))
    return None


def _image(figure: Figure) -> Image:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI)
    return Image(content.getvalue())  # type: ignore[no-untyped-call]


def _paragraph(text: str, bold: bool = False) -> HTML:
    content = f"<b>{html.escape(text)}</b>" if bold else html.escape(text)
    return HTML(f"<p>{content}</p>")  # type: ignore[no-untyped-call]


def _display(*contents: object) -> None:
    for content in contents:
        display(content)  # type: ignore[no-untyped-call]
