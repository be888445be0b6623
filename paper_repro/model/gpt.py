"""The GPT that all runs train: decoder-only, pre-norm, QK norm, RoPE, untied embeddings.

Shapes in names: B sequences, T positions, D width, H heads, K head size, F hidden size of the
MLP, V vocabulary. Modules are named by their types (`paper_repro.parameterization.MODULES`).

One `GPT` is one model, or R models of runs that train at once
(`paper_repro.training.stacked`): then all parameters, multipliers, inputs and outputs have a run
axis R before the axes that are named.

What differs between runs of a bundle is data, never a constant in the graph: the multipliers of the
residual branches and of the logits are buffers, set by `initialise`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from paper_repro.config import ModelConfig
from paper_repro.model.layers import Embedding, Linear, Norm, copy_whole, per_run, run_axis
from paper_repro.model.loss import Forward, losses_in_parts

ROPE_BASE = 10_000.0


class Block(nn.Module):
    """x + r · Attention(x), then x + r' · MLP(x), with r and r' from `residual_multipliers`."""

    residual_multipliers: Tensor

    def __init__(self, model: ModelConfig, runs: int | None = None) -> None:
        super().__init__()
        width, hidden, bias = model.width, model.mlp_ratio * model.width, model.biases
        self.head_dim = model.head_dim
        self.attention_norm = Norm(width, runs)
        self.query = Linear(width, width, bias, runs)
        self.key = Linear(width, width, bias, runs)
        self.value = Linear(width, width, bias, runs)
        self.query_norm = Norm(model.head_dim, runs) if model.qk_norm else nn.Identity()
        self.key_norm = Norm(model.head_dim, runs) if model.qk_norm else nn.Identity()
        self.attention_out = Linear(width, width, bias, runs)
        self.mlp_norm = Norm(width, runs)
        self.mlp_gate = Linear(width, hidden, bias, runs) if model.mlp == "swiglu" else None
        self.mlp_in = Linear(width, hidden, bias, runs)
        self.mlp_out = Linear(hidden, width, bias, runs)
        multipliers = torch.ones(*run_axis(runs), 2)
        self.register_buffer("residual_multipliers", multipliers, persistent=False)

    def forward(self, x_BTD: Tensor, rotation_2THK: Tensor) -> Tensor:
        attention, mlp = (per_run(r, x_BTD, 0) for r in self.residual_multipliers.unbind(-1))
        x_BTD = x_BTD + attention * self.attention(self.attention_norm(x_BTD), rotation_2THK)
        return x_BTD + mlp * self.mlp(self.mlp_norm(x_BTD))

    def attention(self, x_BTD: Tensor, rotation_2THK: Tensor) -> Tensor:
        """Causal attention with fixed head size and logits scaled by 1/√K."""
        heads = (-1, self.head_dim)
        q_BTHK = rotate(self.query_norm(self.query(x_BTD).unflatten(-1, heads)), rotation_2THK)
        k_BTHK = rotate(self.key_norm(self.key(x_BTD).unflatten(-1, heads)), rotation_2THK)
        v_BTHK = self.value(x_BTD).unflatten(-1, heads)
        y_BHTK = attend(*(x.transpose(-3, -2) for x in (q_BTHK, k_BTHK, v_BTHK)))
        y: Tensor = self.attention_out(y_BHTK.transpose(-3, -2).flatten(-2))
        return y

    def mlp(self, x_BTD: Tensor) -> Tensor:
        """Two linear layers with GELU between them, or SwiGLU (arXiv 2002.05202)."""
        if self.mlp_gate is None:
            h_BTF = F.gelu(self.mlp_in(x_BTD))
        else:
            h_BTF = F.silu(self.mlp_gate(x_BTD)) * self.mlp_in(x_BTD)
        y: Tensor = self.mlp_out(h_BTF)
        return y


class GPT(nn.Module):
    """Tokens (B, T) to logits (B, T, V); or tokens and targets (B, T) to losses.

    Weights are uninitialised until `initialise` is called; those of several runs are copied in.
    """

    rotation_2THK: Tensor  # noqa: N815 (a shape in a name)
    logits_multiplier: Tensor
    recompute = False
    """Whether a block keeps only its input for the backward pass, and computes the rest anew."""

    def __init__(
        self, model: ModelConfig, vocab_size: int, context: int, runs: int | None = None
    ) -> None:
        """One model, or with `runs` that many, with a run axis."""
        super().__init__()
        self.embedding = Embedding(vocab_size, model.width, runs)
        self.blocks = nn.ModuleList(Block(model, runs) for _ in range(model.depth))
        self.final_norm = Norm(model.width, runs)
        self.unembedding = Linear(model.width, vocab_size, bias=False, runs=runs)
        self.register_buffer(
            "rotation_2THK",
            rotation(context, model.width // model.head_dim, model.head_dim),
            persistent=False,
        )
        self.register_buffer("logits_multiplier", torch.ones(run_axis(runs)), persistent=False)

    @overload
    def forward(self, tokens_BT: Tensor) -> Tensor: ...
    @overload
    def forward(self, tokens_BT: Tensor, targets_BT: Tensor) -> tuple[Tensor, Tensor]: ...
    def forward(
        self, tokens_BT: Tensor, targets_BT: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        x_BTD = self.embedding(tokens_BT)
        rotation_2THK = self.rotation_2THK[:, : tokens_BT.shape[-1]]
        for block in self.blocks:
            if self.recompute:
                x_BTD = checkpoint(block, x_BTD, rotation_2THK, use_reentrant=False)
            else:
                x_BTD = block(x_BTD, rotation_2THK)
        x_BTD = self.final_norm(x_BTD)
        if targets_BT is None:
            return self.logits(x_BTD)
        vocabulary = self.unembedding.weight.shape[-2]
        return losses_in_parts(self.logits, x_BTD, targets_BT, vocabulary)

    def logits(self, x: Tensor) -> Tensor:
        """The logits (..., V) of normalised hidden states (..., D)."""
        logits: Tensor = self.unembedding(x)
        return at_least_float32(per_run(self.logits_multiplier, logits, 0) * logits)

    def loss(self, sequences: Tensor) -> tuple[Tensor, Tensor]:
        """The losses of this model: see `paper_repro.model.loss.losses`."""
        return gpt_losses(self, sequences)

    @torch.no_grad()
    def initialise(
        self,
        init_std: Mapping[str, float],
        residual_multipliers: Sequence[Sequence[float]],
        logits_multiplier: float,
        seed: int,
    ) -> None:
        """Draw the weights of one run and set its multipliers.

        Each parameter has a stream of random numbers of its own, from the seed and its name, so
        runs that share a seed draw the same numbers whatever their standard deviations, and however
        many processes share a model. Nothing is left as it was: the model may have been built on
        the meta device.

        Args:
            init_std: standard deviation of the initial values of each parameter, by name; 0 where
                they are fixed (gains at 1, biases at 0).
            residual_multipliers: for each block, of its attention and of its MLP branch.

        Raises:
            KeyError: a parameter has no standard deviation.
        """
        self.zero_grad()
        self.rotation_2THK.copy_(rotation(*self.rotation_2THK.shape[1:]))
        for name, parameter in self.named_parameters():
            if std := init_std[name]:
                draws = torch.randn(parameter.shape, generator=generator(seed, name))
                copy_whole(draws * std, parameter)
            else:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
        for block, multipliers in zip(self.blocks, residual_multipliers, strict=True):
            assert isinstance(block, Block)
            block.residual_multipliers.copy_(torch.tensor(multipliers, dtype=torch.float64))
        self.logits_multiplier.fill_(logits_multiplier)


def gpt_losses(forward: Forward, sequences: Tensor) -> tuple[Tensor, Tensor]:
    """Like `paper_repro.model.loss.losses`, of our GPT, maybe wrapped for several processes."""
    found: tuple[Tensor, Tensor] = forward(sequences[..., :-1], sequences[..., 1:])
    return found


def generator(seed: int, name: str) -> torch.Generator:
    """The stream of random numbers of a parameter."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


