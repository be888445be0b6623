"""`python -m sweeps.status FILE.yaml`: where the runs of a sweep stand, read from disk.

Where there is SLURM, it is asked only whether the jobs of the runs that seem to be running exist.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console

from paper_repro.command import command
from slurm import queue
from sweeps.expand import read_sweep
from sweeps.options import OK, SweepOptions, run
from sweeps.plan import edited, make_plan, mark_lost
from sweeps.report import duration, print_states, say, waiting_text

DESCRIPTION = "Show how many runs of a sweep are done, running, lost or failed."
EXAMPLES = """\
  python -m sweeps.status sweeps/lr_width.yaml
  python -m sweeps.status sweeps/lr_width.yaml --runs-dir /scratch/runs"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    return run(status, SweepOptions, DESCRIPTION, EXAMPLES, argv)


def status(options: SweepOptions) -> int:
    """Print the table of states, the failed runs and the time to go.

    Raises:
        ConfigError: the sweep file is wrong, or its records have ids of an earlier version.
    """
    console = Console()
    sweep = read_sweep(options.file, options.overrides, options.size, options.seeds)
    plan = mark_lost(make_plan(sweep, options.runs_dir.resolve()))
    print_states(console, plan)
    if found := edited(plan):
        say(console, f"{len(found):,} of the runs were trained by other code of model.factory")
    running = plan.count()["running"]
    if plan.to_do and running:
        console.print(f"ETA {duration(plan.seconds_left / running)} with {running} running")
    elif plan.to_do:
        left = duration(plan.seconds_left)
        console.print(f"about {left} of {plan.device} left, nothing is running")
    submitted = queue.submitted(plan.jobs) if plan.to_do else []
    if submitted and (waiting := queue.waiting(sweep.name, submitted)):
        say(console, f"jobs: {waiting_text(waiting)}")
    return OK


if __name__ == "__main__":
    sys.exit(main())
