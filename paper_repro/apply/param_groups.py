"""AdamW parameter groups, from labels and resolved hyperparameters.

Parameters of one tensor class with equal hyperparameters share a group; every parameter is in
exactly one. A group remembers its peak learning rate in `peak_lr`, which the schedule multiplies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from paper_repro.hyperparameters import ResolvedParameter
from paper_repro.parameterization import Label, TensorClass


def param_groups(
    parameters: Iterable[tuple[str, nn.Parameter]],
    labels: Mapping[str, Label],
    resolved: Mapping[str, ResolvedParameter],
) -> list[dict[str, Any]]:
    """Groups for `torch.optim.AdamW`: params, lr, weight_decay, betas, eps, and what they are.

    Args:
        parameters: of a model, with their names.
        labels: what each of them is, by name.
        resolved: the hyperparameters of each, by name.

    Raises:
        ValueError: a parameter has no label or no hyperparameters, or one of these has no
            parameter; the message lists the names.
    """
    named = dict(parameters)
    _check_names(named, labels, "labels")
    _check_names(named, resolved, "hyperparameters")
    groups: dict[tuple[TensorClass, ResolvedParameter], list[str]] = defaultdict(list)
    for name in named:
        groups[labels[name].tensor_class, resolved[name]].append(name)
    return [
        {
            "params": [named[name] for name in names],
            "names": names,
            "tensor_class": tensor_class,
            "lr": numbers.lr,
            "peak_lr": numbers.lr,
            "weight_decay": numbers.weight_decay,
            "betas": (numbers.beta1, numbers.beta2),
            "eps": numbers.eps,
            "init_std": numbers.init_std,
        }
        for (tensor_class, numbers), names in groups.items()
    ]


def _check_names(parameters: Mapping[str, object], given: Mapping[str, object], what: str) -> None:
    missing, extra = sorted(parameters.keys() - given.keys()), sorted(given.keys() - parameters)
    if missing:
        raise ValueError(f"parameters without {what}: {', '.join(missing)}")
    if extra:
        raise ValueError(f"{what} of parameters that the model does not have: {', '.join(extra)}")


def set_lr_scale(optimizer: torch.optim.Optimizer, scale: float) -> None:
    """Set every group's learning rate to `scale` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * scale


def describe_groups(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The groups of `param_groups` as plain data, for the record and the table."""
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
        for group in groups
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