def at_least_float32(x: Tensor) -> Tensor:
    """The same numbers in float32, or in float64 if they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def attend(q_BHTK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor) -> Tensor:
    """Causal attention; on a CPU in float32, whatever the precision of other matrix products."""
    q, k, v = (x.flatten(0, -4) for x in (q_BHTK, k_BHTK, v_BHTK))  # fused kernels take no R
    # Where nothing is cast none is switched off: torch caches no graph whole in which one is.
    if q.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    else:  # bfloat16's backward pass is ten times slower there
        with torch.autocast("cpu", enabled=False):
            q, k, v = map(at_least_float32, (q, k, v))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return y.view(q_BHTK.shape)


def rotation(context: int, heads: int, head_dim: int) -> Tensor:
    """Cosines and signed sines of the rotary embedding (arXiv 2104.09864): (2, T, H, K).

    Repeated for the heads, so that applying it broadcasts over the batch alone (on a CPU, far
    faster than over the heads too).
    """
    frequency = ROPE_BASE ** -(torch.arange(0, head_dim, 2) / head_dim)
    angle = torch.outer(torch.arange(context).float(), frequency)
    table_2TK = torch.stack(
        [angle.cos().repeat(1, 2), torch.cat([-angle.sin(), angle.sin()], dim=-1)]
    )
    return table_2TK[:, :, None].repeat(1, 1, heads, 1)


def rotate(x_BTHK: Tensor, rotation_2THK: Tensor) -> Tensor:
    """Rotate the pairs (k, k + K/2) of the last axis by the angle of their position."""
    cos_THK, sin_THK = rotation_2THK.unbind()
    return x_BTHK * cos_THK + x_BTHK.roll(x_BTHK.shape[-1] // 2, -1) * sin_THK
