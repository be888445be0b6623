"""One run in training, as its record sees it: resumed, logged, saved, ended."""

from __future__ import annotations

import logging
import math
import resource
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch

from paper_repro.config import RunConfig
from paper_repro.cost import train_flops
from paper_repro.records.code import describe_code
from paper_repro.records.lease import LeadersLease, Lease
from paper_repro.records.provenance import device_name, versions
from paper_repro.records.record import MetricsLine, Record, RunInfo, Status
from paper_repro.training.checkpoint import (
    Checkpoint,
    Progress,
    read_checkpoint,
    restore,
    save_checkpoint,
)
from paper_repro.training.param_groups import describe_groups, groups_text
from paper_repro.training.program import Program
from paper_repro.training.schedules import lr_scale
from paper_repro.training.single import Learner

log = logging.getLogger(__name__)

#: A run is diverged when its mean training loss is NaN, infinite, or above this many times the
#: loss it started from.
DIVERGED_ABOVE = 3.0


class LeadersRecord(Record):
    """The record of the process that leads, to another that trains the run with it.

    It can be read. What is written goes nowhere, since the leader writes the same.
    """

    def finish(self, status: Status) -> None:
        pass

    def append_metrics(self, line: MetricsLine) -> None:
        pass

    def rewind_metrics(self, step: int) -> None:
        pass

    def write_run_info(self, info: RunInfo) -> None:
        pass

    def write_error(self, text: str) -> None:
        pass

    def clear_error(self) -> None:
        pass


@dataclass(frozen=True)
class LeasedRun:
    """A run that this process, or those that it leads, and no other, may train."""

    config: RunConfig
    record: Record
    lease: Lease


def leaders_run(directory: Path) -> LeasedRun:
    """A run that the leader of this process has claimed, by the directory of its record."""
    record = LeadersRecord(directory)
    return LeasedRun(record.config(), record, LeadersLease(directory / "claims"))


class LeaseLostError(RuntimeError):
    """Another process took the run over; this one must not touch its record any more."""


class Track:
    """A run on its way. What is asked of the learner is about the run of this index."""

    def __init__(self, program: Program, learner: Learner, index: int, run: LeasedRun) -> None:
        program.dataset.check_length(
            run.config.steps * run.config.train.batch_size, run.config.data.max_epochs
        )
        self.program, self.learner, self.index, self.run = program, learner, index, run
        self.progress = self._resume()
        self.ended = False
        """Whether the run has its outcome."""
        run.record.rewind_metrics(self.progress.step)
        run.record.clear_error()
        self._describe()
        self._started = time.monotonic()

    def log(self, step: int, train_loss: float, val_loss: float | None) -> None:
        """Append a line of metrics, and end the run where it diverged or was at its last step.

        Args:
            step: steps done.
            train_loss: mean since the last line, in nats.

        Raises:
            LeaseLostError: the run is not ours any more.
        """
        config = self.run.config
        self.progress.step = self.progress.logged_step = step
        self.progress.loss_sum = 0.0
        line: dict[str, Any] = {
            "step": step,
            "tokens": step * config.tokens_per_step,
            "lr_scale": lr_scale(config.train, step - 1, config.steps),
            "train_loss": train_loss,
        }
        if val_loss is not None:
            line["val_loss"] = val_loss
        self._check_lease()
        self.run.record.append_metrics(_without_nan(line))  # type: ignore[arg-type]
        if self._diverged(line):
            self._finish("diverged", line)
        elif step == config.steps:
            self._finish("done", line)

    def save(self, step: int, loss_sum: float) -> None:
        """Write a checkpoint.

        Args:
            step: steps done.
            loss_sum: of the training losses since the last line of metrics.

        Raises:
            LeaseLostError: the run is not ours any more.
        """
        self._check_lease()
        self.progress.step, self.progress.loss_sum = step, loss_sum
        self._count_time()
        save_checkpoint(
            self.run.record.checkpoint_path,
            *self.learner.take_out(self.index),
            self.progress,
            self.program.dataset.corpus_hash,
            self.program.processes,
        )

    def _diverged(self, line: dict[str, Any]) -> bool:
        start = max(self.progress.first_loss, math.log(self.program.dataset.vocab_size))
        losses = [line["train_loss"], line.get("val_loss", 0.0)]
        return not all(loss < DIVERGED_ABOVE * start for loss in losses)  # NaN compares false

    def _check_lease(self) -> None:
        if not self.run.lease.holds():
            raise LeaseLostError

    def _resume(self) -> Progress:
        """Where the checkpoint left off; the start if it, or metrics before it, are damaged."""
        processes = self.program.processes
        checkpoint = self._checkpoint() if processes.rank == 0 else None
        progress = processes.share(asdict(checkpoint.progress) if checkpoint else None)
        if progress is None:
            return Progress()
        restore(checkpoint, *self.learner.take_out(self.index), processes)
        self.learner.put_back(self.index)
        return Progress(**progress)

    def _checkpoint(self) -> Checkpoint | None:
        """The checkpoint to go on from, if there is one."""
        record = self.run.record
        if not record.checkpoint_path.exists():
            return None
        checkpoint = read_checkpoint(
            record.checkpoint_path,
            *self.learner.take_out(self.index),
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
        """Runs trained at once share the time."""
        now = time.monotonic()
        self.progress.wall_seconds += (now - self._started) / self.learner.runs
        self._started = now

    def _describe(self) -> None:
        """Print the optimiser groups and write `run.json`."""
        dataset, record = self.program.dataset, self.run.record
        groups = describe_groups(self.learner.take_out(self.index)[1])
        table = (
            groups_text(groups) if self.index == 0 else "groups like those of the first of these"
        )
        log.info("run %s\n%s", self.run.config.run_id, table)
        record.write_run_info(
            RunInfo.model_validate(
                {
                    "versions": versions(),
                    **describe_code(_code_before(record) if self.progress.step else None),
                    "device": device_name(self.program.device),
                    "execution": self.program.execution.model_dump(mode="json"),
                    "processes": self.program.processes.count,
                    "runs_at_once": self.learner.runs,
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
        )

    def _finish(self, outcome: Literal["done", "diverged"], line: dict[str, Any]) -> None:
        config = self.run.config
        self._check_lease()
        self._count_time()
        flops = train_flops(config, self.program.dataset.vocab_size)
        self.run.record.finish(
            Status(
                status=outcome,
                **_without_nan(
                    {
                        "val_loss": line.get("val_loss") if outcome == "done" else None,
                        "train_loss": line["train_loss"],
                        "error": None,
                        "step": line["step"],
                        "steps": config.steps,
                        "tokens": line["tokens"],
                        "flops": flops * line["step"] / config.steps,
                        "wall_seconds": self.progress.wall_seconds,
                        "tokens_per_second": line["tokens"] / self.progress.wall_seconds,
                        "peak_memory_bytes": _peak_memory(self.program.device) // self.learner.runs,
                        "peak_host_memory_bytes": _peak_host_memory(),
                        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                    }
                ),
            )
        )
        self.ended = True
        log.info("run %s: %s", config.run_id, outcome)


def _code_before(record: Record) -> dict[str, Any]:
    info = record.run_info()
    return info.model_dump() if info else {}


def _without_nan(content: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN and no infinity: they become null."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in content.items()
    }


def _peak_memory(device: torch.device) -> int:
    """Peak bytes: of these runs on a GPU, of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _peak_host_memory()


def _peak_host_memory() -> int:
    """Peak resident bytes of this process since it started, whatever it trained before."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
