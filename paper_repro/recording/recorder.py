"""The recorder: the observer that writes the record of a run while it trains."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from datetime import UTC, datetime

import torch

from paper_repro.apply.param_groups import groups_text
from paper_repro.cost import Counts, train_flops
from paper_repro.records.lease import LeasedRun
from paper_repro.records.provenance import describe_code, versions
from paper_repro.records.record import DataInfo, MetricsLine, RunInfo, Status
from paper_repro.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from paper_repro.training.devices import device_name, peak_host_memory
from paper_repro.training.observer import LoggedStep, Observer, Outcome, RunLostError, RunStart

log = logging.getLogger(__name__)


class Recorder(Observer):
    """Logs, checkpoints and finishes the record of one run while it trains.

    Before it writes it asks whether the run is still ours. Where it is not, it raises RunLostError
    and `lost` is true from then on.
    """

    saves = True

    def __init__(self, run: LeasedRun) -> None:
        self.run, self.record = run, run.record
        self.lost = False
        self._counts: Counts | None = None

    def resume(self, shapes: Mapping[str, torch.Size], corpus_hash: str) -> Checkpoint | None:
        path = self.record.checkpoint_path
        checkpoint = read_checkpoint(path, shapes, corpus_hash) if path.exists() else None
        if checkpoint is None:
            return None
        progress = checkpoint.progress
        steps = [line["step"] for line in self.record.metrics()]
        if (
            max((step for step in steps if step <= progress.step), default=0)
            != progress.logged_step
        ):
            log.warning("%s: metrics are missing; the run starts anew", self.record.directory)
            return None
        return checkpoint

    def start(self, start: RunStart) -> None:
        self.record.rewind_metrics(start.step)
        self.record.error_path.unlink(missing_ok=True)  # of an attempt before
        self._counts = start.counts
        first = start.index == 0
        table = groups_text(start.groups) if first else "groups like those of the first of these"
        log.info("run %s\n%s", start.config.run_id, table)
        before = self.record.run_info()
        execution = start.execution.model_dump(mode="json")
        earlier = list(before.earlier_execution) if before and start.step else []
        if before and start.step and before.execution != execution:
            earlier.append(before.execution)
        if len({(how.get("dtype"), how.get("device")) for how in (*earlier, execution)}) > 1:
            log.warning("%s: its steps are of several precisions or devices", self.record.directory)
        self.record.write_run_info(
            RunInfo(
                versions=versions(),
                **describe_code(before, start.step > 0, start.config.model.factory),
                device=device_name(start.device),
                execution=execution,
                earlier_execution=earlier,
                processes=start.processes,
                runs_at_once=start.runs_at_once,
                data=DataInfo.model_validate(start.dataset, from_attributes=True),
                parameters=sum(group["parameters"] for group in start.groups),
                groups=start.groups,
            )
        )

    def log(self, point: LoggedStep) -> None:
        line = MetricsLine(
            step=point.step,
            tokens=point.tokens,
            lr_scale=point.lr_scale,
            train_loss=_finite(point.train_loss),
        )
        if point.val_loss is not None:
            line["val_loss"] = _finite(point.val_loss)
        if point.gradient_norm is not None:
            line["gradient_norm"] = _finite(point.gradient_norm)
        self._check_lease()
        self.record.append_metrics(line)

    def save(self, checkpoint: Checkpoint) -> None:
        self._check_lease()
        write_checkpoint(self.record.checkpoint_path, checkpoint)

    def alive(self) -> None:
        self.run.lease.touch()

    def end(self, outcome: Outcome) -> None:
        config = self.run.config
        assert self._counts is not None  # it has started
        self._check_lease()
        self.record.finish(
            Status(
                status=outcome.status,
                val_loss=_finite(outcome.val_loss),
                train_loss=_finite(outcome.train_loss),
                step=outcome.step,
                steps=config.steps,
                tokens=outcome.tokens,
                flops=train_flops(config, self._counts) * outcome.step / config.steps,
                wall_seconds=outcome.wall_seconds,
                tokens_per_second=outcome.tokens / outcome.wall_seconds,
                peak_memory_bytes=outcome.peak_memory_bytes,
                peak_host_memory_bytes=peak_host_memory(),
                finished=datetime.now(UTC).isoformat(timespec="seconds"),
            )
        )
        log.info("run %s: %s", config.run_id, outcome.status)

    def _check_lease(self) -> None:
        if not self.run.lease.holds():
            self.lost = True
            raise RunLostError(f"{self.record.directory}: taken over by another worker")


def _finite(value: float | None) -> float | None:
    """JSON has no NaN and no infinity: they become null."""
    return value if value is not None and math.isfinite(value) else None
