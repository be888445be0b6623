"""Checkpoints: where a run is, to the bit.

Batches depend on (seed, step) alone, so there is no reader state to save.

A checkpoint that is damaged, or of other data, is as good as none: the run starts anew. It does
not depend on how many processes train the run, nor on how many runs train at once.
"""

from __future__ import annotations

import errno
import logging
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paper_repro.files import write_atomically

log = logging.getLogger(__name__)

MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps for a parameter, beside its number of steps."""


@dataclass
class Progress:
    """Where a run is between two steps, beside its weights and optimiser state."""

    step: int = 0
    """Steps done."""
    first_loss: float = 0.0
    """Training loss of the first batch, before any update, in nats."""
    loss_sum: float = 0.0
    """Sum of the training losses since the last point of the learning curve."""
    logged_step: int = 0
    """The step of that point."""
    wall_seconds: float = 0.0
    """Time spent so far, over all attempts."""
    gradient_norm: float = 0.0
    """Largest norm of the gradients since the last point of the learning curve, if asked for."""


@dataclass(frozen=True)
class RunState:
    """The weights of a run and what AdamW keeps for them: whole tensors, by parameter name."""

    weights: dict[str, Tensor]
    moments: dict[str, dict[str, Tensor]]
    """For each parameter `step`, `exp_avg` and `exp_avg_sq`."""


@dataclass(frozen=True)
class Checkpoint:
    """What a run goes on from."""

    progress: Progress
    state: RunState
    corpus_hash: str


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically."""
    content = {
        "model": checkpoint.state.weights,
        "optimizer": {"state": checkpoint.state.moments},
        "progress": asdict(checkpoint.progress),
        "corpus_hash": checkpoint.corpus_hash,
    }
    write_atomically(path, lambda temporary: torch.save(content, temporary))


def read_checkpoint(
    path: Path, shapes: Mapping[str, torch.Size], corpus_hash: str
) -> Checkpoint | None:
    """Read a checkpoint onto the CPU; None if it is damaged, of other data, or does not fit.

    Args:
        shapes: of the model's parameters, by name.
        corpus_hash: of the data that the run trains on.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["corpus_hash"] != corpus_hash:
            log.warning("%s: made on other data; the run starts anew", path)
            return None
        names = {field.name for field in fields(Progress)}
        known = {"gradient_norm": 0.0, **content["progress"]}  # older checkpoints have none
        progress = Progress(**{name: known[name] for name in names})
        state = RunState(content["model"], _by_name(content["optimizer"]))
        _check_fit(state, shapes)
    except (
        AttributeError,
        RuntimeError,
        EOFError,
        KeyError,
        ValueError,
        TypeError,
        pickle.UnpicklingError,
        OSError,
    ) as error:
        # torch seeks to before the start of some files that were cut short.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        log.warning("%s: damaged (%s); the run starts anew", path, type(error).__name__)
        return None
    return Checkpoint(progress, state, corpus_hash)


def _by_name(optimizer: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
    """The state of AdamW by parameter name; older checkpoints number the parameters."""
    state: dict[str, dict[str, Tensor]] = optimizer["state"]
    if "param_groups" not in optimizer:
        return state
    names = {
        number: name
        for group in optimizer["param_groups"]
        for number, name in zip(group["params"], group["names"], strict=True)
    }
    return {names[number]: moments for number, moments in optimizer["state"].items()}


def _check_fit(state: RunState, shapes: Mapping[str, torch.Size]) -> None:
    """Raise KeyError or ValueError if a tensor is not there or of another shape."""
    for name, shape in shapes.items():
        moments = state.moments[name]
        _check_shape(moments["step"], torch.Size())
        for tensor in (state.weights[name], *(moments[moment] for moment in MOMENTS)):
            _check_shape(tensor, shape)


def _check_shape(tensor: Tensor, expected: torch.Size) -> None:
    if tensor.shape != expected:
        raise ValueError(f"shape {tuple(tensor.shape)}, expected {tuple(expected)}")
