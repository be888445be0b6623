"""Models that a function of the user's makes: found by its name, built, checked and counted.

The function takes a width (of the residual stream) and a depth (in blocks). Its model takes token
ids (B, T) and returns logits (B, T, V), or an object that has them as `logits`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

import torch
from torch import Tensor, nn

from paper_repro.apply.mapping import Labelled, family, find_object, label_parameters
from paper_repro.apply.parameterized import Parameterized, parameterize_run
from paper_repro.config import ModelConfig, RunConfig
from paper_repro.cost import Counts
from paper_repro.errors import ConfigError
from paper_repro.hyperparameters import scaling_of
from paper_repro.model.gpt import at_least_float32

Factory = Callable[[int, int], nn.Module]
"""A model of a width (of the residual stream) and a depth (in blocks)."""

LARGEST_TRIED = 50_000_000
"""Parameters, at most, of a model of which a forward pass is tried before anything is trained."""


def find_factory(name: str) -> Factory:
    """The function `package.module:function`.

    Raises:
        ConfigError: there is no such module or function.
    """
    found = find_object(name)
    if not callable(found):
        raise ConfigError(f"{name}: is no function of width and depth")
    return found  # type: ignore[no-any-return]


def make_model(model: ModelConfig) -> nn.Module:
    """What the factory makes of a width and a depth.

    Raises:
        ConfigError: there is no such function, it fails, or it returns something else.
    """
    assert model.factory is not None
    factory = find_factory(model.factory)
    try:
        made = factory(model.width, model.depth)
    except Exception as error:
        raise ConfigError(f"{_call(model)}: {_line(error)}") from error
    if not isinstance(made, nn.Module):
        raise ConfigError(
            f"{_call(model)}: returned {type(made).__name__}, expected a torch.nn.Module"
        )
    return made


def logits_of(model: Callable[[Tensor], object], tokens: Tensor) -> Tensor:
    """The logits of a model that returns them, or an object that has them, in float32 at least.

    Raises:
        ConfigError: it returns neither.
    """
    output = model(tokens)
    found = getattr(output, "logits", output)
    if not isinstance(found, Tensor):
        raise ConfigError(
            f"the model returned {type(output).__name__}, expected logits (B, T, V) or an object "
            "with logits"
        )
    return at_least_float32(found)


def rules_of(config: RunConfig, model: nn.Module) -> Parameterized:
    """The hyperparameters of every parameter of a run's model, which its factory made.

    Raises:
        ConfigError: as `parameterize`; or the model is not of the shape of the run, or lacks a
            module type that has a multiplier.
    """
    shape, scaling = config.model, scaling_of(config)
    bases = {"width": config.scaling.base_width, "depth": config.scaling.base_depth}
    with torch.device("meta"):
        base = make_model(shape.model_copy(update=bases))
    try:
        rules = parameterize_run(config, model, base, shape.mapping, shape.tied)
    except ConfigError as error:
        raise ConfigError(f"{_call(shape)}: {error}") from None
    found = {"width": rules.scaling.ratios.N, "depth": rules.scaling.ratios.L}
    asked = {"width": scaling.ratios.N, "depth": scaling.ratios.L}
    for name, ratio in asked.items():
        if found[name] != ratio:
            raise ConfigError(
                f"{_call(shape)}: its {name} is {found[name]:g} times that of the base "
                f"({bases[name]}), expected {ratio:g} times"
            )
    has = {label.module_type for label in rules.labels.values()}
    stated = config.hyperparameters
    for module in (*stated.module_multipliers, *stated.layer_multipliers):
        if module not in has:
            raise ConfigError(f"{_call(shape)}: has no {module}, of which multipliers are given")
    return rules


def count(model: nn.Module, shape: ModelConfig) -> Counts:
    """What of a factory's model decides the cost of training it: its matrices, heads, vocabulary.

    Args:
        model: on any device, the meta device included.
    """
    sizes = dict(model.named_parameters())
    labelled = label_parameters(model, family(shape.mapping))
    embedding = sizes[_embedding(labelled)]
    multiplied = int(shape.tied) * embedding.numel()
    attention = 0
    for name, each in labelled.items():
        if each.fan_in is not None:
            multiplied += sizes[name].numel()
            if each.label.module_type == "attention_out":
                attention += sizes[name].shape[each.fan_in]
    total = sum(each.numel() for each in sizes.values())
    return Counts(total, multiplied, attention, embedding.shape[0])


@lru_cache
def counts_of_shape(shape: ModelConfig) -> Counts:
    """The same of a shape, from a model on the meta device.

    Raises:
        ConfigError: the model cannot be made, or its parameters are not those of the mapping.
    """
    with torch.device("meta"):
        return count(make_model(shape), shape)


def check_models(configs: Iterable[RunConfig], vocab_size: int) -> None:
    """Check, before anything is trained, the factory's models of runs that share their data.

    All are built on the meta device; of the smallest, a forward pass is tried.

    Args:
        vocab_size: of the tokens that they are trained on.

    Raises:
        ConfigError: a model cannot be built or labelled, is not of its shape, has too small a
            vocabulary, returns no logits, or sees later tokens.
    """
    shapes = {
        (config.model, config.scaling.base_width, config.scaling.base_depth): config
        for config in configs
    }
    smallest: tuple[int, RunConfig] | None = None
    for config in shapes.values():
        with torch.device("meta"):
            model = make_model(config.model)
        rules_of(config, model)
        counts = count(model, config.model)
        if counts.vocabulary < vocab_size:
            raise ConfigError(
                f"{_call(config.model)}: a vocabulary of {counts.vocabulary}, expected "
                f"{vocab_size} or more"
            )
        if smallest is None or counts.parameters < smallest[0]:
            smallest = counts.parameters, config
    if smallest is not None and smallest[0] <= LARGEST_TRIED:
        _try(smallest[1], vocab_size)


@torch.no_grad()
def _try(config: RunConfig, vocab_size: int) -> None:
    """Check what a model returns, and that it does not see later tokens."""
    shape, context = config.model, config.data.context
    call = f"{_call(shape)} on tokens (2, {context})"
    model = make_model(shape).eval()
    rules_of(config, model).initialise(seed=0)
    tokens = torch.arange(2 * context).view(2, context) % vocab_size
    later = tokens.clone()
    later[:, -1] = (later[:, -1] + 1) % vocab_size
    try:
        logits, changed = logits_of(model, tokens), logits_of(model, later)
    except Exception as error:
        raise ConfigError(f"{call}: {_line(error)}") from error
    if logits.dim() != 3 or logits.shape[:2] != tokens.shape or logits.shape[2] < vocab_size:
        raise ConfigError(
            f"{call}: logits of shape {tuple(logits.shape)}, expected (2, {context}, {vocab_size})"
        )
    if not torch.allclose(logits[:, :-1], changed[:, :-1], rtol=1e-3, atol=1e-5):
        raise ConfigError(f"{call}: logits depend on later tokens, expected a causal model")


def _call(shape: ModelConfig) -> str:
    """A shape of a factory's model in print."""
    return f"{shape.factory}({shape.width}, {shape.depth})"


def _embedding(labelled: dict[str, Labelled]) -> str:
    """The name of the first embedding, that of tokens."""
    return next(name for name, each in labelled.items() if each.types == ("embedding",))


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
