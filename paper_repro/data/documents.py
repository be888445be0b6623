"""What a document is, wherever it comes from: its text, its key, and its side of the split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from paper_repro.errors import ConfigError


def keyed(documents: Iterable[str]) -> Iterator[tuple[bytes, str]]:
    """Each document with the SHA-256 of its text; NUL characters and empty ones are dropped."""
    for document in documents:
        text = document.replace("\0", "")
        if text.strip():
            yield hashlib.sha256(text.encode()).digest(), text


def up_to(limit: int, documents: Iterable[str]) -> Iterator[str]:
    """The first documents, as many as have no more than `limit` bytes together."""
    total = 0
    for document in documents:
        total += len(document.encode())
        if total > limit:
            return
        yield document


def validation_documents(different: int, validation_fraction: float, corpus: str) -> int:
    """How many of the different documents of a corpus are kept for validation.

    They are the first by their keys. At least one document is on each side.

    Raises:
        ConfigError: there are fewer than two.
    """
    if different < 2:
        raise ConfigError(
            f"data.corpus {corpus!r}: has {different} different documents that are not empty, "
            "needs two: one to train on and one to validate on (a file is one document: cut a "
            "long one into several, as with split -C 100k)"
        )
    return min(max(1, round(validation_fraction * different)), different - 1)
