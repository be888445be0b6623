"""Training: bundles of runs, one record each.

A bundle's runs share every shape, so the program (model, compiled step, data) is built once. Its
runs are trained one after the other; each is checkpointed, resumable, and ends with an outcome:
done, diverged, or failed.
"""

from __future__ import annotations

import logging
import math
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paper_repro.checkpoint import Checkpoint, Progress, read_checkpoint, restore, save_checkpoint
from paper_repro.claims import Claim, LeadersClaim
from paper_repro.code import describe_code
from paper_repro.config import Execution, RunConfig
from paper_repro.cost import train_flops
from paper_repro.data import Dataset, load_dataset
from paper_repro.distributed import Processes
from paper_repro.model import GPT, losses
from paper_repro.optimizer import adamw, describe_groups, groups_text, set_lr_scale
from paper_repro.provenance import device_name, versions
from paper_repro.records import LeadersRecord, Outcome, Record
from paper_repro.schedules import lr_scale

log = logging.getLogger(__name__)

#: A run is diverged when its mean training loss is NaN, infinite, or above this many times the
#: loss it started from.
DIVERGED_ABOVE = 3.0
#: Lines of metrics a run writes, about.
METRICS_LINES = 50
#: How often a claim is touched (a claim is stale after `paper_repro.claims.STALE_SECONDS`).
TOUCH_SECONDS = 10.0


@dataclass(frozen=True)
class ClaimedRun:
    """A run that this process, or those that it leads, and no other, may train."""

    config: RunConfig
    record: Record
    claim: Claim


def leaders_run(directory: Path) -> ClaimedRun:
    """A run that the leader of this process has claimed, by the directory of its record."""
    record = LeadersRecord(directory)
    return ClaimedRun(record.config(), record, LeadersClaim(directory / "claims"))


class ClaimLostError(RuntimeError):
    """Another process took the run over; this one must not touch its record any more."""


def train_bundle(
    runs: Iterable[ClaimedRun],
    execution: Execution,
    should_stop: Callable[[], bool],
    processes: Processes | None = None,
) -> bool:
    """Train the runs of a bundle, each to an outcome in its record. False if it was not their end.

    Args:
        runs: runs with one `bundle_id`; taken from the iterable one at a time, so it may claim
            them lazily.
        should_stop: asked after every step; when true, the current run is checkpointed, its claim
            released, and the function returns.
        processes: those that train the runs together, each with the same runs; None for this one
            alone.

    An error ends its run as `failed`, with the traceback in the record, and the next run goes on.
    Several processes part at an error: the function returns, or raises if the record lacks it.
    """
    torch.set_num_threads(execution.threads)
    processes = processes or Processes()
    program: Program | None = None
    for run in runs:
        try:
            if program is None:
                program = Program(run.config, execution, processes)
            finished = Training(program, run).train(should_stop)
        except Exception as error:
            cause = processes.part(error)
            if isinstance(cause, ClaimLostError):
                log.warning("%s: taken over by another worker", run.record.directory)
                if run.claim.went_to_own_job():
                    raise  # this worker is not in SLURM's books any more
            elif run.claim.holds():
                _record_failure(run, cause)
            finished = not processes.parted
            if processes.parted and run.record.status() is None:
                raise  # nothing would keep new processes from the same error
        finally:
            _release(run)
        if not finished:
            return False
    return True


def _release(run: ClaimedRun) -> None:
    try:
        run.claim.release()
    except OSError:  # a read-only disk: our end frees the run
        log.exception("%s: the claim could not be released", run.record.directory)


def _record_failure(run: ClaimedRun, error: Exception) -> None:
    record = run.record
    log.error("%s failed", record.directory, exc_info=error)
    try:
        record.write_error("".join(traceback.format_exception(error)))
        message = " ".join(str(error).split())
        record.finish("failed", error=f"{type(error).__name__}: {message}", log=run.claim.log)
    except OSError:  # a full or read-only disk: the run stays without an outcome
        log.exception("%s: the failure could not be recorded", record.directory)


