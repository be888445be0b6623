"""`python -m paper_repro.noise_scale`: the gradient noise scale of a run, while it trains.

The simple noise scale of McCandlish et al. (arXiv 1812.06162) is tr Σ / |G|², where G is the mean
gradient and Σ the covariance of the gradients of single sequences: the batch size, in sequences, at
which noise and signal in a gradient are equal. Far below it gradients are mostly noise, which is
what the rules for batch size and duration assume (arXiv 2205.10287); far above, mostly signal.

Both are estimated without bias from the gradients of n sequences at the same weights: with s the
mean of their squared norms and m the squared norm of their mean, tr Σ = n (s − m) / (n − 1) and
|G|² = (n m − s) / (n − 1).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Column, Table
from torch import Tensor, nn

from paper_repro.apply.factory import logits_of
from paper_repro.command import command
from paper_repro.config import Execution, RunConfig, parse_run_config
from paper_repro.files import merged, read_yaml
from paper_repro.model import losses
from paper_repro.paths import given_path
from paper_repro.training import Observer, train
from paper_repro.training.observer import RunStart

EPILOG = """\
RUN.yaml has parts of a run, as base files of sweeps do; of several, each goes over the one before:

  python -m paper_repro.noise_scale sweeps/bases/proxy.yaml analysis/results/tuned_global.yaml

exit code: 0, or 2 if a file or argument is wrong."""

#: The seed of the sequences that are measured, apart from that of any run.
_SEED = 2**31 - 1


@dataclass(frozen=True)
class NoiseScale:
    """What was measured at a point of a run."""

    step: int
    """Updates made before."""
    tokens: int
    """Trained on before."""
    loss: float
    """Mean cross-entropy of the measured sequences, nats a token."""
    signal: float
    """|G|², the squared norm of the mean gradient; an estimate may be below 0."""
    noise: float
    """tr Σ, of the gradients of single sequences."""

    @property
    def sequences(self) -> float:
        """tr Σ / |G|²; infinite where no signal was found."""
        return self.noise / self.signal if self.signal > 0 else math.inf


def noise_and_signal(gradients: Iterable[Sequence[Tensor]]) -> tuple[float, float]:
    """tr Σ and |G|², without bias.

    Args:
        gradients: of at least two sequences, each over all parameters.
    """
    count, squares, total = 0, 0.0, None
    for one in gradients:
        squares += sum(float(each.double().square().sum()) for each in one)
        total = (
            [each.double() for each in one]
            if total is None
            else [sum_ + each for sum_, each in zip(total, one, strict=True)]
        )
        count += 1
    if total is None or count < 2:
        raise ValueError(f"the gradients of {count} sequences: expected at least 2")
    mean = squares / count
    of_mean = sum(float(each.square().sum()) for each in total) / count**2
    return count * (mean - of_mean) / (count - 1), (count * of_mean - mean) / (count - 1)


class NoiseObserver(Observer):
    """Measures the noise scale at some steps of a run, and leaves the run as it is."""

    watches = True

    def __init__(self, points: int, sequences: int) -> None:
        """Measure at evenly spaced steps, after the first twentieth.

        Args:
            points: how many steps.
            sequences: whose gradients are taken at each, the same at all.
        """
        self.points, self.sequences = points, sequences
        self.found: list[NoiseScale] = []

    def start(self, start: RunStart) -> None:
        config = start.config
        self._steps = {
            round(config.steps * (0.05 + 0.95 * k / max(1, self.points - 1))) - (k > 0)
            for k in range(self.points)
        }
        self._tokens = config.tokens_per_step
        self._batch = start.dataset.training_batch(_SEED, 0, self.sequences).to(start.device)

    def gradients(self, model: nn.Module, step: int) -> None:
        if step not in self._steps:
            return
        parameters = list(model.parameters())
        seen: list[float] = []

        def of_single_sequences() -> Iterable[list[Tensor]]:
            for sequence in self._batch:
                loss, _ = losses(partial(logits_of, model), sequence[None])
                seen.append(float(loss.detach()))
                yield list(torch.autograd.grad(loss, parameters))

        noise, signal = noise_and_signal(of_single_sequences())
        mean = sum(seen) / len(seen)
        self.found.append(NoiseScale(step, step * self._tokens, mean, signal, noise))


def measure(config: RunConfig, points: int = 6, sequences: int = 128) -> list[NoiseScale]:
    """Train a run, and measure its noise scale at evenly spaced steps.

    Args:
        points: how many steps, from a twentieth of the run to its end.
        sequences: of the training text, whose gradients are taken one by one.

    Raises:
        ConfigError: the run cannot be trained.
    """
    observer = NoiseObserver(points, sequences)
    train(config, Execution(runs_at_once=1), observer)
    return observer.found


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Print the noise scale of a run; returns the exit code."""
    options = _parser().parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 100)
    config = _config(options.files)
    with console.status("training ..."):
        found = measure(config, options.points, options.sequences)
    if options.json:
        rows = [asdict(each) | {"sequences": each.sequences} for each in found]
        print(json.dumps({"batch_size": config.train.batch_size, "points": rows}, indent=2))
        return 0
    console.print(_table(config, found))
    return 0


def _config(files: Sequence[Path]) -> RunConfig:
    content: object = {}
    for path in files:
        part = read_yaml(path)
        parse_run_config(part, str(path))  # by itself, for an error that names the file
        content = merged(content, part)
    return parse_run_config(content, ", ".join(map(str, files)))


def _table(config: RunConfig, found: list[NoiseScale]) -> Table:
    batch = config.train.batch_size
    table = Table(
        *(Column(name, justify="right") for name in ("step", "tokens", "loss")),
        *(Column(name, justify="right") for name in ("noise scale", "batch over it")),
        "gradients of a batch are",
        title=f"noise scale in sequences of {config.data.context} tokens; batch size {batch}",
    )
    for each in found:
        share = batch / each.sequences
        table.add_row(
            *(str(each.step), f"{each.tokens:,}", f"{each.loss:.3f}"),
            *(f"{each.sequences:.1f}", f"{share:.2g}"),
            "mostly noise" if share < 0.5 else "mostly signal" if share > 2 else "both",
        )
    return table


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 2, got {text}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m paper_repro.noise_scale",
        description="Train a run and measure its gradient noise scale: is a batch mostly noise?",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "files", nargs="+", type=given_path, metavar="RUN.yaml", help="parts of a run configuration"
    )
    add("--points", type=_count, default=6, help="steps at which it is measured (default: 6)")
    add("--sequences", type=_count, default=128, help="whose gradients are taken (default: 128)")
    add("--json", action="store_true", help="print JSON")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
