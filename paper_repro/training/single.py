"""What learns: the weights and the optimiser of the runs that train at once, R of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from paper_repro.config import RunConfig
from paper_repro.model import GPT
from paper_repro.training.param_groups import adamw, set_lr_scale

Loss = Callable[[Tensor], tuple[Tensor, Tensor]]


class Learner(Protocol):
    """One run (`Solo`) or several at once (`paper_repro.training.stacked.Stack`)."""

    @property
    def runs(self) -> int:
        """R."""

    def losses(self, sequences_RBT: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy and z-loss of each run on sequences of its own: two tensors (R,)."""

    def evaluate(self, sequences_BT: Tensor) -> Tensor:
        """Cross-entropy of each run on the same sequences: (R,)."""

    def schedule(self, lr_scale: float, step: int) -> None:
        """Say where on its schedule the update to come is; `step` counts from 0."""

    def update(self, clip: float | None) -> None:
        """A step of AdamW on the gradients, which it drops."""

    def take_out(self, index: int) -> tuple[GPT, torch.optim.AdamW]:
        """A run by itself, as it would be if it trained alone: to be described, or saved."""

    def put_back(self, index: int) -> None:
        """Go on with what was done to the run that was last taken out."""


class Solo:
    """One run: a model, whole or a part of it in each of several processes, and PyTorch's AdamW."""

    runs = 1

    def __init__(self, model: GPT, loss: Loss, config: RunConfig) -> None:
        self._model, self._loss = model, loss
        model.initialise(config)
        self._optimizer = adamw(model, config)

    def losses(self, sequences_RBT: Tensor) -> tuple[Tensor, Tensor]:
        cross_entropy, z_loss = self._loss(sequences_RBT[0])
        return cross_entropy[None], z_loss[None]

    def evaluate(self, sequences_BT: Tensor) -> Tensor:
        # Not the compiled function: a second graph costs more than these few forward passes.
        return self._model.loss(sequences_BT)[0][None]

    def schedule(self, lr_scale: float, step: int) -> None:
        set_lr_scale(self._optimizer, lr_scale)

    def update(self, clip: float | None) -> None:
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), clip)
        self._optimizer.step()
        self._optimizer.zero_grad()

    def take_out(self, index: int) -> tuple[GPT, torch.optim.AdamW]:
        return self._model, self._optimizer

    def put_back(self, index: int) -> None:
        pass
