"""A stack of runs trains each of them as it would be trained alone."""

from __future__ import annotations

import pytest
import torch
from support.models import adamw, initialised
from support.runs import small_config

from paper_repro.apply.param_groups import set_lr_scale
from paper_repro.hyperparameters import resolve
from paper_repro.model import GPT
from paper_repro.schedules import Factors
from paper_repro.training.stacked import StackedRuns, adamw_update

VOCABULARY, STEPS = 32, 30
LR_SCALE = 0.5


def _configs():
    """Runs that differ in all that runs of a bundle may differ in, one of them bound to diverge."""
    scaling = {"base_width": 8, "base_depth": 1, "base_tokens": 12 * 64, "base_batch_size": 8}
    different = [
        {"lr": 2**-6},
        {"lr": 2**-8, "weight_decay": 0.0, "beta1": 0.8, "beta2": 0.99, "eps": 1e-3},
        {"lr": 1e20},
        {"residual": 0.5, "module_multipliers": {"query": {"lr": 3.0, "init_std": 0.5}}},
    ]
    parameterizations = ["complete_d", "sp", "complete_d", "completep"]
    return [
        small_config(
            scaling=scaling | {"parameterization": parameterization},
            hyperparameters=hyperparameters,
            seed=seed,
        )
        for seed, (parameterization, hyperparameters) in enumerate(
            zip(parameterizations, different, strict=True)
        )
    ]


def _model(config) -> GPT:
    return GPT(config.model, VOCABULARY, config.data.context)


@pytest.fixture(scope="module")
def batches():
    """For each step and run a batch of its own."""
    size = (STEPS, len(_configs()), 4, 17)
    return torch.randint(0, VOCABULARY, size, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=[None, 0.3], ids=["unclipped", "clipped"])
def trained(request, batches):
    """Losses of each step and run, (S, R), and the stack."""
    configs = _configs()
    models = GPT(configs[0].model, VOCABULARY, configs[0].data.context, len(configs))
    stack = StackedRuns(
        models,
        models.loss,
        adamw_update,
        _model(configs[0]),
        [resolve(config) for config in configs],
        [config.seed for config in configs],
        [request.param for _ in configs],
    )
    losses = []
    for step, sequences in enumerate(batches):
        cross_entropy_R, z_loss_R = stack.losses(sequences)
        (cross_entropy_R + 1e-4 * z_loss_R).sum().backward()
        stack.schedule([Factors(LR_SCALE)] * len(configs), step)
        stack.update()
        losses.append(cross_entropy_R.detach())
    return torch.stack(losses), stack, request.param


@pytest.mark.parametrize("run", [0, 1, 3])
def test_a_run_of_a_stack_equals_the_run_alone(run, trained, batches):
    losses_SR, stack, clip = trained
    config = _configs()[run]
    model = initialised(config, VOCABULARY)
    optimizer = adamw(model, config)
    set_lr_scale(optimizer, LR_SCALE)
    alone = []
    for sequences in batches[:, run]:
        cross_entropy, z_loss = model.loss(sequences)
        (cross_entropy + 1e-4 * z_loss).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
        alone.append(cross_entropy.detach())
    assert losses_SR[0, run] == alone[0]  # the forward pass is the same kernels
    torch.testing.assert_close(losses_SR[:, run], torch.stack(alone), rtol=1e-5, atol=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(stack.parameters[name][run], parameter, rtol=1e-4, atol=1e-5)


def test_a_diverging_run_stays_alone(trained):
    losses_SR, stack, _ = trained
    assert not losses_SR[-1, 2].isfinite()
    others = [0, 1, 3]
    assert losses_SR[:, others].isfinite().all()
    assert all(parameter[others].isfinite().all() for parameter in stack.parameters.values())
