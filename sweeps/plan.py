"""What a sweep costs and what of it is left, bundle by bundle, the longest runs first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

from paper_repro import cost
from paper_repro.config import Execution, RunConfig
from paper_repro.data.tokenization import ByteTokenizer, bpe_size
from paper_repro.records import Record
from paper_repro.records.migrate import check_ids
from paper_repro.records.provenance import of_this_model
from paper_repro.search import SearchState
from slurm.queue import on_gpus
from slurm.resources import WorkLeft
from sweeps.expand import Sweep
from sweeps.state import FINISHED, PENDING, RunState, State, read_states, without_jobs

JOBS = "jobs"
"""The folder of the workers' logs, beside the records."""
COMPILE_PAYS_SECONDS = {"cpu": 300.0, "gpu": 60.0}
"""Estimated work of a bundle above which compiling its step pays (docs/performance.md)."""


@dataclass(frozen=True)
class Bundle:
    """Runs with the same `RunConfig.bundle`. Costs are those of one run.

    Time and memory are measured on the bundle's finished runs, and estimated where it has none.
    """

    runs: tuple[str, ...]
    config: RunConfig
    """The config of one of the runs."""
    parameters: int
    flops: float
    seconds: float
    seconds_measured: bool
    at_once: int
    """How many of the runs a worker trains at once (on a GPU an estimate, for its memory)."""
    host_bytes: float
    """Peak memory on the host, of the process that trains it."""
    host_bytes_measured: bool
    accumulate: int | None
    """Parts of each process's batch: as few as let a run fit on a GPU, or as the launch asks."""
    compile_pays: bool
    """Judged by an estimate from shapes alone, so that later launches decide alike."""

    @property
    def seconds_at_once(self) -> float:
        """Time of the runs that train at once, together."""
        return self.seconds * self.at_once


@dataclass(frozen=True)
class Plan:
    """A sweep, its bundles (the longest runs first), its records, and their states when read."""

    sweep: Sweep
    bundles: tuple[Bundle, ...]
    directory: Path
    """Where the sweep's records are."""
    records: Mapping[str, Record]
    states: Mapping[str, RunState]
    gpu: bool
    """Whether estimates are for a GPU."""
    processes: int = 1
    """Number of processes that train each run together."""
    execution: Execution = field(default_factory=Execution)
    """How runs are to execute, but for what is chosen for each bundle."""
    gpu_bytes: float = cost.GPU_BYTES
    """Memory of a GPU."""
    searches: tuple[SearchState, ...] = ()
    """How far the searches of the sweep are."""

    @property
    def unasked(self) -> int:
        """Runs that its searches are still to ask for, at most."""
        return sum(
            state.unasked * state.search.seeds
            + (1 + len(state.search.confirm_at)) * len(state.search.confirm_seeds)
            for state in self.searches
            if not state.finished
        )

    @property
    def settled(self) -> frozenset[str]:
        """Failed runs that a search counts as infinite losses and has gone on from."""
        failed = {run_id for run_id, state in self.states.items() if state.state == "failed"}
        return frozenset(failed - _open(self.searches)) if self.searches else frozenset()

    @property
    def device(self) -> str:
        """The unit of `seconds_left`, such as 'one GPU'."""
        device = "GPU" if self.gpu else "core"
        return f"one {device}" if self.processes == 1 else f"{self.processes} {device}s"

    @property
    def jobs(self) -> Path:
        """Where the workers' logs are, and submitit's own files."""
        return self.directory / JOBS

    @property
    def missing(self) -> list[str]:
        """The runs without a result, in the order in which workers take them."""
        settled = self.settled
        return [
            run_id
            for bundle in self.bundles
            for run_id in bundle.runs
            if self.states[run_id].state not in FINISHED and run_id not in settled
        ]

    @property
    def to_do(self) -> int:
        """Runs without a result, those included that searches are still to ask for."""
        return len(self.missing) + self.unasked

    @property
    def bundles_left(self) -> list[Bundle]:
        """The bundles with missing runs, or with runs that searches are still to ask for."""
        if self.unasked:
            return list(self.bundles)
        missing = set(self.missing)
        return [bundle for bundle in self.bundles if not missing.isdisjoint(bundle.runs)]

    @property
    def seconds_left(self) -> float:
        """Work left, in seconds of one worker."""
        settled = self.settled
        asked = sum(
            bundle.seconds * (1 - self.share_done(run_id))
            for bundle in self.bundles
            for run_id in bundle.runs
            if run_id not in settled
        )
        return asked + self.unasked * self.bundles[0].seconds

    @property
    def seconds_in_all(self) -> float:
        """All of the work, in seconds of one worker."""
        asked = sum(bundle.seconds * len(bundle.runs) for bundle in self.bundles)
        return asked + self.unasked * self.bundles[0].seconds

    @property
    def tokens(self) -> int:
        """Tokens trained on so far, by all runs."""
        return sum(state.tokens for state in self.states.values())

    def share_done(self, run_id: str) -> float:
        """The share of a run that is done, from 0 to 1 (a diverged run is finished)."""
        config, state = self.sweep.runs[run_id], self.states[run_id]
        if state.state in FINISHED:
            return 1.0
        return min(1.0, state.tokens / (config.steps * config.tokens_per_step))

    def count(self, bundle: Bundle | None = None) -> Counter[State]:
        """How many runs, of a bundle or of all, are in each state."""
        ids = bundle.runs if bundle else self.states
        return Counter(self.states[run_id].state for run_id in ids)