class Program:
    """What the runs of a bundle share: model, loss function, data, device, processes."""

    def __init__(self, config: RunConfig, execution: Execution, processes: Processes) -> None:
        self.execution, self.processes = execution, processes
        self.device = processes.device(execution.device)
        self.dataset: Dataset = load_dataset(config.data)
        vocab_size, context = self.dataset.vocab_size, config.data.context
        self.model, forward = processes.build(
            lambda: GPT(config.model, vocab_size, context), self.device
        )
        loss: Callable[[Tensor], tuple[Tensor, Tensor]] = partial(losses, forward)
        self.loss = torch.compile(loss) if execution.compile else loss
        batches = self.dataset.validation_batches(
            config.train.eval_sequences, config.train.batch_size
        )
        self.validation = [batch.to(self.device) for batch in batches]

    def autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.execution.dtype == "bfloat16"
        )

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Mean cross-entropy of the model on the fixed validation sequences, in nats."""
        # Not compiled: a second graph costs more than these few forward passes.
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for batch in self.validation:
            rows = self.processes.rows(batch)
            with self.autocast():  # all take part in every pass, even without a row of their own
                loss, _ = self.model.loss(rows if len(rows) else batch[:1])
            total += loss * len(rows)
        return self.processes.total(total).item() / sum(len(batch) for batch in self.validation)


class Training:
    """One run on a program: initial weights or checkpoint, steps, metrics, outcome."""

    def __init__(self, program: Program, run: ClaimedRun) -> None:
        self.program, self.run, self.config = program, run, run.config
        program.dataset.check_length(
            self.config.steps * self.config.train.batch_size, self.config.data.max_epochs
        )
        self.optimizer = self._initialise()
        self.progress = self._resume()
        run.record.rewind_metrics(self.progress.step)
        run.record.clear_error()
        # On the device, so that steps need not wait for it.
        self.loss_sum = torch.tensor(
            self.progress.loss_sum, dtype=torch.float64, device=program.device
        )
        self._describe()
        self.started = self.saved = self.touched = time.monotonic()
        if program.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(program.device)

    def train(self, should_stop: Callable[[], bool]) -> bool:
        """Take the steps that are left. False if stopped before the run had an outcome."""
        steps, evaluations = self.config.steps, self.config.train.evaluations
        evaluated = {max(1, round(k * steps / evaluations)) for k in range(1, evaluations + 1)}
        logged = evaluated | set(range(1, steps, max(1, steps // METRICS_LINES)))
        while self.progress.step < steps:
            self._step(self.progress.step)
            step = self.progress.step
            if step in logged:
                line = self._log(evaluate=step in evaluated)
                if self._diverged(line):
                    self._finish("diverged", line)
                    return True
                if step == steps:
                    self._finish("done", line)
                    return True
            self._keep_alive()
            if self.program.processes.any(should_stop()):
                self._save()
                return False
        raise AssertionError("the last step is always evaluated")

    def _step(self, step: int) -> None:
        program, train = self.program, self.config.train
        batch = program.processes.rows(
            program.dataset.training_batch(self.config.seed, step, train.batch_size)
        )
        set_lr_scale(self.optimizer, lr_scale(train, step, self.config.steps))
        with program.autocast():
            cross_entropy, z_loss = program.loss(batch.to(program.device, non_blocking=True))
        (cross_entropy + train.z_loss * z_loss).backward()  # type: ignore[no-untyped-call]
        if train.clip is not None:
            torch.nn.utils.clip_grad_norm_(program.model.parameters(), train.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.loss_sum += cross_entropy.detach()
        if step == 0:
            self.progress.first_loss = self._mean(cross_entropy.detach())
        self.progress.step = step + 1

    def _mean(self, loss: Tensor) -> float:
        """Of all processes, which have equally many rows; waits for the device."""
        return self.program.processes.total(loss).item() / self.program.processes.count

    def _log(self, evaluate: bool) -> dict[str, Any]:
        """Append a line of metrics: the mean training loss since the last one, in nats."""
        progress = self.progress
        line: dict[str, Any] = {
            "step": progress.step,
            "tokens": progress.step * self.config.tokens_per_step,
            "lr_scale": lr_scale(self.config.train, progress.step - 1, self.config.steps),
            "train_loss": self._mean(self.loss_sum) / (progress.step - progress.logged_step),
        }
        if evaluate:
            line["val_loss"] = self.program.validation_loss()
        self.loss_sum.zero_()
        progress.logged_step = progress.step
        self._check_claim()
        self.run.record.append_metrics(_without_nan(line))
        return line

    def _diverged(self, line: dict[str, Any]) -> bool:
        start = max(self.progress.first_loss, math.log(self.program.dataset.vocab_size))
        losses = [line["train_loss"], line.get("val_loss", 0.0)]
        return not all(loss < DIVERGED_ABOVE * start for loss in losses)  # NaN compares false

    def _keep_alive(self) -> None:
        now = time.monotonic()
        if now - self.touched > TOUCH_SECONDS:
            self.run.claim.touch()
            self.touched = now
        due = now - self.saved > self.program.execution.checkpoint_seconds
        if self.program.processes.any(due):
            self._save()
            self.saved = now

    def _check_claim(self) -> None:
        if not self.run.claim.holds():
            raise ClaimLostError

    def _save(self) -> None:
        self._check_claim()
        self.progress.loss_sum = self._mean(self.loss_sum)
        self._count_time()
        save_checkpoint(
            self.run.record.checkpoint_path,
            self.program.model,
            self.optimizer,
            self.progress,
            self.program.dataset.corpus_hash,
            self.program.processes,
        )

    def _initialise(self) -> torch.optim.AdamW:
        self.program.model.initialise(self.config)
        return adamw(self.program.model, self.config)

    def _resume(self) -> Progress:
        """Where the checkpoint left off; the start if it, or metrics before it, are damaged."""
        processes = self.program.processes
        checkpoint = self._checkpoint() if processes.rank == 0 else None
        progress = processes.share(asdict(checkpoint.progress) if checkpoint else None)
        if progress is None:
            return Progress()
        restore(checkpoint, self.program.model, self.optimizer, processes)
        return Progress(**progress)

    def _checkpoint(self) -> Checkpoint | None:
        """The checkpoint to go on from, if there is one."""
        record = self.run.record
        if not record.checkpoint_path.exists():
            return None
        checkpoint = read_checkpoint(
            record.checkpoint_path,
            self.program.model,
            self.optimizer,
            self.program.dataset.corpus_hash,
        )
        if checkpoint is not None:
            progress = checkpoint.progress
            logged = [line["step"] for line in record.metrics() if line["step"] <= progress.step]
            if max(logged, default=0) != progress.logged_step:
                log.warning("%s: metrics are missing; the run starts anew", record.directory)
                return None
        return checkpoint

    def _count_time(self) -> None:
        now = time.monotonic()
        self.progress.wall_seconds += now - self.started
        self.started = now

    def _describe(self) -> None:
        """Print the optimiser groups and write `run.json`."""
        dataset, groups = self.program.dataset, describe_groups(self.optimizer)
        log.info("run %s\n%s", self.config.run_id, groups_text(groups))
        record = self.run.record
        record.write_run(
            {
                "versions": versions(),
                **describe_code(record.run() or {} if self.progress.step else None),
                "device": device_name(self.program.device),
                "execution": self.program.execution.model_dump(mode="json"),
                "processes": self.program.processes.count,
                "data": {
                    "corpus": dataset.corpus,
                    "tokenizer": dataset.tokenizer,
                    "corpus_hash": dataset.corpus_hash,
                    "vocab_size": dataset.vocab_size,
                    "unigram_entropy": dataset.unigram_entropy,
                    "bigram_entropy": dataset.bigram_entropy,
                },
                "parameters": sum(group["parameters"] for group in groups),
                "groups": groups,
            }
        )

    def _finish(self, outcome: Outcome, line: dict[str, Any]) -> None:
        self._check_claim()
        self._count_time()
        flops = train_flops(self.config, self.program.dataset.vocab_size)
        self.run.record.finish(
            outcome,
            **_without_nan(
                {
                    "val_loss": line.get("val_loss") if outcome == "done" else None,
                    "train_loss": line["train_loss"],
                    "error": None,
                    "step": line["step"],
                    "steps": self.config.steps,
                    "tokens": line["tokens"],
                    "flops": flops * line["step"] / self.config.steps,
                    "wall_seconds": self.progress.wall_seconds,
                    "tokens_per_second": line["tokens"] / self.progress.wall_seconds,
                    "peak_memory_bytes": _peak_memory(self.program.device),
                    "peak_host_memory_bytes": _peak_host_memory(),
                    "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                }
            ),
        )
        log.info("run %s: %s", self.config.run_id, outcome)


def _without_nan(content: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN and no infinity: they become null."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in content.items()
    }


def _peak_memory(device: torch.device) -> int:
    """Peak bytes: of this run on a GPU, of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _peak_host_memory()


def _peak_host_memory() -> int:
    """Peak resident bytes of this process since it started, whatever it trained before."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
