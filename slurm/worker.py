"""The worker: what one job, on this machine or on a cluster, does.

It pulls work: it walks over the runs, the most expensive bundle first, and trains each that has no
outcome and that no worker has leased. So any number of workers, from any number of launches, share
a sweep and none does another's run. All it needs is in the records. A worker tries a run at most
once: what it could not finish, for want of disk space say, is left to the next launch.

A job may be several processes that train each run together (`slurm.ranks`). They end at an error;
SLURM then starts the job anew.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from submitit import JobEnvironment
from submitit.helpers import DelayedSubmission

from paper_repro.config import Execution
from paper_repro.errors import ConfigError
from paper_repro.records import Record
from paper_repro.records.lease import Identity, LeasedRun, is_leased, take_lease
from paper_repro.records.provenance import ROOT, hash_code
from paper_repro.search import Search, SearchState
from slurm.queue import wait_while_running
from slurm.snapshots import code_on_disk

if TYPE_CHECKING:
    from paper_repro.recording.bundle import BundleTrainer
    from paper_repro.training.processes import Processes

log = logging.getLogger(__name__)

WAIT_SECONDS = 0.3
"""Between two looks of a worker that waits for the last runs of a round of a search."""

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


@dataclass(frozen=True)
class Work:
    """Runs of one bundle that are to be done, by their ids."""

    run_ids: tuple[str, ...]
    compile: bool = False
    """Whether their training step is compiled."""
    accumulate: int | None = None
    """Parts of each process's batch; None: as `Execution` says."""

    def execution(self, asked: Execution) -> Execution:
        """How they execute, where the launch asked for `asked`."""
        chosen = {"compile": self.compile, "accumulate": self.accumulate or asked.accumulate}
        return asked.model_copy(update=chosen)


@dataclass(frozen=True)
class Worker:
    """A job for submitit: picklable, called without arguments."""

    sweep_dir: Path
    bundles: tuple[Work, ...]
    """The first is taken first."""
    execution: Execution
    """How runs execute, but for what a bundle says itself."""
    gpu: str | None = None
    """The one GPU it may use, as in CUDA_VISIBLE_DEVICES; None leaves that to the cluster."""
    processes: int = 1
    """Processes that train each run together: the tasks of a SLURM job."""
    code_hash: str | None = None
    """The only code that it may run; None takes what is there."""
    searches: tuple[Search, ...] = ()
    """Searches that ask for further runs, of the only bundle."""
    factories: tuple[str, ...] = ()
    """What makes the models of runs that are not of our GPT."""

    def __call__(self) -> None:
        """Train until nothing is left to take, or until a signal asks to stop.

        Raises:
            RuntimeError: this is other code than `code_hash`; nothing is trained.
        """
        if self.code_hash is not None and (found := code_hash(self.factories)) != self.code_hash:
            raise RuntimeError(
                f"the code in {ROOT} is {found}, but the job was submitted with "
                f"{self.code_hash}: its copy was changed or deleted. Launch again."
            )
        # Into the job's log: its stderr, or submitit's own handlers on the debug cluster.
        logging.basicConfig(format="%(asctime)s %(message)s")
        for name in ("paper_repro", "slurm"):
            logging.getLogger(name).setLevel(logging.INFO)
        if self.gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu  # torch is not imported yet
        with _stop_flag() as received:
            if self.processes == 1:
                self._work(lambda: bool(received))
            else:
                self._work_together(received)
        if received and (job := identity().job):
            wait_while_running(job)  # one that ends by itself is not queued again

    def checkpoint(self) -> DelayedSubmission:
        """What SLURM requeues after a preemption or a time-out: the same work, whatever is left."""
        return DelayedSubmission(self)

    def _work(self, should_stop: Callable[[], bool], processes: Processes | None = None) -> None:
        """Train what there is to train, until nothing is left or a signal asks to stop."""
        tried: set[str] = set()
        if self.searches:
            self._search(tried, should_stop, processes)
            return
        trained = True
        while trained:  # another pass, since a run passed by may have lost its worker meanwhile
            trained = False
            for work in self.bundles:
                bundle = _Bundle(work.execution(self.execution), should_stop, processes)
                ended = bundle.train(self._lease(work.run_ids, tried, should_stop))
                if ended is False:
                    return
                trained = trained or ended is not None

    def _search(
        self, tried: set[str], should_stop: Callable[[], bool], processes: Processes | None
    ) -> None:
        """Train the trials of all searches as they are asked for, until the searches have ended.

        Whoever finds that a round has ended asks for the next. So a worker waits while others train
        the last runs of a round. It ends before that if what is left is what it tried itself.
        """
        states = [SearchState(search, self.sweep_dir) for search in self.searches]
        execution = self.bundles[0].execution(self.execution)
        bundle = _Bundle(execution, should_stop, processes)
        while not should_stop():
            for state in states:
                state.advance()
            runs = {
                run_id: config
                for state in states
                if not state.stuck
                for run_id, config in state.open_runs().items()
            }
            if not runs:
                return
            for run_id, config in runs.items():
                Record(self.sweep_dir / run_id).create(config)
            ended = bundle.train(self._lease(tuple(runs), tried, should_stop))
            if ended is False:
                return
            if ended is None:
                left = [run_id for run_id in runs if not Record(self.sweep_dir / run_id).status()]
                if left and all(
                    run_id in tried and not is_leased(self.sweep_dir / run_id) for run_id in left
                ):
                    return
                time.sleep(WAIT_SECONDS)

    def _work_together(self, received: list[int]) -> None:
        """Work as one task of several; task 0 gets the signals that any of them received."""
        from slurm.ranks import dismiss, follow, join

        processes = join(self.processes, self.execution.parallel)
        if processes.rank:
            follow(self.sweep_dir, lambda: bool(received), processes)
        else:
            self._work(lambda: bool(received), processes)
            if processes.aborted:
                received.append(signal.SIGUSR2)  # SLURM shall start new processes for the rest
                return
            dismiss(processes)
        received.extend(processes.gather_on_leader(received))

    def _lease(
        self, run_ids: tuple[str, ...], tried: set[str], should_stop: Callable[[], bool]
    ) -> Iterator[LeasedRun]:
        """Lease the runs of a bundle, one at a time, when the trainer asks for the next.

        A run whose record cannot be read or written is passed by, and the log says why.
        """
        log_path = _log_path()
        for run_id in run_ids:
            if should_stop():
                return
            record = Record(self.sweep_dir / run_id)
            if run_id in tried or record.status() is not None:
                continue
            try:
                config = record.config()
                lease = take_lease(record.directory, log_path, identity())
                if lease and record.status() is not None:  # finished between the look and the lease
                    lease.release()
                    continue
            except (OSError, ConfigError) as error:
                tried.add(run_id)
                log.error("%s: passed by: %s", record.directory, error)
                continue
            if lease:
                tried.add(run_id)
                yield LeasedRun(config, record, lease)


