"""The losses of predicting tokens: from logits that are there, or part by part from hidden states.

Logits are the largest tensor of a small model with a large vocabulary: 34 GB of 256 x 1024 tokens
of 32,768. Where they would be more than `paper_repro.config.LOGITS_BYTES`, they are computed part
by part, and again in the backward pass, so that those of one part are there at a time. It is exact:
autograd adds up the gradients of the parts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from paper_repro.config import logits_parts

Forward = Callable[..., Any]
"""A model, or one wrapped for several processes: tokens (B, T) to logits (B, T, V); of our GPT also
tokens and targets to losses."""


def losses(forward: Callable[[Tensor], Tensor], sequences: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy in nats, and mean squared log-partition (z-loss, arXiv 2204.02311).

    Args:
        forward: the model, whatever it is, from tokens to logits.
        sequences: tokens (B, T + 1); each position predicts the next.

    Returns scalars; with a run axis, two tensors (R,).
    """
    targets = sequences[..., 1:]
    return means(*of_tokens(forward(sequences[..., :-1]), targets), targets.dim() - 2)


def losses_in_parts(
    logits: Callable[[Tensor], Tensor], hidden: Tensor, targets: Tensor, vocabulary: int
) -> tuple[Tensor, Tensor]:
    """The same from hidden states, with never more than `LOGITS_BYTES` of logits.

    Args:
        logits: from hidden states (..., D) to logits (..., V) of them.
        hidden: (B, T, D), maybe after a run axis.
        targets: the tokens (B, T) to be predicted.
    """
    run_axes = targets.dim() - 2
    parts = logits_parts(targets.numel(), vocabulary)
    if parts == 1:
        return means(*of_tokens(logits(hidden), targets), run_axes)

    def of_part(hidden_ND: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
        return of_tokens(logits(hidden_ND), targets_N)

    hidden_ND, targets_N = hidden.flatten(run_axes, -2), targets.flatten(run_axes)
    found = [
        checkpoint(of_part, *part, use_reentrant=False, preserve_rng_state=False)  # no dropout
        for part in zip(
            hidden_ND.tensor_split(parts, -2), targets_N.tensor_split(parts, -1), strict=True
        )
    ]
    losses_N, log_z_N = (torch.cat(each, -1) for each in zip(*found, strict=True))
    return means(losses_N, log_z_N, run_axes)


def of_tokens(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy and log-partition of each token: two tensors of the shape of `targets`."""
    logits_NV, targets_N = logits.flatten(0, -2), targets.flatten()
    losses_N = F.cross_entropy(logits_NV, targets_N, reduction="none")
    log_z_N = losses_N + logits_NV.gather(-1, targets_N[:, None]).squeeze(-1)
    return losses_N.view(targets.shape), log_z_N.view(targets.shape)


def means(losses: Tensor, log_z: Tensor, run_axes: int) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy and mean squared log-partition over all but the first axes."""
    return losses.flatten(run_axes).mean(-1), log_z.square().flatten(run_axes).mean(-1)
