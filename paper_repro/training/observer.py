"""Observers: what a run reports while it trains, and the outcome it ends with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from paper_repro.config import Execution, RunConfig
from paper_repro.cost import Counts
from paper_repro.data import Dataset
from paper_repro.training.checkpoint import Checkpoint, Progress


@dataclass(frozen=True)
class LoggedStep:
    """A point of a learning curve. Losses are means in nats a token."""

    step: int
    """Optimiser steps taken."""
    tokens: int
    """Tokens trained on."""
    lr_scale: float
    """Factor of the schedule on the peak learning rates, at the last step taken."""
    train_loss: float
    """Mean since the point before; not finite where the run diverged."""
    val_loss: float | None = None
    """On the fixed validation sequences, where they were evaluated."""
    gradient_norm: float | None = None
    """Largest norm of the gradients since the point before, over all parameters and before
    clipping; where `Execution.gradient_norms` asks for it."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended. Losses are means in nats a token."""

    status: Literal["done", "diverged"]
    val_loss: float | None
    """Final loss on the fixed validation sequences; None for a diverged run."""
    train_loss: float
    """Final training loss, without z-loss."""
    curve: tuple[LoggedStep, ...]
    """The learning curve, from the first step or, of a resumed run, from where it was resumed."""
    wall_seconds: float
    """Time spent, over all attempts; runs that train at once share it."""
    peak_memory_bytes: int
    """Largest memory in use on the device that trained, shared likewise."""

    @property
    def step(self) -> int:
        """The last optimiser step taken."""
        return self.curve[-1].step

    @property
    def tokens(self) -> int:
        """Tokens trained on."""
        return self.curve[-1].tokens


@dataclass(frozen=True)
class RunStart:
    """A run that is about to train, as its observer sees it."""

    config: RunConfig
    dataset: Dataset
    device: torch.device
    execution: Execution
    """How it runs: `compile` is off where there is no compiler."""
    processes: int
    """Number of processes that train the run together."""
    index: int
    """Its place among the runs that train at once."""
    runs_at_once: int
    groups: list[dict[str, Any]]
    """The optimiser groups (`paper_repro.apply.param_groups.describe_groups`)."""
    counts: Counts
    """What of its model decides the cost."""
    step: int
    """Steps taken before: above 0 where it is resumed."""


class RunLostError(RuntimeError):
    """Raised by an observer: the run is another's by now and must not be trained here any more."""


class Observer:
    """Receives what one run reports while it trains. This one ignores it; subclasses override."""

    saves = False
    """Whether the run is to be saved now and then, and when training is stopped."""
    watches = False
    """Whether `gradients` is to be called at every step."""

    def resume(self, shapes: Mapping[str, torch.Size], corpus_hash: str) -> Checkpoint | None:
        """The checkpoint to go on from; None to start anew.

        Args:
            shapes: of the parameters, by name, which those of the checkpoint must have.
            corpus_hash: of the data, which must be that of the checkpoint.
        """
        return None

    def start(self, start: RunStart) -> None:
        """The run is about to train."""

    def log(self, point: LoggedStep) -> None:
        """A point was added to the learning curve."""

    def gradients(self, model: nn.Module, step: int) -> None:
        """The gradients of a step are in the model, its update is still to come.

        Args:
            step: updates made before.
        """

    def save(self, checkpoint: Checkpoint) -> None:
        """The run can be resumed from this checkpoint."""

    def alive(self) -> None:
        """The run is in training; called every few seconds."""

    def end(self, outcome: Outcome) -> None:
        """The run has ended."""


@dataclass
class RunInTraining:
    """A run, its observer, and how far it is."""

    index: int
    """Its place among those that train at once."""
    config: RunConfig
    observer: Observer
    progress: Progress = field(default_factory=Progress)
    curve: list[LoggedStep] = field(default_factory=list)
    outcome: Outcome | None = None
    lost: bool = False
    """Whether its observer said that it is another's by now."""

    @property
    def in_training(self) -> bool:
        return self.outcome is None and not self.lost
