"""`python -m sweeps.launch FILE.yaml`: train what a sweep wants and the disk does not have yet."""

from __future__ import annotations

import argparse
import importlib.util
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from rich.console import Console

from paper_repro.config import DataConfig, Execution
from paper_repro.errors import ConfigError
from paper_repro.records.lease import expire_lease
from slurm.hardware import gpus
from slurm.queue import pauses
from sweeps import cli
from sweeps.expand import Sweep, read_sweep
from sweeps.jobs import print_jobs
from sweeps.plan import Plan, make_plan, refresh
from sweeps.progress import Display
from sweeps.report import counts, print_failures, print_plan, say
from sweeps.state import UNSETTLED
from sweeps.workers import choose_execution, choose_profile, submit, worker_count

if TYPE_CHECKING:
    from slurm.local import Workers, WorkersHere
    from slurm.profiles import Profile

STOP_SECONDS = 60.0
"""How long a stopped launch waits for its workers to save their runs."""

EXAMPLES = """\
  python -m sweeps.launch sweeps/smoke.yaml --dry-run
  python -m sweeps.launch sweeps/lr_width.yaml --workers 2
  python -m sweeps.launch sweeps/lr_width.yaml --size gpu --dtype bfloat16
  python -m sweeps.launch sweeps/lr_width.yaml --set train.tokens=200000 --runs-dir /scratch/runs
  python -m sweeps.launch sweeps/lr_width.yaml --cluster slurm --profile slurm/gpu_site.yaml

exit code: 0 all runs are done (a diverged run is a result), 1 some failed or are missing,
2 the file or an argument is wrong, 130 stopped. Launching again does only what is missing."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return cli.run(launch, _parser(), argv)


def launch(arguments: argparse.Namespace) -> int:
    """Validate everything, show the plan, train what is missing, tell the result."""
    console = Console()
    sweep = read_sweep(arguments.file, arguments.overrides, arguments.size)
    profile = choose_profile(sweep, arguments)
    _check_figure(sweep)
    gpu = bool(profile.gpus) if profile else bool(gpus(arguments.device))
    processes = profile.processes if profile else 1
    plan = make_plan(sweep, arguments.runs_dir.resolve(), gpu, processes)
    unchecked = _check_corpora(sweep, arguments.dry_run) if plan.missing else []
    print_plan(console, plan)
    if arguments.dry_run:
        if unchecked:
            say(console, f"corpus {', '.join(unchecked)}: not checked, a dry run downloads nothing")
        if profile and plan.missing:
            jobs = worker_count(plan, profile, arguments)
            print_jobs(console, plan, profile, jobs, choose_execution(profile, arguments))
        return cli.OK
    if not plan.missing:
        console.print("Nothing to do: every run has its result.")
        return cli.OK
    plan, finished = _train(console, plan, profile, arguments)
    if not finished:
        return cli.INTERRUPTED
    return _conclude(console, plan, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(
        "launch", "Train the runs of a sweep that have no result yet.", EXAMPLES
    )
    choices = Execution.model_fields
    parser.add_argument(
        "--cluster",
        choices=["local", "slurm", "debug"],
        default="local",
        help="local: worker processes here; slurm: a job array; debug: in this process"
        " (default: %(default)s)",
    )
    parser.add_argument(
        "--profile",
        metavar="FILE",
        type=Path,
        help="what --cluster slurm asks the site for, see slurm/README.md (default: the sweep"
        " file's key profile, or the site's own defaults)",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=_positive,
        help="how many runs at a time (default: the number of cores, or of GPUs; on slurm the"
        " profile's concurrency)",
    )
    parser.add_argument("--dry-run", action="store_true", help="show the plan and stop")
    parser.add_argument(
        "--device",
        choices=get_args(choices["device"].annotation),
        default=choices["device"].default,
        help="auto takes a GPU if there is one (default: %(default)s)",
    )
    parser.add_argument(
        "--dtype",
        choices=get_args(choices["dtype"].annotation),
        default=choices["dtype"].default,
        help="precision of matrix products (default: %(default)s)",
    )
    parser.add_argument(
        "--parallel",
        choices=get_args(choices["parallel"].annotation),
        help="what each of several processes that train a run has of its model: a whole copy or a"
        f" shard (default: {choices['parallel'].default})",
    )
    parser.add_argument(
        "--accumulate",
        metavar="N",
        type=_positive,
        default=1,
        help="compute a batch in so many parts, to save memory (default: %(default)s)",
    )
    parser.add_argument(
        "--recompute",
        action="store_true",
        help="recompute blocks in the backward pass: far less memory, a third more work",
    )
    parser.add_argument(
        "--compile",
        choices=["auto", "always", "never"],
        default="auto",
        help="torch.compile, once a bundle; auto: where its runs are long enough to repay it"
        " (default: %(default)s)",
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0 (got {text!r})")
    return int(text)


def _check_figure(sweep: Sweep) -> None:
    """Check that the figure to be drawn in the end exists, without depending on its code.

    Raises:
        ConfigError: naming the sweep file and the key.
    """
    if sweep.figure and importlib.util.find_spec(f"figures.{sweep.figure}") is None:
        raise ConfigError(f"{sweep.path}: figure: there is no figure {sweep.figure!r}")


def _check_corpora(sweep: Sweep, dry_run: bool) -> list[str]:
    """Check that every corpus is there and long enough; builds its token files if need be.

    Returns the corpora that were not checked: in a dry run, those that are on the hub.

    Raises:
        ConfigError: naming the sweep file and the key.
    """
    from paper_repro.data import load_dataset
    from paper_repro.data.corpora import on_hub

    unchecked: dict[str, None] = {}
    sequences: dict[DataConfig, int] = {}
    validation: dict[DataConfig, int] = {}
    for config in sweep.runs.values():
        data, train = config.data, config.train
        if dry_run and on_hub(data.corpus):
            unchecked[data.corpus] = None
            continue
        sequences[data] = max(sequences.get(data, 0), config.steps * train.batch_size)
        validation[data] = max(validation.get(data, 0), train.eval_sequences)
    try:
        for data, wanted in sequences.items():
            dataset = load_dataset(data)
            dataset.check_length(sequences=wanted, max_epochs=data.max_epochs)
            dataset.validation_batches(validation[data], batch_size=1)
    except ConfigError as error:
        raise ConfigError(f"{sweep.path}: {error}") from None
    return list(unchecked)


def _train(
    console: Console, plan: Plan, profile: Profile | None, arguments: argparse.Namespace
) -> tuple[Plan, bool]:
    """Submit workers and watch them; the last plan, and False if the user stopped the launch."""
    count = worker_count(plan, profile, arguments)
    try:
        _prepare_records(plan)
        workers = submit(plan, profile, arguments)
    except OSError as error:
        raise ConfigError(
            f"--runs-dir: {plan.directory} cannot be written ({error.strerror})"
        ) from None
    console.print(
        f"workers ({arguments.cluster}): {count}, logs in {plan.jobs}",
        highlight=False,
        soft_wrap=True,
    )
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        with Display(console, plan, count) as display:
            return _watch(plan, workers, display, arguments.cluster), True
    except KeyboardInterrupt:
        _interrupt(console, workers, arguments.cluster)
        return plan, False
    finally:
        signal.signal(signal.SIGTERM, previous)


def _prepare_records(plan: Plan) -> None:
    """Write down what each missing run is; what failed or was lost is free again."""
    for run_id in plan.missing:
        plan.records[run_id].create(plan.sweep.runs[run_id])
        state = plan.states[run_id]
        if state.state == "failed":
            plan.records[run_id].status_path.unlink(missing_ok=True)
        if state.state == "lost" and state.job:
            expire_lease(plan.records[run_id].directory, state.job)


def _watch(plan: Plan, workers: Workers, display: Display, cluster: str) -> Plan:
    """Show progress until nothing more will happen.

    That is when our workers are gone and no other launch works on our runs either. What a worker
    did is read from the records; jobs of SLURM are not waited for once every run has an outcome.
    """
    asking = pauses()
    while True:
        gone = workers.gone()  # the debug cluster trains in here
        started = time.monotonic()
        ask = gone and cluster == "slurm"
        plan = refresh(plan, ask)
        display.update(plan)
        count = plan.count()
        settled = not any(count[state] for state in UNSETTLED)
        if (settled and cluster == "slurm") or (gone and not count["running"]):
            return plan
        time.sleep(max(next(asking) if ask else 0.5, 10 * (time.monotonic() - started)))


def _interrupt(console: Console, workers: Workers, cluster: str) -> None:
    from slurm.local import WorkersHere

    if not isinstance(workers, WorkersHere):
        console.print(
            "Stopped watching; the SLURM jobs stay (python -m sweeps.cancel ends them). The same "
            "command watches and completes the sweep."
        )
        return
    if cluster == "local":
        console.print("Stopping: workers save their runs ...")
        _stop(workers)
    console.print("Stopped. The same command resumes where the runs are.")


def _stop(workers: WorkersHere) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline and not workers.gone():
        workers.stop()
        time.sleep(0.5)


def _conclude(console: Console, plan: Plan, arguments: argparse.Namespace) -> int:
    """Tell the result and draw the sweep's figure if it is complete; the exit code."""
    console.print(counts(plan), highlight=False)
    print_failures(console, plan)
    count = plan.count()
    if without_result := sum(count[state] for state in UNSETTLED):
        console.print(
            f"{without_result:,} runs have no result: their workers ended before they did "
            f"(see {plan.jobs}). Launch again to do them.",
            style="red",
            soft_wrap=True,
        )
    if plan.missing:
        return cli.FAILED
    if plan.sweep.figure:
        _draw(console, plan)
    return cli.OK


def _draw(console: Console, plan: Plan) -> None:
    """Draw a sweep's figure in a process of its own: sweeps must not depend on figures.

    Beside the records: committed results and figures may be of more seeds than this sweep.
    """
    sweep, records = plan.sweep, str(plan.directory)
    command = [sys.executable, "-m", "figures", str(sweep.figure), "--sweep", sweep.name]
    command += ["--runs-dir", str(plan.directory.parent)]
    command += ["--results-dir", records, "--output-dir", records]
    if subprocess.run(command, check=False).returncode:
        console.print(f"The figure {sweep.figure} could not be drawn.", style="red")


if __name__ == "__main__":
    sys.exit(main())
