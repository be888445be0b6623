"""What a run costs, from its shapes alone (free of torch): parameters, FLOPs, memory, time."""

from __future__ import annotations

from dataclasses import dataclass

from paper_repro.config import Execution, ModelConfig, RunConfig, logits_parts

STATE_BYTES = 16
"""Bytes of a parameter in training: weight, gradient and Adam's two moments, in float32."""
CPU_PROCESS_BYTES = 350e6
"""Memory of a process that trains on a CPU, before the first parameter (torch 2.13)."""
GPU_PROCESS_BYTES = 4e9
"""Host memory of a process that trains on a GPU. Never measured."""
GPU_BYTES = 80e9
"""Memory of a GPU of a data centre, for estimates where it is not known."""
MEMORY_SHARE = 0.8
"""Share of a GPU's free memory that the runs trained at once may be estimated to need."""
AT_ONCE = 128
"""Runs at once, at most: beyond some thousands of sequences a step a GPU is busy anyway."""
LOGITS_COPIES = 4
"""Tensors of the size of the logits that the loss of one part has at a time: the logits, their
log-softmax, and the gradients of both."""


@dataclass(frozen=True)
class Counts:
    """What of a model decides the cost of training it."""

    parameters: int
    multiplied: int
    """Weights that multiply the activations of every token: all matrices but the embedding."""
    attention: int
    """Heads times their size, summed over blocks."""
    vocabulary: int
    """Tokens that it has logits of."""


def counts(model: ModelConfig, vocab_size: int) -> Counts:
    """Those of our GPT; `paper_repro.apply.factory.count` has those of other models."""
    multiplied = matrix_parameters(model) + vocab_size * model.width
    total = parameters(model, vocab_size)
    return Counts(total, multiplied, model.depth * model.width, vocab_size)


def matrix_parameters(model: ModelConfig) -> int:
    """Weights of the hidden matrices, in all blocks."""
    matrices_of_mlp = 3 if model.mlp == "swiglu" else 2
    return model.depth * model.width**2 * (4 + matrices_of_mlp * model.mlp_ratio)


def parameters(model: ModelConfig, vocab_size: int) -> int:
    """All parameters: embeddings, matrices, gains and biases."""
    gains = model.depth * (2 * model.width + (2 * model.head_dim if model.qk_norm else 0))
    biases = 0
    if model.biases:
        wide = 2 if model.mlp == "swiglu" else 1
        biases = model.depth * model.width * (5 + wide * model.mlp_ratio)
    embeddings = 2 * vocab_size * model.width
    return embeddings + matrix_parameters(model) + gains + biases + model.width


def train_flops(config: RunConfig, counted: Counts) -> float:
    """FLOPs of the matrix products of a run's training steps.

    A forward pass has, for one token, two a weight that multiplies, and 4 · context · heads · head
    size a block for attention's two products (the causal half is not discounted, as is usual). A
    backward pass counts as two forward passes.
    """
    forward = 2.0 * counted.multiplied + 4.0 * config.data.context * counted.attention
    return 3 * forward * config.steps * config.tokens_per_step


def estimated_cpu_seconds(config: RunConfig, counted: Counts) -> float:
    """Rough time of a run on one core of a current server, within a factor of two or so.

    Matrix products at 70 GFLOP/s, plus what norms, activations and the optimiser cost: about
    6 µs a token and block, and 0.2 ns a parameter and step.
    """
    tokens = config.steps * config.tokens_per_step
    elementwise = 6e-6 * config.model.depth * tokens
    optimiser = 2e-10 * counted.parameters * config.steps
    return train_flops(config, counted) / 7e10 + elementwise + optimiser


def estimated_gpu_seconds(config: RunConfig, counted: Counts, at_once: int = 1) -> float:
    """Rough time of a run on one GPU of a data centre, in seconds.

    Matrix products at 10 TFLOP/s, which is half of an A100's float32 peak by its data sheet; but at
    least 3 ms a step and 1.5 ms a block and step, for launching small kernels one by one, which the
    `at_once` runs that train as one program share. An H200 took less than half of it in bfloat16
    (docs/performance.md).
    """
    launches = config.steps * (3e-3 + 1.5e-3 * config.model.depth) / at_once
    return max(train_flops(config, counted) / 1e13, launches)


def activation_bytes(model: ModelConfig, tokens: int, vocab_size: int) -> float:
    """Bytes that a forward pass over some tokens keeps for the backward pass, in float32.

    Within 5 % of what autograd was seen to save, for widths 64 to 1024 and depths 2 to 16, with and
    without QK norm, GELU and SwiGLU, contexts to 512 (attention is fused: nothing is quadratic).
    Logits and
    their log-softmax are kept where the loss is not computed in parts.
    """
    branches = (4 if model.mlp == "swiglu" else 2) * model.mlp_ratio
    of_block = (14 if model.qk_norm else 10) + branches
    hidden = 4.0 * tokens * model.width * (model.depth * of_block + 3)
    return hidden if _in_parts(model, tokens, vocab_size) else hidden + 8.0 * tokens * vocab_size


