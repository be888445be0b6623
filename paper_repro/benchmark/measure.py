"""Tokens a second of one variant at one shape, each measured in a process of its own.

So threads, caches and peak memory are those of that variant alone. Time counts from when the first
steps are over: compilation, allocation and the reading of data are before.
"""

from __future__ import annotations

import multiprocessing
import time
import timeit
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Barrier
from typing import Any, Literal

import torch

from paper_repro.benchmark.plain import PlainGPT, step
from paper_repro.config import Execution, RunConfig
from paper_repro.cost import counts, train_flops
from paper_repro.data import load_dataset
from paper_repro.training import Trainer
from paper_repro.training.devices import choose_device, device_name, peak_memory

Variant = Literal["bundled", "single", "compiled plain", "plain"]

RUN_TOKENS = 589_824
"""Length of a run whose runs an hour are counted."""
WARMUP_STEPS = 8  # a step is captured in a CUDA graph at its fourth
MIN_STEPS = 4
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12}
"""Dense bfloat16 peaks, from NVIDIA's data sheets."""


@dataclass(frozen=True)
class Case:
    """What is trained, in what way, and for how long."""

    variant: Variant
    config: RunConfig
    """Longer than can be trained in the time."""
    execution: Execution
    workers: int
    """Processes that train runs of the bundle at once; only `bundled` has several, on a CPU."""
    runs: int
    """Runs that a worker is given; only `bundled` has several, on a GPU."""
    seconds: float
    """Time measured, after the warm-up."""


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


def measure(case: Case, peak: float) -> dict[str, Any]:
    """Measure one variant; a row of the table.

    Its `runs_per_hour` are without start-up and evaluations, `mfu` is model FLOPs a second over the
    device's peak, `peak_bytes` are those of all processes (resident on a CPU, allocated on a GPU),
    and `runs_at_once` says how many of a worker's runs trained as one program.

    Args:
        peak: FLOPs a second of the device.
    """
    context = multiprocessing.get_context("forkserver")
    # torch takes seconds to import
    context.set_forkserver_preload(["paper_repro.training.trainer"])
    with context.Manager() as manager, ProcessPoolExecutor(case.workers, context) as pool:
        work = partial(_work, case, manager.Barrier(case.workers))
        measured = list(pool.map(work, range(case.workers)))
    config, execution = case.config, case.execution
    counted = counts(config.model, load_dataset(config.data).vocab_size)
    run_steps_per_s = sum(steps_per_s * runs for steps_per_s, runs, _ in measured)
    tokens_per_s = run_steps_per_s * config.tokens_per_step
    flops_per_token = train_flops(config, counted) / (config.steps * config.tokens_per_step)
    return {
        "width": config.model.width,
        "depth": config.model.depth,
        "variant": case.variant,
        "tokens_per_s": tokens_per_s,
        "runs_per_hour": tokens_per_s * 3600 / RUN_TOKENS,
        "mfu": tokens_per_s * flops_per_token / peak,
        "peak_bytes": sum(peak_bytes for *_, peak_bytes in measured),
        "device": device_name(choose_device(execution.device)),
        "parameters": counted.parameters,
        "flops_per_token": flops_per_token,
        "context": config.data.context,
        "batch_size": config.train.batch_size,
        "compiled": execution.compile,
        "dtype": execution.dtype,
        "workers": case.workers,
        "runs_at_once": measured[0][1],
        "threads": execution.threads,
    }


def peak_flops(device_type: str, dtype: str) -> float:
    """FLOPs a second of the device: a data sheet's, else those of a large matrix product."""
    device = torch.device(device_type)
    if device.type == "cuda" and dtype == "bfloat16":
        known = [peak for part, peak in PEAK_FLOPS.items() if part in device_name(device)]
        if known:
            return known[0]
    matrix = torch.randn(2048, 2048, device=device, dtype=getattr(torch, dtype))
    times = timeit.repeat(lambda: (matrix @ matrix).sum().item(), number=1, repeat=10)
    return 2 * 2048**3 / min(times)


def _work(case: Case, barrier: Barrier, worker: int) -> tuple[float, int, int]:
    """Steps a second, runs at once and peak memory of one process."""
    device = choose_device(case.execution.device)
    stopwatch = Stopwatch(barrier, case.seconds, device)
    seeds = range(worker * case.runs, (worker + 1) * case.runs)
    configs = [case.config.model_copy(update={"seed": seed}) for seed in seeds]
    if case.variant in ("plain", "compiled plain"):
        runs_at_once = _plain(configs[0], case.execution, stopwatch)
    else:
        runs_at_once = _suite(configs, case.execution, stopwatch)
    return stopwatch.steps_per_second, runs_at_once, peak_memory(device)


def _suite(configs: list[RunConfig], execution: Execution, stop: Callable[[], bool]) -> int:
    """The suite's own way; how many runs trained at once."""
    trainer = Trainer(configs[0], execution)
    outcomes = trainer.fit(configs[: trainer.runs_at_once], should_stop=stop)
    if any(outcomes):
        raise RuntimeError(f"a run ended before it was measured: {outcomes}")
    return len(outcomes)


def _plain(config: RunConfig, execution: Execution, stop: Callable[[], bool]) -> int:
    """One run by the plain loop."""
    torch.set_num_threads(execution.threads)
    dataset, model, device = load_dataset(config.data), config.model, torch.device(execution.device)
    shape = (dataset.vocab_size, model.width, model.depth, model.head_dim, config.data.context)
    gpt = PlainGPT(*shape).to(device)
    if execution.compile:
        gpt.compile()
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=1e-3)
    for number in range(config.steps):
        batch = dataset.training_batch(config.seed, number, config.train.batch_size)
        loss = step(gpt, optimizer, batch.to(device))
        if number % 10 == 0:
            loss.item()  # as everyone logs
        if stop():
            return 1
    raise RuntimeError("the run ended before it was measured")
