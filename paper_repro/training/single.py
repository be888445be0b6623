"""Weights and optimiser of the runs that train at once: what they must do, and one run's.

`paper_repro.training.stacked` has those of several runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from paper_repro.apply.param_groups import set_lr_scale
from paper_repro.hyperparameters import ResolvedRun
from paper_repro.model import GPT
from paper_repro.schedules import Factors
from paper_repro.training.checkpoint import RunState

Loss = Callable[[Tensor], tuple[Tensor, Tensor]]
"""The losses of a model on sequences (B, T + 1), as `paper_repro.model.losses` has them."""


class Learner(Protocol):
    """Weights and optimiser of R runs that train at once."""

    @property
    def model(self) -> nn.Module:
        """The model, of one run or of R."""

    def losses(self, sequences_RBT: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy and z-loss of each run on sequences of its own: two tensors (R,)."""

    def evaluate(self, sequences_BT: Tensor) -> Tensor:
        """Cross-entropy of each run on the same sequences: (R,)."""

    def schedule(self, factors: Sequence[Factors], step: int) -> None:
        """Set the factors on the runs' hyperparameters for the step to come, from 0."""

    def update(self) -> None:
        """Take a step of AdamW on the gradients, clipped where a run says so, and drop them."""

    def gradient_norms(self) -> Tensor:
        """The norm of each run's gradients, over all parameters and before clipping: (R,)."""

    def groups(self, index: int) -> list[dict[str, Any]]:
        """The optimiser groups of a run, as it would have them alone."""

    def export_run(self, index: int) -> RunState:
        """The state of a run. With several processes all must call it; the first gets it whole."""

    def import_run(self, index: int, state: RunState | None) -> None:
        """Go on from a state. With several processes all must call it; only the first has it."""


class SingleRun:
    """One run: a model, whole or a shard of it in each of several processes, and its AdamW."""

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        plain_loss: Loss,
        groups: list[dict[str, Any]],
        clip: float | None,
    ) -> None:
        """Make the optimiser.

        Args:
            model: with the run's initial weights.
            loss: of the model, for training: maybe compiled, maybe of several processes.
            plain_loss: of the model, for evaluation.
            groups: of its parameters (`paper_repro.apply.param_groups`).
            clip: the gradient norm above which gradients are rescaled.
        """
        self.model, self._loss, self._plain_loss, self._clip = model, loss, plain_loss, clip
        self._optimizer = torch.optim.AdamW(groups, fused=True)
        self._unscheduled = [(group["weight_decay"], group["betas"]) for group in groups]

    def losses(self, sequences_RBT: Tensor) -> tuple[Tensor, Tensor]:
        cross_entropy, z_loss = self._loss(sequences_RBT[0])
        return cross_entropy[None], z_loss[None]

    def evaluate(self, sequences_BT: Tensor) -> Tensor:
        # Not the compiled function: a second graph costs more than these few forward passes.
        return self._plain_loss(sequences_BT)[0][None]

    def schedule(self, factors: Sequence[Factors], step: int) -> None:
        lr, decay, *new = factors[0]
        set_lr_scale(self._optimizer, lr)
        for group, (peak, betas) in zip(
            self._optimizer.param_groups, self._unscheduled, strict=True
        ):
            group["weight_decay"] = peak * decay
            # Of the form that leaves a beta as it is, to the bit, where the factor is 1.
            group["betas"] = tuple(b - (1 - b) * (f - 1) for b, f in zip(betas, new, strict=True))

    def update(self) -> None:
        if self._clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._clip)
        self._optimizer.step()
        self._optimizer.zero_grad()

    def gradient_norms(self) -> Tensor:
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        whole = getattr(norm, "full_tensor", None)  # of shards; the import of its class takes long
        return (whole() if whole else norm)[None]

    def groups(self, index: int) -> list[dict[str, Any]]:
        return self._optimizer.param_groups

    def export_run(self, index: int) -> RunState:
        # Here: its import takes most of a second, and most runs end without a checkpoint.
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        weights, optimizer = get_state_dict(self.model, self._optimizer, options=options)
        return RunState(weights, optimizer.get("state", {}))  # type: ignore[arg-type]

    def import_run(self, index: int, state: RunState | None) -> None:
        from torch.distributed.checkpoint import state_dict as library

        several = torch.distributed.is_available() and torch.distributed.is_initialized()
        options = library.StateDictOptions(full_state_dict=True, broadcast_from_rank0=several)
        weights: dict[str, Any] = state.weights if state else {}
        groups = [group | {"params": group["names"]} for group in self._optimizer.param_groups]
        optimizer: dict[str, Any] = (
            {"state": state.moments, "param_groups": groups} if state else {}
        )
        library.set_model_state_dict(self.model, weights, options=options)
        library.set_optimizer_state_dict(self.model, self._optimizer, optimizer, options=options)


def initialise(model: GPT, resolved: ResolvedRun, seed: int) -> None:
    """Draw the weights of a run and set its multipliers."""
    model.initialise(
        {name: parameter.init_std for name, parameter in resolved.parameters.items()},
        resolved.residual_multipliers,
        resolved.logits_multiplier,
        seed,
    )
