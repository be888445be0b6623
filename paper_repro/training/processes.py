"""The processes that train one run together: what they share, agree on, and how they end.

`Processes` is the ordinary case: one alone, for whom this is trivial. `SeveralProcesses` each
train on their rows of every batch, with whole copies of the model (`ddp`) or with shards of it
(`fsdp`). Process 0 leads: it alone claims runs and writes records.

They talk in two ways. Tensors go through torch.distributed (gloo between CPUs, NCCL between GPUs),
plain values of the leader through a TCPStore, where waiting has no effect on the tensors.
"""

from __future__ import annotations

import json
import logging
import os
import traceback
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from paper_repro.config import Parallel
from paper_repro.model import GPT, Forward
from paper_repro.training.devices import choose_device

log = logging.getLogger(__name__)

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)

PEER_TIMEOUT = timedelta(minutes=30)
"""The longest wait for another process: for its start, a step, the choice of the next run."""


class OtherProcessError(RuntimeError):
    """The error of another process, its traceback as a note."""


class Processes:
    """One process alone, and what every training asks of its processes."""

    rank = 0
    count = 1
    aborted = False
    """Whether an error ended the group. What is left to do needs new processes."""

    def device(self, name: str) -> torch.device:
        """The device of this process (`paper_repro.training.devices.choose_device`)."""
        return choose_device(name)

    def build(self, make: Callable[[], M], device: torch.device) -> tuple[M, Forward]:
        """A model on the device, weights uninitialised, and the function that trains it."""
        model = make().to(device)
        return model, model

    def share(self, value: T) -> T:
        """The leader's value, to all (what JSON can hold)."""
        return value

    def any(self, flag: bool) -> bool:
        """Whether it is so for any of them."""
        return flag

    def total(self, value: Tensor) -> Tensor:
        """The sum over them."""
        return value

    def rows(self, batch: Tensor) -> Tensor:
        """The rows of a batch that are this process's; all rows are somebody's."""
        return batch

    def abort(self, error: Exception) -> Exception:
        """Stop the group after an error and return the first error that any process had.

        A single process has nothing to stop.
        """
        return error


class SeveralProcesses(Processes):
    """This process as one of several. To be made in all of them at the same time."""

    def __init__(
        self, parallel: Parallel, rank: int, count: int, local_rank: int, address: tuple[str, int]
    ) -> None:
        """Meet the others at `address`, where process 0 listens.

        Args:
            local_rank: this process among those of its machine; its GPU.
        """
        self.parallel, self.rank, self.count, self.local_rank = parallel, rank, count, local_rank
        self._store = TCPStore(*address, count, is_master=rank == 0, timeout=PEER_TIMEOUT)
        self._shared = 0

    def device(self, name: str) -> torch.device:
        device = super().device(name)
        if device.type == "cuda":  # a site may show each process its own GPU alone
            device = torch.device("cuda", self.local_rank % torch.cuda.device_count())
            torch.cuda.set_device(device)
        if not dist.is_initialized():
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                store=PrefixStore("group", self._store),
                rank=self.rank,
                world_size=self.count,
                timeout=PEER_TIMEOUT,
            )
        return device

    def build(self, make: Callable[[], M], device: torch.device) -> tuple[M, Forward]:
        if self.parallel == "ddp":
            from torch.nn.parallel import DistributedDataParallel

            model = make().to(device)
            # Weights and buffers are drawn alike by all: nothing to send but gradients.
            with warnings.catch_warnings(category=FutureWarning, action="ignore"):
                # torch 2.13: `broadcast_buffers` shall go, what replaces it is not there yet
                return model, DistributedDataParallel(
                    model, init_sync=False, broadcast_buffers=False, gradient_as_bucket_view=True
                )
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(device.type, (self.count,))
        with torch.device("meta"):
            model = make()
        # Parameters are gathered in float32, and autocast is that of one process. A
        # MixedPrecisionPolicy would halve the traffic and spare autocast's copies of the weights,
        # but gains and the residual stream would be bfloat16 too, so other numbers.
        assert isinstance(model, GPT)  # of another model the blocks are not known
        for block in model.blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
        model.to_empty(device=device)
        return model, model

    def share(self, value: T) -> T:
        self._shared += 1
        key = f"shared/{self._shared}"
        if self.rank == 0:
            self._store.set(key, json.dumps(value))
            return value
        shared: T = json.loads(self._store.get(key))
        return shared

    def any(self, flag: bool) -> bool:
        return bool(self.total(torch.tensor(int(flag))).item())  # on the CPU: no GPU is waited for

    def total(self, value: Tensor) -> Tensor:
        value = value.clone()
        dist.all_reduce(value)
        return value

    def rows(self, batch: Tensor) -> Tensor:
        return batch.tensor_split(self.count)[self.rank]

    def abort(self, error: Exception) -> Exception:
        """Stop the group after an error of this process or another.

        A process that is not the leader ends here; its connections close, which wakes whoever waits
        for it. The leader gets the error that came first; its own end is left to its caller.

        Raises:
            RuntimeError: another process is gone without an error: killed, or its machine is down.
        """
        self.aborted = True
        own = not _of_connection(error)
        if self.rank:
            log.error("process %d ends", self.rank, exc_info=error)
            if own:
                words = {"error": _line(error), "trace": "".join(traceback.format_exception(error))}
                self._store.compare_set("error", "", json.dumps({"rank": self.rank, **words}))
            logging.shutdown()
            os._exit(0)  # the leader reports the error, and NCCL's threads would hang an exit
        if own:
            return error
        if not self._store.check(["error"]):  # written before a connection closes
            raise RuntimeError("another process is gone without an error") from error
        return _other(json.loads(self._store.get("error")))

    def gather_on_leader(self, values: list[int]) -> set[int]:
        """The union of all processes' values, at their end; complete on the leader only."""
        if self.rank:
            self._store.set(f"values/{self.rank}", json.dumps(values))
            return set(values)
        others = (json.loads(self._store.get(f"values/{k}")) for k in range(1, self.count))
        return set(values).union(*others)


def _of_connection(error: Exception) -> bool:
    """Whether an error says only that another process does not answer."""
    # gloo's have no type of their own; each names the file of gloo that raised it.
    return isinstance(error, dist.DistError) or "/gloo/" in str(error)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _other(words: dict[str, Any]) -> OtherProcessError:
    error = OtherProcessError(f"process {words['rank']}: {words['error']}")
    error.add_note(words["trace"])
    return error
