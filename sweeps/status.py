"""`python -m sweeps.status FILE.yaml`: where the runs of a sweep stand, read from disk.

SLURM, where it is there, only tells whether the job of a run that seems to be running still exists.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console

from sweeps import cli
from sweeps.expand import read_sweep
from sweeps.plan import make_plan
from sweeps.report import duration, print_states

EXAMPLES = """\
  python -m sweeps.status sweeps/lr_width.yaml
  python -m sweeps.status sweeps/lr_width.yaml --runs-dir /scratch/runs"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = cli.make_parser(
        "status", "Show how many runs of a sweep are done, running, lost or failed.", EXAMPLES
    )
    return cli.run(status, parser, argv)


def status(arguments: argparse.Namespace) -> int:
    """Print the table of states, the failed runs and the time to go."""
    console = Console()
    plan = make_plan(
        read_sweep(arguments.file, arguments.overrides, arguments.size),
        arguments.runs_dir.resolve(),
    )
    print_states(console, plan)
    running = plan.count()["running"]
    if plan.missing and running:
        console.print(f"ETA {duration(plan.seconds_left / running)} with {running} running")
    elif plan.missing:
        left = duration(plan.seconds_left)
        console.print(f"about {left} of {plan.device} left, nothing is running")
    return cli.OK


if __name__ == "__main__":
    sys.exit(main())
