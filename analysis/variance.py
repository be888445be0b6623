"""Of what the spread over seeds comes: initial weights, the order of the data, or both together."""

from __future__ import annotations

import numpy as np
import pandas as pd

from paper_repro.errors import ConfigError


def components(runs: pd.DataFrame) -> pd.DataFrame:
    """Variance components of the final loss, of runs with both seeds crossed.

    A two-way layout with random effects and one run a cell, by the method of moments (Searle,
    Casella and McCulloch, Variance Components, 1992, section 4.3). Training is deterministic given
    both seeds, so what is left is their interaction.

    Args:
        runs: with `seed` (the order of the data), `init_seed` (initial weights) and `val_loss`.

    Returns:
        a row a `source` (`initial weights`, `order of the data`, `both together`, `a run`): its
        standard deviation (`sd`, nats; 0 where the estimate of the variance is below 0) and `share`
        of the variance of a run.

    Raises:
        ConfigError: the seeds are not crossed, or a run diverged.
    """
    table = runs.pivot_table(index="init_seed", columns="seed", values="val_loss")
    rows, columns = table.shape
    losses = table.to_numpy()
    if min(rows, columns) < 2 or len(runs) != losses.size or not np.isfinite(losses).all():
        raise ConfigError("seed_variance: expected one finite run for every pair of two seeds each")
    by_init, by_data = losses.mean(axis=1), losses.mean(axis=0)
    left = losses - by_init[:, None] - by_data[None, :] + losses.mean()
    both = float((left**2).sum() / ((rows - 1) * (columns - 1)))
    variances = {
        "initial weights": max(0.0, float(by_init.var(ddof=1)) - both / columns),
        "order of the data": max(0.0, float(by_data.var(ddof=1)) - both / rows),
        "both together": both,
    }
    variances["a run"] = sum(variances.values())
    return pd.DataFrame(
        {"source": name, "sd": variance**0.5, "share": variance / variances["a run"]}
        for name, variance in variances.items()
    )
