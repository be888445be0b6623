"""Checkpoints: where a run is, to the bit.

Batches depend on (seed, step) alone, so there is no reader state to save.

A checkpoint that is damaged, or of other data, is as good as none: the run starts anew.
"""

from __future__ import annotations

import logging
import pickle
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch

from paper_repro.files import write_atomically
from paper_repro.model import GPT

log = logging.getLogger(__name__)


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


def save_checkpoint(
    path: Path, model: GPT, optimizer: torch.optim.Optimizer, progress: Progress, corpus_hash: str
) -> None:
    """Write a checkpoint atomically."""
    content = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": asdict(progress),
        "corpus_hash": corpus_hash,
    }
    write_atomically(path, lambda temporary: torch.save(content, temporary))


def load_checkpoint(
    path: Path, model: GPT, optimizer: torch.optim.Optimizer, corpus_hash: str
) -> Progress | None:
    """Restore model and optimiser and return the progress.

    None if the checkpoint is damaged or of other data: the two may then hold part of it.
    """
    try:
        device = next(model.parameters()).device
        content = torch.load(path, map_location=device, weights_only=True)
        if content["corpus_hash"] != corpus_hash:
            log.warning("%s: made on other data; the run starts anew", path)
            return None
        names = {field.name for field in fields(Progress)}
        progress = Progress(**{name: content["progress"][name] for name in names})
        model.load_state_dict(content["model"])
        optimizer.load_state_dict(content["optimizer"])
    except (
        RuntimeError,
        EOFError,
        KeyError,
        ValueError,
        TypeError,
        pickle.UnpicklingError,
    ) as error:
        log.warning("%s: damaged (%s); the run starts anew", path, type(error).__name__)
        return None
    return progress
