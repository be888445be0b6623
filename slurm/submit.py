"""Workers as SLURM job arrays: what is asked of sbatch, and the submission itself."""

from __future__ import annotations

import io
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError
from submitit.slurm.slurm import _make_sbatch_string

from paper_repro.errors import ConfigError
from paper_repro.paths import VARIABLE
from slurm.environment import outside_allocations
from slurm.profiles import Profile
from slurm.queue import QueuedWorkers, note_submission
from slurm.snapshots import copied, snapshot_path, take_snapshot
from slurm.worker import Worker

REQUEUES = 100
"""How often a job may reach its time limit and be queued again."""


def array_sizes(workers: int, limit: int) -> list[int]:
    """The sizes of the arrays in which `workers` workers are submitted."""
    return [min(limit, workers - first) for first in range(0, workers, limit)]


def scripts(
    profile: Profile, name: str, workers: int, folder: Path, factories: Sequence[str] = ()
) -> list[str]:
    """The scripts that `submit` gives to sbatch, one per array: submitit's own text."""
    sizes = array_sizes(workers, profile.array_limit)
    imported_from = [snapshot_path(folder.parent, factories), *_beside(factories)]
    command = shlex.join([sys.executable, "-u", "-m", "submitit.core._submit", str(folder)])
    return [
        _make_sbatch_string(
            command,
            folder,
            map_count=size if size > 1 else None,
            **_parameters(profile, name, sizes, imported_from),
        )
        for size in sizes
    ]


def submit(
    worker: Worker, workers: int, profile: Profile, name: str, folder: Path
) -> QueuedWorkers:
    """Queue `workers` workers, which run the code that is on disk now.

    `folder` gets their logs and submitit's own files; beside it lies the copy of the code.

    Raises:
        ConfigError: there is no SLURM here, it refuses the jobs, or the code cannot be copied.
    """
    sizes = array_sizes(workers, profile.array_limit)
    code = take_snapshot(folder.parent, worker.factories)
    imported_from = [code, *_beside(worker.factories)]
    worker = replace(worker, code_hash=code.name)
    ids: list[str] = []
    try:
        executor = submitit.SlurmExecutor(folder, max_num_timeout=REQUEUES)
        executor.update_parameters(**_parameters(profile, name, sizes, imported_from))
        # submitit copies what sbatch says to stderr.
        with redirect_stderr(io.StringIO()), outside_allocations():
            for size in sizes:
                with executor.batch():
                    jobs = [executor.submit(worker) for _ in range(size)]
                ids.append(str(jobs[0].job_id).partition("_")[0])
                # On disk before the next is submitted.
                note_submission(folder, ids[-1], size, bool(profile.gpus))
    except (RuntimeError, FailedJobError) as error:
        reason = " ".join(str(error).split())
        queued = f" (queued before that, and left so: {', '.join(ids)})" if ids else ""
        raise ConfigError(f"--cluster slurm: cannot submit: {reason}{queued}") from None
    return QueuedWorkers(ids, name)


def _beside(factories: Sequence[str]) -> list[Path]:
    """Where the modules lie that a factory imports from beside its own, which is copied."""
    return list(dict.fromkeys(code.root for code in copied(factories)))


def _parameters(
    profile: Profile, name: str, sizes: Sequence[int], imported_from: Sequence[Path]
) -> dict[str, Any]:
    """The arguments of submitit's SLURM executor."""
    several = profile.processes > 1
    path = os.pathsep.join(map(str, imported_from))
    exports = [f"export {key}={_shell_word(str(v))}" for key, v in profile.environment.items()]
    return {
        "job_name": name,
        **profile.model_dump(include={"partition", "account", "qos", "nodes"}),
        # submitit does not accept None here.
        **({"ntasks_per_node": profile.tasks} if several else {}),
        "gpus_per_node": profile.gpus or None,
        "cpus_per_task": profile.cpus,
        "mem": profile.memory,
        "time": profile.minutes,
        "array_parallelism": max(1, profile.concurrency // len(sizes)),
        # CPUs: srun does not inherit them since SLURM 22.05. Export: what the script sets reaches
        # Python even with sbatch's option `export: NONE`, which srun would inherit. Kill: otherwise
        # the tasks that are left would wait for the one that is gone.
        "srun_args": [
            f"--cpus-per-task={profile.cpus}",
            "--export=ALL",
            *(["--kill-on-bad-exit=1"] if several else []),
        ],
        "wckey": None,
        # Our modules come from the copy, the first of these, wherever else some are. After the
        # rest, since a site's own modules may set PYTHONPATH too. `-m` would put the directory of
        # the launch, often the repository, before it: hence PYTHONSAFEPATH.
        "setup": [
            *profile.setup,
            *exports,
            f'export PYTHONPATH={shlex.quote(path)}"${{PYTHONPATH:+:$PYTHONPATH}}"',
            "export PYTHONSAFEPATH=1",
        ],
        "additional_parameters": {"requeue": True, **profile.options},
    }


def _shell_word(text: str) -> str:
    """A value as bash reads it: the job expands `~/` and `$NAME`, and nothing else."""
    if text == "~" or text.startswith("~/"):
        text = f"$HOME{text[1:]}"
    word, end = "", 0
    for variable in VARIABLE.finditer(text):
        word += _quoted(text[end : variable.start()]) + f'"{variable[0]}"'
        end = variable.end()
    return word + _quoted(text[end:]) or "''"


def _quoted(text: str) -> str:
    return shlex.quote(text) if text else ""
