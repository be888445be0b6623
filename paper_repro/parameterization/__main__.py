"""`python -m paper_repro.parameterization`: the factors of a parameterisation."""

from __future__ import annotations

import argparse
import json
from fractions import Fraction

from rich.console import Console
from rich.table import Table

from paper_repro.config import Parameterization
from paper_repro.parameterization.factors import Ratios
from paper_repro.parameterization.table import (
    COLUMNS,
    FORWARD,
    ITERATIONS,
    RULE_QUANTITIES,
    TENSOR_CLASSES,
    forward_rule,
    multipliers,
    rule_factor,
)


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


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m paper_repro.parameterization",
        description="The factors a parameterisation puts on the base hyperparameters.",
        epilog="A ratio is target over base: --width-ratio 4 means four times the base width.",
    )
    parser.add_argument("--parameterization", choices=COLUMNS, default="complete_d")
    for name, symbol in (("width", "m_N"), ("depth", "m_L"), ("batch", "m_B"), ("token", "m_D")):
        parser.add_argument(
            f"--{name}-ratio", type=_positive, default=1.0, metavar="R", help=f"{symbol}, default 1"
        )
    parser.add_argument(
        "--alpha", type=_depth_exponent, default=1.0, help="depth exponent α in [0.5, 1], default 1"
    )
    parser.add_argument("--json", action="store_true", help="print factors as JSON")
    options = parser.parse_args(arguments)
    ratios = Ratios(
        options.width_ratio, options.depth_ratio, options.batch_ratio, options.token_ratio
    )
    content = multipliers(options.parameterization, ratios, options.alpha)
    if options.json:
        print(json.dumps(content, indent=2))
    else:
        _print_table(options.parameterization, ratios, options.alpha, content)
    return 0


def _print_table(
    parameterization: Parameterization, ratios: Ratios, alpha: float, content: dict[str, object]
) -> None:
    console = Console()
    table = Table(
        title=f"{parameterization}: factors on the base values\n"
        f"m_N = {ratios.N:g}, m_L = {ratios.L:g}, m_B = {ratios.B:g}, m_D = {ratios.D:g}, "
        f"α = {alpha:g}",
    )
    table.add_column("tensor class")
    for heading in ("σ² (init)", "lr η", "ε", "decay λ", "1 - β1", "1 - β2"):
        table.add_column(heading, justify="right")
    for tensor_class in TENSOR_CLASSES:
        cells = []
        for quantity in RULE_QUANTITIES:
            value = rule_factor(quantity, tensor_class, parameterization, ratios, alpha)
            starts_fixed = quantity == "init_variance" and tensor_class.endswith(("norm", "bias"))
            cells.append("–" if starts_fixed else f"{value:.6g}")
        table.add_row(tensor_class, *cells)
    console.print(table)
    forward = {name: forward_rule(name, parameterization).at(ratios, alpha) for name in FORWARD}
    console.print(
        f"residual branches × {forward['residual']:.6g}, logits × {forward['logits']:.6g}, "
        f"steps × {ITERATIONS.at(ratios, alpha):.6g}"
    )
    kappa = rule_factor("one_minus_beta1", "hidden_weight", parameterization, ratios, alpha)
    if kappa > 1:
        console.print(
            f"1 - β grows {kappa:g}-fold: the linear rule needs every base β above "
            f"{1 - 1 / kappa:.4g}; beyond that, use beta_rule: exponential (β^{kappa:g})."
        )


if __name__ == "__main__":
    raise SystemExit(main())
