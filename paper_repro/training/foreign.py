"""Runs of a model that a factory makes (`paper_repro.apply.factory`), in the absorbed form.

They train one after the other: the layers of our GPT have an axis of runs, those of a foreign model
have none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from paper_repro.apply.factory import count, logits_of, make_model, rules_of
from paper_repro.config import Execution, RunConfig
from paper_repro.errors import ConfigError
from paper_repro.model import Forward, losses
from paper_repro.schedules import Factors
from paper_repro.training.learners import compiled
from paper_repro.training.processes import Processes
from paper_repro.training.single import Learner, Loss, SingleRun


def check_execution(execution: Execution, processes: int) -> None:
    """Check that a factory's model can be trained in a way.

    Raises:
        ConfigError: for that its blocks would have to be known.
    """
    if execution.recompute:
        raise ConfigError("--recompute: only for our GPT (model.factory is another model)")
    if processes > 1 and execution.parallel == "fsdp":
        raise ConfigError("--parallel fsdp: only for our GPT (model.factory's trains with ddp)")


class ForeignLearners:
    """Runs of a factory's model, one at a time: `paper_repro.training.learners.Learners`."""

    runs_at_once = 1

    def __init__(
        self, config: RunConfig, execution: Execution, processes: Processes, device: torch.device
    ) -> None:
        """Build the model.

        Args:
            config: of any run of the bundle.
            processes: those that train each run together.

        Raises:
            ConfigError: the model cannot be made, or not be trained in this way.
        """
        check_execution(execution, processes.count)
        self.model, forward = processes.build(partial(make_model, config.model), device)
        self.counts = count(self.model, config.model)
        self._loss = compiled(_losses_of(forward), execution)
        self._buffers = {name: value.clone() for name, value in self.model.named_buffers()}

    def learner(self, configs: Sequence[RunConfig]) -> Learner:
        (config,) = configs
        return ForeignRun(self.model, self._loss, config, self._buffers)


class ForeignRun(SingleRun):
    """A foreign model and its AdamW. Where it has dropout, that is a function of (seed, step)."""

    def __init__(
        self, model: nn.Module, loss: Loss, config: RunConfig, buffers: Mapping[str, Tensor]
    ) -> None:
        """Draw the weights.

        Args:
            buffers: of the model as it was made, for the run before may have changed its own.
        """
        rules = rules_of(config, model)
        rules.initialise(config.seed_of_weights)
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
        model.zero_grad()
        groups = rules.param_groups()
        super().__init__(model, loss, _losses_of(model), groups, config.train.clip)
        self._seed = config.seed

    def schedule(self, factors: Sequence[Factors], step: int) -> None:
        super().schedule(factors, step)
        digest = hashlib.sha256(f"{self._seed}/dropout/{step}".encode()).digest()
        torch.manual_seed(int.from_bytes(digest[:8], "little", signed=True))
        self.model.train()

    def evaluate(self, sequences_BT: Tensor) -> Tensor:
        self.model.eval()
        return super().evaluate(sequences_BT)


def _losses_of(forward: Forward) -> Loss:
    """Those of a model whose output layer is not known: all its logits are there at a time."""
    return partial(losses, partial(logits_of, forward))
