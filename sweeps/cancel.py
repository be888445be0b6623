"""`python -m sweeps.cancel FILE.yaml`: end the SLURM jobs of a sweep, queued or running."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from paper_repro.command import command
from paper_repro.errors import ConfigError
from slurm import queue
from sweeps.expand import read_sweep
from sweeps.options import OK, SweepOptions, run
from sweeps.plan import JOBS

DESCRIPTION = (
    "End the SLURM jobs of a sweep, queued or running. Their runs are saved first, and the "
    "next launch goes on with them. Workers on this machine end with their launch."
)
EXAMPLES = """\
  python -m sweeps.cancel sweeps/lr_width.yaml
  python -m sweeps.cancel sweeps/lr_width.yaml --runs-dir /scratch/runs"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    return run(cancel, SweepOptions, DESCRIPTION, EXAMPLES, argv)


def cancel(options: SweepOptions) -> int:
    """End the jobs of a sweep that were noted beside its records and still live.

    Raises:
        ConfigError: the sweep file is wrong, or SLURM does not answer.
    """
    sweep = read_sweep(options.file, options.overrides, options.size, options.seeds)
    noted = queue.submitted(options.runs_dir.resolve() / sweep.name / JOBS)
    live = queue.live_arrays(sweep.name) if noted else frozenset()
    if live is None:
        raise ConfigError("SLURM does not answer (squeue): nothing was cancelled")
    ids = [job_id for job_id in noted if job_id in live]
    if not ids:
        print("Nothing to cancel: no job of this sweep is queued or running.")
        return OK
    queue.cancel(ids, sweep.name)
    print(f"Cancelled: {', '.join(ids)}")
    return OK


if __name__ == "__main__":
    sys.exit(main())