class _Bundle:
    """A bundle in training by this worker: what its runs share is built once, when first needed."""

    def __init__(
        self,
        execution: Execution,
        should_stop: Callable[[], bool],
        processes: Processes | None,
    ) -> None:
        self._execution = execution
        self._should_stop, self._processes = should_stop, processes
        self._name = uuid.uuid4().hex
        self._trainer: BundleTrainer | None = None

    def train(self, leased: Iterator[LeasedRun]) -> bool | None:
        """Train runs as they are leased: whether to go on with others; None if there was none."""
        first = next(leased, None)
        if first is None:
            return None
        if self._trainer is None:
            from paper_repro.recording.bundle import BundleTrainer  # imports torch: if needed

            self._trainer = BundleTrainer(self._execution, self._should_stop, self._processes)
        runs: Iterator[LeasedRun] = itertools.chain([first], leased)
        if self._processes:
            from slurm.ranks import announced

            runs = announced(runs, self._execution, self._processes, self._name)
        return self._trainer.train(runs)


def code_hash(factories: Sequence[str] = ()) -> str:
    """The hash of the code that this process imports from, as it is on disk."""
    return hash_code(code_on_disk(factories))


def identity() -> Identity:
    """This worker, with its job where submitit started it as one of SLURM's.

    Where a user launches within a job of theirs, that job is not the worker's.
    """
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
        return Identity()
    return Identity(
        host=os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
        job=os.environ.get("SLURM_JOB_ID"),
        restarts=int(os.environ.get("SLURM_RESTART_COUNT", 0)),
    )


def _log_path() -> str | None:
    """Where this job's messages go; None in the launching process."""
    try:
        return str(JobEnvironment().paths.stderr)
    except (RuntimeError, KeyError):  # not a job, or one of the debug cluster
        return None


@contextmanager
def _stop_flag() -> Iterator[list[int]]:
    """Signals are only noted while the body runs, so that it can bring its runs to safety.

    Afterwards each signal is delivered again, to whoever handled it before: submitit requeues a
    SLURM job on SIGUSR2, and Ctrl-C interrupts a launcher that runs its worker in-process.
    """
    received: list[int] = []

    def receive(number: int, _frame: object) -> None:
        received.append(number)

    previous = {number: signal.signal(number, receive) for number in STOP_SIGNALS}
    try:
        yield received
    finally:
        for stop_signal, handler in previous.items():
            signal.signal(stop_signal, handler)
    for number in dict.fromkeys(received):
        signal.raise_signal(number)