def make_plan(
    sweep: Sweep,
    runs_dir: Path,
    gpu: bool | None = None,
    processes: int = 1,
    execution: Execution | None = None,
    gpu_bytes: float = cost.GPU_BYTES,
) -> Plan:
    """Read what is on disk and work out the rest.

    Args:
        gpu: whether costs are estimated for a GPU; None: for what the last launches ran on.
        processes: number of processes that train each run together; an estimate takes it that
            they share its work without loss.
        execution: how runs are to execute.
        gpu_bytes: memory of a GPU.

    Raises:
        ConfigError: there are records with ids of an earlier version.
    """
    directory = runs_dir / sweep.name
    check_ids(directory)
    gpu = on_gpus(directory / JOBS) if gpu is None else gpu
    searches = tuple(SearchState(search, directory) for search in sweep.searches)
    if searches:
        sweep = _asked(sweep, searches)
    records = {run_id: Record(directory / run_id) for run_id in sweep.runs}
    states = read_states(directory, records)
    how = (processes, execution or Execution(), gpu_bytes)
    plan = Plan(sweep, (), directory, records, states, gpu, *how, searches)
    return replace(plan, bundles=_bundles(plan))


def refresh(plan: Plan) -> Plan:
    """The same plan with the states of unfinished runs read again.

    Of searches also with the runs that were asked for meanwhile.
    """
    if plan.searches:
        sweep = _asked(plan.sweep, plan.searches)
        new = {
            run_id: Record(plan.directory / run_id) for run_id in sweep.runs.keys() - plan.records
        }
        states = {**plan.states, **dict.fromkeys(new, PENDING)}
        (bundle,) = plan.bundles  # a search varies no shape
        plan = replace(
            plan,
            sweep=sweep,
            records={**plan.records, **new},
            states=states,
            bundles=(replace(bundle, runs=tuple(sweep.runs)),),
        )
    unfinished = {run_id: plan.records[run_id] for run_id in plan.missing}
    return replace(plan, states={**plan.states, **read_states(plan.directory, unfinished)})


def _asked(sweep: Sweep, searches: Sequence[SearchState]) -> Sweep:
    """A sweep with the runs that its searches have asked for by now."""
    runs: dict[str, RunConfig] = {}
    for state in searches:
        state.read()
        for trial in (*state.trials, *state.confirmations):
            runs |= trial.runs
    return replace(sweep, runs=runs)


def _open(searches: Sequence[SearchState]) -> set[str]:
    """The runs that searches wait for."""
    return {run_id for state in searches for run_id in state.open_runs()}


