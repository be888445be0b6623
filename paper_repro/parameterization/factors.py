"""Symbolic factors: products of powers of the ratios m_N, m_L, m_B, m_D.

With these the rule table is written as it is printed in the paper: `1 / N * L ** (ALPHA - 1)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Literal

Symbol = Literal["N", "L", "B", "D"]
SYMBOLS: tuple[Symbol, ...] = ("N", "L", "B", "D")


@dataclass(frozen=True)
class Ratios:
    """Target over base, of width (m_N), depth (m_L), batch size (m_B) and training tokens (m_D)."""

    N: float = 1.0
    L: float = 1.0
    B: float = 1.0
    D: float = 1.0

    def __post_init__(self) -> None:
        for symbol in SYMBOLS:
            if not getattr(self, symbol) > 0:
                raise ValueError(f"m_{symbol}: expected above 0 (got {getattr(self, symbol)})")


@dataclass(frozen=True)
class Exponent:
    """`constant + slope * α`."""

    constant: Fraction = Fraction(0)
    slope: Fraction = Fraction(0)

    def __add__(self, other: Exponent | int) -> Exponent:
        other = _exponent(other)
        return Exponent(self.constant + other.constant, self.slope + other.slope)

    def __sub__(self, other: Exponent | int) -> Exponent:
        return self + -_exponent(other)

    def __neg__(self) -> Exponent:
        return Exponent(-self.constant, -self.slope)

    def scaled(self, by: Fraction) -> Exponent:
        return Exponent(self.constant * by, self.slope * by)

    def at(self, alpha: float) -> float:
        constant, slope = self._floats
        return constant + slope * alpha

    @cached_property
    def _floats(self) -> tuple[float, float]:
        """Converted once: plans resolve thousands of runs."""
        return float(self.constant), float(self.slope)

    def __bool__(self) -> bool:
        return self != Exponent()

    def __str__(self) -> str:
        alpha = {0: "", 1: "α", -1: "−α"}.get(self.slope, f"{self.slope}α")  # type: ignore[call-overload]
        if not self.constant:
            return alpha or "0"
        constant = str(self.constant).replace("-", "−")
        return f"({alpha}{'' if self.constant < 0 else '+'}{constant})" if alpha else constant


def _exponent(value: Exponent | Fraction | int) -> Exponent:
    return value if isinstance(value, Exponent) else Exponent(Fraction(value))


ALPHA = Exponent(slope=Fraction(1))
"""The depth exponent α, as a symbol."""


@dataclass(frozen=True)
class Factor:
    """A product of powers of the four ratios; `ONE`, `N`, `L`, `B`, `D` are the atoms."""

    N: Exponent = Exponent()
    L: Exponent = Exponent()
    B: Exponent = Exponent()
    D: Exponent = Exponent()

    def __mul__(self, other: Factor) -> Factor:
        return Factor(*(getattr(self, s) + getattr(other, s) for s in SYMBOLS))

    def __truediv__(self, other: Factor) -> Factor:
        return Factor(*(getattr(self, s) - getattr(other, s) for s in SYMBOLS))

    def __rtruediv__(self, one: Literal[1]) -> Factor:
        return ONE / self

    def __pow__(self, power: Exponent | Fraction | int) -> Factor:
        if isinstance(power, Exponent):
            if any(getattr(self, s) not in (Exponent(), _exponent(1)) for s in SYMBOLS):
                raise TypeError("only a bare ratio can be raised to a power in α")
            return Factor(
                *(power if getattr(self, s) != Exponent() else Exponent() for s in SYMBOLS)
            )
        return Factor(*(getattr(self, s).scaled(Fraction(power)) for s in SYMBOLS))

    def at(self, ratios: Ratios, alpha: float) -> float:
        """The factor's value. Exactly 1.0 where all the ratios it depends on are 1."""
        b, d = self.B.at(alpha), self.D.at(alpha)
        # B^b D^d, in the form in which m_B = m_D cancels without rounding.
        batch_and_tokens = (ratios.B / ratios.D) ** b * ratios.D ** (b + d)
        width_and_depth = ratios.N ** self.N.at(alpha) * ratios.L ** self.L.at(alpha)
        return float(width_and_depth * batch_and_tokens)

    def __str__(self) -> str:
        parts = [_power(s, getattr(self, s)) for s in ("N", "L") if getattr(self, s)]
        half = _exponent(Fraction(1, 2))
        pairs = {
            (half, -half): "√(m_B/m_D)",
            (-half, half): "√(m_D/m_B)",
            (_exponent(1), _exponent(-1)): "m_B/m_D",
            (_exponent(-1), _exponent(1)): "m_D/m_B",
        }
        if (self.B, self.D) in pairs:
            parts.append(pairs[self.B, self.D])
        else:
            parts += [_power(s, getattr(self, s)) for s in ("B", "D") if getattr(self, s)]
        return " · ".join(parts) or "1"


def _power(symbol: Symbol, exponent: Exponent) -> str:
    plain = {"1": "", "−1": "⁻¹", "−2": "⁻²"}
    return f"m_{symbol}" + plain.get(str(exponent), f"^{exponent}")


ONE = Factor()
N = Factor(N=_exponent(1))
L = Factor(L=_exponent(1))
B = Factor(B=_exponent(1))
D = Factor(D=_exponent(1))
