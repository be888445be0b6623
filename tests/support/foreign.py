"""Models as users have them, with nanoGPT's names: a right one, and some that are broken."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paper_repro.apply import Pattern
from paper_repro.config import ModelConfig
from paper_repro.model import GPT
from paper_repro.parameterization import MODULES

VOCABULARY, CONTEXT, HEAD = 256, 128, 8

OURS = tuple(
    Pattern(rf"blocks\.(?P<block>\d+)\.{name}" if module.in_block else name, (name,))
    for name, module in MODULES.items()
)
"""The names of our own GPT."""


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, value_scale: float = 1.0) -> None:
        super().__init__()
        self.heads, self.value_scale = heads, value_scale
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.c_attn(x).chunk(3, dim=-1)
        )
        y = F.scaled_dot_product_attention(q, k, self.value_scale * v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float, value_scale: float) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads, value_scale)
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)}
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attn(self.ln_1(x)))
        return x + self.dropout(self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x)))))


class NanoGPT(nn.Module):
    """Tokens (B, T) to logits (B, T, V); the flags are what is broken."""

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int | None = None,
        tied: bool = False,
        shared_in_forward: bool = False,
        dropout: float = 0.0,
        value_scale: float = 1.0,
        vocabulary: int = VOCABULARY,
    ) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(CONTEXT, width)
        heads = heads or width // HEAD
        self.h = nn.ModuleList(Block(width, heads, dropout, value_scale) for _ in range(depth))
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = None if shared_in_forward else nn.Linear(width, vocabulary, bias=False)
        if tied:
            self.lm_head.weight = self.wte.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.h:
            x = block(x)
        x = self.ln_f(x)
        return x @ self.wte.weight.T if self.lm_head is None else self.lm_head(x)


def build(width: int, depth: int) -> nn.Module:
    """Nothing is broken: heads of one size, untied."""
    return NanoGPT(width, depth)


def with_dropout(width: int, depth: int) -> nn.Module:
    """Tied, and with dropout; neither is broken."""
    return NanoGPT(width, depth, tied=True, dropout=0.1)


def growing_heads(width: int, depth: int) -> nn.Module:
    """Two heads whose size grows with the width, their logits still scaled by 1/√size."""
    return NanoGPT(width, depth, heads=2)


def plainly_tied(width: int, depth: int) -> nn.Module:
    """The embedding is used for the logits too, which no name tells."""
    return NanoGPT(width, depth, shared_in_forward=True)


def scaled_values(width: int, depth: int) -> nn.Module:
    """A multiplier √width on values that no rule knows of."""
    return NanoGPT(width, depth, value_scale=width**0.5)


def ours(width: int, depth: int) -> nn.Module:
    """Our own GPT, as if it were another's."""
    return GPT(ModelConfig(width=width, depth=depth, head_dim=HEAD), VOCABULARY, CONTEXT)


def no_module(width: int, depth: int) -> Any:
    return [width, depth]


def failing(width: int, depth: int) -> nn.Module:
    raise RuntimeError("no such\nwidth")


def renamed(width: int, depth: int) -> nn.Module:
    return nn.ModuleDict({"model": NanoGPT(width, depth)})


def fixed_width(width: int, depth: int) -> nn.Module:
    return NanoGPT(32, depth)


def small_vocabulary(width: int, depth: int) -> nn.Module:
    return NanoGPT(width, depth, vocabulary=64)


class _Wrong(NanoGPT):
    def forward(self, tokens: Tensor) -> Any:
        return {"loss": super().forward(tokens).mean()}


class _Bidirectional(NanoGPT):
    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens.flip(1)).flip(1)


def no_logits(width: int, depth: int) -> nn.Module:
    return _Wrong(width, depth)


def bidirectional(width: int, depth: int) -> nn.Module:
    return _Bidirectional(width, depth)
