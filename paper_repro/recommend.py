"""`python -m paper_repro.recommend --from TUNED.yaml --to TARGET.yaml`: what a target should take.

The learning rate, batch and schedule of a target by its parameterisation; what published laws of
the optimum would have said; and how far the target lies beyond what was measured. The two files are
those of `python -m paper_repro.transfer`, which prints the numbers of every parameter.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from paper_repro.command import command
from paper_repro.config import RunConfig
from paper_repro.cost import matrix_parameters
from paper_repro.hyperparameters import resolve, scaling_of
from paper_repro.optimum_laws import BATCH_LAWS, RATE_LAWS, Law, Shape
from paper_repro.transfer import add_files, transferred

EPILOG = """\
The files are those of python -m paper_repro.transfer --help:

  python -m paper_repro.recommend --from analysis/results/tuned_global.yaml --to target.yaml

A law gives one learning rate for all tensors. Carried: by its exponents from the tuned rate of the
base, so that its advice hangs on what the base was tuned under. As published: from its formula
alone. What each costs at held-out targets is in docs/optimum_laws.md.

exit code: 0, or 2 if a file is wrong or the rules have no such target."""


class Range(NamedTuple):
    """Ratios to the base at which transfer was measured, one axis at a time."""

    low: float
    high: float

    def beyond(self, ratio: float) -> float:
        """Octaves by which a ratio is outside."""
        return max(0.0, math.log2(ratio / self.high), math.log2(self.low / ratio))


#: Our own studies (`analysis/results/optima.csv`), by the axis's letter in `Ratios`.
MEASURED = {
    "N": Range(1.0, 4.0),
    "L": Range(1 / 2, 8.0),
    "B": Range(1 / 8, 4.0),
    "D": Range(1 / 4, 4.0),
}
_AXES = {"N": "width", "L": "depth", "B": "batch size", "D": "tokens"}
#: Parameters in hidden matrices of the models on which laws were tried: ours, and the public grids.
SIZES = (Range(24_576, 786_432), Range(187_974_000, 1_241_270_000))

#: Schedules that do not end at `train.final_fraction` of their peak.
WITHOUT_FINAL_FRACTION = ("constant", "inverse_sqrt", "piecewise")


def shapes(config: RunConfig) -> tuple[Shape, Shape]:
    """What laws know of the base and of the target of a run, at one length of context."""
    scaling, model = config.scaling, config.model
    base = model.model_copy(update={"width": scaling.base_width, "depth": scaling.base_depth})
    context = config.data.context
    return (
        Shape(
            matrix_parameters(base),
            base.width,
            base.depth,
            scaling.base_tokens,
            scaling.base_batch_size * context,
        ),
        Shape(
            matrix_parameters(model),
            model.width,
            model.depth,
            config.train.tokens,
            config.tokens_per_step,
        ),
    )


def recommendation(config: RunConfig) -> dict[str, Any]:
    """All that is said of a target.

    Args:
        config: of the target, with the base (`paper_repro.transfer.transferred`).

    Returns:
        `rule`: the parameterisation, the peak learning rates of each tensor class (least and
        greatest over module types and blocks), the batch, the steps and the schedule;
        `learning_rates` and `batch_sizes`: what each law says (`carried`, and `as_published` or
        None; sequences); `measured`: for each axis the ratio, the range that was measured and the
        octaves beyond it; and the `size` of the target with the octaves to the nearest model on
        which laws were tried.

    Raises:
        ConfigError: as `paper_repro.hyperparameters.resolve`.
    """
    base, target = shapes(config)
    context = config.data.context
    return {
        "rule": {
            "parameterization": config.scaling.parameterization,
            "alpha": config.scaling.alpha,
            "learning_rates": _learning_rates(config),
            "batch_size": config.train.batch_size,
            "context": context,
            "tokens": config.train.tokens,
            "steps": config.steps,
            "schedule": _schedule(config),
        },
        "learning_rates": [
            _said(law, config.hyperparameters.lr, base, target) for law in RATE_LAWS
        ],
        "batch_sizes": [_said(law, base.batch, base, target, context) for law in BATCH_LAWS],
        "measured": _measured(config),
        "size": {
            "parameters": int(target.size),
            "octaves_beyond": min(each.beyond(target.size) for each in SIZES),
        },
    }


def _learning_rates(config: RunConfig) -> dict[str, list[float]]:
    resolved = resolve(config)
    rates: dict[str, list[float]] = {}
    for name, numbers in resolved.parameters.items():
        rates.setdefault(resolved.labels[name].tensor_class, []).append(numbers.lr)
    return {tensor_class: [min(each), max(each)] for tensor_class, each in rates.items()}


def _schedule(config: RunConfig) -> dict[str, Any]:
    train = config.train
    found: dict[str, Any] = {
        "name": train.schedule,
        "warmup_steps": round(train.warmup_fraction * config.steps),
    }
    if train.schedule not in WITHOUT_FINAL_FRACTION:
        found["final_fraction"] = train.final_fraction
    if train.schedule == "wsd":
        found["decay_steps"] = round(train.decay_fraction * config.steps)
    return found


def _said(law: Law, tuned: float, base: Shape, target: Shape, unit: int = 1) -> dict[str, Any]:
    published = None if law.factor is None else law.at(target) / unit
    return {
        "law": law.name,
        "source": law.source,
        "carried": law.carried(tuned, base, target) / unit,
        "as_published": published,
    }


def _measured(config: RunConfig) -> dict[str, dict[str, Any]]:
    ratios = scaling_of(config).ratios
    return {
        _AXES[axis]: {
            "ratio": getattr(ratios, axis),
            "measured": list(range_),
            "octaves_beyond": range_.beyond(getattr(ratios, axis)),
        }
        for axis, range_ in MEASURED.items()
    }


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Print what a target should take; returns the exit code."""
    options = _parser().parse_args(argv)
    found = recommendation(transferred(options.tuned, options.to))
    if options.json:
        print(json.dumps(found, indent=2, allow_nan=False))
    else:
        _print(Console(), found)
    return 0


