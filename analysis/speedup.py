"""Speed-up: how many fewer tokens one arm needs to reach the final loss of another.

Both arms train equally long, and their runs are paired by seed. Of a pair, the speed-up of `faster`
over `reference` is the tokens of the reference run over the tokens at which the learning curve of
the other first reaches the reference's final loss, interpolated linearly in the logarithm of
tokens. A run that does not get there is slower: then it is the tokens at which the reference first
reaches the final loss of the other, over its own. So exchanging the arms inverts the speed-up.

The schedule is that of the whole run: a curve that is cut where it reaches the loss is not of a
run that was planned to be so short, which would have ended lower. Speed-ups of this kind are
therefore below those of two laws of the loss against duration (our reading: the paper does not say
which it reports).
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from analysis.load import Results
from paper_repro.statistics import CONFIDENCE, over_seeds

#: What names a rung of a ladder: text, a shape and a duration, under a parameterisation.
RUNG = {
    "data.corpus": "corpus",
    "data.tokenizer": "tokenizer",
    "scaling.parameterization": "parameterization",
    "model.width": "width",
    "model.depth": "depth",
    "train.batch_size": "batch_size",
    "train.tokens": "tokens",
}
SCALES = ["width", "depth", "batch_size", "tokens"]
TEXT = ["corpus", "tokenizer"]


def tokens_to_reach(tokens: ArrayLike, losses: ArrayLike, target: float) -> float:
    """Tokens at which a learning curve first reaches a loss; NaN if it does not, or is a point.

    Args:
        tokens: of the points of the curve, increasing.
        losses: at these points, in nats.
    """
    at, loss = np.asarray(tokens, float), np.asarray(losses, float)
    reached = np.flatnonzero(loss <= target)
    if not len(reached) or len(at) < 2:
        return math.nan
    last = reached[0]
    if last == 0:
        return float(at[0])
    share = (loss[last - 1] - target) / (loss[last - 1] - loss[last])
    return float(np.exp(np.log(at[last - 1]) + share * np.log(at[last] / at[last - 1])))


def speedup(faster: pd.DataFrame, reference: pd.DataFrame) -> float:
    """The speed-up of one run over another of equal duration.

    Args:
        faster, reference: learning curves, with the columns `tokens` and `val_loss`.
    """
    reached = tokens_to_reach(faster["tokens"], faster["val_loss"], reference["val_loss"].iloc[-1])
    if not math.isnan(reached):
        return float(reference["tokens"].iloc[-1] / reached)
    reached = tokens_to_reach(
        reference["tokens"], reference["val_loss"], faster["val_loss"].iloc[-1]
    )
    return float(reached / faster["tokens"].iloc[-1])


def paired(results: Results, arms: pd.Series, faster: str, reference: str) -> pd.DataFrame:
    """Gain and speed-up of one arm over another, for every seed that both have at a rung.

    Args:
        arms: the arm of each run, with the index of `results.runs`.

    Returns:
        a row a pair of runs: the columns of `RUNG`; `parameters`; `seed`; `gain`, the loss of the
        reference less that of the other in nats; `log_speedup`, the natural logarithm of the
        speed-up, NaN without learning curves or with an infinite loss; and the finite final losses
        of both, `loss` and `reference_loss`.
    """
    runs = results.runs.assign(arm=arms)
    curves = results.curves.dropna(subset=["val_loss"])
    both = runs.loc[runs["arm"].isin([faster, reference]), "run_id"]
    of_run = dict(iter(curves[curves["run_id"].isin(both)].sort_values("step").groupby("run_id")))
    of_arm = {name: runs[runs["arm"] == name] for name in (faster, reference)}
    keys = [*RUNG, "seed"]
    pairs = of_arm[faster].merge(
        of_arm[reference][[*keys, "run_id", "val_loss"]], on=keys, suffixes=("", "_reference")
    )
    gains = pairs["val_loss_reference"] - pairs["val_loss"]
    logarithms = [
        math.log(speedup(of_run[one], of_run[other]))
        if math.isfinite(gain) and {one, other} <= of_run.keys()
        else math.nan
        for one, other, gain in zip(pairs["run_id"], pairs["run_id_reference"], gains, strict=True)
    ]
    finite = pairs[["val_loss", "val_loss_reference"]].where(np.isfinite)
    made = pairs[[*keys, "parameters"]].rename(columns=RUNG)
    return made.assign(
        gain=gains,
        log_speedup=logarithms,
        loss=finite["val_loss"],
        reference_loss=finite["val_loss_reference"],
    )


def compare_arms(
    results: Results,
    arms: pd.Series,
    faster: str,
    reference: str,
    confidence: float = CONFIDENCE,
) -> pd.DataFrame:
    """Gain and speed-up of one arm over another at every rung where both were run.

    Args:
        arms: the arm of each run, with the index of `results.runs`.
        confidence: of the intervals.

    Returns:
        a row a rung, in the order of parameters: `rung`, its name; the columns of `RUNG`;
        `parameters`; `seeds`; `gain` (nats) and `speedup` (a ratio) as in `paired`, with intervals
        over seeds (of the speed-up, of its logarithm); and `sd` and `reference_sd`, the standard
        deviations of the final losses of both arms over seeds.
    """
    rows = []
    for names, pairs in paired(results, arms, faster, reference).groupby(list(RUNG.values())):
        factors = over_seeds(pairs["log_speedup"].tolist(), confidence).columns("speedup")
        rows.append(
            dict(zip(RUNG.values(), names, strict=True))
            | {"parameters": pairs["parameters"].iloc[0], "seeds": len(pairs)}
            | over_seeds(pairs["gain"].tolist(), confidence).columns("gain")
            | {name: math.exp(logarithm) for name, logarithm in factors.items()}
            | {"sd": pairs["loss"].std(), "reference_sd": pairs["reference_loss"].std()}
        )
    table = pd.DataFrame(rows).sort_values(
        ["parameterization", "parameters", "tokens", "batch_size"], ignore_index=True
    )
    table.insert(0, "rung", _names(table))
    return table


def _names(table: pd.DataFrame) -> list[str]:
    """What each rung has more than the smallest, such as `width × 4, tokens × 4`, and other text.

    The text of most rungs is that of the proxy.
    """
    least, text = table[SCALES].min(), table[TEXT].mode().iloc[0]
    names = []
    for _, row in table.iterrows():
        grown = [
            f"{scale.replace('_size', '')} × {row[scale] / least[scale]:g}"
            for scale in SCALES
            if row[scale] != least[scale]
        ]
        names.append(", ".join([*grown, *row[TEXT][row[TEXT] != text]]) or "proxy")
    return names
