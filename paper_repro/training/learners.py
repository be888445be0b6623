"""What makes the learners of a bundle: its model, built once, and how many runs train at once.

`OurLearners` train our GPT. `paper_repro.training.foreign` has those of other models.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

import torch
from torch import nn

from paper_repro.apply.param_groups import param_groups
from paper_repro.config import Execution, RunConfig
from paper_repro.cost import Counts, counts, fitting_runs
from paper_repro.hyperparameters import resolve
from paper_repro.model import GPT, gpt_losses
from paper_repro.training.devices import compiler_problem
from paper_repro.training.processes import Processes
from paper_repro.training.single import Learner, Loss, SingleRun, initialise
from paper_repro.training.stacked import StackedRuns, adamw_update


class Learners(Protocol):
    """The learners of a bundle."""

    @property
    def model(self) -> nn.Module:
        """A model of one run; in each of several processes, whole or a shard."""

    @property
    def counts(self) -> Counts:
        """What of it decides the cost."""

    @property
    def runs_at_once(self) -> int:
        """How many runs a learner trains."""

    def learner(self, configs: Sequence[RunConfig]) -> Learner:
        """Initial weights and optimiser of runs that train at once."""


def compiled(loss: Loss, execution: Execution) -> Loss:
    """The losses of a model, as the execution wants them."""
    return torch.compile(loss) if execution.compile else loss


class OurLearners:
    """Runs of our GPT, as many at once as fit on a GPU."""

    def __init__(
        self,
        config: RunConfig,
        vocab_size: int,
        execution: Execution,
        processes: Processes,
        device: torch.device,
    ) -> None:
        """Build the model.

        Args:
            config: of any run of the bundle.
            vocab_size: of the data's tokens.
            processes: those that train each run together.
        """
        self.counts = counts(config.model, vocab_size)
        self._execution, self._device = execution, device
        self._build = partial(GPT, config.model, vocab_size, config.data.context)
        self.model, forward = processes.build(self._build, device)
        self.model.recompute = execution.recompute
        self._stack: tuple[int, GPT, Loss] | None = None
        """R, model and loss function of the last stack; reused while R stays."""
        self.runs_at_once = self._choose_runs_at_once(config, processes)
        self._loss = compiled(partial(gpt_losses, forward), execution)
        # On a GPU always: one kernel, for all shapes, in place of ten.
        fused = device.type == "cuda" and compiler_problem() is None
        self._update = torch.compile(adamw_update, dynamic=True) if fused else adamw_update

    def learner(self, configs: Sequence[RunConfig]) -> Learner:
        resolved = [resolve(config) for config in configs]
        seeds = [config.seed_of_weights for config in configs]
        clips = [config.train.clip for config in configs]
        if self.runs_at_once == 1:
            (run,) = resolved
            initialise(self.model, run, seeds[0])
            groups = param_groups(self.model.named_parameters(), run.labels, run.parameters)
            return SingleRun(self.model, self._loss, self.model.loss, groups, clips[0])
        if self._stack is None or self._stack[0] != len(configs):
            self._stack = None  # first, for its memory
            models = self._build(len(configs)).to(self._device)
            self._stack = len(configs), models, compiled(models.loss, self._execution)
        _, models, loss = self._stack
        return StackedRuns(models, loss, self._update, self.model, resolved, seeds, clips)

    def _choose_runs_at_once(self, config: RunConfig, processes: Processes) -> int:
        """Choose as many as fit on a GPU, and one on a CPU, where more do not pay."""
        if processes.count > 1 or self._execution.recompute:
            return 1
        if self._execution.runs_at_once is not None:
            return self._execution.runs_at_once
        if self._device.type != "cuda":
            return 1
        free, _ = torch.cuda.mem_get_info(self._device)
        return fitting_runs(config, self.counts, self._execution, free)