def part_bytes(model: ModelConfig, tokens: int, vocab_size: int) -> float:
    """Bytes that the loss of one part passes through in the backward pass; 0 without parts."""
    if not _in_parts(model, tokens, vocab_size):
        return 0.0
    return LOGITS_COPIES * 4.0 * tokens * vocab_size / logits_parts(tokens, vocab_size)


def _in_parts(model: ModelConfig, tokens: int, vocab_size: int) -> bool:
    """Whether the loss is (`paper_repro.model.loss`): not of a model that gives all its logits."""
    return model.factory is None and logits_parts(tokens, vocab_size) > 1


def process_bytes(
    config: RunConfig, counted: Counts, processes: int, execution: Execution
) -> float:
    """Bytes on the device of each of the processes that train a run together, in float32.

    With `ddp` each has all parameters with their state; with `fsdp` its share, and beside it what
    is gathered at the same time: the weights and gradients of all that is outside the blocks, and
    of two blocks (the next is gathered while one computes). Activations are those of its rows, or
    of a part of them where it accumulates; where it recomputes, the inputs of all blocks and the
    rest of one; beside them the logits of the part of which the loss is computed. With bfloat16
    they are fewer, but autocast keeps a copy of the weights, 2 bytes a parameter; peaks on an H200
    were 0.70 to 0.90 of this.
    """
    model = config.model
    state: float = STATE_BYTES * counted.parameters
    if execution.parallel == "fsdp":
        outside = 2 * counted.vocabulary * model.width + model.width
        blocks = min(2, model.depth) * matrix_parameters(model) / model.depth
        state = state / processes + 2 * 4 * (outside + blocks)
    rows = -(-config.train.batch_size // (processes * (execution.accumulate or 1)))
    tokens = rows * config.data.context
    state += part_bytes(model, tokens, counted.vocabulary)
    if not execution.recompute:
        return state + activation_bytes(model, tokens, counted.vocabulary)
    inputs = 4.0 * tokens * model.width * model.depth
    one_block = model.model_copy(update={"depth": 1})
    return state + inputs + activation_bytes(one_block, tokens, counted.vocabulary)


def fitting_runs(config: RunConfig, counted: Counts, execution: Execution, free: float) -> int:
    """How many runs train at once on a GPU with `free` bytes of memory: at least one is tried."""
    needed = process_bytes(config, counted, 1, execution)
    return min(AT_ONCE, max(1, int(MEMORY_SHARE * free / needed)))


def fitting_parts(
    config: RunConfig, counted: Counts, processes: int, execution: Execution, gpu_bytes: float
) -> int:
    """Into how many equal parts the batch of each process is divided, so that a run fits.

    As few as let it be estimated to need no more than `MEMORY_SHARE` of a GPU; single sequences
    where even they need more.

    Args:
        processes: number of those that train a run together.
        gpu_bytes: memory of each one's GPU.
    """
    rows = -(-config.train.batch_size // processes)
    for parts in (parts for parts in range(1, rows) if rows % parts == 0):
        divided = execution.model_copy(update={"accumulate": parts})
        if process_bytes(config, counted, processes, divided) <= MEMORY_SHARE * gpu_bytes:
            return parts
    return rows


def estimated_cpu_bytes(config: RunConfig, counted: Counts) -> float:
    """Peak memory of a process that trains a run on a CPU.

    Activations count twice, for what the allocator of glibc keeps. Measured peaks, with one thread,
    were 405 MB for 2 blocks of width 64 on 16 x 128 bytes, 824 MB for width 128 on 16 x 512,
    3340 MB for 16 blocks of that, 2049 MB for 4 of width 512 on 16 x 256, and, with its logits in
    two parts, 2096 MB for 2 of width 128 on 32 x 512 tokens of a vocabulary of 8192; the estimate
    was within 8 % of each.
    """
    activations = activation_bytes(config.model, config.tokens_per_step, counted.vocabulary)
    return CPU_PROCESS_BYTES + process_bytes(config, counted, 1, Execution()) + activations


def estimated_host_bytes(counted: Counts) -> float:
    """Peak memory on the host of a process that trains a run on a GPU. Never measured.

    A checkpoint passes through the host, and may be there whole.
    """
    return GPU_PROCESS_BYTES + STATE_BYTES * counted.parameters
