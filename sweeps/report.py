"""What the commands print about a plan: bundles, counts, failed runs, and the jobs to submit."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import get_args

from rich.console import Console
from rich.table import Table

from paper_repro.cost import process_bytes
from paper_repro.search import SearchState
from slurm.profiles import Profile
from slurm.queue import last_error, last_words
from slurm.resources import MEMORY_MARGIN, START_SECONDS, TIME_MARGIN, fitted
from sweeps.plan import Bundle, Plan, counts_of, work_left
from sweeps.state import FINISHED, UNSETTLED, RunState, State

ROWS = 40
"""Bundles shown; the rest is summed up in one row."""
LISTED = 20
"""Failed runs listed, and lost ones."""

#: Of a row of the table of bundles: heading and text.
Cells = dict[str, str]


def print_plan(console: Console, plan: Plan) -> None:
    """The bundles with what they cost (estimated times with a ~), and the total of what is left."""

    def costs(bundle: Bundle) -> Cells:
        count = plan.count(bundle)
        return {
            "params": short(bundle.parameters),
            "runs": f"{len(bundle.runs):,}",
            "done": f"{sum(count[state] for state in FINISHED):,}",
            "FLOPs/run": f"{bundle.flops:.1e}",
            "time/run": f"{'' if bundle.seconds_measured else '~'}{duration(bundle.seconds)}",
        }

    _print_bundles(console, plan, costs)
    first, unasked = plan.bundles[0], plan.unasked
    flops = sum(b.flops * len(b.runs) for b in plan.bundles) + unasked * first.flops
    tokens = sum(config.steps * config.tokens_per_step for config in plan.sweep.runs.values())
    tokens += unasked * first.config.steps * first.config.tokens_per_step
    runs = len(plan.sweep.runs) + unasked
    say(
        console,
        f"{runs:,} runs in {len(plan.bundles):,} bundles, "
        f"{short(tokens)} tokens, {flops:.1e} FLOPs; {plan.to_do:,} runs to do, "
        f"about {duration(plan.seconds_left)} of {plan.device}",
    )
    if note := head_sizes_grow(plan):
        console.print(note, style="yellow", highlight=False, soft_wrap=True)
    if plan.searches:
        search = plan.searches[0].search
        say(
            console,
            f"{_number(len(plan.searches), 'search', 'es')} of {search.trials:,} trials over "
            f"{_number(len(search.space.coordinates), 'coordinate')}; "
            f"{_number(search.seeds, 'run')} a trial, {search.round_size:,} trials a round",
        )
        if paths := search.space.ends_without_run():
            say(
                console,
                f"At the end of its range there is no run for {paths[0]}"
                f"{f' and {len(paths) - 1} others' if len(paths) > 1 else ''}: a beta or a "
                "fraction leaves (0, 1) there. Such trials count, with an infinite loss.",
            )


def head_sizes_grow(plan: Plan) -> str | None:
    """A note on a sweep along width whose heads are of another size at another width."""
    sizes: dict[int, set[int]] = {}
    for config in plan.sweep.runs.values():
        sizes.setdefault(config.model.width, set()).add(config.model.head_dim)
    if len(sizes) < 2 or set.intersection(*sizes.values()):
        return None
    pairs = "; ".join(f"{min(found)} at width {width}" for width, found in sorted(sizes.items()))
    return (
        f"model.head_dim changes with model.width ({pairs}). The rules are of a fixed head size: "
        "this is not transfer along width alone."
    )


def _number(count: int, thing: str, plural: str = "s") -> str:
    return f"{count:,} {thing}{'' if count == 1 else plural}"


def print_states(console: Console, plan: Plan) -> None:
    """The bundles with how many of their runs are in each state, and the failed runs."""

    def states(bundle: Bundle) -> Cells:
        count = plan.count(bundle)
        return {state: f"{count[state]:,}" for state in get_args(State)}

    _print_bundles(console, plan, states)
    say(console, counts(plan))
    print_searches(console, plan)
    print_failures(console, plan)
    _list_runs(console, plan, "lost", _how_lost)


def counts(plan: Plan) -> str:
    """`12 of 64 runs done, 1 diverged, 0 failed, 2 running, 49 pending`."""
    count = plan.count()
    others = ", ".join(f"{count[s]:,} {s}" for s in get_args(State) if s != "done")
    return f"{count['done']:,} of {len(plan.states):,} runs done, {others}"


def print_searches(console: Console, plan: Plan) -> None:
    """How far each search is: trials, those with an infinite loss, start, incumbent, radius.

    Where incumbents are confirmed, their loss at fresh seeds: mean and standard deviation.
    """
    if not plan.searches:
        return
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    for name in (
        "search",
        "trials",
        "of",
        "infinite",
        "start",
        "incumbent",
        "fresh seeds",
        "radius",
        "",
    ):
        table.add_column(name, justify="left" if name == "search" else "right")
    for state in plan.searches:
        ended = [trial for trial in state.trials if trial.ended]
        losses = [trial.loss(state.search.objective) for trial in ended]
        table.add_row(
            state.search.name,
            f"{len(ended):,}",
            f"{state.search.trials:,}",
            f"{sum(map(math.isinf, losses)):,}",
            f"{losses[0]:.4f}" if losses else "",
            f"{state.incumbent[1]:.4f}" if losses else "",
            _confirmed(state),
            f"{state.trust_region.radius:.2f}" if state.trust_region else "",
        )
    console.print(table)
    for state in plan.searches:
        if state.stuck:
            name, number = state.search.name, len(state.rounds)
            say(console, f"{name} is stuck: every run of its round {number} failed")


def _confirmed(state: SearchState) -> str:
    if not state.confirmations or not state.confirmations[-1].ended:
        return ""
    confirmed = state.confirmations[-1]
    spread = "" if confirmed.sd is None else f" ± {confirmed.sd:.4f}"
    return f"{fmean(confirmed.losses):.4f}{spread}"


def print_failures(console: Console, plan: Plan) -> None:
    """The failed runs: record, last line of the error, and the log of the worker that had it."""
    if _list_runs(console, plan, "failed", _last_line):
        say(console, "error.txt in the record of a failed run has the whole traceback")


def print_unfinished(console: Console, plan: Plan, before: Plan) -> None:
    """What a launch left without a result: how it ended, and whether launching again would help.

    Args:
        before: the plan that the launch began with.
    """
    count = plan.count()
    if not (left := sum(count[state] for state in UNSETTLED)):
        return
    advice = "Launch again to do them."
    if plan.tokens <= before.tokens and sum(count[s] for s in (*FINISHED, "failed")) == 0:
        advice = "None had begun to train, so launching again may end the same way."
    said = last_words(plan.jobs)
    console.print(
        f"{left:,} runs have no result: their workers ended before they did (see {plan.jobs}).",
        advice,
        f"The last log ends: {said}" if said else "They left no log.",
        style="red",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def waiting_text(reasons: Mapping[str, int]) -> str:
    """Jobs that have not started, and why: `2 queued (Resources), 1 queued (PartitionDown)`."""
    return ", ".join(f"{number:,} queued ({reason})" for reason, number in reasons.items())


def _last_line(state: RunState) -> str:
    error = state.status.error if state.status else None
    lines = (error or "").strip().splitlines()
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


def _print_bundles(console: Console, plan: Plan, cells: Callable[[Bundle], Cells]) -> None:
    """A row a bundle: its shape, all else that tells it from the others, and `cells`."""
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    others = _other_differences(plan)
    rows = [
        {**_shape_cells(bundle), **values, **cells(bundle)}
        for bundle, values in zip(plan.bundles[:ROWS], others, strict=False)
    ]
    for name in rows[0]:  # where the terminal is narrow, others are broken
        table.add_column(name, justify="right", overflow="fold", no_wrap=name not in others[0])
    for row in rows:
        table.add_row(*row.values())
    console.print(table)
    if len(plan.bundles) > ROWS:
        console.print(f"... and {len(plan.bundles) - ROWS:,} smaller bundles")


def _shape_cells(bundle: Bundle) -> Cells:
    model, train = bundle.config.model, bundle.config.train
    return {
        "width": str(model.width),
        "depth": str(model.depth),
        "batch": str(train.batch_size),
        "tokens": short(train.tokens),
    }


def _other_differences(plan: Plan) -> list[Cells]:
    """The further fields of `RunConfig.bundle` in which bundles differ: each one's, as in YAML."""
    found = [
        {
            **bundle.config.model.model_dump(exclude={"width", "depth"}),
            **bundle.config.data.model_dump(),
            **bundle.config.train.model_dump(include={"evaluations", "eval_sequences"}),
        }
        for bundle in plan.bundles
    ]
    names = [name for name in found[0] if any(each[name] != found[0][name] for each in found)]
    return [{name: json.dumps(each[name]).strip('"') for name in names} for each in found]


