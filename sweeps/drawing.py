"""The figure of a launch, beside its records: drawn now and then while runs end, and at the end.

In a process of its own, since sweeps must not depend on figures. Beside the records, because
committed results and figures may be of more seeds than this sweep; and of the sweep's own runs, for
records may be there of another definition of it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress

from rich.console import Console

from sweeps.plan import Plan
from sweeps.report import say
from sweeps.state import FINISHED

FIRST_SECONDS = 30.0
"""Time from the start of a launch to the first try: drawing takes seconds from the workers."""
PAUSE_SECONDS = 60.0
"""Least time between two drawings."""


class LaunchFigure:
    """Keeps the figure of a launch at the state of its runs; does nothing where there is none."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self._name, self._sweep = plan.sweep.figure, plan.sweep
        self._records, self._console = plan.directory, console
        self._drawn = _finished(plan)
        self._due = time.monotonic() + FIRST_SECONDS
        self._drawing: subprocess.Popen[str] | None = None
        self._told = False

    def keep_up(self, plan: Plan) -> None:
        """Draw what there is, if runs have ended since, and it was not done just now.

        Too few runs for a figure are no error: there will be more.
        """
        if self._name is None:
            return
        if self._drawing is not None and self._drawing.poll() is not None:
            if self._drawing.returncode == 0 and not self._told:
                place = f"{self._records} (redrawn as runs end)"
                say(self._console, f"figure of the runs so far: {place}")
                self._told = True
            self._drawing = None
        now, finished = time.monotonic(), _finished(plan)
        if self._drawing is None and now >= self._due and finished > self._drawn:
            self._drawing = self._start(quiet=True)
            self._drawn, self._due = finished, now + PAUSE_SECONDS

    def stop(self) -> None:
        """End a drawing that is under way; the picture stays as it was."""
        if self._drawing is not None:
            self._drawing.kill()
            self._drawing.wait()
            self._drawing = None

    def conclude(self) -> None:
        """Draw the complete sweep, with the tables that belong to its figure."""
        self.stop()
        if self._name and self._start().wait():
            self._console.print(f"The figure {self._name} could not be drawn.", style="red")

    def _start(self, quiet: bool = False) -> subprocess.Popen[str]:
        """Start the drawing process, and tell it the runs."""
        sweep, records = self._sweep, str(self._records)
        command = [sys.executable, "-m", "figures", str(self._name), "--sweep", sweep.name]
        command += ["--runs-dir", str(self._records.parent)]
        command += ["--results-dir", records, "--output-dir", records]
        command += [] if sweep.searches else ["--only-ids"]  # a search's trials name their runs
        output = subprocess.DEVNULL if quiet else None
        drawing = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=output, text=True
        )
        assert drawing.stdin is not None
        # If it fails before it has read them, its exit code says so.
        with suppress(BrokenPipeError), drawing.stdin as ids:
            ids.write("\n".join(sweep.runs))
        return drawing


def _finished(plan: Plan) -> int:
    count = plan.count()
    return sum(count[state] for state in FINISHED)
