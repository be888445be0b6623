"""Checkpoints: where a run is, to the bit.

Batches depend on (seed, step) alone, so there is no reader state to save.

A checkpoint that is damaged, or of other data, is as good as none: the run starts anew. It does
not depend on how many processes train the run: what several saved, one or more go on with.
"""

from __future__ import annotations

import errno
import logging
import pickle
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from paper_repro.files import write_atomically
from paper_repro.model import GPT
from paper_repro.training.processes import Processes

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
    """Sum of the training losses since the last line of metrics."""
    logged_step: int = 0
    """The step of that line."""
    wall_seconds: float = 0.0
    """Time spent so far, over all attempts."""


@dataclass(frozen=True)
class Checkpoint:
    """What was read from a file, on the CPU; it fits the model."""

    progress: Progress
    weights: dict[str, Tensor]
    state: dict[int, dict[str, Tensor]]
    """Of AdamW, by the number of the parameter in its groups."""


def save_checkpoint(
    path: Path,
    model: GPT,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    corpus_hash: str,
    processes: Processes,
) -> None:
    """Write a checkpoint atomically: whole tensors, however many processes share the run."""
    saved = optimizer.state_dict()
    content = {
        "model": {name: processes.whole(value) for name, value in model.state_dict().items()},
        "optimizer": saved
        | {
            "state": {
                number: {name: processes.whole(value) for name, value in state.items()}
                for number, state in saved["state"].items()
            }
        },
        "progress": asdict(progress),
        "corpus_hash": corpus_hash,
    }
    if processes.rank == 0:
        write_atomically(path, lambda temporary: torch.save(content, temporary))


def read_checkpoint(
    path: Path, model: GPT, optimizer: torch.optim.Optimizer, corpus_hash: str
) -> Checkpoint | None:
    """Read a checkpoint; None if it is damaged, of other data, or does not fit."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["corpus_hash"] != corpus_hash:
            log.warning("%s: made on other data; the run starts anew", path)
            return None
        names = {field.name for field in fields(Progress)}
        progress = Progress(**{name: content["progress"][name] for name in names})
        checkpoint = Checkpoint(progress, content["model"], content["optimizer"]["state"])
        _check_fit(checkpoint, model, optimizer)
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
    return checkpoint


def restore(
    checkpoint: Checkpoint | None,
    model: GPT,
    optimizer: torch.optim.Optimizer,
    processes: Processes,
) -> None:
    """Put the leader's checkpoint into model and optimiser; the other processes have none."""
    for name, value in model.state_dict().items():
        processes.load(value, checkpoint.weights[name] if checkpoint else None)
    state: dict[int, dict[str, Tensor]] = {}
    for number, parameter in enumerate(_parameters(optimizer)):
        state[number] = {"step": torch.zeros((), dtype=torch.float32)}
        state[number] |= {name: torch.empty_like(parameter) for name in MOMENTS}
        for name, value in state[number].items():
            processes.load(value, checkpoint.state[number][name] if checkpoint else None)
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})


def _check_fit(checkpoint: Checkpoint, model: GPT, optimizer: torch.optim.Optimizer) -> None:
    """Raise KeyError or ValueError if a tensor is not there or of another shape."""
    for name, value in model.state_dict().items():
        _check_shape(checkpoint.weights[name], value)
    for number, parameter in enumerate(_parameters(optimizer)):
        _check_shape(checkpoint.state[number]["step"], torch.zeros(()))
        for name in MOMENTS:
            _check_shape(checkpoint.state[number][name], parameter)


def _check_shape(found: Tensor, wanted: Tensor) -> None:
    if found.shape != wanted.shape:
        raise ValueError(f"shape {tuple(found.shape)}, expected {tuple(wanted.shape)}")


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """All parameters, in the order in which the optimiser numbers them."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
