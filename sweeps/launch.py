"""`python -m sweeps.launch FILE.yaml`: train what a sweep wants and the disk does not have yet."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console

from paper_repro.command import INTERRUPTED, command
from paper_repro.config import DataConfig
from paper_repro.cost import GPU_BYTES
from paper_repro.errors import ConfigError
from paper_repro.records.lease import expire_lease
from paper_repro.search import write_found
from slurm.hardware import default_workers, gpu_bytes, gpus
from slurm.profiles import Profile, read_profile
from slurm.queue import QueuedWorkers, pauses
from slurm.resources import fitted
from slurm.snapshots import check_place
from sweeps.checks import (
    check_corpora,
    check_figure,
    check_models,
    check_proposers,
    check_unedited,
)
from sweeps.drawing import LaunchFigure
from sweeps.expand import Sweep, read_sweep
from sweeps.mixing import check_identities, check_mixing
from sweeps.options import FAILED, OK, Cluster, LaunchOptions, run
from sweeps.plan import (
    Bundle,
    Plan,
    make_plan,
    mark_lost,
    refresh,
    work_left,
)
from sweeps.precision import with_precision
from sweeps.progress import Display
from sweeps.report import (
    counts,
    print_failures,
    print_jobs,
    print_plan,
    print_searches,
    print_unfinished,
    say,
)
from sweeps.shared_runs import finished_elsewhere, take_over
from sweeps.state import UNSETTLED

if TYPE_CHECKING:
    from slurm.local import WorkersHere

    Workers = WorkersHere | QueuedWorkers

DESCRIPTION = "Train the runs of a sweep that have no result yet."
STOP_SECONDS = 60.0
"""How long a stopped launch waits for its workers to save their runs."""

EXAMPLES = """\
  python -m sweeps.launch sweeps/smoke.yaml --dry-run
  python -m sweeps.launch sweeps/lr_width.yaml --workers 2
  python -m sweeps.launch sweeps/lr_width.yaml --size gpu
  python -m sweeps.launch sweeps/lr_width.yaml --set train.tokens=200000 --runs-dir /scratch/runs
  python -m sweeps.launch sweeps/lr_width.yaml --cluster slurm --profile slurm/gpu_site.yaml

