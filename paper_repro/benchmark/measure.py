"""Tokens a second of one variant at one shape, each measured in a process of its own.

So threads, caches and peak memory are those of that variant alone. Time counts from when the first
steps are over: compilation, allocation and the reading of data are before.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.queues
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.synchronize import Barrier
from typing import Any, Literal

import torch

from paper_repro.config import Execution, RunConfig
from paper_repro.cost import parameters, train_flops
from paper_repro.data import load_dataset
from paper_repro.training import Trainer
from paper_repro.training.devices import choose_device, device_name, peak_memory

Variant = Literal["bundled", "single", "plain"]

RUN_TOKENS = 589_824
"""Length of a run whose runs an hour are counted."""
WARMUP_STEPS = 8  # a step is captured in a CUDA graph at its fourth
MIN_STEPS = 4
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12}
"""Dense bfloat16 peaks, from NVIDIA's data sheets."""


@dataclass(frozen=True)
class Shape:
    """What is trained, in what way, and for how long."""

    config: RunConfig
    """Longer than can be trained in the time."""
    execution: Execution
    workers: int
    """Processes that train runs of the bundle at once; only `bundled` has several, on a CPU."""
    runs: int
    """Runs that a worker is given; only `bundled` has several, on a GPU."""
    seconds: float
    """Time measured, after the warm-up."""


@dataclass(frozen=True)
class Measurement:
    """A row of the table."""

    width: int
    depth: int
    variant: Variant
    tokens_per_s: float
    runs_per_hour: float
    """Runs of `RUN_TOKENS`; without start-up and evaluations."""
    mfu: float
    """Model FLOPs a second over the device's peak."""
    peak_bytes: int
    """Peak memory of all processes: resident on a CPU, allocated on a GPU."""
    device: str
    parameters: int
    flops_per_token: float
    context: int
    batch_size: int
    compiled: bool
    dtype: str
    workers: int
    runs_at_once: int
    """How many of a worker's runs trained as one program."""
    threads: int

    def row(self) -> dict[str, Any]:
        """The fields as plain data."""
        return asdict(self)


class Stopwatch:
    """Counts the steps of a training; called after each, it returns whether enough were seen."""

    def __init__(self, barrier: Barrier, seconds: float, device: torch.device) -> None:
        self._barrier, self._seconds, self._device = barrier, seconds, device
        self._steps, self._started = -WARMUP_STEPS, 0.0
        self.steps_per_second = 0.0

    def __call__(self) -> bool:
        self._steps += 1
        if self._steps == 0:
            self._wait()
            self._barrier.wait()  # no process measures while another still compiles
            self._started = time.perf_counter()
        if self._steps < MIN_STEPS or time.perf_counter() - self._started < self._seconds:
            return False
        self._wait()
        self.steps_per_second = self._steps / (time.perf_counter() - self._started)
        return True

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def measure(variant: Variant, shape: Shape, peak: float) -> Measurement:
    """Measure one variant.

    Args:
        peak: FLOPs a second of the device.

    Raises:
        RuntimeError: a process ended without a measurement.
    """
    context = multiprocessing.get_context("forkserver")
    # torch takes seconds to import
    context.set_forkserver_preload(["paper_repro.training.trainer"])
    barrier, results = context.Barrier(shape.workers), context.SimpleQueue()
    processes = [
        context.Process(target=_work, args=(variant, shape, seed, barrier, results))
        for seed in range(shape.workers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            raise RuntimeError(f"{variant} at width {shape.config.model.width} failed (see above)")
    measured = [results.get() for _ in processes]
    config = shape.config
    vocabulary = load_dataset(config.data).vocab_size
    run_steps_per_s = sum(done.steps_per_second * done.runs_at_once for done in measured)
    tokens_per_s = run_steps_per_s * config.tokens_per_step
    flops_per_token = train_flops(config, vocabulary) / (config.steps * config.tokens_per_step)
    return Measurement(
        width=config.model.width,
        depth=config.model.depth,
        variant=variant,
        tokens_per_s=tokens_per_s,
        runs_per_hour=tokens_per_s * 3600 / RUN_TOKENS,
        mfu=tokens_per_s * flops_per_token / peak,
        peak_bytes=sum(done.peak_bytes for done in measured),
        device=device_name(choose_device(shape.execution.device)),
        parameters=parameters(config.model, vocabulary),
        flops_per_token=flops_per_token,
        context=config.data.context,
        batch_size=config.train.batch_size,
        compiled=shape.execution.compile and variant != "plain",
        dtype=shape.execution.dtype,
        workers=shape.workers,
        runs_at_once=measured[0].runs_at_once,
        threads=shape.execution.threads,
    )


def peak_flops(device_type: str, dtype: str) -> float:
    """FLOPs a second of the device: a data sheet's, else those of a large matrix product."""
    device = torch.device(device_type)
    if device.type == "cuda" and dtype == "bfloat16":
        name = device_name(device)
        for part, peak in PEAK_FLOPS.items():
            if part in name:
                return peak
    matrix = torch.randn(2048, 2048, device=device, dtype=getattr(torch, dtype))
    best = float("inf")
    for _ in range(10):
        started = time.perf_counter()
        (matrix @ matrix).sum().item()
        best = min(best, time.perf_counter() - started)
    return 2 * 2048**3 / best


@dataclass(frozen=True)
class Done:
    """What a worker saw."""

    steps_per_second: float
    runs_at_once: int
    peak_bytes: int


def _work(
    variant: Variant,
    shape: Shape,
    worker: int,
    barrier: Barrier,
    results: multiprocessing.queues.SimpleQueue[Done],
) -> None:
    device = choose_device(shape.execution.device)
    stopwatch = Stopwatch(barrier, shape.seconds, device)
    configs = [
        shape.config.model_copy(update={"seed": worker * shape.runs + run})
        for run in range(shape.runs)
    ]
    train = _plain if variant == "plain" else _suite
    runs_at_once = train(configs, shape.execution, stopwatch)
    results.put(Done(stopwatch.steps_per_second, runs_at_once, peak_memory(device)))


def _suite(configs: list[RunConfig], execution: Execution, stop: Callable[[], bool]) -> int:
    """The suite's own way; how many runs trained at once."""
    trainer = Trainer(configs[0], execution)
    outcomes = trainer.fit(configs[: trainer.runs_at_once], should_stop=stop)
    if any(outcomes):
        raise RuntimeError(f"a run ended before it was measured: {outcomes}")
    return len(outcomes)


def _plain(configs: list[RunConfig], execution: Execution, stop: Callable[[], bool]) -> int:
    """One run by the plain loop."""
    from paper_repro.benchmark.plain import PlainGPT, step

    torch.set_num_threads(execution.threads)
    (config,) = configs
    dataset, model, device = (
        load_dataset(config.data),
        config.model,
        choose_device(execution.device),
    )
    gpt = PlainGPT(
        dataset.vocab_size, model.width, model.depth, model.head_dim, config.data.context
    ).to(device)
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=1e-3)
    for number in range(config.steps):
        batch = dataset.training_batch(config.seed, number, config.train.batch_size)
        loss = step(gpt, optimizer, batch.to(device))
        if number % 10 == 0:
            loss.item()  # as everyone logs
        if stop():
            return 1
    raise RuntimeError("the run ended before it was measured")
