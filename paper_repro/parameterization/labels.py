"""What a parameter is: its tensor class, its module type, and the block it stands in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

#: The rows of the rule table.
TensorClass = Literal[
    "embedding",
    "hidden_weight",
    "hidden_bias",
    "hidden_norm",
    "qk_norm",
    "final_norm",
    "unembedding",
]
TENSOR_CLASSES: tuple[TensorClass, ...] = get_args(TensorClass)

#: The finer label, for hyperparameters by module (`mlp_gate` exists with SwiGLU).
ModuleType = Literal[
    "embedding",
    "attention_norm",
    "query",
    "key",
    "value",
    "query_norm",
    "key_norm",
    "attention_out",
    "mlp_norm",
    "mlp_gate",
    "mlp_in",
    "mlp_out",
    "final_norm",
    "unembedding",
]


@dataclass(frozen=True)
class Module:
    """What is true of a module type and of its weight, a matrix or a vector of gains."""

    tensor_class: TensorClass
    drawn: bool = False
    """Whether its initial weights are drawn; gains start at 1."""
    in_block: bool = True
    ends_branch: bool = False
    """Whether its output is a residual branch, so that it has a residual multiplier."""


# fmt: off
MODULES: dict[ModuleType, Module] = {
    "embedding":      Module("embedding", drawn=True, in_block=False),
    "attention_norm": Module("hidden_norm"),
    "query":          Module("hidden_weight", drawn=True),
    "key":            Module("hidden_weight", drawn=True),
    "value":          Module("hidden_weight", drawn=True),
    "query_norm":     Module("qk_norm"),
    "key_norm":       Module("qk_norm"),
    "attention_out":  Module("hidden_weight", drawn=True, ends_branch=True),
    "mlp_norm":       Module("hidden_norm"),
    "mlp_gate":       Module("hidden_weight", drawn=True),
    "mlp_in":         Module("hidden_weight", drawn=True),
    "mlp_out":        Module("hidden_weight", drawn=True, ends_branch=True),
    "final_norm":     Module("final_norm", in_block=False),
    "unembedding":    Module("unembedding", drawn=True, in_block=False),
}
# fmt: on

#: The module types that end a residual branch, in the order of the branches of a block.
BRANCHES: tuple[ModuleType, ...] = tuple(name for name, m in MODULES.items() if m.ends_branch)

#: The tensor classes whose initial values are drawn; gains start at 1 and biases at 0.
DRAWN: tuple[TensorClass, ...] = tuple(
    dict.fromkeys(module.tensor_class for module in MODULES.values() if module.drawn)
)


@dataclass(frozen=True)
class Label:
    """What one parameter of a model is."""

    tensor_class: TensorClass
    module_type: str
    """One of `MODULES` in our own GPT; models of others may have types of their own."""
    block: int | None = None
    """Index of its block, from 0; None outside the blocks."""
