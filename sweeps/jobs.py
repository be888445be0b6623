"""What the SLURM jobs of a launch ask for, from the costs of the runs to do; `--dry-run` shows it.

`slurm.resources` has the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from paper_repro.config import Execution
from paper_repro.cost import process_bytes
from slurm.profiles import Profile
from slurm.resources import MEMORY_MARGIN, START_SECONDS, TIME_MARGIN, WorkLeft, fitted
from sweeps.plan import Bundle, Plan, vocabulary_size
from sweeps.report import duration, say


def fitted_profile(plan: Plan, profile: Profile, jobs: int) -> Profile:
    """The profile with the time and memory that each of so many jobs asks for."""
    return fitted(profile, _work(plan, profile), jobs)


def print_jobs(
    console: Console, plan: Plan, profile: Profile, jobs: int, execution: Execution
) -> None:
    """The jobs that a launch would submit, why so large, and the scripts that sbatch would get."""
    from slurm.submit import array_sizes, scripts

    asked = fitted_profile(plan, profile, jobs)
    sizes = ", ".join(map(str, array_sizes(jobs, profile.array_limit)))
    arrays = f" in arrays of {sizes}" if jobs > 1 else ""
    lines = [
        f"jobs (slurm): {jobs:,}{arrays}; at most {profile.concurrency:,} at a time",
        f"  time    {asked.time} each, {_why_time(plan, profile, asked, jobs)}",
        f"  memory  {asked.memory} each, {_why_memory(plan, profile)}",
        f"  cost    {_cost(plan, profile)}",
    ]
    if profile.processes > 1 or profile.gpus:
        lines.append(f"  device  {_of_device(plan, profile, execution)}")
    if plan.gpu and not all(_timed(plan)):
        lines.append(
            "  Rough: an H200 took less than half the time; memory of the host was never measured."
        )
    say(console, "\n".join(lines))
    # Arrays of one size differ in nothing.
    for script in dict.fromkeys(scripts(asked, plan.sweep.name, jobs, plan.jobs)):
        print(f"\n{script}", end="")


def _work(plan: Plan, profile: Profile) -> WorkLeft:
    bundles = plan.bundles_left
    return WorkLeft(
        seconds=plan.seconds_left,
        longest=max(bundle.seconds_at_once for bundle in bundles),
        host_bytes=profile.tasks * max(bundle.host_bytes for bundle in bundles),
    )


def _why_time(plan: Plan, profile: Profile, asked: Profile, jobs: int) -> str:
    work = _work(plan, profile)
    if asked.minutes == profile.minutes:
        return "the profile's limit: a job that reaches it is queued again"
    dearest = max(plan.bundles_left, key=lambda bundle: bundle.seconds_at_once)
    whose = "a job's share of the work"
    if work.longest >= work.of_job(jobs):
        runs = "run" if dearest.at_once == 1 else f"{dearest.at_once} runs at once"
        whose = f"dearest {runs}, {_shape(dearest)}"
    seconds = duration(work.of_job(jobs))
    known = _known(_timed(plan))
    return f"{START_SECONDS / 60:.0f} min + {TIME_MARGIN:.0f} x {seconds} ({whose}, {known})"


def _why_memory(plan: Plan, profile: Profile) -> str:
    if profile.memory:
        return "as the profile says"
    largest = max(plan.bundles_left, key=lambda bundle: bundle.host_bytes)
    known = _known([largest.host_bytes_measured])
    tasks = f"{profile.tasks} tasks x " if profile.tasks > 1 else ""
    mebibytes = f"{largest.host_bytes / 2**20:.0f}M"
    return f"{MEMORY_MARGIN} x {tasks}{mebibytes} (largest run, {_shape(largest)}, {known})"


def _cost(plan: Plan, profile: Profile) -> str:
    """GPU-hours of the whole launch, or core-hours where jobs have no GPU."""
    devices = profile.processes * (1 if profile.gpus else profile.cpus)
    hours = plan.seconds_left / 3600 * devices
    unit = "GPU-hours" if profile.gpus else "CPU core-hours"
    amount = f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"
    return f"about {amount} {unit} in all ({_known(_timed(plan))})"


def _of_device(plan: Plan, profile: Profile, execution: Execution) -> str:
    """Memory of the GPU, or of each process of those that train a run together."""
    processes = profile.processes

    def needed(bundle: Bundle) -> float:
        vocabulary = vocabulary_size(bundle.config)
        return process_bytes(bundle.config, vocabulary, processes, execution)

    largest = max(plan.bundles_left, key=needed)
    size, shape = _size(needed(largest)), f"({_shape(largest)}, estimated)"
    if processes == 1:
        return f"{size} of GPU memory a run {shape}; as many at once as fit"
    unit = "GPU" if profile.gpus else "process"
    return f"{size} of memory a {unit}, {execution.parallel} on {processes} {shape}"


def _size(bytes_: float) -> str:
    return f"{bytes_ / 2**30:.1f} GiB" if bytes_ >= 2**30 else f"{bytes_ / 2**20:.0f} MiB"


def _known(measured: Sequence[bool]) -> str:
    """How far costs can be trusted."""
    if all(measured):
        return "measured"
    if any(measured):
        return "partly measured"
    return "estimated"


def _timed(plan: Plan) -> list[bool]:
    return [bundle.seconds_measured for bundle in plan.bundles_left]


def _shape(bundle: Bundle) -> str:
    return f"width {bundle.config.model.width}, depth {bundle.config.model.depth}"
