"""One run on several processes: the numbers of one, its groups, its checkpoints, its errors."""

from __future__ import annotations

import os
import random
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from support.runs import small_config, train

from paper_repro.config import Execution, HyperparameterConfig, ModelConfig, Parallel, RunConfig
from paper_repro.errors import ConfigError
from paper_repro.files import read_json
from paper_repro.hyperparameters import resolve
from paper_repro.model import GPT
from paper_repro.recording.bundle import train_bundle
from paper_repro.records import Record
from paper_repro.records.lease import LeasedRun, owner_of, take_lease
from paper_repro.training.foreign import check_execution
from paper_repro.training.processes import SeveralProcesses
from paper_repro.training.single import initialise
from slurm.ranks import PORTS, announced, dismiss, follow

#: Away from the base, so that every multiplier acts, and with rows that no two processes can share
#: equally in the last validation batch (3 of 7).
CONFIG = small_config(
    model={"width": 32, "depth": 3, "mlp": "swiglu", "biases": True},
    train={"clip": 0.5, "eval_sequences": 7},
    scaling={"base_tokens": 6 * 64, "base_depth": 1, "alpha": 0.5},
    hyperparameters={
        "eps": 1e-3,
        "weight_decay": 1.0,
        "module_multipliers": {
            "query": {"lr": 3.0, "eps": 0.2, "init_std": 2.0},
            "mlp_out": {"one_minus_beta2": 0.5, "weight_decay": 0.0, "residual": 0.7},
        },
        "depth_multipliers": {"lr": [1.0, 0.5]},
    },
)
STOPPED_AFTER = 6
IMPORTED_ONCE = ["test_distributed", "torch._dynamo", "torch.distributed.fsdp"]
"""By the process that all others are forked from; each takes seconds."""


