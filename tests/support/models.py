"""A run's model and optimiser, as the trainer makes them, for tests that take steps themselves."""

from __future__ import annotations

import torch

from paper_repro.apply.param_groups import param_groups
from paper_repro.config import RunConfig
from paper_repro.hyperparameters import resolve
from paper_repro.model import GPT
from paper_repro.training.single import initialise


def initialised(config: RunConfig, vocab_size: int = 50) -> GPT:
    """The model with a run's initial weights and multipliers."""
    model = GPT(config.model, vocab_size, config.data.context)
    initialise(model, resolve(config), config.seed)
    return model


def adamw(model: GPT, config: RunConfig) -> torch.optim.AdamW:
    """AdamW over a run's parameter groups."""
    run = resolve(config)
    groups = param_groups(model.named_parameters(), run.labels, run.parameters)
    return torch.optim.AdamW(groups, fused=True)
