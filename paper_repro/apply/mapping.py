"""What the parameters of a foreign model are: from patterns of their names to labels."""

from __future__ import annotations

import importlib
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from paper_repro.apply.names import TORCHTITAN, Names
from paper_repro.errors import ConfigError
from paper_repro.parameterization import MODULES, Label, ModuleType, TensorClass

#: What wrappers put into names: DDP, FSDP, torch.compile, activation checkpointing.
_WRAPPERS = re.compile(
    r"(?:(?<=\.)|^)(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)


@dataclass(frozen=True)
class Pattern:
    """The weights of one module type, and their biases, by the name of their module."""

    name: str
    """Regular expression that the whole name of the module matches, the number of the block as the
    group `block`, such as `layers\\.(?P<block>\\d+)\\.q_proj`."""
    types: tuple[ModuleType, ...]
    """Its module type; several where one matrix holds several, as fused queries, keys, values."""
    fan_in: int = 1
    """Which dimension of a matrix is its inputs: 1 as in `nn.Linear`, 0 as in GPT-2's `Conv1D`."""


Mapping = Sequence[Pattern]


@dataclass(frozen=True)
class Labelled:
    """What one parameter of a model is."""

    label: Label
    place: str
    """Its name, the same in all blocks."""
    types: tuple[ModuleType, ...]
    fan_in: int | None
    """Dimension of its inputs; None for what is no matrix of a block or of the unembedding."""


def _block(name: str) -> str:
    return rf"{name}\.(?P<block>\d+)"


def _llama(norms: bool) -> tuple[Pattern, ...]:
    block = rf"(?:model\.)?{_block('layers')}"
    qk_norms = (
        Pattern(rf"{block}\.self_attn\.q_norm", ("query_norm",)),
        Pattern(rf"{block}\.self_attn\.k_norm", ("key_norm",)),
    )
    return (
        Pattern(r"(?:model\.)?embed_tokens", ("embedding",)),
        Pattern(rf"{block}\.input_layernorm", ("attention_norm",)),
        Pattern(rf"{block}\.self_attn\.q_proj", ("query",)),
        Pattern(rf"{block}\.self_attn\.k_proj", ("key",)),
        Pattern(rf"{block}\.self_attn\.v_proj", ("value",)),
        Pattern(rf"{block}\.self_attn\.o_proj", ("attention_out",)),
        Pattern(rf"{block}\.post_attention_layernorm", ("mlp_norm",)),
        Pattern(rf"{block}\.mlp\.gate_proj", ("mlp_gate",)),
        Pattern(rf"{block}\.mlp\.up_proj", ("mlp_in",)),
        Pattern(rf"{block}\.mlp\.gate_up_proj", ("mlp_gate", "mlp_in")),
        Pattern(rf"{block}\.mlp\.down_proj", ("mlp_out",)),
        *(qk_norms if norms else ()),
        Pattern(r"(?:model\.)?norm", ("final_norm",)),
        Pattern(r"lm_head", ("unembedding",)),
    )


def _gpt2(fan_in: int) -> tuple[Pattern, ...]:
    block = rf"(?:transformer\.)?{_block('h')}"
    return (
        Pattern(r"(?:transformer\.)?(?:wte|wpe)", ("embedding",)),
        Pattern(rf"{block}\.ln_1", ("attention_norm",)),
        Pattern(rf"{block}\.attn\.c_attn", ("query", "key", "value"), fan_in),
        Pattern(rf"{block}\.attn\.c_proj", ("attention_out",), fan_in),
        Pattern(rf"{block}\.ln_2", ("mlp_norm",)),
        Pattern(rf"{block}\.mlp\.c_fc", ("mlp_in",), fan_in),
        Pattern(rf"{block}\.mlp\.c_proj", ("mlp_out",), fan_in),
        Pattern(r"(?:transformer\.)?ln_f", ("final_norm",)),
        Pattern(r"lm_head", ("unembedding",)),
    )


def _ours() -> tuple[Pattern, ...]:
    block = _block("blocks")
    return tuple(
        Pattern(rf"{block}\.{name}" if module.in_block else name, (name,))
        for name, module in MODULES.items()
    )


def _named(names: Names) -> tuple[Pattern, ...]:
    number = r"(?P<block>\d+)"
    modules = {name.removesuffix(".weight"): types for name, types in names.items()}
    return tuple(
        Pattern(re.escape(module).replace(r"\*", number), types)
        for module, types in modules.items()
    )


FAMILIES: dict[str, Mapping] = {
    "gpt2": _gpt2(fan_in=0),
    "nanogpt": _gpt2(fan_in=1),
    "llama": _llama(norms=False),
    "qwen3": _llama(norms=True),
    "torchtitan": _named(TORCHTITAN),
    "paper_repro": _ours(),
}
"""Ready-made mappings: Hugging Face's GPT-2, Llama and Qwen3, models with nanoGPT's names, Llama 3
and Qwen3 of torchtitan, and our own GPT."""


def family(mapping: Mapping | str) -> Mapping:
    """A mapping; that of a family, by its name; or one called `package.module:NAME`.

    Raises:
        ConfigError: there is no such family, or no list of patterns of that name.
    """
    if not isinstance(mapping, str):
        return mapping
    if mapping in FAMILIES:
        return FAMILIES[mapping]
    if ":" not in mapping:
        names = ", ".join(FAMILIES)
        raise ConfigError(f"mapping: {mapping!r} is none of {names}, nor package.module:NAME")
    found = find_object(mapping)
    if not isinstance(found, list | tuple) or not all(isinstance(p, Pattern) for p in found):
        raise ConfigError(f"{mapping}: is no list of paper_repro.apply.Pattern")
    return found


def find_object(name: str) -> Any:
    """What is called `package.module:name`.

    Raises:
        ConfigError: there is no such module, it fails when it is imported, or it has no such name.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (AttributeError, ValueError, ImportError) as error:
        raise ConfigError(f"{name}: {error}; expected package.module:name") from None
    except Exception as error:  # of the module's own code
        line = " ".join(str(error).split())
        raise ConfigError(f"{name}: {type(error).__name__}: {line}") from error


def plain_name(name: str) -> str:
    """The name of a parameter without what wrappers put into it."""
    return _WRAPPERS.sub("", name)


def label_parameters(model: nn.Module, mapping: Mapping) -> dict[str, Labelled]:
    """What every parameter of a model is, by its name there.

    Args:
        model: on any device, the meta device included, and wrapped or not.

    Raises:
        ConfigError: parameters match no pattern or several, or of a type that has no bias or no
            block; the message lists them.
    """
    found: dict[str, Labelled] = {}
    problems: dict[str, list[str]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        module, _, kind = plain_name(name).rpartition(".")
        matches = [(each, match) for each in mapping if (match := re.fullmatch(each.name, module))]
        if len(matches) != 1:
            problems["match several patterns" if matches else "match no pattern"].append(name)
            continue
        ((pattern, match),) = matches
        label, fan_in = _label(pattern, kind, parameter.dim(), match.groupdict().get("block"))
        if label is None:
            problems[f"are no weight or bias of {' and '.join(pattern.types)}"].append(name)
            continue
        start, end = match.span("block") if label.block is not None else (0, 0)
        place = f"{module[:start]}*{module[end:]}.{kind}" if end else f"{module}.{kind}"
        found[name] = Labelled(label, place, pattern.types, fan_in)
    for what, names in problems.items():
        raise ConfigError(
            f"parameters that {what}: {', '.join(names)}; give a mapping with one "
            "paper_repro.apply.Pattern for each module"
        )
    return found


def _label(
    pattern: Pattern, kind: str, dimensions: int, block: str | None
) -> tuple[Label | None, int | None]:
    """The label of a parameter of a module, if it may have such; and which are its inputs."""
    module = MODULES[pattern.types[0]]
    if module.in_block != (block is not None) or kind not in ("weight", "bias"):
        return None, None
    tensor_class: TensorClass = module.tensor_class
    if kind == "bias":
        if tensor_class in ("embedding", "unembedding", "qk_norm"):
            return None, None
        if tensor_class != "final_norm":
            tensor_class = "hidden_bias"
    elif module.drawn != (dimensions == 2):
        return None, None
    label = Label(tensor_class, pattern.types[0], None if block is None else int(block))
    return label, pattern.fan_in if tensor_class in ("hidden_weight", "unembedding") else None
