"""From a plan to workers: how many, where, and under which cluster profile."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from paper_repro.config import Execution
from paper_repro.errors import ConfigError
from slurm.hardware import default_workers
from sweeps.expand import Sweep
from sweeps.jobs import fitted_profile
from sweeps.plan import Plan

if TYPE_CHECKING:
    from slurm.local import Workers
    from slurm.profiles import Profile


def choose_profile(sweep: Sweep, arguments: argparse.Namespace) -> Profile | None:
    """The cluster profile, for SLURM only; without one, what the site gives by default.

    Raises:
        ConfigError: it is wrong, or given without SLURM.
    """
    path = arguments.profile or sweep.profile
    if arguments.cluster != "slurm":
        for option in ("profile", "parallel"):
            if getattr(arguments, option):
                raise ConfigError(f"--{option}: expected with --cluster slurm only")
        return None
    from slurm.profiles import Profile, read_profile

    if path is None:
        return Profile(gpus=1 if arguments.device == "cuda" else 0)
    profile = read_profile(path)
    if arguments.device == "cuda" and not profile.gpus:
        raise ConfigError(f"{path}: gpus: expected 1 or TYPE:1 with --device cuda (got 0)")
    if arguments.parallel and profile.processes == 1:
        raise ConfigError(f"{path}: nodes, tasks: expected several with --parallel (got 1)")
    _check_batches(sweep, path, profile)
    return profile


def _check_batches(sweep: Sweep, path: Path, profile: Profile) -> None:
    """Check that the processes of a job can share every batch equally.

    Raises:
        ConfigError: naming the sweep file, the key and the profile.
    """
    for batch_size in {config.train.batch_size for config in sweep.runs.values()}:
        if batch_size % profile.processes:
            raise ConfigError(
                f"{sweep.path}: train.batch_size: expected a multiple of {profile.processes}, the "
                f"processes of a job in {path} (nodes times tasks) (got {batch_size})"
            )


def worker_count(plan: Plan, profile: Profile | None, arguments: argparse.Namespace) -> int:
    """How many workers to start: no more than there are runs to do."""
    if arguments.cluster == "debug":
        return 1
    default = profile.concurrency if profile else default_workers(arguments.device)
    return min(arguments.workers or default, len(plan.missing))


def choose_execution(profile: Profile | None, arguments: argparse.Namespace) -> Execution:
    """How runs execute, whether compiled aside: that is a matter of each bundle."""
    return Execution(
        device=arguments.device,
        dtype=arguments.dtype,
        threads=profile.cpus if profile else 1,
        parallel=arguments.parallel or Execution().parallel,
        accumulate=arguments.accumulate,
        recompute=arguments.recompute,
    )


def submit(plan: Plan, profile: Profile | None, arguments: argparse.Namespace) -> Workers:
    """Give the missing runs to workers."""
    from slurm import local as executors
    from slurm import submit as arrays
    from slurm.worker import Work, Worker

    missing = set(plan.missing)
    always, never = arguments.compile == "always", arguments.compile == "never"
    bundles = tuple(
        Work(
            tuple(run_id for run_id in bundle.runs if run_id in missing),
            compile=always or (bundle.compile_pays and not never),
        )
        for bundle in plan.bundles_left
    )
    worker = Worker(plan.directory, bundles, choose_execution(profile, arguments))
    workers = worker_count(plan, profile, arguments)
    if profile:
        worker = replace(worker, processes=profile.processes)
        asked = fitted_profile(plan, profile, workers)
        return arrays.submit(worker, workers, asked, plan.sweep.name, plan.jobs)
    return executors.submit(worker, workers, arguments.cluster, plan.jobs)
