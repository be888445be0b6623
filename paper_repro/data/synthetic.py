"""A corpus whose entropy is known: random walks on a ring of letters.

From each letter the walk advances by k = 1, 2, ... letters with probability 1/2, 1/4, ..., so the
text is a first-order Markov chain with a uniform stationary distribution. A model that learns the
table of transitions, which takes a few hundred steps, reaches `ENTROPY_RATE` and no less.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEF"
DOCUMENTS = 1024
LETTERS = 4095
"""Letters in a document; with its separator a document is 4096 bytes."""

#: Probability of advancing by 1, 2, ... letters; the last two are equal, so that the sum is 1.
_STEPS = np.array([2.0**-k for k in (1, 2, 3, 4, 5, 6, 7, 7)])

#: Entropy of a letter given those before it, in nats. Unconditionally it is log(len(ALPHABET)).
ENTROPY_RATE = math.fsum(-p * math.log(p) for p in _STEPS)


def synthetic_documents() -> Iterator[str]:
    """`DOCUMENTS` independent walks of `LETTERS` letters, always the same."""
    letters = np.frombuffer(ALPHABET.encode(), dtype=np.uint8)
    edges = np.cumsum(_STEPS)[:-1]
    rng = np.random.default_rng(0)
    for _ in range(DOCUMENTS):
        start = int(rng.random() * len(letters))
        advances = 1 + np.searchsorted(edges, rng.random(LETTERS), side="right")
        yield letters[(start + np.cumsum(advances)) % len(letters)].tobytes().decode()
