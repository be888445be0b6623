"""Laws of the best learning rate and of the best batch size, as data.

Every law here is a power law. One with a factor predicts the value itself. One without says how the
value changes from one training to another, so that it is anchored at the optimum of a base; the
exponents of the former can be anchored too. None of them knows more than a shape, and all give one
learning rate for all tensors: the rules for each tensor class are `paper_repro.parameterization`.
`analysis.optimum_laws` has what each costs at targets that it has not seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

Measure = Literal["size", "width", "depth", "tokens", "batch", "compute"]
"""What a law depends on: the numbers of `Shape`."""

Predicted = Literal["lr", "batch"]


class Shape(NamedTuple):
    """The numbers of a training that laws depend on."""

    size: float
    """Parameters without embeddings; of a mixture of experts, the activated ones."""
    width: float
    depth: float
    tokens: float
    """Training duration."""
    batch: float
    """Tokens in a batch."""

    @property
    def compute(self) -> float:
        """FLOPs of the training, 6·N·D."""
        return 6 * self.size * self.tokens


class Law(NamedTuple):
    """value = factor · Π measure^exponent."""

    name: str
    source: str
    """arXiv id, or what it is known as; empty for what needs none."""
    exponents: Mapping[Measure, float]
    factor: float | None = None
    """None: the law has exponents alone."""
    predicts: Predicted = "lr"

    def at(self, shape: Shape) -> float:
        """The predicted value: a peak learning rate, or tokens in a batch.

        Raises:
            ValueError: the law has exponents alone.
        """
        if self.factor is None:
            raise ValueError(f"{self.name}: has exponents alone (use carried)")
        return self.factor * self._power(shape)

    def carried(self, value: float, base: Shape, target: Shape) -> float:
        """The value at a target, from that at a base."""
        return value * self._power(target) / self._power(base)

    def _power(self, shape: Shape) -> float:
        product = 1.0
        for measure, exponent in self.exponents.items():
            product *= getattr(shape, measure) ** exponent
        return product


#: The recipe that everyone has: what was tuned at the base stays.
UNCHANGED = Law("none", "", {})

#: Of the best learning rate. Rules in width are those of the hidden weights, which have most of the
#: parameters. Authors count size and compute in their own ways; here they are those of `Shape`.
RATE_LAWS = (
    UNCHANGED,
    Law(
        "Complete(d)P's η alone, α = 1",
        "2512.22382",
        {"width": -1.0, "tokens": -0.5, "batch": 0.5},
    ),
    Law(
        "Complete(d)P's η alone, α = ½",
        "2512.22382",
        {"width": -1.0, "depth": -0.5, "tokens": -0.5, "batch": 0.5},
    ),
    Law("√(B/D)", "2512.22382", {"tokens": -0.5, "batch": 0.5}),
    Law("Step Law", "2503.04715", {"size": -0.713, "tokens": 0.307}, factor=1.79),
    Law("DeepSeek", "2401.02954", {"compute": -0.125}, factor=0.3118),
    Law("Porian et al.", "2406.19146", {"size": -0.36}, factor=3.7),
    Law("Bjorck et al.", "2409.19913", {"size": -0.23, "tokens": -0.32}),
    Law("Everett et al., full alignment", "2407.05872", {"width": -1.0}),
    Law("Everett et al., no alignment", "2407.05872", {"width": -0.5}),
    Law("D^−0.3", "Marin", {"tokens": -0.3}),
)

#: Of the best batch size, at the best rate of each.
BATCH_LAWS = (
    UNCHANGED._replace(predicts="batch"),
    Law("Step Law", "2503.04715", {"tokens": 0.571}, factor=0.58, predicts="batch"),
    Law("DeepSeek", "2401.02954", {"compute": 0.3271}, factor=0.2920, predicts="batch"),
    Law("√D", "", {"tokens": 0.5}, predicts="batch"),
)
