"""What the runs of a bundle share: data, device, processes, model and loss function."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from paper_repro.config import Execution, RunConfig
from paper_repro.cost import fitting_runs
from paper_repro.data import Dataset, load_dataset
from paper_repro.model import GPT, losses
from paper_repro.training.graphs import CapturedStep
from paper_repro.training.processes import Forward, Processes
from paper_repro.training.single import Learner, Loss, Solo
from paper_repro.training.stacked import Stack, adamw_update

log = logging.getLogger(__name__)

COMPILER = os.environ.get("CXX", "g++")
"""What torch.compile compiles with."""


class Program:
    """Built once a bundle, for one run at a time or for several at once."""

    def __init__(self, config: RunConfig, execution: Execution, processes: Processes) -> None:
        compiler = shutil.which(COMPILER)
        if execution.compile and compiler is None:
            log.warning("%s: not found, so the training step is not compiled", COMPILER)
            execution = execution.model_copy(update={"compile": False})
        self.execution, self.processes = execution, processes
        self.device = processes.device(execution.device)
        self.on_gpu = self.device.type == "cuda"
        self.dataset: Dataset = load_dataset(config.data)
        vocab_size, context = self.dataset.vocab_size, config.data.context
        self._build = partial(GPT, config.model, vocab_size, context)
        self.model, forward = processes.build(self._build, self.device)
        self.model.recompute = execution.recompute
        self._models: tuple[int, GPT, Loss] | None = None
        """Of so many runs, for one stack after the other, and their loss function."""
        self.runs_at_once = self._runs_at_once(config)
        self.loss = self._loss(forward)
        # On a GPU always: one kernel, for all shapes, in place of ten.
        self.update = (
            torch.compile(adamw_update, dynamic=True) if self.on_gpu and compiler else adamw_update
        )
        batches = self.dataset.validation_batches(
            config.train.eval_sequences, config.train.batch_size
        )
        self.validation = [batch.to(self.device) for batch in batches]

    def learner(self, configs: Sequence[RunConfig]) -> Learner:
        """Initial weights and optimiser of runs that train at once."""
        if self.runs_at_once == 1:
            return Solo(self.model, self.loss, configs[0])
        if self._models is None or self._models[0] != len(configs):
            self._models = None  # first, for its memory
            models = self._build(len(configs)).to(self.device)
            self._models = len(configs), models, self._loss(models)
        _, models, loss = self._models
        return Stack(models, loss, self.update, self.model, configs)

    def step(self, compute: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """The step of a learner, as it is launched: on a GPU, that of a stack as one CUDA graph."""
        return CapturedStep(compute) if self.on_gpu and self.runs_at_once > 1 else compute

    def _loss(self, forward: Forward) -> Loss:
        loss = partial(losses, forward)
        return torch.compile(loss) if self.execution.compile else loss

    def autocast(self) -> torch.autocast:
        """The precision of matrix products."""
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.execution.dtype == "bfloat16"
        )

    @torch.no_grad()
    def validation_losses(self, learner: Learner) -> list[float]:
        """Mean cross-entropy of each run on the fixed validation sequences, in nats."""
        total_R = torch.zeros(learner.runs, dtype=torch.float64, device=self.device)
        for batch in self.validation:
            rows = self.processes.rows(batch)
            some = rows if len(rows) else batch[:1]  # all take part in every pass
            with self.autocast():
                total_R += learner.evaluate(some) * len(rows)
        total_R = self.processes.total(total_R) / sum(len(batch) for batch in self.validation)
        losses: list[float] = total_R.tolist()
        return losses

    def _runs_at_once(self, config: RunConfig) -> int:
        """As many as fit on a GPU; one on a CPU, where more do not pay."""
        if self.processes.count > 1 or self.execution.recompute:
            return 1
        if self.execution.runs_at_once is not None:
            return self.execution.runs_at_once
        if not self.on_gpu:
            return 1
        free, _ = torch.cuda.mem_get_info(self.device)
        return fitting_runs(config, self.dataset.vocab_size, self.execution, free)
