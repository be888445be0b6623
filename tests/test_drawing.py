"""The figure of a launch while its runs end."""

from __future__ import annotations

import io
import time
from dataclasses import replace

import pytest
import yaml
from rich.console import Console
from support.synthetic_sweep import write_run

from sweeps import drawing
from sweeps.drawing import LaunchFigure
from sweeps.expand import read_sweep
from sweeps.plan import make_plan, refresh

SWEEP = {
    "name": "growing",
    "base": {"scaling": {"parameterization": "complete_d"}},
    "grid": {"model.width": [32, 64], "hyperparameters.lr": {"log2": [-8, -4]}},
    "figure": "lr_width",
}


@pytest.fixture
def growing(tmp_path, monkeypatch):
    """A sweep without records, the console of its launch, and a figure that waits for no time."""
    monkeypatch.setattr(drawing, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(drawing, "PAUSE_SECONDS", 0.0)
    path = tmp_path / "growing.yaml"
    path.write_text(yaml.safe_dump(SWEEP), encoding="utf-8")
    plan = make_plan(read_sweep(path), tmp_path / "runs")
    return plan, Console(file=io.StringIO(), width=200)


def finish(plan, width):
    """Give the runs of a width their result, a parabola in the rate."""
    for config in plan.sweep.runs.values():
        if config.model.width == width:
            loss = 2 + 10 * (config.hyperparameters.lr - 2**-6) ** 2
            write_run(plan.directory.parent, plan.sweep.name, config, loss)
    return refresh(plan)


def keep_up_until_told(figure, plan, console):
    deadline = time.monotonic() + 60
    while "redrawn" not in console.file.getvalue():
        assert time.monotonic() < deadline
        figure.keep_up(plan)
        time.sleep(0.1)


def test_the_figure_is_there_when_some_runs_have_ended_and_again_at_the_end(growing):
    plan, console = growing
    figure, picture = LaunchFigure(plan, console), plan.directory / "growing.png"
    figure.keep_up(plan)
    assert figure._drawing is None  # no run has ended, so nothing is drawn
    plan = finish(plan, 32)
    keep_up_until_told(figure, plan, console)
    first = picture.read_bytes()
    figure.keep_up(plan)
    assert figure._drawing is None  # nor where none has ended since
    plan = finish(plan, 64)
    figure.conclude()
    assert picture.read_bytes() != first
    assert "could not be drawn" not in console.file.getvalue()


def test_a_figure_that_cannot_be_drawn_yet_says_nothing(growing):
    plan, console = growing
    plan = replace(plan, sweep=replace(plan.sweep, figure="speedup"))  # which needs two arms
    figure = LaunchFigure(plan, console)
    plan = finish(plan, 32)
    figure.keep_up(plan)
    figure._drawing.wait()
    figure.keep_up(plan)
    assert console.file.getvalue() == ""
