"""Train a few steps at several sizes and measure what a parameterisation should keep stable.

Every value is a root mean square (RMS), of one of four kinds:

- `activation`: embedding output, outputs of the residual branches (before their multiplier, over
  all blocks), residual stream after the last block, output of the final norm, logits;
- `change`: of the same activations since step 0;
- `update`: how far the weights of a tensor class moved since step 0, times their reach;
- `gradient`: of the weights of a tensor class, on a training batch.

Activations are those of a probe batch, the same at all sizes, seeds and steps. A reach turns an
update into the most it can add to activations. Updates all point where the loss falls, so their
effects add up instead of averaging out (arXiv 2310.17813): over the inputs of a neuron, so a weight
matrix reaches fan-in times its update; and over blocks, so what is in a residual branch reaches
the sum of the residual multipliers.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from statistics import fmean
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor, nn

from paper_repro.config import Execution, RunConfig, parse_run_config
from paper_repro.errors import ConfigError
from paper_repro.hyperparameters import ResolvedRun, resolve
from paper_repro.parameterization import Label, Parameterization, TensorClass
from paper_repro.training import Observer, Trainer

Axis = Literal["width", "depth"]
Kind = Literal["activation", "change", "update", "gradient"]
COLUMNS = ("axis", "size", "seed", "step", "kind", "quantity", "value")

BRANCHES = ("attention", "mlp")
ACTIVATIONS = ("embedding", *BRANCHES, "residual", "final_norm", "logits")
#: Of foreign models alone: our own heads have one size.
ATTENTION_LOGITS = "attention_logits"
#: Modules whose output is an activation, and the activation's name.
WATCHED = {
    "embedding": "embedding",
    "attention_out": "attention",
    "mlp_out": "mlp",
    "final_norm": "final_norm",
}
#: Tensor classes of matrices that act on a whole activation: an update sums over its entries.
MATRICES: tuple[TensorClass, ...] = ("hidden_weight", "unembedding")


def check_config(
    parameterization: Parameterization, axis: Axis, base: int, alpha: float, eps: float
) -> RunConfig:
    """The model that the command checks: small, with biases so that every tensor class is in it.

    Args:
        base: the width or depth at which every multiplier is 1.

    Raises:
        ConfigError: the base makes no model.
    """
    shape = {"width": 32, "depth": 2} | {axis: base}
    train = {"batch_size": 8, "tokens": 2**16}
    content = {
        "model": shape | {"biases": True},
        "data": {"context": 64},
        "train": train,
        "scaling": {f"base_{key}": value for key, value in (shape | train).items()}
        | {"parameterization": parameterization, "alpha": alpha},
        "hyperparameters": {"eps": eps, "weight_decay": 0.0},
    }
    return parse_run_config(content, "coordinate check")


def measure(
    config: RunConfig, axis: Axis, sizes: Sequence[int], seeds: Sequence[int], steps: int
) -> pd.DataFrame:
    """Train at each size with each seed, at constant learning rate.

    Args:
        config: everything but the size and the seed.
        steps: AdamW steps.

    Returns:
        One measurement a row: axis, size, seed, step (the updates made before: 0 to `steps`),
        kind, quantity, value.

    Raises:
        ConfigError: a size makes no model, or the data cannot be loaded.
    """
    if len(set(sizes)) < 2:
        raise ConfigError(f"coordinate check: a slope needs two sizes or more, got {list(sizes)}")
    if not seeds or steps < 1:
        raise ConfigError("coordinate check: needs at least one seed and one step")
    by_size = [[_resized(config, axis, size, seed, steps) for seed in seeds] for size in sizes]
    rows = []
    for size, configs in zip(sizes, by_size, strict=True):
        trainer = Trainer(configs[0], Execution(device="cpu"))
        for run in configs:
            rows += [(axis, size, run.seed, *row) for row in _train(trainer, run, steps)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _resized(config: RunConfig, axis: Axis, size: int, seed: int, steps: int) -> RunConfig:
    content: dict[str, Any] = config.model_dump() | {"seed": seed}
    content["model"][axis] = size
    longer = steps // config.steps + 1  # than the steps that are measured; m_D stays as it is
    content["scaling"]["base_tokens"] *= longer
    content["train"] |= {
        "tokens": longer * config.train.tokens,
        "schedule": "constant",
        "warmup_fraction": 0.0,
        "z_loss": 0.0,
        "evaluations": 1,
        "eval_sequences": config.train.batch_size,
    }
    return parse_run_config(content, f"coordinate check, {axis} {size}")


Measured = tuple[int, Kind, str, float]
"""Step, kind, quantity and value."""


def _train(trainer: Trainer, config: RunConfig, steps: int) -> list[Measured]:
    """Train a few steps. Where the run diverges before the last, what is missing is NaN."""
    batch_size = config.train.batch_size
    probe_BT = next(trainer.dataset.validation_batches(batch_size, batch_size))[:, :-1]
    probe = _Probe(resolve(config), probe_BT, steps)
    trainer.fit([config], [probe], should_stop=lambda: probe.ended)
    if not probe.ended:
        quantities = {(kind, quantity): None for _, kind, quantity, _ in probe.rows}
        probe.rows += [(steps, *names, math.nan) for names in quantities]
    return probe.rows


class Tracker:
    """Turns what is seen of a model at every step into measurements."""

    def __init__(self, labels: Mapping[str, Label], reaches: Mapping[str, float]) -> None:
        """Start before the first update.

        Args:
            labels: what each parameter is, by name.
            reaches: of the update of each parameter, by name (see the module's docstring).
        """
        self._labels, self._reaches = labels, reaches

    def measure(
        self, step: int, seen: Mapping[str, Tensor], weights: Mapping[str, nn.Parameter]
    ) -> list[Measured]:
        """Measure between the gradients and the update of a step.

        Args:
            step: updates made before; the first call has 0.
            seen: the activations of the probe batch.
            weights: with the gradients of a training batch.
        """
        if step == 0:
            self._first = seen
            self._weights = {name: weight.detach().clone() for name, weight in weights.items()}
        tensors: dict[tuple[Kind, str], list[Tensor]] = defaultdict(list)
        for name, value in seen.items():
            tensors["activation", name] = [value]
            tensors["change", name] = [value - self._first[name]]
        for name, weight in weights.items():
            tensor_class = self._labels[name].tensor_class
            update = (weight.detach() - self._weights[name]) * self._reaches[name]
            tensors["update", tensor_class].append(update)
            if weight.grad is not None:
                tensors["gradient", tensor_class].append(weight.grad)
        return [
            (step, kind, quantity, _rms(parts))
            for (kind, quantity), parts in tensors.items()
            if step or kind in ("activation", "gradient")  # nothing has changed at step 0
        ]


class _Probe(Observer):
    """Measures a run at every step, between its gradients and its update."""

    watches = True

    def __init__(self, resolved: ResolvedRun, probe_BT: Tensor, steps: int) -> None:
        self._resolved, self._probe_BT, self._steps = resolved, probe_BT, steps
        self.rows: list[Measured] = []
        self.ended = False
        """Whether the last step was measured."""

    def gradients(self, model: nn.Module, step: int) -> None:
        seen, weights = activations(model, self._probe_BT), dict(model.named_parameters())
        if step == 0:
            reaches = {name: self._reach(name, weight) for name, weight in weights.items()}
            self._tracker = Tracker(self._resolved.labels, reaches)
        self.rows += self._tracker.measure(step, seen, weights)
        self.ended = step == self._steps

    def _reach(self, name: str, weight: Tensor) -> float:
        """The reach of a parameter's update (see the module's docstring)."""
        label = self._resolved.labels[name]
        reach = 1.0
        if label.tensor_class in MATRICES:
            reach *= weight.shape[1]
        if label.tensor_class == "unembedding":
            reach *= self._resolved.logits_multiplier
        if label.block is not None:  # sum over blocks of the mean of their two multipliers
            reach *= sum(map(fmean, self._resolved.residual_multipliers))
        return reach


def activations(model: nn.Module, tokens_BT: Tensor) -> dict[str, Tensor]:
    """The watched activations of a forward pass, those of blocks stacked along a first axis."""
    watched = {
        path: WATCHED[name]
        for path, _ in model.named_modules()
        if (name := path.rpartition(".")[2]) in WATCHED
    }
    return watched_activations(model, watched, lambda: model(tokens_BT))


@torch.no_grad()
def watched_activations(
    model: nn.Module, watched: Mapping[str, str], logits: Callable[[], Tensor]
) -> dict[str, Tensor]:
    """The outputs of modules in a forward pass, by the names of activations.

    Args:
        watched: the activation that is the output of a module, by the module's name; the input of
            the final norm is the residual stream.
        logits: a forward pass of the model.
    """
    seen: dict[str, list[Tensor]] = defaultdict(list)

    def keep(name: str, _module: object, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if name == "final_norm":
            seen["residual"].append(inputs[0])
        seen[name].append(output)

    with ExitStack() as hooks:
        for path, module in model.named_modules():
            if path in watched:
                hooks.enter_context(module.register_forward_hook(partial(keep, watched[path])))
        seen["logits"] = [logits()]
    return {name: torch.stack(seen[name]) for name in ACTIVATIONS}


def _rms(tensors: list[Tensor]) -> float:
    squares = sum(tensor.double().square().sum().item() for tensor in tensors)
    return float((squares / sum(tensor.numel() for tensor in tensors)) ** 0.5)
