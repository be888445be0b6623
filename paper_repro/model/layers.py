"""Layers of one model, or of R models at once: then every parameter has a leading run axis R.

Inputs and outputs carry that axis too, before the batch. Nothing is reduced over it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPS = 1e-6


def run_axis(runs: int | None) -> tuple[int, ...]:
    """Leading shape of a per-run tensor: (R,) for stacked runs, () for a single model."""
    return () if runs is None else (runs,)


def per_run(values: Tensor, like: Tensor, trailing: int) -> Tensor:
    """Reshape per-run `values` so that they broadcast against `like`.

    Args:
        values: (R, *last), or (*last) of a single model, which is returned as it is.
        like: (R, ..., *last), or (..., *last).
        trailing: the number of axes in `last`.
    """
    if values.dim() == trailing:
        return values
    return values.view(len(values), *[1] * (like.dim() - 1 - trailing), *values.shape[1:])


def copy_whole(whole: Tensor, target: Tensor) -> None:
    """Copy a whole tensor, which every process has, into a tensor, or into its shard of it."""
    if hasattr(target, "device_mesh"):  # a DTensor, whose module takes a second to import
        from torch.distributed.tensor import distribute_tensor

        sharded: Any = target
        whole = distribute_tensor(
            whole.to(target.device), sharded.device_mesh, sharded.placements, src_data_rank=None
        )
    target.copy_(whole)


class Norm(nn.Module):
    """RMSNorm over the last axis, with gains (arXiv 1910.07467)."""

    def __init__(self, size: int, runs: int | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(*run_axis(runs), size))

    def forward(self, x: Tensor) -> Tensor:
        y = F.rms_norm(x, x.shape[-1:], eps=NORM_EPS)  # its kernels take no gains of several runs
        return (y * per_run(self.weight, y, 1)).type_as(x)


class Linear(nn.Module):
    """x Wᵀ + b over the last axis. Parameters are uninitialised."""

    def __init__(self, inputs: int, outputs: int, bias: bool, runs: int | None = None) -> None:
        super().__init__()
        axis = run_axis(runs)
        self.weight = nn.Parameter(torch.empty(*axis, outputs, inputs))
        self.bias = nn.Parameter(torch.empty(*axis, outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.dim() == 2:
            return F.linear(x, self.weight, self.bias)
        x_RNI, weight_RIO = x.flatten(1, -2), self.weight.mT
        if self.bias is None:
            y_RNO = torch.bmm(x_RNI, weight_RIO)
        else:
            y_RNO = torch.baddbmm(self.bias[:, None], x_RNI, weight_RIO)
        return y_RNO.view(*x.shape[:-1], -1)


class Embedding(nn.Module):
    """A row for each token. The rows are uninitialised."""

    def __init__(self, vocab_size: int, width: int, runs: int | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(*run_axis(runs), vocab_size, width))

    def forward(self, tokens: Tensor) -> Tensor:
        if self.weight.dim() == 2:
            return F.embedding(tokens, self.weight)
        runs, vocab_size, _ = self.weight.shape
        first_R = vocab_size * torch.arange(runs, device=tokens.device)
        return F.embedding(tokens + per_run(first_R, tokens, 0), self.weight.flatten(0, 1))
