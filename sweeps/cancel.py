"""`python -m sweeps.cancel FILE.yaml`: end the SLURM jobs of a sweep, queued or running."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from paper_repro.errors import ConfigError
from slurm.queue import cancel, live_arrays, submitted
from sweeps import cli
from sweeps.expand import read_sweep
from sweeps.plan import make_plan

EXAMPLES = """\
  python -m sweeps.cancel sweeps/lr_width.yaml
  python -m sweeps.cancel sweeps/lr_width.yaml --runs-dir /scratch/runs"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = cli.make_parser(
        "cancel",
        "End the SLURM jobs of a sweep, queued or running. Their runs are saved first, and the "
        "next launch goes on with them. Workers on this machine end with their launch.",
        EXAMPLES,
    )
    return cli.run(_cancel, parser, argv)


def _cancel(arguments: argparse.Namespace) -> int:
    sweep = read_sweep(arguments.file, arguments.overrides, arguments.size)
    noted = submitted(make_plan(sweep, arguments.runs_dir.resolve()).jobs)
    live = live_arrays(sweep.name) if noted else frozenset()
    if live is None:
        raise ConfigError("SLURM does not answer (squeue): nothing was cancelled")
    ids = [job_id for job_id in noted if job_id in live]
    if not ids:
        print("Nothing to cancel: no job of this sweep is queued or running.")
        return cli.OK
    cancel(ids, sweep.name)
    print(f"Cancelled: {', '.join(ids)}")
    return cli.OK


if __name__ == "__main__":
    sys.exit(main())
