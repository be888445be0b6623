"""A stack: runs of a bundle that train at once, as one program.

Every parameter, gradient and moment carries a leading run axis R, and so does everything that
differs between the runs: hyperparameters, multipliers, batches. Nothing is reduced over that axis,
so a run that diverges does not touch the others.

The model is `GPT` itself, mapped over the run axis (`torch.func`): there is no second one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from paper_repro.config import RunConfig
from paper_repro.hyperparameters import Resolved, resolve
from paper_repro.model import GPT, losses


class Stack:
    """The weights of R models of one shape. Uninitialised until `initialise` is called."""

    def __init__(self, model: GPT, runs: int) -> None:
        self.model = model
        self.parameters = {
            name: torch.empty(
                (runs, *parameter.shape), dtype=parameter.dtype, device=parameter.device
            ).requires_grad_()
            for name, parameter in model.named_parameters()
        }
        self.multipliers = {
            name: buffer.expand(runs, *buffer.shape).clone()
            for name, buffer in model.named_buffers()
            if name.endswith(("residual_multipliers", "logits_multiplier"))
        }

    @torch.no_grad()
    def initialise(self, configs: Sequence[RunConfig]) -> None:
        """Draw the weights and set the multipliers of each run, as `GPT.initialise` does."""
        for index, config in enumerate(configs):
            self.model.initialise(config)
            for name, parameter in self.model.named_parameters():
                self.parameters[name][index].copy_(parameter)
            for name, stacked in self.multipliers.items():
                stacked[index].copy_(self.model.get_buffer(name))

    def loss(self, sequences_RBT: Tensor) -> tuple[Tensor, Tensor]:
        """As `paper_repro.model.losses`, of each run on sequences of its own: two tensors (R,)."""
        return vmap(partial(_losses, self.model), randomness="error")(
            {**self.parameters, **self.multipliers}, sequences_RBT
        )


def _losses(
    model: GPT, tensors: Mapping[str, Tensor], sequences_BT: Tensor
) -> tuple[Tensor, Tensor]:
    return losses(lambda tokens: functional_call(model, dict(tensors), (tokens,)), sequences_BT)


class StackedAdamW:
    """AdamW (arXiv 1711.05101), step for step PyTorch's, with hyperparameters of each run's own.

    Labels and rules give them, as `paper_repro.optimizer.parameter_groups` does for one run.
    """

    def __init__(self, stack: Stack, configs: Sequence[RunConfig]) -> None:
        self.parameters = stack.parameters
        self.moments = {
            name: (torch.zeros_like(parameter), torch.zeros_like(parameter))
            for name, parameter in stack.parameters.items()
        }
        self.hyperparameters = {
            name: _along_runs(parameter, [resolve(c, stack.model.labels[name]) for c in configs])
            for name, parameter in stack.parameters.items()
        }

    @torch.no_grad()
    def step(self, lr_scale: Tensor, steps: Tensor) -> None:
        """Update all parameters and drop their gradients.

        Args:
            lr_scale: of the schedule, no axis.
            steps: updates so far, this one included, no axis.
        """
        for name, parameter in self.parameters.items():
            assert parameter.grad is not None
            _update(
                parameter,
                parameter.grad,
                *self.moments[name],
                self.hyperparameters[name],
                lr_scale,
                steps,
            )
            parameter.grad = None

    @torch.no_grad()
    def clip(self, maximum: float) -> None:
        """Scale each run's gradients down to a norm of at most `maximum`."""
        squares = [
            parameter.grad.square().flatten(1).sum(1)
            for parameter in self.parameters.values()
            if parameter.grad is not None
        ]
        factor_R = (maximum / (torch.stack(squares).sum(0).sqrt() + 1e-6)).clamp(max=1.0)
        for parameter in self.parameters.values():
            assert parameter.grad is not None
            parameter.grad *= _like(parameter, factor_R)


class _Along(NamedTuple):
    """Hyperparameters of one parameter, each of shape (R, 1, ..., 1)."""

    lr: Tensor
    weight_decay: Tensor
    beta1: Tensor
    beta2: Tensor
    eps: Tensor


def _along_runs(parameter: Tensor, resolved: Sequence[Resolved]) -> _Along:
    def column(name: str) -> Tensor:
        values = [getattr(run, name) for run in resolved]
        return _like(parameter, torch.tensor(values, device=parameter.device))

    return _Along(*map(column, _Along._fields))


def _like(parameter: Tensor, values_R: Tensor) -> Tensor:
    """One value a run, shaped to broadcast over that parameter."""
    return values_R.view(-1, *[1] * (parameter.dim() - 1))


def _update(
    parameter: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    h: _Along,
    lr_scale: Tensor,
    steps: Tensor,
) -> None:
    lr = h.lr * lr_scale
    parameter.mul_(1 - lr * h.weight_decay)
    mean.lerp_(gradient, 1 - h.beta1)
    square.mul_(h.beta2).addcmul_(gradient, gradient * (1 - h.beta2))
    denominator = (square / (1 - h.beta2**steps)).sqrt() + h.eps
    parameter.sub_(lr / (1 - h.beta1**steps) * mean / denominator)
