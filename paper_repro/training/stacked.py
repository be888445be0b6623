"""A stack: runs of a bundle that train at once, as one program.

Every parameter, gradient and moment carries a leading run axis R, and so does everything that
differs between the runs: hyperparameters, multipliers, batches. Nothing is reduced over that axis,
so a run that diverges does not touch the others.

The model is a `GPT` of R runs: what one run has, with a run axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from paper_repro.config import RunConfig
from paper_repro.hyperparameters import resolve
from paper_repro.model import GPT
from paper_repro.training.param_groups import adamw
from paper_repro.training.single import Loss

Update = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], None]
"""`adamw_update`, compiled or not."""


class Stack:
    """R runs: a `paper_repro.training.single.Learner`."""

    def __init__(
        self, models: GPT, loss: Loss, update: Update, one: GPT, configs: Sequence[RunConfig]
    ) -> None:
        """Draw the weights of the runs.

        Args:
            models: of R runs.
            loss: `paper_repro.model.losses` of them, compiled or not.
            one: a model of one run, for a run that is put in or taken out.
        """
        self.runs = len(configs)
        self._models, self._loss, self._one, self._configs = models, loss, one, configs
        models.zero_grad()
        self.parameters = dict(models.named_parameters())
        multipliers = ("residual_multipliers", "logits_multiplier")
        with torch.no_grad():
            for index, config in enumerate(configs):
                one.initialise(config)
                self._copy_weights(index)
                for name, buffer in models.named_buffers():
                    if name.endswith(multipliers):
                        buffer[index].copy_(one.get_buffer(name))
        self._optimizer = StackedAdamW(models, update, configs)
        self._taken_out: torch.optim.AdamW | None = None

    def losses(self, sequences_RBT: Tensor) -> tuple[Tensor, Tensor]:
        return self._loss(sequences_RBT)

    def evaluate(self, sequences_BT: Tensor) -> Tensor:
        # Not the compiled function: a second graph costs more than these few forward passes.
        return self._models.loss(sequences_BT.expand(self.runs, *sequences_BT.shape))[0]

    def schedule(self, lr_scale: float, step: int) -> None:
        self._optimizer.schedule(lr_scale, step)

    def update(self, clip: float | None) -> None:
        if clip is not None:
            self._optimizer.clip(clip)
        self._optimizer.step()

    @torch.no_grad()
    def take_out(self, index: int) -> tuple[GPT, torch.optim.AdamW]:
        self._taken_out = adamw(self._one, self._configs[index])
        for name, parameter in self._one.named_parameters():
            parameter.copy_(self.parameters[name][index])
            if self._optimizer.steps:
                self._taken_out.state[parameter] = {
                    "step": torch.tensor(float(self._optimizer.steps)),
                    "exp_avg": self._optimizer.means[name][index].clone(),
                    "exp_avg_sq": self._optimizer.squares[name][index].clone(),
                }
        return self._one, self._taken_out

    @torch.no_grad()
    def put_back(self, index: int) -> None:
        assert self._taken_out is not None
        self._copy_weights(index)
        for name, parameter in self._one.named_parameters():
            if state := self._taken_out.state.get(parameter):
                self._optimizer.steps = int(state["step"])
                self._optimizer.means[name][index].copy_(state["exp_avg"])
                self._optimizer.squares[name][index].copy_(state["exp_avg_sq"])

    def _copy_weights(self, index: int) -> None:
        for name, parameter in self._one.named_parameters():
            self.parameters[name][index].copy_(parameter)


def adamw_update(
    parameter_RN: Tensor,
    mean_RN: Tensor,
    square_RN: Tensor,
    gradient_RN: Tensor,
    factors_FR: Tensor,
) -> None:
    """One step of AdamW on a tensor of R runs and on its moments, in place, elementwise.

    Args:
        factors_FR: what `StackedAdamW` makes of hyperparameters and step.
    """
    kept, new1, beta2, new2, correction, eps, size = factors_FR.unsqueeze(-1).unbind()
    parameter_RN.mul_(kept)
    mean_RN.lerp_(gradient_RN, new1)
    square_RN.mul_(beta2).addcmul_(gradient_RN, gradient_RN * new2)
    parameter_RN.sub_(size * mean_RN / (square_RN.sqrt().div_(correction).add_(eps)))


class StackedAdamW:
    """AdamW (arXiv 1711.05101), step for step PyTorch's, with hyperparameters of each run's own.

    Labels and rules give them, as `paper_repro.training.param_groups.parameter_groups` does for one
    run. What changes from step to step is on the device, so that a step can be captured in a graph.
    """

    def __init__(self, models: GPT, update: Update, configs: Sequence[RunConfig]) -> None:
        self.steps = 0
        """Updates so far."""
        self._parameters, self._update = dict(models.named_parameters()), update
        with torch.no_grad():
            self.means = {name: torch.zeros_like(p) for name, p in self._parameters.items()}
            self.squares = {name: torch.zeros_like(p) for name, p in self._parameters.items()}
        resolved = [
            [resolve(config, models.labels[name]) for config in configs]
            for name in self._parameters
        ]
        device = models.logits_multiplier.device
        # In float64, since betas may be close to 1.
        self._hyperparameters = {
            quantity: torch.tensor(
                [[getattr(run, quantity) for run in runs] for runs in resolved],
                dtype=torch.float64,
                device=device,
            )
            for quantity in ("lr", "weight_decay", "beta1", "beta2", "eps")
        }
        """Each of shape (parameters, R)."""
        self._lr_scale = torch.ones((), dtype=torch.float64, device=device)
        self._steps = torch.ones((), dtype=torch.float64, device=device)

    def schedule(self, lr_scale: float, step: int) -> None:
        """Of the step to come; `step` counts from 0."""
        self.steps = step + 1
        self._lr_scale.fill_(lr_scale)
        self._steps.fill_(self.steps)

    @torch.no_grad()
    def step(self) -> None:
        """Update all parameters and drop their gradients."""
        lr, decay, beta1, beta2, eps = self._hyperparameters.values()
        lr = lr * self._lr_scale
        factors_PFR = torch.stack(
            [
                1 - lr * decay,
                1 - beta1,
                beta2,
                1 - beta2,
                (1 - beta2**self._steps).sqrt(),
                eps,
                lr / (1 - beta1**self._steps),
            ],
            dim=1,
        ).float()
        for (name, parameter), factors_FR in zip(
            self._parameters.items(), factors_PFR, strict=True
        ):
            assert parameter.grad is not None
            self._update(
                parameter.flatten(1),
                self.means[name].flatten(1),
                self.squares[name].flatten(1),
                parameter.grad.flatten(1),
                factors_FR,
            )
            parameter.grad = None

    @torch.no_grad()
    def clip(self, maximum: float) -> None:
        """Scale each run's gradients down to a norm of at most `maximum`, as PyTorch does."""
        gradients = [value.grad for value in self._parameters.values() if value.grad is not None]
        squares = torch.stack([gradient.square().flatten(1).sum(1) for gradient in gradients])
        factor_R = (maximum / (squares.sum(0).sqrt() + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.flatten(1).mul_(factor_R[:, None])