def mark_lost(plan: Plan) -> Plan:
    """The same plan with those runs marked as lost whose SLURM job is no more: asks SLURM."""
    lost = without_jobs(plan.records, plan.states, plan.sweep.name)
    return replace(plan, states={**plan.states, **lost})


def work_left(plan: Plan, tasks: int) -> WorkLeft:
    """What is left to do for jobs that run `tasks` tasks on each of their nodes."""
    bundles = plan.bundles_left
    return WorkLeft(
        seconds=plan.seconds_left,
        longest=max(bundle.seconds_at_once for bundle in bundles),
        host_bytes=tasks * max(bundle.host_bytes for bundle in bundles),
    )


def edited(plan: Plan) -> list[str]:
    """The runs that were trained, or begun, by other code of their factory than there is now."""
    found = []
    for run_id, config in plan.sweep.runs.items():
        if config.model.factory and plan.states[run_id] != PENDING:
            info = plan.records[run_id].run_info()
            if info and not of_this_model(config, info):
                found.append(run_id)
    return found


def vocabulary_size(config: RunConfig) -> int:
    """Tokens of a run's vocabulary, known before its corpus is read."""
    return bpe_size(config.data.tokenizer) or ByteTokenizer.vocab_size


def counts_of(config: RunConfig) -> cost.Counts:
    """What of a run's model decides its cost, known before its corpus is read.

    Raises:
        ConfigError: the model of a factory cannot be made.
    """
    if not config.model.factory:
        return cost.counts(config.model, vocabulary_size(config))
    # Imports torch, which a plan of our GPTs does without, and whatever the factory needs.
    from paper_repro.apply.factory import counts_of_shape

    return counts_of_shape(config.model)


def _bundles(plan: Plan) -> tuple[Bundle, ...]:
    """The bundles of a plan, those of the longest runs first."""
    groups: dict[Hashable, list[str]] = {}
    for run_id, config in plan.sweep.runs.items():
        groups.setdefault(config.bundle, []).append(run_id)
    bundles = [_bundle(run_ids, plan) for run_ids in groups.values()]
    return tuple(sorted(bundles, key=lambda bundle: bundle.seconds, reverse=True))


def _bundle(run_ids: list[str], plan: Plan) -> Bundle:
    config = plan.sweep.runs[run_ids[0]]
    counted = counts_of(config)
    done = [s for run_id in run_ids if (s := plan.states[run_id].status) and s.status == "done"]
    seconds = [s.wall_seconds for s in done if s.wall_seconds is not None]
    peaks = [s.peak_host_memory_bytes for s in done if s.peak_host_memory_bytes is not None]
    at_once, runs, parts = 1, len(run_ids) + plan.unasked, plan.execution.accumulate
    if plan.gpu:
        if parts is None:
            fit = (plan.processes, plan.execution, plan.gpu_bytes)
            parts = cost.fitting_parts(config, counted, *fit)
        if plan.processes == 1:
            execution = plan.execution.model_copy(update={"accumulate": parts})
            fitting = cost.fitting_runs(config, counted, execution, plan.gpu_bytes)
            asked = sum(s.search.round_size * s.search.seeds for s in plan.searches)
            at_once = 1 if config.model.factory else min(asked or runs, fitting)
        estimate = cost.estimated_gpu_seconds(config, counted, at_once) / plan.processes
        host_bytes = cost.estimated_host_bytes(counted)
    else:
        estimate = cost.estimated_cpu_seconds(config, counted) / plan.processes
        host_bytes = cost.estimated_cpu_bytes(config, counted)
    return Bundle(
        runs=tuple(run_ids),
        config=config,
        parameters=counted.parameters,
        flops=cost.train_flops(config, counted),
        seconds=fmean(seconds) if seconds else estimate,
        seconds_measured=bool(seconds),
        at_once=at_once,
        host_bytes=max(peaks) if peaks else host_bytes,
        host_bytes_measured=bool(peaks),
        accumulate=parts,
        # Of another's model nobody knows whether it compiles well.
        compile_pays=not config.model.factory
        and estimate * runs > COMPILE_PAYS_SECONDS["gpu" if plan.gpu else "cpu"],
    )
