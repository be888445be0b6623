"""Whether the runs of a sweep are beyond the bigram plateau.

A small model first learns which token follows which; until its loss is clearly below the corpus's
bigram entropy, learning-rate curves say how fast that happens, and little about transfer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from analysis.arms import AXES, ScaleAxis

#: Nats below the bigram entropy at which a model surely uses longer contexts: well above the
#: spread over seeds (about 0.01) and the error of a validation set of some 10^4 tokens.
MARGIN = 0.1


@dataclass(frozen=True)
class Regime:
    """The best loss at the base against the corpus's bigram entropy, both in nats a token."""

    loss: float
    bigram_entropy: float

    @property
    def beyond_bigrams(self) -> bool:
        return self.loss < self.bigram_entropy - MARGIN

    def __str__(self) -> str:
        if math.isnan(self.loss) or math.isnan(self.bigram_entropy):
            return "Regime: unknown (no run at the base shape, or no bigram entropy in its record)"
        facts = f"base run's best loss {self.loss:.3f}, bigram entropy {self.bigram_entropy:.3f}"
        if self.beyond_bigrams:
            return f"Regime: beyond the bigram plateau ({facts} nats)"
        return (
            f"Regime: WARNING, not clearly beyond the bigram plateau ({facts} nats): these curves "
            "say little about transfer; train longer"
        )


def scales_on_plateau(frame: pd.DataFrame, axis: ScaleAxis) -> list[int]:
    """The scales at which no run is beyond the bigram plateau: their curves count for little."""
    if "bigram_entropy" not in frame:
        return []
    best = frame.groupby(axis.column)[["val_loss", "bigram_entropy"]].min()
    late = best["val_loss"] >= best["bigram_entropy"] - MARGIN
    return [int(scale) for scale in best.index[late]]


def regime(frame: pd.DataFrame) -> Regime:
    """Compare the lowest loss of a run at the base shape with the bigram entropy of its corpus.

    NaN, so not beyond, if the sweep has no such run or its records state no entropy.
    """
    at_base = frame
    for axis in AXES.values():
        at_base = at_base[at_base[axis.column] == at_base[axis.base_column]]
    if at_base.empty or "bigram_entropy" not in frame:
        return Regime(math.nan, math.nan)
    best = at_base.sort_values("val_loss").iloc[0]
    return Regime(float(best["val_loss"]), float(best["bigram_entropy"]))
