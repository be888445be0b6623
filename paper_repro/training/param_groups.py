"""AdamW parameter groups, from labels and rules.

Parameters that resolve to the same hyperparameters share a group; every parameter is in exactly
one. A group remembers its peak learning rate in `peak_lr`, which the schedule multiplies.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from paper_repro.config import RunConfig
from paper_repro.hyperparameters import Resolved, resolve
from paper_repro.model import GPT
from paper_repro.parameterization import TensorClass


def parameter_groups(model: GPT, config: RunConfig) -> list[dict[str, Any]]:
    """Groups for `torch.optim.AdamW`: params, lr, weight_decay, betas, eps, and what they are.

    Raises:
        KeyError: a parameter has no label.
    """
    groups: dict[tuple[TensorClass, Resolved], list[str]] = defaultdict(list)
    for name, _ in model.named_parameters():
        label = model.labels[name]
        groups[label.tensor_class, resolve(config, label)].append(name)
    parameters = dict(model.named_parameters())
    return [
        {
            "params": [parameters[name] for name in names],
            "names": names,
            "tensor_class": tensor_class,
            "lr": resolved.lr,
            "peak_lr": resolved.lr,
            "weight_decay": resolved.weight_decay,
            "betas": (resolved.beta1, resolved.beta2),
            "eps": resolved.eps,
            "init_std": resolved.init_std,
        }
        for (tensor_class, resolved), names in groups.items()
    ]


def adamw(model: GPT, config: RunConfig) -> torch.optim.AdamW:
    """AdamW over the parameter groups, fused."""
    return torch.optim.AdamW(parameter_groups(model, config), fused=True)


def set_lr_scale(optimizer: torch.optim.Optimizer, scale: float) -> None:
    """Set every group's learning rate to `scale` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * scale


def describe_groups(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """The groups as plain data, for the record and the table."""
    return [
        {
            "tensor_class": group["tensor_class"],
            "modules": sorted({name.split(".")[-2] for name in group["names"]}),
            "tensors": len(group["params"]),
            "parameters": sum(parameter.numel() for parameter in group["params"]),
            "lr": group["peak_lr"],
            "eps": group["eps"],
            "weight_decay": group["weight_decay"],
            "beta1": group["betas"][0],
            "beta2": group["betas"][1],
            "init_std": group["init_std"],
        }
        for group in optimizer.param_groups
    ]


def groups_text(groups: list[dict[str, Any]]) -> str:
    """A readable table of `describe_groups`."""
    table = Table(title="optimiser groups")
    table.add_column("tensor class")
    table.add_column("modules", overflow="fold")
    for heading in ("parameters", "lr", "ε", "λ", "β1", "β2", "init std"):
        table.add_column(heading, justify="right")
    for group in groups:
        numbers = (group[key] for key in ("lr", "eps", "weight_decay", "beta1", "beta2"))
        table.add_row(
            group["tensor_class"],
            ", ".join(group["modules"]),
            f"{group['parameters']:,}",
            *(f"{number:.4g}" for number in numbers),
            f"{group['init_std']:.4g}" if group["init_std"] else "fixed",
        )
    console = Console(width=120)
    with console.capture() as capture:
        console.print(table)
    return capture.get()