def print_jobs(console: Console, plan: Plan, profile: Profile, jobs: int) -> None:
    """The jobs that a launch would submit, why they ask for so much, and the scripts for sbatch."""
    from slurm.submit import array_sizes, scripts

    asked = fitted(profile, work_left(plan, profile.tasks), jobs)
    sizes = ", ".join(map(str, array_sizes(jobs, profile.array_limit)))
    arrays = f" in arrays of {sizes}" if jobs > 1 else ""
    lines = [
        f"jobs (slurm): {jobs:,}{arrays}; at most {profile.concurrency:,} at a time",
        f"  time    {asked.time} each, {_why_time(plan, profile, asked, jobs)}",
        f"  memory  {_memory(plan, profile, asked)}",
        f"  cost    {_cost(plan, profile)}",
    ]
    if profile.processes > 1 or profile.gpus:
        lines.append(f"  device  {_of_device(plan, profile)}")
    if plan.gpu and _known(plan) != "measured":
        lines.append(
            "  Rough: an H200 took less than half the time; memory of the host was never measured."
        )
    say(console, "\n".join(lines))
    # Arrays of one size differ in nothing.
    factories = plan.sweep.factories
    for script in dict.fromkeys(scripts(asked, plan.sweep.name, jobs, plan.jobs, factories)):
        print(f"\n{script}", end="")


