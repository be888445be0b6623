"""The live display of a launch: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from paper_repro.search import SearchState
from sweeps.plan import Plan
from sweeps.report import duration, short, waiting_text

LINE_SECONDS = 10.0
"""Time between plain lines."""
WINDOW_SECONDS = 30.0
"""Time over which tokens/s is measured, and after which the ETA trusts measured progress."""


class Display:
    """Shows how far a launch is: within its `bar`, `update` it with fresh plans."""

    def __init__(self, console: Console, plan: Plan, workers: int) -> None:
        self._console = console
        self._workers = min(workers, plan.to_do)
        self._work_at_start = plan.seconds_left
        self._started = self._printed = time.monotonic()
        self._tokens = deque([(self._started, plan.tokens)])
        self.bar = Progress(
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:3.0f}%"),
            TextColumn("{task.description}", markup=False),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self.bar.add_task("starting workers", total=plan.seconds_in_all)

    def update(self, plan: Plan, waiting: Mapping[str, int]) -> None:
        """Show the state of a plan, and how many of its jobs wait, by SLURM's reason."""
        now = time.monotonic()
        left = plan.seconds_left
        line = self._line(plan, now, left, waiting)
        total = plan.seconds_in_all
        self.bar.update(self._task, total=total, completed=total - left, description=line)
        if not self._console.is_terminal and now - self._printed >= LINE_SECONDS:
            self._printed = now
            self._console.print(line, highlight=False, soft_wrap=True)

    def _line(self, plan: Plan, now: float, left: float, waiting: Mapping[str, int]) -> str:
        count = plan.count()
        parts = [f"{count['done'] + count['diverged']:,}/{len(plan.states) + plan.unasked:,} runs"]
        parts += [f"{count[s]:,} {s}" for s in ("diverged", "failed", "running") if count[s]]
        parts += [waiting_text(waiting)] if waiting else []
        if waiting and not count["running"]:
            return ", ".join(parts)  # no speed to tell, and no end
        if plan.searches:
            parts.append(_searched(plan.searches))
        parts.append(f"{short(self._tokens_per_second(plan, now))} tokens/s")
        parts.append(f"ETA {duration(self._seconds_to_go(now, left))}")
        return ", ".join(parts)

    def _tokens_per_second(self, plan: Plan, now: float) -> float:
        self._tokens.append((now, plan.tokens))
        while len(self._tokens) > 2 and self._tokens[0][0] < now - WINDOW_SECONDS:
            self._tokens.popleft()
        then, tokens = self._tokens[0]
        return max(0.0, (plan.tokens - tokens) / (now - then)) if now > then else 0.0

    def _seconds_to_go(self, now: float, left: float) -> float:
        """Work left over the speed so far; before there is one, over the number of workers."""
        elapsed, done = now - self._started, self._work_at_start - left
        measured = elapsed > WINDOW_SECONDS and done > 0
        return left / (done / elapsed if measured else self._workers)


def _searched(searches: Sequence[SearchState]) -> str:
    """Trials, those with an infinite loss, and the best found; of one search also its radius."""
    trials = [trial for state in searches for trial in state.trials if trial.ended]
    infinite = sum(math.isinf(trial.loss(searches[0].search.objective)) for trial in trials)
    parts = [f"{len(trials):,}/{sum(state.search.trials for state in searches):,} trials"]
    parts += [f"{infinite:,} infinite"] if infinite else []
    loss = min(state.incumbent[1] for state in searches)
    parts += [f"best {loss:.4f}"] if math.isfinite(loss) else []
    first, *others = searches
    ours = None if others else first.trust_region
    return ", ".join([*parts, *([f"radius {ours.radius:.2f}"] if ours else [])])
