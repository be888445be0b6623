"""What the commands print about a plan: tables of bundles, counts, and the runs that failed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.table import Table

from slurm.queue import last_error
from sweeps.plan import Bundle, Plan
from sweeps.state import FINISHED, RunState, State

ROWS = 40
"""Bundles shown; the rest is summed up in one row."""
LISTED = 20
"""Failed runs listed, and lost ones."""

Cells = Mapping[str, Callable[[Bundle], str]]


def print_plan(console: Console, plan: Plan) -> None:
    """The bundles with what they cost (estimated times with a ~), and the total of what is left."""
    _print_bundles(
        console,
        plan,
        {
            "params": lambda bundle: short(bundle.parameters),
            "runs": lambda bundle: f"{len(bundle.runs):,}",
            "done": lambda bundle: f"{_finished(plan, bundle):,}",
            "FLOPs/run": lambda bundle: f"{bundle.flops:.1e}",
            "time/run": _time,
        },
    )
    flops = sum(bundle.flops * len(bundle.runs) for bundle in plan.bundles)
    tokens = sum(config.steps * config.tokens_per_step for config in plan.sweep.runs.values())
    say(
        console,
        f"{len(plan.sweep.runs):,} runs in {len(plan.bundles):,} bundles, "
        f"{short(tokens)} tokens, {flops:.1e} FLOPs; {len(plan.missing):,} runs to do, "
        f"about {duration(plan.seconds_left)} of {plan.device}",
    )


def print_states(console: Console, plan: Plan) -> None:
    """The bundles with how many of their runs are in each state, and the failed runs."""

    def column(state: State) -> Callable[[Bundle], str]:
        return lambda bundle: f"{plan.count(bundle)[state]:,}"

    _print_bundles(console, plan, {state: column(state) for state in get_args(State)})
    say(console, counts(plan))
    print_failures(console, plan)
    _list_runs(console, plan, "lost", _how_lost)


def counts(plan: Plan) -> str:
    """`12 of 64 runs done, 1 diverged, 0 failed, 2 running, 49 pending`."""
    count = plan.count()
    others = ", ".join(f"{count[s]:,} {s}" for s in get_args(State) if s != "done")
    return f"{count['done']:,} of {len(plan.states):,} runs done, {others}"


def print_failures(console: Console, plan: Plan) -> None:
    """The failed runs: record, last line of the error, and the log of the worker that had it."""
    if _list_runs(console, plan, "failed", _last_line):
        say(console, "error.txt in the record of a failed run has the whole traceback")


def _last_line(state: RunState) -> str:
    lines = str(state.status.get("error", "")).strip().splitlines()
    return lines[-1] if lines else "?"


def _how_lost(state: RunState) -> str:
    """What is known of a worker's end; SLURM says in its log what it did to the job."""
    text = f"its {f'job {state.job}' if state.job else 'worker'} is gone; the next launch does it"
    said = last_error(Path(state.log)) if state.log else None
    if not said:
        return text
    out_of_memory = "out of memory" in said.lower() or "oom" in said.lower()
    advice = "; give the profile more memory" if out_of_memory else ""
    return f"{text}\n  SLURM said: {said}{advice}"


def _list_runs(
    console: Console, plan: Plan, wanted: State, text: Callable[[RunState], str]
) -> bool:
    """The runs in a state, each with its record's place, a text, and its worker's log.

    Returns whether there are any.
    """
    found = [run_id for run_id, state in plan.states.items() if state.state == wanted]
    for run_id in found[:LISTED]:
        state = plan.states[run_id]
        log = f"\n  log: {_place(Path(state.log))}" if state.log else ""
        console.print(
            f"{wanted}: {_place(plan.records[run_id].directory)}: {text(state)}{log}",
            style="red",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    if len(found) > LISTED:
        console.print(f"... and {len(found) - LISTED:,} more {wanted} runs")
    return bool(found)


def _place(path: Path) -> Path:
    """A path as one would type it here."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def say(console: Console, text: str) -> None:
    """Print plain text; on a terminal, broken between words."""
    console.print(text, highlight=False, markup=False, soft_wrap=not console.is_terminal)


def duration(seconds: float) -> str:
    """`8 s`, `12 min`, `3.5 h` or `2.1 days`."""
    for size, unit, below in ((1, "s", 100), (60, "min", 100), (3600, "h", 48)):
        if seconds / size < below:
            value = seconds / size
            return f"{value:.1f} {unit}" if value < 10 and unit != "s" else f"{value:.0f} {unit}"
    return f"{seconds / 86400:.1f} days"


def short(number: float) -> str:
    """`819k`, `1.2M`, `3.4B`."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            value = number / size
            return f"{value:.3g}{unit}" if value < 999.5 else f"{value:.0f}{unit}"
    return f"{number:.0f}"


def _time(bundle: Bundle) -> str:
    return f"{'' if bundle.seconds_measured else '~'}{duration(bundle.seconds)}"


def _finished(plan: Plan, bundle: Bundle) -> int:
    count = plan.count(bundle)
    return sum(count[state] for state in FINISHED)


_SHAPE: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "width": ("model.width", str),
    "depth": ("model.depth", str),
    "batch": ("train.batch_size", str),
    "tokens": ("train.tokens", short),
}
"""What every table says of a bundle: heading, field of the config, and how it is written."""


def _print_bundles(console: Console, plan: Plan, cells: Cells) -> None:
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    shape = {name: _cell(path, text) for name, (path, text) in _SHAPE.items()}
    others = {path.split(".")[1]: _cell(path, _as_in_yaml) for path in _other_differences(plan)}
    columns: Cells = {**shape, **others, **cells}
    for name in columns:  # where the terminal is narrow, others are broken
        table.add_column(name, justify="right", overflow="fold", no_wrap=name not in others)
    for row in _rows(plan, columns):
        table.add_row(*row)
    console.print(table)
    if len(plan.bundles) > ROWS:
        console.print(f"... and {len(plan.bundles) - ROWS:,} smaller bundles")


def _other_differences(plan: Plan) -> Iterator[str]:
    """The further fields, by their dotted paths, in which bundles differ."""
    first, *rest = (bundle.config for bundle in plan.bundles)
    shown = {path for path, _ in _SHAPE.values()}
    for section in ("model", "data", "train"):
        for field in type(getattr(first, section)).model_fields:
            path = f"{section}.{field}"
            get = attrgetter(path)
            if path not in shown and any(get(config) != get(first) for config in rest):
                yield path


def _cell(path: str, text: Callable[[Any], str]) -> Callable[[Bundle], str]:
    get = attrgetter(path)
    return lambda bundle: text(get(bundle.config))


def _as_in_yaml(value: object) -> str:
    return json.dumps(value).strip('"')


def _rows(plan: Plan, cells: Cells) -> Iterator[list[str]]:
    for bundle in plan.bundles[:ROWS]:
        yield [cell(bundle) for cell in cells.values()]