def _free_port() -> int:
    """One that is free now, and not among those that Linux gives to connections."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as each, suppress(OSError):
            each.bind(("127.0.0.1", port))
            return port


def together(
    count: int, jobs: list[tuple[Parallel, RunConfig, Path, Callable[[int], Callable[[], bool]]]]
) -> list[int]:
    """Train runs one after the other on `count` processes; the exit codes of the processes.

    A job is (ddp or fsdp, config, record, and what makes the `should_stop` of a rank).
    """
    addressed = [(*job, _free_port()) for job in jobs]
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED_ONCE)
    processes = [context.Process(target=_work, args=(k, count, addressed)) for k in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return codes


def _work(rank: int, count: int, jobs: list[Any]) -> None:
    for parallel, config, directory, should_stop, port in jobs:
        processes = SeveralProcesses(parallel, rank, count, rank, ("127.0.0.1", port))
        if rank == 0:
            record = Record(directory)
            record.create(config)
            claim = take_lease(directory)
            assert claim is not None
            run = LeasedRun(config, record, claim)
        _check_weights(processes)
        execution = Execution(
            device="cpu", parallel=parallel, accumulate=2, recompute=parallel == "fsdp"
        )
        if rank > 0:
            follow(directory.parent, should_stop(rank), processes)
        else:
            runs = announced([run], execution, processes, "bundle")
            train_bundle(runs, execution, should_stop(rank), processes)
            if processes.aborted:
                return  # the leader, left alone
            dismiss(processes)
        processes.gather_on_leader([])  # the store goes with the leader
        dist.destroy_process_group()


def _check_weights(processes: SeveralProcesses) -> None:
    """Weights and buffers are those of one process, bit for bit; FSDP keeps a share of them."""
    alone = GPT(CONFIG.model, 50, 16)
    initialise(alone, resolve(CONFIG), CONFIG.seed)
    model, _ = processes.build(lambda: GPT(CONFIG.model, 50, 16), processes.device("cpu"))
    initialise(model, resolve(CONFIG), CONFIG.seed)
    expected = dict(alone.named_parameters())
    for name, parameter in model.named_parameters():
        full = getattr(parameter.detach(), "full_tensor", lambda p=parameter: p)()
        assert torch.equal(full, expected[name]), name
    for name, buffer in alone.named_buffers():
        assert torch.equal(buffer, model.get_buffer(name)), name
    kept = sum(_local(parameter).numel() for parameter in model.parameters())
    share = sum(parameter.numel() for parameter in alone.parameters())
    if processes.parallel == "fsdp":
        share = share / processes.count
    assert kept == pytest.approx(share, rel=0.02)  # a last shard may be smaller


def _local(parameter: torch.Tensor) -> torch.Tensor:
    to_local = getattr(parameter, "to_local", None)
    return to_local() if to_local else parameter


def never(_rank: int) -> Callable[[], bool]:
    return lambda: False


def stop_the_second(rank: int) -> Callable[[], bool]:
    """Only one process is asked to stop: the second."""
    asked = iter(range(1, STOPPED_AFTER))
    return lambda: rank == 1 and next(asked, None) is None


def fail_in_the_second(rank: int) -> Callable[[], bool]:
    asked = iter(range(1, STOPPED_AFTER))

    def fail() -> bool:
        if rank == 1 and next(asked, None) is None:
            raise MemoryError("nothing left here")
        return False

    return fail


def fail_in_the_first(rank: int) -> Callable[[], bool]:
    return fail_in_the_second(1 - rank)


def die_in_the_second(rank: int) -> Callable[[], bool]:
    asked = iter(range(1, STOPPED_AFTER))

    def die() -> bool:
        if rank == 1 and next(asked, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    return die


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> dict[str, Record]:
    """The same run, however it may be done."""
    folder = tmp_path_factory.mktemp("distributed")
    one = train(CONFIG, folder / "one")
    for name in ("one then 4", "damaged"):
        train(CONFIG, folder / name, stop_after=STOPPED_AFTER)
    damaged = folder / "damaged" / "checkpoint.pt"
    damaged.write_bytes(damaged.read_bytes()[:-1000])
    jobs = [
        ("ddp", CONFIG, folder / "ddp 2", never),
        ("fsdp", CONFIG, folder / "fsdp 2", never),
        ("fsdp", CONFIG, folder / "damaged", never),
        ("ddp", CONFIG, folder / "ddp 2 then 1", stop_the_second),
        ("fsdp", CONFIG, folder / "fsdp 2 then 1", stop_the_second),
        ("fsdp", CONFIG, folder / "fsdp 2 then 4", stop_the_second),
    ]
    assert together(2, jobs) == [0, 0]
    for _, _, directory, should_stop in jobs:
        if should_stop is stop_the_second:
            lines = Record(directory).metrics()
            assert [line["step"] for line in lines] == list(range(1, STOPPED_AFTER + 1))
            assert owner_of(directory) is None
    train(CONFIG, folder / "ddp 2 then 1")
    train(CONFIG, folder / "fsdp 2 then 1")
    jobs = [
        ("ddp", CONFIG, folder / "ddp 4", never),
        ("fsdp", CONFIG, folder / "fsdp 2 then 4", never),
        ("fsdp", CONFIG, folder / "one then 4", never),
    ]
    assert together(4, jobs) == [0] * 4
    return {"one": one} | {path.name: Record(path) for path in folder.iterdir()}


def test_the_numbers_are_those_of_one_process(records):
    one = records["one"]
    assert len(records) == 9
    for name, record in records.items():
        assert record.status().status == "done", name
        assert record.status().val_loss == pytest.approx(one.status().val_loss, rel=1e-5)
        for line, expected in zip(record.metrics(), one.metrics(), strict=True):
            assert line == pytest.approx(expected, rel=1e-5), name
        assert not record.checkpoint_path.exists()


def test_a_foreign_model_trains_on_several_processes_with_ddp_alone(tmp_path):
    model = {"width": 32, "depth": 3, "factory": "support.foreign:build", "mapping": "nanogpt"}
    config = CONFIG.model_copy(
        update={
            "model": ModelConfig.model_validate(model),
            "hyperparameters": HyperparameterConfig(),
        }
    )
    one = train(config, tmp_path / "one")
    assert together(2, [("ddp", config, tmp_path / "two", never)]) == [0, 0]
    two = Record(tmp_path / "two")
    assert two.status().val_loss == pytest.approx(one.status().val_loss, rel=1e-5)
    with pytest.raises(ConfigError, match="--parallel fsdp: only for our GPT"):
        check_execution(Execution(parallel="fsdp"), 2)


def test_losses_between_two_lines_of_metrics_are_those_of_all(tmp_path):
    """120 steps: a line every two, so that the stop falls between lines."""
    config = small_config(train={"tokens": 120 * 64})
    whole = train(config, tmp_path / "whole")
    assert together(2, [("ddp", config, tmp_path / "parts", stop_the_second)]) == [0, 0]
    parts = train(config, tmp_path / "parts")
    assert [line["step"] for line in parts.metrics()[:4]] == [1, 3, 5, 7]
    for line, expected in zip(parts.metrics(), whole.metrics(), strict=True):
        assert line == pytest.approx(expected, rel=1e-4)


def test_groups_and_multipliers_are_those_of_one_process(records):
    runs = {name: read_json(record.run_path) for name, record in records.items()}
    groups = runs["one"]["groups"]
    assert len(groups) > 10
    for name, run in runs.items():
        assert run["groups"] == groups, name
        assert run["parameters"] == runs["one"]["parameters"]
    assert [runs[name]["processes"] for name in ("one", "ddp 2", "fsdp 2 then 4")] == [1, 2, 4]
    assert runs["fsdp 2 then 4"]["execution"]["parallel"] == "fsdp"


@pytest.mark.parametrize(
    ("failing", "error"),
    [
        (fail_in_the_second, "OtherProcessError: process 1: MemoryError: nothing left here"),
        (fail_in_the_first, "MemoryError: nothing left here"),
    ],
)
def test_an_error_of_any_process_fails_the_run(tmp_path, failing, error):
    codes = together(2, [("fsdp", CONFIG, tmp_path, failing)])
    assert codes == [0, 0]
    assert Record(tmp_path).status().error == error
    assert "raise MemoryError" in Record(tmp_path).error_path.read_text()
    assert owner_of(tmp_path) is None


def test_a_killed_process_ends_the_others_without_an_outcome(tmp_path):
    codes = together(2, [("ddp", CONFIG, tmp_path, die_in_the_second)])
    assert codes == [1, -signal.SIGKILL]
    assert Record(tmp_path).status() is None
    assert owner_of(tmp_path) is None
