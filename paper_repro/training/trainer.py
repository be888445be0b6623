"""The trainer: a bundle's data, model and compiled step, built once, and the loop over its steps.

It knows no record: whoever wants to know of a run gives it an observer. `train` is the short way
for one run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Literal

import torch
from torch import Tensor

from paper_repro.apply.param_groups import describe_groups
from paper_repro.config import Execution, RunConfig
from paper_repro.data import Dataset, load_dataset
from paper_repro.schedules import factors, lr_scale
from paper_repro.training.checkpoint import Checkpoint, Progress
from paper_repro.training.devices import executable, peak_memory
from paper_repro.training.foreign import ForeignLearners
from paper_repro.training.learners import Learners, OurLearners
from paper_repro.training.observer import (
    LoggedStep,
    Observer,
    Outcome,
    RunInTraining,
    RunLostError,
    RunStart,
)
from paper_repro.training.processes import Processes
from paper_repro.training.single import Learner
from paper_repro.training.stacked import CapturedStep

#: Points of a learning curve, about.
CURVE_POINTS = 50
#: How often, in seconds, a run reports that it is alive.
ALIVE_SECONDS = 10.0
#: A run is diverged when its mean training loss is NaN, infinite, or above this many times the
#: loss it started from.
DIVERGED_ABOVE = 3.0


def train(
    config: RunConfig, execution: Execution | None = None, observer: Observer | None = None
) -> Outcome:
    """Train one run to its end.

    Args:
        execution: how: device, precision, compilation, threads. They change no more than rounding.
        observer: receives every point of the learning curve as it comes.

    Raises:
        ConfigError: the hyperparameters cannot be resolved, or the corpus is too short.
    """
    (outcome,) = Trainer(config, execution).fit([config], [observer or Observer()])
    assert outcome is not None  # nobody stopped it
    return outcome


class Trainer:
    """Trains the runs of a bundle (`RunConfig.bundle`), as many at once as fit on a GPU."""

    def __init__(
        self,
        config: RunConfig,
        execution: Execution | None = None,
        processes: Processes | None = None,
    ) -> None:
        """Load the data and build the model.

        Args:
            config: of any run of the bundle.
            processes: those that train each run together; None: this one alone.

        Raises:
            ConfigError: the corpus cannot be loaded, or the model of a factory not be made.
        """
        asked = execution or Execution()
        torch.set_num_threads(asked.threads)
        self.processes = processes or Processes()
        self.device = self.processes.device(asked.device)
        self.config, self.execution = config, executable(asked, self.device)
        self.on_gpu = self.device.type == "cuda"
        self.dataset: Dataset = load_dataset(config.data)
        built_for = (self.execution, self.processes, self.device)
        self.learners: Learners = (
            ForeignLearners(config, *built_for)
            if config.model.factory
            else OurLearners(config, self.dataset.vocab_size, *built_for)
        )
        self.runs_at_once = self.learners.runs_at_once
        train = config.train
        batches = self.dataset.validation_batches(
            train.eval_sequences, train.batch_size, train.eval_set
        )
        self._validation = [batch.to(self.device) for batch in batches]

    def fit(
        self,
        configs: Sequence[RunConfig],
        observers: Sequence[Observer] | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> list[Outcome | None]:
        """Train runs of the bundle; their outcomes, None for those that did not end.

        Args:
            observers: one a run. Those of a run that trains on several processes are the first's.
            should_stop: asked after every step; when true, the runs in training are saved, where
                their observers want that, and the function returns.

        Raises:
            ConfigError: hyperparameters cannot be resolved, or the corpus is too short.
            ValueError: runs that are to train at once go on from different steps.
        """
        observers = observers or [Observer() for _ in configs]
        outcomes: list[Outcome | None] = []
        for first in range(0, len(configs), self.runs_at_once):
            some = slice(first, first + self.runs_at_once)
            fit = _Fit(self, configs[some], observers[some])
            outcomes += fit.run(should_stop)
            if fit.stopped:
                break
        return outcomes + [None] * (len(configs) - len(outcomes))

    def autocast(self) -> torch.autocast:
        """The precision of matrix products."""
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.execution.dtype == "bfloat16"
        )

    @torch.no_grad()
    def validation_losses(self, learner: Learner, runs: int) -> list[float]:
        """Mean cross-entropy of each run on the fixed validation sequences, in nats."""
        total_R = torch.zeros(runs, dtype=torch.float64, device=self.device)
        for batch in self._validation:
            rows = self.processes.rows(batch)
            some = rows if len(rows) else batch[:1]  # all take part in every pass
            with self.autocast():
                total_R += learner.evaluate(some) * len(rows)
        total_R = self.processes.total(total_R) / sum(len(batch) for batch in self._validation)
        validated: list[float] = total_R.tolist()
        return validated


class _Fit:
    """The training of R runs at once, from their start or their checkpoints."""

    def __init__(
        self, trainer: Trainer, configs: Sequence[RunConfig], observers: Sequence[Observer]
    ) -> None:
        self.trainer, self.configs = trainer, configs
        self.train, self.steps = configs[0].train, configs[0].steps
        for config in configs:
            sequences = config.steps * config.train.batch_size
            trainer.dataset.check_length(sequences, config.data.max_epochs)
        self.learner = trainer.learners.learner(configs)
        pairs = enumerate(zip(configs, observers, strict=True))
        self.runs = [RunInTraining(index, *pair) for index, pair in pairs]
        for run in self.runs:
            self._resume(run)
        if len({run.progress.step for run in self.runs}) > 1:
            raise ValueError("runs that train at once go on from different steps")
        self.step, device = self.runs[0].progress.step, trainer.device
        self.seeds = sorted({config.seed for config in configs})  # runs of one seed see one batch
        places = [self.seeds.index(config.seed) for config in configs]
        self.seed_of_run = torch.tensor(places, device=device)
        # On the device, so that steps need not wait for it.
        self.z_loss_R = torch.tensor([config.train.z_loss for config in configs], device=device)
        sums = [run.progress.loss_sum for run in self.runs]
        self.loss_sum_R = torch.tensor(sums, dtype=torch.float64, device=device)
        norms = [run.progress.gradient_norm for run in self.runs]
        self.norm_R = torch.tensor(norms, device=device)
        self.watched = any(run.observer.watches for run in self.runs)
        self.saves = trainer.processes.any(any(run.observer.saves for run in self.runs))
        if trainer.on_gpu:
            torch.cuda.reset_peak_memory_stats(device)
        self.saved = self.reported = self.timed = time.monotonic()
        self.stopped = False
        for run in self.runs:
            run.observer.start(self._start(run))

    def run(self, should_stop: Callable[[], bool]) -> list[Outcome | None]:
        """Take the steps that are left; the outcomes, None for runs that did not end."""
        evaluations = self.train.evaluations
        evaluated = {max(1, round(k * self.steps / evaluations)) for k in range(1, evaluations + 1)}
        logged = evaluated | set(range(1, self.steps, max(1, self.steps // CURVE_POINTS)))
        captured = self.trainer.on_gpu and len(self.runs) > 1 and not self.watched
        compute = CapturedStep(self._compute) if captured else self._compute
        while self.step < self.steps:
            self._take_step(compute)
            if self.step in logged:
                self._log(evaluate=self.step in evaluated)
                if not any(run.in_training for run in self.runs):
                    break
            self._keep_up()
            if self.trainer.processes.any(should_stop()):
                self._save()
                self.stopped = True
                break
        return [run.outcome for run in self.runs]

    def _take_step(self, compute: Callable[[Tensor], Tensor]) -> None:
        trainer, size = self.trainer, self.train.batch_size
        batches = [trainer.dataset.training_batch(seed, self.step, size) for seed in self.seeds]
        sequences_SBT = torch.stack([trainer.processes.rows(batch) for batch in batches])
        if trainer.on_gpu:
            sequences_SBT = sequences_SBT.pin_memory().to(trainer.device, non_blocking=True)
        scheduled = [factors(config.train, self.step, self.steps) for config in self.configs]
        self.learner.schedule(scheduled, self.step)
        cross_entropy_R = compute(sequences_SBT)
        if self.step == 0:
            for run, loss in zip(self.runs, self._mean(cross_entropy_R), strict=True):
                run.progress.first_loss = loss
        self.step += 1

    def _compute(self, sequences_SBT: Tensor) -> Tensor:
        """Take all of a step that is on the device; cross-entropy (R,)."""
        sequences_RBT = sequences_SBT[self.seed_of_run]
        cross_entropy_R = torch.zeros(len(self.runs), device=self.trainer.device)
        rows, parts = sequences_RBT.shape[1], self.trainer.execution.accumulate or 1
        for part_RBT in sequences_RBT.tensor_split(min(rows, parts), dim=1):
            share = part_RBT.shape[1] / rows
            with self.trainer.autocast():
                part_R, squared_log_z_R = self.learner.losses(part_RBT)
            loss_R = share * (part_R + self.z_loss_R * squared_log_z_R)
            loss_R.sum().backward()  # type: ignore[no-untyped-call]
            cross_entropy_R += share * part_R.detach()
        if self.watched:
            for run in self.runs:
                run.observer.gradients(self.learner.model, self.step)
        if self.trainer.execution.gradient_norms:
            torch.maximum(self.norm_R, self.learner.gradient_norms(), out=self.norm_R)
        self.learner.update()
        self.loss_sum_R += cross_entropy_R
        return cross_entropy_R

    def _mean(self, losses_R: Tensor) -> list[float]:
        """The mean over processes, which have equally many rows; waits for the device."""
        processes = self.trainer.processes
        means: list[float] = (processes.total(losses_R) / processes.count).tolist()
        return means

    def _norms(self) -> Sequence[float | None]:
        """The largest gradient norms since the last point; the same in all processes."""
        if not self.trainer.execution.gradient_norms:
            return [None] * len(self.runs)
        norms: list[float] = self.norm_R.tolist()
        return norms

    def _log(self, evaluate: bool) -> None:
        """Add a point to every learning curve: the mean training loss since the last one."""
        sums, norms = self._mean(self.loss_sum_R), self._norms()
        self.loss_sum_R.zero_()
        self.norm_R.zero_()
        validated: Sequence[float | None] = [None] * len(self.runs)
        if evaluate:
            validated = self.trainer.validation_losses(self.learner, len(self.runs))
        for run in (run for run in self.runs if run.in_training):
            point = LoggedStep(
                step=self.step,
                tokens=self.step * run.config.tokens_per_step,
                lr_scale=lr_scale(run.config.train, self.step - 1, self.steps),
                train_loss=sums[run.index] / (self.step - run.progress.logged_step),
                val_loss=validated[run.index],
                gradient_norm=norms[run.index],
            )
            run.progress.step = run.progress.logged_step = self.step
            run.progress.loss_sum = run.progress.gradient_norm = 0.0
            run.curve.append(point)
            with self._unless_lost(run):
                run.observer.log(point)
                if self._diverged(run, point):
                    self._end(run, "diverged")
                elif self.step == self.steps:
                    self._end(run, "done")

    def _diverged(self, run: RunInTraining, point: LoggedStep) -> bool:
        start = max(run.progress.first_loss, math.log(self.trainer.dataset.vocab_size))
        values = [point.train_loss, 0.0 if point.val_loss is None else point.val_loss]
        return not all(value < DIVERGED_ABOVE * start for value in values)  # NaN compares false

    def _end(self, run: RunInTraining, status: Literal["done", "diverged"]) -> None:
        self._count_time()
        last = run.curve[-1]
        outcome = Outcome(
            status=status,
            val_loss=last.val_loss if status == "done" else None,
            train_loss=last.train_loss,
            curve=tuple(run.curve),
            wall_seconds=run.progress.wall_seconds,
            peak_memory_bytes=peak_memory(self.trainer.device) // len(self.runs),
        )
        run.observer.end(outcome)
        run.outcome = outcome

    def _keep_up(self) -> None:
        """Report now and then that the runs are alive, and save them."""
        now = time.monotonic()
        if now - self.reported > ALIVE_SECONDS:
            for run in self.runs:
                run.observer.alive()
            self.reported = now
        due = now - self.saved > self.trainer.execution.checkpoint_seconds
        if self.saves and self.trainer.processes.any(due):
            self._save()
            self.saved = now

    def _save(self) -> None:
        if not self.saves:
            return
        sums, norms = self._mean(self.loss_sum_R), self._norms()
        self._count_time()
        for run in (run for run in self.runs if run.in_training):
            run.progress.step, run.progress.loss_sum = self.step, sums[run.index]
            run.progress.gradient_norm = norms[run.index] or 0.0
            state = self.learner.export_run(run.index)
            with self._unless_lost(run):
                run.observer.save(Checkpoint(run.progress, state, self.trainer.dataset.corpus_hash))

    def _resume(self, run: RunInTraining) -> None:
        """Go on from the checkpoint that the observer has, if it has one."""
        processes, dataset = self.trainer.processes, self.trainer.dataset
        shapes = {
            name: value.shape for name, value in self.trainer.learners.model.named_parameters()
        }
        checkpoint = run.observer.resume(shapes, dataset.corpus_hash)
        progress = processes.share(asdict(checkpoint.progress) if checkpoint else None)
        if progress is not None:
            self.learner.import_run(run.index, checkpoint.state if checkpoint else None)
            run.progress = Progress(**progress)

    def _start(self, run: RunInTraining) -> RunStart:
        return RunStart(
            config=run.config,
            dataset=self.trainer.dataset,
            device=self.trainer.device,
            execution=self.trainer.execution,
            processes=self.trainer.processes.count,
            index=run.index,
            runs_at_once=len(self.runs),
            groups=describe_groups(self.learner.groups(run.index)),
            counts=self.trainer.learners.counts,
            step=run.progress.step,
        )

    def _count_time(self) -> None:
        """Add the time since the last count to all runs in training, which share it."""
        now = time.monotonic()
        for run in (run for run in self.runs if run.in_training):
            run.progress.wall_seconds += (now - self.timed) / len(self.runs)
        self.timed = now

    @contextmanager
    def _unless_lost(self, run: RunInTraining) -> Iterator[None]:
        """A run that is lost to another ends here, and leaves the others.

        Several processes that train it together part at the error.
        """
        try:
            yield
        except RunLostError:
            if self.trainer.processes.count > 1:
                raise
            run.lost = True
