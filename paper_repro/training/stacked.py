"""Runs of a bundle that train at once, as one program: what makes a GPU busy with small models.

Every parameter, gradient and moment carries a leading run axis R, and so does everything that
differs between the runs: hyperparameters, multipliers, schedules, batches. Nothing is reduced over
that axis, so a run that diverges does not touch the others.

On a GPU the step of a stack is hundreds of kernels of a few microseconds each, which Python
launches more slowly than the device runs them: `CapturedStep` records them once as a CUDA graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from paper_repro.apply.param_groups import param_groups
from paper_repro.hyperparameters import ResolvedRun
from paper_repro.model import GPT
from paper_repro.schedules import Factors
from paper_repro.training.checkpoint import RunState
from paper_repro.training.single import Loss, initialise

Update = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], None]
"""`adamw_update`, compiled or not."""

#: Calls before the capture: libraries set themselves up, kernels are compiled.
WARM_UP = 3


class StackedRuns:
    """R runs: a `paper_repro.training.single.Learner`."""

    def __init__(
        self,
        model: GPT,
        loss: Loss,
        update: Update,
        one: GPT,
        resolved: Sequence[ResolvedRun],
        seeds: Sequence[int],
        clips: Sequence[float | None],
    ) -> None:
        """Draw the weights of the runs.

        Args:
            model: a model of R runs.
            one: a model of one run, in which each run's weights are drawn.
            clips: the gradient norms above which gradients are rescaled.
        """
        self.model, self._loss, self._one, self._resolved = model, loss, one, resolved
        self.runs = len(resolved)
        model.zero_grad()
        self.parameters = dict(model.named_parameters())
        multipliers = ("residual_multipliers", "logits_multiplier")
        with torch.no_grad():
            for index, (run, seed) in enumerate(zip(resolved, seeds, strict=True)):
                initialise(one, run, seed)
                for name, parameter in one.named_parameters():
                    self.parameters[name][index].copy_(parameter)
                for name, buffer in model.named_buffers():
                    if name.endswith(multipliers):
                        buffer[index].copy_(one.get_buffer(name))
        self._optimizer = StackedAdamW(model, update, resolved, clips)

    def losses(self, sequences_RBT: Tensor) -> tuple[Tensor, Tensor]:
        return self._loss(sequences_RBT)

    def evaluate(self, sequences_BT: Tensor) -> Tensor:
        # Not the compiled function: a second graph costs more than these few forward passes.
        return self.model.loss(sequences_BT.expand(self.runs, *sequences_BT.shape))[0]

    def schedule(self, factors: Sequence[Factors], step: int) -> None:
        self._optimizer.schedule(factors, step)

    def update(self) -> None:
        self._optimizer.step()

    @torch.no_grad()
    def gradient_norms(self) -> Tensor:
        return gradient_norms(self.parameters.values())

    def groups(self, index: int) -> list[dict[str, Any]]:
        run = self._resolved[index]
        return param_groups(self._one.named_parameters(), run.labels, run.parameters)

    @torch.no_grad()
    def export_run(self, index: int) -> RunState:
        optimizer = self._optimizer
        return RunState(
            weights={name: value[index].cpu().clone() for name, value in self.parameters.items()},
            moments={
                name: {
                    "step": torch.tensor(float(optimizer.steps)),  # PyTorch's is updated in place
                    "exp_avg": optimizer.means[name][index].cpu().clone(),
                    "exp_avg_sq": optimizer.squares[name][index].cpu().clone(),
                }
                for name in self.parameters
            },
        )

    @torch.no_grad()
    def import_run(self, index: int, state: RunState | None) -> None:
        assert state is not None  # there is one process
        for name, parameter in self.parameters.items():
            moments = state.moments[name]
            parameter[index].copy_(state.weights[name])
            self._optimizer.means[name][index].copy_(moments["exp_avg"])
            self._optimizer.squares[name][index].copy_(moments["exp_avg_sq"])
            self._optimizer.steps = int(moments["step"])


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

    What changes from step to step is on the device, so that a step can be captured in a graph.
    """

    def __init__(
        self,
        model: GPT,
        update: Update,
        resolved: Sequence[ResolvedRun],
        clips: Sequence[float | None],
    ) -> None:
        self.steps = 0
        """Updates so far."""
        self._parameters, self._update = dict(model.named_parameters()), update
        with torch.no_grad():
            self.means = {name: torch.zeros_like(p) for name, p in self._parameters.items()}
            self.squares = {name: torch.zeros_like(p) for name, p in self._parameters.items()}
        device = model.logits_multiplier.device
        # In float64, since betas may be close to 1.
        self._hyperparameters = {
            quantity: torch.tensor(
                [
                    [getattr(run.parameters[name], quantity) for run in resolved]
                    for name in self._parameters
                ],
                dtype=torch.float64,
                device=device,
            )
            for quantity in ("lr", "weight_decay", "beta1", "beta2", "eps")
        }
        """Each of shape (parameters, R)."""
        limits = [math.inf if clip is None else clip for clip in clips]
        clipped = any(math.isfinite(limit) for limit in limits)
        self._clip_R = torch.tensor(limits, device=device) if clipped else None
        self._scheduled_QR = torch.ones(
            len(Factors._fields), len(resolved), dtype=torch.float64, device=device
        )
        """The factors of each run at the step to come, in the order of `Factors`."""
        self._steps = torch.ones((), dtype=torch.float64, device=device)

    def schedule(self, factors: Sequence[Factors], step: int) -> None:
        """Set the factors on hyperparameters for the step to come; `step` counts from 0."""
        self.steps = step + 1
        factors_QR = torch.tensor(list(zip(*factors, strict=True)), dtype=torch.float64)
        if self._scheduled_QR.is_cuda:  # pinned, so that nothing waits for the copy
            factors_QR = factors_QR.pin_memory()
        self._scheduled_QR.copy_(factors_QR, non_blocking=True)
        self._steps.fill_(self.steps)

    @torch.no_grad()
    def step(self) -> None:
        """Update all parameters and drop their gradients."""
        self._clip()
        lr, decay, beta1, beta2, eps = self._hyperparameters.values()
        lr_scale_R, decay_scale_R, new1_scale_R, new2_scale_R = self._scheduled_QR
        lr, decay = lr * lr_scale_R, decay * decay_scale_R
        # Of the form that leaves a beta as it is, to the bit, where the factor is 1.
        beta1 = beta1 - (1 - beta1) * (new1_scale_R - 1)
        beta2 = beta2 - (1 - beta2) * (new2_scale_R - 1)
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

    def _clip(self) -> None:
        """Scale each run's gradients down to a norm of at most its own, as PyTorch does."""
        if self._clip_R is None:
            return
        norms_R = gradient_norms(self._parameters.values())
        factor_R = (self._clip_R / (norms_R + 1e-6)).clamp(max=1.0)
        for parameter in self._parameters.values():
            if parameter.grad is not None:
                parameter.grad.flatten(1).mul_(factor_R[:, None])


def gradient_norms(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The norm of the gradients of each of R runs: (R,)."""
    gradients = [value.grad for value in parameters if value.grad is not None]
    squares = torch.stack([gradient.square().flatten(1).sum(1) for gradient in gradients])
    return squares.sum(0).sqrt()


class CapturedStep:
    """A function from a tensor on the GPU to another, captured in a CUDA graph at its fourth call.

    All that the function reads and writes but for its argument must stay where it is, and it must
    not wait for the device. The result is overwritten by the next call.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self._function = function
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._calls = 0

    def __call__(self, argument: Tensor) -> Tensor:
        if self._calls < WARM_UP:
            return self._warm_up(argument)
        if self._graph is None:
            self._argument = argument.clone()
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=self._stream):
                self._result = self._function(self._argument)
        self._argument.copy_(argument)
        self._graph.replay()
        return self._result

    def _warm_up(self, argument: Tensor) -> Tensor:
        """Call the function on the stream of the capture, where libraries are to set up."""
        self._calls += 1
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            result = self._function(argument)
        current.wait_stream(self._stream)
        return result
