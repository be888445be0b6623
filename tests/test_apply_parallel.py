"""The rules on a model that DDP, FSDP2 or torch.compile has wrapped: the trajectory is the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import nn

from paper_repro.apply import Parameterized, parameterize
from paper_repro.config import HyperparameterConfig, ModelConfig
from paper_repro.model import GPT

PROCESSES, STEPS = 2, 6
TUNED = HyperparameterConfig(lr=0.01, module_multipliers={"query": {"lr": 2.0}})


def gpt(width: int = 32, depth: int = 4) -> GPT:
    shape = ModelConfig(width=width, depth=depth, head_dim=8, biases=True)
    return GPT(shape, vocab_size=32, context=16).double()


def rules_of(model: nn.Module) -> Parameterized:
    with torch.device("meta"):
        base = gpt(16, 2)
    return parameterize(model, base, "paper_repro", TUNED, batch_ratio=2, token_ratio=4)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, rank: int, count: int) -> list[float]:
    """Losses over the whole batch, of which each process has its rows."""
    torch.manual_seed(1)
    tokens = torch.randint(0, 32, (4, 17)).chunk(count)[rank]
    losses = []
    for _ in range(STEPS):
        logits = model(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total = loss.detach()
        if count > 1:
            dist.all_reduce(total)
        losses.append(total.item() / count)
    return losses


def plain(rank: int = 0, count: int = 1) -> list[float]:
    model = gpt()
    rules = rules_of(model)
    rules.initialise(seed=3)
    return train(model, torch.optim.AdamW(rules.param_groups()), rank, count)


def compiled() -> list[float]:
    """Labels from the names that torch.compile makes, `_orig_mod.` before each."""
    model = torch.compile(gpt(), backend="eager")
    rules = rules_of(model)
    assert all(name.startswith("_orig_mod.") for name in rules.numbers)
    rules.initialise(seed=3)
    return train(model, torch.optim.AdamW(rules.param_groups()), 0, 1)


def ddp(rank: int) -> list[float]:
    """Labels from the names that DDP makes, and weights drawn by every process after it."""
    model = nn.parallel.DistributedDataParallel(gpt())
    rules = rules_of(model)
    assert all(name.startswith("module.") for name in rules.numbers)
    rules.initialise(seed=3)
    return train(model, torch.optim.AdamW(rules.param_groups()), rank, PROCESSES)


def shard(model: GPT) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (PROCESSES,))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def fsdp_drawn_before(rank: int) -> list[float]:
    """Rules and weights of the whole model, then shards; groups of the shards."""
    model = gpt()
    rules = rules_of(model)
    rules.initialise(seed=3)
    shard(model)
    return train(model, torch.optim.AdamW(rules.param_groups()), rank, PROCESSES)


def fsdp_drawn_after(rank: int) -> list[float]:
    """A model on the meta device, sharded before it has values; whole tensors are never kept."""
    with torch.device("meta"):
        model = gpt()
    shard(model)
    rules = rules_of(model)
    model.to_empty(device="cpu")
    for name, buffer in gpt().named_buffers():  # to_empty left them without values too
        model.get_buffer(name).copy_(buffer)
    rules.initialise(seed=3)
    kept = sum(parameter.to_local().numel() for parameter in model.parameters())
    whole = sum(parameter.numel() for parameter in model.parameters())
    assert kept < 0.55 * whole
    return train(model, torch.optim.AdamW(rules.param_groups()), rank, PROCESSES)


CASES: dict[str, Callable[[int], list[float]]] = {
    case.__name__: case for case in (ddp, fsdp_drawn_before, fsdp_drawn_after)
}


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=PROCESSES
    )
    for name, case in CASES.items():
        losses = case(rank)
        if rank == 0:
            (folder / name).write_text(json.dumps(losses), encoding="utf-8")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def expected() -> list[float]:
    losses = plain()
    assert losses[-1] < losses[0] - 0.05  # it trains
    return losses


def test_a_compiled_model_trains_as_the_plain_one(expected):
    assert compiled() == pytest.approx(expected, rel=0, abs=1e-12)


def test_models_on_two_processes_train_as_the_plain_one(expected, tmp_path):
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(["test_apply_parallel", "torch.distributed.fsdp"])
    processes = [context.Process(target=work, args=(rank, tmp_path)) for rank in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes == [0] * PROCESSES
    for name in CASES:
        losses = json.loads((tmp_path / name).read_text(encoding="utf-8"))
        assert losses == pytest.approx(expected, rel=0, abs=1e-9), name