def _print(console: Console, found: dict[str, Any]) -> None:
    rule = found["rule"]
    console.print(f"{rule['parameterization']}, α = {rule['alpha']:g}:", highlight=False)
    table = _table("tensor class", "peak η")
    for tensor_class, (low, high) in rule["learning_rates"].items():
        text = f"{low:.4g}" if math.isclose(low, high) else f"{low:.4g} … {high:.4g}"
        table.add_row(tensor_class, text)
    console.print(table)
    for line in (_batch_line(rule), _schedule_line(rule), ""):
        console.print(line, highlight=False)
    table = _table("other laws, one η", "source", "carried", "as published")
    _add_laws(table, found["learning_rates"], ".4g")
    console.print(table)
    console.print()
    table = _table("laws of the batch, sequences", "source", "carried", "as published")
    _add_laws(table, found["batch_sizes"], ".3g")
    console.print(table)
    console.print()
    for line in _measured_lines(found):
        console.print(line, highlight=False, soft_wrap=True)


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if index else "left", no_wrap=True)
    return table


def _add_laws(table: Table, laws: list[dict[str, Any]], form: str) -> None:
    for law in laws:
        published = law["as_published"]
        cells = (f"{law['carried']:{form}}", "" if published is None else f"{published:{form}}")
        table.add_row(law["law"], law["source"], *cells)


def _batch_line(rule: dict[str, Any]) -> str:
    return (
        f"batch {rule['batch_size']} x {rule['context']} tokens, "
        f"{rule['steps']:,} steps, {rule['tokens']:,} tokens"
    )


def _schedule_line(rule: dict[str, Any]) -> str:
    schedule = rule["schedule"]
    parts = [f"{schedule['name']} schedule", f"{schedule['warmup_steps']:,} steps of warm-up"]
    if "decay_steps" in schedule:
        parts.append(f"decay over the last {schedule['decay_steps']:,}")
    if "final_fraction" in schedule:
        parts.append(f"to {schedule['final_fraction']:.3g} of the peak")
    return ", ".join(parts)


def _measured_lines(found: dict[str, Any]) -> Iterator[str]:
    """One line an axis, then the size."""
    for axis, each in found["measured"].items():
        low, high = each["measured"]
        far = _beyond(each["octaves_beyond"])
        yield f"{axis}: {each['ratio']:g} x the base, measured {low:g} to {high:g}: {far}"
    size = found["size"]
    yield (
        f"size: {size['parameters']:,} parameters without embeddings, laws tried on "
        + " and ".join(f"{each.low:,} to {each.high:,}" for each in SIZES)
        + f": {_beyond(size['octaves_beyond'])}"
    )
    if sum(each["ratio"] != 1 for each in found["measured"].values()) > 1:
        yield "several axes at once: the best rate was measured along one at a time"


def _beyond(octaves: float) -> str:
    return f"{octaves:.1f} octaves beyond" if octaves else "within"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m paper_repro.recommend",
        description="The learning rate, batch and schedule of a target by its parameterisation, "
        "what published laws would have said, and how far it lies beyond what was measured.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_files(parser)
    parser.add_argument("--json", action="store_true", help="print it for a program")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
