"""A grid of runs like those of Step Law, whose exponents and boundary are known."""

import numpy as np
import pandas as pd

CURVATURE = 0.02
BELOW = {"batch": 0.75, "tokens": -0.3, "size": -0.5}
ABOVE = {"batch": 0.0, "tokens": 0.25, "size": -0.8}
BEND = 18.5
"""log2 of the batch size at which the planes meet, at 2³⁴ tokens and 2²⁸ parameters."""


def rate(size, tokens, batch, below=BELOW, above=ABOVE):
    """log2 of the best learning rate."""
    at = {"batch": batch - BEND, "tokens": tokens - 34, "size": size - 28}
    return -9 + min(sum(each[name] * at[name] for name in at) for each in (below, above))


def grid(noise=0.002, above=ABOVE, seed=0, best=18.0):
    """Runs with these exponents: least losses where the batch is `best`, a cliff 2.6 octaves up."""
    random = np.random.default_rng(seed)
    rows = []
    for size, tokens in ((s, t) for s in (27, 28, 29) for t in (32, 33, 34, 36)):
        group = 0.03 * random.standard_normal() * (noise > 0)
        for batch in np.arange(15.5, 21.6, 0.75):
            optimum = rate(size, tokens, batch, above=above) + group
            least = 2.5 + 0.01 * (batch - best - 0.6 * (tokens - 34)) ** 2
            for lr in np.arange(-13, -5.5, 0.5):
                z = lr - optimum
                loss = least + CURVATURE * z**2 + 0.002 * z**3 + noise * random.standard_normal()
                shape = (2.0 ** (size / 2 - 3), 8.0)
                numbers = (2.0**size, *shape, 2.0**tokens, 2.0**batch, 2.0**lr)
                rows.append((f"2^{size}", *numbers, loss if z < 2.6 else 6.7))
    names = ["model", "size", "width", "depth", "tokens", "batch", "lr", "loss"]
    return pd.DataFrame(rows, columns=names)
