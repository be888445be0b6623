"""Estimates from shapes alone, held against the model and against what autograd keeps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from paper_repro.config import DataConfig, Execution, ModelConfig, RunConfig, TrainConfig
from paper_repro.cost import (
    activation_bytes,
    counts,
    estimated_gpu_seconds,
    fitting_runs,
    parameters,
    process_bytes,
    train_flops,
)
from paper_repro.model import GPT
from sweeps.expand import read_sweep

ROOT = Path(__file__).parent.parent

SHAPES = {
    "gelu": {"width": 64, "depth": 2, "head_dim": 16},
    "deep": {"width": 32, "depth": 6, "head_dim": 16},
    "swiglu": {"width": 64, "depth": 2, "head_dim": 32, "mlp": "swiglu"},
    "no QK norm": {"width": 64, "depth": 2, "head_dim": 16, "qk_norm": False},
    "wide MLP": {"width": 64, "depth": 2, "head_dim": 16, "mlp_ratio": 8},
    "biases": {"width": 64, "depth": 2, "head_dim": 16, "biases": True},
}


def _config(shape: dict, context: int = 64) -> RunConfig:
    train = TrainConfig(batch_size=4, tokens=4 * context)
    return RunConfig(model=ModelConfig(**shape), data=DataConfig(context=context), train=train)


@pytest.mark.parametrize("vocab_size", [256, 2048])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_activations_are_what_autograd_keeps(shape, vocab_size):
    config = _config(shape)
    model = GPT(config.model, vocab_size, config.data.context)
    saved, tokens = _saved_bytes(model, config), config.tokens_per_step
    assert activation_bytes(config.model, tokens, vocab_size) == pytest.approx(saved, rel=0.05)


def _saved_bytes(model: GPT, config: RunConfig) -> int:
    """What autograd keeps of a forward pass."""
    known = {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.loss(torch.zeros(4, config.data.context + 1, dtype=torch.long))
    return sum(storage.nbytes() for storage in kept.values())


def test_recomputed_blocks_keep_their_inputs_alone():
    """Autograd's hooks see what is kept outside the blocks; their inputs are kept beside that."""
    config = _config(SHAPES["deep"])
    model = GPT(config.model, 256, config.data.context)
    model.recompute = True
    outside = _saved_bytes(model, config)
    needed = process_bytes(
        config, counts(config.model, 256), 1, Execution(recompute=True)
    ) - 16 * parameters(config.model, 256)
    assert 4.0 * config.tokens_per_step * 32 * 6 + outside < needed
    assert needed < activation_bytes(config.model, config.tokens_per_step, 256) / 2


def test_an_accumulated_batch_needs_the_activations_of_a_part():
    config = _config(SHAPES["gelu"])
    state = 16 * parameters(config.model, 256)
    whole, half = (
        process_bytes(config, counts(config.model, 256), 1, Execution(accumulate=n)) for n in (1, 2)
    )
    assert half - state == (whole - state) / 2


def test_a_gpu_is_bound_by_launches_or_by_flops():
    small, large = (_config(SHAPES["gelu"] | {"width": width}) for width in (64, 4096))
    assert estimated_gpu_seconds(small, counts(small.model, 256)) == pytest.approx(
        small.steps * 6e-3
    )
    assert estimated_gpu_seconds(large, counts(large.model, 256)) == pytest.approx(
        train_flops(large, counts(large.model, 256)) / 1e13
    )


def test_runs_that_train_at_once_share_the_launches():
    small, large = (_config(SHAPES["gelu"] | {"width": width}) for width in (64, 4096))
    assert estimated_gpu_seconds(small, counts(small.model, 256), 8) == pytest.approx(
        small.steps * 6e-3 / 8
    )
    assert estimated_gpu_seconds(large, counts(large.model, 256), 8) == estimated_gpu_seconds(
        large, counts(large.model, 256)
    )


def test_as_many_runs_train_at_once_as_are_estimated_to_fit():
    config = _config(SHAPES["gelu"])
    for execution in (Execution(), Execution(accumulate=4)):
        needed = process_bytes(config, counts(config.model, 256), 1, execution)
        free = [needed * runs / 0.8 for runs in (0.5, 1.01, 7.01, 1000)]
        assert [
            fitting_runs(config, counts(config.model, 256), execution, bytes) for bytes in free
        ] == [1, 1, 7, 128]


def test_training_holds_sixteen_bytes_a_parameter_and_a_batch():
    config = _config(SHAPES["gelu"])
    batch = activation_bytes(config.model, 4 * 64, 256)
    assert (
        process_bytes(config, counts(config.model, 256), 1, Execution())
        == 16 * parameters(config.model, 256) + batch
    )


def test_the_large_sweep_builds_without_memory_and_has_the_parameters_of_its_estimate():
    (config,) = read_sweep(ROOT / "sweeps" / "large_7b.yaml").runs.values()
    with torch.device("meta"):
        model = GPT(config.model, 256, config.data.context)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    total = sum(sizes.values())
    assert total == parameters(config.model, 256)
    assert 6.9e9 < total < 7.1e9
    batch = activation_bytes(config.model, config.data.context, 256)
    assert process_bytes(config, counts(config.model, 256), 16, Execution()) == 16 * total + batch
    block = sum(size for name, size in sizes.items() if name.startswith("blocks.7."))
    outside = sum(size for name, size in sizes.items() if not name.startswith("blocks."))
    gathered = (
        process_bytes(config, counts(config.model, 256), 16, Execution(parallel="fsdp"))
        - 16 * total / 16
        - batch
    )
    assert gathered == pytest.approx(8 * (2 * block + outside), rel=1e-4)  # gains left out