exit code: 0 all runs are done (a diverged run is a result), 1 some failed or are missing,
2 the file or an argument is wrong, 130 stopped. Launching again does only what is missing."""


@command
def main(argv: Sequence[str] | None = None) -> int:
    return run(launch, LaunchOptions, DESCRIPTION, EXAMPLES, argv)


def launch(options: LaunchOptions) -> int:
    """Check everything, show the plan, train what is missing, and report the result.

    Returns:
        the command's exit code, but for 2: what is wrong is raised.

    Raises:
        ConfigError: one line naming the file or the option, the key and what was expected.
    """
    console = Console()
    sweep = read_sweep(options.file, options.overrides, options.size, options.seeds)
    profile = _cluster_profile(sweep, options)
    check_proposers(sweep)
    runs_dir = options.runs_dir.resolve()
    gpu = bool(profile.gpus) if profile else bool(gpus(options.execution.device))
    processes = profile.processes if profile else 1
    options = with_precision(options, sweep, gpu)
    check_models(sweep, options.execution, processes)
    memory = profile.gpu_bytes if profile else (gpu and gpu_bytes()) or GPU_BYTES
    plan = mark_lost(make_plan(sweep, runs_dir, gpu, processes, options.execution, memory))
    check_unedited(plan)
    check_identities(plan)
    if profile:
        check_place(plan.directory)
    if plan.to_do:
        check_figure(sweep)
    hashes, unchecked = check_corpora(plan, options.dry_run)
    mixed = check_mixing(plan, hashes, options.execution.dtype)
    plan, taken_over = _take_over(plan, options, hashes)
    print_plan(console, plan)
    if options.dtype == "auto":
        say(console, f"precision (--dtype auto): {options.execution.dtype}")
    if taken_over:
        say(console, taken_over)
    for difference in mixed:
        console.print(f"Not comparable: {difference}", style="yellow", soft_wrap=True)
    if options.dry_run:
        if unchecked and plan.to_do:
            say(console, f"corpus {', '.join(unchecked)}: not checked, a dry run downloads nothing")
        if profile and plan.to_do:
            count = _worker_count(plan, profile, options)
            print_jobs(console, plan, profile, count)
        return OK
    if not plan.to_do:
        console.print("Nothing to do: every run has its result.")
        print_searches(console, plan)
        return OK
    figure = LaunchFigure(plan, console)
    trained = _train(console, plan, profile, figure, options)
    return _conclude(console, trained, figure, before=plan) if trained else INTERRUPTED


def _cluster_profile(sweep: Sweep, options: LaunchOptions) -> Profile | None:
    """The cluster profile, for SLURM only; where none is named, what the site gives by default.

    Raises:
        ConfigError: it is wrong, or given without SLURM.
    """
    asked = options.execution
    parallel = "parallel" in asked.model_fields_set
    if options.cluster != "slurm":
        if options.profile or parallel:
            option = "profile" if options.profile else "parallel"
            raise ConfigError(f"--{option}: expected with --cluster slurm only")
        return None
    path = options.profile or sweep.profile
    if path is None:
        return Profile(gpus=1 if asked.device == "cuda" else 0)
    profile = read_profile(path)
    if asked.device == "cuda" and not profile.gpus:
        raise ConfigError(f"{path}: gpus: expected 1 or TYPE:1 with --device cuda (got 0)")
    if parallel and profile.processes == 1:
        raise ConfigError(f"{path}: nodes, tasks: expected several with --parallel (got 1)")
    for batch_size in {config.train.batch_size for config in sweep.runs.values()}:
        if batch_size % profile.processes:
            raise ConfigError(
                f"{sweep.path}: train.batch_size: expected a multiple of {profile.processes}, the "
                f"processes of a job in {path} (nodes times tasks) (got {batch_size})"
            )
    return profile


def _take_over(
    plan: Plan, options: LaunchOptions, hashes: Mapping[DataConfig, str]
) -> tuple[Plan, str]:
    """Copy what other sweeps have finished, unless this is a dry run, and say so."""
    found = finished_elsewhere(plan, options.execution, hashes)
    if not found:
        return plan, ""
    sweeps = ", ".join(sorted({record.directory.parent.name for record in found.values()}))
    done = f"of these, finished in {sweeps}: {len(found):,}"
    if options.dry_run:
        return plan, f"{done} (a launch copies the records)"
    try:
        return take_over(plan, found), f"{done} (records copied)"
    except OSError as error:
        raise _not_writable(plan, error) from None


def _not_writable(plan: Plan, error: OSError) -> ConfigError:
    return ConfigError(f"--runs-dir: {plan.directory} cannot be written ({error.strerror})")


def _worker_count(plan: Plan, profile: Profile | None, options: LaunchOptions) -> int:
    """How many workers to start: no more than there are runs to do."""
    if options.cluster == "debug":
        return 1
    default = profile.concurrency if profile else default_workers(options.execution.device)
    return min(options.workers or default, plan.to_do)


def _train(
    console: Console,
    plan: Plan,
    profile: Profile | None,
    figure: LaunchFigure,
    options: LaunchOptions,
) -> Plan | None:
    """Submit workers and watch them; the last plan, or None if the user stopped the launch."""
    count = _worker_count(plan, profile, options)
    try:
        _prepare_records(plan)
        workers = _submit(plan, count, profile, options)
    except OSError as error:
        raise _not_writable(plan, error) from None
    console.print(
        f"workers ({options.cluster}): {count}, logs in {plan.jobs}",
        highlight=False,
        soft_wrap=True,
    )
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        display = Display(console, plan, count)
        with display.bar:
            return _watch(plan, workers, display, figure, options.cluster)
    except KeyboardInterrupt:
        _interrupt(console, workers, options.cluster)
        return None
    finally:
        figure.stop()
        signal.signal(signal.SIGTERM, previous)


def _prepare_records(plan: Plan) -> None:
    """Write down what each missing run is; those that failed or were lost can be taken again."""
    for run_id in plan.missing:
        record, state = plan.records[run_id], plan.states[run_id]
        record.create(plan.sweep.runs[run_id])
        if state.state == "failed":
            record.retry()  # reads again: another launch may have finished the run meanwhile
        if state.state == "lost" and state.job:
            expire_lease(record.directory, state.job)


def _submit(plan: Plan, count: int, profile: Profile | None, options: LaunchOptions) -> Workers:
    """Give the missing runs to `count` workers."""
    # submitit is slow to import, and a plan does without it.
    from slurm import local
    from slurm import submit as arrays
    from slurm.worker import Work, Worker

    def compiled(bundle: Bundle) -> bool:
        return bundle.compile_pays if options.compile == "auto" else options.compile == "always"

    missing = set(plan.missing)
    worker = Worker(
        plan.directory,
        tuple(
            Work(
                tuple(run for run in bundle.runs if run in missing),
                compiled(bundle),
                bundle.accumulate,
            )
            for bundle in plan.bundles_left
        ),
        options.execution,
        processes=plan.processes,
        searches=plan.sweep.searches,
        factories=plan.sweep.factories,
    )
    if profile:  # as many threads as a task has CPUs
        execution = worker.execution.model_copy(update={"threads": profile.cpus})
        worker = replace(worker, execution=execution)
        asked = fitted(profile, work_left(plan, profile.tasks), count)
        return arrays.submit(worker, count, asked, plan.sweep.name, plan.jobs)
    assert options.cluster != "slurm"  # it always has a profile
    return local.submit(worker, count, options.cluster, plan.jobs)


def _watch(
    plan: Plan, workers: Workers, display: Display, figure: LaunchFigure, cluster: Cluster
) -> Plan:
    """Show progress until nothing more will happen; returns the last plan.

    That is when our workers are gone and no other launch works on our runs either. What a worker
    did is read from the records; SLURM jobs are not waited for once every run has an outcome.
    """
    asking = pauses()
    while True:
        gone = workers.gone()  # the debug cluster trains in here
        started = time.monotonic()
        ask = gone and cluster == "slurm"
        plan = mark_lost(refresh(plan)) if ask else refresh(plan)
        display.update(plan, workers.waiting)
        figure.keep_up(plan)
        count = plan.count()
        settled = not any(count[state] for state in UNSETTLED) and not plan.unasked
        if (settled and cluster == "slurm") or (gone and not count["running"]):
            return plan
        time.sleep(max(next(asking) if ask else 0.5, 10 * (time.monotonic() - started)))


def _interrupt(console: Console, workers: Workers, cluster: Cluster) -> None:
    from slurm.local import WorkersHere

    if not isinstance(workers, WorkersHere):
        console.print(
            "Stopped watching; the SLURM jobs stay (python -m sweeps.cancel ends them). The same "
            "command watches and completes the sweep."
        )
        return
    if cluster == "local":
        console.print("Stopping: workers save their runs ...")
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline and not workers.gone():
            workers.stop()
            time.sleep(0.5)
    console.print("Stopped. The same command resumes where the runs are.")


def _conclude(console: Console, plan: Plan, figure: LaunchFigure, before: Plan) -> int:
    """Report the result, draw the figure of a complete sweep, and return the exit code."""
    console.print(counts(plan), highlight=False)
    print_failures(console, plan)
    print_searches(console, plan)
    for state in plan.searches:
        if path := write_found(state):
            say(console, f"found: {path}")
    print_unfinished(console, plan, before)
    if plan.to_do:
        return FAILED
    figure.conclude()
    return OK


if __name__ == "__main__":
    sys.exit(main())
