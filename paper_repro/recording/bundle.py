"""Training the leased runs of a bundle, each to an outcome in its record."""

from __future__ import annotations

import gc
import itertools
import logging
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch

from paper_repro.config import Execution
from paper_repro.recording.recorder import Recorder
from paper_repro.records.lease import LeasedRun
from paper_repro.records.record import Status
from paper_repro.training import RunLostError, Trainer
from paper_repro.training.processes import Processes

log = logging.getLogger(__name__)


def train_bundle(
    runs: Iterable[LeasedRun],
    execution: Execution,
    should_stop: Callable[[], bool],
    processes: Processes | None = None,
) -> bool:
    """Train every run of a bundle until its record has an outcome: `BundleTrainer.train`."""
    return BundleTrainer(execution, should_stop, processes).train(runs)


class BundleTrainer:
    """Trains leased runs of one `RunConfig.bundle`; what they share is built once."""

    def __init__(
        self,
        execution: Execution,
        should_stop: Callable[[], bool],
        processes: Processes | None = None,
    ) -> None:
        """Nothing is built before the first run.

        Args:
            should_stop: asked after every step; when true, the runs in training are checkpointed
                and their leases released.
            processes: those that train each run together, of which this is the first; None for
                this one alone.
        """
        self._execution, self._should_stop = execution, should_stop
        self._processes = processes or Processes()
        self._trainer: Trainer | None = None

    def train(self, runs: Iterable[LeasedRun]) -> bool:
        """Train every run until its record has an outcome.

        Returns False if it was stopped before that, or if new processes have to go on.

        Args:
            runs: taken from the iterable as they are trained, so it may lease them lazily.

        An error ends its run as `failed`, with the traceback in the record, and the next run goes
        on. Several processes end at an error: the function returns, or raises if the record lacks
        it.
        """
        remaining = iter(runs)
        for first in remaining:
            at_once = [first]
            with _released(at_once):
                try:
                    self._trainer = self._trainer or Trainer(
                        first.config, self._execution, self._processes
                    )
                except Exception as error:
                    go_on = _handle_error(first, error, self._processes)
                else:
                    at_once += itertools.islice(remaining, self._trainer.runs_at_once - 1)
                    go_on = _train(self._trainer, at_once, self._should_stop)
            if not go_on:
                return False
        return True


def _train(trainer: Trainer, runs: Sequence[LeasedRun], should_stop: Callable[[], bool]) -> bool:
    """Train runs at once. Returns whether to go on with other runs.

    After an error of several, either half goes on by itself: until the runs fit into memory, or
    until one that cannot be trained is alone.
    """
    recorders = [Recorder(run) for run in runs]
    try:
        outcomes = trainer.fit([run.config for run in runs], recorders, should_stop)
    except Exception as error:
        if len(runs) == 1:
            return _handle_error(runs[0], error, trainer.processes)
        # As text: a log that kept the error would keep all tensors of the frames it came through.
        message = " ".join(str(error).split())
        log.warning("%d runs at once: %s; going on with halves", len(runs), message)
    else:
        lost = [recorder.run for recorder in recorders if recorder.lost]
        for run in lost:
            _handle_loss(run, RunLostError(f"{run.record.directory}: taken over"))
        return sum(outcome is None for outcome in outcomes) == len(lost)
    if trainer.on_gpu:
        gc.collect()
        torch.cuda.empty_cache()
    half = len(runs) // 2
    for part in (runs[:half], runs[half:]):
        left = [run for run in part if run.record.status() is None and run.lease.holds()]
        if left and not _train(trainer, left, should_stop):
            return False
    return True


def _handle_error(run: LeasedRun, error: Exception, processes: Processes) -> bool:
    """Record the run as failed, unless another worker has it by now.

    Returns whether training can go on with other runs in these processes.
    """
    cause = processes.abort(error)
    if isinstance(cause, RunLostError):
        _handle_loss(run, cause)
    elif run.lease.holds():
        _record_failure(run, cause)
    if processes.aborted and run.record.status() is None:
        raise error  # nothing would keep new processes from the same error
    return not processes.aborted


def _handle_loss(run: LeasedRun, error: RunLostError) -> None:
    """Leave a run to the worker that took it over.

    Raises:
        RunLostError: that worker is this very job, queued again: the cluster does not know of this
            process any more.
    """
    log.warning("%s: taken over by another worker", run.record.directory)
    if run.lease.requeued_while_alive():
        raise error


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
                log.exception("%s: the lease could not be released", run.record.directory)


def _record_failure(run: LeasedRun, error: Exception) -> None:
    record = run.record
    log.error("%s failed", record.directory, exc_info=error)
    try:
        record.error_path.write_text("".join(traceback.format_exception(error)), "utf-8")
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"
        record.finish(Status(status="failed", error=message, log=run.lease.log))
    except OSError:  # a full or read-only disk: the run stays without an outcome
        log.exception("%s: the failure could not be recorded", record.directory)
