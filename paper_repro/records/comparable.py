"""What must be equal in runs that are compared, beside their configurations: text and precision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from paper_repro.config import DataConfig

#: The hash was of texts before it was of tokens. Under the first name are the same tokens.
_EARLIER_HASHES = {
    "c224049755ccff307a0d4c9e2ac7638f21bd3ddbf13534d9826eb5d39bb1f22c": (
        "42ae884fc41f3f00ef3f94d80588c2a71c7f40eb0d200b4918fca7b141e034e3"
    )
}


class Training(NamedTuple):
    """What a run was trained on, and how. What is not known is None, and equals anything."""

    corpus: str
    tokenizer: str
    validation_fraction: float
    corpus_hash: str | None
    dtype: str | None
    """Its precision; of a run that was resumed in another, all of them."""

    @property
    def text_hash(self) -> str | None:
        """The hash of its tokens: the same for the same."""
        return _EARLIER_HASHES.get(self.corpus_hash or "", self.corpus_hash)

    @classmethod
    def on(cls, data: DataConfig, corpus_hash: str | None, dtype: str | None) -> Training:
        """A training on the text of a configuration."""
        return cls(data.corpus, data.tokenizer, data.validation_fraction, corpus_hash, dtype)


def differences(trainings: Iterable[Training]) -> list[str]:
    """How some trainings cannot be compared, one line each; none where all can."""
    some = list(trainings)
    lines = []
    for text in dict.fromkeys(training[:3] for training in some):
        hashes = Counter(t.text_hash for t in some if t[:3] == text and t.text_hash)
        if len(hashes) > 1:
            names = {name[:12]: number for name, number in hashes.items()}
            lines.append(f"corpus {text[0]} ({text[1]}) is not one text: {_counts(names)}")
    precisions = Counter(training.dtype for training in some if training.dtype)
    if len(precisions) > 1 or any(", " in name for name in precisions):
        lines.append(f"the precision differs: {_counts(precisions)}")
    return lines


def _counts(numbers: dict[str, int]) -> str:
    return "; ".join(f"{number:,} runs of {name}" for name, number in numbers.items())