def _why_time(plan: Plan, profile: Profile, asked: Profile, jobs: int) -> str:
    work = work_left(plan, profile.tasks)
    if asked.minutes == profile.minutes:
        return "the profile's limit: a job that reaches it is queued again"
    longest = max(plan.bundles_left, key=lambda bundle: bundle.seconds_at_once)
    whose = "a job's share of the work"
    if work.longest >= work.of_job(jobs):
        runs = "run" if longest.at_once == 1 else f"{longest.at_once} runs at once"
        whose = f"longest {runs}, {_shape(longest)}"
    seconds = duration(work.of_job(jobs))
    known = _known(plan)
    return f"{START_SECONDS / 60:.0f} min + {TIME_MARGIN:.0f} x {seconds} ({whose}, {known})"


def _memory(plan: Plan, profile: Profile, asked: Profile) -> str:
    if option := profile.memory_option:
        return f"as the profile's option {option} says: {profile.options[option]}"
    if profile.memory:
        return f"{asked.memory} each, as the profile says"
    largest = max(plan.bundles_left, key=lambda bundle: bundle.host_bytes)
    known = "measured" if largest.host_bytes_measured else "estimated"
    tasks = f"{profile.tasks} tasks x " if profile.tasks > 1 else ""
    mebibytes = f"{largest.host_bytes / 2**20:.0f}M"
    return (
        f"{asked.memory} each, {MEMORY_MARGIN} x {tasks}{mebibytes} "
        f"(largest run, {_shape(largest)}, {known})"
    )


def _cost(plan: Plan, profile: Profile) -> str:
    """GPU-hours of the whole launch, or core-hours where jobs have no GPU."""
    devices = profile.processes * (1 if profile.gpus else profile.cpus)
    hours = plan.seconds_left / 3600 * devices
    unit = "GPU-hours" if profile.gpus else "CPU core-hours"
    amount = f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"
    return f"about {amount} {unit} in all ({_known(plan)})"


def _of_device(plan: Plan, profile: Profile) -> str:
    """Memory of the GPU, or of each process of those that train a run together."""
    processes = profile.processes

    def needed(bundle: Bundle) -> float:
        how = plan.execution.model_copy(update={"accumulate": bundle.accumulate})
        return process_bytes(bundle.config, counts_of(bundle.config), processes, how)

    largest = max(plan.bundles_left, key=needed)
    mebibytes, notes = needed(largest) / 2**20, f"({_shape(largest)}, estimated)"
    size = f"{mebibytes / 1024:.1f} GiB" if mebibytes >= 1024 else f"{mebibytes:.0f} MiB"
    if (largest.accumulate or 1) > 1:
        notes += f"; its batch in {largest.accumulate} parts"
    if profile.gpus and needed(largest) > profile.gpu_bytes:
        notes += f". That is more than gpu_memory, {profile.gpu_memory}: try --recompute"
    if processes == 1:
        return f"{size} of GPU memory per run {notes}; as many at once as fit"
    unit = "GPU" if profile.gpus else "process"
    return f"{size} of memory per {unit}, {plan.execution.parallel} on {processes} {notes}"


def _known(plan: Plan) -> str:
    """How far the times of what is left can be trusted."""
    measured = [bundle.seconds_measured for bundle in plan.bundles_left]
    return "measured" if all(measured) else "partly measured" if any(measured) else "estimated"


def _shape(bundle: Bundle) -> str:
    return f"width {bundle.config.model.width}, depth {bundle.config.model.depth}"
