"""Training: bundles of runs, one record each.

A bundle's runs share every shape, so the program (model, compiled step, data) is built once. Its
runs are trained at once on a GPU, as many as fit, and one after the other on a CPU; each is
checkpointed, resumable, and ends with an outcome: done, diverged, or failed.
"""

from __future__ import annotations

import gc
import itertools
import logging
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from paper_repro.config import Execution
from paper_repro.records.record import Status
from paper_repro.records.recorder import LeasedRun, LeaseLostError, Track
from paper_repro.training.processes import Processes
from paper_repro.training.program import Program
from paper_repro.training.schedules import lr_scale

log = logging.getLogger(__name__)

#: Lines of metrics a run writes, about.
METRICS_LINES = 50
#: How often a claim is touched (a claim is stale after `paper_repro.records.lease.STALE_SECONDS`).
TOUCH_SECONDS = 10.0


def train_bundle(
    runs: Iterable[LeasedRun],
    execution: Execution,
    should_stop: Callable[[], bool],
    processes: Processes | None = None,
) -> bool:
    """Train the runs of a bundle, each to an outcome in its record. False if it was not their end.

    Args:
        runs: runs with one `bundle`; taken from the iterable as they are trained, so it may
            claim them lazily.
        should_stop: asked after every step; when true, the runs in training are checkpointed, their
            claims released, and the function returns.
        processes: those that train the runs together, each with the same runs; None for this one
            alone.

    An error ends its run as `failed`, with the traceback in the record, and the next run goes on.
    Several processes part at an error: the function returns, or raises if the record lacks it.
    """
    torch.set_num_threads(execution.threads)
    processes = processes or Processes()
    program: Program | None = None
    remaining = iter(runs)
    for first in remaining:
        at_once = [first]
        with _released(at_once):
            try:
                program = program or Program(first.config, execution, processes)
            except Exception as error:
                finished = _end(first, error, processes)
            else:
                at_once += itertools.islice(remaining, program.runs_at_once - 1)
                finished = _train(program, at_once, should_stop)
        if not finished:
            return False
    return True


def _train(program: Program, runs: Sequence[LeasedRun], should_stop: Callable[[], bool]) -> bool:
    """Train runs at once. False if stopped before all had an outcome.

    After an error of several, either half goes on by itself: until the runs fit into memory, or
    until one that cannot be trained is alone.
    """
    try:
        return Training(program, runs).train(should_stop)
    except Exception as error:
        if len(runs) == 1:
            return _end(runs[0], error, program.processes)
        # As text: a log that kept the error would keep all tensors of the frames it came through.
        message = " ".join(str(error).split())
        log.warning("%d runs at once: %s; going on with halves", len(runs), message)
    if program.on_gpu:
        gc.collect()
        torch.cuda.empty_cache()
    half = len(runs) // 2
    for part in (runs[:half], runs[half:]):
        left = [run for run in part if run.record.status() is None and run.lease.holds()]
        if left and not _train(program, left, should_stop):
            return False
    return True


def _end(run: LeasedRun, error: Exception, processes: Processes) -> bool:
    """What an error means for a run: it is not ours any more, or it failed.

    Returns whether these processes can go on with other runs.
    """
    cause = processes.part(error)
    if isinstance(cause, LeaseLostError):
        log.warning("%s: taken over by another worker", run.record.directory)
        if run.lease.requeued_while_alive():
            raise cause  # this worker is not in SLURM's books any more
    elif run.lease.holds():
        _record_failure(run, cause)
    if processes.parted and run.record.status() is None:
        raise error  # nothing would keep new processes from the same error
    return not processes.parted


@contextmanager
def _released(runs: Sequence[LeasedRun]) -> Iterator[None]:
    """Give the runs back in the end."""
    try:
        yield
    finally:
        for run in runs:
            try:
                run.lease.release()
            except OSError:  # a read-only disk: our end frees the run
                log.exception("%s: the claim could not be released", run.record.directory)


def _record_failure(run: LeasedRun, error: Exception) -> None:
    record = run.record
    log.error("%s failed", record.directory, exc_info=error)
    try:
        record.write_error("".join(traceback.format_exception(error)))
        message = " ".join(str(error).split())
        record.finish(
            Status(status="failed", error=f"{type(error).__name__}: {message}", log=run.lease.log)
        )
    except OSError:  # a full or read-only disk: the run stays without an outcome
        log.exception("%s: the failure could not be recorded", record.directory)


