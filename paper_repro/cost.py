"""What a run costs, from its shapes alone (free of torch): parameters, FLOPs, CPU time."""

from __future__ import annotations

from paper_repro.config import ModelConfig, RunConfig


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


def forward_flops_per_token(model: ModelConfig, context: int, vocab_size: int) -> float:
    """FLOPs of the matrix products of a forward pass, for one token.

    Two a weight that multiplies, and 4 · context · width a block for attention's two products
    (the causal half is not discounted, as is usual).
    """
    weights = matrix_parameters(model) + vocab_size * model.width
    return 2.0 * weights + 4.0 * model.depth * context * model.width


def train_flops(config: RunConfig, vocab_size: int) -> float:
    """FLOPs of a run's training steps; a backward pass counts as two forward passes."""
    per_token = 3 * forward_flops_per_token(config.model, config.data.context, vocab_size)
    return per_token * config.steps * config.tokens_per_step


def estimated_cpu_seconds(config: RunConfig, vocab_size: int) -> float:
    """Rough time of a run on one core of a current server, within a factor of two or so.

    Matrix products at 70 GFLOP/s, plus what norms, activations and the optimiser cost: about
    6 µs a token and block, and 0.2 ns a parameter and step.
    """
    tokens = config.steps * config.tokens_per_step
    elementwise = 6e-6 * config.model.depth * tokens
    optimiser = 2e-10 * parameters(config.model, vocab_size) * config.steps
    return train_flops(config, vocab_size) / 7e10 + elementwise + optimiser
