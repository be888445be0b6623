"""`python -m paper_repro.parameterization`: the factors of a parameterisation, as table or JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from fractions import Fraction

from rich.console import Console
from rich.table import Table

from paper_repro.command import command
from paper_repro.parameterization import (
    DRAWN,
    PARAMETERIZATIONS,
    Multipliers,
    Ratios,
    Scaling,
    multipliers,
)

HEADINGS = ("σ² (init)", "lr η", "ε", "decay λ", "1 - β1", "1 - β2")


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Print the factors; returns the exit code."""
    options = _parser().parse_args(argv)
    ratios = Ratios(
        options.width_ratio, options.depth_ratio, options.batch_ratio, options.token_ratio
    )
    scaling = Scaling(options.parameterization, ratios, options.alpha)
    factors = multipliers(scaling)
    if options.json:
        print(json.dumps(factors.as_json(), indent=2))
    else:
        _print(Console(), scaling, factors)
    return 0


def _print(console: Console, scaling: Scaling, factors: Multipliers) -> None:
    ratios = scaling.ratios
    table = Table(
        title=f"{scaling.parameterization}: factors on the base values\n"
        f"m_N = {ratios.N:g}, m_L = {ratios.L:g}, m_B = {ratios.B:g}, m_D = {ratios.D:g}, "
        f"α = {scaling.alpha:g}",
    )
    table.add_column("tensor class")
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    for tensor_class, by_quantity in factors.tensor_classes.items():
        cells = [
            "–" if name == "init_variance" and tensor_class not in DRAWN else f"{value:.6g}"
            for name, value in by_quantity.items()
        ]
        table.add_row(tensor_class, *cells)
    console.print(table)
    console.print(
        f"residual branches × {factors.residual:.6g}, logits × {factors.logits:.6g}, "
        f"steps × {factors.iterations:.6g}"
    )
    kappa = scaling.factor("one_minus_beta1", "hidden_weight")
    if kappa > 1:
        console.print(
            f"1 - β grows {kappa:g}-fold: the linear rule needs every base β above "
            f"{1 - 1 / kappa:.4g}; beyond that, use beta_rule: exponential (β^{kappa:g})."
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m paper_repro.parameterization",
        description="The factors a parameterisation puts on the base hyperparameters.",
        epilog="A ratio is target over base: --width-ratio 4 means four times the base width.",
    )
    parser.add_argument("--parameterization", choices=PARAMETERIZATIONS, default="complete_d")
    for name, symbol in (("width", "m_N"), ("depth", "m_L"), ("batch", "m_B"), ("token", "m_D")):
        parser.add_argument(
            f"--{name}-ratio", type=_positive, default=1.0, metavar="R", help=f"{symbol}, default 1"
        )
    parser.add_argument(
        "--alpha", type=_depth_exponent, default=1.0, help="depth exponent α in [0.5, 1], default 1"
    )
    parser.add_argument("--json", action="store_true", help="print factors as JSON")
    return parser


def _positive(text: str) -> float:
    try:
        value = float(Fraction(text))
    except (ValueError, ArithmeticError):
        value = 0.0
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be a number above 0, such as 4 or 1/8, got {text}")
    return value


def _depth_exponent(text: str) -> float:
    value = float(text)
    if not 0.5 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be in [0.5, 1], got {text}")
    return value


if __name__ == "__main__":
    raise SystemExit(main())