class Training:
    """Runs of a program that train at once, step by step; R of them."""

    def __init__(self, program: Program, runs: Sequence[LeasedRun]) -> None:
        """Initial weights or checkpoints.

        Raises:
            ValueError: the runs are not at the same step.
        """
        self.program = program
        self.configs = [run.config for run in runs]
        self.learner = program.learner(self.configs)
        self.tracks = [Track(program, self.learner, index, run) for index, run in enumerate(runs)]
        if len({track.progress.step for track in self.tracks}) > 1:
            raise ValueError("they are not at the same step")
        self.step = self.tracks[0].progress.step
        self.seeds = sorted({config.seed for config in self.configs})  # those of one see one batch
        self.seed_of_run = torch.tensor(
            [self.seeds.index(config.seed) for config in self.configs], device=program.device
        )
        # On the device, so that steps need not wait for it.
        sums = [track.progress.loss_sum for track in self.tracks]
        self.loss_sum_R = torch.tensor(sums, dtype=torch.float64, device=program.device)
        self.saved = self.touched = time.monotonic()
        if program.on_gpu:
            torch.cuda.reset_peak_memory_stats(program.device)

    def train(self, should_stop: Callable[[], bool]) -> bool:
        """Take the steps that are left. False if stopped before all runs had an outcome."""
        steps, evaluations = self.configs[0].steps, self.configs[0].train.evaluations
        evaluated = {max(1, round(k * steps / evaluations)) for k in range(1, evaluations + 1)}
        logged = evaluated | set(range(1, steps, max(1, steps // METRICS_LINES)))
        compute = self.program.step(self._compute)
        while self.step < steps:
            self._step(compute)
            if self.step in logged:
                self._log(evaluate=self.step in evaluated)
                if not self._on_their_way:
                    break
            self._keep_alive()
            if self.program.processes.any(should_stop()):
                self._save()
                return False
        return True

    @property
    def _on_their_way(self) -> list[Track]:
        return [track for track in self.tracks if not track.ended]

    def _step(self, compute: Callable[[Tensor], Tensor]) -> None:
        program, train = self.program, self.configs[0].train
        batches = [
            program.processes.rows(
                program.dataset.training_batch(seed, self.step, train.batch_size)
            )
            for seed in self.seeds
        ]
        sequences_SBT = torch.stack(batches)
        if program.on_gpu:
            sequences_SBT = sequences_SBT.pin_memory().to(program.device, non_blocking=True)
        self.learner.schedule(lr_scale(train, self.step, self.configs[0].steps), self.step)
        cross_entropy_R = compute(sequences_SBT)
        if self.step == 0:
            first = self._mean(cross_entropy_R)
            for track, loss in zip(self.tracks, first, strict=True):
                track.progress.first_loss = loss
        self.step += 1

    def _compute(self, sequences_SBT: Tensor) -> Tensor:
        """All of a step that is on the device; cross-entropy (R,)."""
        program, train = self.program, self.configs[0].train
        sequences_RBT = sequences_SBT[self.seed_of_run]
        cross_entropy_R = torch.zeros(len(self.tracks), device=program.device)
        rows = sequences_RBT.shape[1]
        for part_RBT in sequences_RBT.tensor_split(min(rows, program.execution.accumulate), dim=1):
            share = part_RBT.shape[1] / rows
            with program.autocast():
                part_R, z_loss_R = self.learner.losses(part_RBT)
            (share * (part_R + train.z_loss * z_loss_R)).sum().backward()  # type: ignore[no-untyped-call]
            cross_entropy_R += share * part_R.detach()
        self.learner.update(train.clip)
        self.loss_sum_R += cross_entropy_R
        return cross_entropy_R

    def _mean(self, losses_R: Tensor) -> list[float]:
        """Of all processes, which have equally many rows; waits for the device."""
        processes = self.program.processes
        means: list[float] = (processes.total(losses_R) / processes.count).tolist()
        return means

    def _log(self, evaluate: bool) -> None:
        """A line of metrics for each run: the mean training loss since the last one, in nats."""
        sums = self._mean(self.loss_sum_R)
        self.loss_sum_R.zero_()
        count = len(self.tracks)
        validated = self.program.validation_losses(self.learner) if evaluate else [None] * count
        for track in self._on_their_way:
            train_loss = sums[track.index] / (self.step - track.progress.logged_step)
            with self._unless_lost(track):
                track.log(self.step, train_loss, validated[track.index])

    def _keep_alive(self) -> None:
        now = time.monotonic()
        if now - self.touched > TOUCH_SECONDS:
            for track in self.tracks:
                track.run.lease.touch()
            self.touched = now
        due = now - self.saved > self.program.execution.checkpoint_seconds
        if self.program.processes.any(due):
            self._save()
            self.saved = now

    def _save(self) -> None:
        sums = self._mean(self.loss_sum_R)
        for track in self._on_their_way:
            with self._unless_lost(track):
                track.save(self.step, sums[track.index])

    @contextmanager
    def _unless_lost(self, track: Track) -> Iterator[None]:
        """A run that is lost to another worker does not end the others."""
        try:
            yield
        except LeaseLostError:
            if len(self.tracks) == 1:
                raise
            log.warning("%s: taken over by another worker", track.run.record.directory)
            track.ended = True
