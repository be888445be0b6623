"""Batches as a pure function of (seed, step), cut from memory-mapped tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from paper_repro.data.tokenization import Tokens
from paper_repro.errors import ConfigError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Dataset:
    """The tokens of a corpus, and the sequences a run sees of them.

    A sequence is a window of context + 1 tokens: inputs are all but the last, targets all but the
    first. Windows start every `context` tokens, so each token is a target once an epoch.
    """

    train: Tokens
    """Shape (tokens,), documents one after the other, each ended by the separator."""
    validation: Tokens
    vocab_size: int
    corpus: str
    tokenizer: str
    corpus_hash: str
    """SHA-256 of the tokens and the tokenizer's name: the same text has it on every machine."""
    context: int
    unigram_entropy: float
    """Entropy of a training token, in nats."""
    bigram_entropy: float
    """Entropy of a training token given the one before, H(x_t | x_{t-1}), in nats. An estimate
    from counts: too low when the vocabulary squared is not small against the number of tokens."""

    def __post_init__(self) -> None:
        if self._windows(self.train) < 1:
            raise ConfigError(
                f"data.context {self.context}: the training documents of {self.corpus!r} have "
                f"only {len(self.train)} tokens"
            )

    def check_length(self, sequences: int, max_epochs: int) -> None:
        """Check that a run of that many sequences repeats the corpus no more than `max_epochs`.

        Raises:
            ConfigError: the corpus is too short.
        """
        windows = self._windows(self.train)
        if sequences > windows * max_epochs:
            raise ConfigError(
                f"data.corpus {self.corpus!r} has {windows * self.context} training tokens "
                f"({self.tokenizer}), the run wants {sequences * self.context} and "
                f"data.max_epochs is {max_epochs}: allow repeats with "
                f"data.max_epochs {-(-sequences // windows)}, or train on fewer tokens"
            )

    def training_batch(self, seed: int, step: int, batch_size: int) -> torch.Tensor:
        """The sequences of one step, int64 (batch_size, context + 1).

        An epoch of a seed is a permutation of the windows; step k takes the k-th batch of them,
        running on over epochs. So the order of the windows does not depend on the batch size.
        """
        windows = self._windows(self.train)
        epochs, places = np.divmod(np.arange(step * batch_size, (step + 1) * batch_size), windows)
        chosen = [
            _permutation(seed, epoch, windows)[places[epochs == epoch]]
            for epoch in range(int(epochs[0]), int(epochs[-1]) + 1)
        ]
        return self._sequences(self.train, np.concatenate(chosen))

    def validation_batches(
        self, sequences: int, batch_size: int, eval_set: int = 0
    ) -> Iterator[torch.Tensor]:
        """A fixed validation set, its sequences spread evenly over the validation tokens.

        Yields int64 (batch_size, context + 1); the last batch may have fewer sequences.

        Args:
            eval_set: which of the disjoint sets of that many sequences, from 0; each has the
                sequences that follow those of the set before.

        Raises:
            ConfigError: there are fewer validation sequences than asked for, or fewer such sets.
        """
        windows = self._windows(self.validation)
        if sequences > windows:
            raise ConfigError(
                f"train.eval_sequences {sequences}: the validation documents of {self.corpus!r} "
                f"have only {windows} sequences of data.context {self.context}; "
                "ask for fewer or raise data.validation_fraction"
            )
        if eval_set >= (sets := windows // sequences):
            raise ConfigError(
                f"train.eval_set {eval_set}: expected a number below {sets}: the validation "
                f"documents of {self.corpus!r} have so many sets of {sequences} sequences"
            )
        chosen = np.arange(sequences) * windows // sequences + eval_set
        return (
            self._sequences(self.validation, chosen[start : start + batch_size])
            for start in range(0, sequences, batch_size)
        )

    def _windows(self, tokens: Tokens) -> int:
        return (len(tokens) - 1) // self.context

    def _sequences(self, tokens: Tokens, windows: NDArray[np.integer]) -> torch.Tensor:
        import torch  # here: plans look at token counts, and torch takes seconds to import

        starts = windows.astype(np.int64)[:, None] * self.context
        return torch.from_numpy(tokens[starts + np.arange(self.context + 1)].astype(np.int64))


@lru_cache(maxsize=64)  # a bundle's seeds take turns
def _permutation(seed: int, epoch: int, windows: int) -> NDArray[np.uint32]:
    return np.random.default_rng([seed, epoch]).permutation(windows).astype(np.uint32)
